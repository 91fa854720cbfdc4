use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::sandbox::{PATIENCE, Sandbox, free_ports};

/// A VM whose screen is shown in that way.
fn shown(lines: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", lines);
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
}

/// The first words of a VNC server (RFC 6143, 7.1.1).
fn speaks_vnc(mut stream: impl Read) {
    let mut banner = [0; 12];
    stream.read_exact(&mut banner).unwrap();
    let banner = String::from_utf8_lossy(&banner);
    assert!(banner.starts_with("RFB 003."), "{banner}");
}

/// What a SPICE client says first, asking for the main channel, and what the server answers
/// (SpiceLinkMess and SpiceLinkReply of the SPICE protocol).
fn speaks_spice(mut stream: impl Read + Write) {
    let message: [u32; 9] = [
        u32::from_le_bytes(*b"REDQ"),
        2,
        2,
        18,
        0,
        // Main channel, number 0; then no capabilities, after 18 bytes.
        1,
        0,
        18 << 16,
        0,
    ];
    let bytes: Vec<u8> = message.iter().flat_map(|it| it.to_le_bytes()).collect();
    stream.write_all(&bytes[..16 + 18]).unwrap();
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..4], *b"REDQ");
    assert_eq!(answer[4..], 2_u32.to_le_bytes());
}

fn over_tcp(sandbox: &Sandbox, name: &str) -> TcpStream {
    let status: Value = sandbox.maqet(&["status", "@web", "--json"]).json();
    assert_eq!(status["endpoints"][0]["name"], name, "{status}");
    let address = status["endpoints"][0]["address"].as_str().unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn over_unix(sandbox: &Sandbox, name: &str) -> UnixStream {
    let status: Value = sandbox.maqet(&["status", "@web", "--json"]).json();
    let sockets = status["sockets"].as_array().unwrap();
    let socket = sockets.iter().find(|it| it["name"] == name);
    let socket = socket.unwrap_or_else(|| panic!("{name} is not in {status}"));
    assert_eq!(socket["exists"], true);
    let stream = UnixStream::connect(socket["path"].as_str().unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn a_vnc_server_answers_on_its_socket() {
    let sandbox = shown("display = 'vnc'");
    speaks_vnc(over_unix(&sandbox, "vnc"));
}

#[test]
fn a_vnc_server_answers_on_the_loopback() {
    // From 5900 on, and below what the kernel hands out.
    let port = free_ports().into_iter().find(|port| *port >= 5900).unwrap();
    let sandbox = shown(&format!(
        "display = {{ type = 'vnc', listen = '127.0.0.1:{port}' }}"
    ));
    speaks_vnc(over_tcp(&sandbox, "vnc"));
}

#[test]
fn a_spice_server_answers_on_its_socket() {
    let sandbox = shown("display = 'spice'\nvga = 'qxl'\naudio = 'spice'");
    speaks_spice(over_unix(&sandbox, "spice"));
}

#[test]
fn a_spice_server_answers_on_the_loopback() {
    let [port, _] = free_ports();
    let sandbox = shown(&format!(
        "display = {{ type = 'spice', listen = '127.0.0.1:{port}' }}"
    ));
    speaks_spice(over_tcp(&sandbox, "spice"));
}
