//! What is done to VMs, and what is done next.

use std::fmt;

use crate::pool::Random;

use super::world::{BLOCK, Bus, CLUSTER, Format, World};

/// One command, or what its user does besides. VMs go by short names.
#[derive(Clone, Debug)]
pub enum Step {
    /// As the guest writes; the numbers are of blocks.
    Write {
        vm: String,
        disk: String,
        at: usize,
        count: usize,
        byte: u8,
    },
    Create {
        vm: String,
        name: String,
        mode: Mode,
        described: bool,
        quiesce: bool,
    },
    Restore {
        vm: String,
        name: String,
        disk_only: bool,
        discard: bool,
        reset: bool,
    },
    RmSnapshot {
        vm: String,
        name: String,
    },
    Prune {
        vm: String,
        keep: usize,
    },
    Merge {
        vm: String,
        name: String,
    },
    Add {
        vm: String,
        disk: String,
        blocks: usize,
        format: Format,
        bus: Bus,
    },
    Detach {
        vm: String,
        disk: String,
        delete: bool,
    },
    Attach {
        vm: String,
        disk: String,
        place: String,
    },
    Resize {
        vm: String,
        disk: String,
        blocks: usize,
        shrink: bool,
    },
    Move {
        vm: String,
        disk: String,
        place: String,
    },
    Compact {
        vm: String,
        disk: String,
    },
    Flatten {
        vm: String,
        disk: String,
    },
    Rebase {
        vm: String,
        disk: String,
        place: String,
    },
    /// A disk is merged into what it stands on, or all are.
    MergeDisk {
        vm: String,
        disk: Option<String>,
        into: Option<String>,
    },
    Clone {
        vm: String,
        new: String,
        snapshot: Option<String>,
    },
    Copy {
        vm: String,
        new: String,
        snapshot: Option<String>,
    },
    Rename {
        vm: String,
        new: String,
    },
    RmVm {
        vm: String,
        disks: bool,
    },
    Start {
        vm: String,
    },
    Stop {
        vm: String,
    },
    /// QEMU is killed.
    Kill {
        vm: String,
    },
    Save {
        vm: String,
    },
}

/// What a snapshot is of, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    All,
    DiskOnly,
    External,
}

/// More than that would only take longer.
const VMS: [&str; 3] = ["web", "db", "app"];
const DISKS: [&str; 3] = ["a", "b", "c"];

/// No name is taken for a number, an option or another one.
const SNAPSHOTS: [&str; 6] = ["1", "2", "-d", "x y", "ä 'q' \"w\"", "3"];

/// Of a disk, in blocks: 256 KiB to 2 MiB, in parts of clusters.
const SIZES: std::ops::Range<usize> = 64..512;

impl Step {
    /// The arguments of the command, if it is one of maqet's; `@web` is VM `web`, and places are
    /// made paths by `path`.
    pub fn args(&self, path: impl Fn(&str) -> String) -> Option<Vec<String>> {
        let mut args: Vec<String> = Vec::new();
        let mut say = |words: &[&str]| args.extend(words.iter().map(|&word| word.to_owned()));
        let vm = format!("@{}", self.vm());
        let vm = vm.as_str();
        match self {
            Self::Write { .. } | Self::Kill { .. } => return None,
            Self::Create {
                name,
                mode,
                described,
                quiesce,
                ..
            } => {
                say(&["snapshot", "create", vm]);
                match mode {
                    Mode::All => {}
                    Mode::DiskOnly => say(&["--disk-only"]),
                    Mode::External => say(&["--external"]),
                }
                if *described {
                    say(&["--description", "kept"]);
                }
                if *quiesce {
                    say(&["--quiesce"]);
                }
                say(&["--", name]);
            }
            Self::Restore {
                name,
                disk_only,
                discard,
                reset,
                ..
            } => {
                say(&["snapshot", "restore", vm]);
                if *disk_only {
                    say(&["--disk-only"]);
                }
                if *discard {
                    say(&["--discard-saved"]);
                }
                if *reset {
                    say(&["--reset"]);
                }
                say(&["--", name]);
            }
            Self::RmSnapshot { name, .. } => say(&["snapshot", "rm", vm, "--", name]),
            Self::Prune { keep, .. } => {
                say(&["snapshot", "prune", vm, "--keep", &keep.to_string()]);
            }
            Self::Merge { name, .. } => say(&["snapshot", "merge", vm, "--", name]),
            Self::Add {
                disk,
                blocks,
                format,
                bus,
                ..
            } => {
                say(&["disk", "add", vm, disk, "--size", &size(*blocks)]);
                say(&["--format", format.as_str()]);
                if *bus == Bus::Scsi {
                    say(&["interface=scsi"]);
                }
            }
            Self::Detach { disk, delete, .. } => match delete {
                true => say(&["disk", "rm", vm, disk, "--delete"]),
                false => say(&["disk", "detach", vm, disk]),
            },
            Self::Attach { disk, place, .. } => {
                say(&["disk", "attach", vm, disk, &path(place)]);
                // One that it is not taken for by its name.
                if place.ends_with(".raw") {
                    say(&["format=raw"]);
                }
            }
            Self::Resize {
                disk,
                blocks,
                shrink,
                ..
            } => {
                say(&["disk", "resize", vm, disk, &size(*blocks)]);
                if *shrink {
                    say(&["--shrink"]);
                }
            }
            Self::Move { disk, place, .. } => say(&["disk", "move", vm, disk, &path(place)]),
            Self::Compact { disk, .. } => say(&["disk", "compact", vm, disk]),
            Self::Flatten { disk, .. } => say(&["disk", "rebase", vm, disk, "--flat"]),
            Self::Rebase { disk, place, .. } => say(&["disk", "rebase", vm, disk, &path(place)]),
            Self::MergeDisk { disk, into, .. } => {
                say(&["disk", "merge", vm]);
                if let Some(disk) = disk {
                    say(&[disk]);
                }
                if let Some(place) = into {
                    say(&["--into", &path(place)]);
                }
            }
            Self::Rename { new, .. } => say(&["rename", vm, &format!("@{new}")]),
            Self::Clone { new, snapshot, .. } | Self::Copy { new, snapshot, .. } => {
                say(&["clone", vm, &format!("@{new}"), "--json"]);
                if matches!(self, Self::Copy { .. }) {
                    say(&["--full"]);
                }
                if let Some(name) = snapshot {
                    say(&[&format!("--snapshot={name}")]);
                }
            }
            Self::RmVm { disks, .. } => {
                say(&["rm", vm]);
                if *disks {
                    say(&["--disks"]);
                }
            }
            Self::Start { .. } => say(&["start", vm]),
            Self::Stop { .. } => say(&["stop", "--force", vm]),
            Self::Save { .. } => say(&["save", vm]),
        }
        Some(args)
    }

    pub fn vm(&self) -> &str {
        match self {
            Self::Write { vm, .. }
            | Self::Create { vm, .. }
            | Self::Restore { vm, .. }
            | Self::RmSnapshot { vm, .. }
            | Self::Prune { vm, .. }
            | Self::Merge { vm, .. }
            | Self::Add { vm, .. }
            | Self::Detach { vm, .. }
            | Self::Attach { vm, .. }
            | Self::Resize { vm, .. }
            | Self::Move { vm, .. }
            | Self::Compact { vm, .. }
            | Self::Flatten { vm, .. }
            | Self::Rebase { vm, .. }
            | Self::MergeDisk { vm, .. }
            | Self::Rename { vm, .. }
            | Self::Clone { vm, .. }
            | Self::Copy { vm, .. }
            | Self::RmVm { vm, .. }
            | Self::Start { vm }
            | Self::Stop { vm }
            | Self::Kill { vm }
            | Self::Save { vm } => vm,
        }
    }

    /// What is done next: mostly what should work, and now and then what should be refused.
    pub fn next(random: &mut Random, world: &World) -> Self {
        loop {
            let step = Self::any(random, world);
            let is_refused = world.clone().apply(&step).is_err();
            // Nobody is there to refuse what a guest does not do.
            let is_command = step.args(str::to_owned).is_some();
            if !is_refused || is_command && random.one_in(6) {
                return step;
            }
        }
    }

    fn any(random: &mut Random, world: &World) -> Self {
        let vms: Vec<&str> = world.vms.keys().map(String::as_str).collect();
        let vm = match random.one_in(40) || vms.is_empty() {
            true => random.pick(&VMS),
            false => random.pick(&vms),
        };
        let it = world.vms.get(vm);
        let vm = vm.to_owned();
        let disks: Vec<&str> = it.map_or(Vec::new(), |it| {
            it.disks_now().keys().map(String::as_str).collect()
        });
        let disk = match random.one_in(12) || disks.is_empty() {
            true => random.pick(&DISKS),
            false => random.pick(&disks),
        }
        .to_owned();
        let snapshots: Vec<&str> = it.map_or(Vec::new(), |it| {
            it.snapshots.iter().map(|it| it.name.as_str()).collect()
        });
        let name = match random.one_in(12) || snapshots.is_empty() {
            true => random.pick(&SNAPSHOTS),
            false => random.pick(&snapshots),
        }
        .to_owned();
        let image = it.and_then(|it| it.disks_now().get(&disk));
        let length = image.map_or(64, |it| world.images[it.image].content.len());
        let place = |random: &mut Random| {
            let places: Vec<&str> = world
                .images
                .iter()
                .filter(|it| it.exists)
                .map(|it| it.place.as_str())
                .collect();
            match places.is_empty() {
                true => "out/none.qcow2".to_owned(),
                false => random.pick(&places).to_owned(),
            }
        };
        match random.below(52) {
            0..10 => {
                let at = random.below(length);
                let count = 1 + random.below(32.min(length - at));
                let byte = 1 + random.below(250) as u8;
                Self::Write {
                    vm,
                    disk,
                    at,
                    count,
                    byte,
                }
            }
            10..16 => {
                let mode = [Mode::All, Mode::DiskOnly, Mode::External][random.below(3)];
                Self::Create {
                    vm,
                    name: random.pick(&SNAPSHOTS).to_owned(),
                    mode,
                    described: random.one_in(4),
                    quiesce: mode != Mode::All && random.one_in(8),
                }
            }
            16..20 => Self::Restore {
                vm,
                name,
                disk_only: random.one_in(4),
                discard: random.one_in(4),
                reset: random.one_in(2),
            },
            20..22 => Self::RmSnapshot { vm, name },
            22 => Self::Prune {
                vm,
                keep: random.below(3),
            },
            23..26 => Self::Merge { vm, name },
            26..28 => Self::Add {
                vm,
                disk: random.pick(&DISKS).to_owned(),
                blocks: SIZES.start + random.below(SIZES.len()),
                format: match random.one_in(4) {
                    true => Format::Raw,
                    false => Format::Qcow2,
                },
                bus: [Bus::Virtio, Bus::Scsi][random.below(2)],
            },
            28 => Self::Detach {
                vm,
                disk,
                delete: random.one_in(2),
            },
            29 => Self::Attach {
                vm,
                disk: random.pick(&DISKS).to_owned(),
                place: place(random),
            },
            30..33 => {
                let blocks = SIZES.start + random.below(SIZES.len());
                Self::Resize {
                    vm,
                    disk,
                    blocks: match random.one_in(2) {
                        true => blocks,
                        false => blocks.next_multiple_of(CLUSTER),
                    },
                    shrink: random.one_in(2),
                }
            }
            33 => Self::Move {
                vm,
                place: match random.one_in(6) || world.images.is_empty() {
                    true => place(random),
                    false => {
                        let now = image.map_or(Format::Qcow2, |it| world.images[it.image].format);
                        let count = world.images.len() + random.below(1000);
                        format!("out/{count}.{}", now.as_str())
                    }
                },
                disk,
            },
            34 => Self::Compact { vm, disk },
            35 => Self::Flatten { vm, disk },
            36 | 37 | 46 => {
                let all = it.map_or(&[][..], |it| &it.snapshots);
                let names: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
                let snapshot = match random.one_in(2) || names.is_empty() {
                    true => None,
                    false => Some(random.pick(&names).to_owned()),
                };
                let new = random.pick(&VMS).to_owned();
                match random.one_in(2) {
                    true => Self::Copy { vm, new, snapshot },
                    false => Self::Clone { vm, new, snapshot },
                }
            }
            38 if world.vms.len() > 1 => Self::RmVm {
                vm,
                disks: !random.one_in(3),
            },
            39..43 => Self::Start { vm },
            43 => Self::Stop { vm },
            44 => Self::Kill { vm },
            45 => Self::Save { vm },
            47 => Self::Rebase {
                vm,
                disk,
                place: place(random),
            },
            48..51 => {
                let below = image.and_then(|it| world.chain(it.image).last().copied());
                let into = below.filter(|_| random.one_in(3));
                let into = into.map(|id| world.images[id].place.clone());
                Self::MergeDisk {
                    vm,
                    disk: (into.is_some() || random.one_in(2)).then_some(disk),
                    into,
                }
            }
            _ => Self::Rename {
                vm,
                new: random.pick(&VMS).to_owned(),
            },
        }
    }
}

/// A number of blocks, as a size.
fn size(blocks: usize) -> String {
    format!("{}K", blocks as u64 * BLOCK / 1024)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write {
                vm,
                disk,
                at,
                count,
                byte,
            } => {
                let [at, count] = [*at, *count].map(|blocks| 4 * blocks);
                write!(f, "write -P {byte} {at}k {count}k # in {vm}'s disk {disk}")
            }
            Self::Kill { vm } => write!(f, "kill -9 # of {vm}'s QEMU"),
            command => {
                let args = command.args(|place| format!(".../{place}"));
                write!(f, "maqet")?;
                args.unwrap()
                    .iter()
                    .try_for_each(|arg| match arg.contains([' ', '"']) {
                        true => write!(f, " {arg:?}"),
                        false => write!(f, " {arg}"),
                    })
            }
        }
    }
}
