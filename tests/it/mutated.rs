use std::fs;

use serde_json::Value;

use crate::pool::{Pool, Random};
use crate::sandbox::Sandbox;

#[test]
fn a_mutated_definition_is_added_whole_or_leaves_nothing() {
    let sandbox = Sandbox::new();
    let pool = Pool::new();
    let mut random = Random::new();
    let vms = sandbox.path("data/maqet/vms");
    let (mut added, mut refused) = (0, 0);
    for i in 0..300 {
        let text = pool.mutated(&mut random);
        let dir = sandbox.path(&format!("mutated{i}"));
        fs::create_dir(&dir).unwrap();
        let file = dir.join(if i % 2 == 0 { "web.toml" } else { "web.yaml" });
        fs::write(&file, &text).unwrap();
        let mut command = sandbox.command(&["add", "--json", file.to_str().unwrap()]);
        // Whatever it says, it stays in here.
        let output = command
            .env("HOME", &dir)
            .current_dir(&dir)
            .output()
            .unwrap();
        let status = output.status.code();
        if status == Some(0) {
            added += 1;
            let vm: Value = serde_json::from_slice(&output.stdout).unwrap();
            let name = vm["name"].as_str().unwrap();
            sandbox.maqet(&["set", name, "protect=false"]).ok();
            sandbox.maqet(&["rm", "--disks", name]).ok();
            continue;
        }
        refused += 1;
        assert_eq!(
            status,
            Some(1),
            "{text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.stderr.starts_with(b"error: "), "{text}");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "{text}");
        let left = fs::read_dir(&vms).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{text}");
    }
    // Other tests' VMs may run; none is known here.
    let known = sandbox.maqet(&["export", "--all", "--json"]).json();
    assert_eq!(known.as_array().unwrap().len(), 0, "{known}");
    assert!(
        added > 0 && refused > 50,
        "{added} were added, {refused} refused"
    );
}
