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
pub(crate) const LIMIT: usize = 100;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    /// How many, at most.
    #[schemars(range(min = 1, max = LIMIT))]
    limit: Option<usize>,
    /// The `next` of the page before.
    after: Option<String>,
}

/// A page of a list.
pub(crate) struct Cut<T> {
    pub(crate) entries: Vec<T>,
    /// What the next page is after; none after the last one.
    pub(crate) next: Option<String>,
}

impl Page {
    /// A page of so many entries, behind one; none if that are too few or too many.
    pub(crate) fn new(limit: Option<usize>, after: Option<String>) -> Option<Self> {
        let page = Self { limit, after };
        page.is_good().then_some(page)
    }

    /// The page that a URI asks for.
    ///
    /// # Errors
    /// A field that is unknown or not what it should be.
    pub(crate) fn parse(uri: &Uri) -> Result<Self, ApiError> {
        let invalid = |problem| ApiError::InvalidRequest { field: "query".to_owned(), problem };
        let Query(page) = Query::<Self>::try_from_uri(uri).map_err(|error| explain::query(&error))?;
        if page.is_good() { Ok(page) } else { Err(invalid(format!("limit: must be 1 to {LIMIT}"))) }
    }

    fn is_good(&self) -> bool {
        self.limit.is_none_or(|limit| (1..=LIMIT).contains(&limit))
    }

    /// The page of a list that is sorted by `key`.
    pub(crate) fn cut<T>(&self, mut entries: Vec<T>, key: impl Fn(&T) -> &str) -> Cut<T> {
        let start = match &self.after {
            Some(after) => entries.partition_point(|entry| key(entry) <= after.as_str()),
            None => 0,
        };
        entries.drain(..start);
        let limit = self.limit.unwrap_or(LIMIT);
        let has_more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries.last().filter(|_| has_more).map(|last| key(last).to_owned());
        Cut { entries, next }
    }
}

impl<T: Serialize> Cut<T> {
    /// The page as `{"<name>": […], "next": "<after>"}`; the last one has no `next`.
    ///
    /// # Errors
    /// An entry that cannot be written.
    pub(crate) fn answer(self, name: &str) -> Result<Response, ApiError> {
        let mut body = Map::new();
        body.insert(name.to_owned(), serde_json::to_value(self.entries).map_err(ApiError::internal)?);
        if let Some(next) = self.next {
            body.insert("next".to_owned(), Value::String(next));
        }
        Ok(Json(body).into_response())
    }
}
