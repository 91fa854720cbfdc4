//! What becomes of an operation with overlays that did not come to its end.

use crate::image::unfinished;
use crate::ops::Error;
use crate::ops::block_job::{self, set_running, until_ready_held};
use crate::ops::disk::Nodes;
use crate::ops::operation::Left;
use crate::ops::reach::Reach;

use super::super::Facts;
use super::merge::{
    begin, close, commit_stopped, give_up, is_over, shorten, shorten_stopped, switch,
};
use super::{Plan, Side, What, delete, is_named, merge, node_of, point, restore, take_back};

impl Plan {
    /// Finishes what the definition says already, and undoes all else. A merge is finished,
    /// as images that have got something cannot lose it again.
    pub fn settle(&self, left: &Left<'_>, reach: &mut Reach) -> Result<String, Error> {
        let (host, vm, name) = (left.host, left.name, &self.name);
        let overlays = &self.overlays;
        let files = || overlays.iter().map(|overlay| &overlay.file);
        let mut store = host.store()?;
        let is_named = is_named(host, vm, overlays)?;
        delete(host, files().map(|file| unfinished(file, left.id.0)))?;
        match &self.what {
            What::Create { facts, description } => {
                let is_switched = match reach {
                    Reach::Stopped(_) => is_named,
                    Reach::Running(monitor) => {
                        let mut all = true;
                        for file in files() {
                            all &= node_of(monitor, file)?.is_some();
                        }
                        all
                    }
                };
                if is_switched {
                    point(host, vm, overlays, Side::Overlays)?;
                    store.add_snapshot(vm, name, description.as_deref(), facts, left.id.0)?;
                    return Ok(format!(
                        "snapshot `{name}` of VM `{vm}` is made, as was begun"
                    ));
                }
                if is_named {
                    let before: Facts = serde_json::from_str(facts)
                        .map_err(|error| Error::io("cannot read what was begun")(error.into()))?;
                    take_back(host, vm, overlays, &before.definition)?;
                }
                delete(host, files())?;
                Ok(format!(
                    "snapshot `{name}` of VM `{vm}` was not finished, and is undone"
                ))
            }
            What::Restore { id, facts, old } if is_named => {
                restore::end(host, &mut store, vm, (*id, facts), old, left.id)?;
                Ok(format!("VM `{vm}` is at snapshot `{name}`, as was begun"))
            }
            What::Restore { .. } => {
                delete(host, files())?;
                Ok(format!(
                    "VM `{vm}` was not restored to snapshot `{name}`, as was begun"
                ))
            }
            What::Rm { id, files } => {
                delete(host, files)?;
                store.remove_snapshot(Some(*id), left.id.0)?;
                Ok(format!(
                    "snapshot `{name}` of VM `{vm}` is deleted, as was begun"
                ))
            }
            What::Merge { id } => {
                let what = match id {
                    Some(_) => format!("snapshot `{name}` of VM `{vm}` is"),
                    None => format!("disks of VM `{vm}` are"),
                };
                let done = match &mut *reach {
                    Reach::Stopped(_) if is_named => commit_stopped(host, vm, overlays),
                    Reach::Stopped(_) => shorten_stopped(overlays),
                    Reach::Running(monitor) if is_named => begin(monitor, vm, left.id, overlays)
                        .and_then(|ids| {
                            until_ready_held(monitor, &ids)?;
                            switch(host, vm, monitor, &ids, overlays, self.was_running)
                        }),
                    Reach::Running(monitor) => {
                        block_job::end(monitor, left.id, true)?;
                        let mut behind = Vec::new();
                        for overlay in overlays {
                            if Nodes::with(monitor, &overlay.disk, &overlay.file)?.is_some() {
                                behind.push(overlay.clone());
                            }
                        }
                        if !behind.is_empty() {
                            // Both are the same still: the guest was halted before.
                            point(host, vm, &behind, Side::Overlays)?;
                            set_running(monitor, self.was_running)?;
                            return Ok(format!("{what} not merged, and can be"));
                        }
                        close(monitor, overlays)?;
                        shorten(monitor, overlays)?;
                        set_running(monitor, self.was_running)
                    }
                };
                match done {
                    Err(error) if is_named && is_over(&error) => {
                        give_up(reach, left.id, self.was_running)?;
                        return Ok(format!("{what} not merged, and can be: {error}"));
                    }
                    done => done?,
                }
                merge::end(host, &mut store, overlays, *id, left.id)?;
                Ok(format!("{what} merged, as was begun"))
            }
        }
    }
}
