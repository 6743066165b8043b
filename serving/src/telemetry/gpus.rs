//! Metrics of the GPUs, from NVIDIA's management library (NVML), where there are GPUs and it is.

use std::sync::Arc;
use std::time::Duration;

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::Clock;
use nvml_wrapper::error::NvmlError;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tokio_util::sync::CancellationToken;

use super::FloatGauge;

/// The library's name where a driver is installed and nothing to develop with.
const LIBRARY: &str = "libnvidia-ml.so.1";
const INTERVAL: Duration = Duration::from_secs(5);

/// Why clocks may be lower than they could, by name.
const THROTTLE_REASONS: [(&str, ThrottleReasons); 6] = [
    ("software_power_cap", ThrottleReasons::SW_POWER_CAP),
    ("hardware_slowdown", ThrottleReasons::HW_SLOWDOWN),
    ("hardware_thermal", ThrottleReasons::HW_THERMAL_SLOWDOWN),
    ("hardware_power_brake", ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN),
    ("software_thermal", ThrottleReasons::SW_THERMAL_SLOWDOWN),
    ("sync_boost", ThrottleReasons::SYNC_BOOST),
];

/// What the GPUs do, as gauges.
#[derive(Debug, Default)]
pub(crate) struct GpuMetrics {
    utilization: Family<GpuLabels, FloatGauge>,
    memory_used: Family<GpuLabels, Gauge>,
    memory_total: Family<GpuLabels, Gauge>,
    power: Family<GpuLabels, FloatGauge>,
    clock: Family<ClockLabels, Gauge>,
    throttled: Family<ThrottleLabels, Gauge>,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct GpuLabels {
    device: u64,
    uuid: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ClockLabels {
    device: u64,
    clock: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ThrottleLabels {
    device: u64,
    reason: &'static str,
}

/// Asks the library how the GPUs are.
pub(crate) struct GpuMonitor {
    nvml: Arc<Nvml>,
    /// By the engine's numbers.
    uuids: Vec<String>,
}

impl GpuMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let r = registry.sub_registry_with_prefix("gpu");
        r.register_with_unit(
            "utilization",
            "Share of the last sample period (a second or less) in which a kernel ran on the GPU",
            Unit::Ratios,
            metrics.utilization.clone(),
        );
        r.register_with_unit(
            "memory_used",
            "GPU memory in use, by any process",
            Unit::Bytes,
            metrics.memory_used.clone(),
        );
        r.register_with_unit("memory", "GPU memory installed", Unit::Bytes, metrics.memory_total.clone());
        r.register("power_watts", "Power that the GPU draws", metrics.power.clone());
        r.register(
            "clock_hertz",
            "Clock of the GPU's multiprocessors (sm) or of its memory",
            metrics.clock.clone(),
        );
        r.register(
            "throttled",
            "1: the GPU's clocks are held down for this reason; answers are slower",
            metrics.throttled.clone(),
        );
        metrics
    }

    /// Takes over what a GPU says of itself. What it does not say (a part of a GPU knows less than a whole
    /// one) holds nothing up.
    fn show(&self, device: u64, uuid: &str, gpu: &nvml_wrapper::Device<'_>) -> Result<(), NvmlError> {
        let labels = GpuLabels { device, uuid: uuid.to_owned() };
        let utilization = gpu.utilization_rates().map(|rates| {
            self.utilization.get_or_create(&labels).set(f64::from(rates.gpu) / 100.0);
        });
        let memory = gpu.memory_info().map(|memory| {
            self.memory_used.get_or_create(&labels).set(memory.used.cast_signed());
            self.memory_total.get_or_create(&labels).set(memory.total.cast_signed());
        });
        let power = gpu.power_usage().map(|milliwatts| {
            self.power.get_or_create(&labels).set(f64::from(milliwatts) / 1000.0);
        });
        let clocks = [("sm", Clock::SM), ("memory", Clock::Memory)].map(|(clock, of)| {
            gpu.clock_info(of).map(|megahertz| {
                let hertz = i64::from(megahertz) * 1_000_000;
                self.clock.get_or_create(&ClockLabels { device, clock }).set(hertz);
            })
        });
        let throttled = gpu.current_throttle_reasons().map(|reasons| {
            for (reason, bits) in THROTTLE_REASONS {
                let labels = ThrottleLabels { device, reason };
                self.throttled.get_or_create(&labels).set(i64::from(reasons.contains(bits)));
            }
        });
        [utilization, memory, power, throttled].into_iter().chain(clocks).collect()
    }
}

impl GpuMonitor {
    /// A monitor of the GPUs with these UUIDs, if there are any and the library can be used.
    pub(crate) fn new(uuids: Vec<String>) -> Option<Self> {
        if uuids.is_empty() {
            return None;
        }
        match Nvml::builder().lib_path(LIBRARY.as_ref()).init() {
            Ok(nvml) => Some(Self { nvml: Arc::new(nvml), uuids }),
            Err(error) => {
                tracing::warn!(%error, "no metrics of the GPUs: NVML cannot be used");
                None
            }
        }
    }

    /// Keeps the gauges up to date until it is told to stop.
    pub(crate) async fn run(self, metrics: Arc<GpuMetrics>, stop: CancellationToken) {
        let monitor = Arc::new(self);
        let mut ticks = tokio::time::interval(INTERVAL);
        let mut was_good = true;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let (monitor, metrics) = (Arc::clone(&monitor), Arc::clone(&metrics));
            // The library may take its time, above all where something is wrong.
            let sampled = tokio::task::spawn_blocking(move || monitor.sample(&metrics)).await;
            let is_good = matches!(sampled, Ok(Ok(())));
            if let (true, Ok(Err(error))) = (was_good, &sampled) {
                tracing::warn!(%error, "a GPU does not say how it is");
            }
            was_good = is_good;
        }
    }

    /// Every GPU is asked, whatever another one answers.
    fn sample(&self, metrics: &GpuMetrics) -> Result<(), NvmlError> {
        let asked: Vec<_> = (0..)
            .zip(&self.uuids)
            .map(|(device, uuid)| {
                let gpu = self.nvml.device_by_uuid(uuid.as_str())?;
                metrics.show(device, uuid, &gpu)
            })
            .collect();
        asked.into_iter().collect()
    }
}
