//! What a user is told when something goes wrong, and the exit status that goes with it.
#![allow(clippy::print_stderr, reason = "errors end here")]

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{Access, access};
use rustix::io::Errno;
use signal_hook::consts::SIGINT;

use crate::config::{self, DeviceName, Interface, Size, is_device_node, without_index};
use crate::image::{self, Fault, is_used_up, room};
use crate::ops::snapshot::create::A_SNAPSHOT;
use crate::ops::snapshot::restore::GOING_BACK;
use crate::ops::{By, Error, Host, Obstacle, clone, device, disk, migrate, snapshot};
use crate::qemu::vhost;
use crate::qmp::RunState;
use crate::vm::VmName;
use crate::{keyboard, qmp, store, systemd};

use super::interrupt;

/// 1: it failed.
pub(super) const FAILED: u8 = 1;
/// 2: the command line makes no sense, as clap has it.
const USAGE: u8 = 2;
/// 3 and 4 mean what they mean for systemctl(1): not running, no such unit.
pub(super) const NOT_RUNNING: u8 = 3;
const NO_SUCH_VM: u8 = 4;
/// 5: QEMU understood the command and refused it, or the job that it made of it failed.
const REFUSED: u8 = 5;
/// 6: another process holds the monitor, or QEMU does not answer.
const MONITOR_BUSY: u8 = 6;
/// 7: nothing that was waited for came in time.
const NOT_IN_TIME: u8 = 7;
/// 8: the VM has ended, and what was waited for cannot come any more.
const ENDED: u8 = 8;
/// 9: `diff` was asked for a status, and something differs.
pub(super) const DIFFERS: u8 = 9;
/// 130: it was called off by SIGINT, and that is 2. A shell says so of what a signal has ended.
const BY_SIGINT: u8 = 130;
/// 143: the same by SIGTERM, which is 15.
const BY_SIGTERM: u8 = 143;

/// Prints an error with its causes and what to do about it.
pub(super) fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        // The reader has had enough; nothing is wrong.
        return ExitCode::SUCCESS;
    }
    print(error);
    exit_code(error).into()
}

/// The text of an error: message, details, causes, hint.
pub(super) fn print(error: &anyhow::Error) {
    // What has no context and is no operation's is stdout's.
    match error.downcast_ref::<io::Error>() {
        Some(_) if error.chain().count() == 1 => {
            eprintln!("error: cannot write the answer: {error}")
        }
        _ => eprintln!("error: {error}"),
    }
    let ops = error.downcast_ref::<Error>();
    if let Some(Error::Died { words, result, .. }) = ops {
        for line in words {
            eprintln!("  {line}");
        }
        if words.is_empty() {
            eprintln!("  (nothing was printed; systemd says `{result}`)");
        }
    }
    if let Some(Error::NotReady { console, .. }) = ops {
        for line in console {
            eprintln!("  {line}");
        }
    }
    let mut said = error.to_string();
    for cause in error.chain().skip(1) {
        // Some libraries repeat their cause in their own words.
        let cause = cause.to_string();
        if !said.ends_with(&cause) && !cause.ends_with(&said) {
            eprintln!("  caused by: {cause}");
        }
        said = cause;
    }
    if let Some(Error::Died {
        explained: Some(why),
        ..
    }) = ops
    {
        eprintln!("  caused by: {why}");
    }
    let full = || room_hint(error);
    if let Some(hint) = ops.and_then(hint).or_else(full) {
        eprintln!("hint: {hint}");
    }
}

fn hint(error: &Error) -> Option<String> {
    Some(match error {
        Error::NoSuchVm {
            nearest: Some(name),
            ..
        } => format!("did you mean `{name}`?"),
        Error::NoSuchVm { nearest: None, .. } | Error::NoMatch(_) => {
            "`maqet ls` lists the VMs there are".to_owned()
        }
        Error::NoGroup(_) => {
            "`maqet group ls` lists the groups; a VM names its own with `group` in its definition"
                .to_owned()
        }
        Error::NoLabel(_) => {
            "`maqet ls --json` shows the labels there are; a VM has them from `[labels]` in its \
             definition"
                .to_owned()
        }
        Error::Protected(name) => {
            format!("its definition says `protect = true`; `maqet unset {name} protect` ends that")
        }
        Error::AlreadyExists(name) => {
            format!("`maqet show {name}` shows it")
        }
        Error::Template(_) => "`maqet template ls` lists the templates there are".to_owned(),
        Error::NoSuchPort { known, .. } if known.is_empty() => {
            "it has none: its serial console is shown by `maqet logs --console`".to_owned()
        }
        Error::NoSuchPort { known, .. } => {
            let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
            format!("it has {}", known.join(", "))
        }
        Error::NoPortLog { port, .. } => format!(
            "what goes through a `virtio-port`, or to what is no file, is not kept: \
             `port.{port}.file` can name a file"
        ),
        Error::NotRunning(name) => format!("start it with `maqet start {name}`"),
        Error::PortTaken {
            by: By::Vm(other),
            key,
            ..
        } => format!(
            "stop that one with `maqet stop {other}`, or give another port in `{}`",
            without_index(key)
        ),
        Error::PortTaken { key, .. } | Error::NoHostPort { key, .. } => {
            format!("another port can be given in `{}`", without_index(key))
        }
        Error::Qmp(qmp::Error::Refused { command, desc, .. })
            if command == "device_add" && desc.contains("does not support hotplug") =>
        {
            "`maqet device add NAME DRIVER …` finds a port for it that does".to_owned()
        }
        Error::Qmp(qmp::Error::Timeout { .. }) => {
            "QEMU may wait for a disk, or be stopped: a longer `--timeout` waits for it, \
             `maqet status NAME` and `maqet logs NAME` tell more"
                .to_owned()
        }
        Error::NotReady { name, .. } => {
            format!("`maqet logs --console {name}` shows its console, `maqet stop {name}` stops it")
        }
        Error::HasSavedState(name) => format!(
            "`maqet start {name}` goes on with it; `--discard-saved` of `start`, `rm` and \
             `snapshot restore` gives it up"
        ),
        Error::DisksChanged { name, .. } => {
            format!("boot afresh with `maqet start --discard-saved {name}`")
        }
        Error::NothingToChange(_) => {
            "`--persist` changes its definition, and so its next start".to_owned()
        }
        Error::ChangedMeanwhile(name) => {
            format!(
                "`maqet diff {name} FILE` compares it with the text that is kept, `maqet apply FILE` has the last word"
            )
        }
        Error::NoKey { nearest, .. } if !nearest.is_empty() => {
            format!("did you mean `{}`?", nearest.join("`, `"))
        }
        Error::NoKey { name, .. } => format!("`maqet show {name}` shows what it has"),
        Error::Systemd(systemd::Error::Refused {
            action: "change", ..
        }) => "limits can be changed at any time; for all else, change the definition with \
             `--persist`, and restart the VM"
            .to_owned(),
        Error::Systemd(systemd::Error::Refused { source, .. }) => newer_systemd(source)?,
        Error::Running(name) => format!("stop it first with `maqet stop {name}`"),
        Error::WrongState { name, state, .. } => match state {
            RunState::Suspended => format!("`maqet resume {name}` wakes it"),
            RunState::Shutdown | RunState::GuestPanicked | RunState::InternalError => {
                format!("`maqet reset {name}`, then `maqet resume {name}`, begins anew")
            }
            _ => format!("`maqet resume {name}` lets it run"),
        },
        Error::Keys(keyboard::Error::NoKey { nearest: None, .. }) => {
            "`maqet keys NAME --list` lists the keys there are".to_owned()
        }
        Error::Keys(keyboard::Error::NoCharacter { .. }) => {
            "`--layout` names the layout that the guest has, such as `de`".to_owned()
        }
        Error::NoLayout(_) => {
            "layouts are those of /usr/share/X11/xkb/symbols (Debian: xkb-data)".to_owned()
        }
        Error::NoScreen(_) => {
            "its definition needs a video device, such as `vga = \"std\"`".to_owned()
        }
        Error::AtWork { .. } => "it can be waited for, or interrupted where it runs".to_owned(),
        Error::Snapshot(error) => return snapshot_hint(error),
        Error::FileExists(file) if file.is_file() => "`--force` replaces it".to_owned(),
        Error::Silent { name, .. } | Error::StillUp { name, .. } => format!(
            "wait longer with `--timeout`, or cut its power with `maqet stop --force {name}`"
        ),
        Error::MonitorGone { name, .. } => {
            format!("its disks are safe; `maqet stop --force {name}` ends it")
        }
        Error::Renamed { name, other } => format!("`maqet rename {name} {other}` does that"),
        Error::Extends(_) => "`maqet add` reads it, and what it extends".to_owned(),
        Error::DiskGone { vm, disk, .. } => format!(
            "put it there; or, for an empty one, `maqet disk rm {vm} {disk}` and then `maqet disk \
             add {vm} {disk} --size SIZE`"
        ),
        Error::NoDisk { path, .. } if is_device_node(path) => {
            "maqet makes no devices of the host".to_owned()
        }
        Error::NoDisk { disk, .. } => {
            format!("give `[disk.{disk}]` a `size` to have it made")
        }
        Error::Qemu(_) => {
            "install QEMU (Debian: qemu-system-x86), or name it with `binary` in `[qemu]`"
                .to_owned()
        }
        Error::Vsock(vhost::Error::Device(cause)) => {
            format!("`{}`", vhost::mend(cause)?)
        }
        Error::NoAgent { channel: true, .. } => {
            "run qemu-guest-agent in the guest; while it boots, it may not be up yet".to_owned()
        }
        Error::NoAgent { .. } => "`agent = true` in the definition gives it one".to_owned(),
        Error::Systemd(systemd::Error::NoManager { .. }) => {
            "the user manager runs while you are logged in; to have it always (cron, su, \
             containers): `loginctl enable-linger`, as root with your user name"
                .to_owned()
        }
        Error::Systemd(systemd::Error::NoTemplate) => {
            "`make install` puts it where systemd looks for units".to_owned()
        }
        Error::Linger(_) => "`sudo loginctl enable-linger \"$USER\"` does it".to_owned(),
        Error::NoSuchJob {
            nearest: Some(id), ..
        } => format!("did you mean `{id}`?"),
        Error::NoSuchJob { name, .. } => format!("`maqet jobs {name}` lists the jobs there are"),
        Error::Ended { name, how, .. } => {
            format!("it ended: {how}; `maqet status {name}` shows more")
        }
        Error::Words(qmp::schema::Error::NoDriver { .. }) => {
            "`maqet qmp NAME qom-list-types implements=device abstract=off` lists the drivers"
                .to_owned()
        }
        Error::Words(qmp::schema::Error::NoEvent { .. }) => {
            "write the name of an event, or a pattern such as 'BLOCK_*'".to_owned()
        }
        Error::Words(qmp::schema::Error::Value { key, .. }) if key == "state" => return None,
        Error::Words(_) => {
            "`maqet qmp NAME --describe COMMAND` shows the arguments, `--list` the commands"
                .to_owned()
        }
        Error::Device(error) => return device_hint(error),
        Error::Clone(error) => return Some(clone_hint(error)),
        Error::Disk(error) => return disk_hint(error),
        Error::NotADisk { path, why, .. } if why.contains("Permission denied") => format!(
            "`chmod u+rw {}`, by whose it is, lets it be used",
            quoted(&path.to_string_lossy())
        ),
        // Of the image that is read, which is not always the one that the error is about.
        Error::Image(image::Error::Failed { words, .. }) if words.contains("Image is corrupt") => {
            "`maqet disk check VM` tells which image is damaged, and `--repair` mends what can be \
             mended"
                .to_owned()
        }
        Error::Image(image::Error::Chain(fault)) => fault_hint("VM", "DISK", fault),
        Error::Image(image::Error::Directory { dir, source }) => directory_hint(dir, source),
        Error::Image(image::Error::File { path, source, .. }) => {
            return path_hint(path, source).or_else(|| unwritable_hint(path));
        }
        Error::Image(image::Error::Failed { path, .. }) => return unwritable_hint(path),
        Error::Lock(error) => return unwritable_hint(error.path()),
        Error::Image(image::Error::NoSpace { dir, .. }) => full_hint(dir),
        Error::NoRoomToSave { by_quota: true, .. } => quota_hint(),
        Error::NoRoomToSave { .. } => space_hint(),
        Error::Store(store::Error::Full) => {
            let database = Host::from_env().ok()?.paths.database();
            return match is_used_up(&database) {
                true => Some(full_hint(&database)),
                false => unwritable_hint(&database),
            };
        }
        Error::Migrate(error) => return migrate_hint(error),
        Error::NoCommand { nearest, .. } => match nearest.as_slice() {
            [] => "`maqet qmp NAME --list` lists the commands".to_owned(),
            nearest => format!("did you mean `{}`?", nearest.join("` or `")),
        },
        Error::Store(store::Error::TooNew { .. }) => "use the newer maqet".to_owned(),
        Error::Store(error) if error.is_damage() => {
            "`maqet doctor --rebuild` makes it again, from what VMs last started with".to_owned()
        }
        Error::Store(store::Error::Open { path, .. }) if is_used_up(path) => full_hint(path),
        Error::Store(store::Error::Open { path, .. }) => {
            unwritable_hint(path).unwrap_or_else(|| {
                "the definition that each VM last started with is beside it, in \
                 vms/NAME/definition.toml"
                    .to_owned()
            })
        }
        _ => return None,
    })
}

/// Of a file that could not be made or written, if it is for its rights or its directory's.
fn unwritable_hint(file: &Path) -> Option<String> {
    match image::require_writable(file) {
        Err(image::Error::Directory { dir, source }) => Some(directory_hint(&dir, &source)),
        _ => match access(file, Access::READ_OK | Access::WRITE_OK) {
            Err(Errno::ACCESS) => Some(format!(
                "`chmod u+rw {}`, by whose it is, lets it be used",
                quoted(&file.to_string_lossy())
            )),
            _ => None,
        },
    }
}

/// Of something that found no room when it was begun already, in the words of strerror(3).
fn room_hint(error: &anyhow::Error) -> Option<String> {
    let words: Vec<String> = error.chain().map(ToString::to_string).collect();
    let says = |text: &str| words.iter().any(|it| it.contains(text));
    if says("Disk quota exceeded") {
        return Some(quota_hint());
    }
    says("No space left on device").then(space_hint)
}

fn space_hint() -> String {
    "make room there: `df -h` shows how full it is".to_owned()
}

/// What to do where a file has no room.
fn full_hint(file: &Path) -> String {
    match room(file) {
        Ok(Some(room)) if room.by_quota => quota_hint(),
        _ => format!(
            "the file system of {} is full: make room there",
            file.display()
        ),
    }
}

fn quota_hint() -> String {
    "your quota is used up: delete files of yours there, or have it raised; `quota -s` shows it"
        .to_owned()
}

fn directory_hint(dir: &Path, why: &io::Error) -> String {
    let shown = quoted(&dir.to_string_lossy());
    match why.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            format!(
                "it is mounted read-only: `mount -o remount,rw \"$(stat -c %m {shown})\"`, as root, ends that"
            )
        }
        // Without that, nothing in it can be named.
        _ if access(dir, Access::EXEC_OK).is_err() => {
            format!("`chmod u+rwx {shown}`, by whose it is, lets it be used")
        }
        _ => format!("`chmod u+w {shown}`, by whose it is, lets it be written"),
    }
}

/// Of a path that can name no file.
fn path_hint(path: &Path, why: &io::Error) -> Option<String> {
    match why.kind() {
        io::ErrorKind::NotADirectory => {
            // Without a slash at its end.
            let path: PathBuf = path.components().collect();
            let mut above = path.ancestors().skip_while(|it| !it.exists());
            let file = above.next().filter(|it| !it.is_dir())?;
            Some(format!("{} is not a directory", file.display()))
        }
        io::ErrorKind::InvalidFilename => Some(
            "most file systems take names of 255 bytes, and until it is finished, its name has up \
             to 40 more: give it a shorter one"
                .to_owned(),
        ),
        io::ErrorKind::NotFound if path.to_string_lossy().ends_with('/') => Some(format!(
            "`mkdir {}` makes that directory",
            quoted(&path.to_string_lossy())
        )),
        _ => None,
    }
}

fn migrate_hint(error: &migrate::Error) -> Option<String> {
    use migrate::Error;
    match error {
        Error::NoDatabase(_) => Some("`--from` says where its instances.db is".to_owned()),
        Error::Name(old, new) => Some(format!(
            "give it another name with `--rename {}={new}`",
            quoted(old)
        )),
        Error::StillRuns { .. } => Some("power it down in its guest first".to_owned()),
        Error::Unreadable { .. } => Some("`--from` says where its instances.db is".to_owned()),
        Error::NoSuchVm(_) => None,
    }
}

fn snapshot_hint(error: &snapshot::Error) -> Option<String> {
    use snapshot::Error;
    if let Error::Obstacles {
        doing, obstacles, ..
    } = error
        && let Some(hint) = obstacles.iter().find_map(|it| obstacle_hint(doing, it))
    {
        return Some(hint);
    }
    Some(match error {
        Error::NoSuch {
            nearest: Some(name),
            ..
        } => format!("did you mean `{name}`?"),
        Error::NoSuch { vm, .. } => format!("`maqet snapshot ls {vm}` lists those there are"),
        Error::Exists { vm, name } => {
            format!("`maqet snapshot rm {vm} {}` deletes it", quoted(name))
        }
        Error::DisksAlone { .. } => {
            "the same with `--reset` cuts its power, and has it boot there".to_owned()
        }
        Error::Misfit { vm, name, .. } => format!(
            "`maqet snapshot restore --disk-only {vm} {}` restores its disks alone, and so does \
             `maqet start --discard-saved {vm}`, once it is restored",
            quoted(name)
        ),
        Error::Moved { .. } => {
            "the same with `--reset` cuts its power, and has it go on there".to_owned()
        }
        Error::Within { vm, name } => {
            format!("`maqet snapshot rm {vm} {}` deletes it", quoted(name))
        }
        Error::Beside { vm, name, users } => {
            let mut of_others = users.iter().filter(|user| user.vm != *vm);
            let other = of_others.find_map(|user| Some((&user.vm, user.snapshot.as_ref()?)));
            if let Some((other, snapshot)) = other {
                return Some(format!(
                    "`maqet snapshot rm {other} {}` deletes that one first",
                    quoted(snapshot)
                ));
            }
            let newest = users.iter().rev().find_map(|user| user.snapshot.as_ref());
            format!(
                "`maqet snapshot merge {vm} {}` writes what was written since into its images, \
                 and ends it",
                quoted(newest.unwrap_or(name))
            )
        }
        Error::NoRoom { .. } => "make room there; `--disk-only` needs little of it".to_owned(),
        Error::NotMerged { vm, name } => format!(
            "the VM goes on as before; `maqet snapshot merge {vm} {}` goes on with that, and to \
             restore it is not possible any more",
            quoted(name)
        ),
        Error::Below { vm, users, .. } => {
            if let Some(other) = users.iter().find(|user| user.vm != *vm) {
                let disk::User { vm, disk, .. } = other;
                return Some(format!(
                    "`maqet disk rebase --flat {vm} {disk}` has that disk stand on nothing else"
                ));
            }
            let newest = users.iter().rev().find_map(|user| user.snapshot.as_ref());
            let newest = newest?;
            format!("`maqet snapshot merge {vm} {}` first", quoted(newest))
        }
        Error::NotWhole { .. } => "what is not there cannot be restored".to_owned(),
        Error::Obstacles { obstacles, .. }
            if (obstacles.iter()).any(|it| matches!(it, Obstacle::NotWithin(_))) =>
        {
            "`--external` makes one beside the images, of the disks alone".to_owned()
        }
        Error::Obstacles {
            doing: A_SNAPSHOT,
            obstacles,
            ..
        } if (obstacles.iter()).any(|it| matches!(it, Obstacle::NotSaved { .. })) => {
            "`--disk-only` makes one of the disks alone".to_owned()
        }
        Error::Obstacles {
            doing: "a snapshot of",
            obstacles,
            ..
        } if (obstacles.iter()).any(|it| matches!(it, Obstacle::Plugged { .. })) => {
            "`--disk-only` makes one of the disks alone; after its next start, the VM has what \
             its definition names from the beginning"
                .to_owned()
        }
        Error::Obstacles { obstacles, .. }
            if (obstacles.iter()).any(|it| matches!(it, Obstacle::Gone(_))) =>
        {
            "put it back to where it was".to_owned()
        }
        Error::Obstacles { vm, obstacles, .. } => {
            return obstacles.iter().find_map(|it| match it {
                Obstacle::Within { name, .. } => Some(format!(
                    "`maqet snapshot rm {vm} {}` deletes it",
                    quoted(name)
                )),
                Obstacle::Undefined {
                    device: Some(device),
                    ..
                } => Some(format!("`maqet device rm {vm} {device}` unplugs it")),
                _ => None,
            });
        }
        Error::Name { .. } => return None,
    })
}

/// Of one thing in the way, whatever else there is.
fn obstacle_hint(doing: &str, obstacle: &Obstacle) -> Option<String> {
    Some(match obstacle {
        Obstacle::Unplugged { .. } | Obstacle::Plugged { .. } if doing == GOING_BACK => {
            "the same with `--reset` cuts its power, and starts it there".to_owned()
        }
        Obstacle::Unplugged { vm, disk } if doing == A_SNAPSHOT => format!(
            "`maqet device add {vm} disk.{disk}` plugs it, for one of the disks alone; one with \
             memory can be made after the VM's next start"
        ),
        Obstacle::Unplugged { vm, disk } => plug_hint(vm, disk),
        Obstacle::Detached {
            vm,
            disk,
            interface,
            file,
            is_all,
        } => {
            let disk = disk.as_ref().map_or("NAME", DeviceName::as_str);
            let interface = match interface {
                Interface::Virtio => String::new(),
                other => format!(" interface={}", other.as_str()),
            };
            let others = match is_all {
                true => "",
                false => "; `--disk-only` restores the others",
            };
            format!(
                "`maqet disk attach {vm} {disk} {}{interface}` has it be one again{others}",
                quoted(&file.to_string_lossy())
            )
        }
        Obstacle::NoDisk { vm, disk } => {
            format!("`maqet disk attach {vm} {disk} FILE` has it be there again")
        }
        Obstacle::NotRightAbove { vm, disk } => {
            format!("`maqet disk merge {vm} {disk}` writes what is between into it first")
        }
        Obstacle::NotFrom { vm, .. } => format!(
            "`maqet clone {vm} NEW --snapshot NAME` makes a VM whose disks are as they were then"
        ),
        _ => return None,
    })
}

/// As a shell reads it.
fn quoted(text: &str) -> String {
    shlex::try_quote(text).map_or_else(|_| text.to_owned(), Into::into)
}

fn device_hint(error: &device::Error) -> Option<String> {
    use device::Error;
    Some(match error {
        Error::What(_) => "`maqet device add --help` has examples".to_owned(),
        Error::Defined { name, what } => {
            format!("`maqet device add {name} {what}` plugs it as it is defined")
        }
        Error::NoDevice {
            nearest: Some(nearest),
            ..
        } => format!("did you mean `{nearest}`?"),
        Error::Plugged { name, .. } | Error::NoDevice { name, .. } => {
            format!("`maqet device ls {name}` lists its devices")
        }
        Error::Sata { .. } => "use interface=virtio, scsi, nvme or usb".to_owned(),
        Error::NoPort { name, .. } => format!(
            "free one with `maqet device rm {name} …`, or give the definition another: \
             `[device.hotplug4]` with `driver = \"pcie-root-port\"` and a `chassis` of its own, \
             5 or more; USB devices and SCSI disks need no port each"
        ),
        Error::Properties { name, driver, .. } => format!(
            "`maqet qmp {name} device-list-properties typename={driver}` lists its properties"
        ),
        Error::Fixed {
            name,
            id,
            is_defined: true,
        } => format!(
            "`maqet device rm {name} {id} --persist` takes it out of the definition, for the next start"
        ),
        Error::GuestStopped { .. } => "the guest has to run for this".to_owned(),
        Error::Kept { .. } | Error::Refused { .. } => {
            "it is still plugged: the guest may be booting, use the device or lack a driver for \
             hot-plug; try again, with a longer `--timeout`"
                .to_owned()
        }
        Error::NotKept { what, done, .. } => format!(
            "`{what}` stays {done} until the VM stops; the same command tries the definition again"
        ),
        _ => return None,
    })
}

fn clone_hint(error: &clone::Why) -> String {
    use clone::Why;
    match error {
        Why::HasSnapshots { vm, .. } => {
            format!("`--full` copies the disks; `maqet snapshot ls {vm}` lists the snapshots")
        }
        Why::Within { .. } => "`--full` copies the disks as they were at it".to_owned(),
        Why::NoSnapshot { vm, .. } => format!("`maqet snapshot ls {vm}` lists those there are"),
        Why::Ended(_) => "nothing is left of that; do it again".to_owned(),
        Why::InTheWay(_) => "`maqet disk orphans` lists what belongs to no VM".to_owned(),
    }
}

fn disk_hint(error: &disk::Error) -> Option<String> {
    use disk::Error;
    Some(match error {
        Error::NoSuch {
            nearest: Some(nearest),
            ..
        } => format!("did you mean `{nearest}`?"),
        Error::NotDefined { vm, disk } => {
            format!("`maqet device rm {vm} disk.{disk}` unplugs it; so does the next start")
        }
        Error::NoSuch { vm, .. } | Error::Exists { vm, .. } => {
            format!("`maqet disk ls {vm}` lists its disks")
        }
        Error::NotPlugged { vm, disk } => plug_hint(vm, disk),
        Error::Broken { vm, disk, fault } => fault_hint(vm.as_str(), disk.as_str(), fault),
        Error::Unfit { fault, .. } => return unfit_hint(fault),
        Error::ReadOnly { vm, disk } => {
            format!("`maqet unset {vm} disk.{disk}.read-only` lets it be written")
        }
        Error::OtherFormat { is: Some(is), .. } if matches!(*is, "qcow2" | "raw") => {
            format!("`format={is}` says what it is")
        }
        Error::OtherFormat { is: Some(_), .. } => {
            "`maqet disk add … --from FILE` makes a disk of it".to_owned()
        }
        Error::OtherFormat { is: None, .. } => "`format=raw` has it taken as it is".to_owned(),
        Error::InUse { vm, .. } => format!(
            "`maqet stop {vm}` first; of an image that contradicts itself, QEMU tells by the event \
             BLOCK_IMAGE_CORRUPTED (`maqet events {vm}`)"
        ),
        Error::HasSnapshots { vm, runs: true, .. } => {
            format!("`maqet stop {vm}` first: while it does not run, they go along")
        }
        Error::HasSnapshots { vm, .. } => format!(
            "`maqet snapshot ls {vm}` lists them, `maqet snapshot rm {vm} NAME` deletes one"
        ),
        Error::Rigid { vm, .. } => format!("`maqet stop {vm}` first"),
        Error::Shrinks { .. } => "`--shrink` has that be lost".to_owned(),
        Error::Unaligned { to, cluster, .. } => format!(
            "{} would do",
            Size::from_bytes(to.next_multiple_of(*cluster))
        ),
        Error::Foreign { .. } => {
            "if you know where the image is from, `--trust-names` has them read".to_owned()
        }
        Error::Unpack { .. } => "unpack it first".to_owned(),
        Error::NotMade(file) => format!("if it is to go, `rm {}` deletes it", file.display()),
        Error::Stood { by, .. } => format!(
            "`maqet disk orphans --delete {}` deletes that; `maqet disk attach` makes it a disk \
             again",
            quoted(&by.first()?.to_string_lossy())
        ),
        Error::Lost { vms, .. } if vms.is_empty() => format!(
            "put back {}, or another copy of it",
            Host::from_env().ok()?.paths.database().display()
        ),
        Error::Lost { .. } => "put back the database that had them; or `maqet doctor --rebuild` \
             has them known again, as they last started"
            .to_owned(),
        Error::Needed { users, .. } if users.iter().all(|user| user.snapshot.is_some()) => {
            "what a snapshot stands on is never written: `maqet snapshot merge` ends one".to_owned()
        }
        Error::Needed { users, .. } => match users.iter().all(|user| user.as_base) {
            true => {
                let disk::User { vm, disk, .. } = users.first()?;
                format!(
                    "what a disk stands on is never written, and stays where it is: make another \
                     one on top of it, or put those onto another base with `maqet disk rebase`, \
                     such as `maqet disk rebase --flat {vm} {disk}`"
                )
            }
            false => {
                "others can have a disk, or stand on it, only if all have it `read-only`".to_owned()
            }
        },
        _ => return None,
    })
}

/// Of a disk that is defined, and that the running VM does not have.
fn plug_hint(vm: &VmName, disk: &DeviceName) -> String {
    format!(
        "`maqet stop {vm}` first; or `maqet device add {vm} disk.{disk}`, which plugs it where its \
         bus takes it"
    )
}

fn fault_hint(vm: &str, disk: &str, fault: &Fault) -> String {
    match fault {
        Fault::Missing { backing, .. } => format!(
            "put it back to {}; or, if it is elsewhere, `maqet disk rebase {vm} {disk} --moved \
             FILE` says where",
            backing.display()
        ),
        Fault::Circle { .. } | Fault::NoFile { .. } => {
            format!("`maqet disk rebase {vm} {disk} --moved FILE` names what it should stand on")
        }
        Fault::Damaged { image } | Fault::Unsound { image, .. } => format!(
            "`qemu-img check -r all {}` mends what can be mended",
            quoted(&image.to_string_lossy())
        ),
        Fault::Unreadable { image, source } => {
            let image = quoted(&image.to_string_lossy());
            match source.kind() {
                io::ErrorKind::NotFound => format!(
                    "put it back; or, if it is elsewhere, `maqet set {vm} disk.{disk}.file=FILE` \
                     says where"
                ),
                io::ErrorKind::PermissionDenied => {
                    format!("`chmod u+rw {image}`, by whose it is, lets it be used")
                }
                _ => {
                    format!("put back what was there: `qemu-img info {image}` shows what it is now")
                }
            }
        }
    }
}

/// Of a file that no VM has.
fn unfit_hint(fault: &Fault) -> Option<String> {
    match fault {
        Fault::Missing { image, backing } => Some(format!(
            "put it back to {}; or, if it is elsewhere, {}",
            backing.display(),
            stands_on_hint(image)
        )),
        Fault::Circle { image, .. } | Fault::NoFile { image, .. } => Some(stands_on_hint(image)),
        Fault::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => None,
        fault => Some(fault_hint("VM", "DISK", fault)),
    }
}

fn stands_on_hint(image: &Path) -> String {
    format!(
        "`qemu-img rebase -u -b FILE -F FORMAT {}` says what it stands on",
        quoted(&image.to_string_lossy())
    )
}

/// The version that first has the property that systemd's words are about.
fn newer_systemd(error: &dyn std::error::Error) -> Option<String> {
    error
        .to_string()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .find_map(|word| Some((word, systemd::property::since(word)?)))
        .map(|(property, version)| format!("{property} needs systemd {version}"))
}

/// The exit status for an error; under EXIT STATUS in maqet(1).
pub(super) fn exit_code(error: &anyhow::Error) -> u8 {
    match interrupt::came().map(i32::from) {
        Some(SIGINT) => return BY_SIGINT,
        Some(_) => return BY_SIGTERM,
        None => {}
    }
    let ops = error.downcast_ref::<Error>();
    if ops.is_some_and(is_typed) {
        return USAGE;
    }
    match ops {
        Some(Error::NotRunning(_) | Error::Stopped(_) | Error::NothingToChange(_)) => NOT_RUNNING,
        Some(
            Error::NoSuchVm { .. }
            | Error::NoMatch(_)
            | Error::NoGroup(_)
            | Error::NoLabel(_)
            | Error::Migrate(migrate::Error::NoSuchVm(_)),
        ) => NO_SUCH_VM,
        Some(
            Error::Qmp(qmp::Error::Refused { .. }) | Error::NoCommand { .. } | Error::Hmp { .. },
        ) => REFUSED,
        Some(Error::JobFailed { .. } | Error::JobCanceled(_)) => REFUSED,
        // What was merged of options before there was an operation.
        None if is_usage(error) => USAGE,
        Some(Error::NotInTime { .. }) => NOT_IN_TIME,
        Some(Error::Ended { .. }) => ENDED,
        Some(
            Error::Qmp(qmp::Error::Busy { .. } | qmp::Error::Timeout { .. }) | Error::Silent { .. },
        ) => MONITOR_BUSY,
        _ => FAILED,
    }
}

/// Whether it is about words of the command line alone.
fn is_typed(error: &Error) -> bool {
    match error {
        Error::Words(_) | Error::Command(_) | Error::Keys(_) | Error::NoLayout(_) => true,
        Error::Template(_) | Error::NoKey { .. } => true,
        Error::Property(_) | Error::TooLittleMemory(_) => true,
        Error::Device(error) => matches!(
            error,
            device::Error::What(_)
                | device::Error::Settings { .. }
                | device::Error::Properties { .. }
        ),
        Error::Disk(error) => matches!(error, disk::Error::Settings { .. }),
        Error::Snapshot(error) => matches!(error, snapshot::Error::Name { .. }),
        Error::Config(error) => error.is_usage(),
        Error::Mistakes(errors) => errors.iter().all(is_typed),
        _ => false,
    }
}

fn is_usage(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<config::Error>();
    error.is_some_and(config::Error::is_usage)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
