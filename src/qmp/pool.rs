//! Connections that are kept for the next command, for programs with several threads.
//!
//! The trap: a monitor serves one client, so a connection that is kept keeps
//! everybody else out. What lies idle is closed after a while.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::client::Client;
use super::error::{Awaited, Error};
use super::link::Deadline;
use super::monitor::Monitor;

/// One connection for each key, such as the name of a VM.
///
/// Threads that want the same monitor take turns; those of different monitors
/// do not wait for each other. A connection is looked at before it is handed
/// out again: after a restart of the VM there is a new one.
///
/// The monitor to use is one that is not needed by others: of the VMs of
/// maqet that is `user.sock`, which [`ops::connect`](crate::ops::connect)
/// connects to. On `qmp.sock` maqet's own commands would find it busy until it
/// has been idle for the pool's time.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/qmp/prelaunch.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let vm = Prelaunch::start();
/// # let socket = &vm.socket;
/// use std::thread;
/// use std::time::Duration;
///
/// use maqet::qmp::{Error, Monitor, Pool, lock_path};
///
/// let limit = Duration::from_secs(10);
/// let pool = Pool::<String>::new(Duration::from_secs(1));
/// thread::scope(|scope| {
///     for _ in 0..4 {
///         scope.spawn(|| -> Result<(), Error> {
///             let mut qmp = pool.get("web", limit, |left| {
///                 Monitor::open(socket, &lock_path(socket), left)
///             })?;
///             println!("{}", qmp.status()?.run_state);
///             Ok(())
///         });
///     }
/// });
/// # Ok(())
/// # }
/// ```
pub struct Pool<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    /// How long a connection is kept that nobody uses.
    idle: Duration,
    slots: Mutex<Slots<K>>,
    /// That a connection came back or is not wanted any more, or the pool is gone.
    changed: Condvar,
}

struct Slots<K> {
    by_key: HashMap<K, Slot>,
    /// Whether a thread closes what lies idle.
    has_closer: bool,
    is_over: bool,
}

enum Slot {
    InUse,
    Idle {
        monitor: Box<Monitor>,
        until: Instant,
    },
}

impl<K: Clone + Eq + Hash + Send + 'static> Pool<K> {
    /// An empty pool, which closes connections that nobody used for `idle`.
    ///
    /// One thread sees to that, as long as there are any.
    pub fn new(idle: Duration) -> Self {
        let slots = Slots {
            by_key: HashMap::new(),
            has_closer: false,
            is_over: false,
        };
        Self {
            shared: Arc::new(Shared {
                // Far away, and still a moment.
                idle: idle.min(Duration::from_secs(u32::MAX.into())),
                slots: Mutex::new(slots),
                changed: Condvar::new(),
            }),
        }
    }

    /// The connection to `key`, waited for as long as another thread has it.
    ///
    /// If there is none, or it is dead, `open` makes one; it is given what is
    /// left of `limit`. Events that came while nobody had it are not kept.
    ///
    /// # Errors
    ///
    /// [`Timeout`](Error::Timeout) if it stays in use until `limit`, and what `open` fails with.
    pub fn get<E: From<Error>>(
        &self,
        key: impl Into<K>,
        limit: impl Into<Option<Duration>>,
        open: impl FnOnce(Option<Duration>) -> Result<Monitor, E>,
    ) -> Result<Pooled<'_, K>, E> {
        let key = key.into();
        let deadline = Deadline::after(limit.into());
        let kept = self.take(&key, deadline)?;
        // From here on it is this one's to give back, also if `open` panics.
        let mut pooled = Pooled {
            pool: self,
            key,
            monitor: None,
        };
        let alive = kept.and_then(|mut monitor| monitor.renew().then_some(monitor));
        pooled.monitor = Some(match alive {
            Some(monitor) => monitor,
            None => Box::new(open(deadline.left())?),
        });
        Ok(pooled)
    }

    /// Closes the connections that nobody uses.
    pub fn clear(&self) {
        let is_used = |_: &K, slot: &mut Slot| matches!(slot, Slot::InUse);
        self.shared.lock().by_key.retain(is_used);
    }

    /// Marks the key as in use; what was kept for it.
    fn take(&self, key: &K, deadline: Deadline) -> Result<Option<Box<Monitor>>, Error> {
        let mut slots = self.shared.lock();
        loop {
            match slots.by_key.get(key) {
                Some(Slot::InUse) => {}
                _ => {
                    return Ok(match slots.by_key.insert(key.clone(), Slot::InUse) {
                        Some(Slot::Idle { monitor, .. }) => Some(monitor),
                        _ => None,
                    });
                }
            }
            if deadline.has_passed() {
                return Err(deadline.timeout(Awaited::Turn));
            }
            slots = self.shared.wait(slots, deadline.left());
        }
    }

    fn give_back(&self, key: K, monitor: Option<Box<Monitor>>) {
        let mut slots = self.shared.lock();
        slots.by_key.remove(&key);
        if let Some(monitor) = monitor {
            let until = Instant::now() + self.shared.idle;
            slots.by_key.insert(key, Slot::Idle { monitor, until });
            if !slots.has_closer {
                let shared = Arc::clone(&self.shared);
                let closer = thread::Builder::new().spawn(move || shared.close_idle());
                // Without one nothing may be kept.
                slots.has_closer = closer.is_ok();
                if closer.is_err() {
                    slots.by_key.retain(|_, slot| matches!(slot, Slot::InUse));
                }
            }
        }
        drop(slots);
        self.shared.changed.notify_all();
    }
}

impl<K> Shared<K> {
    fn lock(&self) -> MutexGuard<'_, Slots<K>> {
        // Nothing panics while it is locked.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something has changed or `limit` has passed.
    fn wait<'a>(
        &self,
        slots: MutexGuard<'a, Slots<K>>,
        limit: Option<Duration>,
    ) -> MutexGuard<'a, Slots<K>> {
        let limit = limit.unwrap_or(Duration::MAX);
        let waited = self.changed.wait_timeout(slots, limit);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Closes each idle connection when its time has come, until there is none.
    fn close_idle(&self) {
        let mut slots = self.lock();
        loop {
            let now = Instant::now();
            slots
                .by_key
                .retain(|_, slot| !matches!(slot, Slot::Idle { until, .. } if *until <= now));
            let idle = slots.by_key.values().filter_map(|slot| match slot {
                Slot::Idle { until, .. } => Some(*until),
                Slot::InUse => None,
            });
            match idle.min() {
                Some(first) if !slots.is_over => {
                    slots = self.wait(slots, Some(first - now));
                }
                _ => break,
            }
        }
        slots.has_closer = false;
    }
}

impl<K> Drop for Pool<K> {
    fn drop(&mut self) {
        let mut slots = self.shared.lock();
        slots.is_over = true;
        slots.by_key.clear();
        drop(slots);
        self.shared.changed.notify_all();
    }
}

impl<K> fmt::Debug for Pool<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.shared.lock().by_key.len();
        f.debug_struct("Pool").field("kept", &kept).finish()
    }
}

/// A connection that goes back to its [`Pool`] when it is dropped.
///
/// Whatever state it is dropped in: replies that nobody took are skipped,
/// commands that have not left are not sent, a broken one is closed.
#[derive(Debug)]
pub struct Pooled<'a, K: Clone + Eq + Hash + Send + 'static> {
    pool: &'a Pool<K>,
    key: K,
    monitor: Option<Box<Monitor>>,
}

const THERE: &str = "it is there until it is given back";

impl<K: Clone + Eq + Hash + Send + 'static> Deref for Pooled<'_, K> {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.monitor.as_ref().expect(THERE)
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> DerefMut for Pooled<'_, K> {
    fn deref_mut(&mut self) -> &mut Client {
        self.monitor.as_mut().expect(THERE)
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> Drop for Pooled<'_, K> {
    fn drop(&mut self) {
        let monitor = self.monitor.take();
        self.pool.give_back(self.key.clone(), monitor);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::super::lock_path;
    use super::super::prelaunch::Prelaunch;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn open(vm: &Prelaunch) -> impl Fn(Option<Duration>) -> Result<Monitor, Error> {
        |left| Monitor::open(&vm.socket, &lock_path(&vm.socket), left)
    }

    #[test]
    fn many_threads_take_turns_on_one_connection_and_get_their_own_answers() {
        let vms = [Prelaunch::start(), Prelaunch::start()];
        let pool = Pool::<usize>::new(PATIENCE);
        let opened = AtomicUsize::new(0);
        thread::scope(|scope| {
            for number in 0..8 {
                let (vms, pool, opened) = (&vms, &pool, &opened);
                scope.spawn(move || {
                    for round in 0..20 {
                        let which = number % 2;
                        let mut qmp = pool
                            .get(which, PATIENCE, |left| {
                                opened.fetch_add(1, Ordering::Relaxed);
                                open(&vms[which])(left)
                            })
                            .unwrap();
                        let own = (number + 1) * 100 + round;
                        let print = json!({ "command-line": format!("print {own}") });
                        let answer: String = qmp.call("human-monitor-command", print).unwrap();
                        assert_eq!(answer.trim(), format!("{own:#x}"));
                    }
                });
            }
        });
        assert_eq!(opened.into_inner(), 2);
    }

    #[test]
    fn a_vm_that_was_killed_meanwhile_is_connected_anew() {
        let mut vm = Prelaunch::start();
        let pool = Pool::<String>::new(PATIENCE);
        pool.get("web", PATIENCE, open(&vm))
            .unwrap()
            .status()
            .unwrap();
        vm.qemu.kill().unwrap();
        vm.qemu.wait().unwrap();
        let err = pool.get("web", PATIENCE, open(&vm)).unwrap_err();
        assert!(matches!(err, Error::Connect { .. }), "{err:?}");
        let again = Prelaunch::start();
        pool.get("web", PATIENCE, open(&again))
            .unwrap()
            .status()
            .unwrap();
    }

    #[test]
    fn a_connection_dropped_in_the_middle_of_commands_serves_the_next_ones() {
        let vm = Prelaunch::start();
        let pool = Pool::<String>::new(PATIENCE);
        let mut qmp = pool.get("web", PATIENCE, open(&vm)).unwrap();
        qmp.set_timeout(Duration::ZERO);
        qmp.execute("query-qmp-schema", ()).unwrap_err();
        qmp.send("query-qmp-schema", ()).unwrap();
        let _given_up = qmp.send("stop", ()).unwrap();
        drop(qmp);
        let mut qmp = pool
            .get("web", PATIENCE, |_| panic!("it is kept"))
            .map_err(|err: Error| err)
            .unwrap();
        assert!(qmp.query::<serde_json::Value>("query-version").unwrap()["qemu"].is_object());
        qmp.status().unwrap();
    }

    #[test]
    fn a_turn_that_does_not_come_is_a_timeout() {
        let vm = Prelaunch::start();
        let pool = Pool::<String>::new(PATIENCE);
        let first = pool.get("web", PATIENCE, open(&vm)).unwrap();
        let err = pool
            .get("web", Duration::from_millis(20), open(&vm))
            .unwrap_err();
        assert_eq!(
            err.to_string(),
            "timed out after 20ms waiting for a turn with the connection"
        );
        thread::scope(|scope| {
            let second = scope.spawn(|| pool.get("web", PATIENCE, open(&vm)).map(drop));
            drop(first);
            second.join().unwrap().unwrap();
        });
    }

    #[test]
    fn what_lies_idle_is_closed_and_others_are_served_then() {
        let vm = Prelaunch::start();
        let pool = Pool::<String>::new(Duration::from_millis(50));
        pool.get("web", PATIENCE, open(&vm))
            .unwrap()
            .status()
            .unwrap();
        let mut other = open(&vm)(Some(PATIENCE)).unwrap();
        other.status().unwrap();
        drop(other);

        let pool = Pool::<String>::new(Duration::MAX);
        pool.get("web", PATIENCE, open(&vm))
            .unwrap()
            .status()
            .unwrap();
        open(&vm)(Some(Duration::from_millis(20))).unwrap_err();
        pool.clear();
        open(&vm)(Some(PATIENCE)).unwrap().status().unwrap();
        pool.get("web", PATIENCE, open(&vm))
            .unwrap()
            .status()
            .unwrap();
        drop(pool);
        open(&vm)(Some(PATIENCE)).unwrap().status().unwrap();
    }

    #[test]
    fn a_peer_that_closes_in_the_middle_of_a_reply_is_replaced() {
        let pool = Pool::<String>::new(PATIENCE);
        let (ours, mut peer) = UnixStream::pair().unwrap();
        let broken = pool.get("web", PATIENCE, |_| Ok(Monitor::from(Client::new(ours))));
        let mut broken = broken.map_err(|err: Error| err).unwrap();
        peer.write_all(
            b"{\"QMP\": {\"version\": {\"qemu\": {\"major\": 7, \"minor\": 2, \
            \"micro\": 1}}}}\n{\"return\": {}}\n{\"return\": {\"status\": ",
        )
        .unwrap();
        let sent = broken.send("query-status", ()).unwrap();
        peer.read_exact(&mut [0; 10]).unwrap();
        drop(peer);
        let err = broken.receive(&sent).unwrap_err();
        assert!(matches!(err, Error::Closed { .. }), "{err:?}");
        drop(broken);
        let vm = Prelaunch::start();
        pool.get("web", PATIENCE, open(&vm))
            .unwrap()
            .status()
            .unwrap();
    }

    #[test]
    fn an_opening_that_fails_or_panics_keeps_nobody_waiting() {
        let vm = Prelaunch::start();
        let pool = Pool::<String>::new(PATIENCE);
        let failed = pool.get("web", PATIENCE, |_| Err(Error::TooLong));
        assert!(matches!(failed, Err(Error::TooLong)));
        thread::scope(|scope| {
            let panics = || {
                pool.get("web", PATIENCE, |_| -> Result<_, Error> {
                    panic!("on purpose")
                })
                .map(drop)
            };
            scope.spawn(panics).join().unwrap_err();
        });
        pool.get("web", PATIENCE, open(&vm))
            .unwrap()
            .status()
            .unwrap();
    }
}
