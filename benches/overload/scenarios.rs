//! What is done to a backend, and what may be expected of whatever stands before it.

use std::time::Duration;

use super::{
    backend::{CAPACITY, Nature, WORKERS},
    load::{Mix, Phase},
};

/// Something that happens to the backend.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    Up(bool),
    Slowness(f64),
    Workers(u32),
}

/// How long the scenarios are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Long enough to see what happens.
    Quick,
    /// As long as their lines were drawn for.
    Full,
    /// The same, and S2 for twenty minutes.
    Long,
}

/// How a scenario is judged.
#[derive(Debug, Clone, Copy)]
pub enum Line {
    /// Goodput as part of this rate in these phases, and the p99 of what was admitted beside that of the first phase.
    Goodput { from: usize, capacity: f64, least: f64, p99: bool },
    /// The queue is empty after so many times the ideal span.
    Drain { ideal: f64, times: f64, live_p50: f64 },
    /// Parts of the two classes that were served in a phase.
    Classes { phase: usize, reads: f64, uploads: f64 },
    /// Part of the requests that were refused after this moment.
    Refused { after: f64, most: f64 },
    /// Goodput in a phase as part of a capacity, and the time to recover in the next.
    Brownout { phase: usize, capacity: f64, least: f64, recovered: f64 },
    /// Nothing lost, nothing twice.
    Exactly,
}

/// One scenario.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub name: &'static str,
    pub what: &'static str,
    pub optimum: String,
    pub accept: String,
    pub nature: Nature,
    pub phases: Vec<Phase>,
    pub acts: Vec<(Duration, Act)>,
    pub delivery: &'static str,
    /// When the backend is back and the queue can drain.
    pub drain_from: Option<Duration>,
    /// How long after the load has ended the queue may still drain.
    pub patience: Duration,
    /// How often the proxy is killed while it drains.
    pub kills: u32,
    pub line: Line,
    /// It is so much load that nothing runs beside it.
    pub alone: bool,
}

impl Scenario {
    pub fn end(&self) -> Duration {
        self.phases.iter().map(|phase| phase.span).sum()
    }

    /// When a phase begins and ends, in seconds.
    pub fn phase(&self, number: usize) -> (f64, f64) {
        let begin: f64 = self.phases[..number].iter().map(|phase| phase.span.as_secs_f64()).sum();
        (begin, begin + self.phases[number].span.as_secs_f64())
    }
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn phase(seconds: f64, part: f64, mix: Mix) -> Phase {
    Phase { span: secs(seconds), rate: part * CAPACITY, clients: 0, mix }
}

fn scenario(name: &'static str, what: &'static str, phases: Vec<Phase>, line: Line) -> Scenario {
    Scenario {
        name,
        what,
        optimum: String::new(),
        accept: String::new(),
        nature: Nature::default(),
        phases,
        acts: Vec::new(),
        delivery: "at-least-once",
        drain_from: None,
        patience: secs(240.0),
        kills: 0,
        line,
        alone: false,
    }
}

/// All of them.
pub fn all(length: Length) -> Vec<Scenario> {
    let q = |full: f64, short: f64| if length == Length::Quick { short } else { full };
    let mut all = vec![s1(&q), s2(&q, length), s3(&q, false), s3(&q, true), s4(&q), s5(&q)];
    all.extend(s6(&q));
    all.extend([s7(&q), s8(&q), s9(&q)]);
    for scenario in &mut all {
        (scenario.optimum, scenario.accept) = expectations(scenario);
    }
    all
}

fn s1(q: &dyn Fn(f64, f64) -> f64) -> Scenario {
    let mut phases = vec![phase(q(30.0, 10.0), 0.5, Mix::Reads)];
    phases.extend([1.5, 3.0, 10.0].map(|part| phase(q(60.0, 20.0), part, Mix::Reads)));
    let line = Line::Goodput { from: 1, capacity: CAPACITY, least: 0.95, p99: true };
    Scenario { alone: true, ..scenario("S1", "half of C, then 1.5, 3 and 10 times C", phases, line) }
}

fn s2(q: &dyn Fn(f64, f64) -> f64, length: Length) -> Scenario {
    let overload = if length == Length::Long { 1200.0 } else { q(300.0, 90.0) };
    let phases = vec![phase(q(30.0, 10.0), 0.5, Mix::Reads), phase(overload, 3.0, Mix::Reads)];
    let line = Line::Goodput { from: 1, capacity: CAPACITY, least: 0.90, p99: false };
    let nature = Nature { thrash: 0.3, crash: Some((400, secs(q(30.0, 10.0)))) };
    Scenario { nature, ..scenario("S2", "3 times C at a backend that thrashes, and crashes at 400", phases, line) }
}

fn s3(q: &dyn Fn(f64, f64) -> f64, cold: bool) -> Scenario {
    let (before, outage, after) = (q(30.0, 12.0), q(120.0, 40.0), q(150.0, 60.0));
    let phases = vec![phase(before + outage + after, 0.5, Mix::Writes(40))];
    let back = before + outage;
    let mut acts = vec![(secs(before), Act::Up(false)), (secs(back), Act::Up(true))];
    let mut ideal = outage * 0.5 * CAPACITY * 0.4 / (0.5 * CAPACITY);
    let (name, what) = if cold {
        acts.insert(1, (secs(back - 0.1), Act::Slowness(3.0)));
        acts.push((secs(back + 10.0), Act::Slowness(1.0)));
        // Ten seconds in which it takes two thirds of the live load; what it could not take of the writes is queued as well.
        ideal += 10.0 + 10.0 * (0.5 * CAPACITY - CAPACITY / 3.0) * 0.4 / (0.5 * CAPACITY);
        ("S3-cold", "the same, and three times slower for 10 s when it is back")
    } else {
        ("S3", "an outage at half of C, 40% of it writes")
    };
    let line = Line::Drain { ideal, times: 1.8, live_p50: 1.3 };
    Scenario { acts, drain_from: Some(secs(back)), ..scenario(name, what, phases, line) }
}

fn s4(q: &dyn Fn(f64, f64) -> f64) -> Scenario {
    let (before, outage, small, after) = (q(30.0, 12.0), q(120.0, 40.0), q(180.0, 60.0), q(60.0, 40.0));
    let phases = vec![phase(before + outage + small + after, 0.5, Mix::Writes(40))];
    let back = before + outage;
    let acts = vec![
        (secs(before), Act::Up(false)),
        (secs(back - 0.1), Act::Workers(WORKERS * 5 / 8)),
        (secs(back), Act::Up(true)),
        (secs(back + small), Act::Workers(WORKERS * 3 / 2)),
    ];
    let left = outage * 0.5 * CAPACITY * 0.4 - small * 0.125 * CAPACITY;
    let line = Line::Drain { ideal: small + left.max(0.0) / CAPACITY, times: 1.3, live_p50: 2.0 };
    Scenario { acts, drain_from: Some(secs(back)), ..scenario("S4", "back with 5/8 of its workers, later with 3/2", phases, line) }
}

fn s5(q: &dyn Fn(f64, f64) -> f64) -> Scenario {
    // 95% at 20 ms and 5% at 2 s are 119 ms each: the capacity is 134/s.
    let part = |times: f64| times * 16.0 / 0.119 / CAPACITY;
    let phases = vec![phase(q(30.0, 15.0), part(0.5), Mix::Uploads(5)), phase(q(120.0, 60.0), part(1.5), Mix::Uploads(5))];
    let line = Line::Classes { phase: 1, reads: 0.95, uploads: 0.45 };
    scenario("S5", "1.5 times what it can take of 95% reads (20 ms) and 5% uploads (2 s)", phases, line)
}

fn s6(q: &dyn Fn(f64, f64) -> f64) -> Vec<Scenario> {
    let quiet = vec![phase(q(120.0, 30.0), 0.01, Mix::Reads), phase(q(60.0, 40.0), 0.8, Mix::Reads)];
    let a = scenario("S6a", "2 requests a second, then at once 0.8 of C", quiet, Line::Refused { after: 0.0, most: 0.005 });
    let (before, slow) = (q(30.0, 15.0), q(150.0, 90.0));
    let phases = vec![phase(before, 0.3, Mix::Reads), phase(slow, 0.3, Mix::Reads)];
    let after = before + 60.0;
    let mut b = scenario("S6b", "for good 2.5 times slower at 0.3 of C", phases, Line::Refused { after, most: 0.0 });
    b.acts = vec![(secs(before), Act::Slowness(2.5))];
    let flip = q(60.0, 25.0);
    let phases = vec![phase(flip, 1.4, Mix::Quick(80)), phase(flip, 0.7, Mix::Quick(20)), phase(flip, 1.4, Mix::Quick(80))];
    let c = scenario(
        "S6c",
        "the mix of quick and slow reads flips, at 0.6 of what it can take",
        phases,
        Line::Refused { after: 0.0, most: 0.005 },
    );
    vec![a, b, c]
}

fn s7(q: &dyn Fn(f64, f64) -> f64) -> Scenario {
    let (before, brown, after) = (q(30.0, 15.0), q(80.0, 60.0), q(60.0, 30.0));
    let phases = [before, brown, after].map(|span| phase(span, 0.7, Mix::Reads)).to_vec();
    let acts = vec![(secs(before), Act::Slowness(1.0 / 0.3)), (secs(before + brown), Act::Slowness(1.0))];
    let line = Line::Brownout { phase: 1, capacity: 0.3 * CAPACITY, least: 0.9, recovered: 5.0 };
    Scenario { acts, ..scenario("S7", "a brown-out to 0.3 of C at 0.7 of C", phases, line) }
}

fn s8(q: &dyn Fn(f64, f64) -> f64) -> Scenario {
    let (before, outage, after) = (5.0, q(60.0, 30.0), 1.0);
    let phases = vec![phase(before + outage + after, 0.5, Mix::Writes(60))];
    let back = before + outage;
    let acts = vec![(secs(before), Act::Up(false)), (secs(back), Act::Up(true))];
    let line = Line::Exactly;
    let base = scenario("S8", "kill -9 of the proxy while it drains an at-most-once route", phases, line);
    Scenario { acts, delivery: "at-most-once", drain_from: Some(secs(back)), kills: 20, ..base }
}

fn s9(q: &dyn Fn(f64, f64) -> f64) -> Scenario {
    let phases = vec![Phase { span: secs(q(30.0, 10.0)), rate: 0.0, clients: 64, mix: Mix::Quick(100) }];
    let base =
        scenario("S9", "64 clients that ask again at once; each has a worker, and 20 ms", phases, Line::Refused { after: 0.0, most: 0.0 });
    Scenario { acts: vec![(Duration::ZERO, Act::Workers(64))], alone: true, ..base }
}

fn expectations(scenario: &Scenario) -> (String, String) {
    match scenario.line {
        Line::Goodput { least, p99, .. } => {
            let p99 = if p99 { "; p99 <= 1.5x unloaded + 0.25 s; 0 crashes" } else { "; 0 crashes" };
            ("goodput 1.00 of C".into(), format!("goodput >= {least}{p99}"))
        }
        Line::Drain { ideal, times, live_p50 } => (
            format!("drained in {ideal:.0} s"),
            format!("<= {:.0} s; 0 outages; live p50 <= {live_p50}x, failed <= 1%; lost 0, twice 0", ideal * times),
        ),
        Line::Classes { reads, uploads, .. } => ("reads 1.00, uploads 0.60".into(), format!("reads >= {reads}, uploads >= {uploads}")),
        Line::Refused { after, most } => ("refused 0%".into(), format!("refused <= {:.1}% after {after:.0} s", most * 100.0)),
        Line::Brownout { least, recovered, .. } => {
            ("goodput 1.00 of 0.3 C".into(), format!("goodput >= {least}; recovered in {recovered} s"))
        }
        Line::Exactly => ("lost 0, twice 0".into(), "lost 0, twice 0".into()),
    }
}
