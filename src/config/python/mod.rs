//! The definitions of Python maqet, said in ours.
//!
//! They are YAML with eight keys of their own. What has a key here gets it, in the
//! place where it was written; what has none is passed to QEMU as it is. What would
//! be lost is a mistake.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::error::{Mistake, Position};
use super::yaml::{Map, Node, Value};

mod arguments;
mod network;
mod option;
mod storage;
#[cfg(test)]
mod tests;

use option::Opt;

/// All the keys that it knew.
const KEYS: [&str; 8] = [
    "name",
    "binary",
    "memory",
    "cpu",
    "display",
    "vga",
    "args",
    "arguments",
];
const STORAGE: &str = "storage";

/// Whether a definition is one of Python maqet's: it has a key that only those have.
pub(super) fn is_python(root: &Node<'_>) -> bool {
    let Value::Map(map) = root.get_ref() else {
        return false;
    };
    map.iter().any(|(key, value)| match &**key.get_ref() {
        "binary" | "args" | "arguments" | STORAGE => true,
        "cpu" => count(value).is_some(),
        _ => false,
    })
}

/// A number of CPUs, written as a number or as a text.
fn count(node: &Node<'_>) -> Option<i64> {
    match node.get_ref() {
        Value::Number(DeValue::Integer(number)) => number.to_string().parse().ok(),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

/// A definition in our keys, and what its owner should know of it.
pub(super) struct Converted<'a> {
    pub(super) tree: Spanned<DeTable<'a>>,
    pub(super) notes: Vec<String>,
    pub(super) mistakes: Vec<Mistake>,
}

/// Converts a definition for which [`is_python`] holds. `dir` is where its file lies.
pub(super) fn convert<'a>(text: &'a str, root: Node<'a>, dir: &Path) -> Converted<'a> {
    let span = root.span();
    let map = match root.into_inner() {
        Value::Map(map) => map,
        _ => Map::new(),
    };
    // What stands nowhere is told at the beginning.
    let nowhere = span.start..span.start;
    let mut converter = Converter {
        text,
        dir,
        tree: DeTable::new(),
        passed: Vec::new(),
        notes: Vec::new(),
        mistakes: Vec::new(),
    };
    converter.definition(map, &nowhere);
    Converted {
        tree: Spanned::new(span, converter.tree),
        notes: converter.notes,
        mistakes: converter.mistakes,
    }
}

struct Converter<'d, 'a> {
    text: &'a str,
    dir: &'d Path,
    tree: DeTable<'a>,
    /// Arguments for QEMU that have no key.
    passed: Vec<Spanned<DeValue<'a>>>,
    notes: Vec<String>,
    mistakes: Vec<Mistake>,
}

impl<'a> Converter<'_, 'a> {
    fn definition(&mut self, map: Map<'a>, nowhere: &Range<usize>) {
        let mut options = Vec::new();
        for (key, value) in map {
            let span = value.span();
            match (&**key.get_ref(), value.get_ref()) {
                (_, Value::Null) => self.mistake(key.span(), "has no value: leave the key out"),
                ("name", _) => self.scalar("name", &value),
                ("binary", Value::Text(path)) => {
                    let path = plain_path(path);
                    self.set("qemu.binary", &span, text(path));
                }
                ("memory", _) => self.option("m", &value, &mut options),
                ("cpu", _) => self.option("smp", &value, &mut options),
                ("display" | "vga", _) => {
                    let name = key.get_ref().clone();
                    self.option(&name, &value, &mut options);
                }
                ("args", Value::List(items)) => self.args(items, &mut options),
                ("arguments", Value::List(items)) => self.arguments(items, &mut options),
                (STORAGE, Value::List(items)) => self.storage(items),
                ("args" | "arguments" | STORAGE, _) => self.mistake(span, "expected a list"),
                ("binary", _) => self.mistake(span, "expected a path"),
                (word, _) => {
                    let message = format!(
                        "`{}` is no key of Python maqet, whose definition this is: those are `{}`, `{STORAGE}`",
                        word.escape_debug(),
                        KEYS.join("`, `")
                    );
                    self.mistake(key.span(), message);
                }
            }
        }
        self.options(options, nowhere);
        if !self.passed.is_empty() {
            let words: Vec<String> = self
                .passed
                .iter()
                .filter_map(|word| word.get_ref().as_str().map(str::to_owned))
                .collect();
            self.notes.push(format!(
                "passed to QEMU as it is: {}; see maqet.toml(5) for what has a key of its own",
                shown(&words)
            ));
            let mut list = DeArray::new();
            for word in std::mem::take(&mut self.passed) {
                list.push(word);
            }
            self.set("qemu.args", nowhere, DeValue::Array(list));
        }
    }

    /// A value that is an option of QEMU, too.
    fn option(&mut self, name: &str, value: &Node<'a>, options: &mut Vec<Opt>) {
        match scalar(value.get_ref()) {
            Some(word) => options.push(Opt::new(name, Some(word), value.span())),
            None => self.mistake(value.span(), "expected a text or a number"),
        }
    }

    fn scalar(&mut self, key: &str, value: &Node<'a>) {
        match scalar(value.get_ref()) {
            Some(word) => self.set(key, &value.span(), text(word)),
            None => self.mistake(value.span(), "expected a text"),
        }
    }

    /// Gives one of our keys its value. Two that differ are a mistake.
    fn set(&mut self, key: &str, span: &Range<usize>, value: DeValue<'a>) {
        let mut table = &mut self.tree;
        let mut words = key.split('.').peekable();
        while let Some(word) = words.next() {
            let name = Spanned::new(span.clone(), Cow::Owned(word.to_owned()));
            if words.peek().is_none() {
                match table.get(word) {
                    Some(old) if said(old.get_ref()) != said(&value) => {
                        let message = format!("sets `{key}`, which is set already");
                        return self.mistake(span.clone(), message);
                    }
                    _ => table.insert(name, Spanned::new(span.clone(), value)),
                };
                return;
            }
            let inner = table
                .entry(name)
                .or_insert_with(|| Spanned::new(span.clone(), DeValue::Table(DeTable::new())));
            let DeValue::Table(inner) = inner.get_mut() else {
                unreachable!("no key here is both a value and a table");
            };
            table = inner;
        }
    }

    /// Whether one of our keys of the top level is set.
    fn says(&self, key: &str) -> bool {
        self.tree.get(key).is_some()
    }

    fn pass(&mut self, span: &Range<usize>, word: impl Into<String>) {
        self.passed.push(Spanned::new(span.clone(), text(word)));
    }

    fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    fn mistake(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.mistakes.push(Mistake {
            at: Some(Position::new(self.text, span)),
            message: message.into(),
        });
    }

    /// The path that a text means: relative to the file, and nothing in it stands for something else.
    fn absolute(&self, path: &str) -> String {
        let joined = self.dir.join(path);
        let absolute = std::path::absolute(&joined).unwrap_or(joined);
        absolute.to_str().unwrap_or(path).to_owned()
    }
}

/// A single value as it was written.
fn said(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Arguments as a shell would take them.
fn shown(words: &[String]) -> String {
    let words: Vec<_> = words
        .iter()
        .map(|word| shlex::try_quote(word).unwrap_or(Cow::Borrowed(word)))
        .collect();
    words.join(" ")
}

fn text<'a>(word: impl Into<String>) -> DeValue<'a> {
    DeValue::String(Cow::Owned(word.into()))
}

/// A path so written that `~` and `$` in it mean themselves.
fn plain_path(path: &str) -> String {
    super::path_text(Path::new(path)).unwrap_or_default()
}

/// A single value as QEMU is told it: what is true is `on`.
fn scalar(value: &Value<'_>) -> Option<String> {
    Some(match value {
        Value::Bool(true) => "on".to_owned(),
        Value::Bool(false) => "off".to_owned(),
        Value::Text(text) => text.clone().into_owned(),
        Value::Number(DeValue::Integer(number)) => number.to_string(),
        Value::Number(DeValue::Float(number)) => number.to_string(),
        _ => return None,
    })
}
