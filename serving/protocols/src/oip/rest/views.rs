//! What the protocol tells of the server and its models, as JSON.

use api::ModelInfo;
use serde_json::{Value, json};

use crate::oip::model::{EXTENSIONS, PLATFORM, PRIORITY_DEFAULT, PRIORITY_LEVELS, TEXT, TensorKind, state};
use crate::oip::statistics::{Counts, Sum};

pub(super) fn server() -> Value {
    json!({ "name": PLATFORM, "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS })
}

pub(super) fn metadata(model: &ModelInfo) -> Value {
    let output = |kind: &TensorKind| json!({ "name": kind.name(), "datatype": kind.datatype(), "shape": [-1, kind.length(model)] });
    json!({
        "name": model.name,
        "versions": [model.version],
        "platform": PLATFORM,
        "inputs": [{ "name": TEXT, "datatype": "BYTES", "shape": [-1, 1] }],
        "outputs": TensorKind::outputs(model.task).iter().map(output).collect::<Vec<_>>(),
    })
}

pub(super) fn config(model: &ModelInfo, inputs_max: usize) -> Value {
    let data_type = |kind: &TensorKind| if kind.datatype() == "BYTES" { "TYPE_STRING" } else { "TYPE_FP32" };
    let output = |kind: &TensorKind| json!({ "name": kind.name(), "data_type": data_type(kind), "dims": [kind.length(model)] });
    json!({
        "name": model.name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "version_policy": { "latest": { "num_versions": 1 } },
        "max_batch_size": inputs_max,
        "input": [{ "name": TEXT, "data_type": "TYPE_STRING", "dims": [1], "optional": false }],
        "output": TensorKind::outputs(model.task).iter().map(output).collect::<Vec<_>>(),
        "dynamic_batching": {
            "priority_levels": PRIORITY_LEVELS,
            "default_priority_level": PRIORITY_DEFAULT,
        },
        "model_transaction_policy": { "decoupled": false },
        "parameters": { "task": { "string_value": model.task.as_str() } },
    })
}

/// Triton's batches are one call's here: how calls share them, the metrics tell.
pub(super) fn statistics<'a>(models: impl Iterator<Item = (&'a ModelInfo, Counts)>) -> Value {
    let sum = |sum: Sum| json!({ "count": sum.count, "ns": sum.nanoseconds });
    let one = |(model, counts): (&ModelInfo, Counts)| {
        json!({
            "name": model.name,
            "version": model.version,
            "last_inference": counts.last.0,
            "inference_count": counts.inputs,
            "execution_count": counts.success.count,
            "inference_stats": {
                "success": sum(counts.success),
                "fail": sum(counts.fail),
                "queue": sum(counts.queue),
                "compute_input": sum(counts.tokenize),
                "compute_infer": sum(counts.compute),
                "compute_output": sum(counts.output()),
                "cache_hit": sum(Sum::default()),
                "cache_miss": sum(Sum::default()),
            },
            "batch_stats": [],
        })
    };
    json!({ "model_stats": models.map(one).collect::<Vec<_>>() })
}

pub(super) fn index(models: &[ModelInfo], is_ready: bool) -> Value {
    let entry = |model: &ModelInfo| {
        let (state, reason) = state(model);
        (!is_ready || state == "READY").then(
            || json!({ "name": model.name, "version": model.version, "state": state, "reason": reason }),
        )
    };
    models.iter().filter_map(entry).collect()
}
