//! From what happened to figures, each held against its line.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::{
    load::{Done, Fate},
    look::Look,
    policy::Policy,
    scenarios::{Line, Scenario},
};

/// What one policy made of a scenario.
pub struct Outcome {
    pub policy: Policy,
    pub done: Vec<Done>,
    pub looks: Vec<Look>,
    pub drained: Option<Duration>,
    /// How often the program was killed.
    pub kills: u32,
    /// How often the backend crashed.
    pub crashes: u32,
    /// How often each numbered write was executed.
    pub executed: HashMap<u64, u32>,
    /// The numbered writes that ended as dead letters.
    pub dead: HashSet<u64>,
}

/// One figure, and whether it keeps to its line, if it has one.
struct Figure(String, Option<bool>);

fn figure(text: impl Into<String>) -> Figure {
    Figure(text.into(), None)
}

fn held(text: impl Into<String>, held: bool) -> Figure {
    Figure(text.into(), Some(held))
}

impl Outcome {
    fn between(&self, from: f64, to: f64) -> impl Iterator<Item = &Done> + Clone {
        self.done.iter().filter(move |done| (from..to).contains(&done.due.as_secs_f64()))
    }

    /// Good answers that came in a span, per second.
    pub fn goodput(&self, from: f64, to: f64) -> f64 {
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

    /// Acknowledged writes that were neither executed nor kept, and writes that were executed more than once.
    fn books(&self) -> (usize, usize) {
        let acknowledged = self.done.iter().filter(|done| matches!(done.fate, Fate::Queued | Fate::Good)).filter_map(|done| done.number);
        let missing = acknowledged.filter(|number| !self.executed.contains_key(number) && !self.dead.contains(number)).count();
        (missing.saturating_sub(self.left()), self.executed.values().filter(|times| **times > 1).count())
    }

    /// What is still in the queue.
    fn left(&self) -> usize {
        self.looks.last().map_or(0, |look| (look.queued + look.delivering) as usize)
    }

    /// How often the breaker tripped after this moment.
    fn trips(&self, after: f64) -> usize {
        let later = self.looks.iter().filter(|look| look.at > after).map(|look| look.sheds).collect::<Vec<_>>();
        later.windows(2).filter(|pair| !pair[0] && pair[1]).count()
    }

    /// Writes whose clients were told that they failed, or nothing.
    fn failed_writes(&self) -> usize {
        self.done.iter().filter(|done| done.number.is_some() && matches!(done.fate, Fate::Refused | Fate::Failed)).count()
    }
}

/// The figures of one policy.
fn figures(scenario: &Scenario, outcome: &Outcome) -> Vec<Figure> {
    let end = scenario.end().as_secs_f64();
    match scenario.line {
        Line::Goodput { from, capacity, least, p99 } => goodput(scenario, outcome, (from, capacity, least, p99)),
        Line::Drain { ideal, times, live_p50 } => drain(scenario, outcome, ideal, times, live_p50),
        Line::Classes { phase, reads, uploads } => {
            let (begin, end) = scenario.phase(phase);
            let served = |slow: bool| {
                let of_class = outcome.between(begin, end).filter(move |done| done.slow == slow);
                of_class.clone().filter(|done| done.fate == Fate::Good).count() as f64 / of_class.count().max(1) as f64
            };
            let class = |name: &str, slow, least| held(format!("{name} {:.2}", served(slow)), served(slow) >= least);
            vec![class("reads", false, reads), class("uploads", true, uploads)]
        }
        Line::Refused { after, most } => {
            let refused = |after| outcome.part(after, end, &[Fate::Refused, Fate::Failed]);
            let judged = held(format!("refused {:.2}%", refused(after) * 100.0), refused(after) <= most);
            vec![judged, figure(format!("in all {:.2}%", refused(0.0) * 100.0))]
        }
        Line::Brownout { phase, capacity, least, recovered } => {
            let (begin, end) = scenario.phase(phase);
            let offered = scenario.phases[phase + 1].rate;
            let goodput = outcome.goodput(begin + 3.0, end) / capacity;
            let whole = (0..100).map(|half| end + f64::from(half) / 2.0).find(|at| outcome.goodput(*at, at + 1.0) >= 0.95 * offered);
            let took = whole.map(|at| at - end);
            let said = took.map_or_else(|| "never".into(), |took| format!("in {took:.1} s"));
            vec![
                held(format!("goodput {goodput:.2} of 0.3 C"), goodput >= least),
                held(format!("recovered {said}"), took.is_some_and(|took| took <= recovered)),
            ]
        }
        Line::Exactly => {
            let (lost, twice) = outcome.books();
            let figures = vec![
                held(format!("lost {lost}"), lost == 0),
                held(format!("twice {twice}"), twice == 0),
                figure(format!("kills {}", outcome.kills)),
                figure(format!("dead letters {}", outcome.dead.len())),
                figure(format!("left {}", outcome.left())),
            ];
            figures.into_iter().chain(failed_writes(outcome)).collect()
        }
    }
}

fn failed_writes(outcome: &Outcome) -> Option<Figure> {
    let failed = outcome.failed_writes();
    (failed > 0).then(|| figure(format!("{failed} writes not taken")))
}

fn goodput(scenario: &Scenario, outcome: &Outcome, (from, capacity, least, p99): (usize, f64, f64, bool)) -> Vec<Figure> {
    let of_phase = |number| {
        let (begin, end) = scenario.phase(number);
        outcome.goodput(begin, end) / capacity
    };
    let phases: Vec<f64> = (from..scenario.phases.len()).map(of_phase).collect();
    let shown: Vec<String> = phases.iter().map(|goodput| format!("{goodput:.2}")).collect();
    let mut figures = vec![held(format!("goodput {}", shown.join(", ")), phases.iter().all(|goodput| *goodput >= least))];
    if p99 {
        let unloaded = outcome.latency(3.0, scenario.phase(0).1, 0.99);
        let admitted = outcome.latency(scenario.phase(from).0, scenario.end().as_secs_f64(), 0.99);
        let line = 1.5 * unloaded + 0.25;
        figures.push(held(format!("p99 {admitted:.2} s (line {line:.2})"), admitted <= line));
    }
    figures.push(held(format!("crashes {}", outcome.crashes), outcome.crashes == 0));
    figures
}

fn drain(scenario: &Scenario, outcome: &Outcome, ideal: f64, times: f64, live_p50: f64) -> Vec<Figure> {
    let back = scenario.drain_from.unwrap_or_default();
    let took = outcome.drained.map(|drained| drained.saturating_sub(back).as_secs_f64());
    let (from, to) = (back.as_secs_f64(), back.as_secs_f64() + took.unwrap_or(60.0).max(20.0));
    let before = outcome.latency(2.0, scenario.acts[0].0.as_secs_f64(), 0.5);
    let p50 = outcome.latency(from, to, 0.5) / before;
    let failed = outcome.part(from, to, &[Fate::Refused, Fate::Failed]);
    let (lost, twice) = outcome.books();
    let mut figures = vec![match took {
        _ if outcome.policy == Policy::Nothing => figure("no queue"),
        Some(took) => held(format!("drained in {took:.0} s ({:.2}x)", took / ideal), took <= ideal * times),
        None => held("never drained", false),
    }];
    let outages = outcome.crashes as usize + outcome.trips(back.as_secs_f64() + 1.0);
    figures.extend([
        held(format!("outages {outages}"), outages == 0),
        held(format!("live p50 {p50:.2}x"), p50 <= live_p50),
        held(format!("failed {:.1}%", failed * 100.0), failed <= 0.01),
        held(format!("lost {lost}"), lost == 0),
        held(format!("twice {twice}"), twice == 0),
    ]);
    figures.extend(failed_writes(outcome));
    figures
}

/// Prints a scenario with its optimum, its line, and every policy. An exclamation mark stands behind what misses its line.
#[expect(clippy::print_stdout, reason = "the figures are what this program is for")]
pub fn print(scenario: &Scenario, outcomes: &[Outcome]) {
    println!("{}: {}", scenario.name, scenario.what);
    println!("  {:<16}{}", "optimum", scenario.optimum);
    println!("  {:<16}{}", "accepted", scenario.accept);
    for outcome in outcomes {
        let figures = figures(scenario, outcome);
        let mark = |held: Option<bool>| if held == Some(false) { " !" } else { "" };
        let text: Vec<String> = figures.iter().map(|Figure(text, held)| format!("{text}{}", mark(*held))).collect();
        println!("  {:<16}{}", outcome.policy.name(), text.join("; "));
    }
    println!();
}
