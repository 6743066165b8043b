//! Low-rank adapters (LoRA, <https://arxiv.org/abs/2106.09685>) in the layout of PEFT, merged into a base
//! encoder.
//!
//! A linear layer's weight becomes `W + s B A` with `A [r, in]`, `B [out, r]` and `s = alpha / r`
//! (`alpha / sqrt(r)` for rank-stabilised adapters, <https://arxiv.org/abs/2312.03732>).

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::LinearWeights;
use super::tensors::TensorFile;
use crate::card::Card;
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
    /// Projection behind self-attention.
    AttentionOutput,
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
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Keys that change the arithmetic when they are set to anything but nothing, as do `use_…` keys of other
/// variants.
const PLAIN_ONLY: [&str; 8] = [
    "alora_invocation_tokens",
    "alpha_pattern",
    "bias",
    "fan_in_fan_out",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
];

impl Target {
    /// All there are.
    pub const ALL: [Target; 6] = [
        Target::Query,
        Target::Key,
        Target::Value,
        Target::AttentionOutput,
        Target::Intermediate,
        Target::Output,
    ];
}

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
        let loaded = Self::new(&config, &files::read(&config)?, weights, target_of)?;
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
        config.check().map_err(fault)?;
        let mut names = BTreeMap::new();
        for name in weights.names() {
            let (place, pair) = place(&name, &target_of).ok_or_else(|| ModelError::File {
                file: weights.file().to_owned(),
                message: format!("tensor {name} is not a low-rank factor of an encoder's linear layer"),
            })?;
            names.insert(place, pair.to_owned());
        }
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
        let changes_result = |name: &str| PLAIN_ONLY.contains(&name) || name.starts_with("use_");
        match self.others.iter().find(|(name, value)| changes_result(name) && is_set(value)) {
            Some((name, _)) => {
                Err(format!("{name} is set; only plain and rank-stabilised LoRA are supported"))
            }
            None => Ok(()),
        }
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
            r#", "use_rslora": true, "use_dora": false, "bias": "none", "rank_pattern": {}, "extra": 1"#,
            None,
        );
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
