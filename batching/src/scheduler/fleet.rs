//! The devices, what they hold, and what batches cost on them.

use std::collections::HashMap;
use std::time::Duration;

use units::{DeviceId, ModelId, Timestamp};

use super::cost::{CostModel, Seconds, Work};
use super::decision::BatchId;

/// The work by which devices are compared: that of a short batch.
const SHORT: Work = Work(100.0);

/// All devices.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) devices: Vec<Device>,
    in_flight: HashMap<BatchId, InFlight>,
    next_batch: u64,
}

/// What the scheduler knows of a device.
#[derive(Debug, Default)]
pub(super) struct Device {
    /// Indexed by model.
    pub(super) costs: Vec<CostModel>,
    /// Batches dispatched and not completed, and their planned time.
    pub(super) in_flight: usize,
    planned: Duration,
    /// When what it holds should be done.
    pub(super) free_at: Timestamp,
    /// How long its batches took.
    pub(super) computed: Duration,
    pub(super) is_lost: bool,
}

/// A batch that was dispatched and is not completed.
#[derive(Debug, Clone, Copy)]
pub(super) struct InFlight {
    pub(super) model: ModelId,
    pub(super) device: DeviceId,
    pub(super) work: Work,
    pub(super) sequences: usize,
    planned: Duration,
}

impl Fleet {
    pub(super) fn new(devices: u16) -> Self {
        let devices = (0..devices).map(|_| Device::default()).collect();
        Self { devices, in_flight: HashMap::new(), next_batch: 0 }
    }

    /// Knows nothing yet of what batches of a model cost, nor of any before it.
    pub(super) fn open(&mut self, model: ModelId) {
        for device in &mut self.devices {
            if device.costs.len() <= model.index() {
                device.costs.resize_with(model.index() + 1, CostModel::default);
            }
        }
    }

    pub(super) fn get(&self, device: DeviceId) -> Option<&Device> {
        self.devices.get(device.index())
    }

    pub(super) fn present(&self) -> impl Iterator<Item = &Device> + Clone {
        self.devices.iter().filter(|device| !device.is_lost)
    }

    /// Devices that are left; one, if none is.
    pub(super) fn count(&self) -> u32 {
        (self.present().count() as u32).max(1)
    }

    /// When the first device should be done with what it holds.
    pub(super) fn free_at(&self, now: Timestamp) -> Timestamp {
        self.present().map(|device| device.free_at).min().unwrap_or(Timestamp::MAX).max(now)
    }

    /// How long what runs will take all devices.
    pub(super) fn running(&self) -> Duration {
        self.present().map(|device| device.planned).sum::<Duration>() / self.count()
    }

    /// The cost model of the device that computes a short batch of the model fastest.
    pub(super) fn fastest(&self, model: ModelId) -> Option<&CostModel> {
        let costs = self.present().filter_map(|device| device.costs.get(model.index()));
        costs.min_by_key(|cost| cost.predict(SHORT))
    }

    /// Device time of a sequence's work, beside its batch's overhead.
    pub(super) fn seconds(&self, model: ModelId, work: Work) -> Seconds {
        Seconds(self.fastest(model).map_or(0.0, |cost| cost.slope() * work.0))
    }

    /// The number of the next batch.
    pub(super) fn next_batch(&self) -> u64 {
        self.next_batch
    }

    /// Gives a device a batch. Returns its number and the time it is expected to take.
    pub(super) fn launch(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        model: ModelId,
        work: Work,
        sequences: usize,
    ) -> (BatchId, Duration) {
        let id = BatchId(self.next_batch);
        self.next_batch += 1;
        let state = &mut self.devices[device.index()];
        let cost = &state.costs[model.index()];
        let (planned, predicted) = (cost.plan(work), cost.predict(work));
        state.in_flight += 1;
        state.planned += planned;
        state.free_at = state.free_at.max(now) + planned;
        self.in_flight.insert(id, InFlight { model, device, work, sequences, planned });
        (id, predicted)
    }

    /// Takes a batch from its device.
    pub(super) fn land(&mut self, now: Timestamp, batch: BatchId) -> Option<InFlight> {
        let landed = self.in_flight.remove(&batch)?;
        let device = &mut self.devices[landed.device.index()];
        debug_assert!(device.in_flight > 0, "a batch came back from a device that had none");
        debug_assert!(device.planned >= landed.planned, "planned time below nothing");
        device.in_flight -= 1;
        device.planned = device.planned.saturating_sub(landed.planned);
        device.free_at = now + device.planned;
        Some(landed)
    }

    pub(super) fn device_of(&self, batch: BatchId) -> Option<DeviceId> {
        self.in_flight.get(&batch).map(|in_flight| in_flight.device)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    pub(super) fn observe(&mut self, device: DeviceId, model: ModelId, work: Work, compute: Duration) {
        let device = self.devices.get_mut(device.index());
        if let Some(cost) = device.and_then(|device| device.costs.get_mut(model.index())) {
            cost.observe(work, compute);
        }
    }
}
