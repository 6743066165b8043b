//! Calendar time, which is told to everything here as an argument.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment in milliseconds since 1970 in UTC, leap seconds not counted. Written as RFC 3339, to the
/// millisecond, which has four digits for the year: what is later than [`LATEST`](Self::LATEST) is written as
/// that, and not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallTime(pub u64);

/// A day in UTC, as days since 1970-01-01. Written as `YYYY-MM-DD`; what is later than 9999-12-31 is written
/// as that, and not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Day(pub u32);

/// Text that is no time or no day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct TimeFormatError(&'static str);

const MS_PER_DAY: u64 = 24 * 60 * 60 * 1000;
const MS_PER_HOUR: u64 = 60 * 60 * 1000;

impl WallTime {
    /// The last moment that can be written: 9999-12-31T23:59:59.999Z.
    pub const LATEST: Self = Self(253_402_300_799_999);

    /// The system's clock: the edge at which calendar time comes in.
    #[expect(clippy::disallowed_methods, reason = "the edge at which calendar time comes in")]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// The UTC day it falls on.
    pub fn day(self) -> Day {
        Day(u32::try_from(self.0 / MS_PER_DAY).unwrap_or(u32::MAX))
    }

    /// The hour of its day, 0 to 23.
    pub fn hour(self) -> u8 {
        (self.0 % MS_PER_DAY / MS_PER_HOUR) as u8
    }

    /// So much later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; nothing if it is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Day {
    /// The moment at which it begins.
    pub fn start(self) -> WallTime {
        WallTime(u64::from(self.0) * MS_PER_DAY)
    }

    /// The day after.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never an error: whoever makes a text of it would panic.
        let ms = self.0.min(Self::LATEST.0);
        let moment = OffsetDateTime::from_unix_timestamp((ms / 1000) as i64).map_err(|_| fmt::Error)?;
        let (date, clock) = (moment.date(), moment.time());
        let (hour, minute, second) = clock.as_hms();
        write!(f, "{date}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
    }
}

impl std::str::FromStr for WallTime {
    type Err = TimeFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let problem =
            TimeFormatError("a time as in RFC 3339, such as 2026-11-20T08:00:00Z, in UTC from 1970 to 9999");
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| problem)?;
        let ms = u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).map(Self).map_err(|_| problem)?;
        if ms <= Self::LATEST { Ok(ms) } else { Err(problem) }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = i64::from(self.0.min(WallTime::LATEST.day().0));
        let moment = OffsetDateTime::from_unix_timestamp(days * 86_400).map_err(|_| fmt::Error)?;
        write!(f, "{}", moment.date())
    }
}

impl std::str::FromStr for Day {
    type Err = TimeFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let midnight = format!("{text}T00:00:00Z").parse::<WallTime>();
        midnight.map(WallTime::day).map_err(|_| TimeFormatError("a day as YYYY-MM-DD, from 1970-01-01 on"))
    }
}

macro_rules! as_text {
    ($($kind:ty),*) => {$(
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

as_text!(WallTime, Day);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn written_and_read() {
        let check = |ms: u64, text: &str, day: &str, hour: u8| {
            let moment = WallTime(ms);
            assert_eq!(moment.to_string(), text);
            assert_eq!(text.parse::<WallTime>().unwrap(), moment);
            assert_eq!((moment.day().to_string().as_str(), moment.hour()), (day, hour));
            assert_eq!(day.parse::<Day>().unwrap(), moment.day());
        };
        check(0, "1970-01-01T00:00:00.000Z", "1970-01-01", 0);
        check(951_782_399_999, "2000-02-28T23:59:59.999Z", "2000-02-28", 23);
        check(1_795_219_200_000, "2026-11-21T00:00:00.000Z", "2026-11-21", 0);
        assert_eq!("2026-11-21T01:00:00+01:00".parse::<WallTime>().unwrap(), WallTime(1_795_219_200_000));
        check(WallTime::LATEST.0, "9999-12-31T23:59:59.999Z", "9999-12-31", 23);
        let late = ["9999-12-31T23:59:59-01:00", "10000-01-01T00:00:00Z", "+10000-01-01T00:00:00Z"];
        for malformed in ["", "yesterday", "2026-11-21", "1969-12-31T23:59:59Z"].iter().chain(&late) {
            assert!(malformed.parse::<WallTime>().is_err(), "{malformed}");
        }
        // Whatever the number, it can be written.
        for ms in [WallTime::LATEST.0 + 1, u64::MAX / 2, u64::MAX] {
            assert_eq!(WallTime(ms).to_string(), WallTime::LATEST.to_string());
            assert_eq!(serde_json::to_string(&WallTime(ms).day()).unwrap(), "\"9999-12-31\"");
        }
        assert_eq!(Day(u32::MAX).to_string(), "9999-12-31");
        for malformed in ["", "2026-13-01", "2026-11-21T00:00:00Z", "26-11-21"] {
            assert!(malformed.parse::<Day>().is_err(), "{malformed}");
        }
    }
}
