//! How fast a disk may be.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Size, TimeSpan};

/// Limits of a disk; none unless it says one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table",
    rename_all(serialize = "snake_case", deserialize = "kebab-case")
)]
pub struct Limits {
    /// Requests a second.
    pub iops: Option<Limit<u64>>,
    /// Of them, those that read.
    pub iops_read: Option<Limit<u64>>,
    /// Of them, those that write.
    pub iops_write: Option<Limit<u64>>,
    /// Bytes a second.
    pub bps: Option<Limit<Size>>,
    /// Of them, those that are read.
    pub bps_read: Option<Limit<Size>>,
    /// Of them, those that are written.
    pub bps_write: Option<Limit<Size>>,
}

/// So much a second, and for how long it may be more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit<T> {
    /// So much a second.
    pub rate: T,
    /// So much a second for a while.
    pub burst: Option<T>,
    /// For how long; QEMU counts in whole seconds.
    pub burst_length: Option<TimeSpan>,
}

/// A limit in QEMU's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// The key in the definition.
    pub key: &'static str,
    /// QEMU's name of what is limited: `iops-total`.
    pub name: &'static str,
    /// So much a second.
    pub rate: u64,
    /// So much a second for a while.
    pub burst: Option<u64>,
    /// For how long, in seconds.
    pub burst_length: Option<u64>,
}

impl Limits {
    /// The limits that there are.
    pub fn throttles(&self) -> Vec<Throttle> {
        let iops = [
            ("iops", "iops-total", &self.iops),
            ("iops-read", "iops-read", &self.iops_read),
            ("iops-write", "iops-write", &self.iops_write),
        ];
        let bps = [
            ("bps", "bps-total", &self.bps),
            ("bps-read", "bps-read", &self.bps_read),
            ("bps-write", "bps-write", &self.bps_write),
        ];
        let iops = iops
            .into_iter()
            .filter_map(|(key, name, limit)| Some(limit.as_ref()?.throttle(key, name, |n| *n)));
        let bps = bps.into_iter().filter_map(|(key, name, limit)| {
            Some(limit.as_ref()?.throttle(key, name, |n| n.bytes()))
        });
        iops.chain(bps).collect()
    }

    /// What QEMU would not take, with the key of the disk to blame.
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let said = self.throttles();
        for (total, parts) in [
            ("iops", ["iops-read", "iops-write"]),
            ("bps", ["bps-read", "bps-write"]),
        ] {
            let says = |key: &str| said.iter().any(|it| it.key == key);
            if says(total) && parts.into_iter().any(says) {
                let message = format!("either `{total}`, or `{}` and `{}`", parts[0], parts[1]);
                faults.push((format!("limits.{total}"), message));
            }
        }
        for throttle in &said {
            for (key, message) in throttle.faults() {
                faults.push((format!("limits.{}{key}", throttle.key), message));
            }
        }
        faults
    }
}

impl<T> Limit<T> {
    fn throttle(&self, key: &'static str, name: &'static str, number: fn(&T) -> u64) -> Throttle {
        let seconds = |span: TimeSpan| span.duration().as_secs();
        Throttle {
            key,
            name,
            rate: number(&self.rate),
            burst: self.burst.as_ref().map(number),
            burst_length: self.burst_length.map(seconds),
        }
    }
}

/// The largest rate that QEMU takes (`THROTTLE_VALUE_MAX`, include/qemu/throttle.h).
const MAX: u64 = 1_000_000_000_000_000;

impl Throttle {
    /// What QEMU would not take (util/throttle.c), with the key to blame.
    fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let burst = self.burst.unwrap_or(self.rate);
        if self.rate == 0 {
            faults.push(("", "a limit cannot be 0: leave it out for none".to_owned()));
        } else if self.rate > MAX || burst > MAX {
            faults.push(("", format!("a limit is {MAX} at most")));
        } else if burst < self.rate {
            faults.push((".burst", "a burst is not less than the rate".to_owned()));
        }
        match (self.burst, self.burst_length) {
            (None, Some(_)) => {
                faults.push((".burst-length", "`burst-length` needs a `burst`".to_owned()));
            }
            (_, Some(0)) => {
                let message = "a burst lasts one second at least".to_owned();
                faults.push((".burst-length", message));
            }
            (Some(burst), Some(length)) if burst.saturating_mul(length) > MAX => {
                let message = "too long for a burst of this rate".to_owned();
                faults.push((".burst-length", message));
            }
            _ => {}
        }
        faults
    }
}

/// The rate alone, or a table with it.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Limit<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        struct Table<T> {
            rate: T,
            burst: Option<T>,
            burst_length: Option<TimeSpan>,
        }

        struct RateOrTable<T>(PhantomData<T>);

        impl<T> RateOrTable<T> {
            fn rate<'de, E: Error>(
                rate: impl serde::de::IntoDeserializer<'de, E>,
            ) -> Result<Limit<T>, E>
            where
                T: Deserialize<'de>,
            {
                Ok(Limit {
                    rate: T::deserialize(rate.into_deserializer())?,
                    burst: None,
                    burst_length: None,
                })
            }
        }

        impl<'de, T: Deserialize<'de>> Visitor<'de> for RateOrTable<T> {
            type Value = Limit<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a limit, or a table with its `rate`")
            }

            fn visit_i64<E: Error>(self, rate: i64) -> Result<Limit<T>, E> {
                Self::rate(rate)
            }

            fn visit_str<E: Error>(self, rate: &str) -> Result<Limit<T>, E> {
                Self::rate(rate)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Limit<T>, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Limit {
                    rate: table.rate,
                    burst: table.burst,
                    burst_length: table.burst_length,
                })
            }
        }

        deserializer.deserialize_any(RateOrTable(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Limit<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Limit of {}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rate = generator.subschema_for::<T>();
        let time = generator.subschema_for::<TimeSpan>();
        json_schema!({
            "anyOf": [
                rate,
                {
                    "type": "object",
                    "properties": { "rate": rate, "burst": rate, "burst-length": time },
                    "required": ["rate"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}
