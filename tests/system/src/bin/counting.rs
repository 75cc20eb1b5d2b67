//! A Rust program with threads of `std`, each of which appends to a file of its own: numbered
//! values where each follows from the one before. It is told a folder and never ends by itself.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::time::Duration;

struct Sequence {
    file: File,
    count: u64,
    value: u64,
}

impl Sequence {
    fn new(dir: &Path, number: u32) -> std::io::Result<Self> {
        let file = File::create(dir.join(format!("lines-{number}")))?;
        Ok(Self { file, count: 0, value: 0 })
    }

    fn step(&mut self) -> std::io::Result<()> {
        self.count += 1;
        self.value = self
            .value
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        writeln!(self.file, "{} {:016x}", self.count, self.value)
    }
}

/// Steps at every tick of a sleep.
fn sleeper(mut lines: Sequence) -> std::io::Result<()> {
    loop {
        std::thread::sleep(Duration::from_millis(7));
        lines.step()?;
    }
}

/// Steps whenever a number arrives, which must be the next one.
fn receiver(mut lines: Sequence, numbers: &Receiver<u64>) -> std::io::Result<()> {
    for (expected, number) in (0..).zip(numbers) {
        if expected != number {
            return Err(std::io::Error::other(format!("got {number} instead of {expected}")));
        }
        lines.step()?;
    }
    Ok(())
}

fn sender(numbers: &Sender<u64>) -> std::io::Result<()> {
    for number in 0.. {
        std::thread::sleep(Duration::from_millis(11));
        numbers.send(number).map_err(std::io::Error::other)?;
    }
    Ok(())
}

/// Two threads that take turns.
fn turns(mut lines: Sequence, turn: &(Mutex<u64>, Condvar), own: u64) -> std::io::Result<()> {
    let poisoned = |_| std::io::Error::other("poisoned");
    let (counter, changed) = turn;
    loop {
        let mut value = counter.lock().map_err(poisoned)?;
        while *value % 2 != own {
            value = changed.wait(value).map_err(|_| std::io::Error::other("poisoned"))?;
        }
        *value += 1;
        changed.notify_all();
        drop(value);
        lines.step()?;
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn main() -> std::io::Result<()> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let dir = Path::new(&dir);
    let (numbers, arriving) = channel();
    let turn = Arc::new((Mutex::new(0), Condvar::new()));
    let begin = Arc::new(Barrier::new(6));
    let (first, second) = (Sequence::new(dir, 0)?, Sequence::new(dir, 1)?);
    let (third, fourth) = (Sequence::new(dir, 2)?, Sequence::new(dir, 3)?);
    let other_turn = Arc::clone(&turn);
    type Task = Box<dyn FnOnce() -> std::io::Result<()> + Send>;
    let tasks: [Task; 5] = [
        Box::new(move || sleeper(first)),
        Box::new(move || receiver(second, &arriving)),
        Box::new(move || sender(&numbers)),
        Box::new(move || turns(third, &turn, 0)),
        Box::new(move || turns(fourth, &other_turn, 1)),
    ];
    let threads: Vec<_> = tasks
        .into_iter()
        .map(|task| {
            let begin = Arc::clone(&begin);
            std::thread::spawn(move || {
                begin.wait();
                task()
            })
        })
        .collect();
    begin.wait();
    // A thread that ends has met an error: the others' files then stop growing, too.
    for thread in threads {
        thread.join().map_err(|_| std::io::Error::other("a thread panicked"))??;
    }
    Ok(())
}
