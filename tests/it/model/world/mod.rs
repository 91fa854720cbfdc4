//! What VMs, disks and snapshots should be, by what README and the manual pages say.

use std::collections::{BTreeMap, BTreeSet};

use super::step::Step;

mod disks;
mod snapshots;
mod vms;

/// What disks are written by, in bytes; one byte of a [`Content`] stands for one block.
pub const BLOCK: u64 = 4096;

/// How many blocks a cluster of a qcow2 image has.
pub const CLUSTER: usize = 16;

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
    count: usize,
}

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

    /// The images that a snapshot beside them is of, by disk.
    fn images_beside(&self, name: &str) -> Option<BTreeMap<String, Id>> {
        let snapshot = self.snapshot(name).filter(|it| it.is_beside())?;
        Some(snapshot.disks.iter().cloned().collect())
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
                quiesce,
            } => {
                let runs = self.vm(vm)?.machine().is_some();
                refuse_if(*quiesce && runs, "nobody in the guest freezes anything")?;
                self.create(vm, name, *mode, *described)
            }
            Step::Restore {
                vm,
                name,
                disk_only,
                discard,
                reset,
            } => {
                let is_reset = *reset && self.vm(vm)?.machine().is_some();
                if is_reset {
                    self.vm_mut(vm).run = Run::Stopped;
                }
                self.restore(vm, name, *disk_only, *discard)?;
                if is_reset {
                    self.start(vm)?;
                }
                Ok(())
            }
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
                refuse_if(self.vm(vm)?.machine().is_some(), "it runs")?;
                let image = self.rewrite(vm, disk)?;
                self.images[image].base = None;
                Ok(())
            }
            Step::Rebase { vm, disk, place } => self.rebase(vm, disk, place),
            Step::MergeDisk { vm, disk, into } => {
                self.merge_disks(vm, disk.as_deref(), into.as_deref())
            }
            Step::Clone { vm, new, snapshot } => match snapshot {
                Some(name) => self.clone_snapshot(vm, new, name),
                None => self.clone_linked(vm, new),
            },
            Step::Copy { vm, new, snapshot } => self.clone_full(vm, new, snapshot.as_deref()),
            Step::Rename { vm, new } => self.rename(vm, new),
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
