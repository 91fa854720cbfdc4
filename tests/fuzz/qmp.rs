//! What QEMU says, as no QEMU would say it.
//!
//! A peer says the input to a real client over a real socket, once in one piece and
//! once in pieces. The input's last byte chooses these, so that a recorded
//! session (`seeds/qmp`, made by `record`) is an input as it stands.

#![no_main]

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;

use qmp::{Client, Error, Event};

#[path = "../../src/nearest.rs"]
#[allow(dead_code)]
mod nearest;
#[path = "../../src/qmp/mod.rs"]
#[allow(dead_code, unused_imports)]
mod qmp;

fuzz_target!(|input: &[u8]| {
    let Some((seed, text)) = input.split_last() else {
        return;
    };
    let whole = heard(text, 0);
    let pieces = heard(text, *seed);
    assert_eq!(whole, pieces, "the same in pieces");
    agree_with_serde(text, &whole);
});

/// All that a client makes of what its peer says.
#[derive(Debug, PartialEq)]
struct Heard {
    greeting: Option<String>,
    events: Vec<Event>,
    /// One for each command: the answer, or what kind of error stands for it.
    answers: Vec<Result<Value, String>>,
    /// Refusals of the negotiation, and at last why nothing more can come.
    errors: Vec<String>,
}

fn heard(text: &[u8], seed: u8) -> Heard {
    let (ours, mut peer) = UnixStream::pair().unwrap();
    let unread = ours.try_clone().unwrap();
    let mut client = Client::new(ours);
    // The last of them waits for the greeting.
    let ids = ["query-a", "query-b", "stop"].map(|command| client.send(command, ()).unwrap());
    let mut said = Heard {
        greeting: None,
        events: Vec::new(),
        answers: Vec::new(),
        errors: Vec::new(),
    };
    for piece in pieces(text, seed) {
        peer.write_all(piece).unwrap();
        if !listen(&mut client, &mut said) {
            break;
        }
    }
    // Enough is enough: after what is too long, nothing more is read.
    if said.errors.last().is_some_and(|error| error == "too long") {
        let left = rustix::io::ioctl_fionread(&unread).unwrap();
        peer.write_all(b"more").unwrap();
        for _ in 0..3 {
            client.next_event(Duration::ZERO).unwrap_err();
        }
        assert_eq!(rustix::io::ioctl_fionread(&unread).unwrap(), left + 4);
    }
    peer.shutdown(Shutdown::Write).unwrap();
    listen(&mut client, &mut said);
    client.set_timeout(None);
    said.answers = ids
        .map(|id| client.receive(&id).map_err(|error| kind(&error)))
        .into();
    said.greeting = client
        .greeting()
        .ok()
        .map(|greeting| format!("{greeting:?}"));
    assert_eq!(client.events().count(), 0);
    said
}

/// Takes in what has come by now; whether more can.
fn listen(client: &mut Client, said: &mut Heard) -> bool {
    loop {
        match client.next_event(Duration::ZERO) {
            Ok(Some(event)) => said.events.push(event),
            Ok(None) | Err(Error::Timeout { .. }) => return true,
            Err(Error::Refused { class, desc, .. }) => said.errors.push(format!("{class}: {desc}")),
            Err(error) => {
                // What has ended has ended, and says so again.
                let kind = kind(&error);
                if said.errors.last() != Some(&kind) {
                    said.errors.push(kind);
                }
                return false;
            }
        }
    }
}

/// What does not change with the time at which it is found out.
fn kind(error: &Error) -> String {
    match error {
        Error::Closed { .. } => "closed".to_owned(),
        Error::TooLong => "too long".to_owned(),
        // Its text shows what came so far.
        Error::Protocol(_) => "no message".to_owned(),
        Error::Refused { .. } => error.to_string(),
        other => panic!("a socket pair and some bytes cannot do this: {other:?}"),
    }
}

/// Cuts the text: not at all, at each byte, or at random.
fn pieces(text: &[u8], seed: u8) -> Vec<&[u8]> {
    let mut random = u32::from(seed).wrapping_mul(0x9e37_79b9);
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        // From bytes to hundreds of them.
        let scale = 1 << (2 * (seed & 3) + 2);
        let length = match seed {
            0 => rest.len(),
            1 if text.len() < 512 => 1,
            _ => 1 + random as usize % scale,
        };
        let (piece, after) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Another reader of JSON must have seen the same events: all of them if the
/// client found no fault, else those before it.
fn agree_with_serde(text: &[u8], heard: &Heard) {
    let values = serde_json::Deserializer::from_slice(text).into_iter::<Value>();
    let names: Vec<Value> = values
        .map_while(Result::ok)
        .filter(|value| {
            value.get("return").is_none() && value.get("error").is_none_or(Value::is_null)
        })
        .filter_map(|value| value.get("event").cloned())
        .filter(|name| !name.is_null())
        .collect();
    let seen = heard.events.iter().map(|event| event.name.as_str());
    assert!(
        seen.clone().eq(names.iter().take(heard.events.len())),
        "{names:?} is not {:?}",
        heard.events
    );
    if heard.errors.last().is_some_and(|error| error == "closed") {
        assert_eq!(names.len(), heard.events.len());
    }
}
