//! redis-server: checkpointed under load, ended, resumed, every key compared, and saved by itself
//! afterwards.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use rekindle_system_tests::program::{Program, Start, free_port, wait_for_port};
use rekindle_system_tests::redis::{Answer, Client, key_of, value_of};
use rekindle_system_tests::rekindle::Rekindle;
use rekindle_system_tests::sandbox::{self, Place};
use rekindle_system_tests::{binaries, rounds, skips, wait};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(1800);
const USER: u32 = 23_457;
/// How long one answer may take; a pause is no error.
const ANSWER: Duration = Duration::from_secs(30);
/// Keys per pipeline.
const BATCH: usize = 500;
/// Keys that the load writes; the others stay in version 0.
const CHANGING: u64 = 1000;

struct Server {
    program: Program,
    address: SocketAddr,
    keys: u64,
    /// The version of each changing key.
    versions: Vec<AtomicU64>,
}

impl Server {
    fn start(place: &Place, label: &str, user: Option<u32>) -> Option<Self> {
        let Some(binary) = binaries::on_path("redis-server") else {
            skips::skip("redis", "redis-server");
            return None;
        };
        let dir = place.path(label);
        std::fs::create_dir_all(&dir).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&dir, open).unwrap();
        let (port, dir) = (free_port().to_string(), dir.display().to_string());
        let binary = binary.display().to_string();
        let words = [
            binary.as_str(),
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            &dir,
            "--appendonly",
            "no",
            "--stop-writes-on-bgsave-error",
            "no",
        ];
        let mut start = Start::new(place.dir(), label, &words);
        if let Some(user) = user {
            start = start.as_user(user);
        }
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        let program = start.start();
        wait_for_port(address);
        let versions = (0..CHANGING).map(|_| AtomicU64::new(0)).collect();
        let keys = rounds(60_000, 1_200_000) as u64;
        Some(Self { program, address, keys, versions })
    }

    fn client(&self) -> Client {
        wait::until("a connection", wait::PATIENCE, || Client::connect(self.address, ANSWER))
    }

    fn fill(&self) {
        let mut client = self.client();
        for first in (0..self.keys).step_by(BATCH) {
            let keys = first..(first + BATCH as u64).min(self.keys);
            let commands: Vec<_> =
                keys.map(|key| [b"SET".to_vec(), key_of(key), value_of(key, 0)]).collect();
            let answers = client.pipeline(&commands).unwrap();
            assert!(answers.iter().all(|answer| *answer == Answer::Simple("OK".into())));
        }
    }

    fn version(&self, key: u64) -> u64 {
        let version = usize::try_from(key).ok().and_then(|index| self.versions.get(index));
        version.map_or(0, |version| version.load(SeqCst))
    }

    /// Every key is there and holds what was written last.
    fn compare_all(&self, address: SocketAddr) {
        let mut client = Client::connect(address, ANSWER).unwrap();
        assert_eq!(client.command(&[b"DBSIZE"]).unwrap(), Answer::Number(self.keys.cast_signed()));
        for first in (0..self.keys).step_by(BATCH) {
            let keys: Vec<u64> = (first..(first + BATCH as u64).min(self.keys)).collect();
            let commands: Vec<_> = keys.iter().map(|key| [b"GET".to_vec(), key_of(*key)]).collect();
            let answers = client.pipeline(&commands).unwrap();
            for (key, answer) in keys.iter().zip(answers) {
                let expected = Answer::Bulk(Some(value_of(*key, self.version(*key))));
                assert!(answer == expected, "key {key}: {answer:?} instead of {expected:?}");
            }
        }
    }

    /// 1000 reads and 100 writes a second until told to stop; every answer is checked.
    fn load(&self, stop: &AtomicBool) -> u64 {
        let mut client = self.client();
        let (begin, mut count) = (Instant::now(), 0u64);
        while !stop.load(SeqCst) {
            let due = u64::try_from(begin.elapsed().as_millis()).unwrap() * 11 / 10;
            while count < due {
                count += 1;
                self.one(&mut client, count);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        count
    }

    fn one(&self, client: &mut Client, count: u64) {
        let random = count.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        if count.is_multiple_of(11) {
            let key = random % CHANGING;
            let version = self.version(key) + 1;
            let answer = client.command(&[b"SET", &key_of(key), &value_of(key, version)]);
            assert_eq!(answer.unwrap(), Answer::Simple("OK".into()));
            self.versions[usize::try_from(key).unwrap()].store(version, SeqCst);
        } else {
            let key = random % self.keys;
            let answer = client.command(&[b"GET", &key_of(key)]).unwrap();
            let expected = Answer::Bulk(Some(value_of(key, self.version(key))));
            assert!(answer == expected, "key {key} under load: {answer:?}");
        }
    }

    /// BGSAVE ends well, and another server that loads the file has every key.
    fn saves_by_itself(&self, place: &Place, label: &str) {
        let mut client = self.client();
        client.command(&[b"BGSAVE"]).unwrap();
        wait::until_true("end of BGSAVE", wait::PATIENCE * 3, || {
            client.info("rdb_bgsave_in_progress").unwrap() == "0"
        });
        assert_eq!(client.info("rdb_last_bgsave_status").unwrap(), "ok");
        let other = format!("{label}-other");
        std::fs::create_dir_all(place.path(&other)).unwrap();
        let saved = place.path(label).join("dump.rdb");
        std::fs::copy(saved, place.path(&other).join("dump.rdb")).unwrap();
        let Some(second) = Self::start(place, &other, None) else { return };
        let mut client = second.client();
        wait::until_true("the file to be loaded", wait::PATIENCE * 3, || {
            client.info("loading").is_ok_and(|loading| loading == "0")
        });
        self.compare_all(second.address);
        second.program.kill();
    }
}

/// The main job: live under load, ended, resumed, compared, saved.
fn the_main_job(place: &Place, user: Option<u32>) {
    let Some(server) = Server::start(place, "redis", user) else { return };
    let rekindle = Rekindle::new(&place.store(), place.dir());
    let pid = server.program.pid();
    server.fill();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| server.load(&stop));
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(500));
            // Established connections are closed in the checkpoint, not in the running server.
            let report = rekindle.checkpoint(pid, &["--tcp", "close"]);
            let pause = report.number("pause_us");
            assert!(pause > 0 && report.number("pause_max_us") <= pause, "{report}");
            assert!(report.number("resident_bytes") > server.keys * 100, "{report}");
            assert!(report.number("stored_bytes") < report.number("resident_bytes"), "{report}");
        }
        stop.store(true, SeqCst);
        // A client error has panicked there.
        let count = load.join().unwrap();
        assert!(count > 1000, "only {count} commands under load");
    });
    let stopped = rekindle.stop(pid, &["--tcp", "close"]);
    server.program.wait_gone();
    assert!(Client::connect(server.address, ANSWER).is_err(), "somebody still listens");
    let resumed = rekindle.resume(stopped.text("id"), &[]);
    assert_eq!(resumed.pid("pid_inside"), pid, "{resumed}");
    server.compare_all(server.address);
    let mut client = server.client();
    assert_eq!(client.info("process_id").unwrap(), pid.to_string());
    server.saves_by_itself(place, "redis");
    // Writable as before.
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| server.load(&stop));
        std::thread::sleep(Duration::from_secs(1));
        stop.store(true, SeqCst);
        load.join().unwrap();
    });
    server.compare_all(server.address);
    server.program.kill();
}

#[test]
fn redis_of_root() {
    sandbox::run(LIMIT, |place| the_main_job(place, None));
}

#[test]
fn redis_of_its_own_user() {
    sandbox::run(LIMIT, |place| the_main_job(place, Some(USER)));
}

/// A client that was connected at the checkpoint is gone for the resumed server: a normal end.
#[test]
fn connections_end_with_tcp_close() {
    sandbox::run(LIMIT, |place| {
        let Some(server) = Server::start(place, "redis", None) else { return };
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let mut idle = server.client();
        idle.command(&[b"SET", b"a", b"1"]).unwrap();
        let pid = server.program.pid();
        let refused = rekindle.run(&["checkpoint", &pid.to_string(), "--stop", "--tcp", "refuse"]);
        let refused = refused.expect_failure(&[3], "refused", &["tcp"]);
        assert_eq!(refused.blockers(), ["tcp-connection"], "{refused}");
        assert_eq!(idle.command(&[b"GET", b"a"]).unwrap(), Answer::Bulk(Some(b"1".to_vec())));
        let stopped = rekindle.stop(pid, &["--tcp", "close"]);
        server.program.wait_gone();
        assert!(idle.command(&[b"GET", b"a"]).is_err(), "the old connection answers");
        let words = ["resume", stopped.text("id"), "--detach", "--tcp", "refuse"];
        let _ = rekindle.run(&words).expect_failure(&[4], "refused", &["closed by its peer"]);
        let resumed = rekindle.resume(stopped.text("id"), &[]);
        assert!(resumed.json["changed"].to_string().contains("connection"), "{resumed}");
        let mut client = server.client();
        assert_eq!(client.command(&[b"GET", b"a"]).unwrap(), Answer::Bulk(Some(b"1".to_vec())));
        // The server has met the end of its old peer and forgot it.
        wait::until_true("one client", wait::PATIENCE, || {
            client.info("connected_clients").unwrap() == "1"
        });
        server.program.kill();
    });
}

/// Many checkpoints of one line: the list shows them, and pruning keeps the newest.
#[test]
fn a_line_is_listed_and_pruned() {
    sandbox::run(LIMIT, |place| {
        let Some(server) = Server::start(place, "redis", None) else { return };
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let pid = server.program.pid();
        let ids: Vec<String> = (0..3)
            .map(|_| rekindle.checkpoint(pid, &["--tcp", "close"]).text("id").to_owned())
            .collect();
        let list = rekindle.run(&["list"]);
        for id in &ids {
            assert!(list.json.to_string().contains(id.as_str()), "{id} not in {list}");
        }
        // Each builds on the one before, so none can go before the newest stands alone.
        let pruned = rekindle.run(&["prune", "--keep", "1"]);
        assert_eq!(pruned.code, Some(0), "{pruned}");
        assert_eq!(pruned.json["needed"].as_array().map(Vec::len), Some(2), "{pruned}");
        let pruned = rekindle.run(&["prune", "--keep", "1", "--consolidate"]);
        assert_eq!(pruned.code, Some(0), "{pruned}");
        let list = rekindle.run(&["list"]).json.to_string();
        assert!(list.contains(&ids[2]) && !list.contains(&ids[0]), "{list}");
        rekindle.run(&["verify", "latest"]).expect_ok();
        server.program.kill();
    });
}

/// Later checkpoints store what changed, and the program comes back from all of them together;
/// without the first one it does not, and says why.
#[test]
fn increments_come_back() {
    sandbox::run(LIMIT, |place| {
        let Some(server) = Server::start(place, "redis", None) else { return };
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let pid = server.program.pid();
        server.fill();
        let first = rekindle.checkpoint(pid, &["--tcp", "close"]);
        assert!(first.json["parent"].is_null() && first.number("referenced_bytes") == 0, "{first}");
        let mut client = server.client();
        (1..=20).for_each(|n| server.one(&mut client, n * 11));
        let second = rekindle.checkpoint(pid, &["--tcp", "close"]);
        assert_eq!(second.text("parent"), first.text("id"), "{second}");
        assert!(second.number("stored_bytes") * 20 <= first.number("stored_bytes"), "{second}");
        let resident = second.number("resident_bytes");
        assert!(second.number("referenced_bytes") * 10 >= resident * 9, "{second}");
        (21..=40).for_each(|n| server.one(&mut client, n * 11));
        drop(client);
        let stopped = rekindle.stop(pid, &["--tcp", "close"]);
        server.program.wait_gone();
        let inspected = rekindle.run(&["inspect", stopped.text("id")]);
        assert_eq!(inspected.number("depth"), 2, "{inspected}");

        let path = |report: &str| place.store().join("checkpoints").join(report);
        let (parent, away) = (path(first.text("id")), place.path("away"));
        std::fs::rename(&parent, &away).unwrap();
        for verb in ["resume", "verify"] {
            let mut words = vec![verb, stopped.text("id")];
            words.extend((verb == "resume").then_some("--detach"));
            let refused = rekindle.run(&words);
            let _ = refused.expect_failure(&[4], "refused", &[first.text("id"), "parent"]);
        }
        std::fs::rename(&away, &parent).unwrap();
        let pages = parent.join("pages");
        let bytes = std::fs::read(&pages).unwrap();
        let mut altered = bytes.clone();
        let middle = altered.len() / 2;
        altered[middle] ^= 1;
        std::fs::write(&pages, altered).unwrap();
        let refused = rekindle.run(&["verify", stopped.text("id")]);
        let _ = refused.expect_failure(&[5], "refused", &[first.text("id"), "parent"]);
        std::fs::write(&pages, bytes).unwrap();

        // In less space they are the same, all at once and piece by piece.
        for count in [3, 0] {
            let pruned = rekindle.run(&["prune", "--recompress"]);
            assert_eq!(pruned.code, Some(0), "{pruned}");
            assert_eq!(pruned.json["recompressed"].as_array().map(Vec::len), Some(count));
            let before = pruned.number("recompressed_before_bytes");
            assert_eq!(pruned.number("recompressed_after_bytes") < before, count > 0, "{pruned}");
        }
        for way in [&[][..], &["--lazy"]] {
            let resumed = rekindle.resume(stopped.text("id"), way);
            assert_eq!(resumed.pid("pid_inside"), pid, "{resumed}");
            server.compare_all(server.address);
            server.program.kill();
            server.program.wait_gone();
        }
    });
}

/// Another process takes the server over, three times: connections that were open stay open, no
/// answer is wrong, and the instance stays the same one.
#[test]
fn updated_under_load() {
    sandbox::run(LIMIT, |place| {
        let Some(server) = Server::start(place, "redis", None) else { return };
        let rekindle = Rekindle::new(&place.store(), place.dir());
        let inside = server.program.pid();
        server.fill();
        let mut kept = server.client();
        let stop = AtomicBool::new(false);
        let mut outside = inside;
        std::thread::scope(|scope| {
            let load = scope.spawn(|| server.load(&stop));
            let mut instance = String::new();
            for round in 0..rounds(3, 100) {
                kept.command(&[b"SET", b"round", round.to_string().as_bytes()]).unwrap();
                let report = rekindle.update(outside, &["--wait", "120s"]);
                assert_eq!(report.pid("pid_inside"), inside, "{report}");
                let old = Program::of_pid(outside);
                assert!(!old.exists() || old.state() == Some('Z'), "two of them: {report}");
                outside = report.pid("pid");
                assert!(instance.is_empty() || instance == report.text("instance"), "{report}");
                report.text("instance").clone_into(&mut instance);
                assert!(report.number("compared_pages") > 0, "{report}");
                let answer = kept.command(&[b"GET", b"round"]).unwrap();
                assert_eq!(answer, Answer::Bulk(Some(round.to_string().into_bytes())));
            }
            stop.store(true, SeqCst);
            load.join().unwrap();
        });
        kept.command(&[b"DEL", b"round"]).unwrap();
        server.compare_all(server.address);
        assert_eq!(kept.info("process_id").unwrap(), inside.to_string());
        // The old ones let go of the connection: its end is seen, and so is that of the port.
        kept.command(&[b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"no"]).unwrap();
        assert!(kept.command(&[b"PING"]).is_err(), "the connection was not closed");
        Program::of_pid(outside).kill();
        let free = std::net::TcpListener::bind(server.address);
        assert!(free.is_ok(), "the port is still taken: {free:?}");
    });
}
