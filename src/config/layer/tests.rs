use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::config::{Defaults, VmConfig, render};

/// Files in a directory of their own, and what is made of some of them.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(dir)
    }

    fn load(&self, names: &[&str]) -> Result<Layers, Error> {
        let texts = names.iter().map(|name| {
            let path = self.0.path().join(name);
            let text = fs::read_to_string(&path).unwrap();
            Layer::file(&path, text)
        });
        Layers::load(texts.collect(), &self.0.path().join("templates"))
    }

    fn config(&self, names: &[&str]) -> VmConfig {
        let layers = self.load(names).unwrap_or_else(|error| panic!("{error}"));
        let config = layers.check(&Defaults::default(), |_| Vec::new());
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        let text = layers.resolve().unwrap();
        let again = VmConfig::parse(&text, Path::new("/else/where.toml"));
        assert_eq!(
            format!("{:?}", again.unwrap()),
            format!("{config:?}"),
            "{text}"
        );
        config
    }

    /// What is wrong, with short paths.
    fn mistakes(&self, names: &[&str]) -> String {
        let result = self
            .load(names)
            .and_then(|layers| layers.check(&Defaults::default(), |_| Vec::new()));
        self.short(&result.unwrap_err().to_string())
    }

    fn short(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

#[test]
fn tables_are_merged_lists_are_added_to_and_of_values_the_last_wins() {
    let files = Files::new(&[
        (
            "base.toml",
            "memory = \"1G\"\ncpus = 2\nafter = [\"db\"]\n[disk.root]\nsize = \"1G\"\n[net.lan]\nforward = [\"2222:22\"]\n[qemu]\nargs = [\"-S\"]\n",
        ),
        (
            "web.toml",
            "memory = \"2G\"\nafter = [\"mq\"]\n[disk.data]\nsize = \"2G\"\n[disk.root]\ninterface = \"scsi\"\n[net.lan]\nforward = [\"8080:80\"]\n[qemu]\nargs = [\"-usb\"]\n",
        ),
    ]);
    let config = files.config(&["base.toml", "web.toml"]);
    assert_eq!(config.name.as_str(), "web", "after the last file");
    assert_eq!(
        (config.memory.size.to_string().as_str(), config.cpus),
        ("2G", 2)
    );
    let names: Vec<&str> = config.after.iter().map(|name| name.as_str()).collect();
    assert_eq!(names, ["db", "mq"]);
    assert_eq!(config.qemu.args, ["-S", "-usb"]);
    let disks: Vec<&str> = config.disks.keys().map(|name| name.as_str()).collect();
    assert_eq!(disks, ["root", "data"]);
    assert_eq!(config.disks["root"].size.unwrap().to_string(), "1G");
    assert_eq!(
        config.disks["root"].interface,
        crate::config::Interface::Scsi
    );
    assert_eq!(config.nets["lan"].forward.len(), 2);
}

#[test]
fn what_is_extended_is_below_and_found_from_the_file_that_says_it() {
    let files = Files::new(&[
        (
            "a/web.toml",
            "extends = \"../b/base.toml\"\nkernel = \"k\"\n",
        ),
        (
            "b/base.toml",
            "extends = [\"c/one.toml\", \"template:mine\"]\nname = \"base\"\ninitrd = \"i\"\ncpus = 2\n",
        ),
        (
            "b/c/one.toml",
            "cpus = 3\nmemory = \"3G\"\ndisk.root.file = \"r.raw\"\n",
        ),
        ("templates/mine.toml", "cpus = 4\nmemory = \"4G\"\n"),
    ]);
    let config = files.config(&["a/web.toml"]);
    assert_eq!(config.name.as_str(), "web", "a base does not name it");
    assert_eq!(
        (config.cpus, config.memory.size.to_string().as_str()),
        (2, "4G")
    );
    let dir = files.0.path();
    assert_eq!(config.kernel.unwrap(), dir.join("a/k"));
    assert_eq!(config.initrd.unwrap(), dir.join("a/../b/i"));
    let disk = config.disks["root"].file.clone();
    assert_eq!(disk.unwrap(), dir.join("a/../b/c/r.raw"));
}

#[test]
fn a_text_counts_once_at_its_first_place() {
    let files = Files::new(&[
        ("base.toml", "cpus = 1\nqemu.args = [\"-S\"]\n"),
        ("one.toml", "extends = \"base.toml\"\ncpus = 2\n"),
        ("two.toml", "extends = \"./base.toml\"\n"),
    ]);
    let config = files.config(&["one.toml", "two.toml"]);
    assert_eq!((config.cpus, config.qemu.args.len()), (2, 1));
}

#[test]
fn a_key_is_taken_away_before_the_file_that_says_so() {
    let files = Files::new(&[
        (
            "base.toml",
            "cpus = 2\n[net.lan]\nforward = [\"1:1\"]\n[disk.a]\nsize = \"1G\"\n[disk.b]\nsize = \"1G\"\n[unit]\nNice = 1\n",
        ),
        (
            "web.toml",
            "unset = [\"net.lan.forward\", \"disk.a\", \"unit.Nice\", \"cpus\"]\n[net.lan]\nforward = [\"2:2\"]\n",
        ),
    ]);
    let config = files.config(&["base.toml", "web.toml"]);
    assert_eq!(config.cpus, 1);
    assert_eq!(config.nets["lan"].forward.len(), 1);
    assert_eq!(config.disks.len(), 1);
    assert!(config.unit.is_empty());
    let files = Files::new(&[("a.toml", "cpus = 2\n"), ("b.toml", "unset = \"cpu\"\n")]);
    insta::assert_snapshot!(files.mistakes(&["a.toml", "b.toml"]), @r#"
    b.toml:1:9: nothing before this says `cpu`, did you mean `cpus`?
      1 | unset = "cpu"
        |         ^^^^^
    "#);
}

#[test]
fn a_mistake_is_told_where_it_is_written() {
    let files = Files::new(&[
        (
            "base.toml",
            "# base\nmemory = \"1.5K\"\n[disk.root]\nfile = \"$NOPE/a\"\n[net.lan]\nforward = [\"80:80\"]\n",
        ),
        (
            "web.toml",
            "extends = \"base.toml\"\ncpus = \"x\"\nmemroy = 1\n[disk.root]\ninterfac = \"scsi\"\n",
        ),
        (
            "more.yaml",
            "disk:\n  root: { interface: sata, read-only: true }\nnet:\n  wan: { forward: [\"0.0.0.0:80:81\"] }\n",
        ),
    ]);
    insta::assert_snapshot!(files.mistakes(&["web.toml"]), @r#"
    web.toml:2:8: invalid type: string "x", expected a whole number from 0 to 4294967295
      2 | cpus = "x"
        |        ^^^
    web.toml:3:1: unknown key `memroy`, did you mean `memory`?
      3 | memroy = 1
        | ^^^^^^
    web.toml:5:1: unknown key `interfac`, did you mean `interface`?
      5 | interfac = "scsi"
        | ^^^^^^^^
    "#);
    insta::assert_snapshot!(files.mistakes(&["base.toml", "more.yaml"]), @r#"
    base.toml:2:10: memory is a whole number of mebibytes, such as "512M"
      2 | memory = "1.5K"
        |          ^^^^^^
    base.toml:4:8: the environment variable `NOPE` is not set
      4 | file = "$NOPE/a"
        |        ^^^^^^^^^
    more.yaml:2:39: a SATA disk cannot be read-only: use another interface
      2 |   root: { interface: sata, read-only: true }
        |                                       ^^^^
    more.yaml:4:20: `net.lan.forward` has port 80 of the host already
      4 |   wan: { forward: ["0.0.0.0:80:81"] }
        |                    ^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn what_cannot_be_extended_is_told_where_it_is_named() {
    let files = Files::new(&[
        ("a.toml", "extends = \"b.toml\"\n"),
        ("b.toml", "extends = [\"c.toml\"]\n"),
        ("c.toml", "extends = \"./a.toml\"\n"),
        ("itself.toml", "extends = \"itself.toml\"\n"),
        (
            "none.toml",
            "extends = [\"gone.toml\", \"template:linus\", 1]\n",
        ),
        ("broken.toml", "extends = \"bad.toml\"\n"),
        ("bad.toml", "cpus = \n"),
    ]);
    for (file, parts) in [
        (
            "a.toml",
            &[
                "c.toml:1:11: this is a circle: `",
                "a.toml` extends `",
                "b.toml` extends `",
            ][..],
        ),
        (
            "itself.toml",
            &["itself.toml:1:11: `", "itself.toml` extends itself"],
        ),
        (
            "none.toml",
            &[
                "none.toml:1:12: cannot read gone.toml: No such file",
                "none.toml:1:25: there is no template `linus`, did you mean `linux`?",
                "none.toml:1:43: expected a text in quotes, or a list of them",
            ],
        ),
        ("broken.toml", &["bad.toml:1:"]),
    ] {
        let said = files.mistakes(&[file]);
        for part in parts {
            assert!(said.contains(part), "{file}: {said}");
        }
    }
}

#[test]
fn the_one_text_keeps_comments_and_places() {
    let files = Files::new(&[
        (
            "base.toml",
            "# all of ours\nmemory = \"1G\" # small\n\n# the system\n[disk.root]\nfile = \"root.raw\"\n",
        ),
        (
            "web.toml",
            "# the web\nextends = \"base.toml\"\nmemory = \"2G\"\n\n# its data\n[disk.data]\nsize = \"2G\" # enough\n",
        ),
    ]);
    let layers = files.load(&["web.toml"]).unwrap();
    insta::assert_snapshot!(files.short(&layers.resolve().unwrap()), @r##"
    # the web
    # all of ours
    memory = "2G" # small
    name = "web"

    # the system
    [disk.root]
    file = "root.raw"

    # its data
    [disk.data]
    size = "2G" # enough
    "##);
}

#[test]
fn each_value_says_where_it_is_from() {
    let files = Files::new(&[
        (
            "base.toml",
            "memory = \"1G\"\n[disk.root]\nfile = \"root.raw\"\n",
        ),
        (
            "web.toml",
            "extends = \"base.toml\"\n[stop]\ntimeout = \"90s\"\n",
        ),
    ]);
    let mut layers = files.load(&["web.toml"]).unwrap();
    layers.push(Layer::option(
        "--cpus 4".to_owned(),
        "cpus = 4\n".to_owned(),
        Path::new("/"),
    ));
    let config = files.0.path().join("config.toml");
    let defaults = Defaults::parse("[defaults]\n\naccel = \"tcg\"\n", &config).unwrap();
    let all = layers.explain(&defaults).unwrap();
    let text = files.short(&render(&all));
    for line in [
        "memory = \"1G\"  # base.toml:1",
        "cpus = 4  # --cpus 4",
        "accel = \"tcg\"  # config.toml:3",
        "machine = \"q35\"  # default",
        "name = \"web\"  # the file's name",
        "timeout = \"90s\"  # web.toml:3",
        "action = \"powerdown\"  # default",
        "file = \"/root.raw\"  # base.toml:3",
        "format = \"raw\"  # default",
        "binary = \"qemu-system-x86_64\"  # default",
    ] {
        let dir = files.0.path().display().to_string();
        let squeezed: Vec<String> = text
            .replace(&dir, "")
            .lines()
            .map(|line| line.replace("\"root.raw\"", "\"/root.raw\""))
            .map(|line| {
                line.split("  #")
                    .map(str::trim)
                    .collect::<Vec<_>>()
                    .join("  # ")
            })
            .collect();
        assert!(squeezed.iter().any(|it| it == line), "{line}\n{text}");
    }
    // It is a definition by itself, and means the same.
    let mut again = VmConfig::parse(&render(&all), Path::new("/x.toml")).unwrap();
    for disk in again.disks.values_mut() {
        disk.is_format_said = false;
    }
    let config = layers.check(&defaults, |_| Vec::new()).unwrap();
    assert_eq!(format!("{again:?}"), format!("{config:?}"));
}

#[test]
fn defaults_are_below_all_and_keep_their_lines() {
    let file = Path::new("/config/config.toml");
    let defaults = Defaults::parse(
        "[defaults]\nmemory = \"2G\"\nkernel = \"k\"\nstop.timeout = \"5s\"\nnet.lan = {}\nlabels = { a = \"b\" }\n[defaults.unit]\nNice = 5\n",
        file,
    )
    .unwrap();
    let with = |text: &str| VmConfig::parse_with(text, Path::new("/web.toml"), &defaults);
    let config = with("stop.action = \"kill\"\nunit.MemoryMax = \"8G\"").unwrap();
    assert_eq!(config.kernel.unwrap(), PathBuf::from("/config/k"));
    assert_eq!(config.stop.timeout.duration().as_secs(), 5);
    assert_eq!(config.unit.len(), 2);
    assert!(config.nets.contains_key("lan"));
    let config = with("[net.wan]\n[stop]\ntimeout = \"9s\"").unwrap();
    assert_eq!(
        config.nets.keys().next().unwrap().as_str(),
        "wan",
        "named: all or none"
    );
    assert_eq!(config.nets.len(), 1);
    assert_eq!(config.stop.timeout.duration().as_secs(), 9);

    let bad = |text: &str| Defaults::parse(text, file).unwrap_err().to_string();
    for (text, said) in [
        (
            "[defaults]\nname = \"x\"",
            "config.toml:2:1: `name` is for definitions",
        ),
        (
            "[defaults]\nextends = \"x\"",
            "config.toml:2:1: `extends` is for definitions",
        ),
        (
            "[defaults]\n\ncpus = 0",
            "config.toml:3:8: a VM has 1 to 1024 CPUs",
        ),
        (
            "[defaults]\nstop.timeout = 5",
            "config.toml:2:16: `5` has no unit",
        ),
        ("defaults = 1", "config.toml:1:12: "),
        ("[other]", "config.toml:1:2: unknown key `other`"),
    ] {
        assert!(bad(text).contains(said), "{text}: {}", bad(text));
    }
    // What they and a definition make wrong together is told where it is written.
    let defaults = Defaults::parse("[defaults]\nvga = \"std\"", file).unwrap();
    let error = VmConfig::parse_with("machine = \"microvm\"", Path::new("/web.toml"), &defaults);
    let said = error.unwrap_err().to_string();
    assert!(
        said.starts_with("/config/config.toml:2:7: machine `microvm`"),
        "{said}"
    );
}

#[test]
fn the_tables_with_names_are_those_of_the_schema() {
    let schema = crate::config::schema();
    let keys = schema["properties"].as_object().unwrap().iter();
    let named = keys.filter(|(_, value)| {
        let names = value["patternProperties"].as_object();
        names.is_some_and(|names| names.contains_key("^[A-Za-z][A-Za-z0-9_-]{0,19}$"))
    });
    let named: Vec<&str> = named.map(|(key, _)| key.as_str()).collect();
    assert_eq!(named, crate::config::merge::NAMED);
}

/// Parts of definitions in several styles, so that each can meet each.
const PARTS: &[&str] = &[
    "memory = \"2G\" # much",
    "# first\ncpus = 2",
    "after = [\"a\", # one\n  \"b\"]",
    "after = [\"c\"]",
    "disk.root.size = \"1G\"",
    "[disk.root]\nsize = \"2G\" # grown",
    "[disk.data]\nsize = \"1G\"\ninterface = \"scsi\"",
    "disk = { root = { interface = \"nvme\" }, more = { size = \"1G\" } }",
    "[net]\nlan = { forward = [\"1:1\"] }",
    "[net.lan]\nmodel = \"e1000\"",
    "net = {}",
    "[unit]\nNice = 1\nMemoryMax = \"9G\"",
    "unit.After = [\"x.service\"]",
    "labels.\"a b\" = \"c\"",
    "[stop]\ntimeout = \"9s\"",
    "stop = { action = \"kill\" }",
    "qemu.args = [\"-S\"]",
    "[qemu]\nargs = [\"-usb\"]",
    "kernel = \"k $$ y\"",
    "[device.tab]\ndriver = \"usb-tablet\"",
];

const UNSETS: &[&str] = &[
    "memory",
    "disk.root",
    "disk.root.size",
    "net",
    "net.lan.forward",
    "unit.Nice",
    "qemu",
];

/// A text of parts, values before tables as TOML has it; `None` if they do not go together.
fn text(parts: &[usize]) -> Option<String> {
    let parts = parts.iter().map(|part| PARTS[*part]);
    let (tables, values): (Vec<&str>, Vec<&str>) = parts.partition(|part| part.starts_with('['));
    let parts = values.into_iter().chain(tables);
    let text: String = parts.map(|part| format!("{part}\n")).collect();
    let is_toml = Source::parse(&text, Path::new("x.toml")).is_ok();
    is_toml.then_some(text)
}

/// Whether the one text of several has their layout; it must mean what they do.
fn is_laid_out(texts: &[String]) -> Option<bool> {
    let texts = texts.iter().enumerate();
    let files =
        texts.map(|(i, text)| Layer::file(&PathBuf::from(format!("/f{i}.toml")), text.clone()));
    let layers = Layers::load(files.collect(), Path::new("/none")).unwrap();
    let config = layers.check(&Defaults::default(), |_| Vec::new()).ok()?;
    let (text, is_laid_out) = layers.resolve_as().unwrap();
    let again = VmConfig::parse(&text, &layers.file).unwrap();
    assert_eq!(format!("{again:?}"), format!("{config:?}"));
    Some(is_laid_out)
}

#[test]
fn the_one_text_keeps_the_layout_of_any_two() {
    let mut seen = 0;
    for below in 0..PARTS.len() {
        for above in 0..PARTS.len() {
            let texts: Vec<String> = [below, above]
                .into_iter()
                .filter_map(|at| text(&[at]))
                .collect();
            let is_laid_out = is_laid_out(&texts);
            assert_ne!(is_laid_out, Some(false), "{texts:#?}");
            seen += usize::from(is_laid_out.is_some());
        }
    }
    assert!(seen > 100, "{seen}");
}

proptest! {
    #[test]
    fn the_one_text_means_what_the_several_do(
        files in prop::collection::vec(prop::collection::vec(0..PARTS.len(), 0..5), 1..4),
        unset in prop::collection::vec(0..UNSETS.len(), 0..2),
    ) {
        let mut texts: Vec<String> = files.iter().filter_map(|parts| text(parts)).collect();
        if let Some(last) = texts.last_mut() {
            let unset: Vec<&str> = unset.iter().map(|at| UNSETS[*at]).collect();
            *last = format!("unset = {unset:?}\n{last}");
        }
        is_laid_out(&texts);
    }
}
