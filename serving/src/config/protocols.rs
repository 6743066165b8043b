//! Which dialects of other servers are spoken.

use garde::Validate;
use protocols::Dialects;
use serde::Deserialize;

/// Dialects of other servers. Routes of one that is off answer 404 in its own form.
#[derive(Debug, Clone, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Protocols {
    /// Whether Open Inference Protocol v2 with Triton's additions (REST and gRPC) and KServe v1 are spoken.
    #[garde(skip)]
    pub oip: bool,
    /// Whether text-embeddings-inference's API is spoken, REST and gRPC.
    #[garde(skip)]
    pub tei: bool,
    /// Whether OpenAI's API is spoken, and what Jina, Voyage, vLLM, NIM and infinity made of its routes.
    #[garde(skip)]
    pub openai: bool,
    /// Whether Cohere's API is spoken.
    #[garde(skip)]
    pub cohere: bool,
    /// Whether Ollama's `/api/embed` is spoken.
    #[garde(skip)]
    pub ollama: bool,
    /// Whether Hugging Face's task shapes are spoken, under `/models/…` and `/hf/…`.
    #[garde(skip)]
    pub huggingface: bool,
    /// Whether the container contracts of SageMaker and Vertex are kept.
    #[garde(skip)]
    pub containers: bool,
    /// Inputs of one call in these dialects, whose clients send more at once than `limits.inputs_max` of a
    /// card.
    #[garde(range(min = 1, max = 65_536))]
    pub inputs_max: usize,
}

impl Default for Protocols {
    fn default() -> Self {
        Self {
            oip: true,
            tei: true,
            openai: true,
            cohere: true,
            ollama: true,
            huggingface: true,
            containers: true,
            inputs_max: 2048,
        }
    }
}

impl Protocols {
    /// As the protocols have it.
    pub fn dialects(&self) -> Dialects {
        let Self { oip, tei, openai, cohere, ollama, huggingface, containers, inputs_max: _ } = *self;
        Dialects { oip, tei, openai, cohere, ollama, huggingface, containers }
    }
}
