//! The devices that compute: what the configuration asks for, opened.

use std::sync::Arc;

use batching::Executor;
use models::{
    Arrivals, BatchLimits, CardOverride, Catalog, Device, DeviceConfig, GpuConfig, GpuRuntime, RuntimeError,
    RuntimeKind, Sequence, SequenceOutput,
};

use crate::config::{self, Batching, Config};

/// What drives one device, for the engine.
type DeviceExecutor = Box<dyn Executor<Input = Sequence, Output = SequenceOutput>>;

/// What drives the devices, and how each is given more models.
pub(crate) struct Executors {
    pub(crate) all: Vec<DeviceExecutor>,
    pub(crate) arrivals: Vec<(Arc<Device>, Arrivals)>,
}

/// Most tokens and sequences of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchBounds {
    pub(crate) tokens_max: u32,
    pub(crate) sequences_max: usize,
}

/// One or more GPUs, or the CPU.
pub(crate) struct Devices {
    opened: Vec<Arc<Device>>,
    are_gpus: bool,
}

impl Devices {
    /// Opens what the configuration asks for. Where it leaves the choice, a GPU that cannot be used is passed
    /// over with a warning.
    ///
    /// # Errors
    /// A GPU that the configuration names cannot be used; or the system refuses threads.
    pub(crate) fn open(
        config: &Config,
        runtime: Option<&'static dyn GpuRuntime>,
    ) -> Result<Self, RuntimeError> {
        let (pin, is_free) = (config.threads.pin_compute, config.device == config::Device::Auto);
        let open = |threads: usize, gpu: Option<GpuConfig>| {
            let device = models::open_device(DeviceConfig { threads, pin, gpu })?;
            tracing::info!(device = device.name(), "device ready");
            Ok(device)
        };
        let gpus = config.device.gpus(|| runtime.map_or(0, GpuRuntime::gpus));
        // What is left to the CPU by a model's configuration is computed by its device's share of the cores.
        let threads = threads(config.threads.compute).div_ceil(gpus.len().max(1));
        let BatchBounds { tokens_max, sequences_max } = batch_limits(&config.batching, true);
        let limits = BatchLimits { tokens_max: tokens_max as usize, sequences_max };
        let mut opened = Vec::new();
        for number in gpus {
            let gpu = runtime.ok_or_else(|| without_runtime(number));
            let gpu = gpu.map(|runtime| GpuConfig { limits, ..GpuConfig::new(runtime, number) });
            match gpu.and_then(|gpu| open(threads, Some(gpu))) {
                Ok(device) => opened.push(Arc::new(device)),
                Err(error) if is_free => tracing::warn!(number, %error, "a GPU cannot be used"),
                Err(error) => return Err(error),
            }
        }
        if !opened.is_empty() {
            return Ok(Self { opened, are_gpus: true });
        }
        if runtime.is_some() && is_free {
            tracing::warn!("there is no usable GPU: models are computed on the CPU");
        }
        Ok(Self { opened: vec![Arc::new(open(config.threads.compute, None)?)], are_gpus: false })
    }

    /// Puts all models on each device.
    ///
    /// # Errors
    /// A device has no room for them, or refuses one.
    pub(crate) fn executors(&self, catalog: &Catalog) -> Result<Executors, RuntimeError> {
        let mut executors = Executors { all: Vec::new(), arrivals: Vec::new() };
        for device in &self.opened {
            let (executor, arrivals) = catalog.growing_executor(Arc::clone(device))?;
            executors.all.push(Box::new(executor));
            executors.arrivals.push((Arc::clone(device), arrivals));
        }
        Ok(executors)
    }

    pub(crate) fn first(&self) -> Option<&Device> {
        self.opened.first().map(|device| &**device)
    }

    pub(crate) fn count(&self) -> usize {
        self.opened.len()
    }

    /// GPU UUIDs as `nvidia-smi -L` prints them.
    pub(crate) fn uuids(&self) -> Vec<String> {
        self.opened.iter().filter_map(|device| device.uuid().map(str::to_owned)).collect()
    }

    /// On a GPU models are computed by it, unless the configuration names another runtime.
    pub(crate) fn card_override(&self) -> CardOverride {
        let runtime = self.are_gpus.then_some(RuntimeKind::Cuda);
        CardOverride { runtime, ..CardOverride::default() }
    }

    /// Most tokens and sequences of a batch.
    pub(crate) fn batch_limits(&self, bounds: &Batching) -> BatchBounds {
        batch_limits(bounds, self.are_gpus)
    }
}

fn without_runtime(number: usize) -> RuntimeError {
    let message =
        format!("CUDA device {number}: this build has no CUDA; build with --features ml-inference/cuda");
    RuntimeError::Backend { message, is_fatal: true }
}

fn batch_limits(bounds: &Batching, is_gpu: bool) -> BatchBounds {
    let (tokens, sequences) = if is_gpu { (16_384, 512) } else { (1024, 64) };
    BatchBounds {
        tokens_max: bounds.batch_tokens_max.unwrap_or(tokens),
        sequences_max: bounds.batch_sequences_max.unwrap_or(sequences),
    }
}

/// As many as are asked for, or one a core.
pub(crate) fn threads(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}
