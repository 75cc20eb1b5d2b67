use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use super::*;

fn own() -> Whose {
    let namespace = std::fs::metadata("/proc/self/ns/pid").unwrap();
    let pid = i32::try_from(std::process::id()).unwrap();
    Whose { namespace: (namespace.dev(), namespace.ino()), pid }
}

#[test]
fn what_is_received_is_recorded_and_nothing_else() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "of a file").unwrap();
    let recording = Recording::begin(own(), 1 << 20).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let (mut reader, mut writer) = io::pipe().unwrap();
    client.write_all(b"by a socket").unwrap();
    writer.write_all(b"by a pipe").unwrap();
    let mut bytes = [0; 64];
    assert_eq!(server.read(&mut bytes).unwrap(), 11);
    assert_eq!(reader.read(&mut bytes).unwrap(), 9);
    std::fs::read(file.path()).unwrap();
    drop(client);
    assert_eq!(server.read(&mut bytes).unwrap(), 0);
    let (fds, listening) =
        ([server.as_raw_fd(), reader.as_raw_fd()].map(i32::unsigned_abs), listener.as_raw_fd());
    let recorded = recording.end().unwrap();
    assert_eq!(recorded.lost, 0);
    let of = |fd: u32| {
        let receipts = recorded.all.iter().filter(|r| r.fd == fd && r.kind != Kind::Accept);
        receipts.map(|r| (r.returned, r.bytes.as_slice())).collect::<Vec<_>>()
    };
    assert_eq!(of(fds[0]), [(11, &b"by a socket"[..]), (0, b"")]);
    assert_eq!(of(fds[1]), [(9, &b"by a pipe"[..])]);
    let accepted = |r: &&Receipt| r.kind == Kind::Accept && r.fd == listening.unsigned_abs();
    let accepted: Vec<_> = recorded.all.iter().filter(accepted).map(|r| r.returned).collect();
    assert_eq!(accepted, [u64::from(fds[0])]);
    assert!(!recorded.all.iter().any(|r| r.bytes == b"of a file"), "{recorded:?}");
}

#[test]
fn what_there_is_no_room_for_is_counted() {
    let recording = Recording::begin(own(), 4096).unwrap();
    let (mut reader, mut writer) = io::pipe().unwrap();
    let mut bytes = [0; 1000];
    for _ in 0..40 {
        writer.write_all(&bytes).unwrap();
        reader.read_exact(&mut bytes).unwrap();
    }
    let recorded = recording.end().unwrap();
    let kept = recorded.all.iter().filter(|r| r.bytes.len() == 1000).count() as u64;
    assert!((1..=4).contains(&kept), "{kept}");
    assert!(kept + recorded.lost >= 40, "{kept} {}", recorded.lost);
}
