//! Lengths of time as people write them: `"90s"`, `"2m"`, `"1h30m"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::schema::text_schema;
use super::text;

/// A length of time, in whole seconds.
///
/// Written with the units `d h m s`, each at most once and from the largest.
/// Serialized as a number of seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TimeSpan(u64);

text_schema!(
    TimeSpan,
    "^(?=.)([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$",
    ["90s", "1h30m"],
    unit = time
);

const UNITS: [(char, u64); 4] = [('d', 86400), ('h', 3600), ('m', 60), ('s', 1)];

/// A text that is not a time span; says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTimeSpan {
    /// Not numbers with units, from the largest unit.
    #[error("`{}` is not a time span: write numbers with units, as in \"90s\", \"2m\" or \"1h30m\"", .0.escape_debug())]
    Malformed(String),
    /// A number alone.
    #[error("`{0}` has no unit: write \"{0}s\"")]
    NoUnit(u64),
}

impl TimeSpan {
    /// A span of `seconds`.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds)
    }

    /// The same length for the standard library.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl FromStr for TimeSpan {
    type Err = InvalidTimeSpan;

    fn from_str(s: &str) -> Result<Self, InvalidTimeSpan> {
        if let Ok(number) = s.parse()
            && !s.starts_with('+')
        {
            return Err(InvalidTimeSpan::NoUnit(number));
        }
        let malformed = || InvalidTimeSpan::Malformed(s.to_owned());
        let mut units = UNITS.iter();
        let mut rest = s;
        let mut total = 0u64;
        while !rest.is_empty() {
            let at = rest
                .find(|c: char| !c.is_ascii_digit())
                .ok_or_else(malformed)?;
            let (number, tail) = rest.split_at(at);
            let number: u64 = number.parse().map_err(|_| malformed())?;
            // Continues after the last unit used, so that none comes twice or late.
            let &(name, seconds) = units
                .find(|(name, _)| tail.starts_with(*name))
                .ok_or_else(malformed)?;
            total = number
                .checked_mul(seconds)
                .and_then(|n| n.checked_add(total))
                .ok_or_else(malformed)?;
            rest = &tail[name.len_utf8()..];
        }
        if s.is_empty() {
            Err(malformed())
        } else {
            Ok(Self(total))
        }
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        let mut text = String::new();
        for (name, seconds) in UNITS {
            if rest >= seconds {
                text += &format!("{}{name}", rest / seconds);
                rest %= seconds;
            }
        }
        f.pad(if text.is_empty() { "0s" } else { &text })
    }
}

impl<'de> Deserialize<'de> for TimeSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize_unit(deserializer, "a time span such as \"90s\"", |number| {
            InvalidTimeSpan::NoUnit(number).to_string()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_are_numbers_with_units() {
        for (text, seconds, shown) in [
            ("90s", 90, "1m30s"),
            ("2m", 120, "2m"),
            ("1h30m", 5400, "1h30m"),
            ("1d1s", 86401, "1d1s"),
            ("0s", 0, "0s"),
        ] {
            let span: TimeSpan = text.parse().unwrap();
            assert_eq!(span, TimeSpan(seconds), "{text}");
            assert_eq!(span.to_string(), shown);
        }
    }

    #[test]
    fn what_is_not_a_time_span_is_refused() {
        assert_eq!(
            "90".parse::<TimeSpan>().unwrap_err().to_string(),
            "`90` has no unit: write \"90s\""
        );
        for bad in [
            "",
            "s",
            "-1s",
            "+1s",
            "1m1m",
            "1s1m",
            "1x",
            "1m2",
            "1.5h",
            "9é",
            "99999999999999999999s",
        ] {
            assert!(
                matches!(bad.parse::<TimeSpan>(), Err(InvalidTimeSpan::Malformed(_))),
                "{bad}"
            );
        }
    }
}
