//! What is held back of what would be loaded ahead.

use rekindle_system_tests::program::{self, Program};
use rekindle_system_tests::rekindle::Rekindle;
use rekindle_system_tests::{sandbox, wait};
use serde_json::json;
use std::time::Duration;

use super::{LIMIT, plan_file, write};

/// Has 8192 pages and tells where; when it finds the file `go` it reads every other one of the first
/// 4000, and one in 32 of 3200 others.
const HALF: &str = r"
import ctypes, mmap, os, sys, time
go, out = sys.argv[1], open(sys.argv[2], 'a', buffering=1)
m = mmap.mmap(-1, 8192 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for i in range(8192): m[i * 4096:i * 4096 + 8] = i.to_bytes(8, 'little')
out.write('%d\n' % (ctypes.addressof(ctypes.c_char.from_buffer(m)) // 4096))
while not os.path.exists(go): time.sleep(0.005)
pages = list(range(0, 4000, 2)) + list(range(4800, 8000, 32))
wrong = sum(m[i * 4096:i * 4096 + 8] != i.to_bytes(8, 'little') for i in pages)
out.write('%d wrong\n' % wrong)
while True: time.sleep(1)
";

#[test]
fn what_is_held_back_tells_how_much_of_what_was_loaded_ahead_is_used() {
    sandbox::run(LIMIT, |place| {
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let (go, out) = (place.path("go"), place.path("out"));
        let program = program::python(place, "half", HALF, &[&go, &out]);
        let told = || std::fs::read_to_string(&out).unwrap_or_default();
        wait::until_true("the pages", Duration::from_secs(60), || told().ends_with('\n'));
        let first: u64 = told().trim().parse().unwrap();
        let (warm, cold) = ([0, first, 4000, 2, 2, 0, 0], [0, first + 4000, 4192, 3, 2, 1, 0]);
        let plan = plan_file("half", "known", vec![json!(warm), json!(cold)]);
        let file = write(&place.path("half.plan"), &plan);
        let made = rekindle.stop(program.pid(), &["--plan", &file]);
        assert_eq!(made.number("warm_raw_bytes") / 4096 / 4000, 1, "{made}");
        let resumed = rekindle.resume("latest", &["--lazy"]);
        let program = Program::of_pid(resumed.pid("pid"));
        std::fs::write(&go, "").unwrap();
        wait::until_true("an answer", LIMIT, || told().ends_with("wrong\n"));
        assert!(told().ends_with("\n0 wrong\n"), "{}", told());
        let row = || rekindle.run(&["status"]).json["instances"][0].clone();
        wait::until_true("all of it, and nobody of ours", LIMIT, || {
            row()["state"] == "complete" && row()["processes"] == json!([])
        });
        let shown = rekindle.run(&["inspect", "latest", "heat"]);
        shown.expect_ok();
        let heat = &shown.json["heat"];
        // One in twenty of 4000 were held back, of which half were used: a hundred, give or take
        // five deviations. Beside them a hundred pages were missed.
        let hit_rate = heat["hit_rate_permille"].as_u64().unwrap_or_else(|| panic!("{shown}"));
        assert!((920..=970).contains(&hit_rate), "{shown}");
        let wasted = heat["wasted_bytes"].as_u64().unwrap() / 4096;
        assert!((1200..=2800).contains(&wasted), "{shown}");
        program.kill();
    });
}
