//! What tenants used, and what it costs, by tenant, day, hour and model: as JSON and as CSV. Totals are sums
//! of the rows, and these of records, in integers.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::Query;
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use protocols::http::explain;
use protocols::openapi::Api;
use router::ledger::{Sum, SumKey, UsageStore};
use router::{Day, WallTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{ApiError, TableError};

/// Days of a report, at most.
const DAYS_MAX: u32 = 366;

/// What is asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WireQuery {
    /// First day. None: the first of the last 30.
    #[schemars(with = "Option<String>", extend("format" = "date"))]
    from: Option<Day>,
    /// Last day. None: today.
    #[schemars(with = "Option<String>", extend("format" = "date"))]
    to: Option<Day>,
    /// What rows are by: some of `tenant`, `day`, `hour` and `model`, with commas between.
    #[schemars(regex(pattern = "^ *(tenant|day|hour|model) *(, *(tenant|day|hour|model) *)*$"))]
    by: Option<String>,
    /// `json` or `csv`.
    #[serde(default)]
    format: Format,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "ReportFormat")]
enum Format {
    #[default]
    Json,
    Csv,
}

/// What rows are by. By hour is by day, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct By {
    pub(crate) tenant: bool,
    pub(crate) day: bool,
    pub(crate) hour: bool,
    pub(crate) model: bool,
}

/// A report that was asked for.
#[derive(Debug)]
pub(crate) struct ReportQuery {
    from: Day,
    to: Day,
    by: By,
    format: Format,
}

/// What was used.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Report {
    /// None: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    #[schemars(with = "String", extend("format" = "date"))]
    pub(crate) from: Day,
    #[schemars(with = "String", extend("format" = "date"))]
    pub(crate) to: Day,
    pub(crate) rows: Vec<Row>,
    pub(crate) total: Numbers,
    #[serde(skip)]
    format: Format,
}

/// Tenant, day, hour and model, where rows are by them.
type RowKey = (Option<String>, Option<Day>, Option<u8>, Option<String>);

/// What was used of what the row is by.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ReportRow")]
pub(crate) struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date"))]
    pub(crate) day: Option<Day>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hour: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    #[serde(flatten)]
    pub(crate) numbers: Numbers,
}

/// Of completed requests unless the name says otherwise.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub(crate) struct Numbers {
    /// Inputs: what is priced.
    pub(crate) inputs: u64,
    pub(crate) tokens: u64,
    /// HTTP requests and gRPC messages.
    pub(crate) completed: u64,
    pub(crate) cached: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    pub(crate) device_ms: u64,
    /// Only for whoever may see bills.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cost_micro_usd: Option<u64>,
}

/// The schemas of a query and of a report.
pub(crate) fn schemas(api: &mut Api) -> (Value, Value) {
    (api.read_whole::<WireQuery>(), api.written::<Report>())
}

impl ReportQuery {
    /// The query of a URI.
    ///
    /// # Errors
    /// A field that is unknown or not what it should be.
    pub(crate) fn parse(uri: &Uri, now: WallTime) -> Result<Self, ApiError> {
        let invalid =
            |field: &str, problem: String| ApiError::InvalidRequest { field: field.to_owned(), problem };
        let Query(wire) = Query::<WireQuery>::try_from_uri(uri).map_err(|error| explain::query(&error))?;
        let mut by = By::default();
        for name in wire.by.as_deref().unwrap_or("day,model").split(',').map(str::trim) {
            match name {
                "tenant" => by.tenant = true,
                "day" => by.day = true,
                "hour" => by.hour = true,
                "model" => by.model = true,
                _ => return Err(invalid("by", "expected some of tenant, day, hour and model".to_owned())),
            }
        }
        Ok(Self { format: wire.format, ..Self::new(wire.from, wire.to, by, now)? })
    }

    /// What is asked, as JSON if it is to be written: of the last 30 days if none are given.
    ///
    /// # Errors
    /// There are too many days, or none.
    pub(crate) fn new(from: Option<Day>, to: Option<Day>, by: By, now: WallTime) -> Result<Self, ApiError> {
        let to = to.unwrap_or(now.day());
        let from = from.unwrap_or(Day(to.0.saturating_sub(29)));
        if from > to || to.0 - from.0 >= DAYS_MAX {
            let problem = format!("must be at most {DAYS_MAX} days up to `to`");
            return Err(ApiError::InvalidRequest { field: "from".to_owned(), problem });
        }
        Ok(Self { from, to, by: By { day: by.day || by.hour, ..by }, format: Format::Json })
    }

    /// The report on a tenant, with costs or without.
    ///
    /// # Errors
    /// The store does not answer.
    pub(crate) async fn report(
        &self,
        usage: &dyn UsageStore,
        tenant: &str,
        has_cost: bool,
    ) -> Result<Report, ApiError> {
        let sums = usage.sums(tenant, self.from, self.to).await.map_err(unavailable)?;
        Ok(self.of(Some(tenant), vec![(tenant.to_owned(), sums)], has_cost))
    }

    /// The report on all tenants, with costs: what invoices are made of.
    ///
    /// # Errors
    /// The store does not answer.
    pub(crate) async fn report_all(&self, usage: &dyn UsageStore) -> Result<Report, ApiError> {
        let mut sums = Vec::new();
        for tenant in usage.tenants().await.map_err(unavailable)? {
            let of_tenant = usage.sums(&tenant, self.from, self.to).await.map_err(unavailable)?;
            sums.push((tenant, of_tenant));
        }
        Ok(self.of(None, sums, true))
    }

    fn of(&self, tenant: Option<&str>, sums: Vec<(String, BTreeMap<SumKey, Sum>)>, has_cost: bool) -> Report {
        let (rows, total) = self.rows(sums, has_cost);
        let tenant = tenant.map(str::to_owned);
        Report { tenant, from: self.from, to: self.to, rows, total, format: self.format }
    }

    fn rows(&self, sums: Vec<(String, BTreeMap<SumKey, Sum>)>, has_cost: bool) -> (Vec<Row>, Numbers) {
        let mut grouped: BTreeMap<RowKey, Sum> = BTreeMap::new();
        let mut total = Sum::default();
        let By { tenant: has_tenant, day: has_day, hour: has_hour, model: has_model } = self.by;
        for (tenant, sums) in sums {
            for (SumKey { day, hour, model }, sum) in sums {
                let key = (
                    has_tenant.then(|| tenant.clone()),
                    has_day.then_some(day),
                    has_hour.then_some(hour),
                    has_model.then_some(model),
                );
                *grouped.entry(key).or_default() += sum;
                total += sum;
            }
        }
        let rows = grouped.into_iter().map(|((tenant, day, hour, model), sum)| Row {
            tenant,
            day,
            hour,
            model,
            numbers: Numbers::of(&sum, has_cost),
        });
        (rows.collect(), Numbers::of(&total, has_cost))
    }
}

impl Report {
    /// The report in the format that was asked for.
    pub(crate) fn answer(&self) -> Response {
        match self.format {
            Format::Json => Json(self).into_response(),
            Format::Csv => ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], csv(self)).into_response(),
        }
    }
}

fn unavailable(error: router::store::StoreError) -> ApiError {
    router::AdministrationError::from(error).refused()
}

impl Numbers {
    fn of(sum: &Sum, has_cost: bool) -> Self {
        Self {
            inputs: sum.inputs,
            tokens: sum.tokens,
            completed: sum.completed,
            cached: sum.cached,
            refused: sum.refused,
            failed: sum.failed,
            cancelled: sum.cancelled,
            device_ms: sum.device_us / 1000,
            cost_micro_usd: has_cost.then_some(sum.price.0),
        }
    }
}

/// RFC 4180. Names of models hold neither commas nor quotes (their cards are checked).
fn csv(report: &Report) -> String {
    let header = "tenant,day,hour,model,inputs,tokens,completed,cached,refused,failed,cancelled,device_ms,cost_micro_usd";
    let mut text = format!("{header}\r\n");
    let optional = |value: Option<String>| value.unwrap_or_default();
    for Row { tenant, day, hour, model, numbers } in &report.rows {
        let n = numbers;
        let fields = [
            optional(tenant.clone().or_else(|| report.tenant.clone())),
            optional(day.map(|day| day.to_string())),
            optional(hour.map(|hour| hour.to_string())),
            optional(model.clone()),
            n.inputs.to_string(),
            n.tokens.to_string(),
            n.completed.to_string(),
            n.cached.to_string(),
            n.refused.to_string(),
            n.failed.to_string(),
            n.cancelled.to_string(),
            n.device_ms.to_string(),
            optional(n.cost_micro_usd.map(|cost| cost.to_string())),
        ];
        text.push_str(&fields.join(","));
        text.push_str("\r\n");
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use router::MicroDollars;

    use super::*;

    fn parse(query: &str) -> Result<ReportQuery, ApiError> {
        ReportQuery::parse(&format!("/v1/ml/usage?{query}").parse().unwrap(), Day(20_000).start())
    }

    #[test]
    fn queries() {
        let query = parse("").unwrap();
        assert_eq!((query.from, query.to, query.format), (Day(19_971), Day(20_000), Format::Json));
        assert_eq!(
            parse("by=hour&format=csv").unwrap().by,
            By { tenant: false, day: true, hour: true, model: false }
        );
        let check = |query: &str, part: &str| {
            let message = parse(query).unwrap_err().to_string();
            assert!(message.contains(part), "{query}: {message}");
        };
        check("by=week", "expected some of tenant, day, hour and model");
        check("from=2026-13-01", "YYYY-MM-DD");
        check("from=2020-01-02&to=2020-01-01", "at most 366 days");
        check("from=2020-01-01&to=2022-01-01", "at most 366 days");
        check("format=xml", "format: unknown value, expected `json` or `csv`");
        check(&format!("format={}", "xml".repeat(4000)), "format: unknown value, expected `json` or `csv`");
        check("until=2020-01-01", "unknown field");
    }

    #[test]
    fn rows_add_up() {
        let key = |day, hour, model: &str| SumKey { day: Day(day), hour, model: model.to_owned() };
        let sum = |inputs| Sum { inputs, price: MicroDollars(inputs * 20), completed: 1, ..Sum::default() };
        let sums = || {
            let acme =
                [(key(20_000, 1, "a"), sum(1)), (key(20_000, 2, "a"), sum(2)), (key(20_000, 2, "b"), sum(4))];
            let globex = [(key(20_001, 0, "a"), sum(8))];
            vec![("acme".to_owned(), BTreeMap::from(acme)), ("globex".to_owned(), BTreeMap::from(globex))]
        };
        let check = |by: &str, expected: &[u64]| {
            let (rows, total) = parse(&format!("by={by}")).unwrap().rows(sums(), true);
            let inputs: Vec<u64> = rows.iter().map(|row| row.numbers.inputs).collect();
            assert_eq!(inputs, expected, "{by}");
            assert_eq!((total.inputs, total.cost_micro_usd), (15, Some(300)));
        };
        check("day", &[7, 8]);
        check("model", &[11, 4]);
        check("day,model", &[3, 4, 8]);
        check("hour,model", &[1, 2, 4, 8]);
        check("tenant,model", &[3, 4, 8]);
        let (rows, total) = parse("by=model").unwrap().rows(sums(), false);
        assert!(
            rows.iter().all(|row| row.numbers.cost_micro_usd.is_none()) && total.cost_micro_usd.is_none()
        );
        let report = Report {
            tenant: Some("acme".to_owned()),
            from: Day(20_000),
            to: Day(20_001),
            rows,
            total,
            format: Format::Csv,
        };
        assert_eq!(csv(&report).lines().nth(1), Some("acme,,,a,11,0,3,0,0,0,0,0,"));
    }
}
