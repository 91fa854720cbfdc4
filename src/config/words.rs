//! A disk or a network as `key=value` words, the keys those of its table.

use std::path::Path;

use toml_edit::{Array, Value};

use super::document::Document;
use super::error::{Error, Mistake};
use super::path::path_text;

impl Document {
    /// Writes words of a command line into `table`, such as `disk.data`.
    ///
    /// A relative `file` is relative to `dir`; nothing in it is expanded, as the
    /// shell has done so. A key that is given again adds to a list. Whether keys
    /// and values make sense is for [`VmConfig::parse`](super::VmConfig::parse) to say.
    pub fn set_words(&mut self, table: &str, words: &[String], dir: &Path) -> Result<(), Error> {
        let wrong =
            |message: String| Error::new(Path::new(table), vec![Mistake { at: None, message }]);
        self.add_table(table)?;
        // Whether and how many; every other value is a text.
        const BOOLS: [&str; 6] = ["read-only", "removable", "restrict", "ipv4", "ipv6", "link"];
        const NUMBERS: [&str; 9] = [
            "boot-index",
            "bus",
            "mtu",
            "rotation-rate",
            "logical-block-size",
            "physical-block-size",
            "limits.iops",
            "limits.iops-read",
            "limits.iops-write",
        ];
        let (mut forwards, mut domains) = (Array::new(), Array::new());
        for word in words {
            let (key, text) = word
                .split_once('=')
                .filter(|(key, _)| is_plain(key))
                .ok_or_else(|| wrong(format!("`{word}` is not a setting: write key=value")))?;
            let value: Value = match key {
                "file" | "listen" | "connect" | "local" | "remote" if !text.is_empty() => {
                    std::path::absolute(dir.join(text))
                        .ok()
                        .and_then(|path| path_text(&path))
                        .ok_or_else(|| wrong(format!("`{word}`: this cannot be a path")))?
                        .into()
                }
                _ if BOOLS.contains(&key) => truth(text)
                    .ok_or_else(|| wrong(format!("`{word}`: expected `on` or `off`")))?
                    .into(),
                "iothread" => truth(text).map_or(text.into(), Value::from),
                _ if NUMBERS.contains(&key) => text
                    .parse::<i64>()
                    .map_err(|_| wrong(format!("`{word}`: expected a whole number")))?
                    .into(),
                "forward" => {
                    forwards.push(text);
                    forwards.clone().into()
                }
                "dns-search" => {
                    domains.push(text);
                    domains.clone().into()
                }
                _ => text.into(),
            };
            self.set(&format!("{table}.{key}"), value)?;
        }
        Ok(())
    }
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "on" | "true" | "yes" => Some(true),
        "off" | "false" | "no" => Some(false),
        _ => None,
    }
}

/// Whether it is a key, maybe of the table of limits.
fn is_plain(key: &str) -> bool {
    let key = key.strip_prefix("limits.").unwrap_or(key);
    !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(table: &str, words: &[&str]) -> Result<String, Error> {
        let mut document = Document::parse("name = \"web\" # it\n", Path::new("x")).unwrap();
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        document.set_words(table, &words, Path::new("/here"))?;
        Ok(document.to_string())
    }

    #[test]
    fn words_become_a_table() {
        for (table, said, text) in [
            (
                "disk.data",
                &["file=a,b$c.raw", "read-only=on", "format=raw"][..],
                "\n[disk.data]\nfile = \"/here/a,b$$c.raw\"\nread-only = true\nformat = \"raw\"\n",
            ),
            (
                "net.lan",
                &["forward=2222:22", "forward=udp:53:53"],
                "\n[net.lan]\nforward = [\"2222:22\", \"udp:53:53\"]\n",
            ),
            ("net.lan", &[], "\n[net.lan]\n"),
        ] {
            assert_eq!(
                words(table, said).unwrap(),
                format!("name = \"web\" # it\n{text}")
            );
        }
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for word in ["file", "=x", "a.b=c", "read-only=perhaps"] {
            let message = words("disk.data", &[word]).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}
