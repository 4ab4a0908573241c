//! What the terminal shows while the demo runs.
//!
//! On a terminal four lines stay at the bottom and are redrawn, and what happens scrolls by above them. Elsewhere, or with `NO_COLOR`, every event is a
//! line and the counts are one line a second. A terminal that has gone away (a closed pipe) costs the demo nothing: the books are closed all the same.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::{
    journal::Tally,
    servers::{Event, Which},
    stage::Status,
};

/// One server as it is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Which.
    pub which: Which,
    /// Whether it is there.
    pub up: bool,
    /// Requests that it works on.
    pub at_work: usize,
    /// Entries in its ledger.
    pub entries: usize,
}

/// Everything that is shown at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct View<'a> {
    /// What is going on, in a few words.
    pub act: &'a str,
    /// Time since the load began.
    pub elapsed: Duration,
    /// Time that the load takes.
    pub total: Duration,
    /// What the senders know.
    pub tally: Tally,
    /// Both servers.
    pub servers: [Seen; 2],
    /// What the proxy says; none when it did not.
    pub status: Option<&'a Status>,
}

/// The terminal.
#[derive(Debug)]
pub struct Screen {
    began: Instant,
    live: Option<Live>,
}

#[derive(Debug)]
struct Live {
    all: MultiProgress,
    time: ProgressBar,
    servers: [ProgressBar; 2],
    proxy: ProgressBar,
}

impl Screen {
    /// Live on a terminal, plain lines elsewhere and with `NO_COLOR` (no-color.org: set and not empty).
    pub fn new() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || !std::io::stdout().is_terminal();
        Self { began: Instant::now(), live: (!plain).then(Live::new) }
    }

    /// Time between two looks at everything.
    pub fn interval(&self) -> Duration {
        if self.live.is_some() { Duration::from_millis(250) } else { Duration::from_secs(1) }
    }

    /// Prints a text as it is.
    pub fn print(&self, text: &str) {
        // Nobody is there to be told that nobody reads.
        match &self.live {
            Some(live) => live.all.suspend(|| writeln!(std::io::stdout(), "{text}")).ok(),
            None => writeln!(std::io::stdout(), "{text}").ok(),
        };
    }

    /// Says that something has happened.
    pub fn say(&self, text: &str) {
        self.print(&format!("{:>6.1} s  {text}", self.began.elapsed().as_secs_f64()));
    }

    /// Shows how everything is.
    pub fn show(&self, view: &View<'_>) {
        match &self.live {
            Some(live) => live.show(view),
            None => self.say(&format!("{} | {} | {}", server(view.servers[0]), server(view.servers[1]), proxy(view))),
        }
    }

    /// Takes the lines at the bottom away.
    pub fn close(&mut self) {
        if let Some(live) = self.live.take() {
            live.all.clear().ok();
        }
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Live {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let line = || {
            let bar = all.add(ProgressBar::new_spinner());
            bar.set_style(style("{wide_msg}"));
            bar
        };
        let time = line();
        time.set_style(style("{bar:28.cyan/dim} {wide_msg:.bold}"));
        Self { time, servers: [line(), line()], proxy: line(), all }
    }

    fn show(&self, view: &View<'_>) {
        let total = u64::try_from(view.total.as_millis()).unwrap_or(u64::MAX);
        let elapsed = u64::try_from(view.elapsed.as_millis()).unwrap_or(u64::MAX);
        self.time.set_length(total);
        self.time.set_position(elapsed.min(total));
        self.time.set_message(format!("{} of {} s  {}", view.elapsed.as_secs().min(view.total.as_secs()), view.total.as_secs(), view.act));
        for (bar, seen) in self.servers.iter().zip(view.servers) {
            bar.set_style(style(if seen.up { "{spinner:.green} {wide_msg}" } else { "{spinner:.red} {wide_msg:.red}" }));
            bar.set_message(server(seen));
            bar.tick();
        }
        self.proxy.set_style(style("{spinner:.cyan} {wide_msg}"));
        self.proxy.set_message(proxy(view));
        self.proxy.tick();
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants of this file; a faulty one would show plainly and hurt nobody.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// The sentence for an event.
pub fn sentence(event: &Event) -> String {
    match event {
        Event::Crashed { which, why, back_in: Some(back_in) } => {
            format!("{} has crashed: {why}; it will be back in {:.1} s", which.name(), back_in.as_secs_f64())
        }
        Event::Crashed { which, why, back_in: None } => format!("{} has crashed: {why}", which.name()),
        Event::Back(which) => format!("{} is back", which.name()),
        Event::Stuck(which, why) => format!("{} cannot come back yet: {why}", which.name()),
    }
}

fn server(seen: Seen) -> String {
    let (work, kind) = match seen.which {
        Which::Admin => ("uploads", "orders"),
        Which::App => ("requests", "marks"),
    };
    let state = if seen.up { "up  " } else { "DOWN" };
    format!("{:<5} {state} {:>2} {work} at work, {:>6} {kind} in its ledger", seen.which.name(), seen.at_work, grouped(seen.entries as u64))
}

fn proxy(view: &View<'_>) -> String {
    let tally = view.tally;
    let acknowledged =
        format!("acknowledged {} = {} passed + {} queued", grouped(tally.acknowledged()), grouped(tally.passed), grouped(tally.queued));
    let Some(status) = view.status else {
        return format!("forebay does not say how it is; {acknowledged}");
    };
    let totals = status.totals();
    let states = status.backends.iter().filter_map(|backend| backend.state.map(|state| format!("{} {}", backend.name, word(state))));
    format!(
        "forebay ({}): queue {}, {acknowledged}, delivered {}, dead {}",
        states.collect::<Vec<_>>().join(", "),
        grouped(totals.open()),
        grouped(totals.delivered),
        grouped(totals.dead)
    )
}

fn word(state: crate::health::State) -> &'static str {
    match state {
        crate::health::State::Passing => "passing",
        crate::health::State::Shedding => "shedding",
        crate::health::State::Probing => "probing",
    }
}

/// A number with commas between its thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::stage::{Backend, Route, Totals};

    #[test]
    fn thousands_are_grouped() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn a_line_tells_who_is_down_and_what_waits() {
        let totals = Totals { accepted: 1500, queued: 1200, delivering: 8, delivered: 292, ..Totals::default() };
        let status = Status {
            backends: vec![Backend { name: "admin".into(), state: Some(crate::health::State::Shedding) }],
            routes: vec![Route { name: "order-upload".into(), backend: "admin".into(), totals }],
        };
        let seen = Seen { which: Which::Admin, up: false, at_work: 0, entries: 3400 };
        let view = View {
            act: "",
            elapsed: Duration::ZERO,
            total: Duration::ZERO,
            tally: Tally { passed: 100, queued: 1500, ..Tally::default() },
            servers: [seen, Seen { which: Which::App, up: true, ..seen }],
            status: Some(&status),
        };
        assert_eq!(server(seen), "admin DOWN  0 uploads at work,  3,400 orders in its ledger");
        assert_eq!(
            proxy(&view),
            "forebay (admin shedding): queue 1,208, acknowledged 1,600 = 100 passed + 1,500 queued, delivered 292, dead 0"
        );
    }
}
