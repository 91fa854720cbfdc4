use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::DeviceName;
use crate::qmp::RunState;
use crate::vm::{GroupName, VmName};
use crate::{config, image, keyboard, lock, paths, qemu, qmp, store, systemd};

use super::obstacle::{self, Obstacle};

/// Why an operation did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No definition has that name.
    #[error("no VM is named `{name}`")]
    NoSuchVm {
        /// The name.
        name: VmName,
        /// The nearest name there is.
        nearest: Option<VmName>,
    },
    /// No definition's name matches.
    #[error("no VM's name matches `{0}`")]
    NoMatch(String),
    /// No definition names that group.
    #[error("no VM is in a group `{0}`")]
    NoGroup(GroupName),
    /// No definition has those labels; named by what was looked for.
    #[error("no VM has the label: `{0}`")]
    NoLabel(String),
    /// A definition has that name already.
    #[error("there is a VM `{0}` already")]
    AlreadyExists(VmName),
    /// The VM does not run.
    #[error("VM `{0}` is not running")]
    NotRunning(VmName),
    /// The VM does not run, and so cannot be stopped.
    #[error("VM `{0}` is not running")]
    Stopped(VmName),
    /// What is to be changed at once does not run.
    #[error("VM `{0}` is not running: there is nothing to change at once")]
    NothingToChange(VmName),
    /// A limit would have the guest killed; says by what arithmetic.
    #[error("{0}")]
    TooLittleMemory(String),
    /// The definition protects the VM.
    #[error("VM `{0}` is protected, and was not removed")]
    Protected(VmName),
    /// The VM runs, and must not for this.
    #[error("VM `{0}` is running")]
    Running(VmName),
    /// The VM runs, but what its guest is doing rules this out.
    #[error("VM `{name}` is {state}: {why}")]
    WrongState {
        /// The VM.
        name: VmName,
        /// What its guest is doing.
        state: RunState,
        /// Why that rules it out.
        why: &'static str,
    },
    /// Words that are no keys, or text that no keys give.
    #[error(transparent)]
    Keys(#[from] keyboard::Error),
    /// A keyboard layout that this host knows nothing of.
    #[error(transparent)]
    NoLayout(#[from] keyboard::NoLayout),
    /// The guest stopped reading its keyboard.
    #[error("the guest of VM `{name}` does not read its keyboard: it took {taken} of {all} keys")]
    KeysNotTaken {
        /// The VM.
        name: VmName,
        /// How many keys, or chords, it has taken for certain.
        taken: usize,
        /// How many there were.
        all: usize,
    },
    /// The VM has no video device.
    #[error("VM `{0}` has no screen")]
    NoScreen(VmName),
    /// What QEMU wrote is no whole picture.
    #[error("QEMU did not write a whole picture of the screen of VM `{0}`")]
    BrokenPicture(VmName),
    /// A file is in the way.
    #[error("`{}` is there already", .0.display())]
    FileExists(PathBuf),
    /// A file is in the way of one that is to be made, and is not replaced.
    #[error("`{}` is there already", .0.display())]
    InTheWay(PathBuf),
    /// A definition has no text.
    #[error("{} is empty: there is no definition in it", .0.display())]
    Empty(PathBuf),
    /// A text that is taken as it is extends others.
    #[error("{} has a definition that extends others", .0.display())]
    Extends(PathBuf),
    /// A disk that had been made is not there any more.
    #[error("disk `{disk}` of VM `{vm}`: {} does not exist", .path.display())]
    DiskGone {
        /// The VM.
        vm: VmName,
        /// Its disk.
        disk: String,
        /// The file.
        path: PathBuf,
    },
    /// QEMU ended at a reset, as it was told to with `-no-reboot`.
    #[error("VM `{0}` ended instead of being reset: its QEMU was told to (`-no-reboot`)")]
    EndedByReset(VmName),
    /// The VM cannot be saved as it is.
    #[error("VM `{name}` cannot be saved: {}", obstacle::text(.obstacles))]
    NotSavable {
        /// The VM.
        name: VmName,
        /// What is in the way.
        obstacles: Vec<Obstacle>,
    },
    /// Saving was begun and did not come to its end; the guest runs on.
    #[error("VM `{name}` was not saved, it goes on as before: {reason}")]
    SaveFailed {
        /// The VM.
        name: VmName,
        /// QEMU's reason, or the caller's.
        reason: String,
    },
    /// The same for want of room.
    #[error(
        "VM `{name}` was not saved, it goes on as before: {}{} has no room left for its memory: \
         {reason}",
        if *.by_quota { "your quota in " } else { "" }, .dir.display()
    )]
    NoRoomToSave {
        /// The VM.
        name: VmName,
        /// Where its state was to be.
        dir: PathBuf,
        /// Whether it is the user's quota that leaves none.
        by_quota: bool,
        /// What QEMU says of it.
        reason: String,
    },
    /// A saved state does not fit the disks any more.
    #[error(
        "the saved state of VM `{name}` cannot be used: {} changed since",
        .disks.iter().map(|disk| disk.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    DisksChanged {
        /// The VM.
        name: VmName,
        /// The disks that changed, or are gone.
        disks: Vec<PathBuf>,
    },
    /// The VM has a saved state, which must not be lost by the way.
    #[error("VM `{0}` has a saved state")]
    HasSavedState(VmName),
    /// The VM runs, and its guest is not up.
    #[error("VM `{name}` runs, but is not ready: {reason}")]
    NotReady {
        /// The VM.
        name: VmName,
        /// What was waited for in vain.
        reason: String,
        /// The last lines of its console.
        console: Vec<String>,
    },
    /// The VM's unit ended before it was up.
    #[error("VM `{name}` stopped while starting")]
    Died {
        /// The VM.
        name: VmName,
        /// What QEMU, or maqet's launcher, said.
        words: Vec<String>,
        /// Who has what QEMU could not have, if that was it.
        explained: Option<String>,
        /// systemd's word for how it ended.
        result: String,
    },
    /// A port of the host that it listens on is someone else's.
    #[error("VM `{name}` did not start: {port} of the host is taken, {by}")]
    PortTaken {
        /// The VM.
        name: VmName,
        /// Which port.
        port: config::HostPort,
        /// The key that says so.
        key: String,
        /// Who has it.
        by: super::By,
    },
    /// A port of the host that it listens on cannot be had.
    #[error("VM `{name}` did not start: cannot listen on {port} of the host")]
    NoHostPort {
        /// The VM.
        name: VmName,
        /// Which port.
        port: config::HostPort,
        /// The key that says so.
        key: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It requires a VM that is not up.
    #[error("VM `{name}` did not start: it requires `{on}`, which did not start")]
    Dependency {
        /// The VM.
        name: VmName,
        /// The one it requires.
        on: VmName,
    },
    /// Each of these is to start after the next; the last is the first again.
    #[error("VMs start after one another in a circle: {}", .0.iter().map(VmName::as_str).collect::<Vec<_>>().join(" -> "))]
    Circle(Vec<VmName>),
    /// A VM that requires it is still up.
    #[error("VM `{name}` was not stopped: `{by}`, which requires it, is still up")]
    Needed {
        /// The VM.
        name: VmName,
        /// The one that requires it.
        by: VmName,
    },
    /// A kept definition is another VM's.
    #[error("it is of a VM `{name}`, and is in the directory of `{dir}`")]
    OtherName {
        /// Whose it is.
        name: VmName,
        /// Whose directory it is in.
        dir: VmName,
    },
    /// A file that the definition names is not there.
    #[error("{what}: {} cannot be read", .path.display())]
    Missing {
        /// What the definition calls it: ``disk `root` ``, `kernel`.
        what: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host lacks what the definition names, or the user may not use it.
    #[error("`{what}`: {why}")]
    Host {
        /// The table of the definition.
        what: String,
        /// What is missing, and how to get it.
        why: String,
    },
    /// What is there cannot be a disk.
    #[error("disk `{disk}`: {}: {why}", .path.display())]
    NotADisk {
        /// The disk's name in the definition.
        disk: String,
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A disk is not there, and has no size by which to make one.
    #[error("disk `{disk}`: {} does not exist", .path.display())]
    NoDisk {
        /// The disk's name in the definition.
        disk: String,
        /// The file.
        path: PathBuf,
    },
    /// The guest was asked, and is still up.
    #[error("VM `{name}` is still running: the guest did not power down within {seconds} s")]
    StillUp {
        /// The VM.
        name: VmName,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The VM runs, but its QEMU does not answer.
    #[error("VM `{name}` is still running: its QEMU did not answer within {seconds} s")]
    Silent {
        /// The VM.
        name: VmName,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The VM runs, but its sockets are gone.
    #[error("VM `{name}` is running, but its monitor cannot be reached: {} is gone", .socket.display())]
    MonitorGone {
        /// The VM.
        name: VmName,
        /// The socket.
        socket: PathBuf,
    },
    /// Nothing in the guest has the guest agent's channel open, or there is none.
    #[error("no guest agent runs in VM `{name}`{}", if *.channel { "" } else { ", and it has no channel for one" })]
    NoAgent {
        /// The VM.
        name: VmName,
        /// Whether the VM has a channel for it.
        channel: bool,
    },
    /// Times were asked for where there are only files.
    #[error("you cannot read the journal, and the files that stand in for it have no times")]
    NoTimes,
    /// The VM has no further port of that name.
    #[error("VM `{vm}` has no port `{port}`")]
    NoSuchPort {
        /// The VM.
        vm: VmName,
        /// The port.
        port: DeviceName,
        /// Those that it has.
        known: Vec<DeviceName>,
    },
    /// Nothing is kept of what a guest writes to a port.
    #[error("port `{port}` of VM `{vm}` has no log")]
    NoPortLog {
        /// The VM.
        vm: VmName,
        /// The port.
        port: DeviceName,
    },
    /// The journal or the console log does not go back that far.
    #[error("VM `{name}` has no run {back}: it has {known} so far")]
    NoRun {
        /// The VM.
        name: VmName,
        /// The run that was asked for: 0 the last, -1 the one before.
        back: i32,
        /// How many runs there are traces of.
        known: usize,
    },
    /// Lingering could not be enabled.
    #[error("cannot enable lingering")]
    Linger(#[source] systemd::Error),
    /// Nothing that was waited for came before the time was over.
    #[error("{awaited} did not come within {} s", .limit.as_secs())]
    NotInTime {
        /// What was waited for.
        awaited: String,
        /// How long.
        limit: Duration,
    },
    /// The VM has ended, and with it what was waited for.
    #[error("VM `{name}` has ended, and {awaited} cannot come any more")]
    Ended {
        /// The VM.
        name: VmName,
        /// What was waited for.
        awaited: String,
        /// How it ended.
        how: String,
    },
    /// QEMU has no such job, and had none in this run.
    #[error("VM `{name}` has no job `{id}`")]
    NoSuchJob {
        /// The VM.
        name: VmName,
        /// The id.
        id: String,
        /// The nearest id there is.
        nearest: Option<String>,
    },
    /// A job failed.
    #[error("job `{id}` failed: {why}")]
    JobFailed {
        /// Its id.
        id: String,
        /// QEMU's words.
        why: String,
    },
    /// A job that was waited for was canceled.
    #[error("job `{0}` was canceled")]
    JobCanceled(String),
    /// The name in a definition is another VM's.
    #[error("the definition of VM `{name}` names `{other}`, and a name is not changed so")]
    Renamed {
        /// The VM.
        name: VmName,
        /// The name in the definition.
        other: VmName,
    },
    /// A VM was to be without a name.
    #[error("VM `{0}` cannot be without a name")]
    Nameless(VmName),
    /// Someone else changed the definition while it was edited.
    #[error("the definition of VM `{0}` was changed by someone else meanwhile")]
    ChangedMeanwhile(VmName),
    /// Several sources have mistakes.
    #[error("{}", .0.iter().map(|error| with_causes(error)).collect::<Vec<_>>().join("\n"))]
    Mistakes(Vec<Error>),
    /// Definitions were changed by others again and again.
    #[error("the definitions are being changed by someone else all the time")]
    Contended,
    /// Another process changes the VM, and does not come to an end.
    #[error("VM `{0}` is being changed by another process")]
    BeingChanged(VmName),
    /// Another process does something to the VM that takes several steps.
    #[error("another command is at work on VM `{name}`{}", .pid.map(|pid| format!(": process {pid}")).unwrap_or_default())]
    AtWork {
        /// The VM.
        name: VmName,
        /// Which process, where the kernel tells.
        pid: Option<u32>,
    },
    /// A snapshot was not made, restored or deleted.
    #[error(transparent)]
    Snapshot(#[from] super::snapshot::Error),
    /// What was being done was called off, and is undone.
    #[error("interrupted: nothing has changed")]
    Interrupted,
    /// Keys that a definition does not have.
    #[error("the definition of VM `{name}` has no `{}`", .keys.join("`, no `"))]
    NoKey {
        /// The VM.
        name: VmName,
        /// The keys.
        keys: Vec<String>,
        /// Those that were probably meant.
        nearest: Vec<String>,
    },
    /// Files could not be read or written.
    #[error("{0}")]
    Io(String, #[source] io::Error),
    /// There is no such template.
    #[error("{0}")]
    Template(String),
    /// The definition has a mistake.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// A disk image could not be made.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// QEMU itself is not there.
    #[error(transparent)]
    Qemu(#[from] qemu::binary::Error),
    /// Texts have a VM twice.
    #[error("there are two definitions of VM `{0}`")]
    Twice(VmName),
    /// A text lacks a VM.
    #[error("there is no VM `{0}` in what is to be imported")]
    NotInText(VmName),
    /// A definition is of another VM than the line that it begins with.
    #[error("the definition that begins with `#-- VM {mark}` is of a VM `{name}`")]
    OtherMark {
        /// The VM of the line.
        mark: VmName,
        /// The VM of the definition.
        name: VmName,
    },
    /// A text's UUID is none.
    #[error("`{uuid}` is not a UUID: VM `{name}` cannot have it")]
    NoUuid {
        /// The VM.
        name: VmName,
        /// What should be its UUID.
        uuid: String,
    },
    /// A definition cannot be told from others in one text.
    #[error(
        "VM `{0}` cannot be exported: within a text of its definition, a line begins with `#-- VM`"
    )]
    NotExported(VmName),
    /// The VM can have no vsock device.
    #[error(transparent)]
    Vsock(#[from] qemu::vhost::Error),
    /// Another process works on the VM.
    #[error(transparent)]
    Lock(#[from] lock::Error),
    /// The environment.
    #[error(transparent)]
    Paths(#[from] paths::Error),
    /// The monitor.
    #[error(transparent)]
    Qmp(#[from] qmp::Error),
    /// QEMU has no such command.
    #[error("{refusal}")]
    NoCommand {
        /// How QEMU says so.
        #[source]
        refusal: qmp::Error,
        /// The nearest commands that it has.
        nearest: Vec<String>,
    },
    /// This is no QMP command.
    #[error("{0}")]
    Command(String),
    /// QEMU's human monitor complained.
    #[error("QEMU refused `{line}`: {words}")]
    Hmp {
        /// The command.
        line: String,
        /// What it printed.
        words: String,
    },
    /// Words that are no arguments of a QMP command.
    #[error(transparent)]
    Words(#[from] qmp::schema::Error),
    /// A device that did not come or go.
    #[error(transparent)]
    Device(#[from] super::device::Error),
    /// A VM was not cloned.
    #[error(transparent)]
    Clone(#[from] super::clone::Why),
    /// Something that was not done with a disk.
    #[error(transparent)]
    Disk(#[from] super::disk::Error),
    /// A VM of Python maqet is not taken over.
    #[error(transparent)]
    Migrate(#[from] super::migrate::Error),
    /// The database.
    #[error(transparent)]
    Store(store::Error),
    /// A property that a unit cannot have.
    #[error(transparent)]
    Property(#[from] systemd::property::Error),
    /// The service manager.
    #[error(transparent)]
    Systemd(#[from] systemd::Error),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Exists(name) => Self::AlreadyExists(name),
            other => Self::Store(other),
        }
    }
}

impl Error {
    /// All that is wrong together, if anything is.
    pub(super) fn all(mut wrong: Vec<Self>) -> Result<(), Self> {
        match wrong.len() {
            0 => Ok(()),
            1 => Err(wrong.remove(0)),
            _ => Err(Self::Mistakes(wrong)),
        }
    }

    /// Says of mistakes in a definition which words have put them there; see
    /// [`config::Error::typed`].
    pub(super) fn typed(self, text: &str, words: &[(String, String)]) -> Self {
        match self {
            Self::Config(error) => error.typed(text, words).into(),
            other => other,
        }
    }

    /// Names what was being done with a file.
    pub(super) fn io(doing: impl std::fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io(doing.to_string(), source)
    }
}

/// An error and its causes on one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some libraries repeat their cause in their own words.
        let words = error.to_string();
        if !text.ends_with(&words) {
            text.push_str(&format!(": {words}"));
        }
        cause = error.source();
    }
    text
}
