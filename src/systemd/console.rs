//! What guests print, as entries of the journal.
//!
//! Written with the journal's native protocol, one datagram for each line
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>): nothing has to run for it
//! between two lines.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::vm::VmName;

use super::bus::Scope;
use super::unit::unit_name;

const SOCKET: &str = "/run/systemd/journal/socket";

/// How long journald may let one entry wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the lines of one run of a VM go.
#[derive(Debug)]
pub struct ConsoleEntries {
    socket: UnixDatagram,
    /// The fields that all entries of the run have.
    fields: String,
}

impl ConsoleEntries {
    /// Entries of the run with this invocation id.
    ///
    /// # Errors
    /// Also where there is no journald.
    pub fn of(scope: &Scope, vm: &VmName, run: &str) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let (unit, invocation) = match scope {
            // `journalctl --user --unit` looks for these, too.
            Scope::User(_) => ("USER_UNIT", "USER_INVOCATION_ID"),
            Scope::System => ("UNIT", "INVOCATION_ID"),
        };
        let fields = format!(
            "MAQET_VM={vm}\nMAQET_STREAM=console\nSYSLOG_IDENTIFIER={}\n{unit}={}\n{invocation}={run}\n",
            identifier(vm),
            unit_name(vm),
        );
        Ok(Self { socket, fields })
    }

    /// Writes one line, which has no newline in it.
    pub fn line(&self, line: &str) -> io::Result<()> {
        self.send(&format!("{}PRIORITY=6\nMESSAGE={line}\n", self.fields))
    }

    /// Writes that so many bytes of what was printed are missing here.
    pub fn left_out(&self, bytes: u64) -> io::Result<()> {
        self.send(&format!(
            "{}PRIORITY=5\nMAQET_LEFT_OUT={bytes}\nMESSAGE=[maqet: {bytes} bytes are left out here]\n",
            self.fields
        ))
    }

    fn send(&self, entry: &str) -> io::Result<()> {
        self.socket.send(entry.as_bytes()).map(drop)
    }
}

/// What the entries of a VM's console are called: no VM has a name with a dot, so that
/// no unit's own lines are called the same.
fn identifier(vm: &VmName) -> String {
    format!("maqet-{vm}.console")
}
