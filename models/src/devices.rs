//! Opening devices, for every runtime of this build.

use models_core::{Device, DeviceConfig, RuntimeError};

/// Makes a device ready.
///
/// # Errors
/// When the system refuses its threads, or the GPU cannot be used.
pub fn open_device(config: DeviceConfig) -> Result<Device, RuntimeError> {
    let mut device = Device::cpu();
    runtime_fused::open(&mut device, &config)?;
    if let Some(gpu) = &config.gpu {
        gpu.runtime.open(&mut device, gpu)?;
    }
    Ok(device)
}
