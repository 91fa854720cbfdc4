//! Definitions that nobody wrote start a QEMU, or are refused in words.
//!
//! `MAQET_TEST_DEFINITIONS` is how many valid ones start a QEMU, and a tenth of how
//! many mutated ones are read.

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use maqet::config::{self, HugePages, VmConfig};

use super::pool::{Pool, Random, number};
use super::{Prelaunch, Vm};

/// How many definitions start a QEMU where nobody asks for more.
const FEW: u32 = 20;

#[test]
fn random_valid_definitions_start_a_qemu() {
    let mut random = Random::new();
    let pool = Pool::new();
    let mut started = 0;
    let mut tried = 0;
    let mut refused = Vec::new();
    while started < count() && refused.len() < 10 {
        tried += 1;
        assert!(
            tried < 100 * (count() + 10),
            "too few of {tried} were valid: {started}"
        );
        let text = toml::to_string(&pool.definition(&mut random)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("definition.toml");
        let Ok(config) = VmConfig::parse(&text, &file) else {
            continue;
        };
        let stored = config::resolve(&text, &file).unwrap();
        assert_eq!(
            VmConfig::parse(&stored, Path::new("x.toml")).unwrap(),
            config,
            "{text}"
        );

        let vm = Vm::of(config, dir.path());
        // Free huge pages; and a processor that is not AMD's, as TCG's usual one is: QEMU
        // warns of its threads.
        let has_threads = vm.config.cpu.threads.is_some_and(|number| number > 1);
        // On microvm a thread needs KVM, too.
        let is_microvm = vm.config.machine == "microvm";
        let mut disks = vm.config.disks.iter();
        let has_thread = is_microvm && disks.any(|(name, disk)| disk.iothread(name).is_some());
        let has_hugepages = vm.config.memory.hugepages != HugePages::No;
        if vm.needs_more_of_the_host() || has_threads || has_thread || has_hugepages {
            continue;
        }
        vm.make_files();
        let run = panic::catch_unwind(AssertUnwindSafe(|| Prelaunch::start(&vm).quit()));
        if run.is_err() {
            refused.push(text);
        }
        started += 1;
    }
    let refused = refused.join("\n---\n");
    assert!(refused.is_empty(), "QEMU does not take\n{refused}");
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
    number("MAQET_TEST_DEFINITIONS").map_or(FEW, |count| u32::try_from(count).unwrap())
}
