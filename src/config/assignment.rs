//! Words of a command line that change a definition: `memory=4G`, `after+=db`.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use toml_edit::{Array, RawString, Value};

use super::VmConfig;
use super::defaults::Defaults;
use super::document::Document;
use super::error::{Error, Mistake, Position};
use super::layer::Origin;
use super::source::Source;

/// A key and what becomes of its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The key, a dotted path.
    pub key: String,
    /// Whether it is the whole value, or something of a list.
    pub how: How,
    /// As it was typed.
    pub value: String,
}

/// What becomes of the value that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// `key=value`: it is another.
    Set,
    /// `key+=value`: the list has more items.
    Add,
    /// `key-=value`: the list has fewer items.
    Remove,
}

/// A word that assigns nothing to a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not KEY=VALUE, as in memory=4G or disk.root.cache=none", .0.escape_debug())]
pub struct InvalidAssignment(pub String);

impl FromStr for Assignment {
    type Err = InvalidAssignment;

    fn from_str(word: &str) -> Result<Self, InvalidAssignment> {
        let wrong = || InvalidAssignment(word.to_owned());
        let (key, value) = word.split_once('=').ok_or_else(wrong)?;
        let (key, how) = match (key.strip_suffix('+'), key.strip_suffix('-')) {
            (Some(key), _) => (key, How::Add),
            (_, Some(key)) => (key, How::Remove),
            _ => (key, How::Set),
        };
        if !is_key(key) {
            return Err(wrong());
        }
        Ok(Self {
            key: key.to_owned(),
            how,
            value: value.to_owned(),
        })
    }
}

impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.how {
            How::Set => "=",
            How::Add => "+=",
            How::Remove => "-=",
        };
        write!(f, "{}{sign}{}", self.key, self.value)
    }
}

/// Whether a text is the dotted path of a key.
pub fn is_key(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let mut words = text.split('.');
    words.all(|word| !word.is_empty() && !word.ends_with('-') && word.bytes().all(is_plain))
}

impl Document {
    /// Does what a word says.
    ///
    /// What kind of value it is, the key decides: `4` is a number for `cpus` and a
    /// text for `description`; quotes and brackets are TOML's, and can be left out
    /// where nothing else could be meant. Whether the value itself makes sense is for
    /// [`VmConfig::parse`] to say.
    ///
    /// A list that only `defaults` have is written out to be changed.
    ///
    /// # Errors
    /// If an item is to be taken out of a list that does not have it.
    pub fn assign(&mut self, word: &Assignment, defaults: &Defaults) -> Result<(), Error> {
        let toml: Option<Value> = word.value.parse().ok().map(without_decor);
        let text = Value::from(&word.value);
        let candidates: Vec<Value> = match word.how {
            How::Set => {
                let alone = [toml, Some(text)].into_iter().flatten();
                let lists = alone.clone().map(|value| Array::from_iter([value]).into());
                alone.clone().chain(lists).collect()
            }
            How::Add => {
                let items = [toml, Some(text)].into_iter().flatten().map(items);
                items
                    .map(|items| self.list_with(&word.key, items, defaults))
                    .collect()
            }
            How::Remove => {
                let items = toml.map_or_else(|| vec![text], items);
                vec![self.list_without(word, &items, defaults)?]
            }
        };
        let mut tried = Vec::new();
        for candidate in candidates {
            let mut document = self.clone();
            document.set(&word.key, candidate)?;
            tried.push((document.mistyped(), document));
        }
        if let Some((_, best)) = tried.into_iter().min_by_key(|(mistakes, _)| *mistakes) {
            *self = best;
        }
        Ok(())
    }

    /// How many values are not of the kind that their keys want.
    fn mistyped(&self) -> usize {
        let (text, file) = (self.to_string(), Path::new(""));
        let read =
            Source::parse(&text, file).and_then(|source| source.read::<VmConfig>(&mut Vec::new()));
        read.map_or_else(|error| error.mistakes().len(), |_| 0)
    }

    fn list(&self, key: &str, defaults: &Defaults) -> Array {
        let said = self.get(key).and_then(|item| item.as_array());
        if let Some(list) = said {
            return list.clone();
        }
        let below = defaults.text().and_then(|(text, file)| {
            let document = Self::parse(text, file).ok()?;
            let list = document.get(&format!("defaults.{key}"))?.as_array()?;
            Some(list.iter().cloned().map(without_decor).collect())
        });
        below.unwrap_or_default()
    }

    fn list_with(&self, key: &str, items: Vec<Value>, defaults: &Defaults) -> Value {
        let mut list = self.list(key, defaults);
        // What is named there is there once; the words of a command line mean something twice.
        let is_set = matches!(key, "after" | "requires") || key.ends_with(".forward");
        for item in items {
            let is_there = |it: &Value| plain(it) == plain(&item);
            if !(is_set && list.iter().any(is_there)) {
                push(&mut list, item);
            }
        }
        list.into()
    }

    fn list_without(
        &self,
        word: &Assignment,
        items: &[Value],
        defaults: &Defaults,
    ) -> Result<Value, Error> {
        let mut list = self.list(&word.key, defaults);
        for item in items {
            let wanted = plain(item);
            let Some(at) = list.iter().position(|item| plain(item) == wanted) else {
                let all: Vec<String> = list.iter().map(plain).collect();
                let message = match all.is_empty() {
                    true => format!("`{}` has no items", word.key),
                    false => format!(
                        "`{}` has no `{wanted}`, it has `{}`",
                        word.key,
                        all.join("`, `")
                    ),
                };
                let at = Position::new("", 0..0).of(&Origin::Option(word.to_string()), 0);
                let mistake = Mistake {
                    at: Some(at),
                    message,
                };
                return Err(Error::new(Path::new(""), vec![mistake]));
            };
            remove(&mut list, at);
        }
        Ok(list.into())
    }
}

/// What stands before an item of a list, or before its end, in two parts: what belongs to the
/// item before, as a comment behind it does, and what begins a new line.
fn gap(list: &Array, at: usize) -> (String, String) {
    let text = |text: Option<&RawString>| text.and_then(RawString::as_str).map(str::to_owned);
    let behind = |value: &Value| text(value.decor().suffix()).unwrap_or_default();
    let before = at.checked_sub(1).and_then(|at| list.get(at));
    let before = before.map(behind).unwrap_or_default();
    let after = match list.get(at) {
        Some(value) => text(value.decor().prefix()),
        None => Some(list.trailing().as_str().unwrap_or_default().to_owned()),
    };
    // As one is written that nothing is said of.
    let after = after.unwrap_or_else(|| " ".repeat(usize::from(at > 0)));
    let whole = before + &after;
    match whole.find('\n') {
        Some(end) => (whole[..end].to_owned(), whole[end..].to_owned()),
        None => (String::new(), whole),
    }
}

fn set_gap(list: &mut Array, at: usize, text: String) {
    if let Some(value) = at.checked_sub(1).and_then(|at| list.get_mut(at)) {
        value.decor_mut().set_suffix("");
    }
    match list.get_mut(at) {
        Some(value) => value.decor_mut().set_prefix(text),
        None => list.set_trailing(text),
    }
}

/// Takes an item out of a list, with the comments that are about it: above it, and behind it.
fn remove(list: &mut Array, at: usize) {
    let (before, own) = gap(list, at);
    let (_, next) = gap(list, at + 1);
    // On one line, the first stands where the first did.
    let next = if at == 0 && !next.contains('\n') {
        own
    } else {
        next
    };
    list.remove(at);
    set_gap(list, at, before + &next);
}

/// Adds an item to a list, on a line of its own where the others are.
fn push(list: &mut Array, item: Value) {
    let last = list.len();
    let (behind, end) = gap(list, last);
    if last == 0 || !end.contains('\n') {
        list.push(item);
        return;
    }
    let (_, line) = gap(list, last - 1);
    let indent = line.rfind('\n').map_or(" ", |at| &line[at..]);
    list.push(item);
    set_gap(list, last, behind + indent);
    set_gap(list, last + 1, end);
    list.set_trailing_comma(true);
}

fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list.into_iter().map(without_decor).collect(),
        other => vec![other],
    }
}

fn without_decor(mut value: Value) -> Value {
    value.decor_mut().clear();
    value
}

/// A value as one would type it: a text without its quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.value().clone(),
        other => without_decor(other.clone()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(text: &str, words: &[&str]) -> Result<String, String> {
        let mut document = Document::parse(text, Path::new("web.toml")).unwrap();
        for word in words {
            let word: Assignment = word.parse().map_err(|error| format!("{error}"))?;
            let none = Defaults::default();
            let assigned = document.assign(&word, &none);
            assigned.map_err(|error| error.to_string())?;
        }
        Ok(document.to_string())
    }

    #[test]
    fn what_is_named_already_is_not_named_twice() {
        let text = "after = [\"db\"]\nnet.lan.forward = [\"2222:22\"]\nqemu.args = [\"-S\"]\n";
        let words = ["after+=db", "after+=mq", "net.lan.forward+=2222:22"];
        let expected = text.replace("[\"db\"]", "[\"db\", \"mq\"]");
        assert_eq!(assigned(text, &words).unwrap(), expected);
        // An option of QEMU may have to be there twice.
        let twice = assigned(text, &["qemu.args+=-S"]).unwrap();
        assert!(twice.contains("[\"-S\", \"-S\"]"), "{twice}");
    }

    #[test]
    fn the_key_decides_what_kind_of_value_it_is() {
        for (word, line) in [
            ("memory=4G", "memory = \"4G\""),
            ("memory=\"4G\"", "memory = \"4G\""),
            ("cpus=4", "cpus = 4"),
            ("cpus=x", "cpus = \"x\""),
            ("description=4", "description = \"4\""),
            ("description=true", "description = \"true\""),
            ("description=[1]", "description = \"[1]\""),
            ("description=", "description = \"\""),
            ("agent=false", "agent = false"),
            ("after=db", "after = [\"db\"]"),
            ("after=[\"db\", \"mq\"]", "after = [\"db\", \"mq\"]"),
            ("after+=db", "after = [\"db\"]"),
            ("qemu.args=-S", "\n[qemu]\nargs = [\"-S\"]"),
            ("unit.Nice=5", "\n[unit]\nNice = 5"),
            ("stop.timeout=90s", "\n[stop]\ntimeout = \"90s\""),
            (
                "net.lan.forward=2222:22",
                "\n[net.lan]\nforward = [\"2222:22\"]",
            ),
            (
                "disk.data={ size = \"1G\" }",
                "\n[disk]\ndata = { size = \"1G\" }",
            ),
        ] {
            let text = "name = \"web\" # it\n";
            assert_eq!(assigned(text, &[word]).unwrap(), format!("{text}{line}\n"));
        }
    }

    #[test]
    fn lists_grow_and_shrink() {
        let text = "name = \"web\"\nafter = [\"db\"] # first\n";
        for (words, list) in [
            (&["after+=mq"][..], "[\"db\", \"mq\"]"),
            (&["after+=[\"mq\", \"x\"]"], "[\"db\", \"mq\", \"x\"]"),
            (&["after+=mq", "after-=db"], "[\"mq\"]"),
            (&["after-=db"], "[]"),
        ] {
            let expected = text.replace("[\"db\"]", list);
            assert_eq!(assigned(text, words).unwrap(), expected, "{words:?}");
        }
        for (word, message) in [
            ("after-=x", "`after` has no `x`, it has `db`"),
            ("requires-=x", "`requires` has no items"),
        ] {
            let error = assigned(text, &[word]).unwrap_err();
            assert!(error.ends_with(message), "{error}");
        }
    }

    #[test]
    fn comments_in_a_list_stay_with_what_they_are_about() {
        let text = "after = [ # list\n  # above x\n  \"x\", # x\n  \"y\", # y\n  \"z\" # z\n]\n";
        for (word, list) in [
            ("after-=x", "[ # list\n  \"y\", # y\n  \"z\" # z\n]"),
            (
                "after-=y",
                "[ # list\n  # above x\n  \"x\", # x\n  \"z\" # z\n]",
            ),
            (
                "after-=z",
                "[ # list\n  # above x\n  \"x\", # x\n  \"y\" # y\n]",
            ),
            (
                "after+=w",
                "[ # list\n  # above x\n  \"x\", # x\n  \"y\", # y\n  \"z\", # z\n  \"w\",\n]",
            ),
        ] {
            let expected = format!("after = {list}\n");
            assert_eq!(assigned(text, &[word]).unwrap(), expected, "{word}");
        }
    }

    #[test]
    fn a_list_of_the_defaults_is_added_to() {
        let defaults = "[defaults]\nnet.lan.forward = [\n  \"2222:22\", # ssh\n]\n";
        let defaults = Defaults::parse(defaults, Path::new("config.toml")).unwrap();
        for (word, list) in [
            (
                "net.lan.forward+=8080:80",
                "forward = [\"2222:22\", \"8080:80\"]",
            ),
            ("net.lan.forward-=2222:22", "forward = []"),
        ] {
            let mut document = Document::parse("", Path::new("web.toml")).unwrap();
            document.assign(&word.parse().unwrap(), &defaults).unwrap();
            assert_eq!(document.to_string(), format!("[net.lan]\n{list}\n"));
        }
    }

    #[test]
    fn a_word_is_a_key_and_a_value() {
        for wrong in [
            "memory", "=4G", "", ".a=1", "a.=1", "a..b=1", "a b=1", "\"a\"=1", "a\n=1", "-=1",
        ] {
            assert!(wrong.parse::<Assignment>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn no_value_is_more_than_a_value() {
        for hostile in [
            "\"\nname = \"other",
            "x\"\n[qemu]\nargs=[\"-S\"]",
            "\"a\" # b",
            "'''",
            "\\u0041",
            "%n$HOME,,=",
            "\u{7f}\t\r\n",
        ] {
            let word = format!("description={hostile}");
            let text = assigned("name = \"web\"\n", &[&word]).unwrap();
            let config = VmConfig::parse(&text, Path::new("web.toml"));
            let source = Source::parse(&text, Path::new("web.toml")).unwrap();
            assert!(!source.says("qemu"), "{text}");
            match config {
                Ok(config) => assert_eq!(config.description.as_deref(), Some(hostile)),
                // A character that a description cannot have.
                Err(error) => assert_eq!(error.mistakes().len(), 1, "{error}"),
            }
        }
    }
}
