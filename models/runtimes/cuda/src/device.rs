//! One GPU: its context, its stream and its kernels, and what its errors mean.

use std::sync::Arc;

use cudarc::cublaslt::result::CublasError;
use cudarc::cublaslt::sys::{cublasStatus_t, cudaDataType};
use cudarc::driver::sys::{CUfunction_attribute, CUresult};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, DriverError};
use cudarc::nvrtc::Ptx;
use half::{bf16, f16};
use models_core::spec::AttentionBias;
use models_core::{Dtype, EncoderSpec, RuntimeError};

use super::arrangement::head_size;

/// The kernels, compiled ahead by nvcc from `kernels`.
const KERNELS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernels.fatbin"));

/// The same where positions meet queries and keys: those of all distances are in shared memory too.
pub(super) const POSITIONS_HEAD_MAX: usize = 64;
/// Numbers of a row that the row kernels hold in registers.
pub(super) const WIDTHS: [usize; 2] = [1024, 4096];
/// Queries, and keys, of a block of attention.
pub(super) const QUERY_ROWS: usize = 64;

/// A format of 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Format {
    /// 8 bits of exponent, 7 of mantissa.
    Bf16,
    /// 5 bits of exponent, 10 of mantissa.
    F16,
}

impl Format {
    pub(super) fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::Bfloat16 => Some(Self::Bf16),
            Dtype::Float16 => Some(Self::F16),
            Dtype::Float32 => None,
        }
    }

    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    pub(super) const fn data_type(self) -> cudaDataType {
        match self {
            Self::Bf16 => cudaDataType::CUDA_R_16BF,
            Self::F16 => cudaDataType::CUDA_R_16F,
        }
    }

    pub(super) fn bits(self, values: &[f32]) -> Vec<u16> {
        match self {
            Self::Bf16 => values.iter().map(|value| bf16::from_f32(*value).to_bits()).collect(),
            Self::F16 => values.iter().map(|value| f16::from_f32(*value).to_bits()).collect(),
        }
    }
}

/// What went wrong on a device.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("CUDA: {0}")]
    Driver(#[from] DriverError),
    #[error("cublasLt: {0}")]
    Products(#[from] CublasError),
    /// The driver says that kernels were captured, and gives no graph.
    #[error("CUDA: nothing was captured")]
    NoGraph,
}

impl Fault {
    /// Whether the context is beyond use: whatever comes next fails with the same error (CUDA driver API,
    /// "CUresult").
    fn is_fatal(&self) -> bool {
        use CUresult as R;
        match self {
            Self::Driver(DriverError(code)) => matches!(
                code,
                R::CUDA_ERROR_ILLEGAL_ADDRESS
                    | R::CUDA_ERROR_LAUNCH_TIMEOUT
                    | R::CUDA_ERROR_LAUNCH_FAILED
                    | R::CUDA_ERROR_ASSERT
                    | R::CUDA_ERROR_HARDWARE_STACK_ERROR
                    | R::CUDA_ERROR_ILLEGAL_INSTRUCTION
                    | R::CUDA_ERROR_MISALIGNED_ADDRESS
                    | R::CUDA_ERROR_INVALID_ADDRESS_SPACE
                    | R::CUDA_ERROR_INVALID_PC
                    | R::CUDA_ERROR_ECC_UNCORRECTABLE
                    | R::CUDA_ERROR_NVLINK_UNCORRECTABLE
                    | R::CUDA_ERROR_DEINITIALIZED
                    | R::CUDA_ERROR_CONTEXT_IS_DESTROYED
                    | R::CUDA_ERROR_DEVICE_UNAVAILABLE
                    | R::CUDA_ERROR_UNKNOWN
            ),
            // cublasLt does not say why; what the driver says next does.
            Self::Products(_) | Self::NoGraph => false,
        }
    }

    /// Whether less would have been computed.
    pub(super) fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Driver(DriverError(code)) => *code == CUresult::CUDA_ERROR_OUT_OF_MEMORY,
            Self::Products(CublasError(status)) => *status == cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED,
            Self::NoGraph => false,
        }
    }
}

impl From<Fault> for RuntimeError {
    fn from(fault: Fault) -> Self {
        if fault.is_out_of_memory() {
            return Self::OutOfMemory { message: fault.to_string() };
        }
        Self::Backend { is_fatal: fault.is_fatal(), message: fault.to_string() }
    }
}

/// A GPU that is ready to compute.
pub(crate) struct Gpu {
    pub(super) context: Arc<CudaContext>,
    pub(super) upload: Arc<CudaStream>,
    pub(super) compute: Arc<CudaStream>,
    pub(super) download: Arc<CudaStream>,
    module: Arc<CudaModule>,
    /// For a person.
    pub(crate) name: String,
    /// GPU UUID as `nvidia-smi -L` prints it.
    pub(crate) uuid: String,
}

/// The kernels of one number format.
pub(super) struct Kernels {
    pub(super) embed: CudaFunction,
    pub(super) attention: CudaFunction,
    pub(super) attention_shared_bytes: u32,
    pub(super) add_normalise: CudaFunction,
    pub(super) turn: CudaFunction,
    pub(super) activate: CudaFunction,
    pub(super) pool: CudaFunction,
    pub(super) classify: CudaFunction,
    pub(super) classify_float32: CudaFunction,
    pub(super) scale: CudaFunction,
    pub(super) scale_float32: CudaFunction,
}

impl Gpu {
    /// How many there are that the driver shows; none without a driver.
    pub(crate) fn count() -> usize {
        // SAFETY: loads the driver's library, whose initialisers may run in any process.
        if !unsafe { cudarc::driver::sys::is_culib_present() && cudarc::cublaslt::sys::is_culib_present() } {
            return 0;
        }
        CudaContext::device_count().ok().and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
    }

    /// Makes a GPU ready.
    ///
    /// # Errors
    /// There is none of that number, or it does not take the kernels.
    pub(crate) fn open(number: usize) -> Result<Arc<Self>, RuntimeError> {
        let available = Self::count();
        if number >= available {
            let message = format!("there is no CUDA device {number}: the driver shows {available}");
            return Err(RuntimeError::Backend { message, is_fatal: true });
        }
        Ok(Self::start(number)?)
    }

    fn start(number: usize) -> Result<Arc<Self>, Fault> {
        let context = CudaContext::new(number)?;
        // SAFETY: what one stream leaves to another is ordered by events in `workspace`.
        unsafe { context.disable_event_tracking() };
        let stream = || context.new_stream();
        Ok(Arc::new(Self {
            upload: stream()?,
            compute: stream()?,
            download: stream()?,
            module: context.load_module(Ptx::from_binary(KERNELS.to_vec()))?,
            name: context.name()?,
            uuid: uuid(context.uuid()?.bytes.map(|byte| byte as u8)),
            context,
        }))
    }

    /// Bytes of its memory that are free, and all of them.
    pub(crate) fn memory(&self) -> Result<(usize, usize), RuntimeError> {
        Ok(self.context.mem_get_info().map_err(Fault::from)?)
    }

    /// The kernels of a format for an encoder that passed `check_spec`.
    pub(super) fn kernels(&self, format: Format, spec: &EncoderSpec) -> Result<Kernels, Fault> {
        let load = |name: &str| self.module.load_function(&format!("{name}_{}", format.suffix()));
        let head = head_size(spec);
        // As the kernel divides it: queries, keys and values twice, then what its bias needs, which is for
        // the distances of two blocks.
        let (distances, plain) = (2 * QUERY_ROWS, (QUERY_ROWS + 4 * QUERY_ROWS) * head * 2);
        let (kernel, attention_shared_bytes) = match spec.bias {
            AttentionBias::None => ("attention", plain),
            AttentionBias::Distance => ("attention_distance", plain + 4 * distances),
            AttentionBias::Disentangled(_) => {
                let products = QUERY_ROWS * (distances + 4) * 4;
                ("attention_positions", plain + 2 * distances * head * 2 + products)
            }
        };
        let attention = self.module.load_function(&format!("{kernel}_{}_{head}", format.suffix()))?;
        attention.set_attribute(
            CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
            attention_shared_bytes as i32,
        )?;
        let load_width = |name: &str, width: usize| {
            let room = WIDTHS.into_iter().find(|room| width <= *room).unwrap_or(width);
            self.module.load_function(&format!("{name}_{}_{room}", format.suffix()))
        };
        Ok(Kernels {
            embed: load_width("embed", spec.embedding_size)?,
            attention,
            attention_shared_bytes: attention_shared_bytes as u32,
            add_normalise: load_width("add_normalise", spec.hidden_size)?,
            turn: load("turn")?,
            activate: load("activate")?,
            pool: load("pool")?,
            classify: load("classify")?,
            classify_float32: self.module.load_function("classify_f32")?,
            scale: load("scale")?,
            scale_float32: self.module.load_function("scale_f32")?,
        })
    }
}

fn uuid(bytes: [u8; 16]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    format!("GPU-{}", parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_as_the_vendors_tools_print_them() {
        let bytes = std::array::from_fn(|index| 0x10 * index as u8 + 0x0f);
        assert_eq!(uuid(bytes), "GPU-0f1f2f3f-4f5f-6f7f-8f9f-afbfcfdfefff");
    }
}
