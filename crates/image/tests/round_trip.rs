//! Every value of `process` and `plan` comes back from the format as it was.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{
    arbitrary_files, arbitrary_instance, arbitrary_loss, arbitrary_plan, arbitrary_summary, draw,
    key,
};
use mem::{Backing, Mapping};
use proptest::prelude::*;
use rekindle_image::{
    CheckpointId, DataFile, Files, Header, IndexFile, LayoutError, LineKey, Manifest,
};

fn files() -> Files {
    Files {
        index: IndexFile { name: "index".to_owned(), ..IndexFile::default() },
        hashes: DataFile { name: "hashes".to_owned(), ..DataFile::default() },
        ..Files::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn manifests_come_back(mut draw in draw()) {
        let files = arbitrary_files(&mut draw);
        let is_child = files.parent.is_some();
        let manifest = Manifest {
            id: CheckpointId(draw.u64()),
            page_bytes: draw.u64(),
            depth: if is_child { 1 + u16::from(draw.u8()) % 63 } else { 0 },
            referenced_bytes: if is_child { draw.u64() } else { 0 },
            instance: arbitrary_instance(&mut draw),
            plan: arbitrary_plan(&mut draw),
            summary: arbitrary_summary(&mut draw),
            files,
            loss: arbitrary_loss(&mut draw),
        };
        let bytes = manifest.encode(&key()).unwrap();
        prop_assert_eq!(&Manifest::decode(&bytes, &key()).unwrap(), &manifest);
        let header = Header::read(&bytes).unwrap();
        prop_assert_eq!(header.id, manifest.id);
        prop_assert_eq!(&header.instance, &manifest.instance.line.instance);
        prop_assert_eq!(header.created_ns, manifest.summary.created_ns);
        prop_assert_eq!(header.page_bytes, manifest.page_bytes);
        prop_assert_eq!(header.parent, manifest.files.parent.map(|parent| parent.id));
        prop_assert_eq!(header.depth, manifest.depth);
        prop_assert_eq!(header.referenced_bytes, manifest.referenced_bytes);
        prop_assert_eq!(header.manifest_bytes, u64::try_from(bytes.len()).unwrap());
        prop_assert_eq!(header.key_fingerprint, key().fingerprint());
        let other = LineKey::new([9; 32]);
        let refused = Manifest::decode(&bytes, &other).unwrap_err();
        prop_assert_eq!(refused, rekindle_image::FormatError::Key);
    }

    /// What leads nowhere is refused when written, so that nobody has to find out at a resume.
    #[test]
    fn dangling_indices_are_refused(mut draw in draw()) {
        let mut instance = arbitrary_instance(&mut draw);
        let object = u32::try_from(instance.objects.len()).unwrap();
        let Some(space) = instance.spaces.first_mut() else { return Ok(()) };
        space.mappings.push(Mapping {
            range: mem::AddrRange::new(0, 4096),
            protection: mem::Protection::default(),
            sharing: mem::Sharing::Shared,
            backing: Backing::SharedObject { object, offset_bytes: 0 },
            name: Vec::new(),
            vm_flags: Vec::new(),
            guards: Vec::new(),
        });
        let manifest = Manifest { instance, files: files(), ..Manifest::default() };
        let refused = manifest.encode(&key()).unwrap_err().to_string();
        prop_assert!(refused.ends_with("does not exist"), "{refused}");
    }
}

/// The generator reaches every kind of value; without this a table of conversions could be wrong
/// in a place that is never drawn.
#[test]
fn the_generator_reaches_everything() {
    let mut text = String::new();
    for seed in 0..300 {
        let mut draw = common::Draw::new(common::noise(seed, 6000));
        text += &format!("{:?}", arbitrary_instance(&mut draw));
    }
    for word in [
        "Anonymous",
        "File {",
        "SharedObject {",
        "Vdso",
        "Vvar",
        "VvarVclock",
        "Vsyscall",
        "Other",
        "Memfd",
        "PosixShm",
        "StatelessDevice",
        "Terminal {",
        "SharedObject(",
        "Pipe {",
        "EventFd",
        "Epoll",
        "TimerFd",
        "SignalFd",
        "Socket(",
        "External",
        "Read",
        "Write",
        "Both",
        "Flock",
        "Posix",
        "OpenFileDescription",
        "Unix",
        "Inet",
        "Inet6",
        "Stream",
        "Datagram",
        "SeqPacket",
        "Idle",
        "Listening",
        "Pair",
        "ClosedByPeer",
        "Connected",
        "Cgroup",
        "Ipc",
        "Mount",
        "Network",
        "PidForChildren",
        "TimeForChildren",
        "User",
        "Uts",
        "Process",
        "Thread(",
        "Rseq",
        "Some(TerminalId(",
        "SocketAddress",
        "EpollInterest",
        "QueuedSignal",
    ] {
        assert!(text.contains(word), "no {word}");
    }
}

#[test]
fn times_out_of_range_are_refused() {
    let mut manifest = Manifest { files: files(), ..Manifest::default() };
    for realtime_ns in [i128::MAX, i128::MIN] {
        manifest.instance.host.clocks.realtime_ns = realtime_ns;
        assert!(matches!(manifest.encode(&key()), Err(LayoutError::Invalid { .. })));
    }
    for realtime_ns in [-1, 0, -1_000_000_000, i128::from(i64::MAX) * 1_000_000_000] {
        manifest.instance.host.clocks.realtime_ns = realtime_ns;
        let bytes = manifest.encode(&key()).unwrap();
        assert_eq!(Manifest::decode(&bytes, &key()).unwrap(), manifest);
    }
}

#[test]
fn a_depth_without_a_parent_is_refused() {
    let files = Files { parent: Some(rekindle_image::ParentEntry::default()), ..files() };
    for (files, depth) in [(self::files(), 1), (files.clone(), 0), (files, 64)] {
        let manifest = Manifest { files, depth, ..Manifest::default() };
        assert!(matches!(manifest.encode(&key()), Err(LayoutError::Invalid { .. })));
    }
}

#[test]
fn names_that_lead_out_of_the_directory_are_refused() {
    for name in ["", "..", ".x", "a/b", "/a", "a\0", "é", &"a".repeat(65)] {
        let mut manifest = Manifest::default();
        manifest.files.index.name = name.to_owned();
        assert!(matches!(manifest.encode(&key()), Err(LayoutError::Invalid { .. })), "{name:?}");
    }
}
