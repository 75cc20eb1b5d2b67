//! Set-up, then passes for ever.

use crate::args::Args;
use crate::board::{self, Board, Row};
use crate::flaw::{self, Flaw, Outcome, fail};
use crate::kind::{Kind, Pass};
use crate::{kinds, privilege, probe, raw};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Passes before a sabotage, so that the state was seen to be right.
const CLEAN_PASSES: u64 = 5;
/// How long a sabotage may stay unnoticed, in running milliseconds.
const SABOTAGE_MS: u64 = 20_000;

/// Runs until something is off.
pub fn run(args: &Args) {
    if let Some(path) = &args.report {
        flaw::report_to(path.clone());
    }
    if let Err(flaw) = prepare(args) {
        fail("set-up", &flaw);
    }
    let mut rows = Vec::new();
    let mut held: Vec<(usize, &'static str, Box<dyn Kind>)> = Vec::new();
    for entry in &args.kinds {
        let absent = match (entry.set_up)(&args.context) {
            Ok(kind) => {
                held.push((rows.len(), entry.name, kind));
                None
            }
            Err(Flaw::Absent(reason)) => Some(reason),
            Err(flaw) => fail(entry.name, &flaw),
        };
        rows.push(Row { name: entry.name, passes: AtomicU64::new(0), absent });
    }
    board::publish(Board { rows, generation: AtomicU64::new(0), seed: args.context.seed });
    if let Err(flaw) = announce(args) {
        fail("set-up", &flaw);
    }
    let mut step = 0;
    let mut sabotaged_ms = None;
    loop {
        let begin = raw::mono();
        for (row, name, kind) in &mut held {
            pass(*row, name, kind.as_mut(), step);
        }
        step += 1;
        if let Some(board) = board::board() {
            board.generation.store(step, SeqCst);
        }
        if step == args.passes {
            kinds::shared::clean_up();
            return;
        }
        if step == CLEAN_PASSES {
            sabotaged_ms = sabotage(args, &mut held);
        }
        if sabotaged_ms.is_some_and(|since| board::running_ms() - since > SABOTAGE_MS) {
            flaw::end("witness: the sabotage was not noticed\n", 3);
        }
        if let Err(flaw) = raw::sleep(args.context.pause) {
            fail("main", &flaw);
        }
        board::ran_for((raw::mono() - begin) / 1_000_000);
    }
}

fn prepare(args: &Args) -> Outcome {
    raw::set_mask(&raw::quiet_mask(&[]))?;
    probe::install()?;
    if let Some(user) = args.drop_to {
        privilege::drop_to(user)?;
    }
    std::fs::create_dir_all(&args.context.dir)?;
    std::env::set_current_dir(&args.context.dir)?;
    kinds::sockets::choose_port(args.port);
    Ok(())
}

/// Tells that set-up is through: a line for whoever watches stdout, and the ready file, which
/// appears complete.
fn announce(args: &Args) -> Outcome {
    let status = board::status();
    print!("{status}");
    if let Some(path) = &args.ready {
        let partial = path.with_extension("partial");
        std::fs::write(&partial, &status)?;
        std::fs::rename(&partial, path)?;
    }
    Ok(())
}

fn pass(row: usize, name: &'static str, kind: &mut dyn Kind, step: u64) {
    match kind.check() {
        Ok(Pass::Whole) => {
            if let Some(board) = board::board() {
                board.rows[row].passes.fetch_add(1, SeqCst);
            }
        }
        Ok(Pass::Part) => {}
        Err(flaw) => fail(name, &flaw),
    }
    if let Err(flaw) = kind.mutate(step + 1) {
        fail(name, &flaw);
    }
}

fn sabotage(args: &Args, held: &mut [(usize, &'static str, Box<dyn Kind>)]) -> Option<u64> {
    let (name, variant) = args.sabotage.as_ref()?;
    let Some((_, _, kind)) = held.iter_mut().find(|(_, held_name, _)| held_name == name) else {
        // The state is not there to be spoiled: said, with a code of its own.
        flaw::end(&format!("witness: {name}: not available here\n"), 4);
    };
    if let Err(flaw) = kind.sabotage(variant) {
        flaw::end(&format!("witness: {name}: sabotage {variant} failed: {flaw}\n"), 5);
    }
    Some(board::running_ms())
}
