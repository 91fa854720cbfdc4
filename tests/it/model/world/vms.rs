//! VMs: made, started, saved, gone.

use std::collections::BTreeSet;

use super::{Bus, Disk, Disks, Id, Image, Kind, Machine, Refusal, Run, Vm, World, refuse_if};

impl World {
    pub(super) fn clone_linked(&mut self, vm: &str, new: &str) -> Result<(), Refusal> {
        let it = self.vm(vm)?.clone();
        refuse_if(self.vms.contains_key(new), "there is such a VM")?;
        refuse_if(it.is_awaited(), "it has a saved state")?;
        let mut disks = Disks::new();
        for (disk, defined) in &it.disks {
            let base = defined.image;
            refuse_if(
                !self.images[base].within.is_empty(),
                "there are snapshots within",
            )?;
            if let Some(machine) = it.machine() {
                let plugged = machine.disks.get(disk).map(|disk| disk.image);
                refuse_if(plugged != Some(base), "it is not plugged")?;
            }
            let place = format!("{new}/{disk}.qcow2");
            refuse_if(self.is_taken(&place), "there is such a file")?;
            let image = self.add_overlay(place, base);
            let bus = defined.bus;
            disks.insert(disk.clone(), Disk { image, bus });
            let own = self.free_place(vm, disk);
            let own = self.add_overlay(own, base);
            self.vm_mut(vm).put(disk, base, own);
        }
        self.add_vm(new, disks);
        Ok(())
    }

    pub(super) fn clone_snapshot(
        &mut self,
        vm: &str,
        new: &str,
        name: &str,
    ) -> Result<(), Refusal> {
        let it = self.vm(vm)?.clone();
        refuse_if(self.vms.contains_key(new), "there is such a VM")?;
        let images = it.images_beside(name).ok_or("none is beside its images")?;
        let mut disks = Disks::new();
        for (disk, defined) in &it.disks {
            let base = *images.get(disk).ok_or("it is not of the disk")?;
            let place = format!("{new}/{disk}.qcow2");
            refuse_if(self.is_taken(&place), "there is such a file")?;
            let image = self.add_overlay(place, base);
            let bus = defined.bus;
            disks.insert(disk.clone(), Disk { image, bus });
        }
        self.add_vm(new, disks);
        Ok(())
    }

    /// Takes over which disks of a clone share what is below those of its source, as those
    /// have nothing of their own; only their images tell that.
    pub fn note_clone(&mut self, vm: &str, new: &str, shares: impl Fn(&str) -> bool) {
        for (disk, it) in self.vms[new].disks.clone() {
            if shares(&disk) {
                let own = self.vms[vm].disks[&disk].image;
                let top = self.images[own].base.unwrap();
                self.images[own].exists = false;
                self.images[it.image].base = self.images[top].base;
                self.images[it.image].origin = self.images[top].base;
                self.vm_mut(vm).put(&disk, own, top);
            }
        }
    }

    pub(super) fn clone_full(
        &mut self,
        vm: &str,
        new: &str,
        snapshot: Option<&str>,
    ) -> Result<(), Refusal> {
        let it = self.vm(vm)?.clone();
        refuse_if(self.vms.contains_key(new), "there is such a VM")?;
        let mut disks = Disks::new();
        for (disk, defined) in &it.disks {
            if let Some(machine) = it.machine() {
                let plugged = machine.disks.get(disk).map(|disk| disk.image);
                refuse_if(plugged != Some(defined.image), "it is not plugged")?;
            }
            let beside = snapshot.and_then(|name| it.images_beside(name));
            let image = match &beside {
                Some(images) => *images.get(disk).ok_or("it is not of the disk")?,
                None => defined.image,
            };
            let image = &self.images[image];
            let format = image.format;
            let content = match snapshot {
                Some(name) if beside.is_none() => {
                    let then = image.within.get(name).ok_or("it has no such snapshot")?;
                    let is_longer = then.len() > image.content.len();
                    refuse_if(is_longer, "its end cannot be read")?;
                    then
                }
                _ => &image.content,
            };
            let place = format!("{new}/{disk}.{}", format.as_str());
            refuse_if(self.is_taken(&place), "there is such a file")?;
            let image = self.add_image(place, format, content.clone());
            let bus = defined.bus;
            disks.insert(disk.clone(), Disk { image, bus });
        }
        self.add_vm(new, disks);
        Ok(())
    }

    pub fn add_vm(&mut self, name: &str, disks: Disks) {
        let vm = Vm {
            disks,
            run: Run::Stopped,
            snapshots: Vec::new(),
            at: None,
            resumes: false,
        };
        self.vms.insert(name.to_owned(), vm);
    }

    pub(super) fn rename(&mut self, vm: &str, new: &str) -> Result<(), Refusal> {
        let it = self.vm(vm)?;
        refuse_if(self.vms.contains_key(new), "there is such a VM")?;
        refuse_if(it.machine().is_some(), "it runs")?;
        let is_in = |vm: &str, image: &Image| {
            let dir = image.place.split_once('/').map(|(dir, _)| dir);
            image.exists && dir == Some(vm)
        };
        let is_taken = self.images.iter().any(|image| is_in(new, image));
        refuse_if(is_taken, "there are files of such a VM")?;
        let others = self.uses().into_iter().filter(|it| it.0 != vm);
        let mut others = others.flat_map(|it| it.2);
        let is_used = others.any(|id| is_in(vm, &self.images[id]));
        refuse_if(is_used, "others have what is in its directory")?;
        for image in &mut self.images {
            if is_in(vm, image) {
                let (_, file) = image.place.split_once('/').unwrap();
                image.place = format!("{new}/{file}");
            }
            if image.is_of(vm) {
                image.owner = Some(new.to_owned());
            }
        }
        let mut it = self.vms.remove(vm).unwrap();
        // It was the unit of the old name that failed.
        if matches!(it.run, Run::Failed) {
            it.run = Run::Stopped;
        }
        self.vms.insert(new.to_owned(), it);
        Ok(())
    }

    pub(super) fn rm_vm(&mut self, vm: &str, disks: bool) -> Result<(), Refusal> {
        let it = self.vm(vm)?;
        refuse_if(it.machine().is_some(), "it runs")?;
        refuse_if(it.is_saved(), "it has a saved state")?;
        let own = self.uses().into_iter().filter(|it| it.0 == vm);
        let needed: BTreeSet<Id> = own.flat_map(|it| it.2).collect();
        self.vms.remove(vm);
        let uses = self.uses().into_iter();
        let uses: Vec<(String, Vec<Id>)> = uses.map(|(vm, _, ids)| (vm.to_owned(), ids)).collect();
        for (id, image) in self.images.iter_mut().enumerate() {
            if !image.exists || !image.is_of(vm) {
                continue;
            }
            // With the last that needs it, it goes.
            let is_needed = needed.contains(&id);
            let other = uses.iter().find(|(_, chain)| chain.contains(&id));
            image.exists = !disks || !is_needed || other.is_some();
            let heir = other.filter(|(_, chain)| disks && (is_needed || chain[0] != id));
            image.owner = heir.map(|(vm, _)| vm.clone());
        }
        Ok(())
    }

    pub(super) fn start(&mut self, vm: &str) -> Result<(), Refusal> {
        let it = self.vm(vm)?.clone();
        if it.machine().is_some() {
            return Ok(());
        }
        let mut machine = Machine {
            had_scsi: it.disks.values().any(|disk| disk.bus == Bus::Scsi),
            disks: it.disks.clone(),
            hot: BTreeSet::new(),
        };
        if let Run::Saved(saved) = it.run {
            machine = saved;
        }
        if it.resumes {
            let snapshot = it.snapshots.iter().find(|one| Some(one.id) == it.at);
            let snapshot = snapshot.unwrap();
            let Kind::Within(Some(then)) = &snapshot.kind else {
                unreachable!("it goes on with memory");
            };
            refuse_if(*then != machine.disks, "the machine is another one")?;
            let images: Vec<Id> = snapshot.disks.iter().map(|(_, id)| *id).collect();
            let name = snapshot.name.clone();
            self.go_back(vm, &images, &name);
        }
        let it = self.vm_mut(vm);
        it.run = Run::Running(machine);
        it.resumes = false;
        Ok(())
    }

    pub(super) fn save(&mut self, vm: &str) -> Result<(), Refusal> {
        let machine = self.vm(vm)?.machine().ok_or("it does not run")?.clone();
        refuse_if(!machine.hot.is_empty(), "it has plugged devices")?;
        self.vm_mut(vm).run = Run::Saved(machine);
        Ok(())
    }
}
