//! Overload, outage and recovery against a backend of known capacity: eight scenarios, each beside its optimum and beside what two other policies
//! make of the same load at the same time: no protection at all, and a fixed limit with a fixed replay rate.
//!
//! `cargo bench --bench overload` (about an hour); `-- --quick` for ten minutes; `-- S3 S7` for some of them. The load is open-loop and the
//! backend sleeps, so that two cores are enough and the build profile matters little (`--profile dev` will do). Pictures go to `target/overload/`.

#![allow(missing_docs, unreachable_pub, clippy::expect_used, reason = "a program, not a library; and one that cannot go on panics")]

#[path = "overload/backend.rs"]
mod backend;
mod common;
#[path = "overload/judge.rs"]
mod judge;
#[path = "overload/load.rs"]
mod load;
#[path = "overload/plot.rs"]
mod plot;
#[path = "overload/scenarios.rs"]
mod scenarios;

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use backend::Backend;
use common::Program;
use judge::Outcome;
use load::Log;
use scenarios::{Act, Scenario};

/// What stands before the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    Ours,
    Nothing,
    Fixed,
}

impl Policy {
    const ALL: [Self; 3] = [Self::Ours, Self::Nothing, Self::Fixed];
    const NAMES: [&'static str; 3] = ["forebay", "no protection", "fixed 32, 20/s"];

    fn config(self, backend: SocketAddr, data: &Path, delivery: &str) -> String {
        let (concurrency, replay, spill) = match self {
            Self::Ours => ("\"adaptive\"", "", true),
            Self::Nothing => ("100000", "", false),
            Self::Fixed => ("32", "replay = { profile = \"fixed\", rate = \"20/s\", concurrency = 8 }", true),
        };
        let share = if self == Self::Ours { "max_share = 0.5" } else { "" };
        let spill = if spill {
            format!("[routes.spill]\norder_by = \"none\"\ndelivery = \"{delivery}\"\nmax_attempts = 50")
        } else {
            String::new()
        };
        format!(
            r#"
[[listeners]]
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[store]
path = "{}/queue.redb"
[log]
level = "debug"
[backends.app]
servers = ["http://{backend}"]
response_timeout = "10s"
concurrency = {concurrency}
{replay}
[[routes]]
name = "reads"
path = "/read"
backend = "app"
[[routes]]
name = "quick"
path = "/quick"
backend = "app"
[[routes]]
name = "uploads"
path = "/slow"
backend = "app"
{share}
[[routes]]
name = "marks"
path = "/marks"
backend = "app"
{spill}
"#,
            data.display()
        )
    }
}

/// What was seen at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    pub at: f64,
    pub limit: f64,
    pub in_flight: f64,
    pub queued: f64,
    pub delivering: f64,
    pub dead: f64,
    /// At the backend itself, whoever sent it.
    pub at_backend: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let wanted = |scenario: &Scenario| {
        let names: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
        names.is_empty() || names.iter().any(|name| scenario.name.starts_with(name.as_str()))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime can be built");
    let began = Instant::now();
    for scenario in scenarios::all(quick).into_iter().filter(wanted) {
        let outcomes = runtime.block_on(async {
            let tasks = Policy::ALL.map(|policy| tokio::spawn(run(policy, scenario.clone())));
            let mut outcomes = Vec::new();
            for task in tasks {
                outcomes.push(task.await.expect("a run does not panic"));
            }
            outcomes
        });
        judge::print(&scenario, &outcomes, &Policy::NAMES);
        judge::draw(&scenario, &outcomes, &Policy::NAMES);
    }
    eprintln!("all took {:.0} s", began.elapsed().as_secs_f64());
}

/// One scenario under one policy.
async fn run(policy: Policy, scenario: Scenario) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let backend = Backend::start(scenario.nature);
    let config = policy.config(backend.address, folder.path(), scenario.delivery);
    let mut program = start(&folder, &config).await;
    let address = Arc::new(Mutex::new(program.address));
    let (log, began) = (Arc::new(Log::default()), Instant::now());
    let load = tokio::spawn({
        let (address, phases, log) = (address.clone(), scenario.phases.clone(), log.clone());
        async move { load::run(address, &phases, began, log).await }
    });
    let mut acts = scenario.acts.iter().peekable();
    let (mut looks, mut drained, mut kills) = (Vec::new(), None, scenario.kills);
    let (end, mut next_kill) = (scenario.end(), scenario.drain_from);
    loop {
        let now = began.elapsed();
        while let Some((_, act)) = acts.next_if(|(moment, _)| *moment <= now) {
            perform(&backend, act);
        }
        let look = look(program.admin, &backend, now).await;
        let empty = look.is_some_and(|look| look.queued + look.delivering == 0.0);
        looks.extend(look);
        if kills > 0 && next_kill.is_some_and(|moment| now >= moment) && !empty && policy != Policy::Nothing {
            kills -= 1;
            drop(program);
            program = start(&folder, &config).await;
            *address.lock() = program.address;
            next_kill = Some(began.elapsed() + Duration::from_millis(1_500));
        } else if drained.is_none() && empty && scenario.drain_from.is_some_and(|from| now > from + Duration::from_millis(400)) {
            drained = Some(now);
        }
        let drains = scenario.drain_from.is_some() && drained.is_none() && now < end + scenario.patience;
        if load.is_finished() && !drains && now >= end {
            break;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let done = std::mem::take(&mut *log.0.lock());
    if let Ok(folder) = std::env::var("OVERLOAD_LOGS") {
        let file = Path::new(&folder).join(format!("{}-{policy:?}.log", scenario.name));
        let _kept = std::fs::write(file, program.log().join("\n"));
    }
    Outcome { done, looks, drained, crashes: backend.crashes.load(Relaxed), executed: backend.executed() }
}

async fn start(folder: &tempfile::TempDir, config: &str) -> Program {
    let (path, config) = (folder.path().to_owned(), config.to_owned());
    tokio::task::spawn_blocking(move || Program::start(&path, &config)).await.expect("the program starts")
}

fn perform(backend: &Backend, act: &Act) {
    match *act {
        Act::Up(up) => backend.set_up(up),
        Act::Slowness(factor) => backend.set_slowness(factor),
        Act::Workers(workers) => backend.set_workers(workers),
    }
}

/// None while the program is away.
async fn look(admin: SocketAddr, backend: &Backend, now: Duration) -> Option<Look> {
    let status = tokio::time::timeout(Duration::from_secs(2), status(admin)).await.ok().flatten()?;
    let app = &status["backends"][0];
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    Some(Look {
        at: now.as_secs_f64(),
        limit: number(&app["concurrency_limit"]),
        in_flight: number(&app["in_flight"]),
        queued: number(&app["queue"]["queued"]),
        delivering: number(&app["queue"]["delivering"]),
        dead: number(&app["queue"]["dead"]),
        at_backend: f64::from(backend.in_flight.load(Relaxed)),
    })
}

async fn status(admin: SocketAddr) -> Option<Value> {
    let mut stream = TcpStream::connect(admin).await.ok()?;
    stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    serde_json::from_slice(&answer[body..]).ok()
}
