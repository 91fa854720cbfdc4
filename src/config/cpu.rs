//! The processors: model, features, and how they are arranged.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::check::Faults;
use super::schema::text_schema;
use super::short::Short;
use super::text;

/// The most that a VM can have, of processors and of any level of their topology.
const MOST: u32 = 1024;

/// The processors of a VM, but for their number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table",
    rename_all(serialize = "snake_case", deserialize = "kebab-case")
)]
pub struct Cpu {
    /// QEMU's name of the model; by default the one that suits the accelerator.
    #[schemars(regex(pattern = "^[A-Za-z0-9._-]+$"))]
    pub model: Option<String>,
    /// What the model gets or loses, in the order of the file.
    pub features: Vec<CpuFeature>,
    /// Sockets of the board.
    #[schemars(range(min = 1, max = 1024))]
    pub sockets: Option<u32>,
    /// Dies of a socket.
    #[schemars(range(min = 1, max = 1024))]
    pub dies: Option<u32>,
    /// Cores of a die.
    #[schemars(range(min = 1, max = 1024))]
    pub cores: Option<u32>,
    /// Threads of a core.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<u32>,
}

/// A feature of a CPU model, written `+NAME`, `-NAME` or `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuFeature {
    /// QEMU's name of it.
    pub name: String,
    /// `on`, `off`, or what else it is set to.
    pub value: String,
}

/// A text that is not a feature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` is not a CPU feature: write \"+avx2\", \"-svm\" or \"name=value\", of letters, digits, `-`, `_` and `.`",
    .0.escape_debug()
)]
pub struct InvalidCpuFeature(String);

impl Cpu {
    /// The levels of the topology from the outermost, with their names.
    pub fn levels(&self) -> [(&'static str, Option<u32>); 4] {
        [
            ("sockets", self.sockets),
            ("dies", self.dies),
            ("cores", self.cores),
            ("threads", self.threads),
        ]
    }

    /// Whether the definition says how the processors are arranged.
    pub fn has_topology(&self) -> bool {
        self.levels().iter().any(|(_, number)| number.is_some())
    }

    /// The number of processors that the levels make, those that are not said counted as one.
    fn product(&self) -> u64 {
        let numbers = self.levels().map(|(_, number)| number.unwrap_or(1).into());
        numbers.into_iter().fold(1, u64::saturating_mul)
    }

    /// Gives `cpus` the number that the topology makes, or the topology what it lacks for `cpus`.
    pub(super) fn complete(&mut self, cpus: &mut u32, says_cpus: bool) {
        if !self.has_topology() {
            return;
        }
        let product = self.product();
        if !says_cpus {
            *cpus = product.clamp(1, MOST.into()) as u32;
        }
        // QEMU would choose the same; said, it is there to be seen.
        let open = [&mut self.cores, &mut self.sockets, &mut self.threads];
        let rest = u64::from(*cpus).checked_div(product).unwrap_or_default();
        if let Some(level) = open.into_iter().find(|level| level.is_none())
            && rest > 1
            && rest * product == u64::from(*cpus)
        {
            *level = rest.try_into().ok();
        }
    }

    pub(super) fn check(&self, cpus: u32, faults: &mut Faults) {
        if let Some(model) = &self.model {
            let plain = !model.is_empty() && is_plain(model);
            // The short form has no key of its own; the place is the same.
            faults.add_if(
                !plain,
                "cpu.model",
                "a CPU model has letters, digits and `-`, `_`, `.` only; features have a key \
                 of their own, as in cpu = { model = \"max\", features = [\"-la57\"] }",
            );
        }
        for (i, feature) in self.features.iter().enumerate() {
            let name = &feature.name;
            let twin = self.features[..i].iter().any(|other| other.name == *name);
            faults.add_if(
                twin,
                format!("cpu.features.{i}"),
                format!("`{name}` is there twice"),
            );
        }
        let mut fits = true;
        for (level, number) in self.levels() {
            if number.is_some_and(|number| !(1..=MOST).contains(&number)) {
                faults.add(
                    format!("cpu.{level}"),
                    format!("there are 1 to {MOST} {level}"),
                );
                fits = false;
            }
        }
        if !self.has_topology() || !fits {
            return;
        }
        let said = self.levels();
        let said = said
            .iter()
            .filter_map(|(level, number)| Some((level, (*number)?)));
        let levels: Vec<String> = said
            .map(|(level, number)| format!("{number} {level}"))
            .collect();
        let product = self.product();
        let levels = levels.join(" x ");
        if product > MOST.into() {
            faults.add(
                "cpu",
                format!("{levels} are {product} CPUs, and a VM has at most {MOST}"),
            );
        } else if product != u64::from(cpus) {
            faults.add(
                "cpus",
                format!("{levels} are {product} CPUs, and not {cpus}"),
            );
        }
    }
}

pub(super) fn check_cpus(cpus: u32) -> Result<(), String> {
    (1..=MOST)
        .contains(&cpus)
        .then_some(())
        .ok_or_else(|| format!("a VM has 1 to {MOST} CPUs"))
}

/// QEMU separates a model and its features by commas that cannot be doubled.
fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

impl Short for Cpu {
    const EXPECTED: &str = "a CPU model such as \"max\", or a table";

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9._-]+$", "examples": ["max"] })
    }

    fn from_text(text: &str) -> Option<Result<Self, String>> {
        Some(Ok(Self {
            model: Some(text.to_owned()),
            ..Self::default()
        }))
    }
}

impl FromStr for CpuFeature {
    type Err = InvalidCpuFeature;

    fn from_str(s: &str) -> Result<Self, InvalidCpuFeature> {
        let (name, value) = match (s.strip_prefix('+'), s.strip_prefix('-')) {
            (Some(name), _) => (name, "on"),
            (_, Some(name)) => (name, "off"),
            _ => s.split_once('=').unwrap_or_default(),
        };
        let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if starts && is_plain(name) && is_plain(value) && !value.is_empty() {
            Ok(Self {
                name: name.to_owned(),
                value: value.to_owned(),
            })
        } else {
            Err(InvalidCpuFeature(s.to_owned()))
        }
    }
}

impl fmt::Display for CpuFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value } = self;
        match value.as_str() {
            "on" => write!(f, "+{name}"),
            "off" => write!(f, "-{name}"),
            value => write!(f, "{name}={value}"),
        }
    }
}

text_schema!(
    CpuFeature,
    "^([+-][A-Za-z0-9][A-Za-z0-9._-]*|[A-Za-z0-9][A-Za-z0-9._-]*=[A-Za-z0-9._-]+)$",
    ["+avx2", "-la57", "hv-spinlocks=0x1fff"]
);

impl Serialize for CpuFeature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CpuFeature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize(deserializer, "a CPU feature such as \"+avx2\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_switched_or_set_and_add_nothing() {
        for text in [
            "+avx2",
            "-svm",
            "hv-spinlocks=0x1fff",
            "+sse4.1",
            "+avx512_vnni",
        ] {
            assert_eq!(text.parse::<CpuFeature>().unwrap().to_string(), text);
        }
        assert_eq!("svm=off".parse::<CpuFeature>().unwrap().to_string(), "-svm");
        for text in [
            "", "avx2", "+", "+-x", "+a,b", "a=b,c", "a=", "=b", "+a=b", "a b=c", "+ä",
        ] {
            assert!(text.parse::<CpuFeature>().is_err(), "{text}");
        }
    }
}
