//! What to say to words that other programs have, and to arguments that are missing.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Verbs of virsh, VBoxManage, multipass, lxc, docker and Python maqet, and what does that here.
const VERBS: &[(&[&str], &str)] = &[
    (&["list", "ps"], "`maqet ls` lists VMs"),
    (
        &["create", "define", "new", "launch", "run"],
        "`maqet add` makes a VM known, and `maqet start` starts it",
    ),
    (
        &["delete", "del", "remove", "undefine", "destroy"],
        "`maqet rm` forgets a VM, and `maqet stop --force` cuts its power",
    ),
    (
        &["kill", "poweroff", "halt"],
        "`maqet stop --force` cuts the power of a VM",
    ),
    (&["shutdown", "down"], "`maqet stop` has a guest power down"),
    (&["up", "boot"], "`maqet start` starts a VM"),
    (
        &["reboot", "restart"],
        "`maqet stop NAME && maqet start NAME` does that; `maqet reset` is the reset button",
    ),
    (
        &["suspend"],
        "`maqet pause` stops the CPUs of a VM, `maqet save` writes it to disk",
    ),
    (&["unpause", "continue", "cont"], "`maqet resume` does that"),
    (&["managedsave"], "`maqet save` does that"),
    (
        &["console", "attach"],
        "`maqet logs --console -f NAME` shows the serial console; `maqet status NAME` names its \
         socket, for `socat`",
    ),
    (
        &["ssh", "exec", "shell"],
        "forward a port to the guest, as in `maqet set NAME 'net.net0.forward+=2222:22'`, and \
         `ssh -p 2222 localhost`",
    ),
    (
        &["monitor", "qmp-shell"],
        "`maqet qmp NAME` is a shell for QMP, `maqet hmp` for people",
    ),
    (
        &["info", "dominfo", "inspect"],
        "`maqet status` shows what a VM is doing, `maqet show` its definition",
    ),
    (
        &["dumpxml", "config", "get", "cat"],
        "`maqet show` shows a definition",
    ),
    (
        &["log"],
        "`maqet logs` shows what QEMU and the guest have printed",
    ),
    (&["send-key", "sendkey"], "`maqet keys` presses keys"),
    (&["screendump"], "`maqet screenshot` does that"),
    (&["snapshots"], "`maqet snapshot ls` lists snapshots"),
    (&["autostart"], "`maqet enable` has a VM start at boot"),
    (
        &["cleanup", "prune"],
        "there is nothing to clean up: no state is stored that could go stale",
    ),
    (&["resize"], "`maqet disk resize` makes a disk larger"),
];

/// Options that there were or that others have.
const OPTIONS: &[(&str, &str, &str)] = &[
    ("start", "--wait", "a start waits"),
    (
        "start",
        "--no-wait",
        "a start waits; `systemctl --user start --no-block maqet@NAME` does not",
    ),
    (
        "rm",
        "--delete-storage",
        "`--disks` deletes the disks that maqet made",
    ),
    ("rm", "--all", "`'*'` names all"),
    ("rm", "--force", "`maqet stop --force` first"),
];

/// Has an error of the parser say what is meant, where that can be told.
pub(super) fn improve(error: &mut clap::Error, verb: Option<&clap::Command>) {
    let text = |error: &clap::Error, kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let tip = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = text(error, ContextKind::InvalidSubcommand);
            word.filter(|_| verb.is_none())
                .and_then(|word| verb_tip(&word))
        }
        ErrorKind::UnknownArgument => {
            let word = text(error, ContextKind::InvalidArg);
            let verb = verb.map(clap::Command::get_name);
            word.zip(verb)
                .and_then(|(word, verb)| {
                    let mut all = OPTIONS.iter();
                    all.find(|(of, option, _)| *of == verb && *option == word)
                })
                .map(|(_, _, tip)| *tip)
        }
        ErrorKind::MissingRequiredArgument => {
            if let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg)
                && let [one] = missing.as_slice()
                && let Some(others) = verb.map(instead_of_names)
                && one.starts_with("<NAME>")
                && !others.is_empty()
            {
                let all = [std::slice::from_ref(one), &*others].concat().join(", or ");
                error.insert(ContextKind::InvalidArg, ContextValue::Strings(vec![all]));
            }
            None
        }
        _ => None,
    };
    if let Some(tip) = tip {
        error.remove(ContextKind::SuggestedSubcommand);
        error.remove(ContextKind::SuggestedArg);
        let tips = vec![tip.to_owned().into()];
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
}

fn verb_tip(word: &str) -> Option<&'static str> {
    let mut all = VERBS.iter();
    all.find(|(verbs, _)| verbs.contains(&word))
        .map(|(_, tip)| *tip)
}

/// The options that stand for names of VMs.
fn instead_of_names(verb: &clap::Command) -> Vec<String> {
    ["all", "group", "label"]
        .into_iter()
        .filter(|id| verb.get_arguments().any(|arg| arg.get_id() == id))
        .map(|id| format!("--{id}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of words that are none of maqet's.
    fn said(words: &str) -> String {
        let mut command = super::super::built();
        let words = std::iter::once("maqet").chain(words.split_whitespace());
        let words: Vec<std::ffi::OsString> = words.map(Into::into).collect();
        let mut error = command.try_get_matches_from_mut(&words).unwrap_err();
        improve(&mut error, super::super::verb(&command, &words));
        error.to_string()
    }

    #[test]
    fn no_verb_with_a_tip_is_one_of_ours() {
        let command = super::super::built();
        for (verbs, _) in VERBS {
            for verb in *verbs {
                let mut ours = command.get_subcommands();
                assert!(ours.all(|it| it.get_name() != *verb), "{verb}");
            }
        }
    }

    #[test]
    fn tips_name_verbs_and_options_that_there_are() {
        let command = super::super::built();
        let tips = VERBS.iter().map(|(_, tip)| *tip);
        for tip in tips.chain(OPTIONS.iter().map(|(_, _, tip)| *tip)) {
            for shown in tip.split('`').skip(1).step_by(2) {
                let Some(words) = shown.strip_prefix("maqet ") else {
                    continue;
                };
                let mut words = words.split_whitespace();
                let verb = words.next().unwrap();
                let verb = command
                    .find_subcommand(verb)
                    .unwrap_or_else(|| panic!("{tip}"));
                for option in words.filter_map(|word| word.strip_prefix("--")) {
                    let mut all = verb.get_arguments();
                    assert!(all.any(|arg| arg.get_long() == Some(option)), "{tip}");
                }
            }
        }
    }

    #[test]
    fn words_of_others_are_answered_with_ours() {
        for (words, tip) in [
            ("console web", "tip: `maqet logs --console -f NAME`"),
            ("delete web", "tip: `maqet rm` forgets a VM"),
            ("reboot web", "`maqet reset` is the reset button"),
            ("list", "tip: `maqet ls` lists VMs"),
            ("start --no-wait web", "a start waits"),
            ("rm --delete-storage web", "`--disks` deletes"),
            (
                "strat web",
                "tip: some similar subcommands exist: 'status', 'start'",
            ),
            ("disk list web", "tip: a similar subcommand exists: 'ls'"),
        ] {
            let said = said(words);
            assert!(said.contains(tip), "{words}: {said}");
            assert_eq!(said.matches("tip:").count(), 1, "{words}: {said}");
        }
    }

    #[test]
    fn what_can_stand_for_names_is_told_where_they_are_missing() {
        for (words, all) in [
            ("start", "<NAME>..., or --all, or --group, or --label"),
            ("export", "<NAME>..., or --all, or --group, or --label"),
            ("rm", "<NAME>..., or --group, or --label"),
        ] {
            let said = said(words);
            assert!(said.contains(all), "{words}: {said}");
        }
        assert!(!said("rename").contains("or --"));
    }
}
