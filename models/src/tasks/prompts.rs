//! Prompts: what the authors of an embedding model put before texts.

use models_core::card::{PromptKind, UnknownPrompt};
use models_core::tasks::{Input, InputError, Truncation};

use super::Context;
use super::reading::{Jobs, Reading};
use crate::card::Card;
use crate::tokenizer::Keep;

/// What is put before texts, if anything is.
#[derive(Default)]
pub(super) struct Prompt {
    text: String,
    /// Whether its tokens are pooled with the others.
    is_pooled: bool,
}

/// What is put before the inputs of a comparison, and before what they are compared with.
pub(super) struct Prompting {
    pub(super) inputs: Prompt,
    pub(super) reference: Prompt,
}

impl Prompt {
    /// The prompt of this name, or the card's own.
    ///
    /// # Errors
    /// The model has none of this name.
    pub(super) fn named(card: &Card, name: Option<&str>) -> Result<Self, InputError> {
        let text = card.prompts.named(name).map_err(|UnknownPrompt { known }| {
            let message = match &known[..] {
                [] => "must be left out: this model has no prompts".to_owned(),
                known => format!("is not a prompt of this model; it has {}", known.join(", ")),
            };
            InputError::Parameter { name: "prompt_name", message }
        })?;
        Ok(Self::of(card, text))
    }

    fn of(card: &Card, text: &str) -> Self {
        let is_pooled = card.head.pooling().is_none_or(|head| head.includes_prompt);
        Self { text: text.to_owned(), is_pooled }
    }

    fn of_kind(card: &Card, kind: PromptKind) -> Self {
        // A name that is there is known.
        let text = card.prompts.named(card.prompts.name_of(kind)).unwrap_or_default();
        Self::of(card, text)
    }

    /// Reads one input behind it. Token ids are taken for all there is to read, a prompt included.
    pub(super) async fn read(
        &self,
        context: &Context<'_>,
        jobs: &mut Jobs<'_>,
        index: usize,
        input: &Input,
        truncation: Truncation,
    ) -> Result<Reading, InputError> {
        let Input::Text(text) = input else {
            return jobs.read_input(context, index, input, truncation).await;
        };
        if self.text.is_empty() {
            return jobs.read_input(context, index, input, truncation).await;
        }
        let prompted = Input::Text(format!("{}{text}", self.text));
        let reading = jobs.read_input(context, index, &prompted, truncation).await?;
        if !self.is_pooled && truncation != Truncation::Start {
            let limit = context.card.limits.tokens_max;
            let prompt = jobs.encode(index, &self.text, Keep::First(limit), usize::MAX).await?;
            let before = jobs.tokenizer().special_tokens_before();
            jobs.leave_unpooled(&reading, before + prompt.text.ids.len());
        }
        Ok(reading)
    }
}

impl Prompting {
    /// Documents and a query.
    pub(super) fn of_search(card: &Card) -> Self {
        let of = |kind| Prompt::of_kind(card, kind);
        Self { inputs: of(PromptKind::Document), reference: of(PromptKind::Query) }
    }

    /// Texts of one kind.
    pub(super) fn of_likeness(card: &Card) -> Self {
        let own = || Prompt::named(card, None).unwrap_or_default();
        Self { inputs: own(), reference: own() }
    }
}
