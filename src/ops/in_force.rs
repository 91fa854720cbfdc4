//! The definition that a running VM goes by: as it was started, and as it was changed since.
//!
//! It lies in the runtime directory, with the user's defaults of that time in it, and
//! differs from the stored one exactly where a restart would change something.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{self, Document, VmConfig};
use crate::vm::VmName;

use super::{Error, Host};

/// How long another process is waited for that changes the same VM.
const LIMIT: Duration = Duration::from_secs(30);

/// Between looks at a lock that another process holds.
const PAUSE: Duration = Duration::from_millis(2);

/// A definition, as a text that has the user's defaults in it, and as what it means.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub document: Document,
    pub config: VmConfig,
}

impl Definition {
    /// Reads a definition that is stored for a VM, with today's defaults.
    pub fn read(host: &Host, name: &VmName, text: &str) -> Result<Self, Error> {
        let file = host.paths.vm(name).definition();
        let text = config::with_defaults(text, &file, &host.defaults()?)?;
        Self::whole(host, name, &text)
    }

    /// Reads a text that has its defaults already.
    pub fn whole(host: &Host, name: &VmName, text: &str) -> Result<Self, Error> {
        Ok(Self {
            document: Document::parse(text, &host.paths.vm(name).definition())?,
            config: host.whole_config(name, text)?,
        })
    }
}

/// Reads the definition that a VM goes by; `None` if it does not run.
pub(super) fn read(host: &Host, name: &VmName) -> Result<Option<Definition>, Error> {
    let file = host.paths.sockets(name).definition();
    match fs::read_to_string(&file) {
        Ok(text) => Definition::whole(host, name, &text).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format_args!("cannot read {}", file.display()))(
            error,
        )),
    }
}

/// The right to change a running VM, and what it goes by.
///
/// Whoever needs the VM's monitor for the change takes that first.
pub(super) struct InForce {
    file: PathBuf,
    pub definition: Definition,
    _lock: File,
}

impl InForce {
    /// Takes the right, or waits for whoever has it; `None` if the VM does not run.
    pub fn take(host: &Host, name: &VmName) -> Result<Option<Self>, Error> {
        let runtime = host.paths.sockets(name);
        let path = runtime.definition_lock();
        let failed = |source| Error::Io(format!("cannot lock {}", path.display()), source);
        if !runtime.definition().exists() {
            return Ok(None);
        }
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let deadline = Instant::now() + LIMIT;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => return Err(Error::BeingChanged(name.clone())),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        Ok(read(host, name)?.map(|definition| Self {
            file: runtime.definition(),
            definition,
            _lock: lock,
        }))
    }

    /// Notes that the VM goes by another one now.
    ///
    /// The file stays as old as the run, which is how old the VM is.
    pub fn note(&mut self, document: Document) -> Result<(), Error> {
        let text = document.to_string();
        let config = VmConfig::parse(&text, &self.file)?;
        let unfinished = self.file.with_extension("unfinished");
        let write = || -> io::Result<()> {
            let age = fs::metadata(&self.file)?.modified()?;
            fs::write(&unfinished, &text)?;
            File::options()
                .write(true)
                .open(&unfinished)?
                .set_modified(age)?;
            fs::rename(&unfinished, &self.file)
        };
        match write() {
            // The VM has ended, and with it what it went by.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Error::io(format_args!(
                    "cannot write {}",
                    self.file.display()
                ))(error));
            }
            Ok(()) => {}
        }
        self.definition = Definition { document, config };
        Ok(())
    }
}

/// Has one definition say of a key what another says, which may be nothing.
pub(super) fn take_over(
    document: &mut Document,
    from: &Document,
    key: &str,
) -> Result<(), config::Error> {
    match from.says(key) {
        true => document.copy(from, key),
        false => {
            document.remove(key);
            Ok(())
        }
    }
}
