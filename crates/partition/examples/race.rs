//! Races the policies offline and prints what each would have cost, and its regret against an
//! oracle that knows the log.
//!
//! `race [PAGES [SEED]]` makes programs up; `race --log ACTUAL --plan FILE...` plays plan files
//! against a recorded fault log.
#![allow(clippy::print_stdout, reason = "an example talks")]

use std::error::Error;

use plan::Planned;
use rekindle_partition::race::{Scenario, Score, WORKLOADS, oracle, play, race, scenario};
use rekindle_partition::{Budget, FaultLog, HeatRuns, HostCosts, Inventory};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|a| a == "--log") {
        return recorded(&arguments);
    }
    let number = |at: usize, otherwise: u64| {
        arguments.get(at).map_or(Ok(otherwise), |text| text.parse::<u64>())
    };
    let (pages, seed) = (number(0, 65_536)?, number(1, 1)?);
    for workload in WORKLOADS {
        if let Some(scenario) = scenario(workload, pages, seed) {
            println!("{workload}: {pages} pages, seed {seed}");
            print(&race(&scenario));
        }
    }
    Ok(())
}

/// `--log ACTUAL --plan FILE...`
fn recorded(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let log = arguments.get(1).ok_or("--log wants a file")?;
    let actual = FaultLog::from_text(&std::fs::read(log)?)?;
    let scenario = Scenario {
        inventory: Inventory::default(),
        heat: HeatRuns::default(),
        earlier: Vec::new(),
        actual,
        costs: HostCosts::default(),
        budget: Budget::default(),
    };
    let best = play("oracle", &oracle(&scenario.input(), &scenario.actual), &scenario, None);
    let mut scores = Vec::new();
    for file in arguments.iter().skip(2).filter(|a| *a != "--plan") {
        let planned = Planned::from_file(&std::fs::read(file)?)?;
        let name = format!("{} ({file})", planned.policy);
        scores.push(play(&name, &planned.plan, &scenario, Some(&best)));
    }
    scores.insert(0, best);
    print(&scores);
    Ok(())
}

fn print(scores: &[Score]) {
    println!(
        "  {:<14} {:>10} {:>10} {:>10} {:>8} {:>9} {:>10} {:>8}",
        "policy",
        "answer_us",
        "stall_us",
        "regret_us",
        "hits_\u{2030}",
        "ahead_KiB",
        "wasted_KiB",
        "x_oracle"
    );
    for score in scores {
        println!(
            "  {:<14} {:>10} {:>10} {:>10} {:>8} {:>9} {:>10} {:>8.2}",
            score.policy,
            score.first_answer_us,
            score.stall_us,
            score.regret_us,
            score.hit_permille,
            score.ahead_bytes / 1024,
            score.wasted_bytes / 1024,
            score.ahead_permille as f64 / 1000.0
        );
    }
}
