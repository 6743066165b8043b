//! What the protocol tells of the server and its models, as messages.

use std::collections::HashMap;

use api::ModelInfo;
use proto::oip::model_metadata_response::TensorMetadata;
use proto::oip::model_version_policy::{Latest, PolicyChoice};
use proto::oip::repository_index_response::ModelIndex;
use proto::oip::{self, DataType};

use crate::oip::model::{EXTENSIONS, PLATFORM, PRIORITY_DEFAULT, PRIORITY_LEVELS, TEXT, TensorKind, state};
use crate::oip::statistics::{Counts, Sum};

pub(super) fn server() -> oip::ServerMetadataResponse {
    oip::ServerMetadataResponse {
        name: PLATFORM.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.map(str::to_owned).to_vec(),
    }
}

pub(super) fn metadata(model: &ModelInfo) -> oip::ModelMetadataResponse {
    let tensor = |name: &str, datatype: &str, length| TensorMetadata {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: vec![-1, length],
    };
    let outputs = TensorKind::outputs(model.task);
    oip::ModelMetadataResponse {
        name: model.name.clone(),
        versions: vec![model.version.clone()],
        platform: PLATFORM.to_owned(),
        inputs: vec![tensor(TEXT, "BYTES", 1)],
        outputs: outputs
            .iter()
            .map(|kind| tensor(kind.name(), kind.datatype(), kind.length(model)))
            .collect(),
    }
}

pub(super) fn config(model: &ModelInfo, inputs_max: usize) -> oip::ModelConfig {
    let data_type = |kind: &TensorKind| {
        if kind.datatype() == "BYTES" { DataType::TypeString } else { DataType::TypeFp32 }
    };
    let output = |kind: &TensorKind| oip::ModelOutput {
        name: kind.name().to_owned(),
        data_type: data_type(kind).into(),
        dims: vec![kind.length(model)],
    };
    let data_type = DataType::TypeString.into();
    let input = oip::ModelInput { name: TEXT.to_owned(), data_type, dims: vec![1], optional: false };
    let task = oip::ModelParameter { string_value: model.task.as_str().to_owned() };
    oip::ModelConfig {
        name: model.name.clone(),
        platform: PLATFORM.to_owned(),
        backend: PLATFORM.to_owned(),
        version_policy: Some(oip::ModelVersionPolicy {
            policy_choice: Some(PolicyChoice::Latest(Latest { num_versions: 1 })),
        }),
        max_batch_size: i32::try_from(inputs_max).unwrap_or(i32::MAX),
        input: vec![input],
        output: TensorKind::outputs(model.task).iter().map(output).collect(),
        dynamic_batching: Some(oip::ModelDynamicBatching {
            priority_levels: PRIORITY_LEVELS,
            default_priority_level: PRIORITY_DEFAULT,
        }),
        parameters: HashMap::from([("task".to_owned(), task)]),
        model_transaction_policy: Some(oip::ModelTransactionPolicy { decoupled: false }),
    }
}

/// Triton's batches are one call's here: how calls share them, the metrics tell.
pub(super) fn statistics(model: &ModelInfo, counts: Counts) -> oip::ModelStatistics {
    let sum = |sum: Sum| Some(oip::StatisticDuration { count: sum.count, ns: sum.nanoseconds });
    oip::ModelStatistics {
        name: model.name.clone(),
        version: model.version.clone(),
        last_inference: counts.last.0,
        inference_count: counts.inputs,
        execution_count: counts.success.count,
        inference_stats: Some(oip::InferStatistics {
            success: sum(counts.success),
            fail: sum(counts.fail),
            queue: sum(counts.queue),
            compute_input: sum(counts.tokenize),
            compute_infer: sum(counts.compute),
            compute_output: sum(counts.output()),
            cache_hit: sum(Sum::default()),
            cache_miss: sum(Sum::default()),
        }),
        batch_stats: Vec::new(),
    }
}

pub(super) fn index(models: &[ModelInfo], is_ready: bool) -> oip::RepositoryIndexResponse {
    let entry = |model: &ModelInfo| {
        let (state, reason) = state(model);
        (!is_ready || state == "READY").then(|| ModelIndex {
            name: model.name.clone(),
            version: model.version.clone(),
            state: state.to_owned(),
            reason: reason.to_owned(),
        })
    };
    oip::RepositoryIndexResponse { models: models.iter().filter_map(entry).collect() }
}
