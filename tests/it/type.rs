use std::io::Write;
use std::process::Stdio;

use crate::keys::{heard_in_all, listening};
use crate::sandbox::{Ran, Sandbox};

const SHIFT: u16 = 42;

/// What is printed on a US keyboard, from Linux's number for the first key of each row.
const ROWS: [(u16, &str, &str); 6] = [
    (2, "1234567890-=", "!@#$%^&*()_+"),
    (15, "\tqwertyuiop[]\n", "\0QWERTYUIOP{}\0"),
    (30, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
    (43, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    (57, " ", "\0"),
    (28, "\n", "\0"),
];

/// The text that such key events give on a US keyboard.
fn text_of(events: &[(u16, u8)]) -> String {
    let mut shifted = false;
    let mut down = None;
    let mut text = String::new();
    for &(key, value) in events {
        if key == SHIFT {
            shifted = value == 1;
        } else if value == 1 {
            assert_eq!(down, None, "two keys at once");
            down = Some(key);
            let character = ROWS.iter().find_map(|(first, plain, shift)| {
                let row = if shifted { shift } else { plain };
                row.chars().nth(usize::from(key.checked_sub(*first)?))
            });
            text.push(character.unwrap_or('\0'));
        } else {
            assert_eq!(down, Some(key), "released without having been pressed");
            down = None;
        }
    }
    text
}

/// Characters of all classes; another text for each seed.
fn random_text(seed: u64) -> String {
    let all: Vec<char> = (' '..='~').chain(['\t', '\n']).collect();
    let mut state = seed;
    let next = |_| {
        // Knuth's MMIX generator, whose upper bits are good enough here.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        all[(state >> 33) as usize % all.len()]
    };
    (0..200).map(next).collect()
}

/// Types two hundred characters three times, and compares what the guest has read.
fn nothing_is_lost(options: &[&str]) {
    let sandbox = listening(options);
    let mut expected = String::new();
    let mut events = 0;
    for seed in 1..=3 {
        let text = random_text(seed);
        let typing = sandbox.type_from_stdin(&text);
        typing.ok().saying("200 characters typed");
        expected += &text;
        let is_shifted = |c: &char| {
            ROWS.iter()
                .any(|(.., shift)| *c != '\0' && shift.contains(*c))
        };
        let shifted = text.chars().filter(is_shifted).count();
        events += 2 * (200 + shifted);
        let heard = heard_in_all(&sandbox, events);
        assert_eq!(text_of(&heard), expected, "seed {seed}");
        assert_eq!(heard.len(), events);
    }
}

impl Sandbox {
    fn type_from_stdin(&self, text: &str) -> Ran {
        let mut typing = self
            .command(&["type", &self.name("web"), "-", "--timeout=60s"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = typing.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        drop(stdin);
        Ran::of(typing)
    }
}

#[test]
fn a_ps2_keyboard_loses_nothing_and_keeps_the_order() {
    nothing_is_lost(&[]);
}

#[test]
fn a_virtio_keyboard_loses_nothing_and_keeps_the_order() {
    nothing_is_lost(&["--qemu-arg=-device", "--qemu-arg=virtio-keyboard-pci"]);
}

#[test]
fn a_character_that_the_layout_lacks_is_named_before_anything_is_typed() {
    let sandbox = listening(&[]);
    sandbox
        .maqet(&["type", "@web", "naïve"])
        .fails(2)
        .saying("character 3 of the text, `ï` (U+00EF), is on no key of the layout `us`")
        .saying("--layout");
    sandbox
        .maqet(&["type", "@web", "x", "--layout", "nosuch"])
        .fails(2)
        .saying("there is no keyboard layout `nosuch` here");
    sandbox.maqet(&["type", "@web", "ok"]).ok();
    assert_eq!(text_of(&heard_in_all(&sandbox, 4)), "ok");
}

#[test]
fn other_layouts_press_other_keys() {
    let sandbox = listening(&[]);
    sandbox
        .maqet(&["type", "@web", "--layout", "de", "zß@"])
        .ok();
    let alt_gr = 100;
    let expected = [
        (21, 1),
        (21, 0),
        (12, 1),
        (12, 0),
        (alt_gr, 1),
        (16, 1),
        (16, 0),
        (alt_gr, 0),
    ];
    assert_eq!(heard_in_all(&sandbox, expected.len()), expected);
}

#[test]
fn a_guest_that_reads_no_keys_is_an_error_and_no_hang() {
    let sandbox = Sandbox::new();
    // Firmware that does nothing but halt, at a reset with interrupts off.
    let firmware = sandbox.path("halt.bin");
    std::fs::write(&firmware, [0xf4; 1 << 16]).unwrap();
    let option = format!("--qemu-arg={}", firmware.display());
    sandbox.add("web", &["--qemu-arg=-bios", &option]);
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
        .maqet(&["type", "@web", "--timeout=5s", &"a".repeat(100)])
        .fails(1)
        .saying("does not read its keyboard")
        .saying("it took 0 of 100 keys");
}
