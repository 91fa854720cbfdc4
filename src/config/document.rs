//! A definition as text that is edited: comments, order and layout stay.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, InlineTable, Item, Table, TableLike, Value};

use crate::vm::VmName;

use super::error::{Error, Fault, Mistake};
use super::layer::{EXTENDS, Layers, Origin, UNSET};
use super::path::{path_text, process_env};
use super::short;
use super::source::Source;
use super::yaml::is_yaml;
use super::{Defaults, Reading, VmConfig, merge};

/// The text of a definition, to be changed key by key.
#[derive(Clone, Debug)]
pub struct Document {
    file: PathBuf,
    toml: DocumentMut,
}

impl Document {
    /// Reads a text; its keys are not looked at yet. YAML becomes TOML, without its comments.
    pub fn parse(text: &str, file: &Path) -> Result<Self, Error> {
        let toml = Source::parse(text, file)?.document()?;
        let mut file = file.to_owned();
        if is_yaml(&file) {
            file.set_extension("toml");
        }
        Ok(Self { file, toml })
    }

    /// The name under which its text is read again: that of a YAML file, with `.toml` at its end.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether the text has this key, a dotted path such as `disk.root.file`.
    pub fn says(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The keys that the text has, tables and what is in them.
    pub fn keys(&self) -> Vec<String> {
        fn collect(table: &dyn TableLike, outer: &str, keys: &mut Vec<String>) {
            for (word, item) in table.iter() {
                let key = match outer {
                    "" => word.to_owned(),
                    outer => format!("{outer}.{word}"),
                };
                if let Some(table) = item.as_table_like() {
                    collect(table, &key, keys);
                }
                keys.push(key);
            }
        }
        let mut keys = Vec::new();
        collect(self.toml.as_table(), "", &mut keys);
        keys
    }

    /// What the text says of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Item> {
        let mut words = self.place(key).split('.');
        words.try_fold(self.toml.as_item(), |item, word| item.get(word))
    }

    /// The place of a key that a value is short for: where `memory` is a text, that is the place
    /// of `memory.size`.
    fn place<'a>(&self, key: &'a str) -> &'a str {
        match key.split_once('.') {
            Some((table, word)) if short::word(table) == Some(word) => match self.toml.get(table) {
                Some(item) if !item.is_table_like() => table,
                _ => key,
            },
            _ => key,
        }
    }

    /// Gives a key a value, whether or not it has one.
    ///
    /// The key is a dotted path; tables on the way are made. What is short for a table, or
    /// becomes one, keeps the rest of it: `memory` then sets `memory.size`. Whether key and
    /// value make sense is for [`VmConfig::parse`] to say.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> Result<(), Error> {
        let mut value = value.into();
        let is_table = |item: &Item| item.is_table_like();
        let long = match short::word(key) {
            Some(word) if !value.is_inline_table() && self.get(key).is_some_and(is_table) => {
                Some(format!("{key}.{word}"))
            }
            _ => None,
        };
        let key = self.place(long.as_deref().unwrap_or(key));
        let (table, last, _) = self.table_of(key)?;
        match table.get_mut(last) {
            Some(Item::Value(old)) => {
                *value.decor_mut() = old.decor().clone();
                *old = value;
            }
            // The key of a table with a header has no space before its `=`.
            Some(_) => {
                table.remove(last);
                table.insert(last, Item::Value(value));
            }
            None => {
                table.insert(last, Item::Value(value));
            }
        }
        Ok(())
    }

    /// Makes a table that is in the text even if nothing is in it.
    pub fn add_table(&mut self, key: &str) -> Result<(), Error> {
        let (table, last, inline) = self.table_of(key)?;
        if table.get(last).is_none() {
            table.insert(last, new_table(inline));
        }
        if let Some(made) = table.get_mut(last).and_then(Item::as_table_mut)
            && made.is_empty()
        {
            made.set_implicit(false);
            made.set_dotted(false);
        }
        Ok(())
    }

    /// Takes a value, or a table with all that is in it, over from another definition.
    pub fn copy(&mut self, from: &Self, key: &str) -> Result<(), Error> {
        let Some(item) = from.get(key) else {
            return Ok(());
        };
        let (table, last, inline) = self.table_of(key)?;
        let item = match item.clone().into_value() {
            Ok(value) if inline => Item::Value(value),
            _ => item.clone(),
        };
        table.insert(last, item);
        Ok(())
    }

    /// Has a key be as another definition has it: that of before, or not there.
    pub fn restore(&mut self, before: &Self, key: &str) -> Result<(), Error> {
        match before.says(key) {
            true => self.copy(before, key),
            false => {
                self.remove(key);
                Ok(())
            }
        }
    }

    /// Removes a value, or a table with all that is in it; whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        self.says(key)
            && self
                .table_of(key)
                .is_ok_and(|(table, last, _)| table.remove(last).is_some())
    }

    /// The table that a key is in, made if need be; the key's last word; whether the table is inline.
    fn table_of<'a>(&mut self, key: &'a str) -> Result<(&mut dyn TableLike, &'a str, bool), Error> {
        let (tables, last) = key
            .rsplit_once('.')
            .map_or((None, key), |(tables, last)| (Some(tables), last));
        let mut table: &mut dyn TableLike = self.toml.as_table_mut();
        let mut inline = false;
        for word in tables.into_iter().flat_map(|tables| tables.split('.')) {
            let item = table.entry(word).or_insert_with(|| new_table(inline));
            if let (Some(short), Some(value)) = (short::word(word), item.as_value())
                && key.starts_with(word)
                && !value.is_inline_table()
            {
                let mut table = InlineTable::from_iter([(short, value.clone().decorated(" ", ""))]);
                *table.decor_mut() = value.decor().clone();
                *item = Item::Value(table.into());
            }
            // `balloon = true` is a balloon that says nothing else.
            if item.as_bool() == Some(true)
                && let Some(value) = item.as_value()
            {
                let mut table = InlineTable::new();
                *table.decor_mut() = value.decor().clone();
                *item = Item::Value(table.into());
            }
            inline |= item.is_inline_table();
            table = item.as_table_like_mut().ok_or_else(|| {
                let message = format!("cannot set `{key}`: `{word}` is not a table");
                Error::new(&self.file, vec![Mistake { at: None, message }])
            })?;
        }
        Ok((table, last, inline))
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

/// The same definition when a VM has another name, be it this one's or one that it names.
///
/// `moved` tells where a file is then, if it is elsewhere.
pub fn rename(
    text: &str,
    file: &Path,
    (old, new): (&VmName, &VmName),
    moved: impl Fn(&Path) -> Option<PathBuf>,
) -> Result<String, Error> {
    let none = Defaults::default();
    let source = Source::parse(text, file)?;
    let Reading { mut config, .. } = VmConfig::read(source, file, &none, &process_env)?;
    let mut document = Document::parse(text, file)?;
    if config.name == *old {
        document.set("name", new.as_str())?;
    }
    for key in ["after", "requires"] {
        let names = document.toml.get_mut(key).and_then(Item::as_array_mut);
        for name in names.into_iter().flat_map(|names| names.iter_mut()) {
            if name.as_str() == Some(old.as_str()) {
                let decor = name.decor().clone();
                *name = new.as_str().into();
                *name.decor_mut() = decor;
            }
        }
    }
    for (key, path) in config.paths_mut() {
        if document.says(&key)
            && let Some(text) = moved(path).as_deref().and_then(path_text)
        {
            document.set(&key, text)?;
        }
    }
    Ok(document.to_string())
}

/// The name of the VM that a definition is of: what it says, or its file's; `None` if it
/// has no usable one.
pub fn name(text: &str, file: &Path) -> Result<Option<VmName>, Error> {
    let document = Document::parse(text, file)?;
    let said = match document.get("name") {
        Some(name) => name.as_str(),
        None => file.file_stem().and_then(OsStr::to_str),
    };
    Ok(said.and_then(|name| name.parse().ok()))
}

/// The same definition, able to stand anywhere: with its name, and with every
/// path absolute.
///
/// This is the form that is stored. Parsed again, from whichever directory and
/// environment, it gives the same [`VmConfig`].
pub fn resolve(text: &str, file: &Path) -> Result<String, Error> {
    let none = Defaults::default();
    let source = Source::parse(text, file)?;
    let Reading {
        mut config,
        source,
        mistakes,
    } = VmConfig::read(source, file, &none, &process_env)?;
    source.check(mistakes)?;
    let mut document = Document::parse(text, file)?;
    document.stand_alone(&mut config)?;
    Ok(document.to_string())
}

/// The same definition with the user's defaults in it, as if it had said them.
///
/// It stands anywhere, as that of [`resolve`] does, and with any defaults.
pub fn with_defaults(text: &str, file: &Path, defaults: &Defaults) -> Result<String, Error> {
    if defaults.text().is_none() {
        return resolve(text, file);
    }
    let source = Source::parse(text, file)?;
    let Reading {
        mut config,
        source,
        mistakes,
    } = VmConfig::read(source, file, defaults, &process_env)?;
    let toml = source.plain_document();
    source.check(mistakes)?;
    let file = file.to_owned();
    let mut document = Document { toml, file };
    document.stand_alone(&mut config)?;
    Ok(document.to_string())
}

impl Document {
    fn stand_alone(&mut self, config: &mut VmConfig) -> Result<(), Error> {
        if !self.says("name") {
            self.set("name", config.name.as_str())?;
        }
        for (key, path) in config.paths_mut() {
            if self.says(&key) {
                let text = path_text(path).ok_or_else(|| {
                    let message = format!(
                        "`{key}`: {} is not UTF-8, and cannot be stored",
                        path.display()
                    );
                    Error::new(&self.file, vec![Mistake { at: None, message }])
                })?;
                self.set(&key, text)?;
            }
        }
        Ok(())
    }
}

impl Layers {
    /// Reads all of it and checks it; see [`VmConfig::parse_checked`].
    pub fn check(
        &self,
        defaults: &Defaults,
        judge: impl FnOnce(&VmConfig) -> Vec<Fault>,
    ) -> Result<VmConfig, Error> {
        let source = Source::layered(&self.layers, &self.file)?;
        VmConfig::read(source, &self.file, defaults, &process_env)?.checked(judge)
    }

    /// The one text that means the same, able to stand anywhere; see [`resolve`].
    ///
    /// Comments stay where they are; those of built-in templates are left out.
    pub fn resolve(&self) -> Result<String, Error> {
        Ok(self.resolve_as()?.0)
    }

    /// The same, and whether it has the layout of the texts.
    pub(super) fn resolve_as(&self) -> Result<(String, bool), Error> {
        let none = Defaults::default();
        let source = Source::layered(&self.layers, &self.file)?;
        let Reading {
            mut config,
            source,
            mistakes,
        } = VmConfig::read(source, &self.file, &none, &process_env)?;
        source.check(mistakes)?;
        let file = self.file.with_extension("toml");
        let (head, toml) = self.merged_text()?;
        let mut document = Document {
            file: file.clone(),
            toml,
        };
        document.stand_alone(&mut config)?;
        let text = head + &document.to_string();
        // Text is merged by other code than what was checked: it must mean the same.
        let again = Source::parse(&text, &file)
            .and_then(|source| VmConfig::read(source, &file, &none, &process_env));
        let is_same = |again: &Reading<'_>| format!("{:?}", again.config) == format!("{config:?}");
        if again.is_ok_and(|again| is_same(&again)) {
            return Ok((text, true));
        }
        document.toml = source.plain_document();
        document.stand_alone(&mut config)?;
        Ok((document.to_string(), false))
    }

    /// The texts merged, and the comments before what they extend.
    fn merged_text(&self) -> Result<(String, DocumentMut), Error> {
        let mut head = String::new();
        let mut toml = DocumentMut::new();
        for (i, layer) in self.layers.iter().enumerate() {
            let file = PathBuf::from(layer.origin.to_string());
            let source = Source::parse_layer(layer, &file)?;
            let mut above = match layer.origin {
                Origin::Template(_) => source.plain_document(),
                _ => source.document()?,
            };
            for key in source.words(UNSET, &mut Vec::new()) {
                merge::remove_text(toml.as_table_mut(), key.get_ref());
            }
            let is_base = layer.is_base.then_some("name");
            for key in [EXTENDS, UNSET].into_iter().chain(is_base) {
                if let Some((key, _)) = above.remove_entry(key) {
                    let comment = key.leaf_decor().prefix().and_then(|it| it.as_str());
                    head += comment.unwrap_or_default();
                }
            }
            if i == 0 {
                toml = above;
            } else {
                merge::merge_text(
                    toml.as_table_mut(),
                    above.as_table(),
                    false,
                    layer.replaces_lists,
                );
            }
        }
        if !head.is_empty() && !head.ends_with('\n') {
            head.push('\n');
        }
        Ok((head, toml))
    }
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
    fn what_is_true_for_a_table_becomes_one() {
        let text = "balloon = true # it\nagent = false\n";
        assert_eq!(
            edited(text, "balloon.target", "1G"),
            text.replace("true", "{ target = \"1G\" }")
        );
        let mut document = Document::parse(text, Path::new("web.toml")).unwrap();
        assert!(document.set("agent.x", "1").is_err());
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
                "memory.prealloc",
                "x",
                text.replace("\"1G\"", "{ size = \"1G\", prealloc = \"x\" }"),
            ),
            ("memory.size", "2G", text.replace("1G", "2G")),
            (
                "disk",
                "x",
                "# web\nmemory = \"1G\"  # small\ndisk = \"x\"\n".to_owned(),
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
    fn what_a_table_is_short_for_is_set_in_it() {
        for (text, result) in [
            (
                "memory = { shared = true }\n",
                "memory = { shared = true , size = \"2G\" }\n",
            ),
            (
                "[memory]\nsize = \"1G\" # it\n",
                "[memory]\nsize = \"2G\" # it\n",
            ),
        ] {
            assert_eq!(edited(text, "memory", "2G"), result);
        }
        let document = Document::parse("memory = \"2G\"", Path::new("web.toml")).unwrap();
        assert!(document.says("memory.size") && !document.says("memory.shared"));
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
    fn what_was_added_can_be_removed_without_a_trace() {
        for text in [
            "",
            "name = \"web\"\n",
            "name = \"web\" # it\n\n# Ours.\n[disk.root]\nfile = \"a\" # here\n",
            "disk.root.file = \"a\"\n\n[net.lan] # ours\nmac = \"x\"\n",
            "disk = { root = { file = \"a\" } }\n",
        ] {
            let mut document = Document::parse(text, Path::new("web.toml")).unwrap();
            for table in ["disk.data", "disk.more"] {
                document.add_table(table).unwrap();
                document.set(&format!("{table}.file"), "/data.raw").unwrap();
                let with = document.to_string();
                document = Document::parse(&with, Path::new("web.toml"))
                    .unwrap_or_else(|error| panic!("{error}"));
                assert!(document.says(&format!("{table}.file")), "{with}");
            }
            assert!(document.remove("disk.more"));
            assert!(document.remove("disk.data"));
            assert!(!document.remove("disk.data"));
            assert_eq!(document.to_string().trim(), text.trim());
        }
    }

    #[test]
    fn a_rename_changes_names_and_paths_and_nothing_else() {
        let text = "name = \"web\" # it\nafter = [ \"db\", # first\n  \"web2\" ]\n\
                    requires = [\"db\"]\ndescription = \"db and web\"\nkernel = \"/vms/web/k\"\n\
                    initrd = \"/vms/web2/i\"\n";
        let (web, db, new): (VmName, VmName, VmName) = (
            "web".parse().unwrap(),
            "db".parse().unwrap(),
            "new".parse().unwrap(),
        );
        let file = Path::new("web.toml");
        let moved =
            |path: &Path| Some(Path::new("/vms/new").join(path.strip_prefix("/vms/web").ok()?));
        assert_eq!(
            rename(text, file, (&web, &new), moved).unwrap(),
            text.replace("name = \"web\"", "name = \"new\"")
                .replace("/vms/web/k", "/vms/new/k")
        );
        assert_eq!(
            rename(text, file, (&db, &new), |_| None).unwrap(),
            text.replace("\"db\"", "\"new\"")
        );
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
