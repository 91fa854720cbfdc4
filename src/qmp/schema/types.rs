//! Types as the schema has them, and in a few words.

use serde::Deserialize;

use super::{Error, Schema};

/// One entry of `query-qmp-schema`, without its name.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    tag = "meta-type",
    rename_all = "lowercase",
    rename_all_fields = "kebab-case"
)]
pub(super) enum Entity {
    Builtin { json_type: String },
    Enum { values: Vec<String> },
    Array { element_type: String },
    Object(Object),
    Alternate { members: Vec<Alternative> },
    Command { arg_type: String, ret_type: String },
    Event,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Object {
    pub members: Vec<Member>,
    /// The member whose value decides which variant's members there are, too.
    #[serde(default)]
    pub tag: Option<String>,
    #[serde(default)]
    pub variants: Vec<Variant>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Member {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// There, and mostly null, for a member that can be left out.
    #[serde(default, rename = "default", deserialize_with = "is_there")]
    pub optional: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Variant {
    pub case: String,
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Alternative {
    #[serde(rename = "type")]
    pub kind: String,
}

fn is_there<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl Schema {
    /// The values of the enumeration that has `value` among them: the schema does
    /// not tell what enumerations are called.
    pub fn enumeration_with(&self, value: &str) -> Option<Vec<String>> {
        let quoted = format!("\"{value}\"");
        let lines = self.0.lines().filter(|line| line.contains(&quoted));
        lines
            .filter_map(|line| serde_json::from_str(line.split_once(' ')?.1).ok())
            .find_map(|entity| match entity {
                Entity::Enum { values } if values.iter().any(|one| one == value) => Some(values),
                _ => None,
            })
    }

    pub(super) fn object(&self, name: &str) -> Result<Object, Error> {
        match self.entity(name)? {
            Entity::Object(object) => Ok(object),
            _ => Err(Error::Schema(format!("type {name} is no object"))),
        }
    }

    /// The object that a value of type `name` is, or that its elements are, if any.
    pub(super) fn object_in(&self, name: &str) -> Result<Option<String>, Error> {
        Ok(match self.entity(name)? {
            Entity::Object(_) => Some(name.to_owned()),
            Entity::Array { element_type } => self.object_in(&element_type)?,
            Entity::Alternate { members } => {
                for member in members {
                    if let Some(found) = self.object_in(&member.kind)? {
                        return Ok(Some(found));
                    }
                }
                None
            }
            _ => None,
        })
    }

    /// A type in a few words: `int`, `on | off`, `[string]`, `string | object`.
    pub(super) fn kind(&self, name: &str) -> Result<String, Error> {
        Ok(match self.entity(name)? {
            // What QEMU calls a value that may be anything.
            Entity::Builtin { json_type } if json_type == "value" => "any".to_owned(),
            Entity::Builtin { json_type } => json_type,
            Entity::Enum { values } => values.join(" | "),
            Entity::Array { element_type } => format!("[{}]", self.kind(&element_type)?),
            Entity::Alternate { members } => {
                let kinds: Vec<_> = members
                    .iter()
                    .map(|member| self.kind(&member.kind))
                    .collect::<Result<_, _>>()?;
                kinds.join(" | ")
            }
            Entity::Object(_) => "object".to_owned(),
            Entity::Command { .. } | Entity::Event => {
                return Err(Error::Schema(format!("{name} is no type")));
            }
        })
    }
}
