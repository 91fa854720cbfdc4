//! Templates: definitions to begin with, built in or of the user.

use std::fs;
use std::path::{Path, PathBuf};

use crate::nearest::nearest;

/// How `extends` names one.
pub(super) const PREFIX: &str = "template:";

/// A template that is built in.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    /// Its name.
    pub name: &'static str,
    /// TOML. Its first line is a comment that says what it is for.
    pub text: &'static str,
}

/// Those that are built in.
pub const BUILT_IN: &[Template] = &[
    Template {
        name: "ci",
        text: include_str!("templates/ci.toml"),
    },
    Template {
        name: "linux",
        text: include_str!("templates/linux.toml"),
    },
    Template {
        name: "microvm",
        text: include_str!("templates/microvm.toml"),
    },
];

pub(super) fn built_in(name: &str) -> Option<&'static Template> {
    BUILT_IN.iter().find(|template| template.name == name)
}

/// The file of a user's template.
///
/// One with the name of a built-in is refused, lest the name mean the one here and
/// the other elsewhere.
pub(super) fn file(name: &str, dir: &Path) -> Result<PathBuf, String> {
    let file = dir.join(format!("{name}.toml"));
    // A name, and no path out of the directory.
    if !name.is_empty() && !name.contains('/') && !name.starts_with('.') && file.is_file() {
        return Ok(file);
    }
    let known = names(dir);
    let near = nearest(name, &known);
    Err(match near.first() {
        Some(near) => format!("there is no template `{name}`, did you mean `{near}`?"),
        None => format!(
            "there is no template `{name}`: there are `{}`",
            known.join("`, `")
        ),
    })
}

/// The names of all templates, sorted.
pub(super) fn names(dir: &Path) -> Vec<String> {
    let own = BUILT_IN.iter().map(|template| template.name.to_owned());
    let mut names: Vec<String> = own.chain(users(dir)).collect();
    names.sort();
    names.dedup();
    names
}

/// The names of the user's templates, sorted, those of built-in ones left out.
pub fn users(dir: &Path) -> Vec<String> {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = files
        .filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            let name = name.strip_suffix(".toml")?;
            (!name.is_empty() && !name.starts_with('.')).then(|| name.to_owned())
        })
        .filter(|name| built_in(name).is_none())
        .collect();
    names.sort();
    names
}
