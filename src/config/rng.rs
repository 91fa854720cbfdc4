//! Random numbers for the guest.

use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::check::Faults;
use super::short::Short;
use super::{Size, TimeSpan, VmConfig};

/// A source of random numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table",
    rename_all(serialize = "snake_case", deserialize = "kebab-case")
)]
pub struct Rng {
    /// Where they come from; by default from the host's kernel.
    #[schemars(length(min = 1))]
    pub source: Option<PathBuf>,
    /// How many bytes the guest gets at most in each period.
    pub max_bytes: Option<Size>,
    /// The period; by default a second.
    pub period: Option<TimeSpan>,
}

impl Short for Rng {
    const EXPECTED: &str = "`true`, `false` or a table";

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

pub(super) fn check(config: &VmConfig, faults: &mut Faults) {
    if let Some(rng) = &config.rng {
        faults.add_if(
            rng.max_bytes == Some(Size::from_bytes(0)),
            "rng.max-bytes",
            "a guest that gets no bytes needs no `rng`",
        );
        faults.add_if(
            rng.period == Some(TimeSpan::default()),
            "rng.period",
            "a period is a second at least",
        );
        faults.add_if(
            rng.period.is_some() && rng.max_bytes.is_none(),
            "rng.period",
            "`period` needs `max-bytes`, of which it is the period",
        );
    }
}
