//! Words turned into arguments: `key=value`, where `key` may lead into an object
//! (`file.filename=…`) or a list (`addr.0=…`), and `key:=JSON`.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::types::{Entity, Member};
use super::{Error, Schema, or};
use crate::nearest::nearest;

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

/// Of an enumeration with more values than this, an error does not tell them all.
const TOLD: usize = 24;

impl Schema {
    /// Checks that `query-status` can answer with this state.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] if it cannot.
    pub fn check_state(&self, state: &str) -> Result<(), Error> {
        let (_, answer) = self.command("query-status")?;
        let status = self.object(&answer)?.members;
        match status.iter().find(|member| member.name == "status") {
            Some(status) => {
                let state = Node::Text(state.to_owned());
                self.value(&status.kind, state, "state").map(drop)
            }
            None => Ok(()),
        }
    }

    /// The arguments of `command` that `words` say, typed as QEMU wants them.
    ///
    /// `further` has the types of arguments that the schema leaves open: those of
    /// the device that `device_add` is to make.
    ///
    /// # Errors
    ///
    /// [`Error`] names the first word that makes no sense.
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
        self.object_value(&arg_type, said, "", further)
    }

    fn object_value(
        &self,
        name: &str,
        said: Said,
        path: &str,
        further: &Further,
    ) -> Result<Value, Error> {
        let members = self.members_with(name, &said, path)?;
        let mut object = Map::new();
        for (key, node) in said.0 {
            let here = format!("{path}{key}");
            let member = members.iter().find(|member| member.name == key);
            let value = match (member, further.get(&key)) {
                (Some(member), _) => self.value(&member.kind, node, &here)?,
                (None, Some(kind)) if path.is_empty() => kind.value(node, &here)?,
                (None, _) => {
                    let known = members.iter().map(|member| &member.name);
                    let further = further.keys().filter(|_| path.is_empty());
                    return Err(Error::NoArgument {
                        nearest: nearest(&key, known.chain(further))
                            .into_iter()
                            .map(|near| format!("{path}{near}"))
                            .collect(),
                        key: here,
                    });
                }
            };
            object.insert(key, value);
        }
        // Last, as what is missing was mostly misspelt.
        for member in &members {
            if !member.optional && !object.contains_key(&member.name) {
                return Err(Error::Missing(format!("{path}{}", member.name)));
            }
        }
        Ok(Value::Object(object))
    }

    /// The members that an object has with what is `said` of the one that decides.
    fn members_with(&self, name: &str, said: &Said, path: &str) -> Result<Vec<Member>, Error> {
        let object = self.object(name)?;
        let mut members = object.members;
        let Some(tag) = object.tag else {
            return Ok(members);
        };
        let Some(member) = members.iter().find(|member| member.name == tag) else {
            return Err(Error::Schema(format!("type {name} has no member {tag}")));
        };
        // What decides about the others comes first, so that it is blamed first.
        let case = match said.0.get(&tag) {
            Some(node) => self.value(&member.kind, node.clone(), &format!("{path}{tag}"))?,
            None if member.optional => Value::Null,
            None => return Err(Error::Missing(format!("{path}{tag}"))),
        };
        let variant = object.variants.iter().find(|variant| case == *variant.case);
        if let Some(variant) = variant {
            members.extend(self.members_with(&variant.kind, said, path)?);
        }
        Ok(members)
    }

    fn value(&self, kind: &str, node: Node, path: &str) -> Result<Value, Error> {
        let wrong = |value: &str, expected: String| Error::Value {
            key: path.to_owned(),
            value: value.to_owned(),
            expected,
        };
        match (self.entity(kind)?, node) {
            (_, Node::Json(value)) => Ok(value),
            (Entity::Alternate { members }, node) => {
                let mut first = None;
                // Text is what everything else could be written as, too.
                let (mut kinds, mut texts) = (Vec::new(), Vec::new());
                for member in members {
                    match self.kind(&member.kind)?.as_str() {
                        "string" => texts.push(member.kind),
                        _ => kinds.push(member.kind),
                    }
                }
                for kind in kinds.into_iter().chain(texts) {
                    match self.value(&kind, node.clone(), path) {
                        Ok(value) => return Ok(value),
                        Err(error) => first = first.or(Some(error)),
                    }
                }
                Err(first.unwrap_or_else(|| Error::Schema(format!("type {kind} is nothing"))))
            }
            (Entity::Array { element_type }, node) => node
                .elements()
                .ok_or_else(|| wrong("…", format!("{path}.0=, {path}.1= and so on")))?
                .into_iter()
                .enumerate()
                .map(|(index, node)| self.value(&element_type, node, &format!("{path}.{index}")))
                .collect(),
            (_, Node::Several(_)) => Err(Error::Twice(path.to_owned())),
            (Entity::Builtin { json_type }, Node::Text(text)) => {
                builtin(&json_type, &text).ok_or_else(|| wrong(&text, article(&json_type)))
            }
            (Entity::Enum { values }, Node::Text(text)) => {
                if values.contains(&text) {
                    return Ok(Value::String(text));
                }
                let near: Vec<String> = nearest(&text, &values).into_iter().cloned().collect();
                let known = match values.len() {
                    ..=TOLD => format!("one of {}", values.join(", ")),
                    many => format!("one of {many} values"),
                };
                Err(wrong(&text, known + &or(&near)))
            }
            (Entity::Object(_), Node::Inside(said)) => {
                self.object_value(kind, said, &format!("{path}."), &Further::new())
            }
            (Entity::Object(_), Node::Text(text)) => Err(wrong(
                &text,
                format!("an object: {path}.KEY=VALUE, or {path}:=JSON"),
            )),
            // A type of which nothing is known: what is said is what it is.
            (Entity::Builtin { json_type }, Node::Inside(said)) if json_type == "value" => {
                Ok(said.untyped())
            }
            (_, Node::Inside(_)) => Err(wrong("…", article(&self.kind(kind)?))),
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
            Node::Several(_) => Err(Error::Twice(path.to_owned())),
            Node::Inside(_) => Err(Error::NoArgument {
                key: format!("{path}."),
                nearest: Vec::new(),
            }),
        }
    }
}

/// What words said, key by key.
#[derive(Clone, Debug, Default)]
pub(super) struct Said(BTreeMap<String, Node>);

#[derive(Clone, Debug)]
enum Node {
    Text(String),
    Json(Value),
    Inside(Said),
    /// The same key again and again: the elements of a list.
    Several(Vec<Node>),
}

impl Said {
    /// What was said of the object or the list that is `key`'s value.
    pub(super) fn inside(&self, key: &str) -> Option<&Self> {
        match self.0.get(key) {
            Some(Node::Inside(said)) => Some(said),
            _ => None,
        }
    }

    /// The value of `key`, if it is a text.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.0.get(key) {
            Some(Node::Text(text) | Node::Json(Value::String(text))) => Some(text),
            _ => None,
        }
    }

    /// Whether `key` has a value, and not only parts of one.
    pub(super) fn has_value(&self, key: &str) -> bool {
        matches!(self.0.get(key), Some(Node::Text(_) | Node::Json(_)))
    }

    pub(super) fn add(&mut self, word: &str) -> Result<(), Error> {
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
        let twice = || Error::Twice(key.to_owned());
        let mut place = self;
        let (way, last) = match key.rsplit_once('.') {
            Some((way, last)) => (Some(way), last),
            None => (None, key),
        };
        for step in way.iter().flat_map(|way| way.split('.')) {
            if step.is_empty() {
                return Err(no_word());
            }
            let inside = place.0.entry(step.to_owned());
            place = match inside.or_insert_with(|| Node::Inside(Self::default())) {
                Node::Inside(said) => said,
                _ => return Err(twice()),
            };
        }
        if last.is_empty() {
            return Err(no_word());
        }
        match place.0.get_mut(last) {
            None => {
                place.0.insert(last.to_owned(), node);
            }
            Some(Node::Several(nodes)) => nodes.push(node),
            Some(Node::Inside(_)) => return Err(twice()),
            Some(first) => {
                let first_node = std::mem::replace(first, Node::Several(Vec::new()));
                *first = Node::Several(vec![first_node, node]);
            }
        }
        Ok(())
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

    fn untyped(self) -> Value {
        match self.clone().in_order() {
            Some(nodes) => nodes.into_iter().map(Node::untyped).collect(),
            None => self
                .0
                .into_iter()
                .map(|(key, node)| (key, node.untyped()))
                .collect(),
        }
    }
}

impl Node {
    /// The elements of a list; one word is a list of one.
    fn elements(self) -> Option<Vec<Self>> {
        match self {
            Self::Several(nodes) => Some(nodes),
            Self::Inside(said) => said.in_order(),
            text => Some(vec![text]),
        }
    }

    fn untyped(self) -> Value {
        match self {
            Self::Json(value) => value,
            // Anything goes: JSON if it is, text otherwise.
            Self::Text(text) => serde_json::from_str(&text).unwrap_or_else(|_| text.into()),
            Self::Inside(said) => said.untyped(),
            Self::Several(nodes) => nodes.into_iter().map(Self::untyped).collect(),
        }
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
        _ => Some(Node::Text(text.to_owned()).untyped()),
    }
}

/// A whole number: decimal, 0x…, or with a binary suffix (K, M, G, T, P, E).
fn integer(text: &str) -> Option<Value> {
    if let Some(hex) = text.strip_prefix("0x") {
        // Not from_str_radix's sign.
        let digits = hex.bytes().all(|b| b.is_ascii_hexdigit());
        return u64::from_str_radix(hex, 16)
            .ok()
            .filter(|_| digits)
            .map(Value::from);
    }
    if let Ok(number) = text.parse::<i64>() {
        return Some(number.into());
    }
    if let Ok(number) = text.parse::<u64>() {
        return Some(number.into());
    }
    let suffix = text.chars().last()?.to_ascii_uppercase();
    let power = "KMGTPE".find(suffix)? + 1;
    text[..text.len() - 1]
        .parse::<u64>()
        .ok()?
        .checked_mul(1 << (10 * power))
        .map(Value::from)
}

fn article(json_type: &str) -> String {
    match json_type {
        "int" => "a whole number, such as 512, 0x200 or 4K".to_owned(),
        "boolean" => "on or off".to_owned(),
        other => format!("a {other}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::schema;
    use super::*;

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
            // An alternate: a name, nothing, or an object.
            (
                "blockdev-add driver=qcow2 file=base backing=null",
                json!({"driver": "qcow2", "file": "base", "backing": null}),
            ),
            (
                "blockdev-add driver:=\"qcow2\" file:={\"driver\":\"null-co\"}",
                json!({"driver": "qcow2", "file": {"driver": "null-co"}}),
            ),
            ("balloon value=1G", json!({"value": 1 << 30})),
            ("balloon value=2e", json!({"value": 2u64 << 60})),
            ("balloon value=0x10", json!({"value": 16})),
            ("balloon value=-1", json!({"value": -1})),
            (
                "balloon value=18446744073709551615",
                json!({"value": u64::MAX}),
            ),
            (
                "send-key keys.0.type=qcode keys.0.data=ctrl keys.1.type=number keys.1.data=30",
                json!({"keys": [{"type": "qcode", "data": "ctrl"}, {"type": "number", "data": 30}]}),
            ),
            // The same key again, or once: a list.
            (
                "announce-self initial=1 max=2 rounds=3 step=4 interfaces=a interfaces=b",
                json!({"initial": 1, "max": 2, "rounds": 3, "step": 4, "interfaces": ["a", "b"]}),
            ),
            (
                "announce-self initial=1 max=2 rounds=3 step=4 interfaces=a",
                json!({"initial": 1, "max": 2, "rounds": 3, "step": 4, "interfaces": ["a"]}),
            ),
            // What may be anything is what it looks like.
            (
                "qom-set path=/x property=y value:={\"a\":[1]}",
                json!({"path": "/x", "property": "y", "value": {"a": [1]}}),
            ),
            (
                "qom-set path=/x property=y value.a=1 value.b.0=on",
                json!({"path": "/x", "property": "y", "value": {"a": 1, "b": ["on"]}}),
            ),
            // A union within the variant of a union.
            (
                "netdev_add type=stream id=n addr.type=inet addr.host=::1 addr.port=80",
                json!({"type": "stream", "id": "n",
                       "addr": {"type": "inet", "host": "::1", "port": "80"}}),
            ),
        ] {
            assert_eq!(arguments(&schema, line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn a_mistake_is_named_with_the_nearest_right_words() {
        let schema = schema();
        for (line, words) in [
            (
                "query-statsu",
                "no command `query-statsu`, did you mean `query-status` or `query-stats`?",
            ),
            (
                "balloon vlaue=1",
                "there is no argument `vlaue`, did you mean `value`?",
            ),
            ("balloon", "the argument `value` is missing"),
            ("balloon value=1 extra=2", "there is no argument `extra`"),
            ("balloon value=1 value=2", "`value` is given twice"),
            ("balloon value=1 value.a=2", "`value.a` is given twice"),
            ("balloon value.a=2", "expected a whole number"),
            ("balloon value=lots", "expected a whole number"),
            ("balloon value=0x+1", "expected a whole number"),
            ("balloon value=17179869184G", "expected a whole number"),
            ("balloon value=ä", "expected a whole number"),
            ("set_link name=a up=maybe", "expected on or off"),
            // What decides about the others is looked at first.
            (
                "blockdev-add a=1 driver=qcow22 file=a",
                "did you mean `qcow2`?",
            ),
            ("blockdev-add size=1", "the argument `driver` is missing"),
            (
                "blockdev-add driver=qcow2 file.driver=file file.filenam=a",
                "there is no argument `file.filenam`, did you mean `file.filename`?",
            ),
            (
                "blockdev-add driver=qcow2 file=a read-onyl=on",
                "there is no argument `read-onyl`, did you mean `read-only`?",
            ),
            (
                "send-key keys.0.type=qcode keys.0.data=cttrl",
                "values, did you mean `ctrl`?",
            ),
            (
                "send-key keys.1.type=qcode keys.1.data=ctrl",
                "expected keys.0=",
            ),
            ("balloon value", "write key=value"),
            ("balloon =1", "write key=value"),
            ("balloon a..b=1", "write key=value"),
            ("balloon value:={", "expected JSON"),
        ] {
            let said = arguments(&schema, line).unwrap_err().to_string();
            assert!(said.contains(words), "{line}: {said}");
        }
    }
}
