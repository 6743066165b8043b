//! The platform's plans.

/// A plan of the platform's price list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// 100 requests a minute, 10,000 a day.
    Free,
    /// 500 requests a minute, 50,000 a day.
    Starter,
    /// 2,000 requests a minute, 500,000 a day.
    Professional,
    /// 10,000 requests a minute, no daily limit.
    Enterprise,
}

/// What a plan allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanLimits {
    /// Requests in any 60 s.
    pub requests_per_minute: u64,
    /// Requests in a UTC day; `None` is unlimited.
    pub requests_per_day: Option<u64>,
}

impl Plan {
    /// The plan's limits. A request of n inputs counts n times.
    pub const fn limits(self) -> PlanLimits {
        let (requests_per_minute, requests_per_day) = match self {
            Self::Free => (100, Some(10_000)),
            Self::Starter => (500, Some(50_000)),
            Self::Professional => (2_000, Some(500_000)),
            Self::Enterprise => (10_000, None),
        };
        PlanLimits { requests_per_minute, requests_per_day }
    }

    /// Share of device time beside other tenants' when there is not enough for all.
    pub const fn weight(self) -> u32 {
        match self {
            Self::Free => 1,
            Self::Starter => 2,
            Self::Professional => 4,
            Self::Enterprise => 8,
        }
    }

    /// Lower-case name, as in configuration and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Starter => "starter",
            Self::Professional => "professional",
            Self::Enterprise => "enterprise",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plan table of the platform's public price list.
    #[test]
    fn published_limits() {
        let check = |plan: Plan, name: &str, minute: u64, day: Option<u64>| {
            assert_eq!(plan.name(), name);
            assert_eq!(plan.limits(), PlanLimits { requests_per_minute: minute, requests_per_day: day });
        };
        check(Plan::Free, "free", 100, Some(10_000));
        check(Plan::Starter, "starter", 500, Some(50_000));
        check(Plan::Professional, "professional", 2_000, Some(500_000));
        check(Plan::Enterprise, "enterprise", 10_000, None);
    }
}
