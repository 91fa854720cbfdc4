//! What VMs, disks and snapshots should be, by what README and the manual pages say.

use std::collections::{BTreeMap, BTreeSet};

use super::step::{Mode, Step};

/// What disks are written by, in bytes; one byte of a [`Content`] stands for one block.
pub const BLOCK: u64 = 4096;

/// What is read from a disk.
pub type Content = Vec<u8>;

/// Why a command is refused.
pub type Refusal = &'static str;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Qcow2,
    Raw,
}

impl Format {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

/// What a disk is plugged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    Virtio,
    Scsi,
}

/// An image, by its number among all that there ever were.
pub type Id = usize;

#[derive(Clone, Debug)]
pub struct Image {
    /// `VM/FILE` in the directories of VMs, `out/FILE` elsewhere.
    pub place: String,
    pub format: Format,
    pub content: Content,
    pub base: Option<Id>,
    /// The one that it was made on top of, whatever it stands on now.
    pub origin: Option<Id>,
    /// The snapshots within it.
    pub within: BTreeMap<String, Content>,
    /// The VM that it was made for, if maqet knows that it has made it.
    pub owner: Option<String>,
    pub exists: bool,
    /// Whether a QEMU was killed that had it: what it was about to use is lost to no one.
    pub leaks: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    pub image: Id,
    pub bus: Bus,
}

pub type Disks = BTreeMap<String, Disk>;

/// What a QEMU has.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Whether it was started with a SCSI controller.
    pub had_scsi: bool,
    pub disks: Disks,
    /// What was plugged while it ran, controllers included.
    pub hot: BTreeSet<String>,
}

#[derive(Clone, Debug)]
pub enum Run {
    Stopped,
    Failed,
    Running(Machine),
    Saved(Machine),
}

#[derive(Clone, Debug)]
pub enum Kind {
    /// Of the disks alone, or with the memory of a machine with these.
    Within(Option<Disks>),
    Beside,
}

#[derive(Clone, Debug)]
pub struct Snapshot {
    pub id: usize,
    pub name: String,
    pub parent: Option<usize>,
    pub described: bool,
    pub kind: Kind,
    /// The disks that it is of, with what they were.
    pub disks: Vec<(String, Id)>,
}

#[derive(Clone, Debug)]
pub struct Vm {
    pub disks: Disks,
    pub run: Run,
    pub snapshots: Vec<Snapshot>,
    pub at: Option<usize>,
    /// Whether the next start goes on at `at`.
    pub resumes: bool,
}

#[derive(Clone, Debug, Default)]
pub struct World {
    pub vms: BTreeMap<String, Vm>,
    pub images: Vec<Image>,
    /// Whether what can be done to images while their VM runs, though it need not be, is.
    pub live: bool,
    count: usize,
}

/// Of what is refused while the VM runs, if [`World::live`] does not say otherwise.
pub const RUNS: Refusal = "it runs";

/// Fails for a reason.
fn refuse_if(is_wrong: bool, why: Refusal) -> Result<(), Refusal> {
    match is_wrong {
        true => Err(why),
        false => Ok(()),
    }
}

impl Vm {
    pub fn machine(&self) -> Option<&Machine> {
        match &self.run {
            Run::Running(machine) => Some(machine),
            _ => None,
        }
    }

    fn machine_mut(&mut self) -> Option<&mut Machine> {
        match &mut self.run {
            Run::Running(machine) => Some(machine),
            _ => None,
        }
    }

    pub fn is_saved(&self) -> bool {
        matches!(self.run, Run::Saved(_))
    }

    /// The disks that it has now: QEMU's, or those of its definition.
    pub fn disks_now(&self) -> &Disks {
        self.machine().map_or(&self.disks, |machine| &machine.disks)
    }

    fn snapshot(&self, name: &str) -> Option<&Snapshot> {
        self.snapshots.iter().find(|it| it.name == name)
    }

    /// Whether a disk's image has to stay as it is for what the next start goes on with.
    fn is_awaited(&self) -> bool {
        self.is_saved() || self.resumes && self.machine().is_none()
    }

    fn forget(&mut self, id: usize) {
        let index = self.snapshots.iter().position(|it| it.id == id).unwrap();
        let gone = self.snapshots.remove(index);
        for it in &mut self.snapshots {
            if it.parent == Some(id) {
                it.parent = gone.parent;
            }
        }
        if self.at == Some(id) {
            self.at = gone.parent;
            self.resumes = false;
        }
    }

    /// Has a disk be another image, in the definition and in the machine.
    fn put(&mut self, disk: &str, from: Id, to: Id) {
        let all = [
            Some(&mut self.disks),
            match &mut self.run {
                Run::Running(machine) => Some(&mut machine.disks),
                _ => None,
            },
        ];
        for disks in all.into_iter().flatten() {
            if let Some(it) = disks.get_mut(disk).filter(|it| it.image == from) {
                it.image = to;
            }
        }
    }
}

impl World {
    /// An image that was made at a place.
    pub fn add_image(&mut self, place: String, format: Format, content: Content) -> Id {
        self.images.push(Image {
            owner: place.split_once('/').map(|(vm, _)| vm.to_owned()),
            place,
            format,
            content,
            base: None,
            origin: None,
            within: BTreeMap::new(),
            exists: true,
            leaks: false,
        });
        self.images.len() - 1
    }

    fn add_overlay(&mut self, place: String, base: Id) -> Id {
        let content = self.images[base].content.clone();
        let id = self.add_image(place, Format::Qcow2, content);
        self.images[id].base = Some(base);
        self.images[id].origin = Some(base);
        id
    }

    /// An image and those below it.
    pub fn chain(&self, image: Id) -> Vec<Id> {
        let mut chain = vec![image];
        while let Some(base) = self.images[*chain.last().unwrap()].base {
            chain.push(base);
        }
        chain
    }

    /// An image and those that it comes from.
    fn origins(&self, image: Id) -> Vec<Id> {
        let mut origins = vec![image];
        while let Some(origin) = self.images[*origins.last().unwrap()].origin {
            origins.push(origin);
        }
        origins
    }

    fn is_taken(&self, place: &str) -> bool {
        self.images.iter().any(|it| it.exists && it.place == place)
    }

    fn free_place(&self, vm: &str, disk: &str) -> String {
        let mut places = (1..).map(|n| format!("{vm}/{disk}.{n}.qcow2"));
        places.find(|place| !self.is_taken(place)).unwrap()
    }

    /// All chains that something goes by, with whose they are.
    fn uses(&self) -> Vec<(&str, &str, Vec<Id>)> {
        let mut uses = Vec::new();
        for (name, vm) in &self.vms {
            let machine = vm.machine().map(|machine| &machine.disks);
            for (disk, it) in [Some(&vm.disks), machine].into_iter().flatten().flatten() {
                uses.push((name.as_str(), disk.as_str(), self.chain(it.image)));
            }
            for snapshot in vm.snapshots.iter().filter(|it| it.is_beside()) {
                for (_, image) in &snapshot.disks {
                    uses.push((name.as_str(), "", self.chain(*image)));
                }
            }
        }
        uses
    }

    /// Whether nobody else has the image, or stands on it.
    fn is_alone(&self, vm: &str, disk: &str, image: Id) -> bool {
        let mut uses = self.uses().into_iter();
        !uses.any(|(a, b, chain)| (a, b) != (vm, disk) && chain.contains(&image))
    }

    /// The images that something goes by.
    pub fn used(&self) -> BTreeSet<Id> {
        self.uses().into_iter().flat_map(|it| it.2).collect()
    }

    /// The files in the directories of VMs that nothing goes by.
    pub fn orphans(&self) -> BTreeSet<String> {
        let used = self.used();
        let all = self.images.iter().enumerate();
        all.filter(|(id, it)| it.exists && !used.contains(id) && !it.place.starts_with("out/"))
            .map(|(_, it)| it.place.clone())
            .collect()
    }

    fn vm(&self, name: &str) -> Result<&Vm, Refusal> {
        self.vms.get(name).ok_or("there is no such VM")
    }

    fn vm_mut(&mut self, name: &str) -> &mut Vm {
        self.vms.get_mut(name).unwrap()
    }

    fn disk(&self, vm: &str, disk: &str) -> Result<Disk, Refusal> {
        let found = self.vm(vm)?.disks.get(disk);
        found.copied().ok_or("it has no such disk")
    }

    /// Does what a command should do, or says why it should be refused.
    pub fn apply(&mut self, step: &Step) -> Result<(), Refusal> {
        let mut after = self.clone();
        after.perform(step)?;
        *self = after;
        Ok(())
    }

    fn perform(&mut self, step: &Step) -> Result<(), Refusal> {
        match step {
            Step::Write {
                vm,
                disk,
                at,
                count,
                byte,
            } => self.write(vm, disk, *at, *count, *byte),
            Step::Create {
                vm,
                name,
                mode,
                described,
            } => self.create(vm, name, *mode, *described),
            Step::Restore {
                vm,
                name,
                disk_only,
                discard,
            } => self.restore(vm, name, *disk_only, *discard),
            Step::RmSnapshot { vm, name } => self.rm_snapshot(vm, name),
            Step::Prune { vm, keep } => self.prune(vm, *keep),
            Step::Merge { vm, name } => self.merge(vm, name),
            Step::Add {
                vm,
                disk,
                blocks,
                format,
                bus,
            } => self.add(vm, disk, *blocks, *format, *bus),
            Step::Detach { vm, disk, delete } => self.detach(vm, disk, *delete),
            Step::Attach { vm, disk, place } => self.attach(vm, disk, place),
            Step::Resize {
                vm,
                disk,
                blocks,
                shrink,
            } => self.resize(vm, disk, *blocks, *shrink),
            Step::Move { vm, disk, place } => self.r#move(vm, disk, place),
            Step::Compact { vm, disk } => {
                let image = self.rewrite(vm, disk)?;
                // A running QEMU has the old one open.
                if self.vm(vm)?.machine().is_some() {
                    self.images[image].place = self.beside(&self.images[image].place);
                }
                Ok(())
            }
            Step::Flatten { vm, disk } => {
                refuse_if(
                    self.images[self.disk(vm, disk)?.image].format == Format::Raw,
                    "a raw disk stands on nothing",
                )?;
                let image = self.rewrite(vm, disk)?;
                self.images[image].base = None;
                Ok(())
            }
            Step::Clone { vm, new } => self.clone_linked(vm, new),
            Step::Copy { vm, new, snapshot } => self.clone_full(vm, new, snapshot.as_deref()),
            Step::RmVm { vm, disks } => self.rm_vm(vm, *disks),
            Step::Start { vm } => self.start(vm),
            Step::Stop { vm } | Step::Kill { vm } => {
                let it = self.vm(vm)?.machine().ok_or("it does not run")?;
                let failed = matches!(step, Step::Kill { .. });
                let disks: Vec<Id> = it.disks.values().map(|disk| disk.image).collect();
                for id in disks {
                    self.images[id].leaks |= failed;
                }
                self.vm_mut(vm).run = if failed { Run::Failed } else { Run::Stopped };
                Ok(())
            }
            Step::Save { vm } => self.save(vm),
        }
    }

    fn write(
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

    fn create(&mut self, vm: &str, name: &str, mode: Mode, described: bool) -> Result<(), Refusal> {
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
                let is_raw = |disk: &Disk| self.images[disk.image].format == Format::Raw;
                refuse_if(now.values().any(is_raw), "it has a raw disk")?;
                let memory = match it.machine() {
                    Some(machine) if mode == Mode::All => {
                        refuse_if(!machine.hot.is_empty(), "it has plugged devices")?;
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

    fn restore(
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

    fn go_back(&mut self, vm: &str, images: &[Id], name: &str) {
        for id in images {
            let image = &mut self.images[*id];
            image.content = image.within[name].clone();
        }
        let it = self.vm_mut(vm);
        if it.is_saved() {
            it.run = Run::Stopped;
        }
    }

    fn restore_beside(&mut self, vm: &str, snapshot: &Snapshot) -> Result<(), Refusal> {
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

    fn rm_snapshot(&mut self, vm: &str, name: &str) -> Result<(), Refusal> {
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
    fn is_below(&self, vm: &Vm, snapshot: &Snapshot) -> bool {
        let tops: Vec<Id> = vm.disks_now().values().map(|disk| disk.image).collect();
        snapshot.disks.iter().any(|(_, id)| {
            self.images[*id].within.contains_key(&snapshot.name)
                && !tops.contains(id)
                && tops.iter().any(|top| self.chain(*top).contains(id))
        })
    }

    fn prune(&mut self, vm: &str, keep: usize) -> Result<(), Refusal> {
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

    fn merge(&mut self, vm: &str, name: &str) -> Result<(), Refusal> {
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

    fn add(
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

    fn attach(&mut self, vm: &str, disk: &str, place: &str) -> Result<(), Refusal> {
        let it = self.vm(vm)?;
        refuse_if(it.disks.contains_key(disk), "it has such a disk")?;
        let mut images = self.images.iter();
        let image = images.position(|it| it.exists && it.place == place);
        let image = image.ok_or("there is no such file")?;
        refuse_if(!self.is_alone(vm, disk, image), "others have it")?;
        let tops = self.vms.values().flat_map(|vm| vm.disks.values());
        let tops: Vec<Id> = tops.map(|disk| disk.image).collect();
        let is_written = self.chain(image)[1..].iter().any(|id| tops.contains(id));
        refuse_if(is_written, "what it stands on is written")?;
        let bus = Bus::Virtio;
        self.vm_mut(vm).plug(disk, Disk { image, bus });
        Ok(())
    }

    fn detach(&mut self, vm: &str, disk: &str, delete: bool) -> Result<(), Refusal> {
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

    fn resize(&mut self, vm: &str, disk: &str, blocks: usize, shrink: bool) -> Result<(), Refusal> {
        let it = self.vm(vm)?;
        let image = self.disk(vm, disk)?.image;
        refuse_if(!self.is_alone(vm, disk, image), "others have it")?;
        refuse_if(it.is_awaited(), "it has a saved state")?;
        let shrinks = blocks < self.images[image].content.len();
        refuse_if(shrinks && !shrink, "it would lose something")?;
        if let Some(machine) = it.machine() {
            let plugged = machine.disks.get(disk).map(|disk| disk.image);
            refuse_if(plugged != Some(image), "it is not plugged")?;
            refuse_if(shrinks, "it runs")?;
        }
        self.images[image].content.resize(blocks, 0);
        Ok(())
    }

    /// A place beside another: its name with a number.
    fn beside(&self, place: &str) -> String {
        let (stem, suffix) = place.rsplit_once('.').unwrap();
        let stem = match stem.rsplit_once('.') {
            Some((stem, number)) if number.parse::<u32>().is_ok() => stem,
            _ => stem,
        };
        let mut places = (1..).map(|n| format!("{stem}.{n}.{suffix}"));
        places.find(|place| !self.is_taken(place)).unwrap()
    }

    /// Whether something else may be done to an image of a VM that runs.
    fn may_be_live(&self, vm: &Vm, disk: &str, image: Id) -> Result<(), Refusal> {
        let Some(machine) = vm.machine() else {
            return Ok(());
        };
        refuse_if(!self.live, RUNS)?;
        let plugged = machine.disks.get(disk).map(|disk| disk.image);
        refuse_if(plugged != Some(image), "it is not plugged")?;
        let within = &self.images[image].within;
        refuse_if(!within.is_empty(), "there are snapshots within")
    }

    /// What is done to the image of a disk.
    fn rewrite(&mut self, vm: &str, disk: &str) -> Result<Id, Refusal> {
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

    fn r#move(&mut self, vm: &str, disk: &str, place: &str) -> Result<(), Refusal> {
        let it = self.vm(vm)?;
        let image = self.disk(vm, disk)?.image;
        self.may_be_live(it, disk, image)?;
        refuse_if(it.is_awaited(), "it has a saved state")?;
        refuse_if(!self.is_alone(vm, disk, image), "others have it")?;
        refuse_if(self.is_taken(place), "there is such a file")?;
        self.images[image].place = place.to_owned();
        Ok(())
    }

    fn clone_linked(&mut self, vm: &str, new: &str) -> Result<(), Refusal> {
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

    fn clone_full(&mut self, vm: &str, new: &str, snapshot: Option<&str>) -> Result<(), Refusal> {
        let it = self.vm(vm)?.clone();
        refuse_if(self.vms.contains_key(new), "there is such a VM")?;
        let mut disks = Disks::new();
        for (disk, defined) in &it.disks {
            if let Some(machine) = it.machine() {
                let plugged = machine.disks.get(disk).map(|disk| disk.image);
                refuse_if(plugged != Some(defined.image), "it is not plugged")?;
            }
            let image = &self.images[defined.image];
            let format = image.format;
            let content = match snapshot {
                Some(name) => {
                    let then = image.within.get(name).ok_or("it has no such snapshot")?;
                    let is_longer = then.len() > image.content.len();
                    refuse_if(is_longer, "its end cannot be read")?;
                    then
                }
                None => &image.content,
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

    fn rm_vm(&mut self, vm: &str, disks: bool) -> Result<(), Refusal> {
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

    fn start(&mut self, vm: &str) -> Result<(), Refusal> {
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

    fn save(&mut self, vm: &str) -> Result<(), Refusal> {
        let machine = self.vm(vm)?.machine().ok_or("it does not run")?.clone();
        refuse_if(!machine.hot.is_empty(), "it has plugged devices")?;
        self.vm_mut(vm).run = Run::Saved(machine);
        Ok(())
    }
}

impl Image {
    fn is_of(&self, vm: &str) -> bool {
        self.owner.as_deref() == Some(vm)
    }
}

impl Snapshot {
    pub fn is_beside(&self) -> bool {
        matches!(self.kind, Kind::Beside)
    }
}

impl Vm {
    /// Adds a disk, to the machine as well.
    fn plug(&mut self, name: &str, disk: Disk) {
        self.disks.insert(name.to_owned(), disk);
        let Some(machine) = self.machine_mut() else {
            return;
        };
        // One that was taken out of the definition is there until the next start.
        if machine.disks.contains_key(name) {
            return;
        }
        machine.disks.insert(name.to_owned(), disk);
        machine.hot.insert(name.to_owned());
        if disk.bus == Bus::Scsi && !machine.had_scsi {
            machine.hot.insert("a SCSI controller".to_owned());
        }
    }
}
