//! What a user wants in every VM that does not say otherwise.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::Error;
use super::layer::{EXTENDS, UNSET};
use super::source::Source;
use super::{VmConfig, path};

/// The `[defaults]` table of `config.toml`.
///
/// They hold for a definition that lacks the key, each time that it is read; no
/// definition contains them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    text: String,
    file: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
struct File {
    #[serde(rename = "defaults")]
    _defaults: HashMap<String, IgnoredAny>,
}

impl Defaults {
    /// Reads the text of a `config.toml`.
    pub fn parse(text: &str, file: &Path) -> Result<Self, Error> {
        let source = Source::parse(text, file)?;
        let mut mistakes = Vec::new();
        if let Err(error) = source.read::<File>(&mut Vec::new()) {
            mistakes.extend_from_slice(error.mistakes());
        }
        for word in ["name", EXTENDS, UNSET] {
            let key = format!("defaults.{word}");
            if source.says(&key) {
                let message = format!("`{word}` is for definitions, and no default");
                mistakes.push(source.mistake_in_name(&key, message));
            }
        }
        // As the definition of a VM that says nothing else.
        let mut alone = Source::parse(text, file)?.into_table("defaults");
        alone.add("name", "defaults");
        let none = Self::default();
        let alone = VmConfig::read(alone, file, &none, &path::process_env)
            .and_then(|reading| reading.checked(|_| Vec::new()));
        if let Err(error) = alone {
            mistakes.extend_from_slice(error.mistakes());
        }
        let says_none = !source.says("defaults");
        source.check(mistakes)?;
        if says_none {
            return Ok(none);
        }
        Ok(Self {
            text: text.to_owned(),
            file: file.to_owned(),
        })
    }

    /// The text and its file, if there is one.
    pub(super) fn text(&self) -> Option<(&str, &Path)> {
        (!self.text.is_empty()).then_some((&self.text, &self.file))
    }
}
