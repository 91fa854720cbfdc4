//! What becomes of an operation with overlays that did not come to its end.

use crate::image::unfinished;
use crate::ops::Error;
use crate::ops::operation::Left;
use crate::ops::reach::Reach;

use super::super::live::set_running;
use super::merge::{close, commit_stopped, end_jobs, shorten, shorten_stopped};
use super::{Plan, Side, What, delete, is_named, merge, node_of, point, restore};

impl Plan {
    /// Finishes what the definition says already, and undoes all else; a merge that QEMU is
    /// not doing any more is finished.
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
                    point(host, vm, overlays, Side::Images)?;
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
            What::Merge { id } => {
                match reach {
                    Reach::Stopped(_) if is_named => commit_stopped(host, vm, overlays)?,
                    Reach::Stopped(_) => shorten_stopped(overlays)?,
                    Reach::Running(monitor) => {
                        end_jobs(monitor, left.id, !is_named)?;
                        if !is_named {
                            close(monitor, overlays)?;
                            shorten(monitor, overlays)?;
                        }
                        if self.was_running {
                            set_running(monitor, true)?;
                        }
                        if is_named {
                            return Ok(format!(
                                "snapshot `{name}` of VM `{vm}` is not merged, and can be"
                            ));
                        }
                    }
                }
                merge::end(host, &mut store, overlays, *id, left.id)?;
                Ok(format!(
                    "snapshot `{name}` of VM `{vm}` is merged, as was begun"
                ))
            }
        }
    }
}
