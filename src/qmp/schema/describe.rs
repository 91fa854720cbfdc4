//! Commands described to people.

use serde::Serialize;

use super::{Error, Schema};

/// What a command takes and answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// The command.
    pub command: String,
    /// Its arguments.
    pub arguments: Vec<Argument>,
    /// The type of its answer, as in [`Argument::kind`].
    pub answer: String,
    /// The members of its answer, or of each element of it.
    pub answer_members: Vec<Argument>,
}

/// An argument, or a member of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Argument {
    /// Its key.
    pub name: String,
    /// Its type: `int`, `string`, `on | off`, `object`, `[string]` …
    pub kind: String,
    /// Whether it can be left out.
    pub optional: bool,
    /// Only with this value of the argument that decides, such as `driver=qcow2`.
    pub only_with: Option<String>,
    /// The members of the object that it is or can be, or that its elements are.
    pub members: Vec<Argument>,
    /// An object that contains this one and has the same members, which are not
    /// told twice: the path to it, empty for the whole.
    pub like: Option<String>,
}

/// Objects within objects are described this far down.
const DEPTH: usize = 5;

impl Schema {
    /// The arguments of a command, and its answer.
    ///
    /// # Errors
    ///
    /// [`Error::NoCommand`], and [`Error::Schema`] if the schema does not hold together.
    pub fn describe(&self, command: &str) -> Result<Description, Error> {
        let (arg_type, ret_type) = self.command(command)?;
        let answer_members = match self.object_in(&ret_type)? {
            Some(object) => self.members(&object, &mut vec![(object.clone(), String::new())])?,
            None => Vec::new(),
        };
        Ok(Description {
            command: command.to_owned(),
            arguments: self.members(&arg_type, &mut vec![(arg_type.clone(), String::new())])?,
            answer: self.kind(&ret_type)?,
            answer_members,
        })
    }

    /// The members of an object; `within` has it and those around it, with their paths.
    fn members(
        &self,
        object: &str,
        within: &mut Vec<(String, String)>,
    ) -> Result<Vec<Argument>, Error> {
        let object = self.object(object)?;
        let mut all = Vec::new();
        for member in &object.members {
            let mut like = None;
            let mut members = Vec::new();
            if let Some(inside) = self.object_in(&member.kind)? {
                like = within
                    .iter()
                    .find(|(around, _)| *around == inside)
                    .map(|(_, path)| path.clone());
                if like.is_none() && within.len() <= DEPTH {
                    let path = match within.last() {
                        Some((_, path)) if !path.is_empty() => format!("{path}.{}", member.name),
                        _ => member.name.clone(),
                    };
                    within.push((inside.clone(), path));
                    members = self.members(&inside, within)?;
                    within.pop();
                }
            }
            all.push(Argument {
                name: member.name.clone(),
                kind: self.kind(&member.kind)?,
                optional: member.optional,
                only_with: None,
                members,
                like,
            });
        }
        for variant in &object.variants {
            let case = format!(
                "{}={}",
                object.tag.as_deref().unwrap_or_default(),
                variant.case
            );
            for mut member in self.members(&variant.kind, within)? {
                // A variant may have variants of its own.
                member.only_with = Some(match member.only_with {
                    Some(further) => format!("{case} {further}"),
                    None => case.clone(),
                });
                all.push(member);
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::schema;
    use super::*;

    fn find<'a>(arguments: &'a [Argument], name: &str, with: Option<&str>) -> &'a Argument {
        arguments
            .iter()
            .find(|argument| argument.name == name && argument.only_with.as_deref() == with)
            .unwrap_or_else(|| panic!("no {name} with {with:?} in {arguments:#?}"))
    }

    #[test]
    fn every_command_can_be_described() {
        let schema = schema();
        for command in schema.commands() {
            schema.describe(command).unwrap();
        }
        let blockdev = schema.describe("blockdev-add").unwrap().arguments;
        let discard = find(&blockdev, "discard", None);
        assert_eq!(
            (discard.kind.as_str(), discard.optional),
            ("ignore | unmap", true)
        );
        // An object that may be another of its own kind is told once.
        let file = find(&blockdev, "file", Some("driver=qcow2"));
        assert_eq!(file.like.as_deref(), Some(""));
        assert!(file.kind.contains("string") && file.kind.contains("object"));
        let encrypt = find(&blockdev, "encrypt", Some("driver=qcow2"));
        let secret = find(&encrypt.members, "key-secret", Some("format=luks"));
        assert_eq!(secret.kind, "string");
    }

    #[test]
    fn the_elements_of_lists_and_answers_are_described() {
        let schema = schema();
        let send_key = schema.describe("send-key").unwrap();
        let keys = &send_key.arguments[0];
        assert_eq!(keys.kind, "[object]");
        let code = find(&keys.members, "data", Some("type=qcode"));
        assert!(code.kind.contains("ctrl"));
        assert_eq!(
            (send_key.answer.as_str(), send_key.answer_members),
            ("object", vec![])
        );
        let status = schema.describe("query-status").unwrap();
        let state = find(&status.answer_members, "status", None);
        assert!(state.kind.contains("prelaunch"));
    }
}
