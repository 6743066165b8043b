//! A device, and what the runtimes on it share.

use std::any::{Any, TypeId};
use std::collections::HashMap;

use super::Backend;
use super::error::RuntimeError;

/// How a device is to be used.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeviceConfig {
    /// Threads that compute. 0: one for each core.
    pub threads: usize,
    /// Whether threads other than the engine's own stay on one core each.
    pub pin: bool,
    /// The GPU, for models whose runtime is `cuda`. None: the CPU alone.
    pub gpu: Option<GpuConfig>,
}

/// How a GPU is to be used.
#[derive(Debug, Clone, Copy)]
pub struct GpuConfig {
    /// What computes on it.
    pub runtime: &'static dyn GpuRuntime,
    /// Position among the devices of its kind, from 0.
    pub number: usize,
    /// Batches for which there is memory from the start.
    pub limits: BatchLimits,
    /// Batches of at most so many tokens are rounded up to few shapes and computed as CUDA graphs. 0: none.
    pub graph_tokens_max: usize,
    /// Whether GELU is computed by cublasLt with the product before it, by its approximation with tanh,
    /// instead of exactly in a pass of its own over memory. To be measured before it is anybody's default.
    pub fuses_gelu: bool,
}

/// A runtime for GPUs. Which one a build has, if any, its binary says; no other crate knows one.
pub trait GpuRuntime: std::fmt::Debug + Sync {
    /// GPUs that could be used: none without a driver.
    fn gpus(&self) -> usize;

    /// Makes a GPU ready, and the device its.
    ///
    /// # Errors
    /// There is none of that number, or it does not take the kernels.
    fn open(&self, device: &mut Device, config: &GpuConfig) -> Result<(), RuntimeError>;

    /// What loads models for it.
    fn backend(&self) -> Box<dyn Backend>;
}

/// How large batches are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchLimits {
    /// Most tokens in a batch.
    pub tokens_max: usize,
    /// Most sequences in a batch.
    pub sequences_max: usize,
}

/// Bytes of a GPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Footprint {
    /// A model's own, for its weights.
    pub own: usize,
    /// For a batch, shared by all models: the largest of theirs.
    pub shared: usize,
}

impl GpuConfig {
    /// Tokens up to which kernels take less time than their launches, by a rough count: to be measured.
    pub const GRAPH_TOKENS_MAX: usize = 2048;

    /// A GPU by its number, with memory for no batch yet.
    pub fn new(runtime: &'static dyn GpuRuntime, number: usize) -> Self {
        Self {
            runtime,
            number,
            limits: BatchLimits::default(),
            graph_tokens_max: Self::GRAPH_TOKENS_MAX,
            fuses_gelu: false,
        }
    }
}

/// One device. What the models of a runtime share on it (threads, buffers, a GPU's context) is the runtime's
/// own type: its crate puts it here when the device is opened, and its models find it by that type.
#[derive(Default)]
pub struct Device {
    accelerator: Option<Box<dyn Accelerator>>,
    resources: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
}

/// A device that is not the CPU.
pub trait Accelerator: Send + Sync {
    /// What computes, for a person.
    fn name(&self) -> &str;

    /// GPU UUID as `nvidia-smi -L` prints it.
    fn uuid(&self) -> &str;

    /// Batches for which there is memory from the start.
    fn limits(&self) -> BatchLimits;

    /// Bytes of its memory that are free, and all of them.
    ///
    /// # Errors
    /// It does not say.
    fn memory(&self) -> Result<(usize, usize), RuntimeError>;
}

/// What is kept free of a GPU's memory: for cublasLt, graphs and what the driver needs itself.
const HEADROOM_BYTES: usize = 256 << 20;

impl Device {
    /// The CPU, for no runtime yet.
    pub fn cpu() -> Self {
        Self::default()
    }

    /// Makes it the accelerator's; the CPU remains for models of other runtimes.
    pub fn set_accelerator(&mut self, accelerator: impl Accelerator + 'static) {
        self.accelerator = Some(Box::new(accelerator));
    }

    /// Keeps what the models of a runtime share, in the place of what was there of the same type.
    pub fn insert<T: Any + Send + Sync>(&mut self, resource: T) {
        self.resources.insert(TypeId::of::<T>(), Box::new(resource));
    }

    /// What the models of a runtime share; none if the device was not opened for it.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.resources.get(&TypeId::of::<T>()).and_then(|resource| resource.downcast_ref())
    }

    /// Batches for which there is memory from the start, on a GPU.
    pub fn limits(&self) -> BatchLimits {
        self.accelerator.as_ref().map(|accelerator| accelerator.limits()).unwrap_or_default()
    }

    /// GPU UUID as `nvidia-smi -L` prints it; none for the CPU.
    pub fn uuid(&self) -> Option<&str> {
        self.accelerator.as_ref().map(|accelerator| accelerator.uuid())
    }

    /// Bytes of its memory that are free, and all of them; none for the CPU.
    ///
    /// # Errors
    /// It does not say.
    pub fn memory(&self) -> Result<Option<(usize, usize)>, RuntimeError> {
        self.accelerator.as_ref().map(|accelerator| accelerator.memory()).transpose()
    }

    /// What computes, for a person.
    pub fn name(&self) -> &str {
        self.accelerator.as_ref().map_or("CPU", |accelerator| accelerator.name())
    }

    /// Checks that models of these names fit into its memory together, before any of them is put there.
    ///
    /// # Errors
    /// They do not; or the device does not say.
    pub fn plan(&self, models: &[(&str, Footprint)]) -> Result<(), RuntimeError> {
        let Some((free, _)) = self.memory()? else { return Ok(()) };
        let own: usize = models.iter().map(|(_, footprint)| footprint.own).sum();
        let shared = models.iter().map(|(_, footprint)| footprint.shared).max().unwrap_or(0);
        let needed = own + shared + HEADROOM_BYTES;
        if needed <= free {
            return Ok(());
        }
        let mib = |bytes: usize| bytes.div_ceil(1 << 20);
        let mut parts: Vec<String> =
            models.iter().map(|(name, footprint)| format!("{name} {}", mib(footprint.own))).collect();
        parts.push(format!("batches {}", mib(shared)));
        parts.push(format!("headroom {}", mib(HEADROOM_BYTES)));
        let (device, models) = (self.name().to_owned(), parts.join(", "));
        Err(RuntimeError::DoesNotFit { device, needed: mib(needed), models, free: mib(free) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    struct Small;

    impl Accelerator for Small {
        fn name(&self) -> &'static str {
            "small"
        }

        fn uuid(&self) -> &'static str {
            "GPU-0"
        }

        fn limits(&self) -> BatchLimits {
            BatchLimits { tokens_max: 8, sequences_max: 2 }
        }

        fn memory(&self) -> Result<(usize, usize), RuntimeError> {
            Ok((300 << 20, 400 << 20))
        }
    }

    #[test]
    fn what_runtimes_share_is_found_by_its_type() {
        #[derive(Debug, PartialEq)]
        struct Threads(usize);
        let mut device = Device::cpu();
        assert_eq!(device.get::<Threads>(), None);
        device.insert(Threads(3));
        device.insert("other".to_owned());
        assert_eq!((device.get(), device.get::<usize>()), (Some(&Threads(3)), None));
        assert_eq!((device.name(), device.uuid(), device.limits()), ("CPU", None, BatchLimits::default()));
        device.set_accelerator(Small);
        assert_eq!((device.name(), device.uuid(), device.get()), ("small", Some("GPU-0"), Some(&Threads(3))));
    }

    #[test]
    fn models_that_do_not_fit_are_refused_together() {
        let footprint = |own: usize, shared: usize| Footprint { own: own << 20, shared: shared << 20 };
        let mut device = Device::cpu();
        let models = [("a", footprint(20, 10)), ("b", footprint(21, 5))];
        device.plan(&models).unwrap();
        device.set_accelerator(Small);
        // 256 MiB are kept free, and room for batches is shared: 10 + 256 + 34 do fit.
        device.plan(&[("a", footprint(20, 10)), ("b", footprint(14, 5))]).unwrap();
        let error = device.plan(&models).unwrap_err().to_string();
        let expected = "the models do not fit small: 307 MiB are needed (a 20, b 21, batches 10, headroom 256), 300 MiB are free";
        assert_eq!(error, expected);
    }
}
