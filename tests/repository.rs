//! What must be true of the repository itself: layers, man pages, README.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap_mangen::Man;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The parser, with everything filled in that clap derives.
fn parser() -> clap::Command {
    let mut command = maqet::cli::command().disable_help_subcommand(true);
    command.build();
    command
}

/// The commands that people see.
fn verbs() -> Vec<clap::Command> {
    parser()
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .cloned()
        .collect()
}

#[test]
fn the_parser_is_sound() {
    maqet::cli::command().debug_assert();
}

// --- layers ------------------------------------------------------------------

/// Each module and those it may use, from the top of the building to its ground.
const LAYERS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    (
        "cli",
        &[
            "internal", "ops", "config", "console", "image", "keyboard", "qemu", "qmp", "store",
            "systemd", "vm",
        ],
    ),
    (
        "internal",
        &[
            "ops", "config", "console", "lock", "paths", "process", "qemu", "qmp", "saved",
            "store", "systemd", "vm",
        ],
    ),
    (
        "ops",
        &[
            "address", "config", "console", "holder", "image", "keyboard", "lock", "nearest",
            "paths", "process", "qemu", "qmp", "saved", "store", "systemd", "vm",
        ],
    ),
    // Definition to command line: the one that stands on another of its level.
    ("qemu", &["address", "config"]),
    ("config", &["nearest", "vm"]),
    ("image", &["paths"]),
    ("saved", &["address", "paths", "vm"]),
    ("keyboard", &["nearest"]),
    ("lock", &["paths"]),
    ("store", &["paths", "vm"]),
    ("systemd", &["process", "vm"]),
    ("paths", &["vm"]),
    ("address", &[]),
    ("console", &[]),
    ("holder", &[]),
    ("process", &[]),
    ("qmp", &["nearest"]),
    ("nearest", &[]),
    ("vm", &[]),
];

/// What only one module may name, and which.
const PRIVILEGES: &[(&str, &[&str])] = &[
    ("clap::", &["cli"]),
    ("clap_complete::", &["cli"]),
    ("stdout()", &["cli"]),
    ("println!", &["cli"]),
    ("anyhow::", &["cli", "internal"]),
    ("rusqlite::", &["store"]),
    ("zbus::", &["systemd"]),
    ("kbvm::", &["keyboard"]),
    ("toml::", &["config"]),
    (
        "std::env::var",
        &["ops", "paths", "internal", "config", "qemu"],
    ),
];

#[test]
fn a_module_uses_only_modules_below_it() {
    let mut wrong = Vec::new();
    for (file, module, code) in sources() {
        if module == "lib" {
            continue;
        }
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{file}: `{module}` is not in LAYERS"));
            continue;
        };
        for used in crate_paths(&code) {
            if used != module && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{file}: `{module}` uses `{used}`"));
            }
        }
        for (word, owners) in PRIVILEGES {
            if code.contains(word) && !owners.contains(&module.as_str()) {
                wrong.push(format!("{file}: `{word}` is for {owners:?} only"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_module_is_above_one_that_it_is_used_by() {
    for (index, (module, uses)) in LAYERS.iter().enumerate() {
        for used in *uses {
            let below = LAYERS.iter().position(|(name, _)| name == used);
            assert!(
                below.is_some_and(|below| below > index),
                "{module} -> {used}"
            );
        }
    }
}

/// The fuzzer compiles some modules alone, and nobody notices when that fails until it runs.
#[test]
fn the_fuzzer_has_all_that_its_modules_stand_on() {
    let table = |file: &str| -> toml::Table { read(file).parse().unwrap() };
    let declared = |table: &toml::Table| table["dependencies"].as_table().unwrap().clone();
    let (ours, fuzzer) = (table("Cargo.toml"), table("tests/fuzz/Cargo.toml"));
    let (ours, fuzzer) = (declared(&ours), declared(&fuzzer));
    let mut missing: BTreeSet<String> = BTreeSet::new();
    for (target, top) in [("qmp.rs", "qmp"), ("definition.rs", "qemu")] {
        let text = read(format!("tests/fuzz/{target}"));
        let mut modules = vec![top];
        let mut next = 0;
        while let Some(module) = modules.get(next) {
            let (_, below) = LAYERS.iter().find(|(name, _)| name == module).unwrap();
            modules.extend(
                below
                    .iter()
                    .filter(|below| !modules.contains(below))
                    .copied()
                    .collect::<Vec<_>>(),
            );
            next += 1;
        }
        for (_, module, code) in sources() {
            if !modules.contains(&module.as_str()) {
                continue;
            }
            if !text.contains(&format!("\nmod {module};\n")) {
                missing.insert(format!("{target}: mod {module};"));
            }
            for name in ours.keys() {
                let path = format!("{}::", name.replace('-', "_"));
                let is_used = code.match_indices(&path).any(|(at, _)| {
                    !code[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':'))
                });
                if is_used && !fuzzer.contains_key(name) {
                    missing.insert(format!("Cargo.toml: {name}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "tests/fuzz lacks {missing:?}");
}

/// All of src: file, module of the first level, code without comments and tests.
fn sources() -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut dirs = vec![root().join("src")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let file = path.strip_prefix(root().join("src")).unwrap();
            if file.ends_with("tests.rs") {
                continue;
            }
            let first = Path::new(file.iter().next().unwrap());
            let module = first.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let code: Vec<&str> = text
                .lines()
                .take_while(|line| *line != "#[cfg(test)]")
                .map(|line| line.split("//").next().unwrap_or_default())
                .collect();
            found.push((file.display().to_string(), module, code.join("\n")));
        }
    }
    assert!(found.len() > 40, "src has {} files?", found.len());
    found
}

/// The modules that `crate::…` and `maqet::…` paths begin with, braces and all.
fn crate_paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for prefix in ["crate::", "maqet::"] {
        for (at, _) in code.match_indices(prefix) {
            let rest = &code[at + prefix.len()..];
            if let Some(group) = rest.strip_prefix('{') {
                let mut depth = 0;
                let mut word = String::new();
                for c in group.chars() {
                    match c {
                        '}' if depth == 0 => break,
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 0 => {
                            found.insert(first_segment(&word));
                            word.clear();
                            continue;
                        }
                        _ => {}
                    }
                    word.push(c);
                }
                found.insert(first_segment(&word));
            } else {
                found.insert(first_segment(rest));
            }
        }
    }
    found.remove("");
    found
}

fn first_segment(path: &str) -> String {
    path.trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

#[test]
fn paths_in_braces_are_seen() {
    let code = "use crate::{a::{b, c}, d};\ncrate::e::f();\nuse crate::g;";
    let found: Vec<String> = crate_paths(code).into_iter().collect();
    assert_eq!(found, ["a", "d", "e", "g"]);
}

// --- a verb has the same name everywhere ---------------------------------------

/// Commands that do nothing to a VM, and so have no operation.
const WITHOUT_OPERATION: &[&str] = &["completion", "schema"];

#[test]
fn a_verb_has_the_same_name_everywhere() {
    for verb in verbs() {
        let name = verb.get_name();
        let mut modules = vec!["src/cli"];
        if !WITHOUT_OPERATION.contains(&name) {
            modules.push("src/ops");
        }
        for module in modules {
            // A group of commands may be a folder.
            let files = [
                format!("{module}/{name}.rs"),
                format!("{module}/{name}/mod.rs"),
            ];
            assert!(
                files.iter().any(|file| root().join(file).exists()),
                "`maqet {name}` has no {}",
                files[0]
            );
        }
    }
}

#[test]
fn every_file_of_a_test_binary_is_compiled() {
    let main = read("tests/it/main.rs");
    for entry in fs::read_dir(root().join("tests/it")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if name != "main" {
            let line = format!("mod {name};");
            // `type` is a word of the language.
            let raw = format!("mod r#{name};");
            assert!(
                main.lines().any(|found| found == line || found == raw),
                "no `{line}` in tests/it/main.rs"
            );
        }
    }
}

// --- man pages -------------------------------------------------------------------

#[test]
fn man_pages_are_what_the_parser_says() {
    let mut pages = vec![(PathBuf::from("man/maqet.1"), main_page())];
    for verb in verbs() {
        add_pages(verb, &mut pages);
    }
    let update = std::env::var_os("UPDATE").is_some();
    for (file, page) in &pages {
        if update {
            fs::write(root().join(file), page).unwrap();
        }
        let now = fs::read_to_string(root().join(file)).unwrap_or_default();
        assert!(
            now == *page,
            "{} is stale: UPDATE=1 cargo test --test repository",
            file.display()
        );
    }
    for entry in fs::read_dir(root().join("man")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.strip_prefix(root()).unwrap();
        let known = pages.iter().any(|(page, _)| page == file);
        let generated = path.extension().is_some_and(|suffix| suffix == "1");
        assert!(known || !generated, "{} is of no command", file.display());
    }
}

/// maqet(1): the parser's sections, and those that no parser knows.
fn main_page() -> String {
    let man = Man::new(
        parser()
            .subcommand_help_heading("COMMANDS")
            .subcommand_value_name("COMMAND"),
    );
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    man.render_subcommands_section(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();
    tidy(page) + &read("man/maqet.1.in")
}

/// The page of a command, and of each command in its group: `maqet-device-add.1`.
fn add_pages(command: clap::Command, pages: &mut Vec<(PathBuf, String)>) {
    let file = format!("man/{}.1", command.get_display_name().unwrap());
    for inner in command.get_subcommands() {
        add_pages(inner.clone(), pages);
    }
    pages.push((file.into(), page(command)));
}

fn page(command: clap::Command) -> String {
    let is_group = command.has_subcommands();
    let command = command
        .subcommand_help_heading("COMMANDS")
        .subcommand_value_name("COMMAND");
    let man = Man::new(command).source("maqet");
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    if is_group {
        man.render_subcommands_section(&mut page).unwrap();
    }
    man.render_options_section(&mut page).unwrap();
    tidy(page) + ".SH SEE ALSO\n.BR maqet (1),\n.BR maqet.toml (5)\n"
}

/// Joins the sections, each of which comes with a preamble of its own. Without the
/// version, which would change each page with each release.
fn tidy(page: Vec<u8>) -> String {
    let page = String::from_utf8(page).unwrap();
    let preamble: String = page.split_inclusive('\n').take(2).collect();
    assert!(preamble.contains(".ds Aq"), "{preamble}");
    let page = page.replace(&preamble, "");
    let page = page.replace(concat!("maqet ", env!("CARGO_PKG_VERSION")), "maqet");
    let trimmed: Vec<&str> = page.lines().map(str::trim_end).collect();
    format!(
        ".\\\" Made by tests/repository.rs.\n{preamble}{}\n",
        trimmed.join("\n")
    )
}

#[test]
fn exit_statuses_in_the_man_page_and_the_readme_are_those_of_the_code() {
    let code = read("src/cli/error.rs");
    let constants: BTreeSet<u8> = code
        .lines()
        .filter_map(|line| line.split_once("const ")?.1.split_once(": u8 = "))
        .map(|(_, value)| value.trim_end_matches(';').parse().unwrap())
        // 0 and 2 are the standard library's and clap's.
        .chain([0, 2])
        .collect();
    assert!(constants.len() > 4, "{constants:?}");

    let man = read("man/maqet.1.in");
    let section = man.split(".SH ").find(|s| s.starts_with("EXIT STATUS"));
    let lines: Vec<&str> = section.unwrap().lines().collect();
    let in_man: BTreeSet<u8> = lines
        .windows(2)
        .filter(|pair| pair[0] == ".TP")
        .map(|pair| pair[1].parse().unwrap())
        .collect();
    assert_eq!(in_man, constants);

    let in_readme: BTreeSet<u8> = read("README.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(in_readme, constants);
}

// --- README ------------------------------------------------------------------------

#[test]
fn every_maqet_command_in_the_documentation_can_be_typed() {
    let mut seen = 0;
    for file in ["README.md", "man/maqet.1.in", "man/maqet.toml.5"] {
        let text = read(file).replace("\\-", "-");
        for line in text.lines() {
            let Some(line) = line.trim_start().strip_prefix("$ maqet") else {
                continue;
            };
            let words = words(&format!("maqet{line}"));
            if let Err(error) = maqet::cli::command().try_get_matches_from(&words) {
                panic!("{file}: $ {}\n{error}", words.join(" "));
            }
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} commands found");
}

#[test]
fn the_readme_begins_with_the_demo_and_then_the_tests() {
    let readme = read("README.md");
    let commands: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("$ "))
        .filter(|line| !line.starts_with("maqet ") && line.starts_with("make"))
        .map(|line| line.split(" #").next().unwrap_or_default().trim_end())
        .collect();
    assert_eq!(commands[..2], ["make demo", "make test"]);
    assert!(
        readme.find("make demo") < readme.find("$ maqet"),
        "the demo comes first"
    );
}

/// A line as a shell splits it, up to a comment or a pipe. Knows single quotes only.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quoted) = (None::<String>, false);
    for c in line.chars().chain([' ']) {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => {
                if let Some(word) = word.take() {
                    words.push(word);
                }
            }
            '#' | '|' if !quoted && word.is_none() => break,
            c => word.get_or_insert_default().push(c),
        }
    }
    words
}
