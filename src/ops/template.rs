//! Definitions to begin with.

use std::path::PathBuf;

use serde::Serialize;

use crate::config::{BUILT_IN, Layer, Origin, user_templates};

use super::{Error, Host};

/// A template.
#[derive(Clone, Debug, Serialize)]
pub struct Template {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub about: String,
    /// Its file; `None` if it is built in.
    pub file: Option<PathBuf>,
    /// TOML.
    #[serde(skip)]
    pub text: String,
}

/// All templates: those that are built in, then the user's, each by name.
pub fn ls(host: &Host) -> Result<Vec<Template>, Error> {
    let built_in = BUILT_IN.iter().map(|template| template.name.to_owned());
    let users = user_templates(&host.paths.templates());
    built_in
        .chain(users)
        .map(|name| show(host, &name))
        .collect()
}

/// The user's templates that are not used, because one of their name is built in.
pub fn hidden(host: &Host) -> Vec<PathBuf> {
    let dir = host.paths.templates();
    let files = BUILT_IN
        .iter()
        .map(|template| dir.join(format!("{}.toml", template.name)));
    files.filter(|file| file.exists()).collect()
}

/// One template.
pub fn show(host: &Host, name: &str) -> Result<Template, Error> {
    let layer = Layer::template(name, &host.paths.templates()).map_err(Error::Template)?;
    let first = layer.text.lines().next().unwrap_or_default();
    Ok(Template {
        name: name.to_owned(),
        about: first
            .strip_prefix('#')
            .unwrap_or_default()
            .trim()
            .to_owned(),
        file: match layer.origin {
            Origin::File(file) => Some(file),
            _ => None,
        },
        text: layer.text,
    })
}
