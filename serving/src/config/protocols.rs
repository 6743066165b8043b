//! Which dialects of other servers are spoken.

use std::path::PathBuf;

use api::tasks::INPUTS_MAX;
use axum::http::HeaderValue;
use garde::Validate;
use protocols::Dialects;
use protocols::containers::ContainerOptions;
use serde::Deserialize;

use crate::secrets::{self, SecretError};
use crate::telemetry::Synonyms;

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
    /// File with the API key under which calls to `/invocations` and for predictions are answered that bring
    /// no credentials: SageMaker and Vertex AI let their callers in by themselves, and send none. None:
    /// refused.
    #[garde(skip)]
    pub containers_key_file: Option<PathBuf>,
    /// Path at which Vertex AI probes, beside `/ping`; `AIP_HEALTH_ROUTE` says so too.
    #[garde(inner(custom(is_path)))]
    pub vertex_health_path: Option<String>,
    /// Path to which Vertex AI sends predictions, beside `/vertex`; `AIP_PREDICT_ROUTE` says so too.
    #[garde(inner(custom(is_path)))]
    pub vertex_predict_path: Option<String>,
    /// Inputs of one call in these dialects, whose clients send more at once than `limits.inputs_max` of a
    /// card.
    #[garde(range(min = 1, max = INPUTS_MAX))]
    pub inputs_max: usize,
    /// Tokens of one call that have vectors of their own, where a dialect asks for those (`/embed_all`,
    /// `token_embed`): an answer has a vector of some kilobytes for each.
    #[garde(range(min = 1, max = 1_048_576))]
    pub token_vectors_max: usize,
    /// Tenants whose administrators may load and unload models through Open Inference's repository, for all
    /// tenants. Others are told whether a model is loaded.
    #[garde(skip)]
    pub model_managers: Vec<String>,
    /// Whether metrics are also shown under the names of text-embeddings-inference (`te_…`), for dashboards
    /// and autoscalers that know those.
    #[garde(skip)]
    pub tei_metrics: bool,
    /// The same under the names of Triton (`nv_…`).
    #[garde(skip)]
    pub triton_metrics: bool,
}

fn is_path(path: &str, _: &()) -> garde::Result {
    if path.starts_with('/') { Ok(()) } else { Err(garde::Error::new("expected a path that begins with /")) }
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
            containers_key_file: None,
            vertex_health_path: None,
            vertex_predict_path: None,
            inputs_max: 2048,
            token_vectors_max: 8192,
            model_managers: vec!["development".to_owned()],
            tei_metrics: false,
            triton_metrics: false,
        }
    }
}

impl Protocols {
    /// As the protocols have it.
    pub fn dialects(&self) -> Dialects {
        let &Self { oip, tei, openai, cohere, ollama, huggingface, containers, .. } = self;
        Dialects { oip, tei, openai, cohere, ollama, huggingface, containers }
    }

    /// Under whose names metrics are shown beside ours.
    pub fn metric_synonyms(&self) -> Synonyms {
        Synonyms { tei: self.tei_metrics, triton: self.triton_metrics }
    }

    /// What the contracts with containers are kept with.
    ///
    /// # Errors
    /// The key cannot be read.
    pub fn container_options(&self) -> Result<ContainerOptions, SecretError> {
        let unusable = |path: &PathBuf| SecretError::Unusable {
            place: path.display().to_string(),
            problem: "it has characters that a header cannot have".to_owned(),
        };
        let authorization = self.containers_key_file.as_ref().map(|path| -> Result<_, SecretError> {
            let key = secrets::read(path)?;
            let mut value =
                HeaderValue::try_from([b"Bearer ", key.trim_ascii()].concat()).map_err(|_| unusable(path))?;
            value.set_sensitive(true);
            Ok(value)
        });
        Ok(ContainerOptions {
            authorization: authorization.transpose()?,
            health_path: self.vertex_health_path.clone(),
            predict_path: self.vertex_predict_path.clone(),
        })
    }
}
