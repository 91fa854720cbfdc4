//! The definition as a JSON Schema, for editors.
//!
//! Derived from the types that the parser reads into, so that it cannot lag
//! behind them. What follows from several keys together, and what only the host
//! knows, is not in it.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::layer::{EXTENDS, UNSET};
use super::{Size, TimeSpan, VmConfig};

/// Gives a type that is written as text its schema: a pattern (ECMA 262), and examples.
///
/// `unit = size` or `unit = time` is for types whose defaults are shown as text.
macro_rules! text_schema {
    ($type:ident, $pattern:expr, [$($example:literal),+] $(, unit = $unit:ident)?) => {
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "pattern": $pattern,
                    "examples": [$($example),+],
                    $("x-unit": stringify!($unit),)?
                })
            }
        }
    };
}
pub(super) use text_schema;

/// A port, 1 to 65535, in a pattern; as lenient as Rust's own parser.
macro_rules! port_pattern {
    () => {
        r"\+?0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
    };
}
pub(super) use port_pattern;

mod names {
    use crate::vm::{GroupName, VmName};

    text_schema!(VmName, "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$", ["web"]);
    text_schema!(GroupName, "^[A-Za-z0-9][A-Za-z0-9_]{0,62}$", ["ci"]);
}

/// The JSON Schema (draft 2020-12) of a definition's file.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize();
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<VmConfig>()
        .to_value();
    tidy(&mut schema);
    schema["title"] = "maqet definition".into();
    schema["description"] = "A virtual machine, see maqet.toml(5).".into();
    if let Some(keys) = schema.as_object_mut() {
        // A file without a name has its own.
        keys.remove("required");
    }
    // These say what it is made of, and are gone when it is.
    schema["properties"][EXTENDS] = texts(
        "Definitions that this one begins with: files, or a template as in `template:linux`.",
        "base.toml",
    );
    schema["properties"][UNSET] = texts(
        "Keys of them that do not hold, as dotted paths.",
        "net.net0.forward",
    );
    schema
}

/// One text or a list of them.
fn texts(description: &str, example: &str) -> Value {
    let text = json!({"type": "string", "minLength": 1, "examples": [example]});
    json!({"description": description, "anyOf": [text, {"type": "array", "items": text}]})
}

/// Takes out what TOML does not have, and puts defaults as they are written.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(keys) => {
            without_null(keys);
            with_written_default(keys);
            keys.values_mut().for_each(tidy);
        }
        _ => {}
    }
}

/// A key that can be left out is no key that can be null.
fn without_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|word| word != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(options)) = schema.get_mut("anyOf") {
        options.retain(|option| *option != json!({"type": "null"}));
        if let [Value::Object(only)] = options.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            for (key, value) in only {
                schema.entry(key).or_insert(value);
            }
        }
    }
}

fn with_written_default(schema: &mut Map<String, Value>) {
    let unit = schema.remove("x-unit");
    let default = schema.get("default").cloned();
    let written = match (unit.as_ref().and_then(Value::as_str), &default) {
        (Some("size"), Some(Value::Number(bytes))) => {
            bytes.as_u64().map(|n| Size::from_bytes(n).to_string())
        }
        (Some("time"), Some(Value::Number(seconds))) => {
            seconds.as_u64().map(|n| TimeSpan::from_secs(n).to_string())
        }
        // A table's default is that of its keys.
        (_, Some(Value::Null | Value::Object(_))) => {
            schema.remove("default");
            None
        }
        _ => None,
    };
    if let Some(written) = written {
        schema.insert("default".to_owned(), written.into());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::super::source::Source;
    use super::*;

    /// What the parser refuses in a value of its own, and no pattern can say.
    const BEYOND: &[&str] = &[
        "is not a regular expression",
        "is not a whole number of bytes below 2^64",
        "is not a time span",
    ];

    /// One key: where it is, and what the schema says of its value.
    struct Key {
        path: Vec<String>,
        schema: Value,
    }

    /// The keys of all tables; where a table has any names, `a` is one.
    fn keys() -> Vec<Key> {
        let root = schema();
        let mut found = Vec::new();
        walk(&root, &root, &[], &mut found);
        assert!(found.len() > 40, "{}", found.len());
        found
    }

    fn walk<'a>(root: &'a Value, table: &'a Value, path: &[String], found: &mut Vec<Key>) {
        let named = |words: &str| table[words].as_object().into_iter().flatten();
        let any = named("patternProperties").map(|(_, value)| ("a".to_owned(), value));
        let free = table
            .get("additionalProperties")
            .filter(|it| it.is_object());
        let free = free.map(|value| ("a".to_owned(), value));
        let properties = named("properties").map(|(key, value)| (key.clone(), value));
        // Not of the parser: of what gives it a text.
        let properties = properties.filter(|(key, _)| key != EXTENDS && key != UNSET);
        for (key, value) in properties.chain(any).chain(free) {
            let path: Vec<String> = path.iter().cloned().chain([key]).collect();
            let target = |value: &'a Value| match value["$ref"].as_str() {
                Some(reference) => root.pointer(&reference[1..]).unwrap(),
                None => value,
            };
            // Of a table at the top and its short form, the table.
            let forms = value["anyOf"].as_array().filter(|_| path.len() == 1);
            let mut tables = forms.into_iter().flatten().map(target);
            let table = tables.find(|form| form["properties"].is_object());
            let inner = table.unwrap_or_else(|| target(value));
            walk(root, inner, &path, found);
            found.push(Key {
                path,
                schema: inner.clone(),
            });
        }
    }

    /// Values right and wrong for one key or another, with all that the schema itself names.
    fn values() -> Vec<Value> {
        let mut values = vec![
            json!(true),
            json!(0),
            json!(1),
            json!(-1),
            json!(1024),
            json!(1025),
            json!(1.5),
            json!(i64::MAX),
            json!([]),
            json!({}),
            json!([[]]),
            json!([1]),
            json!([true]),
            json!([{}]),
            json!({"a": 1}),
            json!({"address": "0000:01:00.0"}),
            json!({"a": "a"}),
            json!({"a": {}}),
            json!({"driver": "a"}),
            json!({"type": "serial"}),
            json!({"size": "1G"}),
            json!({"a": {"driver": "a"}}),
            json!({"a": {"size": "1G"}}),
            json!({"a": [1]}),
            json!({"0a": {}}),
            json!({"a b": "c"}),
        ];
        for text in [
            "",
            "a",
            "a b",
            "a,b",
            "a.b",
            "a-b",
            "a_b",
            "-a",
            // Not at the end: there Python's `$` matches, too.
            "a\nb",
            "a\u{7f}b",
            "é",
            "/a",
            "~/a",
            "a=b",
            "+a",
            "+a,b",
            "a=",
            "-a=b",
            "disk.a",
            "disk.0",
            "net.disk.a",
            "0",
            "1",
            "01",
            "1.5",
            "1G",
            "1.5G",
            "1.G",
            ".5G",
            "1 G",
            "1GB",
            "1GiB",
            "1b",
            "1BiB",
            "99999P",
            "0.3B",
            "1e3G",
            "1s",
            "1m1s",
            "1s1m",
            "1m1m",
            "1S",
            "1d2h3m4s",
            "1w",
            "s",
            "99999999999999999999s",
            "on",
            "off",
            "true",
            "tcp:22",
            "tcp:0",
            "tcp:65535",
            "tcp:65536",
            "tcp:",
            "console:/a/",
            "console:/(/",
            "console:a",
            "console://",
            "22:22",
            "22:22:22",
            "udp:22:22",
            "sctp:22:22",
            "22",
            "0:22",
            "22:0",
            "022:22",
            "+22:22",
            "65536:22",
            "22:65536",
            "0.0.0.0:22:22",
            "[0.0.0.0]:22:22",
            "::1:22:22",
            "[::1]:22:22",
            "256.0.0.0:22:22",
            "0.0.0:22:22",
            "52:54:00:12:34:56",
            "52:54:00:AB:cd:ef",
            "53:54:00:12:34:56",
            "00:00:00:00:00:00",
            "52:54:00:12:34",
            "52-54-00-12-34-56",
            "52:54:00:12:34:5g",
            "aaaaaaaaaaaaaaaaaaaa",
            "aaaaaaaaaaaaaaaaaaaaa",
        ] {
            values.push(json!(text));
            values.push(json!([text]));
        }
        values.push(json!("a".repeat(63)));
        values.push(json!("a".repeat(64)));
        let mut named = Vec::new();
        collect(&schema(), &mut named);
        values.extend(named);
        values
    }

    fn collect(schema: &Value, found: &mut Vec<Value>) {
        match schema {
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            Value::Object(keys) => {
                for value in [keys.get("const"), keys.get("default")]
                    .into_iter()
                    .flatten()
                {
                    found.push(value.clone());
                }
                let lists = ["examples", "enum"]
                    .iter()
                    .filter_map(|word| keys.get(*word));
                for value in lists.filter_map(Value::as_array).flatten() {
                    found.push(value.clone());
                    found.push(json!([value]));
                }
                keys.values().for_each(|value| collect(value, found));
            }
            _ => {}
        }
    }

    fn put(document: &mut Value, path: &[String], value: Value) {
        let mut table = document;
        for word in path {
            if !table.is_object() {
                *table = json!({});
            }
            table = &mut table[word];
        }
        *table = value;
    }

    /// What another's validator says of each document.
    fn judge(documents: &[Value]) -> Vec<bool> {
        const JUDGE: &str = "import json, sys\n\
            from jsonschema import Draft202012Validator as Validator\n\
            schema, documents = json.load(sys.stdin)\n\
            Validator.check_schema(schema)\n\
            validator = Validator(schema)\n\
            print(json.dumps([validator.is_valid(it) for it in documents]))\n";
        let mut python = Command::new("python3")
            .args(["-c", JUDGE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let question = json!([schema(), documents]).to_string();
        let mut stdin = python.stdin.take().unwrap();
        stdin.write_all(question.as_bytes()).unwrap();
        drop(stdin);
        let output = python.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "python3-jsonschema: tests/host/install"
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Asserts that the schema and the parser agree; what the schema says of each document.
    fn agree(documents: &[Value]) -> Vec<bool> {
        let judged = judge(documents);
        for (&fits, document) in judged.iter().zip(documents) {
            let text = toml::to_string(document).unwrap();
            let file = Path::new("/web.toml");
            let taken = VmConfig::parse(&text, file).is_ok();
            assert!(
                fits || !taken,
                "the parser takes, the schema does not:\n{text}"
            );
            let read = Source::parse(&text, file).and_then(|mut source| {
                if !source.says("name") {
                    source.add("name", "web");
                }
                let config = source.read::<VmConfig>(&mut Vec::new())?;
                source.check(source.lists_for_tables(&config))
            });
            if let Err(error) = read {
                let said = error.to_string();
                let beyond = BEYOND.iter().any(|words| said.contains(words));
                assert!(
                    !fits || beyond,
                    "the schema takes, the parser does not:\n{said}"
                );
            }
        }
        judged
    }

    #[test]
    fn it_agrees_with_the_parser_about_each_value_of_each_key() {
        let (keys, values) = (keys(), values());
        let mut documents = Vec::new();
        for key in &keys {
            for value in &values {
                let mut document = json!({});
                // What a table of theirs cannot be without.
                for (table, needed, value) in
                    [("device", "driver", "a"), ("port", "type", "virtio-port")]
                {
                    if key.path.len() > 2 && key.path[0] == table {
                        let needed = [table, "a", needed].map(str::to_owned);
                        put(&mut document, &needed, json!(value));
                    }
                }
                put(&mut document, &key.path, value.clone());
                documents.push(document);
            }
        }
        let fit = agree(&documents);
        for (key, fit) in keys.iter().zip(fit.chunks(values.len())) {
            assert!(fit.contains(&false), "{:?} takes anything", key.path);
            let can_be = key.schema != json!(false);
            assert!(
                fit.contains(&true) || !can_be,
                "{:?} takes nothing",
                key.path
            );
        }
    }

    #[test]
    fn it_agrees_with_the_parser_about_definitions() {
        let (keys, values) = (keys(), values());
        let mut random = 1u64;
        let mut below = |limit: usize| {
            // Knuth's MMIX generator: the same definitions each time.
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (random >> 33) as usize % limit
        };
        let documents = std::iter::repeat_with(|| {
            let mut document = json!({});
            for _ in 0..=below(6) {
                let value = values[below(values.len())].clone();
                put(&mut document, &keys[below(keys.len())].path, value);
            }
            document
        });
        agree(&documents.take(1000).collect::<Vec<_>>());
    }

    #[test]
    fn it_has_the_keys_of_the_parser_and_no_others() {
        let keys = keys();
        let of_table = |table: &[String]| -> BTreeSet<String> {
            let inner = keys
                .iter()
                .filter(|key| key.path[..key.path.len() - 1] == *table);
            inner.map(|key| key.path.last().unwrap().clone()).collect()
        };
        let is_table = |key: &&Key| {
            key.schema["additionalProperties"] == json!(false)
                && key.schema["properties"].is_object()
                && key.schema["patternProperties"].is_null()
        };
        let tables = keys.iter().filter(is_table).map(|key| key.path.clone());
        let mut seen = 0;
        for table in tables.chain([Vec::new()]) {
            let mut document = json!({});
            let path: Vec<String> = table.iter().cloned().chain(["zzz".to_owned()]).collect();
            put(&mut document, &path, json!(1));
            let text = toml::to_string(&document).unwrap();
            let said = VmConfig::parse(&text, Path::new("/web.toml"))
                .unwrap_err()
                .to_string();
            let known = said.split_once("unknown key `zzz`, expected ").unwrap().1;
            let known = known.lines().next().unwrap().split('`').skip(1).step_by(2);
            let known: BTreeSet<String> = known.map(str::to_owned).collect();
            assert_eq!(known, of_table(&table), "{table:?}");
            seen += 1;
        }
        assert!(seen > 5, "{seen}");
    }

    #[test]
    fn its_defaults_are_written_as_in_a_definition() {
        let schema = schema();
        assert_eq!(schema["properties"]["memory"]["default"], "1G");
        assert_eq!(
            schema["$defs"]["Stop"]["properties"]["timeout"]["default"],
            "1m"
        );
        assert!(schema["properties"]["cpu"].get("default").is_none());
        assert!(
            schema["properties"]["vga"].get("default").is_none(),
            "the machine decides"
        );
    }

    #[test]
    fn the_man_page_has_each_key() {
        const PAGE: &str = include_str!("../../man/maqet.toml.5");
        for key in keys() {
            let last = key.path.last().unwrap();
            let is_told = [format!("\n.It Ic {last}\n"), format!("\n.Ss [{last}")];
            let is_name = last == "a" || key.schema == json!(false);
            assert!(
                is_name || is_told.iter().any(|it| PAGE.contains(it)),
                "{:?}",
                key.path
            );
        }
    }
}
