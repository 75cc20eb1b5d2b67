//! What a profile of programs that everybody knows names: their functions, as far as their binaries
//! tell them, and the types of their data.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rekindle_system_tests::program::{Start, free_port, wait_for_port};
use rekindle_system_tests::redis::{Client, key_of, value_of};
use rekindle_system_tests::rekindle::Rekindle;
use rekindle_system_tests::sandbox::{self, Place};
use rekindle_system_tests::{binaries, skips, wait};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(300);
const ANSWER: Duration = Duration::from_secs(30);

/// The heat map of a program after a profile of some seconds.
fn map_of(place: &Place, pid: i32) -> Value {
    let rekindle = Rekindle::new(&place.store(), place.dir());
    let pid = pid.to_string();
    let report = rekindle.run(&["profile", &pid, "--for", "4s", "--max-slowdown", "10%"]);
    let report = report.expect("running");
    assert_eq!(report.text("end"), "asked", "{report}");
    let map = rekindle.run(&["heatmap", &pid]);
    map.expect_ok();
    map.json
}

/// The names of the code that was seen at work.
fn code_of(map: &Value) -> Vec<String> {
    let codes = map["codes"].as_array().unwrap();
    codes.iter().map(|code| code["name"].as_str().unwrap().to_owned()).collect()
}

/// Code of `program` has one of these names, when the file has such a symbol; a file that was stripped of
/// all of them is named itself, with how far into it.
fn assert_named(map: &Value, program: &Path, names: &[&str]) {
    let code = code_of(map);
    let bytes = std::fs::read(program).unwrap();
    let is_told = |name: &&&str| {
        let symbol = [b"\0", name.as_bytes(), b"\0"].concat();
        bytes.windows(symbol.len()).any(|window| window == symbol)
    };
    let told: Vec<&str> = names.iter().filter(is_told).copied().collect();
    if told.is_empty() {
        let file = std::fs::canonicalize(program).unwrap();
        let module = format!("{}+0x", file.file_name().unwrap().to_str().unwrap());
        assert!(code.iter().any(|name| name.starts_with(&module)), "{module}: {code:?}");
    } else {
        let function =
            |name: &str| name.split_once("+0x").map_or(name, |(name, _)| name).to_owned();
        let is_found = code.iter().any(|name| told.contains(&function(name).as_str()));
        assert!(is_found, "{told:?}: {code:?}");
    }
}

fn python(what: &str) -> Option<std::path::PathBuf> {
    let python = binaries::python();
    if python.is_none() {
        skips::skip(what, "python3");
    }
    python
}

#[test]
fn python_at_work_is_in_its_interpreter() {
    const PROGRAM: &str = "d = {n: str(n) for n in range(200000)}
while True:
    for n in range(200000): d[n] = d[n][::-1]";
    sandbox::run(LIMIT, |place| {
        let Some(python) = python("profile of python") else { return };
        let words = [python.to_str().unwrap(), "-c", PROGRAM];
        let program = Start::new(place.dir(), "python", &words).start();
        let map = map_of(place, program.pid());
        assert_named(&map, &python, &["_PyEval_EvalFrameDefault"]);
    });
}

#[test]
fn redis_under_load_looks_keys_up() {
    sandbox::run(LIMIT, |place| {
        let Some(binary) = binaries::on_path("redis-server") else {
            skips::skip("profile of redis", "redis-server");
            return;
        };
        let port = free_port().to_string();
        let dir = place.dir().display().to_string();
        let name = binary.to_str().unwrap();
        let words = [name, "--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir", &dir];
        let server = Start::new(place.dir(), "redis", &words).start();
        let address: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
        wait_for_port(address);
        let connect =
            || wait::until("a connection", wait::PATIENCE, || Client::connect(address, ANSWER));
        let (is_over, pid) = (AtomicBool::new(false), server.pid());
        let map = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut client = connect();
                let keys: Vec<_> = (0..100_000).map(key_of).collect();
                for batch in keys.chunks(1000) {
                    let sets =
                        batch.iter().map(|key| [b"SET".to_vec(), key.clone(), value_of(7, 0)]);
                    client.pipeline(&sets.collect::<Vec<_>>()).unwrap();
                }
                while !is_over.load(Ordering::Relaxed) {
                    for batch in keys.chunks(1000) {
                        let gets = batch.iter().map(|key| [b"GET".to_vec(), key.clone()]);
                        client.pipeline(&gets.collect::<Vec<_>>()).unwrap();
                    }
                }
            });
            let map = std::panic::catch_unwind(|| map_of(place, pid));
            is_over.store(true, Ordering::Relaxed);
            map.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        assert_named(
            &map,
            &binary,
            &["dictFind", "lookupKey", "lookupKeyReadWithFlags", "dictSdsHash"],
        );
    });
}

#[test]
fn numpy_at_work_has_doubles() {
    const PROGRAM: &str = "import sys
try: import numpy
except ImportError: open(sys.argv[1], 'w').write('none\\n'); sys.exit()
a = numpy.arange(2 << 20, dtype=numpy.float64)
open(sys.argv[1], 'w').write(f'{a.ctypes.data} {a.nbytes}\\n')
while True: a += 1.5";
    sandbox::run(LIMIT, |place| {
        let Some(python) = python("profile of numpy") else { return };
        let told = place.path("told");
        let words = [python.to_str().unwrap(), "-c", PROGRAM, told.to_str().unwrap()];
        let program = Start::new(place.dir(), "numpy", &words).start();
        let text = wait::until("the array", wait::PATIENCE, || {
            std::fs::read_to_string(&told)
                .ok()
                .filter(|text| text.ends_with('\n'))
                .ok_or("none yet")
        });
        if text.trim() == "none" {
            skips::skip("profile of numpy", "numpy");
            return;
        }
        let (start, size) = text.trim().split_once(' ').unwrap();
        let (start, size): (u64, u64) = (start.parse().unwrap(), size.parse().unwrap());
        let map = map_of(place, program.pid());
        let address = |row: &Value, key: &str| {
            let text = row[key].as_str().unwrap().trim_start_matches("0x");
            u64::from_str_radix(text, 16).unwrap()
        };
        // What was seen in the array, by what it was moved as.
        let mut weights = std::collections::BTreeMap::<String, u64>::new();
        for row in map["details"].as_array().unwrap() {
            if address(row, "start") < start + size && address(row, "end") > start + 4096 {
                for operand in row["operands"].as_array().unwrap() {
                    let class = operand["class"].as_str().unwrap().to_owned();
                    *weights.entry(class).or_default() += operand["weight"].as_u64().unwrap();
                }
            }
        }
        let all: u64 = weights.values().sum();
        let doubles: u64 = weights
            .iter()
            .filter(|(class, _)| class.contains("f64"))
            .map(|(_, weight)| weight)
            .sum();
        assert!(all > 0 && doubles * 100 >= all * 95, "{weights:?}");
    });
}
