//! QEMU's own description of its commands, and words turned into arguments by it.
//!
//! The answer to `query-qmp-schema` names types by numbers and holds all of them
//! (qapi/introspect.json in QEMU). Words are `key=value`, where `key` may lead
//! into an object (`file.filename=…`) or a list (`addr.0=…`), and `key:=JSON`.

use std::collections::BTreeMap;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// What one QEMU understands.
#[derive(Clone, Debug)]
pub struct Schema(HashMap<String, Entity>);

/// Why words are not arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The schema lacks something that it refers to.
    #[error("QEMU's schema is not what was expected: {0}")]
    Schema(String),
    /// There is no such command.
    #[error("QEMU has no command `{command}`{}", or(.nearest.as_deref()))]
    NoCommand {
        /// The command.
        command: String,
        /// The nearest one there is.
        nearest: Option<String>,
    },
    /// There is no such device driver.
    #[error("QEMU has no device `{driver}`{}", or(.nearest.as_deref()))]
    NoDriver {
        /// The driver.
        driver: String,
        /// The nearest one there is.
        nearest: Option<String>,
    },
    /// The command has no such argument.
    #[error("there is no argument `{key}`{}", or(.nearest.as_deref()))]
    NoArgument {
        /// The argument, with the path that leads to it.
        key: String,
        /// The nearest one there is.
        nearest: Option<String>,
    },
    /// The command cannot do without this argument.
    #[error("the argument `{0}` is missing")]
    Missing(String),
    /// A value is not of its argument's type.
    #[error("`{key}={value}`: expected {expected}")]
    Value {
        /// The argument.
        key: String,
        /// The value as written.
        value: String,
        /// What it should have been.
        expected: String,
    },
    /// A word is neither `key=value` nor `key:=JSON`.
    #[error("`{0}` is not an argument: write key=value, or key:=JSON")]
    Word(String),
}

impl Error {
    /// [`NoDriver`](Self::NoDriver), with the nearest of those that are `known`.
    pub fn no_driver<'a>(driver: &str, known: impl Iterator<Item = &'a str>) -> Self {
        Self::NoDriver {
            driver: driver.to_owned(),
            nearest: nearest(driver, known),
        }
    }
}

fn or(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(", did you mean `{name}`?"))
}

/// One entry of `query-qmp-schema`.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    tag = "meta-type",
    rename_all = "lowercase",
    rename_all_fields = "kebab-case"
)]
enum Entity {
    Builtin {
        json_type: String,
    },
    Enum {
        values: Vec<String>,
    },
    Array {
        element_type: String,
    },
    Object {
        members: Vec<Member>,
        #[serde(default)]
        tag: Option<String>,
        #[serde(default)]
        variants: Vec<Variant>,
    },
    Alternate {
        members: Vec<Alternative>,
    },
    Command {
        arg_type: String,
        ret_type: String,
    },
    Event,
}

#[derive(Clone, Debug, Deserialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    entity: Entity,
}

#[derive(Clone, Debug, Deserialize)]
struct Member {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    /// There, and mostly null, for an argument that can be left out.
    #[serde(default, deserialize_with = "is_there")]
    default: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct Variant {
    case: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Alternative {
    #[serde(rename = "type")]
    kind: String,
}

fn is_there<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// An argument as described to people.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Argument {
    /// Its key.
    pub name: String,
    /// Its type: `int`, `string`, `on | off`, `object`, `[string]` …
    pub kind: String,
    /// Whether it can be left out.
    pub optional: bool,
    /// Only with this value of the argument that decides, such as `driver=qcow2`.
    pub only_with: Option<String>,
}

/// Types of arguments that the schema does not know, by key; see [`Schema::arguments`].
pub type Further = HashMap<String, FurtherType>;

/// A type that is told in another way than by the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FurtherType {
    /// A whole number.
    Int,
    /// Yes or no.
    Bool,
    /// Text.
    Text,
}

impl Schema {
    /// Reads the answer to `query-qmp-schema`.
    pub fn parse(answer: Value) -> Result<Self, Error> {
        let entities: Vec<Named> =
            serde_json::from_value(answer).map_err(|error| Error::Schema(error.to_string()))?;
        Ok(Self(
            entities
                .into_iter()
                .map(|named| (named.name, named.entity))
                .collect(),
        ))
    }

    /// The names of all commands, sorted.
    pub fn commands(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .0
            .iter()
            .filter(|(_, entity)| matches!(entity, Entity::Command { .. }))
            .map(|(name, _)| name.as_str())
            .collect();
        names.sort_unstable();
        names
    }

    /// The arguments of a command, and the type of its answer.
    pub fn describe(&self, command: &str) -> Result<(Vec<Argument>, String), Error> {
        let (arg_type, ret_type) = self.command(command)?;
        Ok((self.members_described(arg_type)?, self.kind(ret_type)))
    }

    fn members_described(&self, object: &str) -> Result<Vec<Argument>, Error> {
        let Entity::Object {
            members,
            tag,
            variants,
        } = self.entity(object)?
        else {
            return Err(Error::Schema(format!("type {object} is no object")));
        };
        let argument = |member: &Member, only_with: Option<String>| Argument {
            name: member.name.clone(),
            kind: self.kind(&member.kind),
            optional: member.default,
            only_with,
        };
        let mut all: Vec<Argument> = members
            .iter()
            .map(|member| argument(member, None))
            .collect();
        for variant in variants {
            let case = format!("{}={}", tag.as_deref().unwrap_or_default(), variant.case);
            if let Entity::Object { members, .. } = self.entity(&variant.kind)? {
                all.extend(
                    members
                        .iter()
                        .map(|member| argument(member, Some(case.clone()))),
                );
            }
        }
        Ok(all)
    }

    /// A type in a few words.
    fn kind(&self, name: &str) -> String {
        match self.0.get(name) {
            Some(Entity::Builtin { json_type }) => json_type.clone(),
            Some(Entity::Enum { values }) => values.join(" | "),
            Some(Entity::Array { element_type }) => format!("[{}]", self.kind(element_type)),
            Some(Entity::Alternate { members }) => members
                .iter()
                .map(|member| self.kind(&member.kind))
                .collect::<Vec<_>>()
                .join(" | "),
            _ => "object".to_owned(),
        }
    }

    /// The arguments of `command` that `words` say, typed as QEMU wants them.
    ///
    /// `further` has the types of arguments that the schema leaves open: those of
    /// the device that `device_add` is to make.
    pub fn arguments(
        &self,
        command: &str,
        words: &[String],
        further: &Further,
    ) -> Result<Value, Error> {
        let (arg_type, _) = self.command(command)?;
        let mut said = Said::default();
        for word in words {
            said.add(word)?;
        }
        self.object(arg_type, said, "", further)
    }

    fn command(&self, command: &str) -> Result<(&str, &str), Error> {
        match self.0.get(command) {
            Some(Entity::Command { arg_type, ret_type }) => Ok((arg_type, ret_type)),
            _ => Err(Error::NoCommand {
                command: command.to_owned(),
                nearest: nearest(command, self.commands().into_iter()),
            }),
        }
    }

    fn entity(&self, name: &str) -> Result<&Entity, Error> {
        self.0
            .get(name)
            .ok_or_else(|| Error::Schema(format!("it has no type {name}")))
    }

    fn object(
        &self,
        name: &str,
        said: Said,
        path: &str,
        further: &Further,
    ) -> Result<Value, Error> {
        let Entity::Object {
            members,
            tag,
            variants,
        } = self.entity(name)?
        else {
            return Err(Error::Schema(format!("type {name} is no object")));
        };
        let mut members: Vec<&Member> = members.iter().collect();
        // What decides about the other arguments comes first, so that it is blamed first.
        if let Some(tag) = tag
            && let Some(node) = said.0.get(tag)
            && let Some(member) = members.iter().find(|member| member.name == *tag)
        {
            self.value(&member.kind, node.clone(), &format!("{path}{tag}"))?;
        }
        if let Some(Node::Text(case)) = tag.as_ref().and_then(|tag| said.0.get(tag))
            && let Some(variant) = variants.iter().find(|variant| variant.case == *case)
            && let Entity::Object { members: more, .. } = self.entity(&variant.kind)?
        {
            members.extend(more);
        }
        let mut object = Map::new();
        for (key, node) in said.0 {
            let here = format!("{path}{key}");
            let value = match (
                members.iter().find(|member| member.name == key),
                further.get(&key),
            ) {
                (Some(member), _) => self.value(&member.kind, node, &here)?,
                (None, Some(kind)) if path.is_empty() => kind.value(node, &here)?,
                (None, _) => {
                    let known = members.iter().map(|member| member.name.as_str());
                    let further = further
                        .keys()
                        .map(String::as_str)
                        .filter(|_| path.is_empty());
                    return Err(Error::NoArgument {
                        nearest: nearest(&key, known.chain(further)),
                        key: here,
                    });
                }
            };
            object.insert(key, value);
        }
        // Last, as what is missing was mostly misspelt.
        for member in &members {
            if !member.default && !object.contains_key(&member.name) {
                return Err(Error::Missing(format!("{path}{}", member.name)));
            }
        }
        Ok(Value::Object(object))
    }

    fn value(&self, kind: &str, node: Node, path: &str) -> Result<Value, Error> {
        let wrong = |value: &str, expected: String| Error::Value {
            key: path.to_owned(),
            value: value.to_owned(),
            expected,
        };
        let inside = format!("{path}.");
        match (self.entity(kind)?, node) {
            (_, Node::Json(value)) => Ok(value),
            (Entity::Builtin { json_type }, Node::Text(text)) => {
                builtin(json_type, &text).ok_or_else(|| wrong(&text, article(json_type)))
            }
            (Entity::Enum { values }, Node::Text(text)) => {
                if values.contains(&text) {
                    return Ok(Value::String(text));
                }
                let near = or(nearest(&text, values.iter().map(String::as_str)).as_deref());
                Err(wrong(&text, format!("one of {}{near}", values.join(", "))))
            }
            (Entity::Array { element_type }, Node::Inside(said)) => said
                .in_order()
                .ok_or_else(|| wrong("…", format!("{path}.0=, {path}.1= and so on")))?
                .into_iter()
                .map(|node| self.value(element_type, node, path))
                .collect(),
            // One word is a list of one.
            (Entity::Array { element_type }, text) => {
                Ok(Value::Array(vec![self.value(element_type, text, path)?]))
            }
            (Entity::Object { .. }, Node::Inside(said)) => {
                self.object(kind, said, &inside, &Further::new())
            }
            (Entity::Alternate { members }, node) => {
                let mut first = None;
                // Text is what everything else could be written as, too.
                let (texts, others): (Vec<_>, Vec<_>) = members
                    .iter()
                    .partition(|member| self.kind(&member.kind) == "string");
                for member in others.into_iter().chain(texts) {
                    match self.value(&member.kind, node.clone(), path) {
                        Ok(value) => return Ok(value),
                        Err(error) => first = first.or(Some(error)),
                    }
                }
                Err(first.unwrap_or_else(|| wrong("…", self.kind(kind))))
            }
            (Entity::Object { .. }, Node::Text(text)) => Err(wrong(
                &text,
                format!("an object: {path}.KEY=VALUE, or {path}:=JSON"),
            )),
            (_, Node::Inside(_)) => Err(wrong("…", article(&self.kind(kind)))),
            (Entity::Command { .. } | Entity::Event, Node::Text(_)) => {
                Err(Error::Schema(format!("{kind} is no type")))
            }
        }
    }
}

impl FurtherType {
    fn value(self, node: Node, path: &str) -> Result<Value, Error> {
        let json_type = match self {
            Self::Int => "int",
            Self::Bool => "boolean",
            Self::Text => "string",
        };
        match node {
            Node::Json(value) => Ok(value),
            Node::Text(text) => builtin(json_type, &text).ok_or_else(|| Error::Value {
                key: path.to_owned(),
                expected: article(json_type),
                value: text,
            }),
            Node::Inside(_) => Err(Error::NoArgument {
                key: format!("{path}."),
                nearest: None,
            }),
        }
    }
}

/// What words said, key by key.
#[derive(Clone, Debug, Default)]
struct Said(BTreeMap<String, Node>);

#[derive(Clone, Debug)]
enum Node {
    Text(String),
    Json(Value),
    Inside(Said),
}

impl Said {
    fn add(&mut self, word: &str) -> Result<(), Error> {
        let no_word = || Error::Word(word.to_owned());
        let (key, text) = word.split_once('=').ok_or_else(no_word)?;
        let (key, node) = match key.strip_suffix(':') {
            Some(key) => {
                let json = serde_json::from_str(text).map_err(|error| Error::Value {
                    key: key.to_owned(),
                    value: text.to_owned(),
                    expected: format!("JSON ({error})"),
                })?;
                (key, Node::Json(json))
            }
            None => (key, Node::Text(text.to_owned())),
        };
        let mut place = self;
        let mut steps = key.split('.').peekable();
        while let Some(step) = steps.next() {
            if step.is_empty() {
                return Err(no_word());
            }
            if steps.peek().is_none() {
                place.0.insert(step.to_owned(), node);
                return Ok(());
            }
            let inside = place
                .0
                .entry(step.to_owned())
                .or_insert_with(|| Node::Inside(Self::default()));
            place = match inside {
                Node::Inside(said) => said,
                Node::Text(_) | Node::Json(_) => return Err(no_word()),
            };
        }
        Err(no_word())
    }

    /// The values of `0`, `1` … if those are all there is.
    fn in_order(self) -> Option<Vec<Node>> {
        let mut nodes: Vec<(usize, Node)> = self
            .0
            .into_iter()
            .map(|(key, node)| Some((key.parse().ok()?, node)))
            .collect::<Option<_>>()?;
        nodes.sort_by_key(|(index, _)| *index);
        let complete = nodes.iter().enumerate().all(|(i, (index, _))| i == *index);
        complete.then(|| nodes.into_iter().map(|(_, node)| node).collect())
    }
}

/// A text as a value of one of the schema's basic types.
fn builtin(json_type: &str, text: &str) -> Option<Value> {
    match json_type {
        "string" => Some(text.into()),
        "int" => integer(text),
        "number" => text
            .parse::<f64>()
            .ok()
            .map(Value::from)
            .filter(|value| !value.is_null()),
        "boolean" => match text {
            "true" | "on" | "yes" => Some(true.into()),
            "false" | "off" | "no" => Some(false.into()),
            _ => None,
        },
        "null" => (text == "null").then_some(Value::Null),
        // Anything goes: JSON if it is, text otherwise.
        _ => Some(serde_json::from_str(text).unwrap_or_else(|_| text.into())),
    }
}

/// A whole number: decimal, 0x…, or with a binary suffix (K, M, G, T).
fn integer(text: &str) -> Option<Value> {
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().map(Value::from);
    }
    if let Ok(number) = text.parse::<i64>() {
        return Some(number.into());
    }
    if let Ok(number) = text.parse::<u64>() {
        return Some(number.into());
    }
    let (digits, shift) = [('K', 10), ('M', 20), ('G', 30), ('T', 40)]
        .into_iter()
        .find_map(|(suffix, shift)| Some((text.strip_suffix(suffix)?, shift)))?;
    digits
        .parse::<u64>()
        .ok()?
        .checked_mul(1 << shift)
        .map(Value::from)
}

fn article(json_type: &str) -> String {
    match json_type {
        "int" => "a whole number, such as 512, 0x200 or 4K".to_owned(),
        "boolean" => "on or off".to_owned(),
        other => format!("a {other}"),
    }
}

/// The name that is most like `name`, if one is like it at all.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::qmp::prelaunch::Prelaunch;

    fn schema() -> Schema {
        let qemu = Prelaunch::start();
        Schema::parse(qemu.connect().execute("query-qmp-schema", ()).unwrap()).unwrap()
    }

    fn arguments(schema: &Schema, line: &str) -> Result<Value, Error> {
        let mut words = line.split(' ').map(str::to_owned);
        let command = words.next().unwrap();
        schema.arguments(&command, &words.collect::<Vec<_>>(), &Further::new())
    }

    #[test]
    fn words_become_what_qemu_wants() {
        let schema = schema();
        for (line, expected) in [
            (
                "blockdev-add driver=qcow2 node-name=a read-only=on file.driver=file file.filename=/x=y,z",
                json!({"driver": "qcow2", "node-name": "a", "read-only": true,
                       "file": {"driver": "file", "filename": "/x=y,z"}}),
            ),
            (
                "blockdev-add driver=null-co node-name=a size=4K",
                json!({"driver": "null-co", "node-name": "a", "size": 4096}),
            ),
            (
                "blockdev-add driver=qcow2 file=base",
                json!({"driver": "qcow2", "file": "base"}),
            ),
            ("balloon value=1G", json!({"value": 1 << 30})),
            ("balloon value=0x10", json!({"value": 16})),
            (
                "send-key keys.0.type=qcode keys.0.data=ctrl keys.1.type=number keys.1.data=30",
                json!({"keys": [{"type": "qcode", "data": "ctrl"}, {"type": "number", "data": 30}]}),
            ),
            (
                "qom-set path=/x property=y value:={\"a\":[1]}",
                json!({"path": "/x", "property": "y", "value": {"a": [1]}}),
            ),
        ] {
            assert_eq!(arguments(&schema, line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn a_mistake_is_named_with_the_nearest_right_word() {
        let schema = schema();
        for (line, words) in [
            (
                "query-statsu",
                "no command `query-statsu`, did you mean `query-status`?",
            ),
            (
                "balloon vlaue=1",
                "there is no argument `vlaue`, did you mean `value`?",
            ),
            ("balloon", "the argument `value` is missing"),
            ("balloon value=1 extra=2", "there is no argument `extra`"),
            ("balloon value=lots", "expected a whole number"),
            // What decides about the others is looked at first.
            (
                "blockdev-add a=1 driver=qcow22 file=a",
                "did you mean `qcow2`?",
            ),
            (
                "blockdev-add driver=qcow2 file=a read-onyl=on",
                "there is no argument `read-onyl`, did you mean `read-only`?",
            ),
            ("balloon value", "write key=value"),
            ("balloon value:={", "expected JSON"),
        ] {
            let said = arguments(&schema, line).unwrap_err().to_string();
            assert!(said.contains(words), "{line}: {said}");
        }
    }

    #[test]
    fn every_command_can_be_described() {
        let schema = schema();
        assert!(schema.commands().len() > 200);
        for command in schema.commands() {
            schema.describe(command).unwrap();
        }
        let (arguments, _) = schema.describe("blockdev-add").unwrap();
        let size = arguments.iter().find(|a| a.name == "discard").unwrap();
        assert_eq!(
            (size.kind.as_str(), size.optional),
            ("ignore | unmap", true)
        );
    }
}
