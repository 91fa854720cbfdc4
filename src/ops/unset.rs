//! Taking keys out of a VM's definition.

use std::path::Path;

use crate::config::Document;
use crate::nearest::nearest;
use crate::vm::VmName;

use super::change::{self, Changed, Reach, Request};
use super::claims::Claims;
use super::{Error, Host};

/// Takes keys, or tables with all that is in them, out of a definition; all of them or none.
///
/// A running VM has the defaults at once, where that can be and `live` says so.
pub fn unset(host: &Host, name: &VmName, keys: &[String], live: bool) -> Result<Changed, Error> {
    let file = host.paths.vm(name).definition();
    change::change(
        host,
        name,
        Request {
            edit: &mut |row| {
                if keys.iter().any(|key| key == "name") {
                    return Err(Error::Nameless(name.clone()));
                }
                let mut document = Document::parse(&row.definition, &file)?;
                let known = document.keys();
                let missing: Vec<&String> =
                    keys.iter().filter(|key| !document.remove(key)).collect();
                if missing.is_empty() {
                    return Ok(document.to_string());
                }
                let near = |key: &&String| nearest(key, &known).into_iter().next().cloned();
                Err(Error::NoKey {
                    name: name.clone(),
                    nearest: missing.iter().filter_map(near).collect(),
                    keys: missing.into_iter().cloned().collect(),
                })
            },
            file: &file,
            label: Path::new(name.as_str()),
            reach: match live {
                true => Reach::Keys(keys),
                false => Reach::Nothing,
            },
            limits: &[],
            claims: &Claims::for_vms(host, 1),
        },
    )
}
