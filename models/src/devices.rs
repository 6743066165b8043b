//! Opening devices, for every runtime of this build.

use models_core::{Device, DeviceConfig, RuntimeError};

/// Whether this build can use GPUs.
pub const HAS_CUDA: bool = cfg!(feature = "cuda");

/// GPUs that could be used: none without a driver, or in a build without the feature `cuda`.
pub fn gpus() -> usize {
    cuda::gpus()
}

/// Makes a device ready.
///
/// # Errors
/// When the system refuses its threads, or the GPU cannot be used.
pub fn open_device(config: DeviceConfig) -> Result<Device, RuntimeError> {
    let mut device = Device::cpu();
    runtime_fused::open(&mut device, &config)?;
    if let Some(gpu) = &config.gpu {
        cuda::open(&mut device, gpu)?;
    }
    Ok(device)
}

#[cfg(feature = "cuda")]
use runtime_cuda as cuda;

/// Without the runtime.
#[cfg(not(feature = "cuda"))]
mod cuda {
    use models_core::{Device, GpuConfig, RuntimeError};

    pub(super) fn gpus() -> usize {
        0
    }

    pub(super) fn open(_device: &mut Device, config: &GpuConfig) -> Result<(), RuntimeError> {
        let number = config.number;
        let message = format!("CUDA device {number}: this build has no CUDA; build with --features cuda");
        Err(RuntimeError::Backend { message, is_fatal: true })
    }
}
