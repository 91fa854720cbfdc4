use maqet::qmp::{Agent, lock_path};

use crate::kill;
use crate::sandbox::{PATIENCE, Sandbox, wait_until};

use super::{listed, names, tool, two_disks};

/// What the guest agent says of the file systems of `web`.
fn frozen(sandbox: &Sandbox) -> String {
    let socket = sandbox.runtime("web").join("agent.sock");
    // Whoever was killed, or did not wait any longer, has left answers that are not for this.
    let mut agent = Agent::open(&socket, &lock_path(&socket), PATIENCE).unwrap();
    agent.set_timeout(PATIENCE);
    let status = agent.execute("guest-fsfreeze-status", ()).unwrap();
    status.as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_guest_that_was_frozen_for_a_snapshot_is_thawed_whatever_becomes_of_the_command() {
    let sandbox = Sandbox::new();
    sandbox.add_debian("web", "ready.level = 'agent'\nready.timeout = '30m'");
    sandbox.maqet(&["start", "@web"]).ok();
    let has = |name: &str| listed(&sandbox).iter().any(|it| it["name"] == name);
    for (kind, ends, points) in [("--external", "merge", 4), ("--disk-only", "rm", 8)] {
        let create = ["snapshot", "create", "@web", "x", kind, "--quiesce"];
        let end = || sandbox.maqet(&["snapshot", ends, "@web", "x"]).ok();
        let calls = kill::count(&sandbox, &create);
        assert_eq!(frozen(&sandbox), "thawed");
        end();
        for point in 0..points {
            // The guest is frozen in the second half of it.
            let at = calls / 2 + point * (calls / 2) / points;
            kill::at(&sandbox, at, &create);
            wait_until("the guest is thawed", || frozen(&sandbox) == "thawed");
            sandbox
                .maqet(&["snapshot", "create", "@web", "probe", "--disk-only"])
                .ok();
            sandbox.maqet(&["snapshot", "rm", "@web", "probe"]).ok();
            if has("x") {
                end();
            }
        }
        // It fails, and the guest does not notice.
        sandbox.maqet(&create).ok();
        sandbox.maqet(&create).fails(1).saying("already");
        assert_eq!(frozen(&sandbox), "thawed");
        if kind == "--external" {
            end();
        }
    }
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    let image = sandbox.path("root.qcow2");
    assert_eq!(names(&image), ["x"]);
    // What is in it needs no repair.
    tool("qemu-img", &["snapshot", "-a", "x"], &image);
    tool("qemu-img", &["check", "-q"], &image);
}

#[test]
fn a_guest_without_an_agent_is_not_frozen_and_no_snapshot_is_made() {
    let sandbox = two_disks();
    sandbox.maqet(&["start", "@web"]).ok();
    let images = || sandbox.maqet(&["disk", "ls", "@web", "--json"]).json();
    let before = images();
    let create = ["snapshot", "create", "@web", "x", "--quiesce"];
    for kind in ["--disk-only", "--external"] {
        sandbox
            .maqet(&[&create[..], &[kind]].concat())
            .fails(1)
            .saying("no guest agent runs");
        assert!(listed(&sandbox).is_empty());
        assert_eq!(images(), before);
    }
    sandbox.maqet(&create).fails(2).saying("--external");
}
