use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::sandbox::{Ran, Sandbox, signal};
use crate::shell::Terminal;

fn running() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
}

/// Width and height of a PNG, which this must be.
#[track_caller]
fn png_size(bytes: &[u8]) -> (u32, u32) {
    assert!(
        bytes.starts_with(b"\x89PNG\r\n\x1a\n"),
        "{:?}",
        &bytes[..16]
    );
    let number = |at| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

/// The files in the sandbox's directory, hidden ones too.
fn files(sandbox: &Sandbox) -> Vec<String> {
    let entries = std::fs::read_dir(sandbox.dir.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names
        .filter(|name| name != "data" && name != "config")
        .collect();
    names.sort();
    names
}

#[test]
fn a_picture_is_a_png_of_the_screen_s_size() {
    let sandbox = running();
    let taken = sandbox
        .maqet(&["screenshot", "--json", "@web", "shot.png"])
        .json();
    let bytes = std::fs::read(sandbox.path("shot.png")).unwrap();
    let (width, height) = png_size(&bytes);
    assert!(width >= 640 && height >= 400, "{width}x{height}");
    assert_eq!(
        (&taken["width"], &taken["height"]),
        (&width.into(), &height.into())
    );
    assert_eq!(taken["bytes"], bytes.len());
    // The caller's file, not QEMU's, whose umask is 077.
    let mode = sandbox
        .path("shot.png")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o600, 0o600);
    assert_eq!(files(&sandbox), ["shot.png"]);
    assert!(!sandbox.runtime("web").join("screenshot").exists());
}

#[test]
fn a_name_that_ends_so_gives_a_ppm_and_stdout_a_png() {
    let sandbox = running();
    sandbox.maqet(&["screenshot", "@web", "shot.ppm"]).ok();
    let ppm = std::fs::read(sandbox.path("shot.ppm")).unwrap();
    assert!(ppm.starts_with(b"P6\n"));
    let args = ["screenshot", &sandbox.name("web"), "-"];
    let piped = sandbox.command(&args).output().unwrap();
    assert!(piped.status.success());
    let (width, height) = png_size(&piped.stdout);
    let header = format!("P6\n{width} {height}\n255\n");
    assert!(ppm.starts_with(header.as_bytes()));
    assert_eq!(ppm.len(), header.len() + (3 * width * height) as usize);
    sandbox.maqet(&["screenshot", "@web", "shot.jpg"]).fails(2);
    sandbox
        .maqet(&["screenshot", "--json", "@web", "-"])
        .fails(2);
}

#[test]
fn without_a_file_the_name_is_the_vm_s_and_the_time() {
    let sandbox = running();
    // Two within a second are two files all the same.
    let first = sandbox.maqet(&["screenshot", "@web"]).ok().stdout;
    let second = sandbox.maqet(&["screenshot", "@web"]).ok().stdout;
    assert_ne!(first, second);
    for name in [first, second] {
        let name = name.trim_end().trim_start_matches("./");
        assert!(
            name.starts_with(&sandbox.name("web")) && name.ends_with(".png"),
            "{name}"
        );
        png_size(&std::fs::read(sandbox.path(name)).unwrap());
    }
    std::fs::create_dir(sandbox.path("folder")).unwrap();
    sandbox.maqet(&["screenshot", "@web", "folder"]).ok();
    assert_eq!(
        std::fs::read_dir(sandbox.path("folder")).unwrap().count(),
        1
    );
}

#[test]
fn a_file_that_is_there_is_replaced_only_when_asked() {
    let sandbox = running();
    std::fs::write(sandbox.path("shot.png"), "mine").unwrap();
    sandbox
        .maqet(&["screenshot", "@web", "shot.png"])
        .fails(1)
        .saying("`shot.png` is there already")
        .saying("--force");
    assert_eq!(std::fs::read(sandbox.path("shot.png")).unwrap(), b"mine");
    sandbox
        .maqet(&["screenshot", "--force", "@web", "shot.png"])
        .ok();
    png_size(&std::fs::read(sandbox.path("shot.png")).unwrap());
    // What is no regular file never is.
    sandbox
        .maqet(&["screenshot", "--force", "@web", "/dev/null"])
        .fails(1);
    assert_eq!(files(&sandbox), ["shot.png"]);
}

#[test]
fn a_place_that_is_full_or_not_there_leaves_nothing_behind() {
    let sandbox = running();
    sandbox
        .maqet(&["screenshot", "@web", "nowhere/shot.png"])
        .fails(1)
        .saying("cannot write nowhere/shot.png");
    // Where nothing can be made: as good as full, and needs no file system of its own.
    let args = ["screenshot", &sandbox.name("web"), "shot.ppm"];
    let mut limited = std::process::Command::new("prlimit");
    limited
        .arg("--fsize=10000")
        .arg(env!("CARGO_BIN_EXE_maqet"));
    limited.args(args).current_dir(sandbox.dir.path());
    for (key, value) in sandbox.command(&[]).get_envs() {
        limited.env(key, value.unwrap_or_default());
    }
    let ran = limited.stdin(Stdio::null()).output().unwrap();
    assert!(!ran.status.success());
    assert!(!sandbox.path("shot.ppm").exists());
}

#[test]
fn a_vm_without_a_video_device_has_no_screen() {
    let sandbox = Sandbox::new();
    let definition = "memory = \"64M\"\naccel = \"tcg\"\nvga = \"none\"\n";
    std::fs::write(sandbox.path("web.toml"), definition).unwrap();
    sandbox
        .maqet(&["add", "--name", &sandbox.name("web"), "web.toml"])
        .ok();
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
        .maqet(&["screenshot", "@web", "shot.png"])
        .fails(1)
        .saying("has no screen")
        .saying("vga");
    assert_eq!(files(&sandbox), ["web.toml"]);
}

#[test]
fn a_screen_may_be_another_device_s() {
    let sandbox = Sandbox::new();
    let second = "--qemu-arg=secondary-vga,id=second,xres=800,yres=600";
    sandbox.add("web", &["--qemu-arg=-device", second]);
    sandbox.maqet(&["start", "@web"]).ok();
    let args = [
        "screenshot",
        "@web",
        "--device",
        "second",
        "--head",
        "0",
        "b.png",
    ];
    sandbox.maqet(&args).ok();
    png_size(&std::fs::read(sandbox.path("b.png")).unwrap());
    sandbox
        .maqet(&["screenshot", "@web", "--device", "nobody", "c.png"])
        .fails(5);
    assert_eq!(files(&sandbox), ["b.png"]);
}

#[test]
fn many_at_once_are_all_whole() {
    let sandbox = running();
    let names: Vec<String> = (0..8).map(|number| format!("{number}.png")).collect();
    let all: Vec<_> = names
        .iter()
        .map(|name| sandbox.spawn(&["screenshot", "--timeout=60s", "@web", name]))
        .collect();
    for child in all {
        Ran::of(child).ok();
    }
    for name in names {
        png_size(&std::fs::read(sandbox.path(&name)).unwrap());
    }
    let sets = sandbox
        .maqet(&["qmp", "--json", "@web", "query-fdsets"])
        .json();
    assert_eq!(sets, serde_json::json!([]));
}

#[test]
fn a_vm_that_is_killed_meanwhile_leaves_no_file() {
    let sandbox = running();
    signal(sandbox.pid("web"), libc::SIGSTOP);
    let taking = sandbox.spawn(&["screenshot", "--timeout=60s", "@web", "shot.png"]);
    signal(sandbox.pid("web"), libc::SIGKILL);
    let ran = Ran::of(taking);
    assert!([1, 3].contains(&ran.status), "{}", ran.stderr);
    assert_eq!(files(&sandbox), [""; 0]);
    sandbox.wait_for_state("web", "failed");
    sandbox.maqet(&["screenshot", "@web"]).fails(3);
    sandbox.maqet(&["screenshot", "@nobody"]).fails(4);
}

#[test]
fn a_ppm_becomes_the_png_that_qemu_would_have_written() {
    let sandbox = running();
    sandbox.maqet(&["screenshot", "@web", "shot.png"]).ok();
    sandbox.maqet(&["screenshot", "@web", "shot.ppm"]).ok();
    let read = |file: &str| std::fs::read(sandbox.path(file)).unwrap();
    let converted = maqet::ops::screenshot::png_of(&read("shot.ppm")).unwrap();
    png_size(&converted);
    let pixels = |png: &[u8]| image::load_from_memory(png).unwrap().into_rgb8();
    assert!(pixels(&converted) == pixels(&read("shot.png")));
    assert_eq!(maqet::ops::screenshot::png_of(b"P6\n2 2\n255\nabc"), None);
}

#[test]
fn a_terminal_shows_the_picture_and_nothing_is_written() {
    let sandbox = running();
    let name = sandbox.name("web");
    let terminal = Terminal::run(&sandbox, &["screenshot", "--show", &name]);
    // Half a block is a pixel, and its background another.
    terminal.shows("\u{2584}");
    terminal.ends();
    assert_eq!(files(&sandbox), [""; 0]);
    sandbox
        .maqet(&["screenshot", "@web", "--show"])
        .fails(2)
        .saying("needs a terminal");
}
