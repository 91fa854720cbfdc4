use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown as Half;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::link::MESSAGE_LIMIT;
use super::prelaunch::Prelaunch;
use super::*;

const GREETING: &str = "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \
    \"major\": 7}, \"package\": \"Debian\"}, \"capabilities\": [\"oob\"]}}\r\n\
    {\"return\": {}}\r\n";
const SHORT: Duration = Duration::from_millis(60);
/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

impl Prelaunch {
    pub(crate) fn connect(&self) -> Client {
        let mut client = Client::connect(&self.socket, PATIENCE).unwrap();
        // It may only just have been started.
        client.set_timeout(PATIENCE);
        client
    }
}

/// A client, and the other end of its socket, which has said `text` already.
fn scripted(text: impl AsRef<[u8]>) -> (Client, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(text.as_ref()).unwrap();
    (Client::new(ours), theirs)
}

fn greeted(text: &str) -> (Client, UnixStream) {
    scripted(format!("{GREETING}{text}"))
}

fn event(name: &str) -> String {
    let timestamp = json!({ "seconds": 1, "microseconds": 5 });
    json!({ "event": name, "data": { "a": 1 }, "timestamp": timestamp }).to_string() + "\r\n"
}

fn reply(id: u64, value: &Value) -> String {
    json!({ "return": value, "id": id }).to_string() + "\r\n"
}

fn names(events: impl Iterator<Item = Event>) -> Vec<String> {
    events.map(|event| event.name).collect()
}

/// What the peer can read by now.
fn heard(peer: &mut UnixStream) -> String {
    let mut buffer = [0; 4096];
    peer.set_nonblocking(true).unwrap();
    match peer.read(&mut buffer) {
        Ok(len) => String::from_utf8(buffer[..len].to_vec()).unwrap(),
        Err(err) if err.kind() == ErrorKind::WouldBlock => String::new(),
        Err(err) => panic!("{err}"),
    }
}

/// What a busy machine may add to any time.
const SLACK: Duration = Duration::from_secs(20);

fn within<T>(limit: Duration, act: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = act();
    assert!(
        start.elapsed() < limit + SLACK,
        "it took {:?}, more than {limit:?}",
        start.elapsed()
    );
    result
}

// Sending

#[test]
fn negotiation_and_the_first_query_travel_together() {
    let (mut qmp, mut peer) = scripted("");
    qmp.send("query-status", ()).unwrap();
    assert_eq!(
        heard(&mut peer),
        "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"query-status\",\"id\":1}\n"
    );
}

#[test]
fn an_action_waits_for_the_greeting_and_what_follows_waits_behind_it() {
    let (mut qmp, mut peer) = scripted("");
    let quit = qmp.send("system_reset", json!({ "a": 1 })).unwrap();
    let _status = qmp.send("query-status", Value::Null).unwrap();
    assert_eq!(heard(&mut peer), "{\"execute\":\"qmp_capabilities\"}\n");
    peer.write_all(GREETING.as_bytes()).unwrap();
    qmp.set_timeout(SHORT);
    qmp.receive(&quit).unwrap_err();
    assert_eq!(
        heard(&mut peer),
        "{\"execute\":\"system_reset\",\"arguments\":{\"a\":1},\"id\":1}\n\
         {\"execute\":\"query-status\",\"id\":2}\n"
    );
}

#[test]
fn an_action_given_up_on_before_the_greeting_is_never_sent() {
    let (mut qmp, mut peer) = scripted("");
    let err = qmp.execute_within("quit", (), SHORT).unwrap_err();
    assert!(
        matches!(err, Error::Timeout { awaited: Awaited::Greeting, limit } if limit == SHORT),
        "{err}"
    );
    peer.write_all(GREETING.as_bytes()).unwrap();
    qmp.next_event(SHORT).unwrap();
    assert!(!heard(&mut peer).contains("quit"));
}

#[test]
fn a_peer_that_writes_before_it_reads_is_no_deadlock() {
    let (mut qmp, mut peer) = greeted("");
    qmp.set_timeout(Duration::from_secs(60));
    let noise = event("NOISE").repeat(40_000);
    let talker = thread::spawn(move || {
        peer.write_all(noise.as_bytes()).unwrap();
        peer.write_all(reply(1, &json!("done")).as_bytes()).unwrap();
        // All of the text, in a command that is longer.
        peer.read_exact(&mut vec![0; 4 << 20]).unwrap();
    });
    let text = "x".repeat(4 << 20);
    let id = qmp.send("query-echo", json!({ "text": text })).unwrap();
    assert_eq!(qmp.receive(&id).unwrap(), "done");
    assert_eq!(qmp.events().count(), 40_000);
    // What is still on its way out goes while something is waited for.
    while !talker.is_finished() {
        // The other end is closed by then.
        let _ = qmp.next_event(SHORT);
    }
    talker.join().unwrap();
}

#[test]
fn sending_leaves_what_has_come_to_be_polled_for() {
    let (mut qmp, _peer) = greeted(&reply(1, &json!(1)));
    let id = qmp.send("query-a", ()).unwrap();
    let mut fds = [qmp.interest()];
    rustix::event::poll(&mut fds, Some(&rustix::event::Timespec::default())).unwrap();
    assert!(fds[0].revents().contains(rustix::event::PollFlags::IN));
    assert_eq!(qmp.try_receive(&id).unwrap().unwrap(), 1);
}

#[test]
fn a_command_given_up_by_dropping_is_not_sent_if_it_has_not_left() {
    let (mut qmp, mut peer) = scripted("");
    let kept = qmp.send("system_reset", ()).unwrap();
    drop(qmp.send("quit", ()).unwrap());
    peer.write_all(GREETING.as_bytes()).unwrap();
    qmp.set_timeout(SHORT);
    qmp.receive(&kept).unwrap_err();
    let heard = heard(&mut peer);
    assert!(
        heard.contains("system_reset") && !heard.contains("quit"),
        "{heard}"
    );
}

#[test]
fn a_command_has_an_id_unless_the_next_reply_can_only_be_its_own() {
    let (mut qmp, mut peer) = greeted(&reply(1, &json!(1)));
    qmp.execute("query-a", ()).unwrap();
    heard(&mut peer);
    let given_up = qmp.send("query-b", ()).unwrap();
    drop(given_up);
    let sent = qmp.send("query-c", ()).unwrap();
    assert_eq!(
        heard(&mut peer),
        "{\"execute\":\"query-b\"}\n{\"execute\":\"query-c\",\"id\":3}\n"
    );
    peer.write_all(b"{\"return\": 2}").unwrap();
    peer.write_all(reply(3, &json!(3)).as_bytes()).unwrap();
    assert_eq!(qmp.receive(&sent).unwrap(), 3);
    peer.write_all(b"{\"return\": 4}").unwrap();
    assert_eq!(qmp.execute("query-d", ()).unwrap(), 4);
    peer.write_all(b"{\"error\": {\"class\": \"X\", \"desc\": \"no\"}}")
        .unwrap();
    let err = qmp.execute("query-e", ()).unwrap_err();
    assert_eq!(err.to_string(), "QEMU refused `query-e`: no");
}

#[test]
#[should_panic(expected = "a reply is received once, where its command was sent")]
fn a_reply_is_not_another_connections() {
    let (mut one, _peer) = greeted(&reply(1, &json!(1)));
    let (mut other, _other_peer) = greeted(&reply(1, &json!(1)));
    let sent = one.send("query-a", ()).unwrap();
    other.execute("query-a", ()).unwrap();
    let _ = other.receive(&sent);
}

#[test]
fn out_of_band_is_enabled_where_it_is_offered() {
    for (offer, enabled) in [("\"oob\"", true), ("", false)] {
        let (ours, mut peer) = UnixStream::pair().unwrap();
        let mut qmp = Client::new(ours).with_out_of_band();
        let _sent = qmp.send("query-a", ()).unwrap();
        assert_eq!(heard(&mut peer), "");
        peer.write_all(GREETING.replace("\"oob\"", offer).as_bytes())
            .unwrap();
        assert_eq!(qmp.is_out_of_band().unwrap(), enabled);
        qmp.next_event(SHORT).unwrap();
        let arguments = match enabled {
            true => ",\"arguments\":{\"enable\":[\"oob\"]}",
            false => "",
        };
        assert_eq!(
            heard(&mut peer),
            format!(
                "{{\"execute\":\"qmp_capabilities\"{arguments}}}\n\
                 {{\"execute\":\"query-a\",\"id\":1}}\n"
            )
        );
    }
}

// Receiving

#[test]
fn events_around_replies_are_kept_in_order() {
    let (mut qmp, mut peer) = scripted(
        event("BEFORE") + GREETING + &event("BETWEEN") + &reply(1, &json!(1)) + &event("AFTER"),
    );
    assert_eq!(qmp.execute("query-a", ()).unwrap(), 1);
    assert_eq!(names(qmp.events()), ["BEFORE", "BETWEEN", "AFTER"]);
    peer.write_all(reply(2, &json!(2)).as_bytes()).unwrap();
    assert_eq!(qmp.execute("query-b", ()).unwrap(), 2);
    assert_eq!(qmp.next_event(Duration::ZERO).unwrap(), None);
}

#[test]
fn next_event_returns_what_comes_and_none_when_nothing_does() {
    let (mut qmp, mut peer) = greeted(&event("RESET"));
    let event = qmp.next_event(SHORT).unwrap().unwrap();
    assert_eq!(
        (event.name.as_str(), &event.data["a"]),
        ("RESET", &json!(1))
    );
    let since = event
        .timestamp
        .time()
        .unwrap()
        .duration_since(std::time::UNIX_EPOCH);
    assert_eq!(since.unwrap(), Duration::from_micros(1_000_005));
    assert_eq!(within(SHORT * 10, || qmp.next_event(SHORT)).unwrap(), None);
    peer.write_all(
        b"{\"event\": \"STOP\", \"timestamp\": {\"seconds\": -1, \"microseconds\": -1}}",
    )
    .unwrap();
    let event = qmp.next_event(Duration::ZERO).unwrap().unwrap();
    assert_eq!((event.data.len(), event.timestamp.time()), (0, None));
}

#[test]
fn replies_to_others_are_skipped() {
    let (mut qmp, _peer) = greeted(
        &("{\"return\": 7}{\"return\": 8, \"id\": \"1\"} {\"return\": 9, \"id\": 999}\n"
            .to_owned()
            + "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": -1}"
            + &reply(1, &json!(null))),
    );
    assert_eq!(qmp.execute("query-a", ()).unwrap(), Value::Null);
}

#[test]
fn a_reply_to_the_client_before_is_skipped() {
    let (greeting, negotiated) = GREETING.split_at(GREETING.find("{\"return\"").unwrap());
    let text = greeting.to_owned() + &reply(1, &json!(7)) + negotiated + &reply(1, &json!(8));
    let (mut qmp, _peer) = scripted(text);
    assert_eq!(qmp.execute("query-a", ()).unwrap(), 8);
}

#[test]
fn an_error_without_an_id_answers_the_oldest_command() {
    let (mut qmp, _peer) =
        greeted("{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON token limit\"}}");
    let first = qmp.send("query-a", ()).unwrap();
    qmp.send("query-b", ()).unwrap();
    let err = qmp.receive(&first).unwrap_err();
    assert_eq!(err.to_string(), "QEMU refused `query-a`: JSON token limit");
}

#[test]
fn replies_may_be_taken_in_any_order() {
    let (mut qmp, _peer) = greeted(&(reply(1, &json!(1)) + &reply(2, &json!(2))));
    let first = qmp.send("query-a", ()).unwrap();
    let second = qmp.send("query-b", ()).unwrap();
    assert_eq!(qmp.receive(&second).unwrap(), 2);
    assert_eq!(qmp.receive(&first).unwrap(), 1);
}

#[test]
fn a_reply_that_comes_too_late_is_skipped_and_the_next_one_is_not() {
    let (mut qmp, mut peer) = greeted("");
    let err = qmp.execute_within("query-a", (), SHORT).unwrap_err();
    assert_eq!(
        err.to_string(),
        "timed out after 60ms waiting for the reply to `query-a`"
    );
    peer.write_all((reply(1, &json!(1)) + &reply(2, &json!(2))).as_bytes())
        .unwrap();
    assert_eq!(qmp.execute("query-b", ()).unwrap(), 2);
}

#[test]
fn a_refusal_is_not_a_broken_connection() {
    let (mut qmp, _peer) = greeted(
        &("{\"id\": 1, \"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command x has not been found\"}}\r\n"
            .to_owned() + &reply(2, &json!({}))),
    );
    match qmp.execute("query-x", ()).unwrap_err() {
        Error::Refused { command, class, .. } => {
            assert_eq!(
                (command.as_str(), class.as_str()),
                ("query-x", "CommandNotFound")
            );
        }
        err => panic!("{err}"),
    }
    qmp.execute("query-y", ()).unwrap();
}

#[test]
fn a_refused_negotiation_says_so() {
    let (mut qmp, _peer) =
        scripted("{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"twice\"}}");
    let err = qmp.execute("query-a", ()).unwrap_err();
    assert_eq!(err.to_string(), "QEMU refused `qmp_capabilities`: twice");
}

#[test]
fn the_late_negotiation_of_a_client_that_gave_up_makes_ours_the_second() {
    let (mut qmp, _peer) = greeted(
        &("{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"Capabilities negotiation is already complete, command ignored\"}}\r\n"
            .to_owned() + &reply(1, &json!({ "running": true }))),
    );
    assert_eq!(qmp.execute("query-status", ()).unwrap()["running"], true);
}

#[test]
fn a_reply_of_another_shape_is_unexpected() {
    let (mut qmp, _peer) = greeted(&reply(1, &json!([])));
    let err = qmp.query::<Status>("query-status").unwrap_err();
    assert!(matches!(err, Error::Unexpected { .. }), "{err}");
}

const TRANSCRIPT: &str = "{\"event\": \"A\", \"timestamp\": {\"seconds\": 1, \"microseconds\": 2}} \r\n\
    {\n    \"return\": {\"text\": \"}{\\\"\\\\\", \"é\": [[], {}]},\n    \"id\": 1\n}\n\n\
    {\"event\": \"B\", \"timestamp\": {\"seconds\": 1, \"microseconds\": 2}}\
    {\"return\": 2, \"id\": 2}\t";

/// Lets the peer say `text` in pieces that end at `cuts`, the client looking after
/// each. Its answers to two commands, and the names of the events.
fn heard_in_pieces(text: &[u8], mut cuts: Vec<usize>) -> (Vec<Value>, Vec<String>) {
    let (mut qmp, mut peer) = scripted("");
    let first = qmp.send("query-a", ()).unwrap();
    let second = qmp.send("query-b", ()).unwrap();
    let (mut from, mut answers) = (0, Vec::new());
    cuts.sort_unstable();
    cuts.push(text.len());
    for cut in cuts {
        peer.write_all(&text[from..cut]).unwrap();
        from = cut;
        let next = if answers.is_empty() { &first } else { &second };
        if answers.len() < 2 {
            answers.extend(qmp.try_receive(next).map(Result::unwrap));
        }
    }
    if answers.is_empty() {
        answers.push(qmp.receive(&first).unwrap());
    }
    if answers.len() < 2 {
        answers.push(qmp.receive(&second).unwrap());
    }
    assert_eq!(qmp.greeting().unwrap().version.qemu.to_string(), "7.2.22");
    (answers, names(qmp.events()))
}

fn said_in_pieces(text: &[u8], cuts: Vec<usize>) {
    let answers = vec![json!({ "text": "}{\"\\", "é": [[], {}] }), json!(2)];
    let events = ["A", "B"].map(str::to_owned).to_vec();
    assert_eq!(heard_in_pieces(text, cuts), (answers, events));
}

#[test]
fn a_stream_cut_at_each_byte_means_the_same() {
    let text = format!("{GREETING}{TRANSCRIPT}");
    said_in_pieces(text.as_bytes(), (1..text.len()).collect());
    for cut in 0..text.len() {
        said_in_pieces(text.as_bytes(), vec![cut]);
    }
}

/// A message that answers none of the client's commands.
#[derive(Clone, Debug)]
enum Said {
    Event(String),
    ToAnother(Value, String),
    RefusalToAnother(Value),
}

fn said() -> impl Strategy<Value = Said> {
    let id = prop_oneof![
        (3..u64::MAX).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
        Just(json!({ "of": ["another"] })),
        Just(json!(-1)),
    ];
    prop_oneof![
        ".*".prop_map(Said::Event),
        (id.clone(), "[\\\\\"{}\\[\\]\u{0}é]*").prop_map(|(id, text)| Said::ToAnother(id, text)),
        id.prop_map(Said::RefusalToAnother),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn any_bytes_end_in_an_answer_or_an_error(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (mut qmp, peer) = scripted([GREETING.as_bytes(), &noise].concat());
        peer.shutdown(Half::Write).unwrap();
        qmp.execute("query-a", ()).unwrap_err();
        qmp.events().count();
    }

    #[test]
    fn any_conversation_is_heard_in_full_in_any_pieces(
        said in proptest::collection::vec(said(), 0..12),
        gaps in proptest::collection::vec("[ \t\r\n]{0,3}", 14),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut events = Vec::new();
        let mut text = GREETING.to_owned();
        let first = said.len() / 2;
        for (index, said) in said.iter().enumerate() {
            if index == first {
                text += &reply(1, &json!("first"));
            }
            let message = match said {
                Said::Event(name) => {
                    events.push(name.clone());
                    json!({ "event": name, "timestamp": { "seconds": -1, "microseconds": 0 } })
                }
                Said::ToAnother(id, text) => json!({ "return": text, "id": id }),
                Said::RefusalToAnother(id) => json!({ "error": { "class": "X", "desc": "}" }, "id": id }),
            };
            // As with `pretty=on`, whose messages have line breaks inside.
            text += &match index % 2 {
                0 => message.to_string(),
                _ => format!("{message:#}"),
            };
            text += &gaps[index];
        }
        if said.is_empty() {
            text += &reply(1, &json!("first"));
        }
        text += &reply(2, &json!("second"));
        let cuts = cuts.iter().map(|cut| cut.index(text.len())).collect();
        let heard = heard_in_pieces(text.as_bytes(), cuts);
        prop_assert_eq!(heard, (vec![json!("first"), json!("second")], events));
    }

    #[test]
    fn any_value_arrives_as_it_was_sent(text in ".*", number: i64, cut in 0..100_usize) {
        let value = json!({ "text": text, "more": [number, { "x": text }] });
        let text = GREETING.to_owned() + &reply(1, &value);
        let (mut qmp, mut peer) = scripted(&text.as_bytes()[..cut]);
        let id = qmp.send("query-a", ()).unwrap();
        prop_assert!(qmp.try_receive(&id).is_none());
        peer.write_all(&text.as_bytes()[cut..]).unwrap();
        prop_assert_eq!(qmp.receive(&id).unwrap(), value);
    }
}

// What goes wrong

fn first_error(text: impl AsRef<[u8]>) -> Error {
    let (mut qmp, _peer) = scripted([GREETING.as_bytes(), text.as_ref()].concat());
    let err = within(Duration::from_secs(2), || qmp.execute("query-a", ())).unwrap_err();
    let again = qmp.execute("query-a", ()).unwrap_err();
    assert_eq!(err.to_string(), again.to_string(), "it stays broken");
    err
}

#[test]
fn what_is_not_qmp_is_said_at_once() {
    let deep = "{\"return\":".to_owned() + &"[".repeat(5000) + &"]".repeat(5000) + "}";
    let deeper = "{\"event\":[".repeat(5000) + &"]}".repeat(5000);
    let cases: [(&[u8], &str); 11] = [
        (
            b"QEMU 7.2.22 monitor - type 'help'\n(qemu) ",
            "`QEMU 7.2.22 monitor",
        ),
        (b"[1]", "`[1]`"),
        (b"{\"return\": \"\xff\xfe\", \"id\": 1}", "not UTF-8"),
        (b"{\"return\": ]", "expected value"),
        (b"{\"surprise\": 1}", "neither greeting, reply nor event"),
        (b"{\"event\": \"X\"}", "without a timestamp"),
        (deep.as_bytes(), "recursion limit"),
        (deeper.as_bytes(), "invalid type"),
        (b"\0\0{\"return\": 1, \"id\": 1}", "`\\0\\0{"),
        (b"{\"return\": \"\0\", \"id\": 1}", "control character"),
        (
            b"{\"return\": 1, \"return\": 2, \"id\": 1}",
            "duplicate field",
        ),
    ];
    for (text, part) in cases {
        let err = first_error(text);
        assert!(matches!(err, Error::Protocol(_)), "{err:?}");
        assert!(err.to_string().contains(part), "{err}");
    }
}

#[test]
fn a_message_without_end_is_too_long() {
    let (mut qmp, mut peer) = greeted("{\"return\": \"");
    let talker = thread::spawn(move || {
        let piece = vec![b'x'; 1 << 20];
        // Until the client has had enough.
        while peer.write_all(&piece).is_ok() {}
    });
    let err = qmp.execute_within("query-a", (), None).unwrap_err();
    assert!(matches!(err, Error::TooLong), "{err:?}");
    assert_eq!(err.to_string(), "a message is longer than 64 MiB");
    drop(qmp);
    talker.join().unwrap();
}

#[test]
fn a_reply_as_long_as_can_be_arrives_and_one_byte_more_is_too_long() {
    let frame = "{\"return\":\"\",\"id\":1}".len();
    for (length, arrives) in [(MESSAGE_LIMIT, true), (MESSAGE_LIMIT + 1, false)] {
        let (mut qmp, mut peer) = greeted("");
        let text = "x".repeat(length - frame);
        let message = format!("{{\"return\":\"{text}\",\"id\":1}}");
        let talker = thread::spawn(move || {
            peer.write_all(message.as_bytes()).unwrap();
            peer
        });
        let answer = qmp.execute_within("query-a", (), None);
        match answer {
            Ok(answer) => assert!(arrives && answer == text),
            Err(err) => assert!(!arrives && matches!(err, Error::TooLong), "{err:?}"),
        }
        drop(talker.join().unwrap());
        if !arrives {
            let err = qmp.next_event(None).unwrap_err();
            assert!(matches!(err, Error::TooLong), "it stays so: {err:?}");
        }
    }
}

#[test]
fn silence_and_dripping_end_at_the_deadline() {
    let (mut qmp, mut peer) = greeted("{\"return\": \"");
    let talker = thread::spawn(move || {
        while peer.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
    });
    let limit = Duration::from_millis(100);
    for _ in 0..2 {
        let err = within(limit * 5, || qmp.execute_within("query-a", (), limit)).unwrap_err();
        assert!(
            matches!(&err, Error::Timeout { awaited: Awaited::Reply(command), .. } if command == "query-a"),
            "{err:?}"
        );
    }
    drop(qmp);
    talker.join().unwrap();
}

#[test]
fn a_flood_of_events_does_not_move_the_deadline() {
    let (mut qmp, mut peer) = greeted("");
    let talker = thread::spawn(move || {
        let flood = event("NOISE").repeat(100);
        while peer.write_all(flood.as_bytes()).is_ok() {}
    });
    let err = within(Duration::from_secs(2), || {
        qmp.execute_within("query-a", (), Duration::from_millis(100))
    });
    assert!(matches!(err, Err(Error::Timeout { .. })), "{err:?}");
    drop(qmp);
    talker.join().unwrap();
}

#[test]
fn events_within_a_time_end_with_it_also_in_a_flood() {
    let (mut qmp, mut peer) = greeted(&event("NOISE").repeat(3));
    assert_eq!(qmp.events_within(Duration::ZERO).count(), 3);
    let talker = thread::spawn(move || {
        let flood = event("NOISE").repeat(100);
        while peer.write_all(flood.as_bytes()).is_ok() {}
    });
    let limit = Duration::from_millis(100);
    // It has begun by then.
    qmp.next_event(None).unwrap();
    within(limit * 50, || assert!(qmp.events_within(limit).count() > 0));
    drop(qmp);
    talker.join().unwrap();
}

#[test]
fn connections_and_what_was_begun_on_them_may_change_threads() {
    fn may<T: Send>() {}
    may::<(Client, Monitor, Agent, Sent, Started)>();
    fn may_be_shared<T: Send + Sync>() {}
    may_be_shared::<Pool<String>>();
}

#[test]
fn a_peer_that_stalls_at_any_byte_is_waited_for_until_the_deadline() {
    let text = format!("{GREETING}{TRANSCRIPT}");
    let limit = Duration::from_millis(2);
    // Where the first reply is complete.
    let whole = text.find("\n}\n\n").unwrap() + 2;
    for stall in 0..whole {
        let (mut qmp, mut peer) = scripted(&text.as_bytes()[..stall]);
        qmp.set_timeout(limit);
        let id = qmp.send("query-a", ()).unwrap();
        let err = within(Duration::from_secs(2), || qmp.receive(&id)).unwrap_err();
        assert!(matches!(err, Error::Timeout { .. }), "{stall}: {err:?}");
        within(Duration::from_secs(2), || qmp.greeting().is_ok());
        // When it goes on, nothing is lost.
        peer.write_all(&text.as_bytes()[stall..]).unwrap();
        qmp.set_timeout(DEFAULT_TIMEOUT);
        assert_eq!(qmp.receive(&id).unwrap()["text"], "}{\"\\");
    }
}

#[test]
fn a_connection_that_ends_at_any_byte_is_closed_there() {
    let text = format!("{GREETING}{TRANSCRIPT}");
    let whole = text.find("\n}\n\n").unwrap() + 2;
    for end in 0..text.len() {
        let (mut qmp, peer) = scripted(&text.as_bytes()[..end]);
        drop(peer);
        let answer = qmp.execute("query-a", ());
        assert_eq!(answer.is_ok(), end >= whole, "{end}: {answer:?}");
        for err in [answer.err(), qmp.execute("query-x", ()).err()]
            .into_iter()
            .flatten()
        {
            assert!(matches!(err, Error::Closed { .. }), "{end}: {err:?}");
        }
    }
}

#[test]
fn a_reset_connection_is_closed_but_its_last_words_are_heard() {
    let (mut qmp, peer) = greeted(&(event("SHUTDOWN") + &reply(1, &json!({}))));
    let quit = qmp.send("query-a", ()).unwrap();
    // With the commands unread, this resets the connection.
    drop(peer);
    qmp.receive(&quit).unwrap();
    assert_eq!(names(qmp.events()), ["SHUTDOWN"]);
    let err = qmp.next_event(None).unwrap_err();
    assert_eq!(
        err.to_string(),
        "QEMU ended or closed the connection before an event"
    );
}

#[test]
fn arguments_that_are_no_json_are_not_sent() {
    let (mut qmp, mut peer) = greeted(&reply(1, &json!({})));
    let pairs = std::collections::HashMap::from([((1, 2), 3)]);
    let err = qmp.execute("query-a", pairs).unwrap_err();
    assert!(matches!(err, Error::Arguments { .. }), "{err:?}");
    qmp.execute("query-b", ()).unwrap();
    assert!(!heard(&mut peer).contains("query-a"));
}

// Words

#[test]
fn run_states_are_qemus_words_and_unknown_ones_are_kept() {
    // qapi/run-state.json of QEMU 7.2.
    let words = "debug inmigrate internal-error io-error paused postmigrate prelaunch \
        finish-migrate restore-vm running save-vm shutdown suspended watchdog guest-panicked colo";
    for word in words.split_whitespace().chain(["quite-new"]) {
        let state: RunState = serde_json::from_value(json!(word)).unwrap();
        assert_eq!(state.as_str(), word);
        assert_eq!(serde_json::to_value(&state).unwrap(), word);
        assert_eq!(matches!(state, RunState::Other(_)), word == "quite-new");
    }
    assert_eq!(format!("{:>8}", RunState::Running), " running");
}

// Sockets and locks

#[test]
fn a_socket_with_a_long_path_is_connected() {
    let directory = TempDir::new().unwrap();
    let deep = directory.path().join("d".repeat(90)).join("e".repeat(90));
    fs::create_dir_all(&deep).unwrap();
    let near = directory.path().join("s");
    let listener = UnixListener::bind(&near).unwrap();
    let socket = deep.join("qmp.sock");
    fs::rename(&near, &socket).unwrap();

    let mut qmp = Client::connect(&socket, SHORT).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all((GREETING.to_owned() + &reply(1, &json!(1))).as_bytes())
        .unwrap();
    assert_eq!(qmp.execute("query-a", ()).unwrap(), 1);

    drop(listener);
    assert_eq!(connect_error(&socket), ErrorKind::ConnectionRefused);
    assert_eq!(connect_error(&deep.join("gone.sock")), ErrorKind::NotFound);
}

fn connect_error(socket: &Path) -> ErrorKind {
    match Client::connect(socket, SHORT).unwrap_err() {
        Error::Connect { path, source } => {
            assert_eq!(path, socket);
            source.kind()
        }
        err => panic!("{err:?}"),
    }
}

#[test]
fn a_full_queue_is_waited_for_until_the_deadline() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("qmp.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _queued = UnixStream::connect(&socket).unwrap();

    let err = within(SHORT * 10, || Client::connect(&socket, SHORT)).unwrap_err();
    assert!(
        matches!(&err, Error::Timeout { awaited: Awaited::Connection(path), .. } if *path == socket),
        "{err:?}"
    );
    fs::write(directory.path().join("qmp.lock"), "").unwrap();
    let answers = within(SHORT * 10, || {
        ask_all(std::slice::from_ref(&socket), "query-a", SHORT)
    });
    assert!(
        matches!(answers[0], Err(Error::Timeout { .. })),
        "{answers:?}"
    );

    let server = thread::spawn(move || {
        thread::sleep(SHORT);
        [listener.accept().unwrap(), listener.accept().unwrap()]
    });
    Client::connect(&socket, None).unwrap();
    server.join().unwrap();
}

#[test]
fn a_busy_monitor_names_its_holder_and_is_free_afterwards() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("qmp.sock");
    let lock = lock_path(&socket);
    assert_eq!(lock, directory.path().join("qmp.lock"));
    let _listener = UnixListener::bind(&socket).unwrap();
    fs::write(
        &lock,
        "4711 something very long that was killed while it held the lock",
    )
    .unwrap();

    let first = Monitor::open(&socket, &lock, SHORT).unwrap();
    let program = std::env::args().next().unwrap();
    let program = Path::new(&program).file_name().unwrap().to_str().unwrap();
    for limit in [SHORT, Duration::ZERO] {
        match within(SHORT * 10, || Monitor::open(&socket, &lock, limit)).unwrap_err() {
            Error::Busy {
                holder: Some(Holder { pid, command }),
                ..
            } => {
                assert_eq!(pid, std::process::id());
                assert!(command.starts_with(program), "{command}");
            }
            err => panic!("{err:?}"),
        }
    }
    let answers = ask_all(std::slice::from_ref(&socket), "query-status", SHORT);
    let text = answers[0].as_ref().unwrap_err().to_string();
    assert!(
        text.contains(&format!("is busy: process {} (`", std::process::id())),
        "{text}"
    );

    let waiter = thread::spawn({
        let (socket, lock) = (socket.clone(), lock.clone());
        move || Monitor::open(&socket, &lock, None).map(drop)
    });
    thread::sleep(SHORT / 2);
    drop(first);
    waiter.join().unwrap().unwrap();
    assert_eq!(fs::read_to_string(&lock).unwrap(), "");
}

#[test]
fn a_lock_file_is_private_and_made_only_beside_a_socket() {
    let directory = TempDir::new().unwrap();
    let missing = directory.path().join("web/qmp.sock");
    let open = |socket: &Path| Monitor::open(socket, &lock_path(socket), SHORT);
    for socket in [&missing, &directory.path().join("qmp.sock")] {
        match open(socket).unwrap_err() {
            Error::Connect { source, .. } => assert_eq!(source.kind(), ErrorKind::NotFound),
            err => panic!("{err:?}"),
        }
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);

    let socket = directory.path().join("qmp.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    open(&socket).unwrap();
    let mode = fs::metadata(lock_path(&socket))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

// The guest agent

/// The id in the next `guest-sync-delimited` that the agent hears.
fn sync_id(peer: &mut UnixStream) -> u64 {
    let mut heard = Vec::new();
    let mut byte = [0];
    while heard.last() != Some(&b'\n') {
        peer.read_exact(&mut byte).unwrap();
        heard.push(byte[0]);
    }
    assert_eq!(heard[0], 0xff);
    let line: Value = serde_json::from_slice(&heard[1..]).unwrap();
    assert_eq!(line["execute"], "guest-sync-delimited");
    line["arguments"]["id"].as_u64().unwrap()
}

#[test]
fn the_agents_old_words_are_skipped() {
    let (ours, mut peer) = UnixStream::pair().unwrap();
    let agent = thread::spawn(move || {
        peer.write_all(b"half\": 1}\n\xff{\"return\": 12}\n{\"return\": {\"old\": 1}}\n")
            .unwrap();
        let id = sync_id(&mut peer);
        peer.write_all(b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"parse\"}}\n")
            .unwrap();
        writeln!(peer, "{{\"return\": 1}}").unwrap();
        peer.write_all(b"\xff").unwrap();
        writeln!(peer, "{{\"return\": {id}}}\n{{\"return\": {{}}}}").unwrap();
        let info = json!({ "version": "7.2.22", "supported_commands":
            [{ "name": "guest-ping", "enabled": true, "success-response": true }] });
        writeln!(peer, "{}", json!({ "return": info })).unwrap();
        peer
    });
    let mut agent_client = Agent::new(ours);
    agent_client.ping().unwrap();
    let info = agent_client.info().unwrap();
    assert_eq!(info.version, "7.2.22");
    assert_eq!(info.supported_commands[0].name, "guest-ping");
    drop(agent.join().unwrap());
    let err = agent_client.ping().unwrap_err();
    assert!(matches!(err, Error::Closed { .. }), "{err:?}");
}

#[test]
fn a_guest_without_an_agent_is_a_timeout_and_may_get_one_later() {
    let (ours, mut peer) = UnixStream::pair().unwrap();
    let mut agent = Agent::new(ours);
    agent.set_timeout(SHORT);
    let err = within(SHORT * 10, || agent.ping()).unwrap_err();
    assert!(matches!(err, Error::Timeout { .. }), "{err:?}");
    let late = thread::spawn(move || {
        for _ in 0..2 {
            let id = sync_id(&mut peer);
            peer.write_all(b"\xff").unwrap();
            writeln!(peer, "{{\"return\": {id}}}").unwrap();
        }
        writeln!(peer, "{{\"return\": {{}}}}").unwrap();
        peer
    });
    agent.set_timeout(PATIENCE);
    agent.ping().unwrap();
    late.join().unwrap();
}

#[test]
fn the_agents_payloads_are_bytes_and_may_be_large() {
    #[derive(serde::Deserialize)]
    struct Piece {
        #[serde(rename = "buf-b64")]
        bytes: Base64,
    }
    let (ours, mut peer) = UnixStream::pair().unwrap();
    let bytes: Vec<u8> = (0..12 << 20).map(|at: u32| (at % 251) as u8).collect();
    let piece = json!({ "return": { "buf-b64": Base64(bytes.clone()) } });
    let guest = thread::spawn(move || {
        let id = sync_id(&mut peer);
        peer.write_all(b"\xff").unwrap();
        writeln!(
            peer,
            "{{\"return\": {id}}}\n{piece}\n{{\"return\": {{\"buf-b64\": \"?\"}}}}"
        )
        .unwrap();
        peer
    });
    let mut agent = Agent::new(ours);
    agent.set_timeout(PATIENCE);
    let read = json!({ "handle": 1000 });
    let piece: Piece = agent.call("guest-file-read", &read).unwrap();
    assert!(piece.bytes.0 == bytes);
    let err = agent.call::<Piece>("guest-file-read", &read);
    assert!(matches!(err, Err(Error::Unexpected { .. })));
    guest.join().unwrap();
}

#[test]
fn an_agent_in_use_names_its_user() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("agent.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let _first = Agent::open(&socket, &lock_path(&socket), SHORT).unwrap();
    let err = Agent::open(&socket, &lock_path(&socket), SHORT).unwrap_err();
    let text = err.to_string();
    assert!(
        text.contains(&format!(
            "agent.sock is busy: process {} (`",
            std::process::id()
        )),
        "{text}"
    );
}

#[test]
fn shutting_down_takes_silence_for_consent_and_hears_a_refusal() {
    let refusal = "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"disabled\"}}\n";
    for (answer, allowed) in [("", true), (refusal, false)] {
        let (ours, mut peer) = UnixStream::pair().unwrap();
        let guest = thread::spawn(move || {
            let id = sync_id(&mut peer);
            peer.write_all(b"\xff").unwrap();
            // In one piece: the answer is there before it is listened for.
            let said = format!("{{\"return\": {id}}}\n{answer}");
            peer.write_all(said.as_bytes()).unwrap();
            let mut heard = String::new();
            peer.read_to_string(&mut heard).unwrap();
            heard
        });
        let mut agent = Agent::new(ours);
        let result = agent.shutdown(Shutdown::Powerdown, SHORT);
        assert_eq!(result.is_ok(), allowed, "{result:?}");
        drop(agent);
        assert_eq!(
            guest.join().unwrap(),
            "{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"powerdown\"}}\n"
        );
    }
}

// A real QEMU

#[test]
fn quit_sends_shutdown_around_its_reply_and_then_closes() {
    let mut vm = Prelaunch::start();
    let mut qmp = vm.connect();
    let status = qmp.status().unwrap();
    assert_eq!(
        (status.running, status.run_state),
        (false, RunState::Prelaunch)
    );

    qmp.execute("quit", ()).unwrap();

    let event = qmp.next_event(PATIENCE).unwrap().unwrap();
    assert_eq!(event.name, "SHUTDOWN");
    assert_eq!(event.data["reason"], "host-qmp-quit");
    let err = qmp.next_event(PATIENCE).unwrap_err();
    assert!(matches!(err, Error::Closed { .. }), "{err:?}");
    assert!(vm.qemu.wait().unwrap().success());
}

#[test]
fn an_action_is_the_first_command_as_well() {
    let mut vm = Prelaunch::start();
    let mut qmp = vm.connect();
    qmp.execute("quit", ()).unwrap();
    assert!(vm.qemu.wait().unwrap().success());
    assert_eq!(connect_error(&vm.socket), ErrorKind::NotFound);
}

#[test]
fn qemu_refuses_what_it_does_not_know_and_goes_on() {
    let vm = Prelaunch::start();
    let mut qmp = vm.connect();
    let err = qmp.execute("query-statsu", ()).unwrap_err();
    assert_eq!(
        err.to_string(),
        "QEMU refused `query-statsu`: The command query-statsu has not been found"
    );
    let err = qmp.execute("qom-get", json!([1])).unwrap_err();
    assert!(matches!(err, Error::Refused { .. }), "{err:?}");
    let schema: Vec<Value> = qmp.query("query-qmp-schema").unwrap();
    assert!(schema.len() > 500, "{}", schema.len());
    let sent: Vec<Sent> = (0..20)
        .map(|_| qmp.send("query-version", ()).unwrap())
        .collect();
    for sent in sent.iter().rev() {
        assert!(qmp.receive(sent).unwrap()["qemu"]["major"].is_u64());
    }
    assert!(qmp.greeting().unwrap().version.qemu.major >= 7);
}

#[test]
fn a_command_out_of_band_overtakes_those_that_qemu_is_stuck_in() {
    let vm = Prelaunch::start();
    let mut qmp = vm.connect().with_out_of_band();
    assert!(qmp.is_out_of_band().unwrap());
    // QEMU reads its configuration from a pipe that nobody writes to yet.
    let fifo = vm.socket.with_extension("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    let stuck = json!({ "driver": "blkdebug", "config": fifo, "image": { "driver": "null-co" },
        "node-name": "stuck" });
    let stuck = qmp.send("blockdev-add", stuck).unwrap();
    let after: Vec<Sent> = (0..20)
        .map(|_| qmp.send("query-status", ()).unwrap())
        .collect();

    qmp.execute_out_of_band("query-yank", ()).unwrap();
    let err = qmp.execute_out_of_band("query-status", ()).unwrap_err();
    assert!(matches!(err, Error::Refused { .. }), "{err:?}");

    qmp.set_timeout(SHORT);
    qmp.receive(&stuck).unwrap_err();
    qmp.set_timeout(PATIENCE);
    drop(fs::File::options().write(true).open(&fifo).unwrap());
    qmp.receive(&stuck).unwrap();
    for sent in after.iter().rev() {
        assert_eq!(qmp.receive(sent).unwrap()["status"], "prelaunch");
    }

    let other = Prelaunch::start();
    let mut plain = other.connect();
    let err = plain.execute_out_of_band("query-yank", ()).unwrap_err();
    assert!(matches!(err, Error::Refused { .. }), "{err:?}");
}

#[test]
fn events_within_a_time_end_with_it_or_with_an_error() {
    let mut vm = Prelaunch::start();
    let mut qmp = vm.connect();
    // A QEMU that has only just been started may take longer to greet.
    qmp.status().unwrap();
    assert_eq!(qmp.events_within(SHORT).count(), 0);
    qmp.execute("cont", ()).unwrap();
    let first = qmp.events_within(PATIENCE).next().unwrap().unwrap();
    assert_eq!(first.name, "RESUME");
    vm.qemu.kill().unwrap();
    let last = qmp.events_within(None).last().unwrap();
    assert!(matches!(last, Err(Error::Closed { .. })), "{last:?}");
}

#[test]
fn a_second_client_hears_nothing_until_the_first_has_left() {
    let vm = Prelaunch::start();
    let mut first = vm.connect();
    first.status().unwrap();
    let mut second = vm.connect();
    second.set_timeout(SHORT);
    let err = within(SHORT * 10, || second.status()).unwrap_err();
    assert!(
        matches!(
            err,
            Error::Timeout {
                awaited: Awaited::Greeting,
                ..
            }
        ),
        "{err:?}"
    );
    drop(first);
    second.set_timeout(PATIENCE);
    second.status().unwrap();
}

#[test]
fn a_monitor_is_used_in_turn_by_many() {
    let vm = Prelaunch::start();
    let lock = lock_path(&vm.socket);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let mut qmp = Monitor::open(&vm.socket, &lock, PATIENCE).unwrap();
                    qmp.set_timeout(PATIENCE);
                    assert_eq!(qmp.status().unwrap().run_state, RunState::Prelaunch);
                }
            });
        }
    });
}

#[test]
fn one_stuck_monitor_costs_the_others_nothing() {
    let vms = [Prelaunch::start(), Prelaunch::start(), Prelaunch::start()];
    let directory = TempDir::new().unwrap();
    let [stuck, dead, none] =
        ["stuck", "dead", "none"].map(|name| directory.path().join(name).with_extension("sock"));
    let _listener = UnixListener::bind(&stuck).unwrap();
    drop(UnixListener::bind(&dead).unwrap());
    let mut sockets: Vec<PathBuf> = vms.iter().map(|vm| vm.socket.clone()).collect();
    sockets.splice(1..1, [stuck, dead, none]);

    // So that what they take to start does not count.
    for vm in &vms {
        vm.connect().status().unwrap();
    }
    let limit = Duration::from_secs(5);
    let answers = within(limit * 2, || ask_all(&sockets, "query-status", limit));

    let words: Vec<String> = answers
        .iter()
        .map(|answer| match answer {
            Ok(status) => status["status"].as_str().unwrap().to_owned(),
            Err(Error::Connect { source, .. }) => source.kind().to_string(),
            Err(Error::Timeout { awaited, .. }) => awaited.to_string(),
            Err(err) => panic!("{err:?}"),
        })
        .collect();
    let expected = [
        "prelaunch",
        "the greeting",
        "connection refused",
        "entity not found",
    ];
    assert_eq!(words[..4], expected);
    assert_eq!(words[4..], ["prelaunch", "prelaunch"]);

    // An action waits for the greeting here as well.
    for answer in ask_all(&sockets[4..], "cont", limit) {
        answer.unwrap();
    }
    assert!(ask_all(&[], "query-status", None).is_empty());
}

#[test]
fn a_descriptor_goes_along_with_its_command() {
    let qemu = Prelaunch::start();
    let mut qmp = qemu.connect();
    let file = tempfile::tempfile().unwrap();
    for opaque in ["first", "second"] {
        let arguments = json!({ "opaque": opaque });
        let added = qmp
            .execute_with_fd("add-fd", arguments, file.as_fd())
            .unwrap();
        let sets = qmp.execute("query-fdsets", ()).unwrap();
        let set = sets.as_array().unwrap().iter();
        let mut set = set.filter(|set| set["fdset-id"] == added["fdset-id"]);
        assert_eq!(set.next().unwrap()["fds"][0]["opaque"], opaque, "{sets}");
    }
    // QEMU must not have taken it from elsewhere.
    let refused = qmp.execute("add-fd", ());
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
}

#[test]
fn a_descriptor_waits_for_what_was_queued_before_it() {
    let (mut client, peer) = greeted(&reply(1, &json!(null)));
    client.greeting().unwrap();
    let long = "x".repeat(1 << 20);
    let reader = thread::spawn(move || {
        let mut peer = BufReader::new(peer);
        let mut text = String::new();
        // It closes the connection when it has heard both.
        while !text.contains("second") && peer.read_line(&mut text).unwrap() > 0 {}
        text
    });
    client.send("first", json!({ "long": long })).unwrap();
    let null = fs::File::open("/dev/null").unwrap();
    client.set_timeout(PATIENCE);
    let ended = client.execute_with_fd("second", (), null.as_fd());
    assert!(matches!(ended, Err(Error::Closed { .. })), "{ended:?}");
    drop(client);
    let text = reader.join().unwrap();
    let commands: Vec<_> = text.lines().map(|line| &line[..20]).collect();
    assert_eq!(commands[1..].len(), 2, "{commands:?}");
    assert!(commands[2].contains("second"), "{commands:?}");
}
