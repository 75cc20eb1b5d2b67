//! The verbs, as a script calls them: words in, exit code and one JSON object out.

use crate::{binaries, wait};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a verb may take.
const LIMIT: Duration = Duration::from_secs(300);

/// The command line with its common options.
#[derive(Debug, Clone)]
pub struct Rekindle {
    binary: PathBuf,
    store: PathBuf,
    logs: PathBuf,
    prefix: Vec<String>,
}

/// What a verb said.
#[derive(Debug)]
pub struct Report {
    /// The words, for messages.
    pub words: String,
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// The JSON object, null when there was none.
    pub json: Value,
    /// What went to standard error.
    pub talk: String,
}

/// A verb at work.
#[derive(Debug)]
pub struct Running {
    /// The process.
    pub child: Child,
    words: String,
    output: PathBuf,
    talk: PathBuf,
}

impl Rekindle {
    /// Verbs on `store`; what they print is kept in files of `logs`.
    pub fn new(store: &Path, logs: &Path) -> Self {
        let binary = binaries::rekindle();
        Self { binary, store: store.to_owned(), logs: logs.to_owned(), prefix: Vec::new() }
    }

    /// The same, started through another command (`setpriv`, `nsenter`).
    #[must_use]
    pub fn through(mut self, words: &[&str]) -> Self {
        self.prefix = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Another store.
    #[must_use]
    pub fn with_store(mut self, store: &Path) -> Self {
        store.clone_into(&mut self.store);
        self
    }

    /// The store's folder.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// Starts a verb. Its output goes to files: a resumed program may hold on to them for ever.
    ///
    /// # Panics
    /// When the binary does not start.
    pub fn start(&self, words: &[&str]) -> Running {
        let stamp = Instant::now();
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let file = |suffix: &str| self.logs.join(format!("verb-{number}.{suffix}"));
        let (output, talk) = (file("json"), file("talk"));
        let create = |path: &Path| {
            std::fs::File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        };
        let mut all = self.prefix.clone();
        all.push(self.binary.display().to_string());
        let child = Command::new(&all[0])
            .args(&all[1..])
            .args(words)
            .arg("--store")
            .arg(&self.store)
            .args(["--format", "json"])
            .stdin(Stdio::null())
            .stdout(create(&output))
            .stderr(create(&talk))
            .spawn()
            .unwrap_or_else(|error| panic!("{} after {:?}: {error}", all[0], stamp.elapsed()));
        Running { child, words: format!("rekindle {}", words.join(" ")), output, talk }
    }

    /// Runs a verb to its end.
    pub fn run(&self, words: &[&str]) -> Report {
        self.start(words).finish()
    }

    /// `checkpoint PID`, which must leave it running.
    pub fn checkpoint(&self, pid: i32, options: &[&str]) -> Report {
        let pid = pid.to_string();
        let words: Vec<&str> = ["checkpoint", &pid].iter().chain(options).copied().collect();
        self.run(&words).expect("running")
    }

    /// `checkpoint PID --stop`, which must end it.
    pub fn stop(&self, pid: i32, options: &[&str]) -> Report {
        let pid = pid.to_string();
        let words: Vec<&str> =
            ["checkpoint", &pid, "--stop"].iter().chain(options).copied().collect();
        self.run(&words).expect("stopped")
    }

    /// `update PID`, which must succeed.
    pub fn update(&self, pid: i32, options: &[&str]) -> Report {
        let pid = pid.to_string();
        let words: Vec<&str> = ["update", &pid].iter().chain(options).copied().collect();
        self.run(&words).expect("updated")
    }

    /// The ids of all checkpoints in the store, the newest first, each of which is verified.
    ///
    /// # Panics
    /// When one is damaged.
    #[must_use]
    pub fn verified(&self) -> Vec<String> {
        let listed = self.run(&["list"]).json;
        let rows = listed["checkpoints"].as_array().into_iter().flatten();
        let ids: Vec<String> =
            rows.map(|row| row["id"].as_str().unwrap_or("no id").to_owned()).collect();
        ids.iter().for_each(|id| self.run(&["verify", id]).expect_ok());
        ids
    }

    /// `resume REF --detach`, which must succeed.
    pub fn resume(&self, reference: &str, options: &[&str]) -> Report {
        let words: Vec<&str> =
            ["resume", reference, "--detach"].iter().chain(options).copied().collect();
        self.run(&words).expect("resumed")
    }
}

static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

impl Running {
    /// Waits for the end.
    ///
    /// # Panics
    /// When it takes longer than any verb may.
    pub fn finish(self) -> Report {
        self.finish_within(LIMIT)
    }

    /// The same for one that takes its time.
    ///
    /// # Panics
    /// When it takes longer than `limit`.
    pub fn finish_within(mut self, limit: Duration) -> Report {
        let begin = Instant::now();
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if begin.elapsed() > limit => {
                    let _ = self.child.kill();
                    panic!("{} did not end within {limit:?}: {}", self.words, self.talk());
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                Err(error) => panic!("{}: {error}", self.words),
            }
        };
        let text = std::fs::read_to_string(&self.output).unwrap_or_default();
        let json = serde_json::from_str(text.trim()).unwrap_or(Value::Null);
        Report { code: status.code(), json, talk: self.talk(), words: self.words }
    }

    /// The lines of JSON that it printed so far.
    pub fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.output).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for an event of this name behind the first `after` events.
    ///
    /// # Panics
    /// When the verb ends before, or none comes.
    pub fn wait_for_event(&mut self, name: &str, after: usize) -> Value {
        wait::until(name, wait::PATIENCE, || {
            let has_ended = self.child.try_wait().map_err(|error| error.to_string())?.is_some();
            let events = self.events();
            let found = events.iter().skip(after).find(|event| event["event"] == name);
            match found {
                Some(event) => Ok(event.clone()),
                None if has_ended => panic!("{} has ended: {events:?} {}", self.words, self.talk()),
                None => Err(format!("{events:?}")),
            }
        })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// SIGKILL, then the end. Says whether the verb was still at work.
    pub fn kill(mut self) -> bool {
        let at_work = matches!(self.child.try_wait(), Ok(None));
        let _ = self.child.kill();
        let _ = self.child.wait();
        at_work
    }

    /// What went to standard error so far.
    pub fn talk(&self) -> String {
        std::fs::read_to_string(&self.talk).unwrap_or_default()
    }
}

impl Report {
    /// Demands exit code 0 and this outcome.
    ///
    /// # Panics
    /// When the verb said something else.
    #[must_use]
    pub fn expect(self, outcome: &str) -> Self {
        let found = self.json["outcome"].as_str();
        let is_it = self.code == Some(0) && found == Some(outcome);
        assert!(is_it, "wanted {outcome}: {self}{}", self.named_log());
        self.keeps_the_contract();
        self
    }

    /// The log that its message names, which goes when the test does.
    fn named_log(&self) -> String {
        let error = self.json["error"].as_str().unwrap_or_default();
        let path = error.rsplit_once("see ").map_or("", |(_, path)| path);
        std::fs::read_to_string(path)
            .map_or_else(|_| String::new(), |log| format!("\n{path}:\n{log}"))
    }

    /// Demands exit code 0.
    ///
    /// # Panics
    /// When the verb failed.
    pub fn expect_ok(&self) {
        assert_eq!(self.code, Some(0), "{self}");
        if self.json.is_object() {
            self.keeps_the_contract();
        }
    }

    /// Demands what every report has, of whichever verb.
    fn keeps_the_contract(&self) {
        assert!(self.json["schema"].is_string(), "no schema: {self}");
        assert!(self.json.get("outcome").is_some(), "no outcome: {self}");
        for key in ["blockers", "changed"] {
            assert!(self.json[key].is_array(), "no {key}: {self}");
        }
    }

    /// Demands a refusal or failure: one of the exit codes, the outcome, and one clear message
    /// that contains every one of `words` and nothing of the program's inside.
    ///
    /// # Panics
    /// When the verb said something else.
    #[must_use]
    pub fn expect_failure(self, codes: &[i32], outcome: &str, words: &[&str]) -> Self {
        let found = self.json["outcome"].as_str();
        assert!(
            self.code.is_some_and(|code| codes.contains(&code)) && found == Some(outcome),
            "wanted exit {codes:?} and {outcome}: {self}"
        );
        for word in words {
            assert!(self.talk.contains(word), "no `{word}` in the message: {self}");
        }
        for bad in ["panicked", "RUST_BACKTRACE", "Err(", "Some("] {
            assert!(!self.talk.contains(bad), "`{bad}` in the message: {self}");
        }
        self
    }

    /// A text of the JSON object.
    ///
    /// # Panics
    /// When there is none.
    pub fn text(&self, key: &str) -> &str {
        self.json[key].as_str().unwrap_or_else(|| panic!("no text `{key}`: {self}"))
    }

    /// A number of the JSON object.
    ///
    /// # Panics
    /// When there is none.
    pub fn number(&self, key: &str) -> u64 {
        self.json[key].as_u64().unwrap_or_else(|| panic!("no number `{key}`: {self}"))
    }

    /// A pid of the JSON object.
    ///
    /// # Panics
    /// When there is none.
    pub fn pid(&self, key: &str) -> i32 {
        i32::try_from(self.number(key)).unwrap_or_else(|_| panic!("`{key}` is no pid: {self}"))
    }

    /// The kinds of the blockers.
    pub fn blockers(&self) -> Vec<&str> {
        let rows = self.json["blockers"].as_array();
        rows.into_iter().flatten().filter_map(|row| row["kind"].as_str()).collect()
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { words, code, json, talk } = self;
        write!(f, "`{words}` ended with {code:?}\n  json: {json}\n  said: {talk}")
    }
}
