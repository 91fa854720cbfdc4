use std::collections::BTreeMap;
use std::time::Duration;

use maqet::qmp::Client;
use maqet::qmp::schema::Schema;
use serde_json::Value;

use crate::sandbox::Sandbox;

/// Queries that QEMU refuses here, and its words for why: what was not given to
/// this VM, and (in any words) what only some processors have.
const REFUSED: &[(&str, &str)] = &[
    (
        "query-hv-balloon-status-report",
        "no hv-balloon device present",
    ),
    ("query-sev-capabilities", ""),
    ("query-sev-launch-measure", ""),
    ("query-sgx", ""),
    ("query-sgx-capabilities", ""),
    (
        "query-vm-generation-id",
        "VM Generation ID device not found",
    ),
];

/// A guest that runs, so that there is something to ask about.
fn running() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.act=idle");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: ready");
    sandbox
}

#[test]
fn every_command_of_a_real_qemu_can_be_described() {
    let sandbox = running();
    let socket = sandbox.runtime("web").join("user.sock");
    let mut qmp = Client::connect(&socket, Duration::from_secs(30)).unwrap();
    qmp.set_timeout(Duration::from_secs(30));
    let answer = qmp.execute("query-qmp-schema", ()).unwrap();
    let told: Vec<Value> = qmp.query("query-commands").unwrap();
    let mut told: Vec<&str> = told.iter().map(|c| c["name"].as_str().unwrap()).collect();
    told.sort_unstable();

    let schema = Schema::parse(answer).unwrap();
    assert_eq!(schema.commands(), told);
    for command in told {
        let described = schema
            .describe(command)
            .unwrap_or_else(|error| panic!("{command}: {error}"));
        assert!(!described.answer.is_empty(), "{command}");
        for argument in described.arguments {
            assert!(
                !argument.name.is_empty() && !argument.kind.is_empty(),
                "{command}: {argument:?}"
            );
        }
    }
    // What is listed is what there is.
    let listed = sandbox.maqet(&["qmp", "@web", "--list", "--json"]).json();
    assert_eq!(listed, serde_json::json!(schema.commands()));
}

#[test]
fn every_query_without_arguments_is_answered_or_refused_as_is_known() {
    let sandbox = running();
    let socket = sandbox.runtime("web").join("user.sock");
    let mut qmp = Client::connect(&socket, Duration::from_secs(30)).unwrap();
    qmp.set_timeout(Duration::from_secs(30));
    let schema = Schema::parse(qmp.execute("query-qmp-schema", ()).unwrap()).unwrap();
    let queries = schema.commands().into_iter().filter(|command| {
        let arguments = schema.describe(command).unwrap().arguments;
        command.starts_with("query-") && arguments.iter().all(|argument| argument.optional)
    });

    let mut answered = 0;
    let mut refused = BTreeMap::new();
    for command in queries {
        let ran = sandbox.maqet(&["qmp", "@web", command, "--json"]);
        if ran.status == 5 {
            assert_eq!(ran.stdout, "", "{command}");
            refused.insert(command, ran.stderr);
            continue;
        }
        ran.json();
        answered += 1;
    }
    assert!(answered > 45, "only {answered}");
    for (command, words) in &refused {
        assert!(
            REFUSED
                .iter()
                .any(|(known, why)| known == command && words.contains(why)),
            "{command} is refused: {words}\n{answered} are answered, of these refused: {refused:#?}"
        );
    }
}

#[test]
fn the_definition_s_schema_is_json_and_needs_no_host() {
    let sandbox = Sandbox::new();
    let schema = sandbox.maqet(&["schema"]).json();
    assert_eq!(schema["properties"]["memory"]["default"], "1G");
    assert!(!sandbox.path("data").exists());
}
