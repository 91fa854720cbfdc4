use std::fs;

use crate::sandbox::{Sandbox, free_ports};

#[test]
fn what_waits_for_the_next_start_is_told_key_by_key() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox
        .maqet(&["diff", "@web"])
        .fails(3)
        .saying("is not running");
    sandbox.maqet(&["start", "@web"]).ok();
    assert_eq!(sandbox.maqet(&["diff", "@web"]).ok().stdout, "");
    sandbox.maqet(&["diff", "@web", "--exit-code"]).ok();

    let words = [
        "memory=96M",
        "net.net0.forward=1:22",
        "unit.CPUWeight=9",
        "description=it",
    ];
    let set = [&["set", "@web", "--no-live"][..], &words].concat();
    sandbox.maqet(&set).ok();
    let told = sandbox
        .maqet(&["diff", "@web", "--exit-code"])
        .fails(9)
        .stdout;
    assert_eq!(
        told,
        "memory: 64M -> 96M\nnet.net0.forward: [] -> [\"1:22\"], live\n\
         unit.CPUWeight: none -> 9, live\n"
    );
    let json = sandbox.maqet(&["diff", "@web", "--json"]).json();
    assert_eq!(json[0]["key"], "memory");
    assert_eq!(
        (&json[0]["old"], &json[0]["new"]),
        (&(64 << 20).into(), &(96 << 20).into())
    );
    assert_eq!(
        (&json[0]["live"], &json[1]["live"]),
        (&false.into(), &true.into())
    );

    let status = sandbox.maqet(&["status", "@web"]).ok().stdout;
    assert!(status.contains("pending  memory: 64M -> 96M\n"), "{status}");
    let status = sandbox.maqet(&["status", "@web", "--json"]).json();
    assert_eq!(status["pending"], json);
    assert_eq!(status["definition_changed"], true);

    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    sandbox.maqet(&["unset", "@web", "net"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    assert_eq!(sandbox.maqet(&["diff", "@web"]).ok().stdout, "");
    sandbox.maqet(&["diff", "@nobody"]).fails(4);
}

#[test]
fn a_file_is_compared_by_what_it_means() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    let name = sandbox.name("web");
    let same = format!(
        "# It.\nname = '{name}'\naccel = \"tcg\"\nqemu = {{ args = [\"-S\"] }}\nmemory = \"0.0625G\"\n"
    );
    fs::write(sandbox.path("same.toml"), &same).unwrap();
    let same_too = sandbox
        .maqet(&["diff", "@web", "same.toml", "--exit-code"])
        .ok();
    assert_eq!(same_too.stdout, "");
    fs::write(
        sandbox.path("other.toml"),
        same + "disk.data.size = \"1M\"\n",
    )
    .unwrap();
    let ran = sandbox.maqet(&["diff", "@web", "other.toml"]).ok();
    assert_eq!(ran.stdout, "disk.data: none -> { size = \"1M\" }\n");
    assert!(!sandbox.vm_dir("web").join("data.qcow2").exists());
    fs::write(sandbox.path("wrong.toml"), "memroy = 1\n").unwrap();
    sandbox
        .maqet(&["diff", "@web", "wrong.toml"])
        .fails(1)
        .saying("wrong.toml:1:1: unknown key `memroy`");
}

#[test]
fn a_limit_that_only_the_running_vm_has_is_told() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    let [port, _] = free_ports();
    sandbox.maqet(&["set", "@web", "CPUWeight=9"]).ok();
    // And what was done behind maqet's back, QEMU tells.
    let add = format!("hostfwd_add net-net0 tcp:127.0.0.1:{port}-:22");
    sandbox.maqet(&["hmp", "@web", &add]).ok();
    assert_eq!(
        sandbox.maqet(&["diff", "@web"]).ok().stdout,
        format!(
            "net.net0.forward: [\"tcp:127.0.0.1:{port}:22\"] -> [], live\n\
             unit.CPUWeight: 9 -> none, live\n"
        )
    );
}
