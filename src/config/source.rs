//! The text of a definition into values, with every mistake found at once and in its place.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};
use toml_edit::DocumentMut;

use super::error::{Error, Mistake, Position};
use super::yaml;
use crate::nearest::nearest;

/// A text that is valid TOML, or YAML if its file's name says so.
///
/// Keys are dotted paths, as in `disk.root.file`.
pub(super) struct Source<'a> {
    text: &'a str,
    file: &'a Path,
    tree: Spanned<DeTable<'a>>,
}

impl<'a> Source<'a> {
    pub(super) fn parse(text: &'a str, file: &'a Path) -> Result<Self, Error> {
        let (tree, mut mistakes) = if yaml::is_yaml(file) {
            yaml::read(text, file).map_err(|mistake| Error::new(file, vec![mistake]))?
        } else {
            let (tree, errors) = DeTable::parse_recoverable(text);
            let mistakes = errors.iter().map(|error| mistake(text, error)).collect();
            (tree, mistakes)
        };
        let mut nul = Vec::new();
        find_nul(tree.get_ref(), &mut nul);
        mistakes.extend(nul.into_iter().map(|span| Mistake {
            at: Some(Position::new(text, span)),
            message: "holds a NUL character, which no program argument can".to_owned(),
        }));
        if mistakes.is_empty() {
            Ok(Self { text, file, tree })
        } else {
            Err(Error::new(file, mistakes))
        }
    }

    /// All of it as TOML text, to be edited.
    pub(super) fn document(&self) -> Result<DocumentMut, Error> {
        if yaml::is_yaml(self.file) {
            return Ok(yaml::document(self.tree.get_ref()));
        }
        self.text.parse().map_err(|error: toml_edit::TomlError| {
            Error::new(
                self.file,
                vec![Mistake {
                    at: None,
                    message: error.message().to_owned(),
                }],
            )
        })
    }

    /// Whether the text has this key.
    pub(super) fn says(&self, key: &str) -> bool {
        self.locate(key).is_some()
    }

    /// Adds a key of the top level that the text does not have.
    pub(super) fn add(&mut self, key: &'static str, value: &str) {
        self.tree.get_mut().insert(
            Spanned::new(0..0, Cow::Borrowed(key)),
            Spanned::new(0..0, DeValue::String(Cow::Owned(value.to_owned()))),
        );
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
            if mistakes.is_empty() || !error.message().starts_with("missing field") {
                mistakes.push(mistake(self.text, &error));
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
            found: &mut dyn FnMut(Range<usize>),
        ) {
            for (key, value) in table {
                let key = key.get_ref();
                let name = key.replace('-', "_");
                let Some(read) = read.get(&**key).or_else(|| read.get(&name)) else {
                    continue;
                };
                match value.get_ref() {
                    DeValue::Table(table) => find(table, read, found),
                    DeValue::Array(_) if read.is_object() => found(value.span()),
                    _ => {}
                }
            }
        }
        let mut mistakes = Vec::new();
        let read = serde_json::to_value(read).unwrap_or_default();
        find(self.tree.get_ref(), &read, &mut |span| {
            mistakes.push(Mistake {
                at: Some(Position::new(self.text, span)),
                message: "invalid type: a list, expected a table".to_owned(),
            });
        });
        mistakes
    }

    /// A mistake in the value of `key`, or in the innermost table that lacks it.
    pub(super) fn mistake(&self, key: &str, message: impl Into<String>) -> Mistake {
        let outer = key.match_indices('.').rev().map(|(dot, _)| &key[..dot]);
        let at = std::iter::once(key)
            .chain(outer)
            .find_map(|key| self.locate(key))
            .map(|span| Position::new(self.text, span));
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
            at: name.map(|(name, _)| Position::new(self.text, name.span())),
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
    fn locate(&self, key: &str) -> Option<Range<usize>> {
        let mut table = Some(self.tree.get_ref());
        let mut found = None;
        for word in key.split('.') {
            let (key, value) = table?.get_key_value(word)?;
            table = value.get_ref().as_table();
            found = Some(if table.is_some() {
                key.span()
            } else {
                value.span()
            });
        }
        found
    }
}

fn mistake(text: &str, error: &toml::de::Error) -> Mistake {
    Mistake {
        at: error.span().map(|span| Position::new(text, span)),
        message: reword(error.message()),
    }
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
    message
        .replace("expected a map", "expected a table")
        .replace("expected a sequence", "expected a list")
        .replace("invalid type: map", "invalid type: a table")
        .replace("invalid type: sequence", "invalid type: a list")
        .replace("expected u16", "expected a whole number from 0 to 65535")
        .replace("expected u64", "expected a whole number")
        .replace("expected u32", "expected a whole number")
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
                "invalid type: string \"x\", expected a map",
                "invalid type: string \"x\", expected a table",
            ),
        ] {
            assert_eq!(reword(theirs), ours);
        }
    }
}
