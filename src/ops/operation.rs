//! Operations of more than one step on a VM: recorded before they begin, and finished or
//! undone by the next command if their process dies.
//!
//! Such an operation
//! 1. takes the VM ([`Work::take`]): one at a time, whether the VM runs or not, and what
//!    an earlier one has left is settled then;
//! 2. gets at its disks ([`Work::reach`]), and finds all that could keep it from being
//!    done, changing nothing;
//! 3. is performed ([`Work::perform`]): a [`Plan`] is recorded, the steps are done, and the
//!    record is taken away by the last of them, at best in the same transaction that keeps
//!    what came of it.
//!
//! Whatever ends it before, an error or a `kill -9`, [`Plan::settle`] has the last word:
//! it looks at what is there, in the images or in QEMU, and brings it to what was before
//! or to what was to be. It may be killed itself, and is done again then; so each of its
//! steps is one that can be done twice. Files that an operation makes have names by its
//! number until they are whole, and so have jobs ([`Id`]), so that what was left by one
//! is not taken for another's.
//!
//! A kind of operation is a variant of [`Plan`] with what it must know, and that alone:
//! paths, tags, texts of definitions; nothing that can be asked.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::lock::{self, VmLock};
use crate::vm::VmName;

use super::reach::{Reach, reach};
use super::{Error, Host, clone, disk, save, snapshot};

/// How long another operation is waited for.
const LIMIT: Duration = Duration::from_secs(30);

/// Between looks at a start that nothing tells of.
const PAUSE: Duration = Duration::from_millis(10);

/// What an operation is to do, as it is recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "plan", rename_all = "kebab-case")]
pub(super) enum Plan {
    /// Of a snapshot.
    Snapshot(snapshot::Plan),
    /// Of a snapshot that is beside its images.
    Beside(snapshot::beside::Plan),
    /// Of a disk.
    Disk(disk::Plan),
    /// Another VM like it.
    Clone(clone::Plan),
}

impl Plan {
    /// The text by which it is recorded.
    fn text(&self) -> String {
        serde_json::to_string(self).expect("a plan is texts and numbers")
    }

    /// Finishes or undoes what an operation has left; says which, for its user.
    ///
    /// The caller has the VM to itself. When this returns, nothing is left to do.
    fn settle(&self, left: &Left<'_>, reach: &mut Reach) -> Result<String, Error> {
        match self {
            Self::Snapshot(plan) => plan.settle(left, reach),
            Self::Beside(plan) => plan.settle(left, reach),
            Self::Disk(plan) => plan.settle(left, reach),
            Self::Clone(plan) => plan.settle(left, reach),
        }
    }
}

/// An operation that has not come to its end.
pub(super) struct Left<'a> {
    pub host: &'a Host,
    pub name: &'a VmName,
    pub id: Id,
}

/// The number of an operation; no other ever has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(pub i64);

impl Id {
    /// The id of the job that QEMU does for it.
    pub fn job(self) -> String {
        format!("maqet-{}", self.0)
    }
}

/// The right to do something to a VM that takes several steps.
///
/// The programs that are run meanwhile have it as well: a `qemu-img` that goes on after
/// its maqet was killed keeps the next command waiting until it is done.
pub(crate) struct Work<'a> {
    host: &'a Host,
    name: &'a VmName,
    _lock: VmLock,
}

impl<'a> Work<'a> {
    /// Takes it, or waits half a minute for whoever has it, and settles what was left.
    ///
    /// # Errors
    /// [`Error::NoSuchVm`], [`Error::AtWork`], and what keeps something from being settled.
    pub(super) fn take(host: &'a Host, name: &'a VmName) -> Result<Self, Error> {
        let work = Self::take_within(host, name, LIMIT)?;
        if let Some(words) = save::settle::settle(host, name)? {
            (host.tell)(&words);
        }
        work.settle(host.tell)?;
        Ok(work)
    }

    /// The same, waiting `limit` and settling nothing, for a caller that does so when it
    /// has the VM's lock. Whoever wants both takes this first.
    pub fn take_within(host: &'a Host, name: &'a VmName, limit: Duration) -> Result<Self, Error> {
        // A name that is mistyped gets no directory.
        host.vm(name)?;
        let path = host.paths.vm(name).operation_lock();
        let lock = VmLock::take(&path, limit).map_err(|error| match error {
            lock::Error::Held { pid, .. } => Error::AtWork {
                name: name.clone(),
                pid,
            },
            error => error.into(),
        })?;
        if let Err(gone) = host.vm(name) {
            // It was removed or renamed while its lock was waited for, which was made anew.
            let _ = fs::remove_file(&path);
            let _ = fs::remove_dir(host.paths.vm(name).path());
            return Err(gone);
        }
        lock.pass_on().map_err(Error::io("cannot keep a lock"))?;
        Ok(Self {
            host,
            name,
            _lock: lock,
        })
    }

    /// How the VM's disks are reached; see [`reach`]. A start that goes on in a snapshot is
    /// waited for as well.
    pub(super) fn reach(&self) -> Result<Reach, Error> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let reach = reach(self.host, self.name)?;
            let position = match reach {
                Reach::Running(_) => self.host.store()?.position(self.name)?,
                Reach::Stopped(_) => None,
            };
            if !position.is_some_and(|position| position.resumes) || Instant::now() > deadline {
                return Ok(reach);
            }
            // Its monitor is another's, and so is its lock, if it fails.
            drop(reach);
            thread::sleep(PAUSE);
        }
    }

    /// Records that an operation is about to do what cannot be undone as the plan says that it
    /// was recorded with.
    pub(super) fn go_further(&self, id: Id, plan: &Plan) -> Result<(), Error> {
        Ok(self.host.store()?.change_operation(id.0, &plan.text())?)
    }

    /// Performs an operation: all of it, or nothing.
    ///
    /// The last of `steps` ends it in the database. If one of them fails, what was done is
    /// settled, and the first error is returned.
    pub(super) fn perform<T>(
        &self,
        plan: &Plan,
        mut reach: Reach,
        steps: impl FnOnce(Id, &mut Reach) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.perform_beside(plan, |id| {
            let done = steps(id, &mut reach);
            // QEMU may be gone, and its connection with it.
            drop(reach);
            done
        })
    }

    /// The same, for steps that need neither the VM's lock nor its monitor all the time.
    pub(super) fn perform_beside<T>(
        &self,
        plan: &Plan,
        steps: impl FnOnce(Id) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let id = Id(self
            .host
            .store()?
            .begin_operation(self.name, &plan.text())?);
        let done = steps(id);
        if done.is_err()
            // Its user hears why it failed, and need not hear what becomes of it.
            && let Err(error) = self.settle(|_| ())
        {
            (self.host.tell)(&format!(
                "what was begun is left for the next command on VM `{}`: {}",
                self.name,
                super::error::with_causes(&error)
            ));
        }
        done
    }

    /// Settles what operations have left, if there are any.
    fn settle(&self, tell: fn(&str)) -> Result<(), Error> {
        if self.host.store()?.operations(self.name)?.is_empty() {
            return Ok(());
        }
        self.settle_by(&mut self.reach()?, tell)
    }

    /// The same for the launcher, which has the VM's lock and is to have it on.
    pub fn settle_stopped(&self, lock: VmLock) -> Result<VmLock, Error> {
        let mut reach = Reach::Stopped(lock);
        self.settle_by(&mut reach, self.host.tell)?;
        match reach {
            Reach::Stopped(lock) => Ok(lock),
            Reach::Running(_) => unreachable!("it was stopped"),
        }
    }

    /// The same for a caller that has the disks.
    fn settle_by(&self, reach: &mut Reach, tell: fn(&str)) -> Result<(), Error> {
        let (host, name) = (self.host, self.name);
        for operation in host.store()?.operations(name)? {
            let plan: Plan = serde_json::from_str(&operation.plan).map_err(|source| {
                let what = format!("cannot read what was begun with VM `{name}`");
                Error::Io(what, source.into())
            })?;
            let id = Id(operation.id);
            let words = plan.settle(&Left { host, name, id }, reach)?;
            host.store()?.end_operation(operation.id)?;
            tell(&words);
        }
        Ok(())
    }
}

/// Settles what operations on a VM have left whose process has died.
///
/// For whoever is going to do something that takes one step only. One that is at work is
/// waited for.
///
/// # Errors
/// Those of [`Work::take`].
pub(super) fn settle(host: &Host, name: &VmName) -> Result<(), Error> {
    let store = host.existing_store()?;
    let left = store.map(|store| store.operations(name)).transpose()?;
    let is_left = left.is_some_and(|left| !left.is_empty());
    match is_left || save::settle::is_left(&host.paths.sockets(name)) {
        true => Work::take(host, name).map(drop),
        false => Ok(()),
    }
}

/// What was begun for which a VM's guest is halted, in words.
pub(super) fn halted_for(host: &Host, name: &VmName) -> Option<&'static str> {
    let left = host.existing_store().ok()??.operations(name).ok()?;
    left.iter()
        .find_map(|it| match serde_json::from_str(&it.plan).ok()? {
            Plan::Snapshot(plan) => plan.halts(),
            _ => None,
        })
}

/// Waits for whoever is at work on a VM, for what will not be done beside that.
///
/// # Errors
/// [`Error::AtWork`] after half a minute, and those of [`Work::take`].
pub(super) fn wait(host: &Host, name: &VmName) -> Result<(), Error> {
    match host.paths.vm(name).operation_lock().exists() {
        // Where nobody ever was at work, nobody is.
        true => Work::take(host, name).map(drop),
        false => Ok(()),
    }
}
