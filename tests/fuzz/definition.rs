//! Definitions that nobody would write, in TOML and in YAML.
//!
//! Each input is read as both. What is valid becomes a command line for each
//! accelerator, and is stored and read back as the same.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

use config::{Defaults, VmConfig};
use address::Addresses;
use qemu::argv::{Accel, Host, Sockets, argv, paste};

#[path = "../../src/address.rs"]
#[allow(dead_code)]
mod address;
#[path = "../../src/config/mod.rs"]
#[allow(dead_code, unused_imports)]
mod config;
#[path = "../../src/nearest.rs"]
#[allow(dead_code)]
mod nearest;
#[path = "../../src/qemu/mod.rs"]
#[allow(dead_code, unused_imports)]
mod qemu;
#[path = "../../src/vm.rs"]
#[allow(dead_code)]
mod vm;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    for file in ["/vms/web.toml", "/vms/web.yaml"] {
        let file = Path::new(file);
        config::notes(text, file);
        match VmConfig::parse_with(text, file, &Defaults::default()) {
            Ok(config) => valid(&config, text, file),
            Err(error) => {
                let message = error.to_string();
                assert!(message.starts_with("/vms/web."), "{message}");
                assert!(!error.mistakes().is_empty());
            }
        }
    }
});

fn valid(config: &VmConfig, text: &str, file: &Path) {
    let stored = config::resolve(text, file).unwrap_or_else(|error| panic!("{error}"));
    let again = VmConfig::parse_with(&stored, Path::new("/x.toml"), &Defaults::default());
    assert_eq!(again.as_ref(), Ok(config), "{stored}");
    let twice = config::resolve(&stored, Path::new("/x.toml"));
    assert_eq!(twice.as_ref(), Ok(&stored));
    for accel in [Accel::Tcg, Accel::Kvm] {
        let host = Host {
            binary: config.qemu.binary.clone(),
            accel,
            uuid: "2b6a5e0c-9c1f-4a55-8f1c-0d7f6d1f2a01".to_owned(),
            vhost_net: true,
            vm_dir: "/vms/web".into(),
            sockets: Sockets::in_dir(Path::new("/run/web"), config),
            console_log: "/vms/web/console.log".into(),
            port_logs: Vec::new(),
            incoming: false,
            addresses: Addresses::default(),
        };
        let argv = argv(config, &host);
        // No NUL can be in what is passed to execve(2).
        assert!(argv.iter().all(|word| !word.as_encoded_bytes().contains(&0)));
        paste(&argv);
    }
}
