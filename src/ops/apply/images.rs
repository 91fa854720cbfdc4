//! Images that maqet has put a disk into, and that its file does not know of.

use std::path::PathBuf;

use crate::config::{Document, VmConfig};
use crate::image::Chain;
use crate::ops::add::Source;
use crate::ops::{Error, Host};
use crate::store::Row;

/// The text of a source, and the file that it is read as, in which each disk has the image
/// that it has now if that is its own: one that maqet made and the source does not name, or
/// an overlay of maqet's above the one that the source names.
///
/// A source with mistakes is left as it is, for those to be told.
pub(super) fn kept(host: &Host, old: &Row, source: &Source) -> Result<(String, PathBuf), Error> {
    let as_it_is = (source.text.clone(), source.file.clone());
    let origin = host.paths.vm(&old.name).definition();
    let defaults = host.defaults()?;
    let (Ok(new), Ok(then), Ok(before), Ok(mut document)) = (
        VmConfig::parse_with(&source.text, &source.file, &defaults),
        host.config(old),
        Document::parse(&old.definition, &origin),
        Document::parse(&source.text, &source.file),
    ) else {
        return Ok(as_it_is);
    };
    let made = host.store()?.made_disks(&old.name)?;
    let dir = host.paths.vm(&old.name);
    let mut is_any = false;
    for (name, disk) in &new.disks {
        let Some(had) = then.disks.get(name) else {
            continue;
        };
        let (Some(path), Some(now)) = (disk.path(name, dir.path()), had.path(name, dir.path()))
        else {
            continue;
        };
        let file = format!("disk.{name}.file");
        let is_said = document.says(&file);
        let is_above = || {
            let links = Chain::of(&now, had.format.as_str()).links;
            links.into_iter().skip(1).any(|link| link.path == path)
        };
        let is_made = made.iter().any(|made| made.path == now);
        let is_same = path == now && !is_said;
        if is_same || path != now && is_made && (!is_said || is_above()) {
            document.restore(&before, &file)?;
            document.restore(&before, &format!("disk.{name}.format"))?;
            is_any = true;
        }
    }
    Ok(match is_any {
        true => (document.to_string(), document.file().to_owned()),
        false => as_it_is,
    })
}
