//! Pages of lists: `?limit=100&after=<the last name or id seen>`.

use axum::Json;
use axum::extract::Query;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use protocols::http::explain;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::ApiError;

/// Entries of a page, if not told otherwise and at most.
const LIMIT: usize = 100;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    /// How many, at most.
    #[schemars(range(min = 1, max = LIMIT))]
    limit: Option<usize>,
    /// The `next` of the page before.
    after: Option<String>,
}

impl Page {
    /// The page that a URI asks for.
    ///
    /// # Errors
    /// A field that is unknown or not what it should be.
    pub(crate) fn parse(uri: &Uri) -> Result<Self, ApiError> {
        let invalid = |problem| ApiError::InvalidRequest { field: "query".to_owned(), problem };
        let Query(page) = Query::<Self>::try_from_uri(uri).map_err(|error| explain::query(&error))?;
        if page.limit.is_some_and(|limit| !(1..=LIMIT).contains(&limit)) {
            return Err(invalid(format!("limit: must be 1 to {LIMIT}")));
        }
        Ok(page)
    }

    /// The page of a list that is sorted by `key`, as `{"<name>": […], "next": "<after>"}`; the last one has
    /// no `next`.
    ///
    /// # Errors
    /// An entry that cannot be written.
    pub(crate) fn answer<T: Serialize>(
        &self,
        name: &str,
        entries: &[T],
        key: impl Fn(&T) -> &str,
    ) -> Result<Response, ApiError> {
        let start = match &self.after {
            Some(after) => entries.partition_point(|entry| key(entry) <= after.as_str()),
            None => 0,
        };
        let (shown, rest) = entries[start..].split_at(self.limit.unwrap_or(LIMIT).min(entries.len() - start));
        let mut body = Map::new();
        body.insert(name.to_owned(), serde_json::to_value(shown).map_err(ApiError::internal)?);
        if let (Some(last), false) = (shown.last(), rest.is_empty()) {
            body.insert("next".to_owned(), Value::String(key(last).to_owned()));
        }
        Ok(Json(body).into_response())
    }
}
