//! What a command takes and answers, for people.

use std::io::{self, Write};

use crate::cli::output::{Output, table};
use crate::ops::Error;
use crate::ops::qmp::Session;
use crate::qmp::schema::{self, Argument, Description, Schema};

/// How wide a type may be, in characters.
const WIDTH: usize = 56;

/// Describes a command from the schema of the VM's QEMU: `words` are its name, and
/// arguments that decide about others.
pub(super) fn describe(
    out: &Output,
    session: &mut Session<'_>,
    words: &[String],
) -> anyhow::Result<()> {
    let description = find(session.schema()?, words).map_err(Error::from)?;
    // A pager may take its time to read.
    session.release();
    out.answer(&description, |w| write(w, &description))?;
    Ok(())
}

/// The description of a command, without what its arguments exclude.
pub(super) fn find(schema: &Schema, words: &[String]) -> Result<Description, schema::Error> {
    let (command, said) = words.split_first().map_or(("", words), |(c, s)| (c, s));
    let mut description = schema.describe(command)?;
    let said: Vec<(&str, &str)> = said
        .iter()
        .filter_map(|word| word.split_once('='))
        .collect();
    narrow(&mut description.arguments, &said, "");
    Ok(description)
}

fn narrow(members: &mut Vec<Argument>, said: &[(&str, &str)], path: &str) {
    members.retain(|member| {
        let cases = member.only_with.iter().flat_map(|with| with.split(' '));
        cases
            .filter_map(|case| case.split_once('='))
            .all(|(tag, case)| {
                said.iter()
                    .all(|(key, value)| key.strip_prefix(path) != Some(tag) || *value == case)
            })
    });
    for member in members {
        let inside = inside(path, member);
        narrow(&mut member.members, said, &inside);
    }
}

/// Writes a table of the arguments and one of the answer, with keys as words have them.
pub(super) fn write(w: &mut dyn Write, description: &Description) -> io::Result<()> {
    let mut rows = Vec::new();
    add_rows(&mut rows, &description.arguments, "", "");
    if rows.is_empty() {
        writeln!(w, "{} takes no arguments", description.command)?;
    } else {
        table(w, ["ARGUMENT", "NEEDED", "ONLY WITH", "TYPE"], rows)?;
    }
    writeln!(w, "\nanswer: {}", description.answer)?;
    let mut rows = Vec::new();
    let first = if description.answer.starts_with('[') {
        "0."
    } else {
        ""
    };
    add_rows(&mut rows, &description.answer_members, first, "");
    if !rows.is_empty() {
        writeln!(w)?;
        table(w, ["MEMBER", "ALWAYS", "ONLY WITH", "TYPE"], rows)?;
    }
    Ok(())
}

/// A row for each member and each one within it, and more for a type of many words.
fn add_rows(rows: &mut Vec<[String; 4]>, members: &[Argument], path: &str, with: &str) {
    for member in members {
        let mut only_with = with.to_owned();
        for case in member.only_with.iter().flat_map(|case| case.split(' ')) {
            let space = if only_with.is_empty() { "" } else { " " };
            only_with += &format!("{space}{path}{case}");
        }
        let object = match member.like.as_deref() {
            None => "object".to_owned(),
            Some("") => "object (the same keys again)".to_owned(),
            Some(like) => format!("object (keys as in {like})"),
        };
        let mut lines = lines(&member.kind.replace("object", &object)).into_iter();
        let needed = if member.optional { "" } else { "yes" };
        rows.push([
            format!("{path}{}", member.name),
            needed.to_owned(),
            only_with.clone(),
            lines.next().unwrap_or_default(),
        ]);
        rows.extend(lines.map(|line| [String::new(), String::new(), String::new(), line]));
        add_rows(rows, &member.members, &inside(path, member), &only_with);
    }
}

/// What the keys of a member's members begin with.
fn inside(path: &str, member: &Argument) -> String {
    let first = if member.kind.contains('[') { ".0" } else { "" };
    format!("{path}{}{first}.", member.name)
}

/// A type in lines that fit a terminal.
fn lines(kind: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for (index, part) in kind.split(" | ").enumerate() {
        let last = lines.last_mut().expect("there is one from the beginning");
        if index > 0 {
            last.push_str(" |");
        }
        if last.len() + part.len() >= WIDTH {
            lines.push(part.to_owned());
        } else {
            if index > 0 {
                last.push(' ');
            }
            last.push_str(part);
        }
    }
    lines
}
