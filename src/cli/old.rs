//! Command lines of Python maqet that can have one meaning only.
//!
//! They are in no help: each is told what it is now, and done.

use std::ffi::OsString;

use crate::ops::Host;
use crate::vm::VmName;

/// The words in today's spelling, and what is to be said of that.
pub(super) fn words(words: impl Iterator<Item = OsString>) -> (Vec<OsString>, Option<String>) {
    let words: Vec<OsString> = words.collect();
    let texts: Option<Vec<&str>> = words.iter().map(|word| word.to_str()).collect();
    match texts.and_then(|texts| modern(&texts, is_vm)) {
        Some(modern) => {
            let quoted = shlex::try_join(modern.iter().map(String::as_str)).unwrap_or_default();
            let note = format!("as of Python maqet; now this is `maqet {quoted}`");
            let program = words.into_iter().take(1);
            (
                program
                    .chain(modern.into_iter().map(OsString::from))
                    .collect(),
                Some(note),
            )
        }
        None => (words, None),
    }
}

fn is_vm(name: &str) -> bool {
    let name: Option<VmName> = name.parse().ok();
    let host = Host::from_env().ok();
    name.zip(host)
        .is_some_and(|(name, host)| host.vm(&name).is_ok())
}

/// What was written after the program's name in today's spelling, unless it is that already.
fn modern(words: &[&str], is_vm: impl Fn(&str) -> bool) -> Option<Vec<String>> {
    let ours = words.get(1..)?;
    let globals = ours
        .iter()
        .take_while(|word| matches!(**word, "--json" | "--quiet" | "-q"));
    let (globals, rest) = ours.split_at(globals.count());
    // `qmp keys web ret`: its VM would be `keys`.
    let modern: Vec<String> = match rest {
        ["qmp", verb, vm, rest @ ..] if rest.iter().all(|word| !word.starts_with('-')) => {
            let modern = match (*verb, rest) {
                // Pressed together.
                ("keys", [_, ..]) => strings(&["keys", vm, &rest.join("-")]),
                ("type", [text]) => strings(&["type", vm, text]),
                ("screendump", [file]) => strings(&["screenshot", vm, file]),
                ("pause" | "resume", []) => strings(&[verb, vm]),
                ("run", [command]) => strings(&["qmp", vm, command]),
                ("device-add", [driver, id]) => {
                    strings(&["device", "add", vm, driver, &format!("id={id}")])
                }
                ("device-del", [id]) => strings(&["device", "rm", vm, id]),
                _ => return None,
            };
            // Asked last: it opens the database, which `qmp` has no other need of.
            match is_vm(verb) {
                true => return None,
                false => modern,
            }
        }
        ["inspect", vm] => strings(&["status", vm]),
        ["info", vm] => strings(&["show", vm]),
        ["add", rest @ ..] if rest.contains(&"--vm-config") => {
            let rest = rest.iter().filter(|word| **word != "--vm-config");
            std::iter::once(&"add")
                .chain(rest)
                .map(|word| (*word).to_owned())
                .collect()
        }
        _ => return None,
    };
    Some(strings(globals).into_iter().chain(modern).collect())
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_spellings_become_new_ones() {
        for (old, new) in [
            ("qmp keys web ctrl alt f2", Some("keys web ctrl-alt-f2")),
            ("qmp type web hello", Some("type web hello")),
            (
                "--json qmp screendump web a.ppm",
                Some("--json screenshot web a.ppm"),
            ),
            ("qmp pause web", Some("pause web")),
            ("qmp resume web", Some("resume web")),
            ("qmp run web query-status", Some("qmp web query-status")),
            (
                "qmp device-add web usb-tablet tab",
                Some("device add web usb-tablet id=tab"),
            ),
            ("qmp device-del web tab", Some("device rm web tab")),
            ("inspect web", Some("status web")),
            ("info web", Some("show web")),
            (
                "add --vm-config web.yaml --name web",
                Some("add web.yaml --name web"),
            ),
            // What can mean something now is left alone.
            ("qmp web query-status", None),
            ("qmp web run now", None),
            ("qmp keys web", None),
            ("qmp keys web ret --hold-time 5", None),
            ("qmp pause", None),
            ("add web.yaml", None),
            ("info", None),
            ("", None),
        ] {
            let words: Vec<&str> = std::iter::once("maqet")
                .chain(old.split_whitespace())
                .collect();
            let got = modern(&words, |_| false).map(|words| words.join(" "));
            assert_eq!(got.as_deref(), new, "{old}");
        }
        // The database is asked of nothing that cannot be an old spelling.
        let words = ["maqet", "qmp", "web", "query-status"];
        assert_eq!(modern(&words, |_| unreachable!()), None);
        let words = ["maqet", "qmp", "pause", "web"];
        assert_eq!(modern(&words, |name| name == "pause"), None);
    }
}
