//! Definitions that nobody wrote start a QEMU, or are refused in words.
//!
//! `MAQET_TEST_DEFINITIONS` is how many valid ones start a QEMU, and a tenth of how
//! many mutated ones are read; `MAQET_TEST_SEED` is for others.

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use maqet::config::{self, DisplayKind, HugePages, VmConfig};

use super::pool::{Pool, Random, number};
use super::{Prelaunch, Vm};

/// How many definitions start a QEMU where nobody asks for another number.
const MANY: u32 = 1000;

#[test]
fn random_valid_definitions_start_a_qemu() {
    let pool = Pool::new();
    let (next, started) = (AtomicU32::new(0), AtomicU32::new(0));
    let refused = Mutex::new(Vec::new());
    let work = || {
        while started.load(Ordering::Relaxed) < count() && refused.lock().unwrap().len() < 10 {
            let tried = next.fetch_add(1, Ordering::Relaxed);
            assert!(
                tried < 100 * (count() + 10),
                "too few of {tried} were valid: {started:?}"
            );
            // Each is the same whoever has its turn.
            let text = toml::to_string(&pool.definition(&mut Random::nth(tried))).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let Some(vm) = vm(&text, dir.path()) else {
                continue;
            };
            vm.make_files();
            let run = panic::catch_unwind(AssertUnwindSafe(|| Prelaunch::start(&vm).end()));
            if run.is_err() {
                refused.lock().unwrap().push(format!("{text}--- {tried}"));
            }
            started.fetch_add(1, Ordering::Relaxed);
        }
    };
    // One waits for its QEMU while another reads.
    let workers = 2 * thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    let refused = refused.into_inner().unwrap().join("\n");
    assert!(refused.is_empty(), "QEMU does not take\n{refused}");
}

/// What a text defines, if it is valid and this host has all that it wants.
fn vm(text: &str, dir: &Path) -> Option<Vm> {
    let file = dir.join("definition.toml");
    let config = VmConfig::parse(text, &file).ok()?;
    let stored = config::resolve(text, &file).unwrap();
    assert_eq!(
        VmConfig::parse(&stored, Path::new("x.toml")).unwrap(),
        config,
        "{text}"
    );
    let vm = Vm::of(config, dir);
    // Free huge pages; and a processor that is not AMD's, as TCG's usual one is: QEMU
    // warns of its threads.
    let has_threads = vm.config.cpu.threads.is_some_and(|number| number > 1);
    let has_hugepages = vm.config.memory.hugepages != HugePages::No;
    // On microvm a disk's thread needs KVM.
    let is_microvm = vm.config.machine == "microvm";
    let mut disks = vm.config.disks.iter();
    let has_thread = is_microvm && disks.any(|(name, disk)| disk.iothread(name).is_some());
    // Nor has it the PCI address that SPICE would like to tell of its screen.
    let is_told = is_microvm && vm.config.display.kind == DisplayKind::Spice;
    let is_too_much =
        is_told || vm.needs_more_of_the_host() || has_threads || has_thread || has_hugepages;
    (!is_too_much).then_some(vm)
}

#[test]
fn no_mutated_definition_ends_in_a_panic() {
    let mut random = Random::new();
    let pool = Pool::new();
    for _ in 0..10 * count() {
        let text = pool.mutated(&mut random);
        for file in ["/vms/web.toml", "/vms/web.yaml"] {
            let file = Path::new(file);
            let read = panic::catch_unwind(|| match VmConfig::parse(&text, file) {
                Ok(config) => {
                    let stored = config::resolve(&text, file).unwrap();
                    assert_eq!(
                        VmConfig::parse(&stored, Path::new("x.toml")).unwrap(),
                        config
                    );
                }
                Err(error) => assert!(error.to_string().starts_with("/vms/web."), "{error}"),
            });
            assert!(read.is_ok(), "this is not read as it should be:\n{text}");
        }
    }
}

fn count() -> u32 {
    number("MAQET_TEST_DEFINITIONS").map_or(MANY, |count| u32::try_from(count).unwrap())
}
