//! What waits for each model.

use std::ops::{Index, IndexMut};

use units::{ModelId, Tokens};

use super::config::ModelConfig;
use super::cost::Work;
use super::heap::LazyHeap;
use super::sequence::SequenceId;
use super::snapshot::OfferedLoad;

/// The models, by number. A number is used once: what a removed model leaves behind answers that there is no
/// such model.
#[derive(Debug, Default)]
pub(super) struct Models {
    all: Vec<ModelQueue>,
    /// Models that are there or have work yet.
    present: Vec<ModelId>,
}

/// The queue of one model. Holds ids; the entries are in the slots.
#[derive(Debug)]
pub(super) struct ModelQueue {
    pub(super) config: ModelConfig,
    stage: Stage,
    /// Everything that waits, in the order of arrival.
    pub(super) arrivals: LazyHeap<SequenceId>,
    pub(super) sequences: usize,
    pub(super) tokens: Tokens,
    pub(super) work: Work,
    /// Sequences dispatched and not completed.
    pub(super) in_flight: usize,
    /// What was asked for since the start.
    pub(super) offered: OfferedLoad,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The number was skipped so far.
    Unused,
    Open,
    /// Takes nothing more; what waits is still computed.
    Closing,
    Gone,
}

impl ModelQueue {
    fn new(config: ModelConfig, stage: Stage) -> Self {
        Self {
            config,
            stage,
            arrivals: LazyHeap::default(),
            sequences: 0,
            tokens: Tokens(0),
            work: Work::default(),
            in_flight: 0,
            offered: OfferedLoad::default(),
        }
    }

    /// Batches that what waits will need at least.
    pub(super) fn batches(&self) -> u32 {
        if self.sequences == 0 {
            return 0;
        }
        let by_tokens = self.tokens.0.div_ceil(self.config.batch_tokens_max.0);
        let by_sequences = self.sequences.div_ceil(self.config.batch_sequences_max);
        by_tokens.max(u32::try_from(by_sequences).unwrap_or(u32::MAX)).max(1)
    }

    pub(super) fn enter(&mut self, id: SequenceId, tokens: Tokens, work: Work) {
        self.arrivals.push(id);
        self.sequences += 1;
        self.tokens += tokens;
        self.work = self.work + work;
    }

    /// Takes a sequence out that waits anywhere. `is_alive` must already say no to it.
    pub(super) fn leave(&mut self, tokens: Tokens, work: Work, is_alive: impl Fn(&SequenceId) -> bool) {
        debug_assert!(self.sequences > 0, "a sequence left an empty queue");
        self.arrivals.bury(is_alive);
        self.sequences -= 1;
        self.tokens -= tokens;
        // Sums of floats do not quite come back to where they were.
        self.work = if self.sequences == 0 { Work::default() } else { self.work.less(work) };
    }

    fn is_done(&self) -> bool {
        self.stage == Stage::Closing && self.sequences == 0 && self.in_flight == 0
    }
}

impl Models {
    /// Room for one more model under a number. Returns whether the number was free.
    pub(super) fn open(&mut self, model: ModelId, config: ModelConfig) -> bool {
        while self.all.len() <= model.index() {
            self.all.push(ModelQueue::new(config.clone(), Stage::Unused));
        }
        let queue = &mut self.all[model.index()];
        if queue.stage != Stage::Unused {
            return false;
        }
        *queue = ModelQueue::new(config, Stage::Open);
        self.present.push(model);
        true
    }

    /// Takes nothing more for a model. Returns whether it was open.
    pub(super) fn close(&mut self, model: ModelId) -> bool {
        let queue = self.all.get_mut(model.index()).filter(|queue| queue.stage == Stage::Open);
        let Some(queue) = queue else { return false };
        queue.stage = Stage::Closing;
        self.forget_if_done(model);
        true
    }

    /// Forgets a model that takes nothing more once nothing of it waits or runs.
    pub(super) fn forget_if_done(&mut self, model: ModelId) {
        let queue = &mut self.all[model.index()];
        if queue.is_done() {
            *queue = ModelQueue::new(queue.config.clone(), Stage::Gone);
            self.present.retain(|other| *other != model);
        }
    }

    /// A model that takes sequences.
    pub(super) fn get_open(&self, model: ModelId) -> Option<&ModelQueue> {
        self.all.get(model.index()).filter(|queue| queue.stage == Stage::Open)
    }

    /// A model that is there or has work yet.
    pub(super) fn get(&self, model: ModelId) -> Option<&ModelQueue> {
        let is_present = |queue: &&ModelQueue| matches!(queue.stage, Stage::Open | Stage::Closing);
        self.all.get(model.index()).filter(is_present)
    }

    /// Numbers of the models that are there or have work yet.
    pub(super) fn present(&self) -> &[ModelId] {
        &self.present
    }

    /// The models that are there or have work yet.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ModelId, &ModelQueue)> {
        self.present.iter().map(|model| (*model, &self[*model]))
    }

    /// Numbers in use and used up, from the first.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}

/// For models of which something waits or runs: these are there.
impl Index<ModelId> for Models {
    type Output = ModelQueue;

    fn index(&self, model: ModelId) -> &ModelQueue {
        &self.all[model.index()]
    }
}

impl IndexMut<ModelId> for Models {
    fn index_mut(&mut self, model: ModelId) -> &mut ModelQueue {
        &mut self.all[model.index()]
    }
}
