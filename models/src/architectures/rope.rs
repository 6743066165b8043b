//! What a configuration says of rotations and of the layers that have them, in the words of transformers
//! before and since version 5.

use models_core::ModelError;
use models_core::spec::Rotary;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::config::Config;

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// A rotation's base, and how its frequencies are changed for longer texts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rope {
    base: f64,
    scaling: Scaling,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Scaling {
    None,
    /// Positions are divided by a number.
    Linear(f64),
    /// The base grows, and positions are divided by what is left
    /// (<https://huggingface.co/Alibaba-NLP/new-impl>, `NTKScalingRotaryEmbedding`).
    Ntk(f64),
}

/// `rope_scaling`, or `rope_parameters`.
#[derive(Deserialize)]
struct Parameters {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
    r#type: Option<String>,
    factor: Option<f64>,
    mixed_b: Option<f64>,
    partial_rotary_factor: Option<f64>,
}

/// Which kind of layer a rotation is for, where a configuration knows two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Full,
    Sliding,
}

impl Rope {
    /// A rotation whose base is in `field` unless `rope_parameters` says it, perhaps for one kind of layers.
    pub(super) fn read(config: &Config, kind: Kind, field: &str, default: f64) -> Result<Self, ModelError> {
        let (name, parameters) = match config.get::<Map<String, Value>>("rope_parameters")? {
            Some(parameters) => {
                let of_kind = parameters.get(if kind == Kind::Full { FULL } else { SLIDING });
                ("rope_parameters", Some(of_kind.cloned().unwrap_or(Value::Object(parameters))))
            }
            None => ("rope_scaling", config.get::<Value>("rope_scaling")?),
        };
        let fault = |message: String| config.fault(format!("{name}: {message}"));
        let base = config.get(field)?;
        let Some(parameters) = parameters else {
            return Self { base: base.unwrap_or(default), scaling: Scaling::None }.checked(fault);
        };
        let parameters: Parameters =
            serde_json::from_value(parameters).map_err(|error| fault(error.to_string()))?;
        if parameters.partial_rotary_factor.is_some_and(|share| share != 1.0) {
            return Err(fault("partial_rotary_factor other than 1 is not supported".to_owned()));
        }
        if parameters.mixed_b.is_some() {
            return Err(fault("mixed_b is not supported".to_owned()));
        }
        let factor = || parameters.factor.ok_or_else(|| fault("factor is missing".to_owned()));
        let way = parameters.rope_type.as_deref().or(parameters.r#type.as_deref()).unwrap_or("default");
        let scaling = match way {
            "default" => Scaling::None,
            "linear" => Scaling::Linear(factor()?),
            "ntk" => Scaling::Ntk(factor()?),
            other => {
                let message =
                    format!("rope_type {other:?} is not supported; supported: default, linear, ntk");
                return Err(fault(message));
            }
        };
        Self { base: parameters.rope_theta.or(base).unwrap_or(default), scaling }.checked(fault)
    }

    fn checked(self, fault: impl Fn(String) -> ModelError) -> Result<Self, ModelError> {
        let is_sound = |value: f64| value.is_finite() && value > 0.0;
        let factor = match self.scaling {
            Scaling::None => 1.0,
            Scaling::Linear(factor) | Scaling::Ntk(factor) => factor,
        };
        match is_sound(self.base) && is_sound(factor) {
            true => Ok(self),
            false => Err(fault("rope_theta and factor must be finite and above 0".to_owned())),
        }
    }

    /// The rotation for this many numbers of a head.
    pub(super) fn rotary(&self, dimensions: usize) -> Rotary {
        match self.scaling {
            Scaling::None => Rotary::new(self.base, dimensions),
            Scaling::Linear(factor) => Rotary::new(self.base, dimensions).slowed(factor),
            Scaling::Ntk(factor) if factor > 1.0 => {
                Rotary::new(self.base * factor, dimensions).slowed(factor.powf(2.0 / dimensions as f64))
            }
            Scaling::Ntk(_) => Rotary::new(self.base, dimensions),
        }
    }
}

/// The kinds of an encoder's layers: as `layer_types` lists them, or by a rule.
pub(super) fn kinds(
    config: &Config,
    layers: usize,
    is_sliding: impl Fn(usize) -> bool,
) -> Result<Vec<Kind>, ModelError> {
    let Some(listed) = config.get::<Vec<String>>("layer_types")? else {
        let kind = |layer| if is_sliding(layer) { Kind::Sliding } else { Kind::Full };
        return Ok((0..layers).map(kind).collect());
    };
    if listed.len() != layers {
        return Err(config.fault(format!("layer_types: lists {} layers of {layers}", listed.len())));
    }
    let kind =
        |name: &String| match name.as_str() {
            FULL => Ok(Kind::Full),
            SLIDING => Ok(Kind::Sliding),
            other => Err(config
                .fault(format!("layer_types: {other:?} is not supported; supported: {FULL}, {SLIDING}"))),
        };
    listed.iter().map(kind).collect()
}
