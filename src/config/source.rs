//! The text of a definition into values, with every mistake found at once and in its place.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};
use toml_edit::DocumentMut;

use super::error::{Error, Mistake, Position};
use super::layer::{EXTENDS, Layer, Origin, UNSET};
use super::short;
use super::yaml;
use super::{Defaults, merge};
use crate::nearest::nearest;

/// Texts that are valid TOML, or YAML if a file's name says so, merged into one tree.
///
/// Keys are dotted paths, as in `disk.root.file`. The spans of the tree are those
/// of the texts laid end to end, so that each tells which text it is of.
pub(super) struct Source<'a> {
    texts: Vec<Text<'a>>,
    /// The file that what is in no text is told of.
    file: &'a Path,
    tree: Spanned<DeTable<'a>>,
}

/// One of the texts.
struct Text<'a> {
    /// Where its spans begin.
    base: usize,
    text: &'a str,
    origin: Origin,
    dir: &'a Path,
}

/// The span of what is in no text.
const NOWHERE: Range<usize> = usize::MAX..usize::MAX;

impl<'a> Source<'a> {
    pub(super) fn parse(text: &'a str, file: &'a Path) -> Result<Self, Error> {
        let dir = file.parent().unwrap_or(Path::new(""));
        Self::parse_one(text, Origin::File(file.to_owned()), dir, file)
    }

    /// Reads one layer as it is, with what it extends and takes away.
    pub(super) fn parse_layer(layer: &'a Layer, file: &'a Path) -> Result<Self, Error> {
        Self::parse_one(&layer.text, layer.origin.clone(), &layer.dir, file)
    }

    fn parse_one(
        text: &'a str,
        origin: Origin,
        dir: &'a Path,
        file: &'a Path,
    ) -> Result<Self, Error> {
        let mut source = Self::empty(file);
        let mut mistakes = Vec::new();
        source.tree = source.parse_text(text, origin, dir, &mut mistakes);
        source.check(mistakes)?;
        Ok(source)
    }

    /// Reads texts and merges them, the lowest first: SEVERAL FILES in maqet.toml(5).
    pub(super) fn layered(layers: &'a [Layer], file: &'a Path) -> Result<Self, Error> {
        let mut source = Self::empty(file);
        let mut mistakes = Vec::new();
        for layer in layers {
            let origin = layer.origin.clone();
            let tree = source.parse_text(&layer.text, origin, &layer.dir, &mut mistakes);
            let mut tree = tree.into_inner();
            tree.remove(EXTENDS);
            if layer.is_base {
                tree.remove("name");
            }
            for key in words(tree.remove(UNSET), &source, &mut mistakes) {
                if !merge::remove(source.tree.get_mut(), key.get_ref()) {
                    let message = source.nothing_to_unset(key.get_ref());
                    mistakes.push(source.mistake_at(&key.span(), message));
                }
            }
            merge::merge(source.tree.get_mut(), tree, layer.replaces_lists);
        }
        source.check(mistakes)?;
        Ok(source)
    }

    fn empty(file: &'a Path) -> Self {
        Self {
            texts: Vec::new(),
            file,
            tree: Spanned::new(0..0, DeTable::new()),
        }
    }

    /// The tree of one more text, with spans that are its own.
    fn parse_text(
        &mut self,
        text: &'a str,
        origin: Origin,
        dir: &'a Path,
        mistakes: &mut Vec<Mistake>,
    ) -> Spanned<DeTable<'a>> {
        let base = match self.texts.last() {
            Some(last) => last.base + last.text.len() + 1,
            None => 0,
        };
        let is_yaml = matches!(&origin, Origin::File(file) if yaml::is_yaml(file));
        let placed = |mistake: Mistake| Mistake {
            at: mistake.at.map(|at| at.of(&origin, base)),
            ..mistake
        };
        let tree = if is_yaml {
            let file = PathBuf::from(origin.to_string());
            let (tree, found) = yaml::read(text, &file)
                .unwrap_or_else(|mistake| (Spanned::new(0..0, DeTable::new()), vec![mistake]));
            mistakes.extend(found.into_iter().map(placed));
            tree
        } else {
            let (tree, errors) = DeTable::parse_recoverable(text);
            mistakes.extend(errors.iter().map(|error| {
                placed(Mistake {
                    at: error.span().map(|span| Position::new(text, span)),
                    message: reword(error.message()),
                })
            }));
            tree
        };
        self.texts.push(Text {
            base,
            text,
            origin,
            dir,
        });
        let span = merge::further(&tree.span(), base);
        let tree = Spanned::new(span, merge::shift(tree.into_inner(), base));
        let mut nul = Vec::new();
        find_nul(tree.get_ref(), &mut nul);
        mistakes.extend(nul.iter().map(|span| {
            let message = "holds a NUL character, which no program argument can".to_owned();
            self.mistake_at(span, message)
        }));
        tree
    }

    /// Puts `defaults` below all else: each holds where its key is not said.
    pub(super) fn fill(&mut self, defaults: &'a Defaults) -> Result<(), Error> {
        let Some((text, file)) = defaults.text() else {
            return Ok(());
        };
        let mut mistakes = Vec::new();
        let dir = file.parent().unwrap_or(Path::new(""));
        let tree = self.parse_text(text, Origin::File(file.to_owned()), dir, &mut mistakes);
        self.check(mistakes)?;
        let defaults = tree.into_inner().remove("defaults");
        if let Some(DeValue::Table(table)) = defaults.map(Spanned::into_inner) {
            merge::fill(self.tree.get_mut(), table);
        }
        Ok(())
    }

    /// The table `key` alone, as if it were all.
    pub(super) fn into_table(mut self, key: &str) -> Self {
        let table = self.tree.get_mut().remove(key);
        *self.tree.get_mut() = match table.map(Spanned::into_inner) {
            Some(DeValue::Table(table)) => table,
            _ => DeTable::new(),
        };
        self
    }

    /// All of it as TOML text, to be edited. It was read from one text.
    pub(super) fn document(&self) -> Result<DocumentMut, Error> {
        if yaml::is_yaml(self.file) {
            return Ok(yaml::document(self.tree.get_ref()));
        }
        let text = self.texts.first().map_or("", |text| text.text);
        text.parse().map_err(|error: toml_edit::TomlError| {
            Error::new(
                self.file,
                vec![Mistake {
                    at: None,
                    message: error.message().to_owned(),
                }],
            )
        })
    }

    /// All of it as TOML text without comments.
    pub(super) fn plain_document(&self) -> DocumentMut {
        yaml::document(self.tree.get_ref())
    }

    /// Whether a text has this key, or a value that is short for it.
    pub(super) fn says(&self, key: &str) -> bool {
        self.locate(key).is_some()
    }

    /// Adds a key of the top level that no text has.
    pub(super) fn add(&mut self, key: &'static str, value: &str) {
        self.tree.get_mut().insert(
            Spanned::new(NOWHERE, Cow::Borrowed(key)),
            Spanned::new(NOWHERE, DeValue::String(Cow::Owned(value.to_owned()))),
        );
    }

    /// The texts that a key of the top level has, one or a list.
    pub(super) fn words(&self, key: &str, mistakes: &mut Vec<Mistake>) -> Vec<Spanned<String>> {
        words(self.tree.get_ref().get(key).cloned(), self, mistakes)
    }

    fn nothing_to_unset(&self, key: &str) -> String {
        let mut known = Vec::new();
        merge::keys(self.tree.get_ref(), "", &mut known);
        let near = nearest(key, &known)
            .first()
            .map(|near| format!(", did you mean `{near}`?"));
        format!(
            "nothing before this says `{key}`{}",
            near.unwrap_or_default()
        )
    }

    /// What a relative path in the value of `key` is relative to.
    pub(super) fn dir(&self, key: &str) -> &'a Path {
        let text = self.locate(key).and_then(|span| self.text(&span));
        text.map_or(Path::new(""), |text| text.dir)
    }

    /// The places that say the value of `key`; of a list, those of its items.
    pub(super) fn places(&self, key: &str) -> Vec<Position> {
        let mut table = Some(self.tree.get_ref());
        let mut value = None;
        for word in key.split('.') {
            value = table.and_then(|table| table.get(word));
            table = value.and_then(|value| value.get_ref().as_table());
        }
        match value.map(Spanned::get_ref) {
            Some(DeValue::Array(items)) if !items.is_empty() => {
                let places = items.iter().map(|item| self.position(&item.span()));
                places.flatten().collect()
            }
            _ => self
                .locate(key)
                .and_then(|span| self.position(&span))
                .into_iter()
                .collect(),
        }
    }

    /// What says `key`: its words, its value, and where the tables begin that it is in.
    pub(super) fn spans(&self, key: &str) -> Vec<Range<usize>> {
        let mut spans = Vec::new();
        let mut table = Some(self.tree.get_ref());
        let mut words = key.split('.').peekable();
        while let (Some(word), Some(outer)) = (words.next(), table) {
            let Some((name, value)) = outer.get_key_value(word) else {
                break;
            };
            table = value.get_ref().as_table();
            let span = value.span();
            let is_outer = table.is_some() && words.peek().is_some();
            spans.push(name.span());
            spans.push(span.start..if is_outer { span.start + 1 } else { span.end });
        }
        spans
    }

    fn text(&self, span: &Range<usize>) -> Option<&Text<'a>> {
        let mut texts = self.texts.iter().rev();
        let text = texts.find(|text| text.base <= span.start)?;
        (span.start <= text.base + text.text.len()).then_some(text)
    }

    fn position(&self, span: &Range<usize>) -> Option<Position> {
        let text = self.text(span)?;
        let span = span.start - text.base..span.end.saturating_sub(text.base);
        Some(Position::new(text.text, span).of(&text.origin, text.base))
    }

    pub(super) fn mistake_at(&self, span: &Range<usize>, message: String) -> Mistake {
        Mistake {
            at: self.position(span),
            message,
        }
    }

    /// Reads all of it as a `T`. What was wrong before is told with what is wrong here.
    ///
    /// serde stops at the first mistake, so that one is cut out and the rest
    /// read again, until nothing is wrong any more or the mistake has no place.
    pub(super) fn read<T: Deserialize<'a>>(&self, before: &mut Vec<Mistake>) -> Result<T, Error> {
        let mut tree = self.tree.clone();
        let mut mistakes = Vec::new();
        loop {
            let error = match T::deserialize(toml::Deserializer::from(tree.clone())) {
                Ok(value) if mistakes.is_empty() => return Ok(value),
                Ok(_) => break,
                Err(error) => error,
            };
            // A key that was cut out is not missing.
            let of_cut = ["missing field", "wanted exactly 1 element"];
            let is_of_cut = of_cut.iter().any(|it| error.message().starts_with(it));
            if mistakes.is_empty() || !is_of_cut {
                let span = error.span().unwrap_or(NOWHERE);
                mistakes.push(self.mistake_at(&span, reword(error.message())));
            }
            let span = error.span();
            if !span.is_some_and(|span| cut_table(tree.get_mut(), &span)) {
                break;
            }
        }
        mistakes.append(before);
        Err(Error::new(self.file, mistakes))
    }

    /// The lists that were read as tables, whose keys they would be in the order of.
    ///
    /// serde takes either for a `struct`; `read` is what it made of them.
    pub(super) fn lists_for_tables<T: Serialize>(&self, read: &T) -> Vec<Mistake> {
        fn find(
            table: &DeTable<'_>,
            read: &serde_json::Value,
            found: &mut dyn FnMut(&str, Range<usize>),
        ) {
            for (key, value) in table {
                let key = key.get_ref();
                let name = key.replace('-', "_");
                let Some(read) = read.get(&**key).or_else(|| read.get(&name)) else {
                    continue;
                };
                match value.get_ref() {
                    DeValue::Table(table) => find(table, read, found),
                    DeValue::Array(_) if read.is_object() => found(key, value.span()),
                    _ => {}
                }
            }
        }
        let mut mistakes = Vec::new();
        let read = serde_json::to_value(read).unwrap_or_default();
        find(self.tree.get_ref(), &read, &mut |key, span| {
            let top = self.tree.get_ref().get(key);
            // Whether a list is short for such a table, it has been asked.
            if short::word(key).is_some() && top.is_some_and(|value| value.span() == span) {
                return;
            }
            let message = "invalid type: a list, expected a table".to_owned();
            mistakes.push(self.mistake_at(&span, message));
        });
        mistakes
    }

    /// A mistake in the value of `key`, or in the innermost table that lacks it.
    pub(super) fn mistake(&self, key: &str, message: impl Into<String>) -> Mistake {
        let outer = key.match_indices('.').rev().map(|(dot, _)| &key[..dot]);
        let at = std::iter::once(key)
            .chain(outer)
            .find_map(|key| self.locate(key))
            .and_then(|span| self.position(&span));
        Mistake {
            at,
            message: message.into(),
        }
    }

    /// A mistake in the last word of `key` itself.
    pub(super) fn mistake_in_name(&self, key: &str, message: String) -> Mistake {
        let (outer, last) = key.rsplit_once('.').unwrap_or(("", key));
        let mut table = Some(self.tree.get_ref());
        for word in outer.split('.').filter(|word| !word.is_empty()) {
            table = table.and_then(|table| table.get(word)?.get_ref().as_table());
        }
        let name = table.and_then(|table| table.get_key_value(last));
        Mistake {
            at: name.and_then(|(name, _)| self.position(&name.span())),
            message,
        }
    }

    pub(super) fn check(&self, mistakes: Vec<Mistake>) -> Result<(), Error> {
        if mistakes.is_empty() {
            Ok(())
        } else {
            Err(Error::new(self.file, mistakes))
        }
    }

    /// The place of a value, or of a table's name.
    ///
    /// A number is an item of a list, counted from 0. A value that is short for a table is
    /// in the place of the key that it is short for.
    fn locate(&self, key: &str) -> Option<Range<usize>> {
        let mut words = key.split('.');
        let (name, mut value) = self.tree.get_ref().get_key_value(words.next()?)?;
        let short = short::word(name.get_ref());
        let mut name = Some(name.span());
        for (i, word) in words.enumerate() {
            let is_short = i == 0 && short == Some(word) && value.get_ref().as_table().is_none();
            (name, value) = match (value.get_ref(), word.parse::<usize>()) {
                _ if is_short => (name, value),
                (DeValue::Table(table), _) => {
                    let (key, value) = table.get_key_value(word)?;
                    (Some(key.span()), value)
                }
                (DeValue::Array(items), Ok(index)) => (None, items.get(index)?),
                _ => return None,
            };
        }
        match (value.get_ref(), name) {
            (DeValue::Table(_), Some(name)) => Some(name),
            _ => Some(value.span()),
        }
    }
}

/// One text or a list of texts.
fn words(
    value: Option<Spanned<DeValue<'_>>>,
    source: &Source<'_>,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Spanned<String>> {
    let Some(value) = value else {
        return Vec::new();
    };
    let items = match value.get_ref() {
        DeValue::Array(items) => items.iter().cloned().collect(),
        _ => vec![value],
    };
    let mut words = Vec::new();
    for item in items {
        match item.get_ref().as_str() {
            Some(word) => words.push(Spanned::new(item.span(), word.to_owned())),
            None => {
                let message = "expected a text in quotes, or a list of them".to_owned();
                mistakes.push(source.mistake_at(&item.span(), message));
            }
        }
    }
    words
}

fn find_nul(table: &DeTable<'_>, found: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        if key.get_ref().contains('\0') {
            found.push(key.span());
        }
        find_nul_in(value, found);
    }
}

fn find_nul_in(value: &Spanned<DeValue<'_>>, found: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::String(text) if text.contains('\0') => found.push(value.span()),
        DeValue::Array(items) => items.iter().for_each(|item| find_nul_in(item, found)),
        DeValue::Table(table) => find_nul(table, found),
        _ => {}
    }
}

/// Removes the innermost entry whose key is, or whose value holds, `span`.
fn cut_table(table: &mut DeTable<'_>, span: &Range<usize>) -> bool {
    let mut found = None;
    for (key, value) in table.iter_mut() {
        if cut_value(value.get_mut(), span) {
            return true;
        }
        if key.span() == *span || encloses(&value.span(), span) {
            found = Some(key.get_ref().clone());
        }
    }
    found.is_some_and(|key| table.remove(&*key).is_some())
}

fn cut_value(value: &mut DeValue<'_>, span: &Range<usize>) -> bool {
    match value {
        DeValue::Table(table) => cut_table(table, span),
        DeValue::Array(items) => {
            if items.iter_mut().any(|item| cut_value(item.get_mut(), span)) {
                return true;
            }
            let before = items.len();
            let mut rest = DeArray::new();
            for item in items.iter().filter(|item| !encloses(&item.span(), span)) {
                rest.push(item.clone());
            }
            *items = rest;
            items.len() < before
        }
        _ => false,
    }
}

fn encloses(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end && !outer.is_empty()
}

/// serde's words into ours, with the nearest word there is.
fn reword(message: &str) -> String {
    // `string "2", expected u32`
    if let Some((text, rest)) = message
        .strip_prefix("invalid type: string \"")
        .and_then(|rest| rest.split_once("\", expected "))
        && ["u16", "u32", "u64"].contains(&rest)
        && text.parse::<u64>().is_ok()
    {
        return format!("\"{text}\" is a text: write {text}, without quotes");
    }
    // `string "true", expected a boolean`
    for word in ["true", "false"] {
        if message == format!("invalid type: string \"{word}\", expected a boolean") {
            return format!("\"{word}\" is a text: write {word}, without quotes");
        }
    }
    for (prefix, what) in [("unknown field `", "key"), ("unknown variant `", "value")] {
        let Some((word, rest)) = message
            .strip_prefix(prefix)
            .and_then(|rest| rest.split_once("`, "))
        else {
            continue;
        };
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        return match nearest(word, known).first() {
            Some(near) => format!("unknown {what} `{word}`, did you mean `{near}`?"),
            None => format!("unknown {what} `{word}`, {rest}"),
        };
    }
    // Of a word among others; the second is of a table that is empty.
    if message == "wanted string or table" || message.starts_with("wanted exactly 1 element") {
        return "expected a text in quotes".to_owned();
    }
    message
        .replace("expected a map", "expected a table")
        .replace("expected a sequence", "expected a list")
        .replace("invalid type: map", "invalid type: a table")
        .replace("invalid type: sequence", "invalid type: a list")
        .replace("expected u16", "expected a whole number from 0 to 65535")
        .replace("expected u64", "expected a whole number from 0")
        .replace(
            "expected u32",
            "expected a whole number from 0 to 4294967295",
        )
        .replace("` as i128,", "`,")
        .replace("expected a boolean", "expected `true` or `false`")
        .replace("expected a string", "expected a text in quotes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_is_reworded() {
        for (theirs, ours) in [
            (
                "unknown field `nmae`, expected `name` or `cpu`",
                "unknown key `nmae`, did you mean `name`?",
            ),
            (
                "unknown field `a`b`, expected `name`",
                "unknown key `a`b`, expected `name`",
            ),
            (
                "unknown variant `x`, expected one of `none`, `gtk`, `sdl`",
                "unknown value `x`, expected one of `none`, `gtk`, `sdl`",
            ),
            (
                "invalid type: string \"2\", expected u32",
                "\"2\" is a text: write 2, without quotes",
            ),
            (
                "invalid type: string \"two\", expected u16",
                "invalid type: string \"two\", expected a whole number from 0 to 65535",
            ),
            (
                "invalid type: string \"true\", expected a boolean",
                "\"true\" is a text: write true, without quotes",
            ),
            (
                "invalid type: integer `18446744073709551616` as i128, expected u32",
                "invalid type: integer `18446744073709551616`, expected a whole number from 0 to 4294967295",
            ),
            ("wanted string or table", "expected a text in quotes"),
            (
                "invalid type: string \"x\", expected a map",
                "invalid type: string \"x\", expected a table",
            ),
        ] {
            assert_eq!(reword(theirs), ours);
        }
    }
}
