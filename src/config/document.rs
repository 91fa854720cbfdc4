//! A definition as text that is edited: comments, order and layout stay.

use std::fmt;
use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::error::{Error, Mistake};
use super::path::path_text;
use super::source::Source;
use super::{Defaults, VmConfig};

/// The text of a definition, to be changed key by key.
#[derive(Clone, Debug)]
pub struct Document {
    file: PathBuf,
    toml: DocumentMut,
}

impl Document {
    /// Reads a text; its keys are not looked at yet.
    pub fn parse(text: &str, file: &Path) -> Result<Self, Error> {
        Source::parse(text, file)?;
        let toml = text.parse().map_err(|error: toml_edit::TomlError| {
            Error::new(
                file,
                vec![Mistake {
                    at: None,
                    message: error.message().to_owned(),
                }],
            )
        })?;
        Ok(Self {
            file: file.to_owned(),
            toml,
        })
    }

    /// Whether the text has this key, a dotted path such as `disk.root.file`.
    pub fn says(&self, key: &str) -> bool {
        let mut item = self.toml.as_item();
        key.split('.').all(|word| match item.get(word) {
            Some(inner) => {
                item = inner;
                true
            }
            None => false,
        })
    }

    /// Gives a key a value, whether or not it has one.
    ///
    /// The key is a dotted path; tables on the way are made. Whether key and
    /// value make sense is for [`VmConfig::parse`] to say.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> Result<(), Error> {
        let (tables, last) = key
            .rsplit_once('.')
            .map_or((None, key), |(tables, last)| (Some(tables), last));
        let mut table: &mut dyn TableLike = self.toml.as_table_mut();
        let mut inline = false;
        for word in tables.into_iter().flat_map(|tables| tables.split('.')) {
            let item = table.entry(word).or_insert_with(|| new_table(inline));
            inline |= item.is_inline_table();
            table = item.as_table_like_mut().ok_or_else(|| {
                let message = format!("cannot set `{key}`: `{word}` is not a table");
                Error::new(&self.file, vec![Mistake { at: None, message }])
            })?;
        }
        let mut value = value.into();
        match table.get_mut(last) {
            Some(Item::Value(old)) => {
                *value.decor_mut() = old.decor().clone();
                *old = value;
            }
            Some(old) => *old = Item::Value(value),
            None => {
                table.insert(last, Item::Value(value));
            }
        }
        Ok(())
    }
}

/// A table without a header of its own until it has values; inline within an inline one.
fn new_table(inline: bool) -> Item {
    if inline {
        return Item::Value(InlineTable::new().into());
    }
    let mut table = Table::new();
    table.set_implicit(true);
    Item::Table(table)
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.toml.fmt(f)
    }
}

/// The same definition, able to stand anywhere: with its name, and with every
/// path absolute.
///
/// This is the form that is stored. Parsed again, from whichever directory and
/// environment, it gives the same [`VmConfig`].
pub fn resolve(text: &str, file: &Path) -> Result<String, Error> {
    let mut config = VmConfig::parse_with(text, file, &Defaults::default())?;
    let mut document = Document::parse(text, file)?;
    if !document.says("name") {
        document.set("name", config.name.as_str())?;
    }
    for (key, path) in config.paths_mut() {
        if document.says(&key) {
            let text = path_text(path).ok_or_else(|| {
                let message = format!(
                    "`{key}`: {} is not UTF-8, and cannot be stored",
                    path.display()
                );
                Error::new(file, vec![Mistake { at: None, message }])
            })?;
            document.set(&key, text)?;
        }
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str, key: &str, value: impl Into<Value>) -> String {
        let mut document = Document::parse(text, Path::new("web.toml")).unwrap();
        document.set(key, value).unwrap();
        document.to_string()
    }

    #[test]
    fn a_key_is_set_and_the_rest_stays() {
        let text = "# web\nmemory = \"1G\"  # small\n\n[disk.root]\nfile = \"a\"\n";
        for (key, value, result) in [
            ("memory", "2G", text.replace("1G", "2G")),
            ("disk.root.file", "b", text.replace("\"a\"", "\"b\"")),
            (
                "disk.root.format",
                "raw",
                text.to_owned() + "format = \"raw\"\n",
            ),
            (
                "disk.data.size",
                "1G",
                text.to_owned() + "\n[disk.data]\nsize = \"1G\"\n",
            ),
            (
                "cpu",
                "max",
                text.replace("small\n", "small\ncpu = \"max\"\n"),
            ),
        ] {
            assert_eq!(edited(text, key, value), result, "{key}");
        }
    }

    #[test]
    fn tables_are_made_in_the_style_of_their_parent() {
        for (text, key, result) in [
            ("", "disk.a.file", "[disk.a]\nfile = \"x\"\n"),
            ("", "name", "name = \"x\"\n"),
            (
                "disk.a.size = \"1G\"\n",
                "disk.a.file",
                "disk.a.size = \"1G\"\ndisk.a.file = \"x\"\n",
            ),
            (
                "disk = { a = { size = \"1G\" } }\n",
                "disk.b.file",
                "disk = { a = { size = \"1G\" } , b = { file = \"x\" } }\n",
            ),
            (
                "net = {}\n",
                "net.lan.mac",
                "net = { lan = { mac = \"x\" } }\n",
            ),
        ] {
            assert_eq!(edited(text, key, "x"), result, "{text}");
        }
    }

    #[test]
    fn a_value_is_not_a_table() {
        let mut document = Document::parse("disk = 1", Path::new("web.toml")).unwrap();
        assert_eq!(
            document.set("disk.a.file", "x").unwrap_err().to_string(),
            "web.toml: cannot set `disk.a.file`: `disk` is not a table"
        );
    }
}
