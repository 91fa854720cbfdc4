//! Disks, and what is done to their images.

use super::{Bus, CLUSTER, Disk, Format, Id, Refusal, Vm, World, refuse_if};

impl World {
    pub(super) fn write(
        &mut self,
        vm: &str,
        disk: &str,
        at: usize,
        count: usize,
        byte: u8,
    ) -> Result<(), Refusal> {
        let it = self.vm(vm)?;
        refuse_if(it.is_awaited(), "nobody writes beside a saved state")?;
        let it = it.disks_now().get(disk).ok_or("it has no such disk")?;
        let image = it.image;
        let content = &mut self.images[image].content;
        refuse_if(at + count > content.len(), "it is past the end")?;
        content[at..at + count].fill(byte);
        Ok(())
    }

    pub(super) fn add(
        &mut self,
        vm: &str,
        disk: &str,
        blocks: usize,
        format: Format,
        bus: Bus,
    ) -> Result<(), Refusal> {
        let it = self.vm(vm)?;
        refuse_if(it.disks.contains_key(disk), "it has such a disk")?;
        let place = format!("{vm}/{disk}.{}", format.as_str());
        refuse_if(self.is_taken(&place), "there is such a file")?;
        let image = self.add_image(place, format, vec![0; blocks]);
        self.vm_mut(vm).plug(disk, Disk { image, bus });
        Ok(())
    }

    /// The image at a place.
    pub(super) fn at(&self, place: &str) -> Option<Id> {
        let mut images = self.images.iter();
        images.position(|it| it.exists && it.place == place)
    }

    /// The images that definitions and machines have for their disks.
    pub(super) fn tops(&self) -> Vec<Id> {
        let all = self.vms.values();
        let all = all.flat_map(|vm| vm.disks.values().chain(vm.disks_now().values()));
        all.map(|disk| disk.image).collect()
    }

    pub(super) fn attach(&mut self, vm: &str, disk: &str, place: &str) -> Result<(), Refusal> {
        let it = self.vm(vm)?;
        refuse_if(it.disks.contains_key(disk), "it has such a disk")?;
        let image = self.at(place).ok_or("there is no such file")?;
        refuse_if(!self.is_alone(vm, disk, image), "others have it")?;
        let tops = self.tops();
        let is_written = self.chain(image)[1..].iter().any(|id| tops.contains(id));
        refuse_if(is_written, "what it stands on is written")?;
        let bus = Bus::Virtio;
        self.vm_mut(vm).plug(disk, Disk { image, bus });
        Ok(())
    }

    pub(super) fn detach(&mut self, vm: &str, disk: &str, delete: bool) -> Result<(), Refusal> {
        let it = self.vm(vm)?;
        let image = self.disk(vm, disk)?.image;
        if delete {
            refuse_if(!self.images[image].is_of(vm), "maqet has not made it")?;
            refuse_if(!self.is_alone(vm, disk, image), "others have it")?;
            refuse_if(
                !self.images[image].within.is_empty(),
                "there are snapshots within",
            )?;
        }
        refuse_if(it.is_awaited(), "it has a saved state")?;
        let mut is_gone = true;
        if let Some(machine) = it.machine()
            && let Some(plugged) = machine.disks.get(disk)
        {
            let is_hot = machine.hot.contains(disk);
            // No guest runs that could let go of it.
            refuse_if(plugged.bus == Bus::Virtio && is_hot, "the guest has it")?;
            is_gone = plugged.bus == Bus::Scsi;
        }
        let it = self.vm_mut(vm);
        it.disks.remove(disk);
        if let (true, Some(machine)) = (is_gone, it.machine_mut()) {
            machine.disks.remove(disk);
            machine.hot.remove(disk);
        }
        if delete && is_gone {
            self.images[image].exists = false;
        }
        Ok(())
    }

    pub(super) fn resize(
        &mut self,
        vm: &str,
        disk: &str,
        blocks: usize,
        shrink: bool,
    ) -> Result<(), Refusal> {
        let it = self.vm(vm)?;
        let image = self.disk(vm, disk)?.image;
        refuse_if(!self.is_alone(vm, disk, image), "others have it")?;
        refuse_if(it.is_awaited(), "it has a saved state")?;
        let shrinks = blocks < self.images[image].content.len();
        refuse_if(shrinks && !shrink, "it would lose something")?;
        let is_uncut =
            self.images[image].format == Format::Qcow2 && !blocks.is_multiple_of(CLUSTER);
        refuse_if(shrinks && is_uncut, "it ends within a cluster")?;
        if let Some(machine) = it.machine() {
            let plugged = machine.disks.get(disk).map(|disk| disk.image);
            refuse_if(plugged != Some(image), "it is not plugged")?;
            refuse_if(shrinks, "it runs")?;
        }
        self.images[image].content.resize(blocks, 0);
        Ok(())
    }

    /// A place beside another: its name with a number.
    pub(super) fn beside(&self, place: &str) -> String {
        let (stem, suffix) = place.rsplit_once('.').unwrap();
        let stem = match stem.rsplit_once('.') {
            Some((stem, number)) if number.parse::<u32>().is_ok() => stem,
            _ => stem,
        };
        let mut places = (1..).map(|n| format!("{stem}.{n}.{suffix}"));
        places.find(|place| !self.is_taken(place)).unwrap()
    }

    /// Whether something else may be done to an image of a VM that runs.
    pub(super) fn may_be_live(&self, vm: &Vm, disk: &str, image: Id) -> Result<(), Refusal> {
        let Some(machine) = vm.machine() else {
            return Ok(());
        };
        let plugged = machine.disks.get(disk).map(|disk| disk.image);
        refuse_if(plugged != Some(image), "it is not plugged")?;
        let within = &self.images[image].within;
        refuse_if(!within.is_empty(), "there are snapshots within")
    }

    /// What is done to the image of a disk.
    pub(super) fn rewrite(&mut self, vm: &str, disk: &str) -> Result<Id, Refusal> {
        let it = self.vm(vm)?;
        let image = self.disk(vm, disk)?.image;
        self.may_be_live(it, disk, image)?;
        refuse_if(it.is_awaited(), "it has a saved state")?;
        refuse_if(!self.is_alone(vm, disk, image), "others have it")?;
        refuse_if(
            !self.images[image].within.is_empty(),
            "there are snapshots within",
        )?;
        Ok(image)
    }

    pub(super) fn rebase(&mut self, vm: &str, disk: &str, place: &str) -> Result<(), Refusal> {
        let it = self.vm(vm)?;
        let image = self.disk(vm, disk)?.image;
        let is_raw = self.images[image].format == Format::Raw;
        refuse_if(is_raw, "a raw disk stands on nothing")?;
        refuse_if(it.machine().is_some(), "it runs")?;
        let image = self.rewrite(vm, disk)?;
        let base = self.at(place).ok_or("there is no such file")?;
        let chain = self.chain(base);
        refuse_if(chain.contains(&image), "it would stand on itself")?;
        let tops = self.tops();
        let is_written = chain.iter().any(|id| tops.contains(id));
        refuse_if(is_written, "what it would stand on is written")?;
        self.images[image].base = Some(base);
        Ok(())
    }

    pub(super) fn merge_disks(
        &mut self,
        vm: &str,
        disk: Option<&str>,
        into: Option<&str>,
    ) -> Result<(), Refusal> {
        let it = self.vm(vm)?;
        let is_saved = it.is_saved();
        let mut names: Vec<String> = it.disks.keys().cloned().collect();
        if let Some(disk) = disk {
            self.disk(vm, disk)?;
            names.retain(|name| name == disk);
        }
        let mut is_any = false;
        loop {
            let can_be = |name: &&String| self.is_mergeable(vm, name, into);
            let now: Vec<&String> = names.iter().filter(can_be).collect();
            refuse_if(now.is_empty() && !is_any, "no disk can be merged")?;
            if now.is_empty() {
                return Ok(());
            }
            refuse_if(is_saved, "it has a saved state")?;
            is_any = true;
            for disk in now {
                let top = self.disk(vm, disk)?.image;
                if let Some(machine) = self.vm(vm)?.machine() {
                    let plugged = machine.disks.get(disk).map(|disk| disk.image);
                    refuse_if(plugged != Some(top), "it is not plugged")?;
                }
                let base = self.images[top].base.unwrap();
                self.images[base].content = self.images[top].content.clone();
                self.images[top].exists = false;
                self.vm_mut(vm).put(disk, top, base);
            }
        }
    }

    /// Whether a disk can be written into the image that it stands on, and that into no other.
    fn is_mergeable(&self, vm: &str, disk: &str, into: Option<&str>) -> bool {
        let top = self.vms[vm].disks[disk].image;
        let Some(base) = self.images[top].base else {
            return false;
        };
        let it = &self.images[base];
        let mut orphans = self
            .orphans()
            .into_iter()
            .filter_map(|place| self.at(&place));
        let is_stood_on = orphans.any(|id| self.chain(id)[1..].contains(&base));
        let is_larger = it.content.len() > self.images[top].content.len();
        let below: Vec<&str> = self.chain(top)[1..]
            .iter()
            .map(|id| &*self.images[*id].place)
            .collect();
        self.images[top].within.is_empty()
            && into.is_none_or(|into| below.contains(&into))
            && !is_stood_on
            && self.is_alone(vm, disk, base)
            && self.images[top].is_of(vm)
            && (it.is_of(vm) || into == Some(&it.place))
            && !(it.format == Format::Qcow2 && is_larger)
    }

    pub(super) fn r#move(&mut self, vm: &str, disk: &str, place: &str) -> Result<(), Refusal> {
        let it = self.vm(vm)?;
        let image = self.disk(vm, disk)?.image;
        self.may_be_live(it, disk, image)?;
        refuse_if(it.is_awaited(), "it has a saved state")?;
        refuse_if(!self.is_alone(vm, disk, image), "others have it")?;
        refuse_if(self.is_taken(place), "there is such a file")?;
        self.images[image].place = place.to_owned();
        Ok(())
    }
}
