use std::fs;
use std::path::Path;
use std::process::Command;

use crate::sandbox::{Sandbox, free_ports};

/// The definitions in README, in order.
fn definitions() -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(readme).unwrap();
    let blocks = text.split("\n```toml\n").skip(1);
    blocks
        .map(|block| block.split("\n```").next().unwrap().to_owned() + "\n")
        .collect()
}

#[test]
fn the_definitions_in_the_readme_start() {
    let sandbox = Sandbox::new();
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(sandbox.path("debian.qcow2"))
        .arg("1M")
        .status();
    assert!(made.unwrap().success());
    let definitions = definitions();
    assert!(definitions.len() > 1, "{definitions:?}");
    let [port, _] = free_ports();
    for (n, text) in definitions.iter().enumerate() {
        let text = text.replace("2222:22", &format!("{port}:22"));
        let file = match n {
            // What the others extend.
            0 => "base.toml",
            _ => "further.toml",
        };
        fs::write(sandbox.path(file), text).unwrap();
        let short = format!("vm{n}");
        let at = format!("@{short}");
        let name = sandbox.name(&short);
        sandbox
            .maqet(&["add", file, "--name", &name, "--qemu-arg=-S"])
            .ok();
        sandbox.maqet(&["start", &at]).ok();
        assert_eq!(sandbox.state(&short), "prelaunch");
        sandbox.maqet(&["stop", "--force", &at]).ok();
    }
}
