//! Definitions that nobody wrote, from what the golden ones say.
//!
//! Each key with each value that it has in `tests/argv` is put together with others
//! at random, so that a new key is in here as soon as it has a golden folder.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use toml::{Table, Value};

/// What is not recombined: QEMU's own words, which may be anything and may not fit the
/// machine, and what there is once on a host, where tests run side by side.
const LEFT_OUT: [&str; 8] = [
    "name", "extends", "qemu", "device", "model", "forward", "usb-host", "pci",
];

/// A number from the environment.
pub fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {value}")),
    )
}

/// The same numbers each time (xorshift64*), so that what fails fails again.
pub struct Random(u64);

impl Random {
    /// `MAQET_TEST_SEED` is another beginning.
    pub fn new() -> Self {
        Self(number("MAQET_TEST_SEED").unwrap_or(0) ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// Those of the definition with this number.
    pub fn nth(number: u32) -> Self {
        let mut random = Self::new();
        random.0 ^= u64::from(number).wrapping_mul(0xd129_0d3d_a45c_5e63);
        // So that what comes first is not nearly the same each time.
        (0..8).for_each(|_| _ = random.below(1));
        random
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        high as usize % limit.max(1)
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    fn name(&mut self) -> String {
        let rest = (0..self.below(8))
            .map(|_| b"abz09_-"[self.below(7)] as char)
            .collect::<String>();
        format!("{}{rest}", ["d", "Q", "x"][self.below(3)])
    }

    /// A text that is meant as it stands, whatever it looks like.
    fn text(&mut self) -> String {
        let pieces = [
            ",",
            ",,",
            "=",
            "\n",
            "%n",
            "$HOME",
            "-S",
            "é",
            "\"",
            "'",
            " ",
            "\\",
            "on",
            "\u{1f600}",
            "#",
            "${",
            "\t",
        ];
        (0..self.below(6)).map(|_| self.pick(&pieces)).collect()
    }
}

/// What the golden definitions say.
pub struct Pool {
    tables: Vec<Table>,
    texts: Vec<String>,
}

impl Pool {
    pub fn new() -> Self {
        let mut tables = Vec::new();
        let mut texts = Vec::new();
        let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/argv");
        let mut goldens: Vec<_> = fs::read_dir(goldens)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        goldens.sort();
        for golden in goldens {
            for name in ["definition.toml", "definition.yaml"] {
                let Ok(text) = fs::read_to_string(golden.join(name)) else {
                    continue;
                };
                if name.ends_with("toml") {
                    let table: Table = text.parse().unwrap();
                    // JSON is YAML.
                    texts.push(serde_json::to_string_pretty(&table).unwrap());
                    tables.push(without_left_out(table));
                }
                texts.push(text);
            }
        }
        Self { tables, texts }
    }

    /// A definition that may be valid.
    pub fn definition(&self, random: &mut Random) -> Table {
        let mut definition = Table::new();
        let mut keys: Vec<&String> = self.tables.iter().flat_map(|table| table.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            if !random.one_in(3) {
                continue;
            }
            // A machine without anything is for definitions that say so throughout.
            let is_none = |value: &&Value| value.as_str() == Some("none") && key == "machine";
            let said: Vec<&Value> = self
                .tables
                .iter()
                .filter_map(|table| table.get(key))
                .filter(|value| !is_none(value))
                .collect();
            definition.insert(key.clone(), mixed(random, &said));
        }
        definition.insert("name".to_owned(), random.name().into());
        if definition.contains_key("append") {
            definition.insert("append".to_owned(), random.text().into());
        }
        definition
    }

    /// A golden text with some things wrong.
    pub fn mutated(&self, random: &mut Random) -> String {
        let tokens = [
            "=",
            "[",
            "]",
            "{",
            "}",
            "\"",
            "'",
            "'''",
            "\\u0000",
            "%n",
            "$HOME",
            "~",
            ",,",
            "é",
            "\0",
            "-1",
            "1e400",
            "nan",
            "&a ",
            "*a",
            "!!str ",
            "? ",
            "---\n",
            "\t",
            "99999999999999999999",
            "[disk.root]\n",
            "disk.root.",
            ".",
            ": ",
            "- ",
            "#",
            "\r",
            "\n",
            "0x",
            "true",
            "null",
            "\u{feff}",
            "[[",
            "name = \"a\"\n",
            "|\n",
        ];
        let mut text = self.texts[random.below(self.texts.len())].clone();
        for _ in 0..1 + random.below(4) {
            let at = floor(&text, random.below(text.len() + 1));
            let end = floor(&text, at + random.below(20));
            match random.below(6) {
                0 => text.replace_range(at..end, ""),
                1 => text.insert_str(at, random.pick(&tokens)),
                2 => text.replace_range(at..end, random.pick(&tokens)),
                3 => text.truncate(at),
                4 => {
                    // A line of another one.
                    let other = &self.texts[random.below(self.texts.len())];
                    let lines: Vec<&str> = other.lines().collect();
                    let line = lines
                        .get(random.below(lines.len()))
                        .copied()
                        .unwrap_or_default();
                    let start = text[..at].rfind('\n').map_or(0, |at| at + 1);
                    text.insert_str(start, &format!("{line}\n"));
                }
                _ => {
                    let copy = text[at..end].to_owned();
                    text.insert_str(end, &copy);
                }
            }
        }
        text
    }
}

/// The character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// What is to be recombined of a table.
fn without_left_out(table: Table) -> Table {
    // An address that is listened on is there once, too; a multicast one is for many.
    let is_address = |value: &Value| {
        let address = value.as_str().and_then(|text| text.parse().ok());
        address.is_some_and(|address: SocketAddr| !address.ip().is_multicast())
    };
    let kept = table.into_iter();
    let kept = kept.filter(|(key, value)| !LEFT_OUT.contains(&&**key) && !is_address(value));
    kept.map(|(key, value)| match value {
        Value::Table(inner) => (key, Value::Table(without_left_out(inner))),
        other => (key, other),
    })
    .collect()
}

/// One value of what several say: of tables, some keys of each.
fn mixed(random: &mut Random, said: &[&Value]) -> Value {
    let one = random.pick(said);
    let tables: Vec<&Table> = said.iter().filter_map(|value| value.as_table()).collect();
    let Value::Table(one) = one else {
        return one.clone();
    };
    let is_named = !one.is_empty() && one.values().all(Value::is_table);
    let mut mixture = Table::new();
    if is_named {
        let entries: Vec<&Value> = tables
            .iter()
            .flat_map(|table| table.values())
            .filter(|value| value.is_table())
            .collect();
        for _ in 0..random.below(4) {
            mixture.insert(random.name(), mixed(random, &entries));
        }
        return Value::Table(mixture);
    }
    for (key, value) in one {
        if !random.one_in(4) {
            mixture.insert(key.clone(), value.clone());
        }
    }
    // And something of another one.
    let other = random.pick(&tables);
    for (key, value) in other {
        if random.one_in(4) {
            mixture.insert(key.clone(), value.clone());
        }
    }
    Value::Table(mixture)
}
