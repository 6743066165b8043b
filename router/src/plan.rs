//! What a tenant's plan allows.

use serde::{Deserialize, Serialize};

/// A plan of the platform's price list, or terms of a tenant's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plan {
    /// 100 requests a minute, 10,000 a day.
    Free,
    /// 500 requests a minute, 50,000 a day.
    Starter,
    /// 2,000 requests a minute, 500,000 a day.
    Professional,
    /// 10,000 requests a minute, no daily limit.
    Enterprise,
    Custom(Terms),
}

/// What a plan allows. A request of n inputs counts n times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Requests in any 60 s.
    pub requests_per_minute: u64,
    /// Requests in a UTC day; none is unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_day: Option<u64>,
    /// Tokens in any 60 s; none is unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Tokens in a UTC day; none is unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// HTTP requests or gRPC calls worked on at once, by one server.
    pub concurrency_max: u32,
    /// Share of device time beside other tenants' when there is not enough for all, at least 1.
    pub weight: u32,
}

/// Terms that make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field}: must be {least} to {most}")]
pub struct TermsError {
    pub field: &'static str,
    least: u64,
    most: u64,
}

impl Plan {
    /// What the plan allows.
    pub const fn terms(self) -> Terms {
        let (requests_per_minute, requests_per_day, concurrency_max, weight) = match self {
            Self::Free => (100, Some(10_000), 16, 1),
            Self::Starter => (500, Some(50_000), 64, 2),
            Self::Professional => (2_000, Some(500_000), 256, 4),
            Self::Enterprise => (10_000, None, 1_024, 8),
            Self::Custom(terms) => return terms,
        };
        Terms {
            requests_per_minute,
            requests_per_day,
            tokens_per_minute: None,
            tokens_per_day: None,
            concurrency_max,
            weight,
        }
    }

    /// Lower-case name, as in configuration and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Starter => "starter",
            Self::Professional => "professional",
            Self::Enterprise => "enterprise",
            Self::Custom(_) => "custom",
        }
    }

    /// Whether its terms make sense.
    ///
    /// # Errors
    /// The first bound that does not.
    pub fn check(self) -> Result<(), TermsError> {
        let terms = self.terms();
        let check = |field, value: Option<u64>, most| match value {
            Some(value) if !(1..=most).contains(&value) => Err(TermsError { field, least: 1, most }),
            _ => Ok(()),
        };
        check("requests_per_minute", Some(terms.requests_per_minute), 1_000_000_000)?;
        check("requests_per_day", terms.requests_per_day, 1_000_000_000_000)?;
        check("tokens_per_minute", terms.tokens_per_minute, 1_000_000_000_000)?;
        check("tokens_per_day", terms.tokens_per_day, 1_000_000_000_000_000)?;
        check("concurrency_max", Some(u64::from(terms.concurrency_max)), 1_000_000)?;
        check("weight", Some(u64::from(terms.weight)), 1_000)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The plan table of the platform's public price list.
    #[test]
    fn published_limits() {
        let check = |plan: Plan, name: &str, minute: u64, day: Option<u64>| {
            let terms = plan.terms();
            assert_eq!(plan.name(), name);
            assert_eq!((terms.requests_per_minute, terms.requests_per_day), (minute, day));
            assert_eq!((terms.tokens_per_minute, terms.tokens_per_day), (None, None));
            assert_eq!(plan.check(), Ok(()));
        };
        check(Plan::Free, "free", 100, Some(10_000));
        check(Plan::Starter, "starter", 500, Some(50_000));
        check(Plan::Professional, "professional", 2_000, Some(500_000));
        check(Plan::Enterprise, "enterprise", 10_000, None);
    }

    #[test]
    fn custom_terms() {
        let terms =
            r#"{"custom":{"requests_per_minute":7,"tokens_per_day":9,"concurrency_max":2,"weight":3}}"#;
        let plan: Plan = serde_json::from_str(terms).unwrap();
        assert_eq!(plan.terms().tokens_per_day, Some(9));
        assert_eq!(serde_json::to_string(&plan).unwrap(), terms);
        assert_eq!(serde_json::from_str::<Plan>(r#""free""#).unwrap(), Plan::Free);
        let idle = Plan::Custom(Terms { requests_per_minute: 0, ..Plan::Free.terms() });
        assert_eq!(idle.check().unwrap_err().to_string(), "requests_per_minute: must be 1 to 1000000000");
    }
}
