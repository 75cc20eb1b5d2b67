//! A checkpoint as a stream: what comes out of it is what went in, and what is off anywhere is
//! refused without a trace.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use codec::Want;
use common::{Field, History, PRIVATE, begin_on, files, id, instance, new_store, publish, summary};
use image::CheckpointId;
use mem::{PageRange, PageSet, PageSink, PageSource};
use plan::{Plan, Treatment};
use proptest::prelude::*;
use rekindle_store::{Checkpoint, ImportError, Imported, ReadError, Store, WriteError};

fn export(store: &Store, id: CheckpointId) -> Vec<u8> {
    let mut stream = Vec::new();
    let checkpoint = store.checkpoint(id).unwrap();
    let done =
        checkpoint.export(&mut stream, &|_| Ok::<_, rekindle_store::ExportError>(())).unwrap();
    assert_eq!(done.stream_bytes, stream.len() as u64);
    let chain: Vec<_> = checkpoint.chain().map(Checkpoint::id).collect();
    assert!(done.checkpoints.iter().rev().eq(&chain));
    stream
}

/// Reads in pieces of lengths that fit nothing.
struct Odd<'a>(&'a [u8], usize);

impl Read for Odd<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1 = (self.1 * 7 + 3) % 10_007;
        if self.1.is_multiple_of(5) {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let count = self.1.min(buffer.len()).min(self.0.len()).max(1).min(self.0.len());
        let (now, rest) = self.0.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.0 = rest;
        Ok(count)
    }
}

fn import(store: &Store, stream: &[u8]) -> Result<Imported, ImportError> {
    let go_on = |_, _| Ok::<_, ImportError>(());
    store.receive(&mut Odd(stream, 1), &go_on)?.verify(&|_| Ok::<_, ImportError>(()))?.publish()
}

/// Nothing is visible, nothing is left, and there is no line that was not there.
fn is_as_it_was(store: &Store, lines: usize) {
    let count = |name: &str| fs::read_dir(store.root().join(name)).unwrap().count();
    assert_eq!((count("checkpoints"), count("tmp"), count("lines")), (0, 0, lines));
}

/// The files of checkpoint `id`, by name.
fn stored(store: &Store, id: CheckpointId) -> Vec<(String, Vec<u8>)> {
    let all = files(&store.root().join("checkpoints").join(id.to_string())).into_iter();
    all.map(|(path, bytes)| (path.file_name().unwrap().to_str().unwrap().to_owned(), bytes))
        .collect()
}

fn is_private(path: &Path) {
    let mode = fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| is_private(&entry.unwrap().path()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Chains of any forms: the same files, with the same content, on each other as they were.
    #[test]
    fn what_came_is_what_was_sent(
        seed in any::<u64>(), length in 1..6usize, form in 0..6usize, at in 0..6usize,
    ) {
        let ((_here, from), (_there, to)) = (new_store(), new_store());
        let mut history = History::new(seed);
        let mut made: Vec<(CheckpointId, History)> = Vec::new();
        for _ in 0..length {
            history.churn(20);
            let parent = made.last().map(|(id, _)| from.checkpoint(*id).unwrap());
            let published = history.publish(&from, Want::Zstd(1), parent);
            made.push((published.id, history.clone()));
        }
        let (one, (newest, _)) = (made[at % length].0, made[length - 1].clone());
        match form {
            0 => drop(from.consolidate(one).unwrap()),
            1 => drop(from.recompress(one, &|_| Ok::<_, WriteError>(())).unwrap()),
            _ => {}
        }
        let chain: Vec<_> =
            from.checkpoint(newest).unwrap().chain().map(Checkpoint::id).collect();
        let stream = export(&from, newest);
        let imported = import(&to, &stream).unwrap();
        prop_assert_eq!(imported.id, newest);
        prop_assert_eq!(&imported.instance, &id(1));
        prop_assert!(imported.imported.iter().rev().eq(&chain));
        prop_assert_eq!(&imported.present, &[]);
        prop_assert_eq!(imported.verified, from.checkpoint(newest).unwrap().verify().unwrap());
        for id in &chain {
            prop_assert_eq!(stored(&to, *id), stored(&from, *id));
            let history = &made.iter().find(|(made, _)| made == id).unwrap().1;
            history.compare(&to.checkpoint(*id).unwrap());
        }
        is_private(to.root());
        // The same once more, into a store that has it, in whichever form.
        match form {
            2 => drop(to.consolidate(newest).unwrap()),
            3 => drop(to.consolidate(chain[at % chain.len()]).unwrap()),
            4 => drop(to.recompress(newest, &|_| Ok::<_, WriteError>(())).unwrap()),
            _ => {}
        }
        let again = import(&to, &stream).unwrap();
        prop_assert_eq!(&again.imported, &[]);
        prop_assert!(again.present.iter().rev().eq(&chain));
        // And what goes on from there.
        history.churn(9);
        let parent = from.checkpoint(newest).unwrap();
        let next = history.publish(&from, Want::Lz4, Some(parent)).id;
        let third = import(&to, &export(&from, next)).unwrap();
        prop_assert_eq!(third.imported, [next]);
        history.compare(&to.checkpoint(next).unwrap());
        to.checkpoint(next).unwrap().verify().unwrap();
    }

    /// Streams that are cut, or of which a byte is another one.
    #[test]
    fn what_is_off_is_refused_without_a_trace(
        at in any::<prop::sample::Index>(), by in 1..=255u8, insert in 0..4,
    ) {
        let stream = small();
        let at = at.index(stream.len());
        let mut altered = stream.to_vec();
        match insert {
            0 => altered.truncate(at),
            1 => altered.insert(at, by),
            2 => drop(altered.drain(at..(at + 512).min(stream.len()))),
            _ => altered[at] ^= by,
        }
        let (_there, to) = new_store();
        let refused = import(&to, &altered);
        prop_assert!(refused.is_err() || altered == stream, "byte {} of {}", at, stream.len());
        if refused.is_err() {
            is_as_it_was(&to, 0);
        }
    }
}

/// A stream of two checkpoints.
fn small() -> &'static [u8] {
    static SMALL: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    SMALL.get_or_init(|| {
        let (_here, from) = new_store();
        let mut history = History::new(3);
        let first = history.publish(&from, Want::Zstd(1), None);
        history.churn(9);
        let parent = from.checkpoint(first.id).unwrap();
        let second = history.publish(&from, Want::Zstd(1), Some(parent));
        export(&from, second.id)
    })
}

/// In each block one byte is another one: no part of the stream is not looked at.
#[test]
fn every_block_counts() {
    let stream = small();
    let (_there, to) = new_store();
    for block in 0..stream.len() / 512 {
        let mut altered = stream.to_vec();
        altered[block * 512 + block * 37 % 512] ^= 0x20;
        let refused = import(&to, &altered);
        assert!(refused.is_err(), "block {block} of {}", stream.len() / 512);
        is_as_it_was(&to, 0);
        let refused = import(&to, &stream[..block * 512]);
        assert!(matches!(refused, Err(ImportError::Cut { .. })), "{refused:?}");
    }
    let longer = [stream, &[0]].concat();
    assert!(matches!(import(&to, &longer), Err(ImportError::Altered { .. })));
    is_as_it_was(&to, 0);
    import(&to, stream).unwrap();
}

#[test]
fn what_is_no_export_is_named_so() {
    let (_there, to) = new_store();
    for other in [&[7; 4096][..], b"#!/bin/sh\n", &[0; 10240]] {
        let refused = import(&to, other);
        assert!(matches!(refused, Err(ImportError::NotAnExport)), "{refused:?}");
    }
    assert!(matches!(import(&to, b""), Err(ImportError::Cut { at_bytes: 0 })));
    // Another version's.
    let at = small().windows(16).position(|bytes| bytes == b"rekindle store 1").unwrap();
    let mut newer = small().to_vec();
    newer[at + 15] = b'2';
    assert!(matches!(import(&to, &newer), Err(ImportError::Newer { .. })));
    is_as_it_was(&to, 0);
}

/// What is unpacked by tar(1) is a store; what tar packs is no stream of ours.
#[test]
fn common_tools_unpack_it_to_a_store() {
    let (dir, to) = new_store();
    let file = dir.path().join("stream.tar");
    fs::write(&file, small()).unwrap();
    let there = dir.path().join("there");
    fs::create_dir(&there).unwrap();
    fs::set_permissions(&there, fs::Permissions::from_mode(0o700)).unwrap();
    let tar = |arguments: &[&str]| {
        let done = Command::new("tar").args(arguments).current_dir(dir.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let listed = tar(&["tvf", "stream.tar"]);
    assert!(listed.contains("checkpoints/") && listed.contains("-rw-------"), "{listed}");
    tar(&["xf", "stream.tar", "-C", "there", "--no-same-owner"]);
    let unpacked = Store::open(&there).unwrap();
    is_private(&there);
    let [newest, _] = &unpacked.list().unwrap()[..] else { panic!("two") };
    unpacked.checkpoint(newest.id).unwrap().verify().unwrap();
    tar(&["cf", "other.tar", "-C", "there", "layout", "lines", "tmp", "checkpoints"]);
    let other = fs::read(dir.path().join("other.tar")).unwrap();
    import(&to, &other).unwrap_err();
    is_as_it_was(&to, 0);
}

#[test]
fn a_line_keeps_its_key_and_an_id_its_content() {
    let (_there, to) = new_store();
    // The same instance, seen in another store.
    publish(&to, 1, 5, Want::Lz4);
    let refused = import(&to, small());
    assert!(matches!(refused, Err(ImportError::Key { .. })), "{refused:?}");
    assert_eq!(to.list().unwrap().len(), 1);
    assert_eq!(files(&to.root().join("tmp")), []);
    // One that has its name, and is of another moment.
    let (_there, to) = new_store();
    let newest = import(&to, small()).unwrap().id;
    let manifest = to.root().join(format!("checkpoints/{newest}/manifest"));
    let key = fs::read(to.root().join(format!("lines/{}/key", id(1)))).unwrap();
    let key = image::LineKey::new(key.try_into().unwrap());
    let mut other = image::Manifest::decode(&fs::read(&manifest).unwrap(), &key).unwrap();
    other.summary.created_ns += 1;
    fs::write(&manifest, other.encode(&key).unwrap()).unwrap();
    let refused = import(&to, small());
    assert!(matches!(refused, Err(ImportError::Differs { .. })), "{refused:?}");
    assert_eq!(files(&to.root().join("tmp")), []);
    // One that has its name, and is damaged: it is not replaced.
    let (_there, to) = new_store();
    let newest = import(&to, small()).unwrap().id;
    let manifest = to.root().join(format!("checkpoints/{newest}/manifest"));
    let mut bytes = fs::read(&manifest).unwrap();
    bytes[200] ^= 1;
    fs::write(&manifest, &bytes).unwrap();
    let refused = import(&to, small());
    assert!(matches!(refused, Err(ImportError::Read(ReadError::Format { .. }))), "{refused:?}");
    assert_eq!(fs::read(&manifest).unwrap(), bytes);
}

#[test]
fn two_imports_of_one_checkpoint_are_kept_apart() {
    let (_there, to) = new_store();
    let go_on = |_, _| Ok::<_, ImportError>(());
    let first = to.receive(&mut &small()[..], &go_on).unwrap();
    let refused = import(&to, small()).unwrap_err();
    assert!(matches!(refused, ImportError::Write(WriteError::InUse { .. })), "{refused}");
    assert_eq!(to.prune(common::newest(0)).unwrap().leftovers.len(), 0, "its writer lives");
    drop(first.verify(&|_| Ok::<_, ImportError>(())).unwrap());
    is_as_it_was(&to, 0);
    // Whoever is asked and says no.
    let stopped = to.receive(&mut &small()[..], &|read, _| match read {
        100_000.. => Err(ImportError::NotAnExport),
        _ => Ok(()),
    });
    assert!(matches!(stopped, Err(ImportError::NotAnExport)));
    let received = to.receive(&mut &small()[..], &go_on).unwrap();
    let stopped = received.verify(&|_| Err(ImportError::NotAnExport));
    assert!(matches!(stopped, Err(ImportError::NotAnExport)));
    is_as_it_was(&to, 0);
}

#[test]
fn what_was_lost_stays_told_of() {
    let ((_here, from), (_there, to)) = (new_store(), new_store());
    let mut field = Field::new(5);
    let (published, plan) = field.publish(&from, None);
    import(&to, &export(&from, published.id)).unwrap();
    let there = to.checkpoint(published.id).unwrap();
    assert_eq!(there.loss(), from.checkpoint(published.id).unwrap().loss());
    let pages = PageRange::new(0, Field::PAGES);
    let mut found = vec![0; usize::try_from(pages.bytes()).unwrap()];
    there.read(PRIVATE, pages, &mut found).unwrap();
    field.compare(&found, &plan, &published.loss);
}

/// Bytes that are in a file do not come along: with the file all is checked, without it the rest.
#[test]
fn files_elsewhere_are_told_of_and_not_carried() {
    let ((here, from), (_there, to)) = (new_store(), new_store());
    let path = here.path().join("weights");
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(200_000)
    .flatten()
    .collect();
    fs::write(&path, &noise).unwrap();
    let mut memory = vec![3; 512 << 12];
    memory[5000..5000 + noise.len()].copy_from_slice(&noise);
    let pages: PageSet = [PageRange::new(0, 512)].into_iter().collect();
    let plan = Plan::everything(&[(PRIVATE, pages)], Treatment::Lz4);
    let mut parent = None;
    let mut newest = CheckpointId::default();
    for time in 1..3 {
        let mut writer = begin_on(&from, 1, Want::Zstd(1), parent);
        let mut twins = rekindle_store::Twins::new(1 << 30).unwrap();
        twins.add(fs::File::open(&path).unwrap(), &path, &|| false).unwrap();
        writer.find_twins(twins);
        writer.put(PRIVATE, PageRange::new(0, 512), &memory).unwrap();
        newest = writer.finish(&instance(1), &plan, &summary(time)).unwrap().id;
        parent = Some(from.checkpoint(newest).unwrap());
        // A difference to what is in the file.
        memory[300 << 12] ^= 1;
    }
    drop(parent);
    let stream = export(&from, newest);
    assert!(stream.len() < noise.len() / 4, "{} bytes", stream.len());
    let imported = import(&to, &stream).unwrap();
    assert_eq!((&imported.twins_missing[..], imported.verified.frames_unread), (&[][..], 0));
    assert_eq!(imported.twins, std::slice::from_ref(&path));
    // Where the file is not.
    fs::rename(&path, path.with_extension("away")).unwrap();
    let (_there, to) = new_store();
    let imported = import(&to, &stream).unwrap();
    assert_eq!(imported.twins_missing.len(), 1);
    assert_eq!(imported.twins_missing[0].path, path);
    assert!(imported.verified.frames_unread > 0);
    to.checkpoint(newest).unwrap().verify().unwrap_err();
    for at in (0..stream.len()).step_by(stream.len() / 60) {
        let mut altered = stream.clone();
        altered[at] ^= 1;
        import(&new_store().1, &altered).unwrap_err();
    }
    fs::rename(path.with_extension("away"), &path).unwrap();
    to.checkpoint(newest).unwrap().verify().unwrap();
}
