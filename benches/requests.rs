//! Asks one command many times on one connection: what `floor -n` does in C, as a
//! program that uses the crate does it.
//!
//! `requests COUNT SOCKET COMMAND`; prints the last answer.
#![allow(clippy::print_stdout, reason = "a program of its own")]

use std::path::Path;

use maqet::qmp::{Client, DEFAULT_TIMEOUT};
use serde_json::Value;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().collect();
    let [_, count, socket, command] = &words[..] else {
        return Err("usage: requests COUNT SOCKET COMMAND".into());
    };
    let mut qmp = Client::connect(Path::new(socket), DEFAULT_TIMEOUT)?;
    let mut answer = Value::Null;
    for _ in 0..count.parse::<u32>()? {
        answer = qmp.execute(command, ())?;
    }
    println!("{answer}");
    Ok(())
}
