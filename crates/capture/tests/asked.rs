//! State that can be read nowhere, and shows when the frozen program is asked.
#![allow(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]

mod support;

use std::time::{Duration, Instant};

use process::{ChangeKind, LineIdentity, StateKind};
use rekindle_capture::{self as capture, Captured, Options, StateError, look};
use support::{Guarded, python};
use sys::proc::{RunState, parse_stat};

/// Rules that forbid to write files; `no_new_privs` is what they need without privileges.
const LANDLOCK: &str = "
def restrict():
    rules = need('landlock', lambda: call(444, struct.pack('Q', 2), 8, 0))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    call(446, rules, 0)
    os.close(rules)
";

fn state(child: &Guarded) -> Result<Captured, StateError> {
    let process = child.process();
    let survey = support::look(&process);
    let mut frozen = support::freeze(&process);
    capture::state(&mut frozen, &survey, &LineIdentity::default())
}

/// The kinds of the blockers that a capture of `script` ends with.
fn refused(script: &str) -> Option<Vec<StateKind>> {
    let child = python(script)?;
    match state(&child) {
        Err(StateError::Blocked(found)) => Some(found.iter().map(|b| b.kind).collect()),
        other => panic!("{script}: {other:?}"),
    }
}

/// What a look at `script` and a capture of it note of this kind.
fn noted(kind: ChangeKind, script: &str) -> Option<(Vec<String>, Vec<String>)> {
    let child = python(script)?;
    let survey = support::look(&child.process());
    let of = |changes: &[process::Change]| {
        changes.iter().filter(|c| c.kind == kind).map(|c| c.what.clone()).collect()
    };
    Some((of(survey.changes()), of(&state(&child).unwrap().changes)))
}

/// Rules of the program, of any user and of one thread alone, are found; a plain one has none.
#[test]
fn landlock_rules() {
    let of_users = ["pass", "os.setgid(65533); os.setuid(65534)", "os.setresuid(65534, -1, -1)"];
    for user in of_users {
        let Some(found) = refused(&format!("{LANDLOCK}\n{user}\nrestrict()")) else { return };
        assert_eq!(found, [StateKind::Landlock], "{user}");
        let plain = python(user).unwrap();
        state(&plain).unwrap();
    }
    let thread = "
go = threading.Event()
def body():
    restrict(); go.set(); time.sleep(1000)
threading.Thread(target=body, daemon=True).start()
go.wait()
";
    // Only the thread has no_new_privs then, which is no credential.
    assert_eq!(refused(&format!("{LANDLOCK}\n{thread}")).unwrap(), [StateKind::Landlock]);
}

/// In a pid namespace of its own, where we have no number, the program is asked as well.
#[test]
fn landlock_rules_in_a_pid_namespace() {
    let inside = |act: &str| {
        format!(
            "{LANDLOCK}
need('pid namespaces', lambda: libc.unshare(0x20000000) and call(272, 0x20000000))
p = os.fork()
if p:
    tell(p); ready()
libc.prctl(1, 9)
sys.stdout = None
{act}
os.close(1)
while True: time.sleep(1000)
"
        )
    };
    let state_of_child = |act: &str| {
        let parent = python(&inside(act))?;
        let pid = i32::try_from(parent.number(0, 0)).unwrap();
        // It closes its standard output when it is where it should be.
        while std::fs::exists(format!("/proc/{pid}/fd/1")).unwrap() {
            std::thread::yield_now();
        }
        let process = target::Process::open(pid).unwrap();
        let survey = look(&process, &Options::default()).unwrap();
        assert!(survey.blockers().is_empty(), "{:#?}", survey.blockers());
        let mut frozen = support::freeze(&process);
        Some(capture::state(&mut frozen, &survey, &LineIdentity::default()))
    };
    let Some(plain) = state_of_child("pass") else { return };
    plain.unwrap();
    let Err(StateError::Blocked(found)) = state_of_child("restrict()").unwrap() else {
        panic!("rules inside are not found")
    };
    assert_eq!(found.iter().map(|b| b.kind).collect::<Vec<_>>(), [StateKind::Landlock]);
}

/// A key in a keyring that ends with the process is not lost silently.
#[test]
fn keyrings() {
    for keyring in [-1, -2] {
        let add =
            format!("need('keys', lambda: call(248, b'user', b'rekindle', b'x', 1, {keyring}))");
        let Some(found) = refused(&add) else { return };
        assert_eq!(found, [StateKind::Keyring], "{keyring}");
    }
    let of_session = |script: &str| {
        let (_, notes) = noted(ChangeKind::Session, script)?;
        Some(notes.iter().filter(|what| what.contains("session keyring")).count())
    };
    assert_eq!(of_session("pass").unwrap(), 0);
    assert_eq!(of_session("os.setgid(65533); os.setuid(65534)").unwrap(), 0);
    assert_eq!(of_session("call(250, 1, None)").unwrap(), 1);
}

/// Settings of the process that no field of the checkpoint holds.
#[test]
fn unusual_settings() {
    let cases = [
        "need('segments', lambda: call(154, 1, struct.pack('4I', 0, 0, 0xfffff, 0x51), 16))",
        "need('MDWE', lambda: call(157, 65, 1, 0, 0, 0))",
        "need('the IO flusher', lambda: call(157, 57, 1, 0, 0, 0))",
        "need('merging', lambda: call(157, 67, 1, 0, 0, 0))",
        "need('I/O ports', lambda: call(173, 0x80, 1, 1))",
        "need('I/O ports', lambda: call(172, 3)); os.setuid(65534)",
    ];
    for case in cases {
        let Some(found) = refused(case) else { continue };
        assert_eq!(found, [StateKind::Unknown], "{case}");
    }
}

/// A program whose own limit leaves no room for what it is asked by is refused, and told what to
/// raise.
#[test]
fn a_program_at_its_limits() {
    let script = "
import resource
resource.setrlimit(resource.RLIMIT_AS, (1 << 20, resource.RLIM_INFINITY))
";
    assert_eq!(refused(script).unwrap(), [StateKind::Limits]);
}

fn stat(child: &Guarded) -> RunState {
    child.process().dir().parse("stat", &mut Vec::new(), parse_stat).unwrap().state
}

#[test]
fn a_stopped_program_is_known_as_such() {
    let child = python("pass").unwrap();
    let is_stopped = |child: &Guarded| state(child).unwrap().instance.groups[0].is_stopped;
    assert!(!is_stopped(&child));
    child.process().pidfd().send_signal(libc::SIGSTOP).unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while stat(&child) != RunState::Stopped {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(is_stopped(&child));
}

#[test]
fn numa_policies() {
    let bound = "
many = [mapping(4096, 3 if n % 2 else 1) for n in range(600)]
a, b = mapping(1 << 20), mapping(1 << 20, 3, 0x21)
need('NUMA', lambda: call(237, a, 1 << 20, 2, struct.pack('Q', 1), 64, 0))
call(237, b, 1 << 20, 1, struct.pack('Q', 1), 64, 0)
";
    let Some((_, notes)) = noted(ChangeKind::Placement, bound) else { return };
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].starts_with("the NUMA policy of 2 mappings"), "{notes:?}");
    assert_eq!(noted(ChangeKind::Placement, "a = mapping(1 << 20)").unwrap().1, [""; 0]);
}

/// A file whose offset a process outside has as well: seen without a stop.
#[test]
fn offsets_shared_with_a_process_outside() {
    // The grandchild is outside, and ends with its time.
    let with = |open: &str, beside: &str| {
        format!(
            "
g, n = tempfile.mkstemp(); os.close(g)
f = {open}
p = os.fork()
if p == 0:
    if os.fork() == 0:
        {beside}
        signal.alarm(30); time.sleep(1000)
    os._exit(0)
os.waitpid(p, 0)
f = os.dup(f)
"
        )
    };
    let descriptor = |script: &str| noted(ChangeKind::Descriptor, script).unwrap();
    let (seen, captured) = descriptor(&with("os.open(n, os.O_RDWR)", "pass"));
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(seen[0].contains("shares its offset with process"), "{seen:?}");
    assert_eq!(seen, captured);
    // What is only appended to needs no offset; another description of the file is another one.
    let append = with("os.open(n, os.O_WRONLY | os.O_APPEND)", "pass");
    assert_eq!(descriptor(&append).0, [""; 0]);
    let apart = with("os.open(n, os.O_RDWR)", "os.dup2(os.open(n, os.O_RDWR), f)");
    // The temporary file's first descriptor is one of both, too.
    let first =
        |what: &[String]| what.iter().filter(|what| !what.contains("descriptor 3 ")).count();
    assert_eq!(first(&descriptor(&apart).0), 0);
}
