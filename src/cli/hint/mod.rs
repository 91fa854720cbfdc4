//! What a user can do about an error.

mod disk;
mod file;
mod snapshot;

use crate::config::{is_device_node, without_index};
use crate::image::{self, is_used_up};
use crate::ops::{By, Error, Host, clone, device, migrate};
use crate::qemu::vhost;
use crate::qmp::RunState;
use crate::{keyboard, qmp, store, systemd};

/// What to do about an error, if there is something.
pub(super) fn hint(error: &anyhow::Error) -> Option<String> {
    let of_operation = error.downcast_ref::<Error>().and_then(of_operation);
    of_operation.or_else(|| file::no_room(error))
}

/// What to do about the error of an operation.
fn of_operation(error: &Error) -> Option<String> {
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
            format!(
                "its definition says `protect = true`; `maqet set {name} protect=false` ends that"
            )
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
        Error::Snapshot(error) => return snapshot::hint(error),
        Error::FileExists(file) if file.is_file() => "`--force` replaces it".to_owned(),
        Error::Silent { name, .. } | Error::StillUp { name, .. } => format!(
            "wait longer with `--timeout`, or cut its power with `maqet stop --force {name}`"
        ),
        Error::MonitorGone { name, .. } => {
            format!("its disks are safe; `maqet stop --force {name}` ends it")
        }
        Error::Nameless(name) => format!("`maqet rename {name} NEW` gives it another"),
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
        Error::Device(error) => return of_device(error),
        Error::Clone(error) => return Some(of_clone(error)),
        Error::Disk(error) => return disk::hint(error),
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
        Error::Image(image::Error::Chain(fault)) => disk::of_fault("VM", "DISK", fault),
        Error::Image(image::Error::Directory { dir, source }) => file::of_directory(dir, source),
        Error::Image(image::Error::File { path, source, .. }) => {
            return file::of_path(path, source).or_else(|| file::unwritable(path));
        }
        Error::Image(image::Error::Failed { path, .. }) => return file::unwritable(path),
        Error::Lock(error) => return file::unwritable(error.path()),
        Error::Image(image::Error::NoSpace { dir, .. }) => file::full(dir),
        Error::NoRoomToSave { by_quota: true, .. } => file::by_quota(),
        Error::NoRoomToSave { .. } => file::no_space(),
        Error::Store(store::Error::Full) => {
            let database = Host::from_env().ok()?.paths.database();
            return match is_used_up(&database) {
                true => Some(file::full(&database)),
                false => file::unwritable(&database),
            };
        }
        Error::Migrate(error) => return of_migrate(error),
        Error::NoCommand { nearest, .. } => match nearest.as_slice() {
            [] => "`maqet qmp NAME --list` lists the commands".to_owned(),
            nearest => format!("did you mean `{}`?", nearest.join("` or `")),
        },
        Error::Store(store::Error::TooNew { .. }) => "use the newer maqet".to_owned(),
        Error::Store(error) if error.is_damage() => {
            "`maqet doctor --rebuild` makes it again, from what VMs last started with".to_owned()
        }
        Error::Store(store::Error::Open { path, .. }) if is_used_up(path) => file::full(path),
        Error::Store(store::Error::Open { path, .. }) => {
            file::unwritable(path).unwrap_or_else(|| {
                "the definition that each VM last started with is beside it, in \
                 vms/NAME/definition.toml"
                    .to_owned()
            })
        }
        _ => return None,
    })
}

fn of_migrate(error: &migrate::Error) -> Option<String> {
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

fn of_device(error: &device::Error) -> Option<String> {
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

fn of_clone(error: &clone::Why) -> String {
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

/// As a shell reads it.
fn quoted(text: &str) -> String {
    shlex::try_quote(text).map_or_else(|_| text.to_owned(), Into::into)
}

/// The version that first has the property that systemd's words are about.
fn newer_systemd(error: &dyn std::error::Error) -> Option<String> {
    error
        .to_string()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .find_map(|word| Some((word, systemd::property::since(word)?)))
        .map(|(property, version)| format!("{property} needs systemd {version}"))
}
