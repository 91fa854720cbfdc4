use std::path::Path;

use super::super::{Document, Error};
use super::{MAX_DEPTH, MAX_SIZE};

fn toml(yaml: &str) -> Result<String, Error> {
    Ok(Document::parse(yaml, Path::new("web.yml"))?.to_string())
}

fn wrong(yaml: &str) -> String {
    toml(yaml).unwrap_err().to_string()
}

#[test]
fn yaml_becomes_toml() {
    for (yaml, expected) in [
        ("", ""),
        ("# nothing\n", ""),
        ("---\nname: web\n...\n", "name = \"web\"\n"),
        ("\u{feff}name: web", "name = \"web\"\n"),
        ("name: web\r\ncpus: 2\r\n", "name = \"web\"\ncpus = 2\n"),
        // As YAML 1.2 has it, and not as 1.1 had.
        (
            "a: on\nb: no\nc: y\nd: 12:30:45\n",
            "a = \"on\"\nb = \"no\"\nc = \"y\"\nd = \"12:30:45\"\n",
        ),
        ("on: 2026-01-01\n", "on = \"2026-01-01\"\n"),
        (
            "a: true\nb: FALSE\nc: 'true'\nd: !!str true\n",
            "a = true\nb = false\nc = \"true\"\nd = \"true\"\n",
        ),
        (
            "a: 0x1f\nb: -7\nc: 1.5e3\nd: '7'\ne: 1_000\nf: 1.2.3\n",
            "a = 0x1f\nb = -7\nc = 1.5e3\nd = \"7\"\ne = \"1_000\"\nf = \"1.2.3\"\n",
        ),
        (
            "a: 4G\nb: e5\nc: infinity\nd: 0b1\ne: \"\"\n",
            "a = \"4G\"\nb = \"e5\"\nc = \"infinity\"\nd = \"0b1\"\ne = \"\"\n",
        ),
        (
            "a: >\n  one\n  two\nb: |-\n  x\n  y\n",
            "a = \"\"\"\none two\n\"\"\"\nb = \"\"\"\nx\ny\"\"\"\n",
        ),
        (
            "a: \"\\t\\x41\\u00e4\"\nb: 'it''s'\n",
            "a = \"\\tAä\"\nb = \"it's\"\n",
        ),
        (
            "disk:\n  root: {file: a, size: 1G}\n  data:\n    size: 2G\nname: web\n",
            "name = \"web\"\n\n[disk.root]\nfile = \"a\"\nsize = \"1G\"\n\n[disk.data]\nsize = \"2G\"\n",
        ),
        ("net: {}\nnets: []\n", "nets = []\n\n[net]\n"),
        (
            "a:\n- [1, x]\n- {b: {c: d}}\n",
            "a = [[1, \"x\"], { b = { c = \"d\" } }]\n",
        ),
        ("a: &x {b: 1}\nc: *x\n", "\n[a]\nb = 1\n\n[c]\nb = 1\n"),
        ("{\"a\": [1, \"\\u00e4\"]}", "a = [1, \"ä\"]\n"),
        ("8080: x\n\"a b.c\": 1\n", "8080 = \"x\"\n\"a b.c\" = 1\n"),
    ] {
        let toml = toml(yaml).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(toml.trim_start(), expected.trim_start(), "{yaml}");
    }
}

#[test]
fn what_could_be_meant_in_two_ways_is_a_mistake() {
    for (yaml, expected) in [
        (
            "name: web\nvga:\nnet: {}\n",
            "web.yml:2:1: has no value: write `{}` for an empty table, or leave the key out\n  2 | vga:\n    | ^^^",
        ),
        (
            "a: [~]\n",
            "web.yml:1:5: has no value: write `{}` for an empty table, or leave the key out\n  1 | a: [~]\n    |     ^",
        ),
        (
            "é: 010\n",
            "web.yml:1:4: this number can be read in two ways: put it in quotes if it is a text\n  1 | é: 010\n    |    ^^^",
        ),
        (
            "name: a\nname: b\n",
            "web.yml:2:1: key `name` is there already\n  2 | name: b\n    | ^^^^",
        ),
        (
            "a: 1\n---\nb: 2\n",
            "web.yml:2:1: a definition is one document: cut it here\n  2 | ---\n    | ^^^",
        ),
        (
            "a: !include x\n",
            "web.yml:1:4: the tag `!include` has no meaning here\n  1 | a: !include x\n    |    ^^^^^^^^^^",
        ),
        (
            "- a\n",
            "web.yml:1:1: a definition is a table of keys\n  1 | - a\n    | ^^^",
        ),
        (
            "? [a]\n: b\n",
            "web.yml:1:3: a key is a plain text\n  1 | ? [a]\n    |   ^",
        ),
        (
            "a: &x [*x]\n",
            "web.yml:1:8: this alias holds itself\n  1 | a: &x [*x]\n    |        ^^",
        ),
        (
            "a: b\0\nc: d\n",
            "web.yml:1:5: YAML cannot hold a NUL character\n  1 | a: b\u{fffd}\n    |     ^",
        ),
        (
            "a: \"x\\0\"\n",
            "web.yml:1:4: holds a NUL character, which no program argument can\n  1 | a: \"x\\0\"\n    |    ^^^^^",
        ),
    ] {
        assert_eq!(wrong(yaml), expected, "{yaml}");
    }
}

#[test]
fn what_is_no_yaml_is_told_where() {
    for (yaml, start) in [
        ("name: web\n\tcpus: 2\n", "web.yml:1:7: this is not YAML: "),
        ("a: [1, 2\nb: 3\n", "web.yml:2:"),
        ("a: 'x\n", "web.yml:"),
        ("a: *x\n", "web.yml:1:4: this is not YAML: "),
        ("a: b: c\n", "web.yml:1:5: this is not YAML: "),
    ] {
        let wrong = wrong(yaml);
        assert!(wrong.starts_with(start), "{wrong}");
    }
}

#[test]
fn nothing_small_becomes_large() {
    let mut laughs = "a: &a0 [lol, lol, lol, lol]\n".to_owned();
    for i in 0..20 {
        laughs += &format!("b{i}: &a{} [*a{i}, *a{i}, *a{i}, *a{i}]\n", i + 1);
    }
    assert!(wrong(&laughs).contains("the aliases stand for too much"));

    let texts = format!(
        "a: &a {}\nb: [{}]\n",
        "x".repeat(10_000),
        "*a, ".repeat(1_000)
    );
    assert!(wrong(&texts).contains("the aliases stand for too much"));

    let deep = wrong(&"[".repeat(MAX_SIZE / 2));
    assert!(
        deep.contains("nested too deeply") || deep.contains("recursion"),
        "{}",
        &deep[..200]
    );
    let nested = |depth| format!("a: {}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(wrong(&nested(MAX_DEPTH + 1)).contains("nested too deeply"));
    toml(&nested(MAX_DEPTH)).unwrap();

    assert!(wrong(&"#".repeat(MAX_SIZE + 1)).contains("no longer than 1 MiB"));
}
