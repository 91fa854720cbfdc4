//! Waiting until a VM counts as up.
//!
//! What tells it differs by level, and so does how it is waited for: the agent's
//! channel opens with an event, the console grows, the guest's systemd calls its host,
//! and of a TCP port nobody tells, so that it has to be tried.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use regex_lite::Regex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::config::{Protocol, ReadyLevel, VmConfig};
use crate::console::{self, Changes};
use crate::paths::RuntimeDir;
use crate::process::Process;
use crate::qmp::{self, Agent, Follower, Monitor, Start, lock_path};
use crate::vm::VmName;

use super::{Error, Host, hmp};

mod notify;

pub(crate) use notify::has_said;

/// Why a VM is not up.
#[derive(Debug)]
pub enum NotReady {
    /// The time was over; what was waited for.
    TimedOut(String),
    /// QEMU ended.
    Ended,
    /// It cannot be told.
    Unknown(String),
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(what) | Self::Unknown(what) => f.write_str(what),
            Self::Ended => f.write_str("QEMU ended"),
        }
    }
}

/// Where the signs are to be seen.
pub(crate) struct Signs<'a> {
    /// The sockets and the event log.
    pub runtime: &'a RuntimeDir,
    /// What the guest prints.
    pub console_log: &'a Path,
    /// QEMU.
    pub process: &'a Process,
    /// Asks QEMU's human monitor, within a limit.
    pub hmp: &'a mut dyn FnMut(&str, Duration) -> Result<String, qmp::Error>,
}

/// Waits until a running VM has reached `level`, or the one that its definition names.
///
/// # Errors
/// [`Error::NotRunning`], [`Error::NotInTime`] after `limit` (by default the
/// definition's), [`Error::Ended`] when QEMU ends.
pub fn ready(
    host: &Host,
    name: &VmName,
    level: Option<&ReadyLevel>,
    limit: Option<Duration>,
) -> Result<(), Error> {
    let unit = host.unit(name)?;
    let Some(process) = unit.main_pid.and_then(Process::open) else {
        host.vm(name)?;
        return Err(Error::NotRunning(name.clone()));
    };
    let begun = Instant::now();
    super::wait::launched(host, &unit, name, &process)?;
    let runtime = host.paths.sockets(name);
    // The one that it runs with; it may have another by now.
    let definition = std::fs::read_to_string(runtime.definition()).map_err(Error::io(
        format_args!("cannot read {}", runtime.definition().display()),
    ))?;
    let config = host.whole_config(name, &definition)?;
    let level = level.unwrap_or(&config.ready.level);
    let limit = limit.unwrap_or(config.ready.timeout.duration());
    let late = || Error::NotInTime {
        awaited: format!("`{level}`"),
        limit,
    };
    let ended = || Error::Ended {
        name: name.clone(),
        awaited: format!("`{level}`"),
        how: "QEMU ended".to_owned(),
    };
    match level {
        // QEMU's first answer is what it means.
        ReadyLevel::Monitor => {
            let answered = super::monitor::open(host, name, limit).and_then(|mut monitor| {
                monitor.set_timeout(limit.saturating_sub(begun.elapsed()));
                Ok(monitor.status()?)
            });
            return match answered {
                Err(Error::Qmp(qmp::Error::Timeout { .. })) => Err(late()),
                Err(Error::Qmp(qmp::Error::Closed { .. })) if process.wait(NOTICED) => Err(ended()),
                answered => answered.map(|_| ()),
            };
        }
        // A guest that goes on from a saved state does not print it again.
        ReadyLevel::Console(_)
            if level.to_string() == config.ready.level.to_string() && runtime.ready().exists() =>
        {
            return Ok(());
        }
        _ => {}
    }
    let mut signs = Signs {
        runtime: &runtime,
        console_log: &host.paths.vm(name).console_log(),
        process: &process,
        hmp: &mut |line, limit| {
            let socket = runtime.qmp();
            let mut monitor = Monitor::open(&socket, &lock_path(&socket), limit)?;
            monitor.set_timeout(limit);
            hmp::print(&mut monitor, line)
        },
    };
    wait(&mut signs, &config, level, limit).map_err(|error| match error {
        NotReady::TimedOut(_) => late(),
        NotReady::Ended => ended(),
        NotReady::Unknown(reason) => Error::NotReady {
            name: name.clone(),
            reason,
            console: Vec::new(),
        },
    })
}

/// The forward by which a port of the guest can be tried.
fn forward(config: &VmConfig, guest_port: u16) -> Option<SocketAddrV4> {
    let forwards = config.nets.values().flat_map(|net| &net.forward);
    let mut tcp = forwards.filter(|forward| forward.protocol == Protocol::Tcp);
    let found = tcp.find(|forward| forward.guest_port.get() == guest_port)?;
    let address = match found.host_address.is_unspecified() {
        true => std::net::Ipv4Addr::LOCALHOST,
        false => found.host_address,
    };
    Some(SocketAddrV4::new(address, found.host_port.get()))
}

/// Waits until the VM has reached `level`, at most for `limit`.
pub(crate) fn wait(
    signs: &mut Signs<'_>,
    config: &VmConfig,
    level: &ReadyLevel,
    limit: Duration,
) -> Result<(), NotReady> {
    let deadline = Instant::now() + limit;
    let within = format!("within {} s", limit.as_secs());
    match level {
        // Whoever waits has a monitor that answered.
        ReadyLevel::Monitor => Ok(()),
        ReadyLevel::Agent => wait_for_agent(
            signs,
            deadline,
            format!("the guest agent did not answer {within}"),
        ),
        ReadyLevel::Notify => notify::wait(
            signs,
            deadline,
            format!("the guest did not say over vsock that it is up {within}"),
        ),
        ReadyLevel::Tcp(port) => {
            let Some(address) = forward(config, port.get()) else {
                return Err(NotReady::Unknown(format!(
                    "no forward leads to port {port} of the guest"
                )));
            };
            let late =
                format!("nothing in the guest accepted a connection to port {port} {within}");
            wait_for_port(signs, address, deadline, late)
        }
        ReadyLevel::Console(regex) => {
            let late = format!("the console did not say /{regex}/ {within}");
            wait_for_console(signs, regex, deadline, late)
        }
    }
}

/// How long the agent may take for one answer.
const AGENT_ANSWER: Duration = Duration::from_secs(1);

/// The agent is asked again after this long at the latest: its channel may have
/// been open before, and it was only slow.
const AGENT_AGAIN: Duration = Duration::from_secs(2);

fn wait_for_agent(signs: &Signs<'_>, deadline: Instant, late: String) -> Result<(), NotReady> {
    let mut events = Follower::open(&signs.runtime.events_log(), Start::Now).map_err(unknown)?;
    loop {
        let asked = Agent::connect(&signs.runtime.agent(), AGENT_ANSWER).and_then(|mut agent| {
            agent.set_timeout(AGENT_ANSWER);
            agent.ping()
        });
        if asked.is_ok() {
            return Ok(());
        }
        check(signs, deadline, &late)?;
        let opened = events.find(AGENT_AGAIN.min(left(deadline)), |event| {
            (event.name == "VSERPORT_CHANGE" && event.data["open"] == true).then_some(())
        });
        opened.map_err(unknown)?;
    }
}

/// How long a QEMU whose sockets are closed may take to end.
const NOTICED: Duration = Duration::from_secs(5);

/// How often a port is tried, and how long a connection is looked at.
const TRY: Duration = Duration::from_millis(250);

fn wait_for_port(
    signs: &mut Signs<'_>,
    address: SocketAddrV4,
    deadline: Instant,
    late: String,
) -> Result<(), NotReady> {
    loop {
        let tried = Instant::now();
        match is_accepted(signs, address, left(deadline)) {
            Ok(true) => return Ok(()),
            // QEMU has not come to answering, or answers someone else: it may tell the next time.
            Ok(false) | Err(qmp::Error::Timeout { .. } | qmp::Error::Busy { .. }) => {}
            // That it has ended is seen below.
            Err(qmp::Error::Closed { .. } | qmp::Error::Connect { .. })
                if signs.process.wait(NOTICED) => {}
            Err(error) => return Err(NotReady::Unknown(error.to_string())),
        }
        check(signs, deadline, &late)?;
        // QEMU's end is seen at once, everything else by the next try.
        if signs.process.wait(TRY.saturating_sub(tried.elapsed())) {
            return Err(NotReady::Ended);
        }
    }
}

/// Whether a program in the guest accepts connections.
///
/// QEMU's user network accepts them itself, before it has asked the guest, and drops
/// them when that refuses. In between it tells only on its human monitor.
fn is_accepted(
    signs: &mut Signs<'_>,
    address: SocketAddrV4,
    limit: Duration,
) -> Result<bool, qmp::Error> {
    let Ok(mut stream) = TcpStream::connect_timeout(&address.into(), TRY) else {
        return Ok(false);
    };
    let _ = stream.set_read_timeout(Some(TRY));
    match stream.read(&mut [0]) {
        Ok(0) => return Ok(false),
        Ok(_) => return Ok(true),
        // Nothing was said: the server waits for its client, or there is none.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ) => {}
        Err(_) => return Ok(false),
    }
    let Ok(own) = stream.local_addr() else {
        return Ok(false);
    };
    let connections = (signs.hmp)("info usernet", limit)?;
    Ok(connections
        .lines()
        .any(|line| is_established(line, own.port())))
}

/// Whether a line of `info usernet` is about an established connection from `port`.
///
/// `  TCP[ESTABLISHED]     21       127.0.0.1 38142       10.0.2.15    22     0     0`
fn is_established(line: &str, port: u16) -> bool {
    let mut words = line.split_whitespace();
    words.next() == Some("TCP[ESTABLISHED]")
        && words.nth(2).is_some_and(|word| word == port.to_string())
}

/// As much of the console as an expression is tried on: more than any screen.
const LOOKED_AT: usize = 64 << 10;

fn wait_for_console(
    signs: &Signs<'_>,
    regex: &Regex,
    deadline: Instant,
    late: String,
) -> Result<(), NotReady> {
    let changes = Changes::of(signs.console_log).map_err(unknown)?;
    let mut file: File = console::open(signs.console_log).map_err(unknown)?;
    let mut bytes = Vec::new();
    loop {
        let read = file
            .by_ref()
            .take(1 << 20)
            .read_to_end(&mut bytes)
            .map_err(unknown)?;
        if read > 0 {
            if regex.is_match(&String::from_utf8_lossy(&bytes)) {
                return Ok(());
            }
            let excess = bytes.len().saturating_sub(LOOKED_AT);
            bytes.drain(..excess);
            continue;
        }
        check(signs, deadline, &late)?;
        let mut fds = [
            PollFd::new(&changes, PollFlags::IN),
            PollFd::from_borrowed_fd(signs.process.as_fd(), PollFlags::IN),
        ];
        let limit = Timespec::try_from(left(deadline)).ok();
        match poll(&mut fds, limit.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            polled => drop(polled.map_err(|errno| unknown(errno.into()))?),
        }
        changes.take();
    }
}

fn check(signs: &Signs<'_>, deadline: Instant, late: &str) -> Result<(), NotReady> {
    if signs.process.wait(Duration::ZERO) {
        Err(NotReady::Ended)
    } else if left(deadline).is_zero() {
        Err(NotReady::TimedOut(late.to_owned()))
    } else {
        Ok(())
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

fn unknown(error: io::Error) -> NotReady {
    NotReady::Unknown(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ones_own_connection_counts() {
        let line =
            "  TCP[ESTABLISHED]     21       127.0.0.1 38142       10.0.2.15    22     0     0";
        assert!(is_established(line, 38142));
        assert!(!is_established(line, 22));
        assert!(!is_established(
            &line.replace("ESTABLISHED", "SYN_SENT"),
            38142
        ));
        assert!(!is_established("VLAN -1 (net0):", 38142));
    }
}
