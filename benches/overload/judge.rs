//! From what happened to figures.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::Duration,
};

use super::{
    Look,
    load::{Done, Fate},
    plot::{self, Panel},
    scenarios::{Line, Scenario},
};

/// What one policy made of a scenario.
pub struct Outcome {
    pub done: Vec<Done>,
    pub looks: Vec<Look>,
    pub drained: Option<Duration>,
    pub crashes: u32,
    pub executed: HashMap<u64, u32>,
}

impl Outcome {
    fn between(&self, from: f64, to: f64) -> impl Iterator<Item = &Done> + Clone {
        self.done.iter().filter(move |done| (from..to).contains(&done.due.as_secs_f64()))
    }

    /// Good answers that came in a span, per second.
    fn goodput(&self, from: f64, to: f64) -> f64 {
        let came = |done: &&Done| (from..to).contains(&(done.due + done.took).as_secs_f64());
        self.done.iter().filter(|done| done.fate == Fate::Good).filter(came).count() as f64 / (to - from)
    }

    /// A quantile of the latency of good answers, in seconds.
    fn latency(&self, from: f64, to: f64, quantile: f64) -> f64 {
        let mut took: Vec<f64> =
            self.between(from, to).filter(|done| done.fate == Fate::Good).map(|done| done.took.as_secs_f64()).collect();
        took.sort_by(f64::total_cmp);
        let at = (took.len() as f64 * quantile) as usize;
        took.get(at.min(took.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }

    /// Part of the requests that ended so.
    fn part(&self, from: f64, to: f64, fates: &[Fate]) -> f64 {
        let all = self.between(from, to);
        all.clone().filter(|done| fates.contains(&done.fate)).count() as f64 / all.count().max(1) as f64
    }

    /// Acknowledged writes that were neither executed nor kept as dead letters, and writes that were executed more than once.
    fn books(&self) -> (i64, usize) {
        let acknowledged: HashSet<u64> =
            self.done.iter().filter(|done| matches!(done.fate, Fate::Queued | Fate::Good)).filter_map(|done| done.number).collect();
        let missing = acknowledged.iter().filter(|number| !self.executed.contains_key(number)).count() as i64;
        let last = self.looks.last().copied().unwrap_or_default();
        let kept = (last.dead + last.queued + last.delivering) as i64;
        // What is dead may have been executed all the same: then fewer than the dead are missing.
        ((missing - kept).max(0), self.executed.values().filter(|times| **times > 1).count())
    }
}

/// The figures of one policy, in one line.
fn figures(scenario: &Scenario, outcome: &Outcome) -> String {
    let end = scenario.end().as_secs_f64();
    match scenario.line {
        Line::Goodput { from, capacity, p99, .. } => {
            let phases: Vec<String> = (from..scenario.phases.len())
                .map(|number| {
                    let (begin, end) = scenario.phase(number);
                    format!("{:.2}", outcome.goodput(begin, end) / capacity)
                })
                .collect();
            let begin = scenario.phase(from).0;
            let first = scenario.phase(0).1;
            let p99 = if p99 {
                format!(
                    "; p99 {:.2} s (unloaded {:.2}, line {:.2})",
                    outcome.latency(begin, end, 0.99),
                    outcome.latency(3.0, first, 0.99),
                    1.5 * outcome.latency(3.0, first, 0.99) + 0.25
                )
            } else {
                String::new()
            };
            format!("goodput {}{p99}; crashes {}", phases.join(", "), outcome.crashes)
        }
        Line::Drain { ideal, .. } => drain(scenario, outcome, ideal),
        Line::Classes { phase, .. } => {
            let (begin, end) = scenario.phase(phase);
            let served = |slow: bool| {
                let of_class = outcome.between(begin, end).filter(move |done| done.slow == slow);
                of_class.clone().filter(|done| done.fate == Fate::Good).count() as f64 / of_class.count().max(1) as f64
            };
            format!("reads {:.2}, uploads {:.2}", served(false), served(true))
        }
        Line::Refused { after, .. } => {
            let refused = outcome.part(after, end, &[Fate::Refused, Fate::Failed]);
            format!("refused {:.2}% (in all {:.2}%)", refused * 100.0, outcome.part(0.0, end, &[Fate::Refused, Fate::Failed]) * 100.0)
        }
        Line::Brownout { phase, capacity, .. } => {
            let (begin, end) = scenario.phase(phase);
            let offered = scenario.phases[phase + 1].rate;
            let whole = (0..50).map(|half| end + f64::from(half) / 2.0).find(|at| outcome.goodput(*at, at + 1.0) >= 0.95 * offered);
            let recovered = whole.map_or_else(|| "never".into(), |at| format!("{:.1} s", at - end));
            format!("goodput {:.2} of 0.3 C; recovered in {recovered}", outcome.goodput(begin + 3.0, end) / capacity)
        }
        Line::Exactly => {
            let (lost, twice) = outcome.books();
            let last = outcome.looks.last().copied().unwrap_or_default();
            format!("lost {lost}, twice {twice}; dead letters {}; left {}", last.dead, last.queued + last.delivering)
        }
    }
}

fn drain(scenario: &Scenario, outcome: &Outcome, ideal: f64) -> String {
    let back = scenario.drain_from.unwrap_or_default();
    let took = outcome.drained.map(|drained| drained.saturating_sub(back).as_secs_f64());
    let backlog = outcome.looks.iter().map(|look| look.queued + look.delivering).fold(0.0, f64::max);
    let (from, to) = (back.as_secs_f64(), back.as_secs_f64() + took.unwrap_or(60.0));
    let before = outcome.latency(2.0, scenario.acts[0].0.as_secs_f64(), 0.5);
    let (lost, twice) = outcome.books();
    format!(
        "{} ({}, backlog {backlog:.0}); live p50 {:.2}x, failed {:.1}%, queued {:.1}%; lost {lost}, twice {twice}; crashes {}",
        took.map_or_else(|| "never drained".into(), |took| format!("drained in {took:.0} s")),
        took.map_or_else(|| "-".into(), |took| format!("{:.2}x", took / ideal)),
        outcome.latency(from, to, 0.5) / before,
        outcome.part(from, to, &[Fate::Refused, Fate::Failed]) * 100.0,
        outcome.part(from, to, &[Fate::Queued]) * 100.0,
        outcome.crashes
    )
}

/// Prints a scenario with its optimum, its line, and every policy.
#[expect(clippy::print_stdout, reason = "the figures are what this program is for")]
pub fn print(scenario: &Scenario, outcomes: &[Outcome], names: &[&str]) {
    println!("{}: {}", scenario.name, scenario.what);
    println!("  {:<16}{}", "optimum", scenario.optimum);
    println!("  {:<16}{}", "accepted", scenario.accept);
    for (outcome, name) in outcomes.iter().zip(names) {
        println!("  {name:<16}{}", figures(scenario, outcome));
    }
    println!();
}

/// Goodput, limit, window and backlog over time.
pub fn draw(scenario: &Scenario, outcomes: &[Outcome], names: &[&str]) {
    let of_looks = |title: &str, value: fn(&Look) -> f64| Panel {
        title: title.to_owned(),
        lines: outcomes.iter().map(|outcome| outcome.looks.iter().map(|look| (look.at, value(look))).collect()).collect(),
    };
    let until = outcomes.iter().filter_map(|outcome| outcome.looks.last()).map(|look| look.at).fold(0.0, f64::max);
    let goodput =
        |outcome: &Outcome| (0..until as u32).map(|at| (f64::from(at) + 0.5, outcome.goodput(at.into(), f64::from(at) + 1.0))).collect();
    let panels = [
        Panel { title: "good answers per second".into(), lines: outcomes.iter().map(goodput).collect() },
        // What is as good as no limit would hide the others.
        of_looks("limit", |look| if look.limit > 1000.0 { 0.0 } else { look.limit }),
        of_looks("at the backend", |look| look.at_backend),
        of_looks("being replayed", |look| look.delivering),
        of_looks("queued", |look| look.queued),
    ];
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap_or(Path::new("target")).join("overload");
    let file = folder.join(format!("{}.svg", scenario.name));
    let written = std::fs::create_dir_all(&folder)
        .and_then(|()| plot::write(&file, &format!("{}: {}", scenario.name, scenario.what), names, &panels));
    match written {
        Ok(()) => eprintln!("{}", file.display()),
        Err(error) => eprintln!("no picture: {error}"),
    }
}
