//! How a word can go on.

use super::types::{Entity, Member};
use super::words::Said;
use super::{Error, Schema};

impl Schema {
    /// The whole words that `word` can become after the words `before` it: commands
    /// first; then arguments that were not given yet, which end in `=` or `.`; and
    /// after the `=` the values of an enumeration. Sorted.
    pub fn completions(&self, before: &[String], word: &str) -> Vec<String> {
        let mut found = match before.split_first() {
            None => self.commands().into_iter().map(str::to_owned).collect(),
            Some((command, arguments)) => {
                let mut said = Said::default();
                for argument in arguments {
                    // What makes no sense is told when the line is.
                    let _ = said.add(argument);
                }
                self.argument_completions(command, &said, word)
                    .unwrap_or_default()
            }
        };
        found.retain(|found| found.starts_with(word));
        found.sort_unstable();
        found.dedup();
        found
    }

    fn argument_completions(
        &self,
        command: &str,
        said: &Said,
        word: &str,
    ) -> Result<Vec<String>, Error> {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        };
        let (mut object, _) = self.command(command)?;
        let mut said = Some(said);
        let mut path = String::new();
        let (way, last) = key.rsplit_once('.').unwrap_or(("", key));
        let mut steps = way.split('.').filter(|step| !step.is_empty()).peekable();
        while let Some(step) = steps.next() {
            let members = self.members_said(&object, said)?;
            let Some(member) = members.into_iter().find(|member| member.name == step) else {
                return Ok(Vec::new());
            };
            path = format!("{path}{step}.");
            said = said.and_then(|said| said.inside(step));
            if self.is_list(&member.kind)? {
                let Some(index) = steps.next() else {
                    return Ok(indices(&path, said));
                };
                path = format!("{path}{index}.");
                said = said.and_then(|said| said.inside(index));
            }
            let Some(inside) = self.object_in(&member.kind)? else {
                return Ok(Vec::new());
            };
            object = inside;
        }
        let mut found = Vec::new();
        for member in self.members_said(&object, said)? {
            let name = format!("{path}{}", member.name);
            if value.is_some() {
                if member.name == last {
                    let values = self.values(&member.kind)?;
                    found.extend(values.iter().map(|value| format!("{name}={value}")));
                }
                continue;
            }
            let is_list = self.is_list(&member.kind)?;
            if said.is_some_and(|said| said.has_value(&member.name)) && !is_list {
                continue;
            }
            let object = self.object_in(&member.kind)?;
            if object.is_some() && is_list {
                let said = said.and_then(|said| said.inside(&member.name));
                found.extend(indices(&format!("{name}."), said));
            } else if object.is_some() {
                found.push(format!("{name}."));
            }
            if object.is_none() || self.kind(&member.kind)?.contains(" | ") {
                found.push(format!("{name}="));
            }
        }
        Ok(found)
    }

    /// The members of an object with what is `said` of those that decide about others.
    fn members_said(&self, name: &str, said: Option<&Said>) -> Result<Vec<Member>, Error> {
        let object = self.object(name)?;
        let mut members = object.members;
        let case = object
            .tag
            .and_then(|tag| said.and_then(|said| said.text(&tag)));
        if let Some(case) = case
            && let Some(variant) = object.variants.iter().find(|variant| variant.case == case)
        {
            members.extend(self.members_said(&variant.kind, said)?);
        }
        Ok(members)
    }

    fn is_list(&self, kind: &str) -> Result<bool, Error> {
        Ok(matches!(self.entity(kind)?, Entity::Array { .. }))
    }

    /// What can be said of a type that has few values.
    fn values(&self, kind: &str) -> Result<Vec<String>, Error> {
        Ok(match self.entity(kind)? {
            Entity::Enum { values } => values,
            Entity::Builtin { json_type } => match json_type.as_str() {
                "boolean" => vec!["on".to_owned(), "off".to_owned()],
                "null" => vec!["null".to_owned()],
                _ => Vec::new(),
            },
            Entity::Array { element_type } => self.values(&element_type)?,
            Entity::Alternate { members } => {
                let mut values = Vec::new();
                for member in members {
                    values.extend(self.values(&member.kind)?);
                }
                values
            }
            _ => Vec::new(),
        })
    }
}

/// The elements of a list that there are, and the next one.
fn indices(path: &str, said: Option<&Said>) -> Vec<String> {
    (0..)
        .take_while(|index: &u32| {
            let before = index.checked_sub(1).map(|before| before.to_string());
            before.is_none_or(|before| said.is_some_and(|said| said.inside(&before).is_some()))
        })
        .map(|index| format!("{path}{index}."))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::schema;

    #[test]
    fn a_word_goes_on_as_the_schema_says() {
        let schema = schema();
        let completions = |line: &str| {
            let (before, word) = line.rsplit_once(' ').unwrap_or(("", line));
            let before: Vec<String> = before.split_terminator(' ').map(str::to_owned).collect();
            schema.completions(&before, word)
        };
        for (line, expected) in [
            ("query-statu", &["query-status"][..]),
            ("set_l", &["set_link"]),
            ("frobnicate ", &[]),
            ("set_link ", &["name=", "up="]),
            ("set_link name=a ", &["up="]),
            ("set_link up=", &["up=off", "up=on"]),
            ("set_link nope=", &[]),
            ("blockdev-add dri", &["driver="]),
            ("blockdev-add driver=qcow", &["driver=qcow", "driver=qcow2"]),
            ("blockdev-add lazy", &[]),
            ("blockdev-add driver=qcow2 lazy", &["lazy-refcounts="]),
            // A name or an object.
            ("blockdev-add driver=qcow2 fil", &["file.", "file="]),
            ("blockdev-add driver=qcow2 file.dr", &["file.driver="]),
            ("blockdev-add driver=qcow2 file.filen", &[]),
            (
                "blockdev-add driver=qcow2 file.driver=file file.filen",
                &["file.filename="],
            ),
            ("blockdev-add cache.", &["cache.direct=", "cache.no-flush="]),
            ("blockdev-add driver.", &[]),
            ("send-key k", &["keys.0."]),
            ("send-key keys.", &["keys.0."]),
            ("send-key keys.0.type=qcode keys.", &["keys.0.", "keys.1."]),
            ("send-key keys.0.type=qcode keys.0.", &["keys.0.data="]),
            (
                "send-key keys.0.type=qcode keys.0.data=ctrl",
                &["keys.0.data=ctrl", "keys.0.data=ctrl_r"],
            ),
            ("query-status ", &[]),
        ] {
            assert_eq!(completions(line), expected, "{line}");
        }
        assert_eq!(completions("").len(), schema.commands().len());
    }
}
