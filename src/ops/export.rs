//! Definitions as one text, to be kept elsewhere or taken to another host.
//!
//! Each begins with a line that is a comment to everyone else, and so the text of one
//! VM alone is a definition:
//!
//! ```text
//! #-- VM web, UUID 0b6c1d1e-7c7e-4b52-9f6e-2d0a3c1f5a77, starts at boot --
//! memory = "4G"
//! name = "web"
//! ```

use std::path::Path;

use serde::Serialize;

use crate::config::VmConfig;
use crate::store::Row;
use crate::systemd::boot;
use crate::vm::VmName;

use super::{Error, Host};

/// A VM as it is written to a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Its name.
    pub name: VmName,
    /// Its UUID, from which its MAC addresses derive; none in a text that is written by hand.
    pub uuid: Option<String>,
    /// Whether it starts at boot.
    pub enabled: bool,
    /// Its definition.
    pub definition: String,
}

/// The definitions of VMs.
///
/// # Errors
/// [`Error::NotExported`] for one that a text of several could not be told by.
pub fn export(host: &Host, names: &[VmName]) -> Result<Vec<Exported>, Error> {
    let enabled = boot::enabled(&host.scope)?;
    let rows = names.iter().map(|name| host.vm(name));
    rows.map(|row| exported(row?, &enabled)).collect()
}

fn exported(row: Row, enabled: &[VmName]) -> Result<Exported, Error> {
    let definition = without_marks(&row.definition);
    if definition != row.definition {
        let read = |text: &str| VmConfig::parse(text, Path::new("definition.toml")).ok();
        let (before, after) = (read(&row.definition), read(&definition));
        if before != after {
            return Err(Error::NotExported(row.name));
        }
    }
    Ok(Exported {
        enabled: enabled.contains(&row.name),
        name: row.name,
        uuid: Some(row.uuid),
        definition,
    })
}

/// A definition without the lines that an earlier export has begun it with.
fn without_marks(definition: &str) -> String {
    definition
        .split_inclusive('\n')
        .filter(|line| mark(line).is_none())
        .collect()
}

/// The text of several definitions.
pub fn text(exported: &[Exported]) -> String {
    let mut text = String::new();
    for (i, vm) in exported.iter().enumerate() {
        if i > 0 {
            text.push('\n');
        }
        let uuid = vm.uuid.as_deref().unwrap_or_default();
        let boot = if vm.enabled { AT_BOOT } else { "" };
        text.push_str(&format!("#-- VM {}, UUID {uuid}{boot} --\n", vm.name));
        text.push_str(&vm.definition);
        if !vm.definition.ends_with('\n') {
            text.push('\n');
        }
    }
    text
}

/// What the line says of a VM that starts at boot.
const AT_BOOT: &str = ", starts at boot";

/// What a line says that a definition begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark<'a> {
    pub name: VmName,
    pub uuid: &'a str,
    pub enabled: bool,
}

fn mark(line: &str) -> Option<Mark<'_>> {
    let line = line.trim_end_matches(['\n', '\r']);
    let (name, rest) = line
        .strip_prefix("#-- VM ")?
        .strip_suffix(" --")?
        .split_once(", UUID ")?;
    let uuid = rest.strip_suffix(AT_BOOT);
    Some(Mark {
        name: name.parse().ok()?,
        uuid: uuid.unwrap_or(rest),
        enabled: uuid.is_some(),
    })
}

/// A definition within a text, and where it begins there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// What it begins with, if the text has that.
    pub mark: Option<Mark<'a>>,
    /// How many lines are before it.
    pub lines_before: usize,
    pub definition: &'a str,
}

/// The definitions in a text; the whole of it, if nothing tells where one begins.
pub(super) fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = vec![Part {
        mark: None,
        lines_before: 0,
        definition: "",
    }];
    let (mut begin, mut at) = (0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        at += line.len();
        let last = parts.last_mut().expect("there is always one");
        if let Some(mark) = mark(line) {
            begin = at;
            parts.push(Part {
                mark: Some(mark),
                lines_before: number + 1,
                definition: "",
            });
        } else {
            last.definition = &text[begin..at];
        }
    }
    let is_first_said = parts[0].definition.lines().any(|line| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    });
    if parts.len() > 1 && !is_first_said {
        parts.remove(0);
    }
    // The empty line before the next one is not the definition's.
    let last = parts.len() - 1;
    for part in &mut parts[..last] {
        if part.definition.ends_with("\n\n") {
            part.definition = &part.definition[..part.definition.len() - 1];
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "0b6c1d1e-7c7e-4b52-9f6e-2d0a3c1f5a77";

    fn vm(name: &str, definition: &str) -> Exported {
        Exported {
            name: name.parse().unwrap(),
            uuid: Some(UUID.to_owned()),
            enabled: name == "b",
            definition: definition.to_owned(),
        }
    }

    fn read(text: &str) -> Vec<Exported> {
        parts(text)
            .into_iter()
            .map(|part| {
                let mark = part.mark.unwrap();
                Exported {
                    name: mark.name,
                    uuid: Some(mark.uuid.to_owned()),
                    enabled: mark.enabled,
                    definition: part.definition.to_owned(),
                }
            })
            .collect()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let texts = [
            "name = \"a\"\n",
            "\n\n# it\nname = \"a\" # a\n\n\n",
            "\n",
            "append = '''\n#-- VM\n'''\n",
            "name = \"a\"\r\n\r\n[disk.\"b\"]\r\nsize = \"1G\"\r\n",
            "description = \"\u{fc}\u{2028}\"\n",
        ];
        // Every sequence of three of them.
        for a in texts {
            for b in texts {
                for c in texts {
                    let all = [vm("a", a), vm("b", b), vm("c", c)];
                    assert_eq!(read(&text(&all)), all);
                }
            }
        }
    }

    #[test]
    fn a_text_without_a_mark_is_one_definition() {
        let text = "# mine\nname = \"a\"\n";
        let all = parts(text);
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].definition, &all[0].mark), (text, &None));
        let before = format!("# kept\n\n#-- VM a, UUID {UUID} --\nname = \"a\"\n");
        assert_eq!(parts(&before).len(), 1);
        assert_eq!(parts(&before)[0].lines_before, 3);
        let said = format!("cpus = 1\n#-- VM a, UUID {UUID} --\nname = \"a\"\n");
        assert_eq!(parts(&said).len(), 2, "nothing that is said is dropped");
    }

    #[test]
    fn a_definition_that_was_exported_before_has_no_second_mark() {
        let text = format!("#-- VM a, UUID {UUID} --\nname = \"a\"\n");
        assert_eq!(without_marks(&text), "name = \"a\"\n");
    }
}
