//! Numbers of which a checkpoint may be only near to what they are, because somebody asked for it.

use super::LIMIT;
use rekindle_system_tests::program::{self, Program, Start};
use rekindle_system_tests::rekindle::{Rekindle, Report};
use rekindle_system_tests::sandbox::{self, Place};
use rekindle_system_tests::wait;
use rustix::process::Signal;
use serde_json::Value;
use std::os::unix::fs::FileExt;
use std::process::Command;

/// Objects with a symbol: one in a file's own pages, one behind them.
const OBJECTS: &str = "double field[30000] = {1.5}; float behind[50000]; static double once;";

/// Fills them and a mapping with numbers, noise around them, tells where everything is, and then
/// does nothing at all.
const NUMBERS: &str = r"
import ctypes, json, math, mmap, random, signal, sys
lib, out = ctypes.CDLL(sys.argv[1]), open(sys.argv[2], 'w')
noise = random.Random(7)
N = 100000
m = mmap.mmap(-1, 1 << 21, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
base = ctypes.addressof(ctypes.c_char.from_buffer(m))
m[:] = noise.randbytes(1 << 21)
doubles = (ctypes.c_double * N).from_address(base + 1000)
floats = (ctypes.c_float * N).from_address(base + 1000 + 8 * N + 12)
field = (ctypes.c_double * 30000).in_dll(lib, 'field')
behind = (ctypes.c_float * 50000).in_dll(lib, 'behind')
odd = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 2e-39, 0.0]
for numbers in doubles, floats, field, behind:
    for n in range(len(numbers)):
        numbers[n] = odd[n // 97 % 7] if n % 97 == 0 else 300 + 20 * math.sin(n / 500) * math.cos(n / 90)
where = {name: [ctypes.addressof(what), ctypes.sizeof(what)] for name, what in
         [('doubles', doubles), ('floats', floats), ('field', field), ('behind', behind)]}
where['all'] = [base, 1 << 21]
out.write(json.dumps(where) + '\n')
out.flush()
while True:
    signal.pause()
";

/// A program of numbers.
struct Numbers {
    program: Program,
    places: Value,
}

impl Numbers {
    fn start(place: &Place) -> Self {
        let (source, library, out) =
            (place.path("field.c"), place.path("field.so"), place.path("out"));
        std::fs::write(&source, OBJECTS).unwrap();
        let built = Command::new("cc").arg("-shared").arg("-o").args([&library, &source]).status();
        assert!(built.unwrap().success(), "cc is what Rust links with");
        let program = program::python(place, "numbers", NUMBERS, &[&library, &out]);
        let told = wait::until("numbers", LIMIT, || {
            let text = std::fs::read_to_string(&out).unwrap_or_default();
            serde_json::from_str(&text).map_err(|error| error.to_string())
        });
        Self { program, places: told }
    }

    fn bounds(&self, name: &str) -> (u64, u64) {
        let (start, length) = (&self.places[name][0], &self.places[name][1]);
        (start.as_u64().unwrap(), start.as_u64().unwrap() + length.as_u64().unwrap())
    }

    fn range(&self, name: &str) -> String {
        let (start, end) = self.bounds(name);
        format!("range={start:x}-{end:x}")
    }

    /// What it has there now.
    fn bytes(&self, name: &str) -> Vec<u8> {
        let (start, end) = self.bounds(name);
        let memory = std::fs::File::open(format!("/proc/{}/mem", self.program.pid())).unwrap();
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        memory.read_exact_at(&mut bytes, start).unwrap();
        bytes
    }

    fn all(&self) -> Vec<Vec<u8>> {
        NAMES.map(|name| self.bytes(name)).into()
    }
}

const NAMES: [&str; 5] = ["all", "doubles", "floats", "field", "behind"];

/// The numbers in `bytes`, of 4 or 8 bytes each.
fn numbers(bytes: &[u8], width: usize) -> Vec<f64> {
    let one = |bytes: &[u8]| match width {
        4 => f64::from(f32::from_le_bytes(bytes.try_into().unwrap())),
        _ => f64::from_le_bytes(bytes.try_into().unwrap()),
    };
    bytes.chunks_exact(width).map(one).collect()
}

/// Every number of `after` is as near to the one before as `allowed` says, and those that are
/// special are the same; says how many are others.
fn assert_near(before: &[u8], after: &[u8], width: usize, allowed: impl Fn(f64) -> f64) -> u64 {
    let each = before.chunks_exact(width).zip(after.chunks_exact(width));
    let values = numbers(before, width).into_iter().zip(numbers(after, width));
    let mut others = 0;
    for ((was, is), (x, y)) in each.zip(values) {
        if was != is {
            assert!((y - x).abs() <= allowed(x), "{x} became {y}");
            assert!(x.is_normal() && (width == 8 || x.abs() > f64::from(f32::MIN_POSITIVE)));
            others += 1;
        }
    }
    others
}

/// A plan file has the ranges in which a loss is allowed, and a checkpoint by it grants it there.
#[test]
fn a_plan_says_where_a_loss_is_allowed() {
    sandbox::run(LIMIT, |place| {
        let numbers = Numbers::start(place);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let before = numbers.all();
        let pid = numbers.program.pid();
        let number = pid.to_string();
        let file = place.path("lossy.plan").display().to_string();
        let range = format!("{},type=f64,abs=1e-3", numbers.range("doubles"));
        let symbol = "symbol=field,type=f64,rel=1e-3";
        let bad = rekindle.run(&["plan", &number, "-o", &file, "--lossy", "range=1-2"]);
        let _ = bad.expect_failure(&[2], "refused", &["--lossy range=1-2"]);
        assert!(!std::path::Path::new(&file).exists(), "a plan that was refused is written");
        let words = ["plan", &number, "-o", &file, "--lossy", &range, "--lossy", symbol];
        let planned = rekindle.run(&words);
        planned.expect_ok();
        assert!(planned.json["notes"].to_string().contains("a loss is allowed"), "{planned}");
        // Another program has other things at these addresses.
        let other = Start::new(place.dir(), "other", &["sleep", "1000"]).start();
        let refused = rekindle.run(&["checkpoint", &other.pid().to_string(), "--plan", &file]);
        let _ = refused.expect_failure(&[2], "refused", &["of instance"]);
        other.kill();
        let stopped = rekindle.stop(pid, &["--plan", &file]);
        assert_eq!(stopped.json["loss"].as_array().map(Vec::len), Some(2), "{stopped}");
        numbers.program.wait_gone();
        let resumed = rekindle.resume("latest", &["--eager"]);
        let numbers = Numbers { program: Program::of_pid(resumed.pid("pid")), ..numbers };
        let after = numbers.all();
        assert!(assert_near(&before[1], &after[1], 8, |_| 1e-3) > 50_000);
        assert!(assert_near(&before[3], &after[3], 8, |x| x.abs() * 1e-3) > 10_000);
        assert!(
            before[2] == after[2] && before[4] == after[4],
            "what was not named lost something"
        );
        numbers.program.kill();
    });
}

/// A watch stores numbers as exactly as it was asked to, at its first checkpoint and at those that build
/// on it; the program keeps what it has.
#[test]
fn a_watch_stores_numbers_as_near_as_was_asked_for() {
    sandbox::run(LIMIT, |place| {
        let numbers = Numbers::start(place);
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let before = numbers.all();
        let pid = numbers.program.pid().to_string();
        let bad = rekindle.run(&["watch", &pid, "--lossy", "range=1-2,type=f64,abs=1"]);
        let _ = bad.expect_failure(&[2], "refused", &["--lossy range=1-2"]);
        let lossy = format!("{},type=f64,abs=1e-3", numbers.range("doubles"));
        let words = ["watch", &pid, "--every", "1s", "--checkpoint-every", "1s", "--lossy", &lossy];
        let mut running = rekindle.start(&words);
        let taken = || {
            let events = running.events();
            let trouble = events.iter().find(|event| event["event"] == "trouble");
            assert!(trouble.is_none(), "{trouble:?}");
            events.iter().filter(|event| event["event"] == "checkpointed").count()
        };
        wait::until_true("checkpoints", LIMIT, || taken() >= 3);
        running.signal(Signal::INT);
        running.wait_for_event("ended", 0);
        running.finish().expect_ok();
        assert!(numbers.all() == before, "the program itself lost something");
        numbers.program.kill();
        numbers.program.wait_gone();
        // The newest refers to pages of the first, and both have the same numbers.
        let resumed = rekindle.resume("latest", &["--eager"]);
        let numbers = Numbers { program: Program::of_pid(resumed.pid("pid")), ..numbers };
        let after = numbers.all();
        let changed = assert_near(&before[1], &after[1], 8, |_| 1e-3);
        assert!(changed > 50_000, "{changed} numbers were approximated");
        assert!(before[2..] == after[2..], "what was not named lost something");
        numbers.program.kill();
    });
}

#[test]
fn numbers_are_as_near_as_was_asked_for() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let mut numbers = Numbers::start(place);
        let pid = numbers.program.pid();
        let before = numbers.all();
        let lossy = [
            format!("{},type=f64,range-rel=1e-3", numbers.range("doubles")),
            format!("{},type=f32,abs=0.01", numbers.range("floats")),
            "symbol=field,type=f64,rel=1e-4".to_owned(),
            "symbol=behind,type=f32,range-rel=1e-4".to_owned(),
        ];
        let lossy: Vec<&str> = lossy.iter().flat_map(|spec| ["--lossy", spec.as_str()]).collect();
        refusals(&rekindle, &numbers);
        for phase in ["name", "approximate"] {
            let setting = format!("REKINDLE_FAIL_PHASE={phase}");
            let failing = rekindle.clone().through(&["env", &setting]);
            let number = pid.to_string();
            let words = [&["checkpoint", &number, "--stop"], &lossy[..]].concat();
            let _ = failing.run(&words).expect_failure(&[7], "rolled_back", &[phase]);
            assert!(numbers.all() == before && numbers.program.state() == Some('S'));
        }

        let exact = rekindle.checkpoint(pid, &[]);
        let first = rekindle.checkpoint(pid, &[&lossy[..], &["--parent", "none"]].concat());
        let second = rekindle.checkpoint(pid, &lossy);
        let without = rekindle.checkpoint(pid, &[]);
        assert!(numbers.all() == before, "the program itself keeps what it has");
        let stored = |report: &Report| -> u64 {
            let rows = report.json["loss"].as_array().unwrap();
            rows.iter().map(|row| row["stored_bytes"].as_u64().unwrap()).sum()
        };
        assert!(stored(&first) * 10 < 1_640_000, "{first}");
        assert!(first.number("stored_bytes") < exact.number("stored_bytes"), "{first} {exact}");
        // What did not change is there already, just as near.
        assert!(stored(&second) * 20 < stored(&first), "{second}");
        assert!(without.json["loss"].as_array().unwrap().is_empty());
        // What is not named is stored again, exactly.
        assert!(without.number("stored_bytes") > 1_000_000, "{without}");
        for report in [&first, &second, &without] {
            rekindle.run(&["verify", report.text("id")]).expect_ok();
        }
        // Where the parent has them exactly, they are not stored any worse.
        let unchanged = rekindle.checkpoint(pid, &lossy);
        assert_eq!(unchanged.json["loss"][0]["elements_lossy"], 0, "{unchanged}");
        let on = ["--parent", second.text("id")];
        let stopped = rekindle.stop(pid, &[&lossy[..], &on].concat());
        let shown = rekindle.run(&["inspect", stopped.text("id")]);
        assert_eq!(shown.json["loss"][0]["bound"], "range-rel");

        let resumed = rekindle.resume(stopped.text("id"), &["--eager"]);
        assert!(resumed.talk.contains("approximated"), "{resumed}");
        assert_eq!(resumed.json["approximate"].as_array().unwrap().len(), 4);
        numbers.program = Program::of_pid(resumed.pid("pid"));
        let near = numbers.all();
        compare(&numbers, &before, &near, &stopped);

        // From here on that is what the program has, exactly.
        let child = rekindle.checkpoint(numbers.program.pid(), &[]);
        assert!(child.json["loss"].as_array().unwrap().is_empty());
        let shown = rekindle.run(&["inspect", child.text("id")]);
        assert_eq!(shown.json["loss"][0]["made_in"], stopped.json["id"], "{shown}");
        rekindle.run(&["verify", child.text("id")]).expect_ok();
        for (report, expected) in [(&child, &near), (&without, &before)] {
            numbers.program.kill();
            let resumed = rekindle.resume(report.text("id"), &["--eager"]);
            numbers.program = Program::of_pid(resumed.pid("pid"));
            assert!(numbers.all() == *expected, "{report}");
        }
        // Of what is not loaded nothing is known but where it is.
        numbers.program.kill();
        let resumed = rekindle.resume(without.text("id"), &["--on-demand"]);
        let half = rekindle.stop(resumed.pid("pid"), &lossy);
        rekindle.run(&["verify", half.text("id")]).expect_ok();
        assert_eq!(half.json["loss"][0]["elements_lossy"], 0, "{half}");
        let resumed = rekindle.resume(half.text("id"), &["--eager"]);
        numbers.program = Program::of_pid(resumed.pid("pid"));
        assert!(numbers.bytes("doubles") == before[1]);
        numbers.program.kill();
    });
}

/// What was resumed against what there was.
fn compare(numbers: &Numbers, before: &[Vec<u8>], near: &[Vec<u8>], stopped: &Report) {
    let row = |n: usize| &stopped.json["loss"][n];
    let extent = |bytes: &[u8], width| {
        let finite = self::numbers(bytes, width).into_iter().filter(|x| x.is_finite());
        let (low, high) = finite.fold((f64::MAX, f64::MIN), |(l, h), x| (l.min(x), h.max(x)));
        high - low
    };
    assert_eq!(row(0)["span"].as_f64(), Some(extent(&before[1], 8)));
    let span = |n: usize| row(n)["span"].as_f64().unwrap();
    // Width, and what is allowed: so much, and so much of each number.
    let bounds =
        [(8, 1e-3 * span(0), 0.0), (4, 0.01, 0.0), (8, 0.0, 1e-4), (4, 1e-4 * span(3), 0.0)];
    for (n, (width, fixed, share)) in bounds.into_iter().enumerate() {
        let allowed = |x: f64| fixed + share * x.abs();
        let others = assert_near(&before[n + 1], &near[n + 1], width, allowed);
        assert!(others > 10_000, "{n}: {others}");
        assert_eq!(Some(others), row(n)["elements_lossy"].as_u64(), "{n}");
    }
    // What is around them is the same.
    let base = numbers.bounds("all").0;
    let is_named = |at: usize| {
        ["doubles", "floats"].into_iter().any(|name| {
            let (start, end) = numbers.bounds(name);
            (start..end).contains(&(base + u64::try_from(at).unwrap()))
        })
    };
    let all = before[0].iter().zip(&near[0]).enumerate();
    assert!(all.filter(|(at, _)| !is_named(*at)).all(|(_, (was, is))| was == is));
}

fn refusals(rekindle: &Rekindle, numbers: &Numbers) {
    let pid = numbers.program.pid().to_string();
    let maps = numbers.program.proc_file("maps");
    let of = |wanted: &dyn Fn(&str) -> bool| {
        let line = maps.lines().find(|line| wanted(line)).unwrap();
        format!("range={},type=f64,abs=1", line.split(' ').next().unwrap())
    };
    let (start, end) = numbers.bounds("all");
    let good = format!("{},type=f64,abs=1", numbers.range("doubles"));
    let bad = [
        "range=1000-2000,type=f64,abs=1".to_owned(),
        of(&|line| line.contains("r-xp")),
        of(&|line| line.ends_with("[stack]")),
        format!("range={start:x}-{:x},type=f64,abs=1", end + (1 << 40)),
        format!("{},type=f64", numbers.range("doubles")),
        format!("{},type=f65,abs=-1", numbers.range("doubles")),
        format!("{},type=f64,rel=0", numbers.range("doubles")),
        format!("{},type=f64,range-rel=NaN", numbers.range("doubles")),
        format!("{},type=f32,abs=1", numbers.range("doubles")),
        "symbol=no_such_field,type=f64,abs=1".to_owned(),
    ];
    let mut words = vec!["checkpoint", &pid, "--stop", "--lossy", &good];
    words.extend(bad.iter().flat_map(|spec| ["--lossy", spec.as_str()]));
    let refused = rekindle.run(&words);
    let said = ["nothing is mapped", "[stack]", "0 bounds", "f65", "overlaps", "no such object"];
    let refused = refused.expect_failure(&[2], "refused", &said);
    assert_eq!(refused.blockers(), ["loss"; 11], "{refused}");
    assert_eq!(numbers.program.state(), Some('S'));
}
