//! Memory: every page that exists is copied, none that does not, and mappings keep what they are.
#![allow(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]

mod support;

use std::os::unix::fs::FileExt;

use mem::{AddrRange, Backing, Mapping, MemoryId, PageIndex, PageRange, PageSource, Sharing};
use process::{Instance, SharedObjectKind};
use support::swap::Swap;
use support::{Guarded, python, whole};

fn mapping(instance: &Instance, address: u64) -> &Mapping {
    let inside = |m: &&Mapping| m.range.contains(mem::VirtAddr(address));
    instance.spaces[0].mappings.iter().find(inside).unwrap()
}

fn private(child: &Guarded, pages: &support::Pages, line: usize, page: u64) -> Option<u8> {
    let address = child.number(line, 0) + page * 4096;
    pages.page(MemoryId::Private(0), address / 4096).map(|bytes| bytes[0])
}

#[test]
fn private_pages() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("f"), vec![b'f'; 5 * 4096]).unwrap();
    let Some(child) = python(&format!(
        "
page = 4096
# Line 0: written, read only, dropped, never touched, guarded.
a = mapping(16 * page)
for n in (0, 1, 5, 9):
    poke(a + n * page, b'a')
ctypes.string_at(a + 3 * page, 1)
madvise(a + 5 * page, page, 4)
try:
    madvise(a + 12 * page, 2 * page, 102)
    guarded = 1
except OSError:
    guarded = 0
# Line 1: not readable any more.
b = mapping(page * 4)
poke(b + page, b'b')
call(10, b, 4 * page, 0)
# Line 2: a private file mapping, one page of it written.
fd = os.open({folder:?} + '/f', os.O_RDONLY)
c = mapping(5 * page, 3, 2, fd)
ctypes.string_at(c, 1)
poke(c + 2 * page, b'c')
# Line 3: on the far side of a hole of 1 TiB.
d = mapping(1 << 40, 3, 0x4022)
poke(d + (1 << 40) - page, b'd')
for address in (a, b, c, d):
    tell(hex(address), guarded)
",
        folder = folder.path().to_str().unwrap()
    )) else {
        return;
    };
    let (captured, pages) = whole(&child);
    let page = |line, n| private(&child, &pages, line, n);
    assert_eq!([0, 1, 9].map(|n| page(0, n)), [Some(b'a'); 3]);
    assert_eq!([2, 3, 4, 5, 12, 13].map(|n| page(0, n)), [None; 6]);
    assert_eq!((page(1, 0), page(1, 1)), (None, Some(b'b')));
    assert_eq!([0, 1, 2].map(|n| page(2, n)), [None, None, Some(b'c')]);
    assert_eq!((page(3, 0), page(3, (1 << 28) - 1)), (None, Some(b'd')));
    let instance = &captured.instance;
    let start = child.number(0, 0);
    if child.number(0, 1) == 1 {
        let guards: Vec<_> =
            instance.spaces[0].mappings.iter().flat_map(|m| m.guards.clone()).collect();
        assert!(guards.contains(&AddrRange::new(start + 12 * 4096, start + 14 * 4096)));
    }
    let file = mapping(instance, child.number(2, 0));
    let Backing::File { file: identity, offset_bytes } = &file.backing else { panic!("{file:?}") };
    assert_eq!((identity.size_bytes, *offset_bytes, identity.deleted), (5 * 4096, 0, false));
    assert!(mapping(instance, child.number(3, 0)).has_flag(b"nr"));
    assert!(instance.spaces[0].mappings.iter().any(|m| matches!(&m.backing,
        Backing::File { file, .. } if file.path.starts_with(b"/usr/bin/python3")
            && file.build_id.len() == 20)));
}

#[test]
fn the_copy_is_what_the_memory_holds() {
    let Some(child) = python("x = [bytes([n % 256]) * 5000 for n in range(4000)]") else { return };
    let process = child.process();
    let survey = support::look(&process);
    let mut frozen = support::freeze(&process);
    let captured =
        rekindle_capture::state(&mut frozen, &survey, &process::LineIdentity::default()).unwrap();
    let list = rekindle_capture::pages(&captured.memory).unwrap();
    let pages = support::Pages::default();
    rekindle_capture::copy(&captured.memory, &list, &pages, 2, &|_| None).unwrap();
    let mem = std::fs::File::open(format!("/proc/{}/mem", child.pid())).unwrap();
    let map = pages.0.into_inner().unwrap();
    assert!(map.len() > 5000);
    for ((_, number), copied) in &map {
        let mut real = vec![0; 4096];
        mem.read_exact_at(&mut real, number * 4096).unwrap();
        assert_eq!(real, *copied, "page {number:#x}");
    }
    // What does not exist may not be asked for: reading would bring it into being.
    let stack = captured.instance.spaces[0].mappings.iter().find(|m| m.name == b"[stack]").unwrap();
    let below = PageRange {
        start: PageIndex(stack.range.start.0 / 4096 - 1),
        end: stack.range.start.page(),
    };
    let mut buffer = vec![0; 4096];
    let absent = captured.memory.read(MemoryId::Private(0), below, &mut buffer);
    assert!(matches!(absent, Err(mem::PageSourceError::Absent { .. })), "{absent:?}");
}

#[test]
fn shared_objects() {
    let name = format!("rekindle-test-{}", std::process::id());
    let Some(child) = python(&format!(
        "
page = 4096
m = os.memfd_create('twice')
os.ftruncate(m, 8 * page)
a = mapping(8 * page, 3, 1, m)
b = mapping(4 * page, 1, 1, m, 2 * page)
c = mapping(8 * page, 3, 2, m)
os.close(m)
poke(a + 3 * page, b'm')
poke(c + 3 * page, b'p')
d = mapping(16 * page, 3, 0x21)
poke(d + 5 * page, b's')
f = os.open('/dev/shm/{name}', os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(f, page)
e = mapping(page, 3, 1, f)
os.unlink('/dev/shm/{name}')
poke(e, b'x')
for address in (a, b, c, d, e):
    tell(hex(address))
"
    )) else {
        return;
    };
    let (captured, pages) = whole(&child);
    let instance = &captured.instance;
    let object = |line: usize| match mapping(instance, child.number(line, 0)).backing {
        Backing::SharedObject { object, offset_bytes } => (object, offset_bytes),
        ref other => panic!("{other:?}"),
    };
    let (number, _) = object(0);
    assert_eq!((object(1), object(2)), ((number, 2 * 4096), (number, 0)));
    let kind = |number: u32| &instance.objects[usize::try_from(number).unwrap()].kind;
    assert_eq!(*kind(number), SharedObjectKind::Memfd { name: b"twice".to_vec(), seals: 1 });
    assert_eq!(*kind(object(3).0), SharedObjectKind::Anonymous);
    assert!(matches!(kind(object(4).0), SharedObjectKind::PosixShm { deleted: true, path, .. }
        if path.ends_with(name.as_bytes())));
    let first = |id, n| pages.page(id, n).map(|bytes| bytes[0]);
    let shared = |line| MemoryId::Shared(object(line).0);
    assert_eq!((first(shared(0), 3), first(shared(0), 2)), (Some(b'm'), None));
    assert_eq!(private(&child, &pages, 2, 3), Some(b'p'));
    assert_eq!(private(&child, &pages, 2, 2), None);
    assert_eq!(mapping(instance, child.number(2, 0)).sharing, Sharing::Private);
    assert_eq!((first(shared(3), 5), first(shared(3), 4)), (Some(b's'), None));
    assert_eq!(first(shared(4), 0), Some(b'x'));
}

#[test]
fn advice_and_locks() {
    let Some(child) = python(
        "
page = 4096
kinds = []
for advice in (10, 16, 18, 2, 1, 14, 15):
    a = mapping(page * 2)
    poke(a, b'a')
    # A page between them keeps the kernel from joining what is alike.
    mapping(page, 0)
    madvise(a, page * 2, advice)
    kinds.append(a)
locked = mapping(page * 2)
need('locked memory', lambda: call(149, locked, page * 2))
down = mapping(page * 2, 3, 0x122)
need('locked memory', lambda: call(151, 2))
for a in kinds + [locked, down]:
    tell(hex(a))
",
    ) else {
        return;
    };
    let instance = support::instance(&child);
    let flags: [&[u8; 2]; 9] = [b"dc", b"dd", b"wf", b"sr", b"rr", b"hg", b"nh", b"lo", b"gd"];
    // MADV_SEQUENTIAL is 2 and MADV_RANDOM is 1.
    for (line, flag) in flags.into_iter().enumerate() {
        let mapping = mapping(&instance, child.number(line, 0));
        assert!(mapping.has_flag(flag), "{flag:?} {mapping:?}");
    }
    assert!(instance.spaces[0].lock_future);
    assert!(!instance.spaces[0].lock_future_on_fault);
    let stack = instance.spaces[0].mappings.iter().find(|m| m.name == b"[stack]").unwrap();
    assert!(stack.has_flag(b"gd") && stack.backing == Backing::Anonymous);
    let layout = instance.spaces[0].layout;
    let heap = instance.spaces[0].mappings.iter().find(|m| m.name == b"[heap]").unwrap();
    assert!(heap.range.start.0 <= layout.brk && layout.brk <= heap.range.end.0);
    assert!(layout.arg_start < layout.arg_end && layout.start_code < layout.end_code);
    assert_ne!(instance.spaces[0].vdso_hash, [0; 32]);
}

#[test]
fn swapped_out_pages_are_content() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_swap) = Swap::on(folder.path()) else { return };
    let Some(child) = python(
        "
page = 4096
a = mapping(64 * page)
m = os.memfd_create('out')
os.ftruncate(m, 64 * page)
b = mapping(64 * page, 3, 1, m)
os.close(m)
for address in (a, b):
    for n in range(0, 64, 2):
        poke(address + n * page, b'%02d' % n * 2048)
    madvise(address, 64 * page, 21)
tell(hex(a)); tell(hex(b))
",
    ) else {
        return;
    };
    let smaps = std::fs::read_to_string(format!("/proc/{}/smaps", child.pid())).unwrap();
    let swapped: u64 = smaps
        .lines()
        .filter_map(|l| l.strip_prefix("Swap:"))
        .map(|l| l.split_whitespace().next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert!(swapped >= 64, "only {swapped} kB were swapped out");
    let (captured, pages) = whole(&child);
    let shared = mapping(&captured.instance, child.number(1, 0));
    let Backing::SharedObject { object, .. } = shared.backing else { panic!("{shared:?}") };
    for n in 0..64u64 {
        let private = pages.page(MemoryId::Private(0), child.number(0, 0) / 4096 + n);
        let shared = pages.page(MemoryId::Shared(object), n);
        let wanted = n.is_multiple_of(2).then(|| format!("{n:02}").repeat(2048).into_bytes());
        assert!(private == wanted && shared == wanted, "page {n}");
    }
}

#[test]
fn memory_to_come_locked_on_fault_and_barriers_registered_for() {
    let Some(child) = python(
        "
need('locked memory', lambda: call(151, 6))
call(324, 1 << 4, 0, 0)
call(324, 1 << 2, 0, 0)
",
    ) else {
        return;
    };
    let instance = support::instance(&child);
    let space = &instance.spaces[0];
    assert!(space.lock_future && space.lock_future_on_fault);
    assert_eq!(space.membarrier, Some(1 << 4 | 1 << 2));
}
