//! A definition with all its values, and where each comes from.

use std::fmt;

use serde::Serialize;
use toml_edit::{Item, Value};

use super::error::Error;
use super::layer::{Layers, Origin};
use super::path::{path_text, process_env};
use super::source::Source;
use super::{Defaults, Reading, VmConfig, schema};

/// One key that has a value.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// The key, a dotted path.
    pub key: String,
    /// Its value, as TOML.
    pub value: String,
    /// The places that say so, several for a list; none for what is built in, or follows
    /// from other keys.
    pub from: Vec<Place>,
    #[serde(skip)]
    words: Vec<String>,
}

/// A place in one of the texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The text.
    #[serde(flatten)]
    pub origin: Origin,
    /// Its line, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            // It stands in a comment.
            Origin::Option(words) => words.escape_debug().fmt(f),
            origin => write!(f, "{origin}:{}", self.line),
        }
    }
}

impl Layers {
    /// All values, and where each comes from. That the definition makes sense is for
    /// [`Layers::check`] to say.
    pub fn explain(&self, defaults: &Defaults) -> Result<Vec<Explained>, Error> {
        let source = Source::layered(&self.layers, &self.file)?;
        let Reading {
            mut config, source, ..
        } = VmConfig::read(source, &self.file, defaults, &process_env)?;
        let paths = config.paths_mut().into_iter();
        let paths = paths.filter_map(|(key, path)| Some((key, path_text(path)?)));
        let paths = paths.collect();
        let values = toml::Table::try_from(&config).unwrap_or_default();
        let mut walk = Walk {
            said: source.plain_document().as_item().clone(),
            source,
            schema: schema(),
            paths,
            found: Vec::new(),
        };
        walk.table(&[], &values);
        Ok(walk.found)
    }
}

struct Walk<'a> {
    source: Source<'a>,
    said: Item,
    schema: serde_json::Value,
    /// The paths, expanded, by their keys.
    paths: Vec<(String, String)>,
    found: Vec<Explained>,
}

impl Walk<'_> {
    fn table(&mut self, outer: &[String], values: &toml::Table) {
        for (word, value) in values {
            let inner = |word: String| [outer, &[word]].concat();
            // Keys are said with dashes, names as they are.
            let mut words = inner(word.clone());
            if self.said(&words).is_none() {
                words = inner(word.replace('_', "-"));
            }
            let is_value = self.said(&words).is_some_and(|item| !item.is_table_like());
            match value {
                toml::Value::Table(values) if !values.is_empty() && !is_value => {
                    self.table(&words, values);
                }
                value => self.value(words, value),
            }
        }
    }

    fn said(&self, words: &[String]) -> Option<&Item> {
        let mut words = words.iter();
        words.try_fold(&self.said, |item, word| item.get(word))
    }

    fn value(&mut self, words: Vec<String>, value: &toml::Value) {
        let key = words.join(".");
        let path = self.paths.iter().find(|(of, _)| *of == key);
        let text = match (self.said(&words), path) {
            (Some(_), Some((_, path))) => Value::from(path).to_string(),
            (Some(item), None) => match item.clone().into_value() {
                Ok(mut value) => {
                    value.decor_mut().clear();
                    value.to_string()
                }
                Err(_) => value.to_string(),
            },
            (None, _) => match self.schema_default(&words) {
                Some(default) => default,
                // A table without keys that nobody asked for.
                None if value.is_table() => return,
                None => value.to_string(),
            },
        };
        let mut from: Vec<Place> = Vec::new();
        for at in self.source.places(&key) {
            let (line, column) = (at.line, at.column);
            if let Some(origin) = at.origin
                && !from.iter().any(|it| it.origin == origin && it.line == line)
            {
                from.push(Place {
                    origin,
                    line,
                    column,
                });
            }
        }
        self.found.push(Explained {
            value: text,
            from,
            key,
            words,
        });
    }

    /// The default as it is written, where the schema has one.
    fn schema_default(&self, words: &[String]) -> Option<String> {
        let follow = |schema: &serde_json::Value| match schema["$ref"].as_str() {
            Some(reference) => self.schema.pointer(&reference[1..]).cloned(),
            None => Some(schema.clone()),
        };
        let (last, tables) = words.split_last()?;
        let mut table = self.schema.clone();
        for word in tables {
            let named = table["patternProperties"].as_object();
            let any = named.and_then(|named| named.values().next());
            table = follow(table["properties"].get(word).or(any)?)?;
        }
        let default = table["properties"].get(last)?.get("default")?;
        Some(toml::Value::try_from(default).ok()?.to_string())
    }
}

/// Keys with their values, and where those are from.
type Lines = Vec<(String, String)>;

/// All of it as a definition, with a comment to each value that says where it is from.
pub fn render(all: &[Explained]) -> String {
    let mut tables: Vec<(&[String], Lines)> = vec![(&[], Vec::new())];
    for one in all {
        let (last, table) = one.words.split_last().expect("a key has a word");
        let line = format!("{} = {}", quoted(last), one.value);
        let from: Vec<String> = one.from.iter().map(Place::to_string).collect();
        let origin = match (from.is_empty(), one.key.as_str()) {
            (true, "name") => "the file's name".to_owned(),
            (true, _) => "default".to_owned(),
            (false, _) => from.join(", "),
        };
        match tables.iter_mut().find(|(name, _)| *name == table) {
            Some((_, lines)) => lines.push((line, origin)),
            None => tables.push((table, vec![(line, origin)])),
        }
    }
    let mut text = String::new();
    for (name, lines) in tables {
        if !name.is_empty() {
            let name: Vec<String> = name.iter().map(|word| quoted(word)).collect();
            text += &format!("\n[{}]\n", name.join("."));
        }
        let width = |line: &str| line.chars().count();
        let widest = lines
            .iter()
            .map(|(line, _)| width(line))
            .max()
            .unwrap_or(0)
            .min(48);
        for (line, origin) in lines {
            let gap = widest.saturating_sub(width(&line));
            text += &format!("{line}{:gap$}  # {origin}\n", "");
        }
    }
    text
}

fn quoted(word: &str) -> String {
    let is_bare = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    match !word.is_empty() && word.bytes().all(is_bare) {
        true => word.to_owned(),
        false => Value::from(word).to_string(),
    }
}
