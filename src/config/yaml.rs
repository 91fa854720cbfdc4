//! YAML text into the same tree as TOML text, and that tree into TOML text.
//!
//! YAML 1.2 and its core schema: `on`, `no` and `12:30` are texts, not values of
//! other types. What could be meant in two ways (a number with leading zeros, a key
//! without a value, a second document) is a mistake rather than a guess.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table};

use super::error::{Mistake, Position};
use super::python;

/// Longest text in bytes, and how much the aliases in it may stand for.
const MAX_SIZE: usize = 1 << 20;
/// Deepest nesting. No definition needs more than five levels.
const MAX_DEPTH: usize = 32;

/// Whether a file holds YAML, told from its name.
pub(super) fn is_yaml(file: &Path) -> bool {
    file.extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("yaml") || end.eq_ignore_ascii_case("yml"))
}

/// A value in its place.
pub(super) type Node<'a> = Spanned<Value<'a>>;
/// Keys and values, in the order of the text.
pub(super) type Map<'a> = Vec<(Spanned<Cow<'a, str>>, Node<'a>)>;

/// What YAML's core schema has.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Number(DeValue<'a>),
    Text(Cow<'a, str>),
    List(Vec<Node<'a>>),
    Map(Map<'a>),
}

/// Reads a text that holds one document.
pub(super) fn parse(text: &str) -> Result<Node<'_>, Mistake> {
    // The parser takes a NUL for the end of the text.
    if let Some(at) = text.find('\0') {
        return Err(mistake(
            text,
            at..at + 1,
            "YAML cannot hold a NUL character",
        ));
    }
    if text.len() > MAX_SIZE {
        return Err(mistake(text, 0..0, "a definition is no longer than 1 MiB"));
    }
    let mut reader = Reader {
        text,
        parser: Parser::new_from_str(text),
        bytes: (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect()),
        anchors: HashMap::new(),
        left: MAX_SIZE,
    };
    reader.document()
}

struct Reader<'a> {
    text: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    /// Where each character is, unless that is where it is counted to be.
    bytes: Option<Vec<usize>>,
    /// What aliases stand for, and how much that is.
    anchors: HashMap<usize, (Node<'a>, usize)>,
    /// How much more the document may hold.
    left: usize,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Node<'a>, Mistake> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(self.mistake(span, "a definition is one document: cut it here"));
                }
                Event::Nothing
                | Event::StreamStart
                | Event::DocumentStart(_)
                | Event::DocumentEnd => {}
                event => root = Some(self.node(event, span, 0)?),
            }
        }
        Ok(root.unwrap_or(Spanned::new(0..0, Value::Null)))
    }

    fn next(&mut self) -> Result<(Event<'a>, Range<usize>), Mistake> {
        match self.parser.next_event() {
            Some(Ok((event, Span { start, end }))) => Ok((event, self.at(start)..self.at(end))),
            Some(Err(error)) => Err(self.scan_mistake(&error)),
            None => Ok((Event::StreamEnd, self.text.len()..self.text.len())),
        }
    }

    /// The value that begins with `event`.
    fn node(
        &mut self,
        event: Event<'a>,
        span: Range<usize>,
        depth: usize,
    ) -> Result<Node<'a>, Mistake> {
        if depth > MAX_DEPTH {
            return Err(self.mistake(span, "is nested too deeply"));
        }
        let before = self.left;
        let (anchor, node) = match event {
            Event::Alias(id) => {
                let Some((node, size)) = self.anchors.get(&id) else {
                    return Err(self.mistake(span, "this alias holds itself"));
                };
                let (node, size) = (Spanned::new(span.clone(), node.get_ref().clone()), *size);
                self.spend(size, &span)?;
                (0, node)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.spend(1 + text.len(), &span)?;
                let value = self.scalar(text, style, tag.as_deref(), &span)?;
                (anchor, Spanned::new(span, value))
            }
            Event::SequenceStart(anchor, tag) => {
                self.no_tag(tag.as_deref(), &span)?;
                self.spend(1, &span)?;
                let mut items = Vec::new();
                let end = loop {
                    match self.next()? {
                        (Event::SequenceEnd, end) => break end,
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                };
                (
                    anchor,
                    Spanned::new(self.whole(span, end), Value::List(items)),
                )
            }
            Event::MappingStart(anchor, tag) => {
                self.no_tag(tag.as_deref(), &span)?;
                self.spend(1, &span)?;
                let (map, end) = self.map(depth)?;
                (anchor, Spanned::new(self.whole(span, end), Value::Map(map)))
            }
            _ => return Err(self.mistake(span, "is no value")),
        };
        if anchor > 0 {
            self.anchors
                .insert(anchor, (node.clone(), before - self.left));
        }
        Ok(node)
    }

    fn map(&mut self, depth: usize) -> Result<(Map<'a>, Range<usize>), Mistake> {
        let mut map = Map::new();
        let mut keys = HashSet::new();
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, end) => return Ok((map, end)),
                (Event::Scalar(key, _, 0, None), span) if !key.is_empty() => {
                    self.spend(1 + key.len(), &span)?;
                    Spanned::new(span, key)
                }
                (_, span) => return Err(self.mistake(span, "a key is a plain text")),
            };
            if !keys.insert(key.get_ref().clone()) {
                let message = format!("key `{}` is there already", key.get_ref().escape_debug());
                return Err(self.mistake(key.span(), message));
            }
            let (event, span) = self.next()?;
            // A value that is not there stands where its key does.
            let span = if span.is_empty() { key.span() } else { span };
            map.push((key, self.node(event, span, depth + 1)?));
        }
    }

    fn scalar(
        &self,
        text: Cow<'a, str>,
        style: ScalarStyle,
        tag: Option<&Tag>,
        span: &Range<usize>,
    ) -> Result<Value<'a>, Mistake> {
        match tag {
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => {
                return Ok(Value::Text(text));
            }
            tag => self.no_tag(tag, span)?,
        }
        if style != ScalarStyle::Plain {
            return Ok(Value::Text(text));
        }
        Ok(match &*text {
            "" | "~" | "null" | "Null" | "NULL" => Value::Null,
            "true" | "True" | "TRUE" => Value::Bool(true),
            "false" | "False" | "FALSE" => Value::Bool(false),
            word if is_number(word) => {
                // Both languages must mean the same by it: `010` is 8 to some, and `.5` only here a number.
                let number = self.text.get(span.clone()).filter(|text| *text == word);
                let number = number.and_then(|number| DeValue::parse(number).ok());
                let Some(number) = number else {
                    let message =
                        "this number can be read in two ways: put it in quotes if it is a text";
                    return Err(self.mistake(span.clone(), message));
                };
                Value::Number(number.into_inner())
            }
            _ => Value::Text(text),
        })
    }

    fn no_tag(&self, tag: Option<&Tag>, span: &Range<usize>) -> Result<(), Mistake> {
        tag.map_or(Ok(()), |tag| {
            let message = format!(
                "the tag `{}` has no meaning here",
                tag.to_string().escape_debug()
            );
            Err(self.mistake(span.clone(), message))
        })
    }

    /// Counts what the document holds, so that aliases of aliases come to an end.
    fn spend(&mut self, size: usize, span: &Range<usize>) -> Result<(), Mistake> {
        match self.left.checked_sub(size) {
            Some(left) => self.left = left,
            None => return Err(self.mistake(span.clone(), "the aliases stand for too much")),
        }
        Ok(())
    }

    /// From the start of what has an end; the end of a block is found where the next thing begins.
    fn whole(&self, start: Range<usize>, end: Range<usize>) -> Range<usize> {
        let from = start.start;
        let to = end.end.clamp(from, self.text.len());
        from..from + self.text[from..to].trim_end().len()
    }

    fn at(&self, marker: Marker) -> usize {
        let index = marker.index();
        let at = match &self.bytes {
            Some(bytes) => bytes.get(index).copied(),
            None => Some(index),
        };
        at.unwrap_or(self.text.len()).min(self.text.len())
    }

    fn mistake(&self, span: Range<usize>, message: impl Into<String>) -> Mistake {
        mistake(self.text, span, message)
    }

    fn scan_mistake(&self, error: &ScanError) -> Mistake {
        let at = self.at(*error.marker());
        self.mistake(at..at, format!("this is not YAML: {}", error.info()))
    }
}

fn mistake(text: &str, span: Range<usize>, message: impl Into<String>) -> Mistake {
    Mistake {
        at: Some(Position::new(text, span)),
        message: message.into(),
    }
}

/// Whether a plain scalar is a number of the core schema.
fn is_number(word: &str) -> bool {
    let digits = word.strip_prefix(['+', '-']).unwrap_or(word);
    let all =
        |digits: &str, is: fn(&u8) -> bool| !digits.is_empty() && digits.as_bytes().iter().all(is);
    let float = || {
        digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && digits.ends_with(|c: char| c.is_ascii_digit() || c == '.')
            && word.parse::<f64>().is_ok()
    };
    let based = |prefix, is| {
        word.strip_prefix(prefix)
            .is_some_and(|digits| all(digits, is))
    };
    all(digits, u8::is_ascii_digit)
        || based("0x", u8::is_ascii_hexdigit)
        || based("0o", |b| matches!(b, b'0'..=b'7'))
        || matches!(digits, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN")
        || float()
}

/// A definition as TOML text would give it, with what is wrong in it.
pub(super) fn read<'a>(
    text: &'a str,
    file: &Path,
) -> Result<(Spanned<DeTable<'a>>, Vec<Mistake>), Mistake> {
    let root = parse(text)?;
    if python::is_python(&root) {
        let converted = python::convert(text, root, file.parent().unwrap_or(Path::new("")));
        return Ok((converted.tree, converted.mistakes));
    }
    let mut mistakes = Vec::new();
    let tree = tree(text, root, &mut mistakes);
    Ok((tree, mistakes))
}

/// What the owner of a definition should know: how what Python maqet's said is said now.
pub(super) fn notes(text: &str, file: &Path) -> Vec<String> {
    match parse(text) {
        Ok(root) if is_yaml(file) && python::is_python(&root) => {
            python::convert(text, root, file.parent().unwrap_or(Path::new(""))).notes
        }
        _ => Vec::new(),
    }
}

fn tree<'a>(text: &str, root: Node<'a>, mistakes: &mut Vec<Mistake>) -> Spanned<DeTable<'a>> {
    let span = root.span();
    let table = match root.into_inner() {
        Value::Map(map) => table(text, map, mistakes),
        Value::Null => DeTable::new(),
        _ => {
            mistakes.push(mistake(
                text,
                span.clone(),
                "a definition is a table of keys",
            ));
            DeTable::new()
        }
    };
    Spanned::new(span, table)
}

fn table<'a>(text: &str, map: Map<'a>, mistakes: &mut Vec<Mistake>) -> DeTable<'a> {
    let mut table = DeTable::new();
    for (key, node) in map {
        if let Some(value) = value(text, node, mistakes) {
            table.insert(key, value);
        }
    }
    table
}

fn value<'a>(
    text: &str,
    node: Node<'a>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Spanned<DeValue<'a>>> {
    let span = node.span();
    let mut wrong = |message: &str| mistakes.push(mistake(text, span.clone(), message));
    let value = match node.into_inner() {
        Value::Null => {
            wrong("has no value: write `{}` for an empty table, or leave the key out");
            return None;
        }
        Value::Bool(value) => DeValue::Boolean(value),
        Value::Number(number) => number,
        Value::Text(text) => DeValue::String(text),
        Value::List(items) => {
            let mut list = DeArray::new();
            for item in items {
                if let Some(item) = self::value(text, item, mistakes) {
                    list.push(item);
                }
            }
            DeValue::Array(list)
        }
        Value::Map(map) => DeValue::Table(table(text, map, mistakes)),
    };
    Some(Spanned::new(span, value))
}

/// A tree as TOML text: tables below each other, those in lists on one line.
pub(super) fn document(tree: &DeTable<'_>) -> DocumentMut {
    let mut document = DocumentMut::new();
    *document.as_table_mut() = edit_table(tree);
    document
}

fn edit_table(tree: &DeTable<'_>) -> Table {
    let mut table = Table::new();
    // Those that are not tables first: what follows a header belongs to it.
    let (tables, values): (Vec<_>, Vec<_>) = tree
        .iter()
        .partition(|(_, value)| value.get_ref().is_table());
    table.set_implicit(values.is_empty() && !tables.is_empty());
    for (key, value) in values.into_iter().chain(tables) {
        let item = match value.get_ref() {
            DeValue::Table(inner) => Item::Table(edit_table(inner)),
            value => Item::Value(edit_value(value)),
        };
        table.insert(key.get_ref(), item);
    }
    table
}

fn edit_value(value: &DeValue<'_>) -> toml_edit::Value {
    match value {
        DeValue::String(text) => (&**text).into(),
        DeValue::Boolean(value) => (*value).into(),
        DeValue::Datetime(value) => (*value).into(),
        DeValue::Array(items) => items
            .iter()
            .map(|item| edit_value(item.get_ref()))
            .collect::<Array>()
            .into(),
        DeValue::Table(table) => table
            .iter()
            .map(|(key, value)| {
                (
                    toml_edit::Key::new(&**key.get_ref()),
                    edit_value(value.get_ref()),
                )
            })
            .collect::<InlineTable>()
            .into(),
        DeValue::Integer(number) => number.to_string().parse().expect("it was read from TOML"),
        DeValue::Float(number) => number.to_string().parse().expect("it was read from TOML"),
    }
}

#[cfg(test)]
mod tests;
