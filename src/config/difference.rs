//! What two definitions of a VM mean that is not the same, key by key.

use serde::Serialize;
use serde_json::Value as Json;
use toml_edit::{Item, Value};

use super::short;
use super::{Document, Size, TimeSpan, VmConfig};

/// A key whose value is another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The key, a dotted path; of a table that only one of them has, the table's.
    pub key: String,
    /// The value before, its default if it was not said; sizes in bytes, spans in seconds.
    pub old: Json,
    /// The value after.
    pub new: Json,
    /// The value before, for people.
    #[serde(skip)]
    pub old_text: String,
    /// The value after, for people.
    #[serde(skip)]
    pub new_text: String,
}

/// The keys whose values differ, in the order of the schema.
///
/// What is written in another way, or moved, or only commented on, does not differ.
pub fn differences(old: (&Document, &VmConfig), new: (&Document, &VmConfig)) -> Vec<Difference> {
    let json = |config| serde_json::to_value(config).expect("a definition is plain data");
    let mut walk = Walk {
        old: old.0,
        new: new.0,
        found: Vec::new(),
    };
    walk.compare("", &json(old.1), &json(new.1));
    let Walk { old, new, found } = walk;
    // The format that an empty drive would have is nobody's.
    let empty: Vec<String> = found
        .iter()
        .filter(|it| it.old.is_null() || it.new.is_null())
        .filter_map(|it| it.key.strip_suffix(".file"))
        .map(|disk| format!("{disk}.format"))
        .collect();
    let is_told =
        |it: &Difference| !empty.contains(&it.key) || old.says(&it.key) || new.says(&it.key);
    found.into_iter().filter(is_told).collect()
}

struct Walk<'a> {
    old: &'a Document,
    new: &'a Document,
    found: Vec<Difference>,
}

impl Walk<'_> {
    fn compare(&mut self, key: &str, old: &Json, new: &Json) {
        if old == new {
            return;
        }
        match (old, new) {
            (Json::Object(before), Json::Object(after))
                if short::word(key).is_some() || !self.is_value(key) =>
            {
                let added = after.keys().filter(|word| !before.contains_key(*word));
                for word in before.keys().chain(added) {
                    let inner = self.inner(key, word);
                    let value = |map: &serde_json::Map<String, Json>| {
                        map.get(word).cloned().unwrap_or_default()
                    };
                    self.compare(&inner, &value(before), &value(after));
                }
            }
            _ => self.found.push(Difference {
                key: key.to_owned(),
                old_text: text(self.old.get(key), old, self.new.get(key), new),
                new_text: text(self.new.get(key), new, self.old.get(key), old),
                old: old.clone(),
                new: new.clone(),
            }),
        }
    }

    /// Whether one of the texts gives the key a value that is no table, nor `true` for one.
    fn is_value(&self, key: &str) -> bool {
        let mut items = [self.old, self.new].into_iter().flat_map(|it| it.get(key));
        !key.is_empty() && items.any(|item| !item.is_table_like() && item.as_bool() != Some(true))
    }

    /// A key within another: as it is written, or as it would be.
    fn inner(&self, outer: &str, word: &str) -> String {
        let join = |word: &str| match outer {
            "" => word.to_owned(),
            outer => format!("{outer}.{word}"),
        };
        let is_table = |it: &Document| it.get(outer).is_some_and(Item::is_table_like);
        if short::word(outer) == Some(word) && !is_table(self.old) && !is_table(self.new) {
            return outer.to_owned();
        }
        let key = join(word);
        match self.old.says(&key) || self.new.says(&key) {
            true => key,
            // JSON has underscores where definitions have hyphens.
            false => join(&word.replace('_', "-")),
        }
    }
}

/// A value for people: as it is written, or its default in the same words as `other`.
fn text(said: Option<&Item>, value: &Json, other: Option<&Item>, other_value: &Json) -> String {
    if let Some(said) = said.and_then(|item| item.clone().into_value().ok()) {
        return shown(said);
    }
    match value {
        Json::Null => "none".to_owned(),
        Json::String(text) => quoted_if_need_be(text),
        Json::Number(number) => {
            let like = other.and_then(Item::as_str).unwrap_or_default();
            let is = |bytes: Option<u64>| bytes.is_some() && bytes == other_value.as_u64();
            match number.as_u64() {
                Some(bytes) if is(like.parse::<Size>().ok().map(Size::bytes)) => {
                    Size::from_bytes(bytes).to_string()
                }
                Some(seconds)
                    if is(like
                        .parse::<TimeSpan>()
                        .ok()
                        .map(|it| it.duration().as_secs())) =>
                {
                    format!("{seconds}s")
                }
                _ => number.to_string(),
            }
        }
        Json::Object(_) => "(default)".to_owned(),
        other => other.to_string(),
    }
}

/// A value on one line.
fn shown(mut value: Value) -> String {
    fn tidy(value: &mut Value) {
        match value {
            Value::Array(list) => {
                list.iter_mut().for_each(tidy);
                list.fmt();
                list.set_trailing("");
                list.set_trailing_comma(false);
            }
            Value::InlineTable(table) => {
                table.iter_mut().for_each(|(_, value)| tidy(value));
                table.fmt();
            }
            _ => {}
        }
    }
    tidy(&mut value);
    value.decor_mut().clear();
    match &value {
        Value::String(text) => quoted_if_need_be(text.value()),
        other => other.to_string(),
    }
}

fn quoted_if_need_be(text: &str) -> String {
    match text.is_empty() || text.trim() != text || text.contains(char::is_control) {
        true => format!("{text:?}"),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn told(old: &str, new: &str) -> Vec<String> {
        let read = |text: &str| {
            let file = Path::new("/x/web.toml");
            let document = Document::parse(text, file).unwrap();
            (document, VmConfig::parse(text, file).unwrap())
        };
        let (old, new) = (read(old), read(new));
        differences((&old.0, &old.1), (&new.0, &new.1))
            .into_iter()
            .map(|it| format!("{}: {} -> {}", it.key, it.old_text, it.new_text))
            .collect()
    }

    #[test]
    fn what_is_another_is_told_as_it_is_written() {
        for (old, new, lines) in [
            ("", "memory = \"4G\"", &["memory: 1G -> 4G"][..]),
            ("memory = \"1.5G\"", "", &["memory: 1.5G -> 1G"]),
            ("", "stop.timeout = \"2m\"", &["stop.timeout: 60s -> 2m"]),
            ("", "cpu = \"max\"", &["cpu: none -> max"]),
            (
                "cpu = \"max\"\nmemory = \"2G\"",
                "cpu.model = \"host\"\nmemory.shared = true",
                &[
                    "cpu.model: max -> host",
                    "memory.shared: false -> true",
                    "memory.size: 2G -> 1G",
                ],
            ),
            (
                "",
                "start-delay = \"5s\"\nafter = [\"db\"]",
                &["after: [] -> [\"db\"]", "start-delay: 0s -> 5s"],
            ),
            ("", "description = \"\"", &["description: none -> \"\""]),
            (
                "[net.a_b]\nforward = [\n \"2222:22\", # ssh\n]",
                "net.a_b = { forward = [ \"2222:22\" ,\"80:80\"] }",
                &["net.a_b.forward: [\"2222:22\"] -> [\"2222:22\", \"80:80\"]"],
            ),
            (
                "",
                "[disk.a]\nsize = \"1G\"\nread-only = false",
                &["disk.a: none -> { size = \"1G\", read-only = false }"],
            ),
            (
                "[disk.a]\nfile = \"a\"",
                "[disk.a]\nfile = \"a\"\nread-only = true",
                &["disk.a.read-only: false -> true"],
            ),
            ("", "net = {}", &["net.net0: (default) -> none"]),
            (
                "balloon = true",
                "balloon.target = \"64M\"",
                &["balloon.target: none -> 64M"],
            ),
            ("", "balloon = false", &["balloon: (default) -> false"]),
            (
                "",
                "unit.MemoryHigh = \"3G\"",
                &["unit.MemoryHigh: none -> 3G"],
            ),
        ] {
            assert_eq!(told(old, new), lines, "{new}");
        }
    }

    #[test]
    fn an_empty_drive_has_no_format_to_tell_of() {
        let empty = "disk.cd.interface = \"cdrom\"\n";
        let with = |more: &str| format!("{empty}disk.cd.file = \"a.iso\"\n{more}");
        assert_eq!(told(&with(""), empty), ["disk.cd.file: a.iso -> none"]);
        assert_eq!(told(empty, &with("")), ["disk.cd.file: none -> a.iso"]);
        let said = told(empty, &with("disk.cd.format = \"raw\""));
        assert_eq!(said.len(), 2, "{said:?}");
    }

    #[test]
    fn what_means_the_same_does_not_differ() {
        for (old, new) in [
            ("", "memory = \"1024M\" # a comment"),
            ("disk.a.size = \"1G\"", "[disk]\na = { size = \"1024M\" }"),
            ("", "[net.net0]"),
            (
                "net.a.forward = [\"1:2\"]",
                "net.a.forward = [\"tcp:127.0.0.1:1:2\"]",
            ),
        ] {
            assert_eq!(told(old, new), [""; 0], "{new}");
        }
    }
}
