//! The texts that a definition is made of: files, what they extend, templates, options.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::Error;
use super::notes;
use super::path::{self, Env};
use super::source::Source;
use super::template;

/// The key that says which texts are below this one.
pub(super) const EXTENDS: &str = "extends";
/// The key that says which keys of the texts below do not hold.
pub(super) const UNSET: &str = "unset";

/// Where a text comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// A template that is built in.
    Template(&'static str),
    /// An option of a command line, as it was typed.
    Option(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Template(name) => write!(f, "{}{name}", template::PREFIX),
            Self::Option(words) => f.write_str(words),
        }
    }
}

/// One text.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Where it comes from.
    pub origin: Origin,
    /// What its relative paths are relative to.
    pub dir: PathBuf,
    /// TOML.
    pub text: String,
    /// Whether its lists take the place of those below, instead of adding to them.
    pub replaces_lists: bool,
    /// Whether another extends it: then it does not say what the VM is called.
    pub is_base: bool,
}

impl Layer {
    /// The text of a file, which need not be there any more.
    pub fn file(path: &Path, text: String) -> Self {
        Self {
            origin: Origin::File(path.to_owned()),
            dir: path.parent().unwrap_or(Path::new("")).to_owned(),
            text,
            replaces_lists: false,
            is_base: false,
        }
    }

    /// Words of a command line; relative paths begin at `dir`.
    pub fn option(words: String, text: String, dir: &Path) -> Self {
        Self {
            origin: Origin::Option(words),
            dir: dir.to_owned(),
            text,
            replaces_lists: false,
            is_base: false,
        }
    }

    /// A template: one that is built in, or `NAME.toml` in `dir`.
    pub fn template(name: &str, dir: &Path) -> Result<Self, String> {
        if let Some(template) = template::built_in(name) {
            return Ok(Self {
                origin: Origin::Template(template.name),
                dir: PathBuf::new(),
                text: template.text.to_owned(),
                replaces_lists: false,
                is_base: true,
            });
        }
        let path = template::file(name, dir)?;
        let text = read(&path)?;
        let layer = Self::file(&path, text);
        Ok(Self {
            is_base: true,
            ..layer
        })
    }
}

/// A file is the same by any of its names.
fn identity(origin: &Origin) -> Origin {
    match origin {
        Origin::File(path) => Origin::File(fs::canonicalize(path).unwrap_or_else(|_| path.clone())),
        other => other.clone(),
    }
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// All texts of a definition, the lowest first: each wins over those before it.
#[derive(Clone, Debug)]
pub struct Layers {
    pub(super) layers: Vec<Layer>,
    /// The file that it is called after, and that what is in no file is told of.
    pub(super) file: PathBuf,
}

impl Layers {
    /// The texts, and below each what it extends; each file and template once, at its
    /// first place. `templates` is the user's directory of them.
    ///
    /// # Errors
    /// If a text is no TOML, or extends what cannot be read, or itself.
    pub fn load(texts: Vec<Layer>, templates: &Path) -> Result<Self, Error> {
        let mut files = texts.iter().filter_map(|layer| match &layer.origin {
            Origin::File(path) => Some(path.clone()),
            _ => None,
        });
        let file = files
            .next_back()
            .unwrap_or_else(|| "the command line".into());
        let mut loader = Loader {
            templates,
            env: &path::process_env,
            stack: Vec::new(),
            layers: Vec::new(),
        };
        for text in texts {
            loader.load(text)?;
        }
        Ok(Self {
            layers: loader.layers,
            file,
        })
    }

    /// Puts a text above all others.
    pub fn push(&mut self, layer: Layer) {
        self.layers.push(layer);
    }

    /// Whether it is the text of one file alone, which extends nothing.
    pub fn is_one_file(&self) -> bool {
        let [one] = self.layers.as_slice() else {
            return false;
        };
        let source = Source::parse_layer(one, &self.file);
        source.is_ok_and(|source| !source.says(EXTENDS) && !source.says(UNSET))
    }

    /// What the owner of the definition should know of it; see [`notes`].
    pub fn notes(&self) -> Vec<String> {
        let notes = self.layers.iter().map(|layer| match &layer.origin {
            Origin::File(file) => notes(&layer.text, file),
            _ => Vec::new(),
        });
        notes.flatten().collect()
    }

    /// The file that it is called after; what is in none is told of it.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

struct Loader<'a> {
    templates: &'a Path,
    env: Env<'a>,
    /// The texts that extend each other, up to the one that is being loaded.
    stack: Vec<Origin>,
    layers: Vec<Layer>,
}

impl Loader<'_> {
    fn load(&mut self, layer: Layer) -> Result<(), Error> {
        let identity = identity(&layer.origin);
        let known = |other: &Layer| self::identity(&other.origin) == identity;
        if self.layers.iter().any(known) {
            return Ok(());
        }
        let name = PathBuf::from(layer.origin.to_string());
        let source = Source::parse_layer(&layer, &name)?;
        let mut mistakes = Vec::new();
        self.stack.push(identity);
        let bases = source.words(EXTENDS, &mut mistakes);
        for base in bases {
            let span = base.span();
            match self.base(base.get_ref(), &layer) {
                Ok(base) => match self.circle(&base) {
                    None => self.load(base)?,
                    Some(circle) => mistakes.push(source.mistake_at(&span, circle)),
                },
                Err(message) => mistakes.push(source.mistake_at(&span, message)),
            }
        }
        self.stack.pop();
        source.check(mistakes)?;
        self.layers.push(layer);
        Ok(())
    }

    /// What a text calls `base`.
    fn base(&self, base: &str, from: &Layer) -> Result<Layer, String> {
        if let Some(name) = base.strip_prefix(template::PREFIX) {
            return Layer::template(name, self.templates);
        }
        let path = path::expand(base, &from.dir, self.env)?;
        let text = read(&path)?;
        Ok(Layer {
            is_base: true,
            ..Layer::file(&path, text)
        })
    }

    fn circle(&self, base: &Layer) -> Option<String> {
        let again = identity(&base.origin);
        let first = self.stack.iter().position(|origin| *origin == again)?;
        let circle = self.stack[first..].iter().chain([&again]);
        let circle: Vec<String> = circle.map(|origin| format!("`{origin}`")).collect();
        Some(match circle.as_slice() {
            [itself, _] => format!("{itself} extends itself"),
            circle => format!("this is a circle: {}", circle.join(" extends ")),
        })
    }
}

#[cfg(test)]
mod tests;
