//! Snapshots, within images and beside them.

use super::super::step::Mode;
use super::{Disk, Format, Id, Kind, Refusal, Run, Snapshot, Vm, World, refuse_if};

impl World {
    pub(super) fn create(
        &mut self,
        vm: &str,
        name: &str,
        mode: Mode,
        described: bool,
    ) -> Result<(), Refusal> {
        let it = self.vm(vm)?;
        refuse_if(it.snapshot(name).is_some(), "it has one of that name")?;
        refuse_if(it.is_awaited(), "it has a saved state")?;
        let now = it.disks_now().clone();
        let has_name = |disk: &Disk| self.images[disk.image].within.contains_key(name);
        refuse_if(now.values().any(has_name), "an image has one of that name")?;
        let (kind, disks) = match mode {
            Mode::External => {
                let defined = it.disks.clone();
                refuse_if(defined.is_empty(), "it has no disk")?;
                if it.machine().is_some() {
                    let is_same = now.iter().all(|(name, disk)| {
                        let defined = defined.get(name);
                        defined.is_some_and(|defined| defined.image == disk.image)
                    });
                    refuse_if(!is_same, "it runs with a disk that is not defined")?;
                    refuse_if(defined.len() != now.len(), "it runs without a disk")?;
                }
                let mut disks = Vec::new();
                for (disk, it) in defined {
                    let place = self.free_place(vm, &disk);
                    let overlay = self.add_overlay(place, it.image);
                    self.vm_mut(vm).put(&disk, it.image, overlay);
                    disks.push((disk, it.image));
                }
                (Kind::Beside, disks)
            }
            Mode::All | Mode::DiskOnly => {
                refuse_if(now.is_empty(), "it has no disk")?;
                // As one that was added beside a saved state, with which it goes on.
                let is_there = it.disks.keys().all(|disk| now.contains_key(disk));
                refuse_if(!is_there, "it runs without a disk")?;
                let is_raw = |disk: &Disk| self.images[disk.image].format == Format::Raw;
                refuse_if(now.values().any(is_raw), "it has a raw disk")?;
                let memory = match it.machine() {
                    Some(machine) if mode == Mode::All => {
                        refuse_if(!machine.hot.is_empty(), "it has plugged devices")?;
                        let is_number = name.bytes().all(|it| it.is_ascii_digit());
                        refuse_if(is_number, "it is named like a number")?;
                        Some(machine.disks.clone())
                    }
                    _ => None,
                };
                for disk in now.values() {
                    let image = &mut self.images[disk.image];
                    image.within.insert(name.to_owned(), image.content.clone());
                }
                let disks = now.iter().map(|(name, disk)| (name.clone(), disk.image));
                (Kind::Within(memory), disks.collect())
            }
        };
        self.count += 1;
        let id = self.count;
        let it = self.vm_mut(vm);
        let parent = it.at;
        it.snapshots.push(Snapshot {
            id,
            name: name.to_owned(),
            parent,
            described,
            kind,
            disks,
        });
        (it.at, it.resumes) = (Some(id), false);
        Ok(())
    }

    pub(super) fn restore(
        &mut self,
        vm: &str,
        name: &str,
        disk_only: bool,
        discard: bool,
    ) -> Result<(), Refusal> {
        let it = self.vm(vm)?;
        let runs = it.machine().is_some();
        let now = it.disks_now().clone();
        let tops: Vec<Id> = now.values().map(|disk| disk.image).collect();
        let has = |id: &Id| tops.contains(id) && self.images[*id].within.contains_key(name);
        let Some(snapshot) = it.snapshot(name).cloned() else {
            let found: Vec<Id> = tops.iter().copied().filter(|id| has(id)).collect();
            refuse_if(found.is_empty(), "it has no such snapshot")?;
            refuse_if(runs, "it is of the disks alone")?;
            refuse_if(it.is_saved() && !discard, "it has a saved state")?;
            self.go_back(vm, &found, name);
            (self.vm_mut(vm).at, self.vm_mut(vm).resumes) = (None, false);
            return Ok(());
        };
        let is_saved = it.is_saved();
        match &snapshot.kind {
            Kind::Beside => {
                refuse_if(runs, "it is of the disks alone")?;
                refuse_if(is_saved && !discard, "it has a saved state")?;
                self.restore_beside(vm, &snapshot)?;
                self.vm_mut(vm).resumes = false;
            }
            Kind::Within(memory) => {
                let mut wanted: Vec<Id> = snapshot.disks.iter().map(|(_, id)| *id).collect();
                if disk_only {
                    wanted.retain(|id| tops.contains(id));
                    refuse_if(wanted.is_empty(), "it has none of its disks")?;
                }
                refuse_if(!wanted.iter().all(has), "it is not whole")?;
                let memory = memory.as_ref().filter(|_| !disk_only);
                if runs {
                    refuse_if(memory.is_none(), "it is of the disks alone")?;
                    let machine = it.machine().unwrap();
                    refuse_if(!machine.hot.is_empty(), "it has plugged devices")?;
                } else {
                    refuse_if(is_saved && !discard, "it has a saved state")?;
                }
                refuse_if(
                    memory.is_some_and(|then| *then != now),
                    "the machine is another one",
                )?;
                let resumes = !runs && memory.is_some();
                self.go_back(vm, &wanted, name);
                self.vm_mut(vm).resumes = resumes;
            }
        }
        let it = self.vm_mut(vm);
        it.at = Some(snapshot.id);
        if is_saved {
            it.run = Run::Stopped;
        }
        Ok(())
    }

    pub(super) fn go_back(&mut self, vm: &str, images: &[Id], name: &str) {
        for id in images {
            let image = &mut self.images[*id];
            image.content = image.within[name].clone();
        }
        let it = self.vm_mut(vm);
        if it.is_saved() {
            it.run = Run::Stopped;
        }
    }

    pub(super) fn restore_beside(&mut self, vm: &str, snapshot: &Snapshot) -> Result<(), Refusal> {
        let it = self.vm(vm)?;
        let mut changes = Vec::new();
        let mut old = Vec::new();
        for (disk, base) in &snapshot.disks {
            let now = it.disks.get(disk).ok_or("it has no such disk any more")?;
            // Both come from one image, or it is another disk now.
            let then = self.origins(*base);
            let origins = self.origins(now.image);
            let common = origins.iter().position(|id| then.contains(id));
            let count = common.ok_or("it is another disk now")?;
            old.extend(&origins[..count]);
            changes.push((disk.clone(), now.image, *base));
        }
        for (disk, now, base) in changes {
            let place = self.free_place(vm, &disk);
            let overlay = self.add_overlay(place, base);
            self.vm_mut(vm).put(&disk, now, overlay);
        }
        // What was written since, and no snapshot or other VM has.
        let used = self.used();
        for id in old {
            let image = &mut self.images[id];
            if !used.contains(&id) && image.is_of(vm) {
                refuse_if(!image.within.is_empty(), "there are snapshots within")?;
                image.exists = false;
            }
        }
        Ok(())
    }

    pub(super) fn rm_snapshot(&mut self, vm: &str, name: &str) -> Result<(), Refusal> {
        let it = self.vm(vm)?;
        let tops: Vec<Id> = it.disks_now().values().map(|disk| disk.image).collect();
        let kept = it.snapshot(name).cloned();
        let images = tops.iter().copied();
        let found: Vec<Id> = images
            .filter(|id| self.images[*id].within.contains_key(name))
            .collect();
        match &kept {
            Some(kept) if kept.is_beside() => {
                let mut without = self.clone();
                without.vm_mut(vm).forget(kept.id);
                for (_, image) in &kept.disks {
                    let mut uses = without.uses().into_iter();
                    refuse_if(
                        uses.any(|it| it.2.contains(image)),
                        "something stands on it",
                    )?;
                }
                for (_, image) in &kept.disks {
                    if self.images[*image].is_of(vm) {
                        self.images[*image].exists = false;
                    }
                }
                self.vm_mut(vm).forget(kept.id);
                return Ok(());
            }
            None if found.is_empty() => return Err("it has no such snapshot"),
            Some(kept) => {
                let is_current = it.at == Some(kept.id);
                let is_awaited = it.is_saved() || it.resumes && is_current;
                refuse_if(it.machine().is_none() && is_awaited, "it is awaited")?;
                refuse_if(self.is_below(it, kept), "it is below an overlay")?;
            }
            None => refuse_if(it.is_saved(), "it has a saved state")?,
        }
        for id in found {
            self.images[id].within.remove(name);
        }
        if let Some(kept) = kept {
            self.vm_mut(vm).forget(kept.id);
        }
        Ok(())
    }

    /// Whether a snapshot is within an image that one of the disks stands on.
    pub(super) fn is_below(&self, vm: &Vm, snapshot: &Snapshot) -> bool {
        let tops: Vec<Id> = vm.disks_now().values().map(|disk| disk.image).collect();
        snapshot.disks.iter().any(|(_, id)| {
            self.images[*id].within.contains_key(&snapshot.name)
                && !tops.contains(id)
                && tops.iter().any(|top| self.chain(*top).contains(id))
        })
    }

    pub(super) fn prune(&mut self, vm: &str, keep: usize) -> Result<(), Refusal> {
        let it = self.vm(vm)?;
        let mut old: Vec<String> = it
            .snapshots
            .iter()
            .filter(|snapshot| {
                !snapshot.described
                    && it.at != Some(snapshot.id)
                    && !snapshot.is_beside()
                    && !self.is_below(it, snapshot)
            })
            .map(|snapshot| snapshot.name.clone())
            .collect();
        old.truncate(old.len().saturating_sub(keep));
        for name in old {
            self.rm_snapshot(vm, &name)?;
        }
        Ok(())
    }

    pub(super) fn merge(&mut self, vm: &str, name: &str) -> Result<(), Refusal> {
        let it = self.vm(vm)?;
        let snapshot = it.snapshot(name).ok_or("it has no such snapshot")?.clone();
        refuse_if(!snapshot.is_beside(), "it is within its images")?;
        refuse_if(it.is_saved(), "it has a saved state")?;
        let mut overlays = Vec::new();
        for (disk, base) in &snapshot.disks {
            let top = it.disks.get(disk).ok_or("a disk is gone")?.image;
            let is_above = self.images[top].base == Some(*base);
            refuse_if(!is_above, "a disk does not go on from it")?;
            refuse_if(
                !self.images[top].within.is_empty(),
                "there are snapshots within",
            )?;
            if let Some(machine) = it.machine() {
                let plugged = machine.disks.get(disk).map(|disk| disk.image);
                refuse_if(plugged != Some(top), "it runs without a disk")?;
            }
            overlays.push((disk.clone(), *base, top));
        }
        // The snapshot itself is one of its users.
        let id = snapshot.id;
        let mut others = self.clone();
        others.vm_mut(vm).forget(id);
        for (disk, base, _) in &overlays {
            refuse_if(!others.is_alone(vm, disk, *base), "others stand on it")?;
        }
        for (disk, base, top) in overlays {
            self.images[base].content = self.images[top].content.clone();
            self.images[top].exists = false;
            self.vm_mut(vm).put(&disk, top, base);
        }
        self.vm_mut(vm).forget(id);
        Ok(())
    }
}
