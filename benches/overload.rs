//! Overload, outage and recovery against a backend of known capacity: nine scenarios, each beside its optimum and beside what two other policies
//! make of the same load at the same time: no protection at all, and a fixed limit with a fixed replay rate.
//!
//! `cargo bench --bench overload` takes ten to fifteen minutes, `-- --quick` four to eight, `-- --long` has twenty minutes of S2; `-- S3 S7` runs some of
//! them. The load is open-loop (but for S9's) and the backend sleeps, so that two cores are enough for many scenarios side by side. What comes of it goes
//! to standard output; pictures and a row of figures for every quarter of a second to `target/overload/`. `docs/overload.md` says how to read both.

#![allow(missing_docs, unreachable_pub, clippy::expect_used, reason = "a program, not a library; and one that cannot go on panics")]

#[path = "overload/backend.rs"]
mod backend;
mod common;
#[path = "overload/draw.rs"]
mod draw;
#[path = "overload/judge.rs"]
mod judge;
#[path = "overload/load.rs"]
mod load;
#[path = "overload/look.rs"]
mod look;
#[path = "overload/plot.rs"]
mod plot;
#[path = "overload/policy.rs"]
mod policy;
#[path = "overload/scenarios.rs"]
mod scenarios;

use std::{path::Path, sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use backend::Backend;
use common::Program;
use judge::Outcome;
use load::Log;
use policy::Policy;
use scenarios::{Act, Length, Scenario};

/// Time between two looks at a run.
const LOOK: Duration = Duration::from_millis(250);
/// Time that the program is given between two kills.
const LIFE: Duration = Duration::from_millis(1_200);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let length = match arguments.iter().find(|argument| argument.starts_with('-')).map(String::as_str) {
        None => Length::Full,
        Some("--quick") => Length::Quick,
        Some("--long") => Length::Long,
        Some(other) => return eprintln!("{other} is not known: --quick, --long, or names of scenarios"),
    };
    let wanted = |scenario: &Scenario| {
        let names: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
        names.is_empty() || names.iter().any(|name| scenario.name.starts_with(name.as_str()))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime can be built");
    let began = Instant::now();
    let (alone, together): (Vec<_>, Vec<_>) = scenarios::all(length).into_iter().filter(wanted).partition(|scenario| scenario.alone);
    let groups = alone.into_iter().map(|scenario| vec![scenario]).chain([together]);
    for group in groups {
        runtime.block_on(side_by_side(group));
    }
    eprintln!("all took {:.0} s", began.elapsed().as_secs_f64());
}

/// Scenarios at the same time, and each under every policy; printed in their order.
async fn side_by_side(group: Vec<Scenario>) {
    let begin = |scenario: Scenario| {
        let runs = Policy::ALL.map(|policy| tokio::spawn(run(policy, scenario.clone())));
        (scenario, runs)
    };
    let running: Vec<_> = group.into_iter().map(begin).collect();
    for (scenario, runs) in running {
        let mut outcomes = Vec::new();
        for run in runs {
            outcomes.push(run.await.expect("a run does not panic"));
        }
        judge::print(&scenario, &outcomes);
        draw::draw(&scenario, &outcomes);
    }
}

/// One scenario under one policy.
async fn run(policy: Policy, scenario: Scenario) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let backend = Backend::start(scenario.nature);
    let config = policy.config(backend.address, folder.path(), scenario.delivery);
    let mut program = start(&folder, config.clone()).await;
    let address = Arc::new(Mutex::new(program.as_ref().map_or(backend.address, |program| program.address)));
    let (log, began) = (Arc::new(Log::default()), Instant::now());
    let load = tokio::spawn({
        let (address, phases, log) = (address.clone(), scenario.phases.clone(), log.clone());
        async move { load::run(address, &phases, began, log).await }
    });
    let mut acts = scenario.acts.iter().peekable();
    let (mut looks, mut drained, mut kills) = (Vec::new(), None, 0);
    let (end, mut next_kill) = (scenario.end(), scenario.drain_from.filter(|_| scenario.kills > 0 && program.is_some()));
    loop {
        let now = began.elapsed();
        while let Some((_, act)) = acts.next_if(|(moment, _)| *moment <= now) {
            perform(&backend, act);
        }
        let look = look::look(program.as_ref().map(|program| program.admin), &backend, now).await;
        let empty = program.is_none() || look.is_some_and(|look| look.queued + look.delivering == 0.0);
        looks.extend(look);
        if next_kill.is_some_and(|moment| now >= moment) && !empty && kills < scenario.kills {
            kills += 1;
            drop(program);
            program = start(&folder, config.clone()).await;
            *address.lock() = program.as_ref().expect("it was there").address;
            next_kill = Some(began.elapsed() + LIFE);
        } else if drained.is_none() && empty && scenario.drain_from.is_some_and(|from| now > from + Duration::from_millis(400)) {
            drained = Some(now);
        }
        let drains = scenario.drain_from.is_some() && drained.is_none() && now < end + scenario.patience;
        if load.is_finished() && !drains && now >= end {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    let dead = match &program {
        Some(program) => look::dead_numbers(program.admin).await,
        None => Default::default(),
    };
    keep_log(&scenario, policy, program.as_ref());
    let done = std::mem::take(&mut *log.0.lock());
    Outcome { policy, done, looks, drained, kills, crashes: backend.crashes.load(Relaxed), executed: backend.executed(), dead }
}

/// What the program logs, for whoever wants to know why: `OVERLOAD_LOGS` names a folder.
fn keep_log(scenario: &Scenario, policy: Policy, program: Option<&Program>) {
    if let (Ok(folder), Some(program)) = (std::env::var("OVERLOAD_LOGS"), program) {
        let file = Path::new(&folder).join(format!("{}-{policy:?}.log", scenario.name));
        if let Err(error) = std::fs::write(&file, program.log().join("\n")) {
            eprintln!("{}: {error}", file.display());
        }
    }
}

/// The program under test; none where the policy is to have none.
async fn start(folder: &tempfile::TempDir, config: Option<String>) -> Option<Program> {
    let (path, config) = (folder.path().to_owned(), config?);
    Some(tokio::task::spawn_blocking(move || Program::start(&path, &config)).await.expect("the program starts"))
}

fn perform(backend: &Arc<Backend>, act: &Act) {
    match *act {
        Act::Up(up) => backend.set_up(up),
        Act::Slowness(factor) => backend.set_slowness(factor),
        Act::Workers(workers) => backend.set_workers(workers),
    }
}
