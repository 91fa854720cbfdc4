use std::fs;

use crate::sandbox::{Sandbox, guests};

/// Adds a probe guest on top of a template, and waits until it is up.
fn boot(template: &str, append: &str, more: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let guest = guests().join("probe");
    let text = format!(
        "extends = \"template:{template}\"\nname = \"{name}\"\nmemory = \"128M\"\naccel = \"tcg\"\n\
         kernel = \"{0}/kernel\"\ninitrd = \"{0}/initrd\"\nappend = \"{append}\"\n\
         ready.level = 'console:/probe: ready/'\n{more}\n",
        guest.display(),
        name = sandbox.name("web"),
    );
    fs::write(sandbox.path("web.toml"), text).unwrap();
    sandbox.maqet(&["add", "web.toml"]).ok();
    sandbox.maqet(&["start", "@web"]).ok().saying("started");
    assert_eq!(sandbox.state("web"), "running");
    sandbox
}

#[test]
fn linux_boots_from_a_disk_s_kernel_and_powers_down() {
    let sandbox = boot("linux", "console=ttyS0 quiet", "disk.root.size = \"1M\"");
    let unit = sandbox.maqet(&["show", "@web", "--json"]).json()["unit"].clone();
    assert_eq!(unit["Restart"], "on-failure");
    sandbox.maqet(&["stop", "@web"]).ok();
}

#[test]
fn ci_has_no_screen_and_stops_at_once() {
    let sandbox = boot("ci", "console=ttyS0 quiet", "");
    let argv = sandbox.maqet(&["show", "@web", "--argv"]).ok().stdout;
    assert!(!argv.contains("VGA"), "{argv}");
    sandbox.maqet(&["stop", "@web"]).ok();
    assert_eq!(sandbox.state("web"), "stopped");
}

#[test]
fn microvm_boots_a_kernel_with_virtio_mmio() {
    let sandbox = boot("microvm", "console=ttyS0 quiet", "");
    let argv = sandbox.maqet(&["show", "@web", "--argv"]).ok().stdout;
    assert!(argv.contains("type=microvm"), "{argv}");
    sandbox.maqet(&["stop", "@web"]).ok();
    assert_eq!(sandbox.state("web"), "stopped");
}

#[test]
fn templates_are_listed_and_shown_with_those_of_the_user() {
    let sandbox = Sandbox::new();
    let names = |sandbox: &Sandbox| -> Vec<String> {
        let all = sandbox.maqet(&["template", "ls", "--json"]).json();
        let names = all.as_array().unwrap().iter();
        names
            .map(|it| it["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&sandbox), ["ci", "linux", "microvm"]);
    let dir = sandbox.path("config/maqet/templates");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("mine.toml"), "# Of mine.\ncpus = 7\n").unwrap();
    fs::write(dir.join("ci.toml"), "cpus = 8\n").unwrap();
    assert_eq!(names(&sandbox), ["ci", "linux", "microvm", "mine"]);
    sandbox
        .maqet(&["template", "ls"])
        .ok()
        .saying("templates/ci.toml is not used");
    let shown = sandbox.maqet(&["template", "show", "mine"]).ok().stdout;
    assert_eq!(shown, "# Of mine.\ncpus = 7\n");
    let words = [
        "add",
        "--name",
        "x",
        "--template",
        "mine",
        "--dry-run",
        "--json",
    ];
    assert_eq!(sandbox.maqet(&words).json()["definition"]["cpus"], 7);
    for wrong in ["../mine", "", ".", "/etc/passwd", "mime"] {
        sandbox
            .maqet(&["template", "show", wrong])
            .fails(2)
            .saying("there is no template");
    }
}
