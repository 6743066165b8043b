//! Names that a card and the configuration choose from, each a closed set.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// What computes a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    /// The reference, over candle's tensors.
    Candle,
    /// Our own engine for CPUs.
    Fused,
    /// ONNX Runtime.
    Onnx,
    /// Our own engine for GPUs.
    Cuda,
}

/// A number format that a model is computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE 754 single precision.
    Float32,
    /// IEEE 754 half precision.
    Float16,
    /// The upper half of `float32`.
    Bfloat16,
}

/// An architecture of encoders, as `config.json` names it in `model_type`, but for [`Self::JinaBert`] and
/// what [`Self::Roberta`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// <https://arxiv.org/abs/1810.04805>
    Bert,
    /// <https://arxiv.org/abs/1907.11692>; `xlm-roberta` and `camembert` as well.
    Roberta,
    /// <https://arxiv.org/abs/1910.01108>
    DistilBert,
    /// <https://arxiv.org/abs/2004.09297>
    MpNet,
    /// <https://arxiv.org/abs/2003.10555>
    Electra,
    /// <https://arxiv.org/abs/1909.11942>
    Albert,
    /// <https://arxiv.org/abs/2111.09543>
    #[serde(rename = "deberta-v2")]
    DebertaV2,
    /// <https://arxiv.org/abs/2412.13663>
    ModernBert,
    /// <https://arxiv.org/abs/2402.01613>
    #[serde(rename = "nomic_bert")]
    NomicBert,
    /// The encoder of GTE, <https://arxiv.org/abs/2407.19669>
    #[serde(rename = "new")]
    Gte,
    /// <https://arxiv.org/abs/2310.19923>; `bert` with `position_embedding_type` `alibi`.
    #[serde(rename = "jina_bert")]
    JinaBert,
    /// <https://arxiv.org/abs/2407.10671>
    Qwen2,
    /// <https://arxiv.org/abs/2505.09388>
    Qwen3,
}

/// A name that is none of those it may be, or one of them that cannot be used here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {value:?} is not supported; supported: {supported}")]
pub struct Unsupported {
    /// What was chosen.
    pub field: &'static str,
    /// The choice.
    pub value: String,
    /// What may be chosen.
    pub supported: String,
}

impl Unsupported {
    /// `value` is not among those that are supported.
    pub fn new<T: fmt::Display>(field: &'static str, value: impl fmt::Display, supported: &[T]) -> Self {
        let supported: Vec<String> = supported.iter().map(T::to_string).collect();
        Self { field, value: value.to_string(), supported: supported.join(", ") }
    }

    /// Refuses a value that is not among those that are supported.
    ///
    /// # Errors
    /// It is not.
    pub fn unless<T: fmt::Display + PartialEq>(
        field: &'static str,
        value: &T,
        supported: &[T],
    ) -> Result<(), Self> {
        if supported.contains(value) { Ok(()) } else { Err(Self::new(field, value, supported)) }
    }
}

/// Names of a closed set, to and from text.
macro_rules! names {
    ($kind:ty, $field:literal, [$($value:ident = $name:literal),+ $(,)?]) => {
        impl $kind {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$value),+];

            /// The name in cards and in the configuration.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $name),+
                }
            }
        }

        impl fmt::Display for $kind {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(self.as_str())
            }
        }

        impl FromStr for $kind {
            type Err = Unsupported;

            fn from_str(name: &str) -> Result<Self, Unsupported> {
                let found = Self::ALL.iter().find(|kind| kind.as_str() == name);
                found.copied().ok_or_else(|| Unsupported::new($field, name, Self::ALL))
            }
        }
    };
}

names!(RuntimeKind, "runtime", [Candle = "candle", Fused = "fused", Onnx = "onnx", Cuda = "cuda"]);
names!(Dtype, "dtype", [Float32 = "float32", Float16 = "float16", Bfloat16 = "bfloat16"]);
names!(
    Architecture,
    "architecture",
    [
        Bert = "bert",
        Roberta = "roberta",
        DistilBert = "distilbert",
        MpNet = "mpnet",
        Electra = "electra",
        Albert = "albert",
        DebertaV2 = "deberta-v2",
        ModernBert = "modernbert",
        NomicBert = "nomic_bert",
        Gte = "new",
        JinaBert = "jina_bert",
        Qwen2 = "qwen2",
        Qwen3 = "qwen3",
    ]
);

impl RuntimeKind {
    /// The number format of a runtime that is named without one: float32, which every runtime computes in but
    /// `cuda`; there float16, whose products are as fast as bfloat16's and round eight times less. What is
    /// too large for it is refused ([`RuntimeError::NotFinite`](crate::RuntimeError::NotFinite)), and such a
    /// model wants bfloat16.
    pub const fn default_dtype(self) -> Dtype {
        match self {
            Self::Cuda => Dtype::Float16,
            Self::Candle | Self::Fused | Self::Onnx => Dtype::Float32,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, StrDeserializer};

    use super::*;

    /// Cards are read by one of the two, the configuration by the other.
    #[test]
    fn both_ways_to_read_a_name_agree() {
        fn check<'a, T>(all: &[T], name: impl Fn(T) -> &'static str)
        where
            T: Copy + PartialEq + fmt::Debug + FromStr<Err = Unsupported> + Deserialize<'a>,
        {
            for kind in all {
                let text = name(*kind);
                let by_serde: StrDeserializer<'_, Error> = text.into_deserializer();
                assert_eq!((text.parse(), T::deserialize(by_serde)), (Ok(*kind), Ok(*kind)));
            }
        }
        check(RuntimeKind::ALL, RuntimeKind::as_str);
        check(Dtype::ALL, Dtype::as_str);
        check(Architecture::ALL, Architecture::as_str);
    }

    #[test]
    fn what_is_unknown_is_named_with_what_is_allowed() {
        let check = |error: Option<Unsupported>, expected: &str| {
            assert_eq!(error.map(|error| error.to_string()).as_deref(), Some(expected));
        };
        let runtimes = "runtime \"onx\" is not supported; supported: candle, fused, onnx, cuda";
        check("onx".parse::<RuntimeKind>().err(), runtimes);
        check(
            "".parse::<Dtype>().err(),
            "dtype \"\" is not supported; supported: float32, float16, bfloat16",
        );
        check(
            "Bert".parse::<Architecture>().err(),
            "architecture \"Bert\" is not supported; supported: bert, roberta, distilbert, mpnet, electra, \
             albert, deberta-v2, modernbert, nomic_bert, new, jina_bert, qwen2, qwen3",
        );
        let refused = Unsupported::unless("dtype", &Dtype::Float16, &[Dtype::Float32]).err();
        check(refused, "dtype \"float16\" is not supported; supported: float32");
    }
}
