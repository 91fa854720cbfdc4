use crate::job::with_disks;

#[test]
fn jobs_are_listed_with_their_progress() {
    let sandbox = with_disks();
    assert_eq!(
        sandbox.maqet(&["jobs", "@web", "--json"]).json(),
        serde_json::json!([])
    );
    sandbox.backup("b", "to", "speed=1M");
    let jobs = sandbox.maqet(&["jobs", "@web", "--json"]).json();
    assert_eq!(jobs[0]["id"], "b");
    assert_eq!(jobs[0]["type"], "backup");
    assert_eq!(jobs[0]["status"], "running");
    assert_eq!(jobs[0]["total_progress"], 1 << 30);
    let table = sandbox.maqet(&["jobs", "@web"]).ok().stdout;
    let row = table.lines().nth(1).unwrap();
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words[..3], ["b", "backup", "running"]);
    assert_eq!(words[4..], ["%", "1", "MiB/s", "-"], "{table}");
}

#[test]
fn jobs_of_a_vm_that_does_not_run_are_exit_status_3() {
    let sandbox = with_disks();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    sandbox.maqet(&["jobs", "@web"]).fails(3);
    sandbox.maqet(&["job", "wait", "@web", "b"]).fails(3);
    sandbox.maqet(&["jobs", "@wbe"]).fails(4);
}
