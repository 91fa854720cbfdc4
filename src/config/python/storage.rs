//! `storage`: disks into ours, shared directories into an option of QEMU.

use std::ops::Range;
use std::path::Path;

use super::{Converter, plain_path, scalar, text};
use crate::config::DeviceName;
use crate::config::yaml::{Map, Node, Value};

/// The size that a disk was made with when nothing was said.
const DEFAULT_SIZE: &str = "10G";

impl<'a> Converter<'_, 'a> {
    pub(super) fn storage(&mut self, items: &[Node<'a>]) {
        for (i, item) in items.iter().enumerate() {
            let span = item.span();
            match item.get_ref() {
                Value::Map(map) => self.device(i, map, span),
                _ => self.mistake(span, "expected a table with `type`, `file` and the like"),
            }
        }
    }

    fn device(&mut self, i: usize, map: &Map<'a>, span: Range<usize>) {
        let kind = map.iter().find(|(key, _)| key.get_ref() == "type");
        let kind = kind.and_then(|(_, kind)| scalar(kind.get_ref()));
        let name = map.iter().find(|(key, _)| key.get_ref() == "name");
        let name = name.and_then(|(_, name)| scalar(name.get_ref()));
        let name = name.unwrap_or_else(|| format!("storage{i}"));
        match kind.as_deref().unwrap_or("qcow2") {
            "virtfs" => self.share(&name, map, span),
            kind @ ("qcow2" | "raw") => self.disk(&name, kind, map, span),
            other => {
                let message = format!(
                    "there is no storage of type `{}`: expected qcow2, raw or virtfs",
                    other.escape_debug()
                );
                self.mistake(span, message);
            }
        }
    }

    fn disk(&mut self, name: &str, kind: &str, map: &Map<'a>, span: Range<usize>) {
        let name = device_name(name);
        let key = |last: &str| format!("disk.{name}.{last}");
        if self
            .tree
            .get("disk")
            .is_some_and(|disks| disks.get_ref().get(&*name).is_some())
        {
            return self.mistake(span, format!("another disk is called `{name}`, too"));
        }
        // Before its values: a disk with nothing to say is one, too.
        let nowhere = span.start..span.start;
        self.set(&key("format"), &nowhere, text(kind));
        let file = map.iter().find(|(key, _)| key.get_ref() == "file");
        let file = file.and_then(|(_, file)| scalar(file.get_ref()));
        let is_there = file.is_some_and(|file| Path::new(&self.absolute(&file)).is_file());
        let mut size = DEFAULT_SIZE.to_owned();
        let mut size_span = nowhere.clone();
        for (word, value) in map {
            let at = value.span();
            let said = scalar(value.get_ref());
            match (&**word.get_ref(), said) {
                ("name" | "type", Some(_)) => {}
                ("file", Some(path)) => self.set(&key("file"), &at, text(plain_path(&path))),
                ("size", Some(text)) => {
                    // Bytes, where it has no unit.
                    let unit = if text.bytes().all(|b| b.is_ascii_digit()) {
                        "B"
                    } else {
                        ""
                    };
                    size = format!("{text}{unit}").to_ascii_uppercase();
                    size_span = at;
                }
                ("interface", Some(interface)) => match &*interface {
                    "virtio" | "sata" | "scsi" => self.set(&key("interface"), &at, text(interface)),
                    "ide" => {
                        self.set(&key("interface"), &at, text("sata"));
                        self.note(format!("disk `{name}` is a SATA disk; it was an IDE disk"));
                    }
                    other => {
                        let message = format!(
                            "no device has the interface `{}`: expected virtio, sata, scsi or ide",
                            other.escape_debug()
                        );
                        self.mistake(at, message);
                    }
                },
                // An image that is there knows what it stands on.
                ("backing_file" | "backing_format", Some(_)) if is_there => {}
                ("backing_file" | "backing_format", Some(_)) => {
                    let message = "a disk on top of another is not made here: make it with \
                         `qemu-img create -f qcow2 -b BASE -F FORMAT FILE`";
                    self.mistake(word.span(), message);
                }
                (_, None) => self.mistake(at, "expected a text"),
                (other, _) => {
                    let message = format!("`{}` is no key of a disk", other.escape_debug());
                    self.mistake(word.span(), message);
                }
            }
        }
        self.set(&key("size"), &size_span, text(size));
    }

    /// A directory that the guest mounts over 9p.
    fn share(&mut self, name: &str, map: &Map<'a>, span: Range<usize>) {
        let mut path = None;
        let mut options: &[_] = &[];
        for (word, value) in map {
            match (&**word.get_ref(), value.get_ref()) {
                ("name" | "type", _) => {}
                ("path", Value::Text(text)) => path = Some(self.absolute(text)),
                ("options", Value::Map(map)) => options = map,
                _ => {
                    let message =
                        "is no key of a shared directory: those are name, type, path and options";
                    self.mistake(word.span(), message);
                }
            }
        }
        let Some(path) = path else {
            return self.mistake(span, "a shared directory needs a `path`");
        };
        let mut said: Vec<(String, String)> = vec![
            ("path".to_owned(), path),
            ("mount_tag".to_owned(), name.to_owned()),
            ("security_model".to_owned(), "passthrough".to_owned()),
            ("id".to_owned(), name.to_owned()),
        ];
        for (word, value) in options {
            let Some(value_text) = scalar(value.get_ref()) else {
                self.mistake(value.span(), "expected a text");
                continue;
            };
            match said.iter_mut().find(|(key, _)| key == word.get_ref()) {
                Some((_, old)) => *old = value_text,
                None => said.push((word.get_ref().clone().into_owned(), value_text)),
            }
        }
        let said: Vec<String> = said
            .into_iter()
            .map(|(key, value)| format!("{key}={}", value.replace(',', ",,")))
            .collect();
        self.pass(&span, "-virtfs");
        self.pass(&span, format!("local,{}", said.join(",")));
    }
}

/// The nearest name that a disk can have.
fn device_name(name: &str) -> String {
    if name.parse::<DeviceName>().is_ok() {
        return name.to_owned();
    }
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' {
                c
            } else {
                '-'
            }
        })
        .collect();
    let plain = plain.trim_matches('-');
    let start = if plain.starts_with(|c: char| c.is_ascii_alphabetic()) {
        ""
    } else {
        "disk-"
    };
    let name: String = format!("{start}{plain}").chars().take(20).collect();
    if name.parse::<DeviceName>().is_ok() {
        name
    } else {
        "disk".to_owned()
    }
}
