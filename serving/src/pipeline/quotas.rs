//! What is left of a tenant's limits, as callers are told.

use std::time::Duration;

use api::Quota;
use router::WallTime;
use router::limit;
use units::{Period, Unit};

const MINUTE: Duration = Duration::from_secs(60);
const DAY_SECONDS: u64 = 86_400;

/// Each limit by itself.
pub(super) fn of(now: WallTime, quotas: &[(Unit, limit::Quota)]) -> Vec<Quota> {
    let until_midnight = Duration::from_secs(DAY_SECONDS - now.0 / 1000 % DAY_SECONDS);
    let mut found = Vec::with_capacity(2 * quotas.len());
    for (counted, quota) in quotas {
        let unit = *counted;
        let (limit, left) = (quota.limits.minute, quota.minute_left);
        found.push(Quota { unit, period: Period::Minute, limit, left, resets_in: MINUTE });
        if let (Some(limit), Some(left)) = (quota.limits.day, quota.day_left) {
            found.push(Quota { unit, period: Period::Day, limit, left, resets_in: until_midnight });
        }
    }
    found
}

/// Those of a call that was answered before: it takes of the limit of inputs alone.
pub(super) fn of_replay(now: WallTime, quota: Option<limit::Quota>) -> Vec<Quota> {
    quota.map(|quota| of(now, &[(Unit::Inputs, quota)])).unwrap_or_default()
}
