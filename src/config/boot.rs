//! From what a guest's firmware boots.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::SeqAccess;
use serde::de::value::SeqAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::check::Faults;
use super::schema::text_schema;
use super::short::Short;
use super::{DeviceName, InvalidDeviceName, VmConfig, text};
use crate::nearest::nearest;

/// What the firmware boots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table",
    rename_all(serialize = "snake_case", deserialize = "kebab-case")
)]
pub struct Boot {
    /// Disks and networks, in the order in which they are tried.
    pub order: Vec<BootName>,
    /// Whether the firmware offers a menu.
    pub menu: bool,
}

/// A disk or a network, written `NAME`, or `disk.NAME` or `net.NAME` where both have the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootName {
    kind: Option<Kind>,
    name: DeviceName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Disk,
    Net,
}

impl Boot {
    /// Which of the devices that are tried a disk is, counted from 0.
    pub fn index_of_disk(&self, name: &DeviceName) -> Option<usize> {
        self.index(Kind::Disk, name)
    }

    /// Which of the devices that are tried the NIC on a network is, counted from 0.
    pub fn index_of_net(&self, name: &DeviceName) -> Option<usize> {
        self.index(Kind::Net, name)
    }

    fn index(&self, kind: Kind, name: &DeviceName) -> Option<usize> {
        self.order.iter().position(|it| it.is(kind, name))
    }

    pub(super) fn check(&self, config: &VmConfig, faults: &mut Faults) {
        let disks = config.disks.iter();
        let disks = disks.filter(|(_, disk)| disk.boot_index.is_some());
        let nets = config.nets.iter();
        let nets = nets.filter(|(_, net)| net.boot_index.is_some());
        let numbered = disks.map(|(name, _)| format!("disk.{name}"));
        for table in numbered.chain(nets.map(|(name, _)| format!("net.{name}"))) {
            faults.add_if(
                !self.order.is_empty(),
                format!("{table}.boot-index"),
                "the order is in `boot`: put it there, or give all a `boot-index`",
            );
        }
        let mut seen = Vec::new();
        for (i, wanted) in self.order.iter().enumerate() {
            let mut found: Vec<String> = devices(config)
                .filter(|(kind, name)| wanted.is(*kind, name))
                .map(|(kind, name)| format!("{kind}.{name}"))
                .collect();
            let message = match (found.pop(), found.pop()) {
                (Some(net), Some(disk)) => {
                    format!("`{wanted}` is a disk and a network: write `{disk}` or `{net}`")
                }
                (Some(one), None) if seen.contains(&one) => format!("`{wanted}` is there twice"),
                (Some(one), None) => {
                    seen.push(one);
                    continue;
                }
                (None, _) => wanted.not_found(config),
            };
            faults.add(format!("boot.order.{i}"), message);
        }
    }
}

fn devices(config: &VmConfig) -> impl Iterator<Item = (Kind, &DeviceName)> {
    let disks = config.disks.keys().map(|name| (Kind::Disk, name));
    disks.chain(config.nets.keys().map(|name| (Kind::Net, name)))
}

impl BootName {
    fn is(&self, kind: Kind, name: &DeviceName) -> bool {
        self.name == *name && self.kind.is_none_or(|it| it == kind)
    }

    fn not_found(&self, config: &VmConfig) -> String {
        let known = devices(config).map(|(kind, name)| match self.kind {
            Some(_) => format!("{kind}.{name}"),
            None => name.to_string(),
        });
        match nearest(&self.to_string(), known).first() {
            Some(near) => {
                format!("no disk or network is called `{self}`, did you mean `{near}`?")
            }
            None => format!("no disk or network is called `{self}`"),
        }
    }
}

impl Short for Boot {
    const EXPECTED: &str = "a list of disks and networks, or a table";

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Vec<BootName>>()
    }

    fn from_list<'de, A: SeqAccess<'de>>(
        list: SeqAccessDeserializer<A>,
    ) -> Option<Result<Self, A::Error>> {
        Some(Vec::deserialize(list).map(|order| Self {
            order,
            ..Self::default()
        }))
    }
}

impl FromStr for BootName {
    type Err = InvalidDeviceName;

    fn from_str(s: &str) -> Result<Self, InvalidDeviceName> {
        let (kind, name) = match s.split_once('.') {
            Some(("disk", name)) => (Some(Kind::Disk), name),
            Some(("net", name)) => (Some(Kind::Net), name),
            _ => (None, s),
        };
        Ok(Self {
            kind,
            name: name.parse()?,
        })
    }
}

impl fmt::Display for BootName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Some(kind) => write!(f, "{kind}.{}", self.name),
            None => self.name.fmt(f),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "disk",
            Self::Net => "net",
        })
    }
}

text_schema!(
    BootName,
    "^((disk|net)\\.)?[A-Za-z][A-Za-z0-9_-]{0,19}$",
    ["root", "net.lan"]
);

impl Serialize for BootName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BootName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize(deserializer, "the name of a disk or a network")
    }
}
