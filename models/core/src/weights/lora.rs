//! Low-rank adapters (LoRA, <https://arxiv.org/abs/2106.09685>) in the layout of PEFT, merged into a base
//! encoder.
//!
//! A linear layer's weight becomes `W + s B A` with `A [r, in]`, `B [out, r]` and `s = alpha / r`
//! (`alpha / sqrt(r)` for rank-stabilised adapters, <https://arxiv.org/abs/2312.03732>).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::LinearWeights;
use super::tensors::TensorFile;
use crate::card::{Card, Origin};
use crate::error::ModelError;
use crate::files;

/// A linear layer of a transformer layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Query projection of self-attention.
    Query,
    /// Key projection of self-attention.
    Key,
    /// Value projection of self-attention.
    Value,
    /// The three as one layer.
    QueryKeyValue,
    /// Projection behind self-attention.
    AttentionOutput,
    /// What the activation is applied to in a gated feed-forward block, where it is a layer of its own.
    Gate,
    /// First linear layer of the feed-forward block.
    Intermediate,
    /// Second linear layer of the feed-forward block.
    Output,
}

/// An adapter's low-rank factors, by layer and target.
pub struct LoraAdapter {
    file: String,
    weights: TensorFile,
    /// Name of each factor pair in the file, up to `.lora_A.weight`.
    names: BTreeMap<(usize, Target), String>,
    rank: usize,
    scale: f64,
}

/// The parts of `adapter_config.json` that change the result.
#[derive(Deserialize)]
struct PeftConfig {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    base_model_name_or_path: Option<String>,
    revision: Option<String>,
    target_modules: Option<Value>,
    init_lora_weights: Option<Value>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Other fields that say nothing of the result: of training, or of what is set by a field that is refused.
/// Whatever else is set is refused, since it may change the result.
const WITHOUT_EFFECT: [&str; 8] = [
    "auto_mapping",
    "eva_config",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "task_type",
];

/// Ways to begin training that leave the base's weights as they are (PEFT's `LoraConfig.init_lora_weights`).
/// The others take the factors out of the weights, and the adapter does not fit the base any more.
const PLAIN_BEGINNINGS: [&str; 3] = ["gaussian", "orthogonal", "eva"];

impl LoraAdapter {
    /// Reads the adapter of a card, if it has one, for an encoder of this many layers. `target_of` tells
    /// which of its linear layers a module's name stands for.
    ///
    /// # Errors
    /// When its files are not what the card says, or it does not fit.
    pub fn load(
        card: &Card,
        layers: usize,
        target_of: impl Fn(&str) -> Option<(usize, Target)>,
    ) -> Result<Option<Self>, ModelError> {
        let Some(adapter) = &card.adapter else { return Ok(None) };
        let config = card.folder.join(&adapter.config);
        let file = card.folder.join(&adapter.file);
        let weights = TensorFile::parse(&file, files::read_verified(&file, adapter.sha256)?)?;
        let text = match adapter.config_sha256 {
            Some(digest) => files::read_verified(&config, digest)?,
            None => files::read(&config)?,
        };
        check_base(card, &text)
            .map_err(|message| ModelError::File { file: config.display().to_string(), message })?;
        let loaded = Self::new(&config, &text, weights, target_of)?;
        loaded.check_layers(layers)?;
        Ok(Some(loaded))
    }

    /// Reads an adapter: the bytes of its configuration, called `path` in errors, and its weights;
    /// `target_of` as for [`Self::load`].
    ///
    /// # Errors
    /// When the configuration asks for something other than plain or rank-stabilised LoRA, or the weights
    /// hold a tensor that is not a factor of an encoder's linear layer.
    pub fn new(
        path: &Path,
        config: &[u8],
        weights: TensorFile,
        target_of: impl Fn(&str) -> Option<(usize, Target)>,
    ) -> Result<Self, ModelError> {
        let config_file = path.display().to_string();
        let fault = |message: String| ModelError::File { file: config_file.clone(), message };
        let config: PeftConfig = serde_json::from_slice(config).map_err(|error| fault(error.to_string()))?;
        config.check().map_err(&fault)?;
        let mut names = BTreeMap::new();
        for name in weights.names() {
            let (place, pair) = place(&name, &target_of).ok_or_else(|| ModelError::File {
                file: weights.file().to_owned(),
                message: format!("tensor {name} is not a low-rank factor of an encoder's linear layer"),
            })?;
            names.insert(place, pair.to_owned());
        }
        config.check_modules(names.values().map(String::as_str)).map_err(fault)?;
        let divisor = if config.use_rslora { (config.r as f64).sqrt() } else { config.r as f64 };
        let file = weights.file().to_owned();
        Ok(Self { file, weights, names, rank: config.r, scale: config.lora_alpha / divisor })
    }

    /// Refuses an adapter for layers that the encoder does not have.
    ///
    /// # Errors
    /// Names the layer.
    pub fn check_layers(&self, layers: usize) -> Result<(), ModelError> {
        match self.names.keys().map(|(layer, _)| *layer).max() {
            Some(last) if last >= layers => Err(ModelError::File {
                file: self.file.clone(),
                message: format!("adapts layer {last}, but the encoder has {layers} layers"),
            }),
            None => Err(ModelError::File { file: self.file.clone(), message: "adapts no layer".to_owned() }),
            Some(_) => Ok(()),
        }
    }

    /// Adds `s B A` to a layer's weight, or nothing if the adapter leaves it alone.
    ///
    /// # Errors
    /// When its factors are missing or have other shapes.
    pub fn merge(&self, layer: usize, target: Target, linear: &mut LinearWeights) -> Result<(), ModelError> {
        let Some(name) = self.names.get(&(layer, target)) else { return Ok(()) };
        let (outputs, inputs) = (linear.outputs(), linear.inputs());
        let a = self.weights.get(&format!("{name}.lora_A.weight"), &[self.rank, inputs])?;
        let b = self.weights.get(&format!("{name}.lora_B.weight"), &[outputs, self.rank])?;
        let mut delta = vec![0.0_f32; inputs];
        for (row, factors) in linear.weight.chunks_exact_mut(inputs).zip(b.chunks_exact(self.rank)) {
            // Summed first and added once, as a low-rank branch beside the layer would be.
            delta.fill(0.0);
            for (factor, a) in factors.iter().zip(a.chunks_exact(inputs)) {
                delta.iter_mut().zip(a).for_each(|(sum, a)| *sum += factor * a);
            }
            row.iter_mut().zip(&delta).for_each(|(weight, delta)| *weight += self.scale as f32 * delta);
        }
        Ok(())
    }
}

impl PeftConfig {
    fn check(&self) -> Result<(), String> {
        if self.peft_type != "LORA" {
            return Err(format!("peft_type is {:?}, only LORA is supported", self.peft_type));
        }
        if self.r == 0 || !self.lora_alpha.is_finite() {
            return Err("r must be at least 1 and lora_alpha finite".to_owned());
        }
        let is_set = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            Value::String(text) => text != "none",
            _ => true,
        };
        let may_change = |name: &str| !WITHOUT_EFFECT.contains(&name);
        if let Some((name, _)) = self.others.iter().find(|(name, value)| may_change(name) && is_set(value)) {
            return Err(format!(
                "{name} is set, and may change the result; only plain and rank-stabilised LoRA are supported"
            ));
        }
        match &self.init_lora_weights {
            None | Some(Value::Null | Value::Bool(_)) => Ok(()),
            Some(Value::String(way)) if PLAIN_BEGINNINGS.contains(&way.as_str()) => Ok(()),
            Some(other) => Err(format!(
                "init_lora_weights is {other}: such an adapter belongs to changed weights of its base; convert it to plain LoRA"
            )),
        }
    }

    /// Whether the pairs of factors, by their names, are those that it says are adapted. A pattern is not
    /// looked at: the factors say what is adapted.
    fn check_modules<'a>(&self, pairs: impl Iterator<Item = &'a str>) -> Result<(), String> {
        let Some(Value::Array(listed)) = &self.target_modules else { return Ok(()) };
        let listed: Vec<&str> = listed.iter().filter_map(Value::as_str).collect();
        let is = |pair: &str, module: &str| pair == module || pair.ends_with(&format!(".{module}"));
        let mut unused: Vec<&str> = listed.clone();
        // The layers of each module, by the module's name without its layer.
        let mut layers: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for pair in pairs {
            if !listed.iter().any(|module| is(pair, module)) {
                return Err(format!("target_modules does not name {pair}, for which there are weights"));
            }
            unused.retain(|module| !is(pair, module));
            let parts = pair.split('.').map(|part| part.parse::<usize>().map_err(|_| part));
            let layer = parts.clone().find_map(Result::ok).unwrap_or_default();
            let name: Vec<&str> = parts.map(|part| part.err().unwrap_or("*")).collect();
            layers.entry(name.join(".")).or_default().insert(layer);
        }
        if let Some(module) = unused.first() {
            return Err(format!("target_modules names {module}, for which there are no weights"));
        }
        let all: BTreeSet<usize> = layers.values().flatten().copied().collect();
        match layers.iter().find(|(_, own)| **own != all) {
            Some((name, _)) => Err(format!("target_modules: some layers have no weights for {name}")),
            None => Ok(()),
        }
    }
}

/// Whether an adapter's configuration names the base that the card has.
fn check_base(card: &Card, config: &[u8]) -> Result<(), String> {
    let config: PeftConfig = serde_json::from_slice(config).map_err(|error| error.to_string())?;
    let Origin::Repository { repository, revision, .. } = &card.source.origin else { return Ok(()) };
    let base = config.base_model_name_or_path.as_deref().filter(|base| !base.is_empty());
    if let Some(base) = base.filter(|base| base != repository) {
        return Err(format!("base_model_name_or_path is {base:?}, and the card's base is {repository}"));
    }
    match config.revision.as_deref().filter(|named| !named.is_empty() && named != revision) {
        Some(named) => Err(format!("revision is {named:?}, and the card's base is of revision {revision}")),
        None => Ok(()),
    }
}

/// Layer, linear layer and the pair's common name from
/// `base_model.model.encoder.layer.0.attention.self.query.lora_A.weight`.
pub fn place(
    name: &str,
    target_of: impl Fn(&str) -> Option<(usize, Target)>,
) -> Option<((usize, Target), &str)> {
    let pair = name.strip_suffix(".lora_A.weight").or_else(|| name.strip_suffix(".lora_B.weight"))?;
    let place = target_of(pair.strip_prefix("base_model.model.")?)?;
    Some((place, pair))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_modules_agree_with_the_weights() {
        let check = |listed: &str, pairs: &[&str], expected: Option<&str>| {
            let text =
                format!(r#"{{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": {listed}}}"#);
            let config = serde_json::from_str::<PeftConfig>(&text).ok();
            let fault = config.and_then(|config| config.check_modules(pairs.iter().copied()).err());
            match expected {
                None => assert_eq!(fault, None, "{listed}"),
                Some(part) => {
                    assert!(fault.as_ref().is_some_and(|text| text.contains(part)), "{listed}: {fault:?}");
                }
            }
        };
        let (query, value) = ("base_model.model.layer.0.self.query", "base_model.model.layer.0.self.value");
        let later = "base_model.model.layer.1.self.query";
        for listed in ["null", r#"["query", "value"]"#, r#"["self.query", "value"]"#, r#"".*query|.*value""#]
        {
            check(listed, &[query, value], None);
        }
        check(r#"["query"]"#, &[query, later], None);
        check(r#"["query"]"#, &[query, value], Some("does not name base_model.model.layer.0.self.value"));
        check(r#"["query", "value", "key"]"#, &[query, value], Some("names key"));
        check(r#"["uery"]"#, &[query], Some("does not name"));
        check(r#"["query", "value"]"#, &[query, later, value], Some("layer.*.self.value"));
    }

    #[test]
    fn configurations_that_change_the_arithmetic_are_refused() {
        let check = |fields: &str, expected: Option<&str>| {
            let text = format!(r#"{{"peft_type": "LORA", "r": 4, "lora_alpha": 8{fields}}}"#);
            let fault = serde_json::from_str::<PeftConfig>(&text).map(|config| config.check().err());
            let fault = fault.unwrap_or_else(|error| Some(error.to_string()));
            match expected {
                None => assert_eq!(fault, None, "{fields}"),
                Some(part) => {
                    assert!(fault.as_ref().is_some_and(|text| text.contains(part)), "{fields}: {fault:?}");
                }
            }
        };
        check("", None);
        check(
            r#", "use_rslora": true, "use_dora": false, "bias": "none", "rank_pattern": {}, "extra": null"#,
            None,
        );
        check(r#", "task_type": "FEATURE_EXTRACTION", "lora_dropout": 0.1, "peft_version": "0.21.2""#, None);
        for fine in ["true", "false", r#""gaussian""#, r#""eva""#, r#""orthogonal""#] {
            check(&format!(r#", "init_lora_weights": {fine}"#), None);
        }
        for way in ["pissa", "pissa_niter_16", "olora", "loftq", "corda", "lora_ga", "new"] {
            check(&format!(r#", "init_lora_weights": "{way}""#), Some("init_lora_weights"));
        }
        for (name, value) in [
            ("arrow_config", r#"{"top_k": 2}"#),
            ("kasa_config", r#"{"x": 1}"#),
            ("megatron_config", r#"{"a": 1}"#),
            ("loftq_config", r#"{"bits": 4}"#),
            ("layers_to_transform", "[0]"),
            ("layers_to_transform", "0"),
            ("exclude_modules", r#"["query"]"#),
            ("trainable_token_indices", "[1]"),
            ("target_parameters", r#"["x"]"#),
            ("layer_replication", "[[0, 4]]"),
            ("lora_bias", "true"),
            ("alora_invocation_tokens", "[101]"),
            ("a_new_field", "1"),
        ] {
            check(&format!(r#", "{name}": {value}"#), Some(name));
        }
        check(r#", "use_dora": true"#, Some("use_dora"));
        check(r#", "use_anything_else": true"#, Some("use_anything_else"));
        check(r#", "bias": "all""#, Some("bias"));
        check(r#", "rank_pattern": {"query": 2}"#, Some("rank_pattern"));
        check(r#", "modules_to_save": ["classifier"]"#, Some("modules_to_save"));
        check(r#", "fan_in_fan_out": true"#, Some("fan_in_fan_out"));
        for (text, part) in [
            (r#"{"peft_type": "IA3", "r": 4, "lora_alpha": 8}"#, "IA3"),
            (r#"{"peft_type": "LORA", "r": 0, "lora_alpha": 8}"#, "r must be"),
        ] {
            let config: Result<PeftConfig, _> = serde_json::from_str(text);
            assert!(
                config.is_ok_and(|config| config.check().is_err_and(|fault| fault.contains(part))),
                "{text}"
            );
        }
    }
}
