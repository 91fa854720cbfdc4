use crate::sandbox::{Ran, Sandbox, signal, wait_until};

/// A VM whose guest prints each key event that it reads.
pub fn listening(options: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.add_probe_with("web", "probe.keys=echo", options);
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: ready");
    sandbox
}

/// All key events that the guest has read: Linux's number of the key, and 1 for down, 0 for up.
pub fn heard(sandbox: &Sandbox) -> Vec<(u16, u8)> {
    let log = std::fs::read(sandbox.vm_dir("web").join("console.log")).unwrap();
    let log = String::from_utf8_lossy(&log).into_owned();
    assert!(!log.contains("probe: keys lost"), "the guest was too slow");
    let lines = log
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    lines
        .filter_map(|line| {
            let (key, value) = line
                .trim_end()
                .strip_prefix("probe: key ")?
                .split_once(' ')?;
            Some((key.parse().unwrap(), value.parse().unwrap()))
        })
        .collect()
}

/// Waits until the guest has read this many events, and returns them.
pub fn heard_in_all(sandbox: &Sandbox, count: usize) -> Vec<(u16, u8)> {
    wait_until(&format!("{count} key events"), || {
        heard(sandbox).len() >= count
    });
    heard(sandbox)
}

const CTRL: u16 = 29;
const ALT: u16 = 56;
const F2: u16 = 60;
const DELETE: u16 = 111;
const ENTER: u16 = 28;

#[test]
fn a_chord_is_pressed_in_order_and_released_in_reverse() {
    let sandbox = listening(&[]);
    sandbox
        .maqet(&["keys", "@web", "ctrl-alt-f2", "Enter", "control+del"])
        .ok()
        .saying("got ctrl-alt-f2 Enter");
    let expected = [
        (CTRL, 1),
        (ALT, 1),
        (F2, 1),
        (F2, 0),
        (ALT, 0),
        (CTRL, 0),
        (ENTER, 1),
        (ENTER, 0),
        (CTRL, 1),
        (DELETE, 1),
        (DELETE, 0),
        (CTRL, 0),
    ];
    assert_eq!(heard_in_all(&sandbox, expected.len()), expected);
}

#[test]
fn a_key_is_held_and_a_signal_does_not_leave_it_down() {
    let sandbox = listening(&[]);
    sandbox
        .maqet(&["keys", "@web", "--hold", "50ms", "f2"])
        .ok();
    assert_eq!(heard_in_all(&sandbox, 2), [(F2, 1), (F2, 0)]);

    let mut holding = sandbox.spawn(&["keys", "@web", "--hold", "10m", "ctrl"]);
    assert_eq!(heard_in_all(&sandbox, 3)[2], (CTRL, 1));
    signal(holding.id(), libc::SIGINT);
    assert_eq!(heard_in_all(&sandbox, 4)[3], (CTRL, 0));
    let ended = holding.wait().unwrap();
    assert!(!ended.success(), "{ended}");
}

#[test]
fn a_misspelt_key_gets_the_nearest_and_nothing_is_pressed() {
    let sandbox = listening(&[]);
    sandbox
        .maqet(&["keys", "@web", "a", "crtl-c"])
        .fails(2)
        .saying("`crtl` is no key, did you mean `ctrl`?");
    sandbox.maqet(&["keys", "@web", "ctrl-"]).fails(2);
    sandbox.maqet(&["keys", "@web", "f2"]).ok();
    assert_eq!(heard_in_all(&sandbox, 2), [(F2, 1), (F2, 0)]);
}

#[test]
fn every_key_of_qemu_is_listed_and_can_be_pressed() {
    let sandbox = listening(&[]);
    let names = sandbox.maqet(&["keys", "@web", "--list", "--json"]).json();
    let names: Vec<&str> = names
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert!(names.len() > 140, "{names:?}");
    // These end, suspend or wake the guest.
    let calm = |name: &&str| !["power", "sleep", "wake"].contains(name);
    let mut args = vec!["keys", "@web"];
    args.extend(names.into_iter().filter(calm));
    sandbox.maqet(&args).ok();
}

#[test]
fn a_guest_that_does_not_run_has_no_keyboard() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["keys", "@web", "a"]).fails(3);
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
        .maqet(&["keys", "@web", "a"])
        .fails(1)
        .saying("is prelaunch: nobody reads its keyboard")
        .saying("maqet resume");
    sandbox.maqet(&["keys", "@nobody", "a"]).fails(4);
}

#[test]
fn a_vm_that_is_killed_meanwhile_is_an_error_and_no_hang() {
    let sandbox = listening(&[]);
    let holding = sandbox.spawn(&["keys", "@web", "--hold", "24h", "a"]);
    heard_in_all(&sandbox, 1);
    signal(sandbox.pid("web"), libc::SIGKILL);
    Ran::of(holding).fails(1);
}
