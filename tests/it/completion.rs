use std::process::Command;

use crate::sandbox::Sandbox;

/// What bash offers for the last of these words.
fn offered(sandbox: &Sandbox, words: &[&str]) -> Vec<String> {
    let script = sandbox.maqet(&["completion", "bash"]).ok().stdout;
    let file = sandbox.path("maqet.bash");
    std::fs::write(&file, script).unwrap();
    let (last, before) = words.split_last().unwrap();
    // As bash calls it (Programmable Completion): the command, the word, and the one before.
    let bash = Command::new("bash")
        .arg("-c")
        .arg(
            "source \"$0\"; last=$1 before=$2; shift 2; COMP_WORDS=(\"$@\"); \
             COMP_CWORD=$(($# - 1)); _maqet maqet \"$last\" \"$before\"; \
             printf '%s\\n' \"${COMPREPLY[@]}\"",
        )
        .arg(&file)
        .args([last, before.last().unwrap()])
        .args(words)
        .output()
        .unwrap();
    let said = String::from_utf8(bash.stderr).unwrap();
    assert!(bash.status.success(), "{said}");
    let offers = String::from_utf8(bash.stdout).unwrap();
    offers.lines().map(str::to_owned).collect()
}

#[test]
fn commands_and_options_are_completed_in_bash() {
    let sandbox = Sandbox::new();
    assert_eq!(offered(&sandbox, &["maqet", "sta"]), ["start", "status"]);
    assert_eq!(offered(&sandbox, &["maqet", "snapshot", "re"]), ["restore"]);
    assert_eq!(
        offered(&sandbox, &["maqet", "start", "--disc"]),
        ["--discard-saved"]
    );
    for shell in ["zsh", "fish"] {
        let script = sandbox.maqet(&["completion", shell]).ok().stdout;
        assert!(script.contains("discard-saved"), "{shell}");
    }
}
