//! `forebay status`: backends, queues, exact counts, and when each queue will be empty.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    time::Duration,
};

use comfy_table::{Cell, Color};

use super::{
    client::{self, Client, ClientError, Connect},
    render::{self, Align, Column, Output, cell, coloured, size, span},
};
use crate::{
    admin::{
        self, Phase,
        api::{Age, Ages, Backend, Clients, Refusals, Refused, Route, Status, Store, Totals},
    },
    health::{Mode, State},
};

/// Time between two looks of `--watch`.
const INTERVAL: Duration = Duration::from_secs(2);

/// What `forebay status` is told.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct StatusArgs {
    /// Which forebay is asked.
    #[command(flatten)]
    pub connect: Connect,
    /// Look again every two seconds until interrupted
    #[arg(short, long)]
    pub watch: bool,
    /// What to print; with --watch, JSON is one line per look
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
}

/// Runs `forebay status`. `configured` is the `[admin]` table of the configuration, if there is one.
pub fn run(args: &StatusArgs, configured: Option<&admin::Settings>) -> ExitCode {
    client::run(async {
        let client = Client::new(&args.connect, configured)?;
        let first = client.get("/api/v1/status").await?;
        if args.watch { watch(&client, first, args.output).await } else { Ok(show(&first, args.output, true)?) }
    })
}

/// Goes on until it is interrupted or nobody reads any more; a forebay that is away for a while is shown as such.
async fn watch(client: &Client, first: Status, output: Output) -> Result<String, ClientError> {
    let clear = output == Output::Table && io::stdout().is_terminal();
    let mut look = Ok(first);
    loop {
        let text = match &look {
            Ok(status) => show(status, output, false)?,
            Err(error) if clear => format!("{error}\n"),
            Err(error) => {
                render::complain(error);
                String::new()
            }
        };
        // Home, the text, then clear what an earlier and longer text left below: less flicker than clearing first.
        let text = if clear { format!("\u{1b}[H{}\u{1b}[J", text.replace('\n', "\u{1b}[K\n")) } else { text };
        if !render::print(&text)? {
            return Ok(String::new());
        }
        tokio::time::sleep(INTERVAL).await;
        look = client.get("/api/v1/status").await;
    }
}

fn show(status: &Status, output: Output, alone: bool) -> io::Result<String> {
    match output {
        Output::Json => render::json(status, alone),
        Output::Table => Ok(page(status, render::colour())),
    }
}

const BACKENDS: [Column; 11] = [
    ("BACKEND", Align::Left),
    ("STATE", Align::Left),
    ("SERVERS", Align::Right),
    ("IN FLIGHT", Align::Right),
    ("SLOWDOWN", Align::Right),
    ("QUEUED", Align::Right),
    ("DELIVERING", Align::Right),
    ("DEAD", Align::Right),
    ("SIZE", Align::Right),
    ("OLDEST", Align::Right),
    ("EMPTY IN", Align::Left),
];

const ROUTES: [Column; 9] = [
    ("ROUTE", Align::Left),
    ("BACKEND", Align::Left),
    ("ACCEPTED", Align::Right),
    ("QUEUED", Align::Right),
    ("DELIVERING", Align::Right),
    ("DELIVERED", Align::Right),
    ("DEAD", Align::Right),
    ("CANCELLED", Align::Right),
    ("DISCARDED", Align::Right),
];

fn page(status: &Status, colours: bool) -> String {
    let phase = match status.phase {
        Phase::Starting => "starting",
        Phase::Opening => "passing live traffic while its store is being opened",
        Phase::Accepting => "accepting",
        Phase::Draining => "draining",
    };
    let known = status.phase != Phase::Opening;
    let backends = status.backends.iter().map(|backend| as_known(backend_row(backend, colours), 5, known));
    let backends = render::table(&BACKENDS, backends);
    let routes = render::table(&ROUTES, status.routes.iter().map(|route| as_known(route_row(route), 2, known)));
    let (books, store) = match known {
        true => (books(&status.totals), store_line(&status.store)),
        false => {
            ("what is queued is not known until the store is open".to_owned(), "store: being opened; what needs it gets 503".to_owned())
        }
    };
    let clients = clients_line(&status.clients);
    let lines: String = status.backends.iter().flat_map(|backend| [limit_line(backend), replay_line(backend)]).flatten().collect();
    let (refusals, ages) = (refusal_lines(&status.store), age_line(&status.store).unwrap_or_default());
    format!(
        "forebay {} is {phase} ({})\n\n{backends}{lines}\n{routes}\n{books}\n{store}\n{refusals}{ages}{clients}\n",
        status.version, status.at
    )
}

/// A row of which, until the store is open, only the first cells are known.
fn as_known(row: Vec<Cell>, first: usize, known: bool) -> Vec<Cell> {
    let cells = row.into_iter().enumerate();
    cells.map(|(number, one)| if known || number < first { one } else { cell("?") }).collect()
}

fn backend_row(backend: &Backend, colours: bool) -> Vec<Cell> {
    let (state, colour) = match backend.state {
        Some(State::Passing) => ("passing", Color::Green),
        Some(State::Shedding) => ("shedding", Color::Red),
        Some(State::Probing) => ("probing", Color::Yellow),
        None => ("not configured", Color::Reset),
    };
    let state = match backend.mode {
        Mode::Auto => coloured(state, colour, colours),
        // What an operator forces must not be overlooked.
        forced => coloured(format_args!("{state}, mode {}", forced.as_str()), Color::Yellow, colours),
    };
    let up = backend.servers.iter().filter(|server| server.up).count();
    let queue = &backend.queue;
    vec![
        cell(&backend.name),
        state,
        cell(format_args!("{up}/{}", backend.servers.len())),
        cell(format_args!("{}/{}", backend.in_flight, backend.concurrency_limit)),
        cell(backend.slowdown.map_or_else(|| "-".to_owned(), |slowdown| format!("{slowdown:.1}x"))),
        cell(queue.queued),
        cell(queue.delivering),
        if queue.dead == 0 { cell(0) } else { coloured(queue.dead, Color::Red, colours) },
        cell(size(queue.bytes)),
        cell(queue.oldest_age_seconds.map_or_else(|| "-".to_owned(), span)),
        cell(empty_in(backend)),
    ]
}

/// Why the limit is what it is, and what it is compared with.
fn limit_line(backend: &Backend) -> Option<String> {
    let why = backend.concurrency_why.filter(|_| backend.concurrency_adaptive)?;
    let bases: Vec<String> = backend
        .base_latencies
        .iter()
        .map(|base| {
            let methods = if base.safe { "reads" } else { "writes" };
            format!("{} {methods} {:.3} s", base.route, base.seconds)
        })
        .collect();
    let bases = if bases.is_empty() { String::new() } else { format!("; undisturbed: {}", bases.join(", ")) };
    Some(format!("{}: limit {}, {why}{bases}\n", backend.name, backend.concurrency_limit))
}

/// How the replay of a queue finds its pace, where there is anything to say.
fn replay_line(backend: &Backend) -> Option<String> {
    let (queue, replay) = (&backend.queue, backend.queue.replay.as_ref()?);
    if queue.queued + queue.delivering == 0 && !replay.auth_expired {
        return None;
    }
    let mut line = format!("{}: replay {}, {} of {} under way", backend.name, replay.profile, replay.in_flight, replay.window);
    let mut add = |text: String| line.extend([", ", &text]);
    if replay.profile != "fixed" {
        add(if replay.slow_start { "slow start".into() } else { format!("last {}", replay.ramp) });
    }
    add(format!("held by {}", replay.hold));
    if let Some(until) = &replay.held_until {
        add(format!("left alone until {until}"));
    }
    if let Some(slowdown) = replay.slowdown {
        add(format!("backend {slowdown:.2} times as slow as at rest"));
    }
    if let Some(ratio) = replay.estimate_ratio {
        add(format!("its last estimate was {ratio:.1} times the truth"));
    }
    if replay.growing {
        add("ALARM: the backlog grows".into());
    }
    if replay.growing_keys > 0 {
        add(format!("ALARM: the backlog of {} ordering keys grows", replay.growing_keys));
    }
    if replay.auth_expired {
        add("ALARM: many are refused because what they carry has expired".into());
    }
    Some(line + "\n")
}

fn empty_in(backend: &Backend) -> String {
    let queue = &backend.queue;
    match (queue.drained_in_seconds, backend.state) {
        _ if queue.queued + queue.delivering == 0 => "empty".into(),
        _ if queue.paused => "paused".into(),
        _ if backend.mode == Mode::Spill => "waits for the mode".into(),
        (_, None) => "never: its backend is not configured".into(),
        (_, Some(State::Shedding)) => "waits for the backend".into(),
        (Some(seconds), _) => format!("{} (at {:.1}/s)", span(seconds), queue.replay_rate),
        (None, _) => "not known yet".into(),
    }
}

fn route_row(route: &Route) -> Vec<Cell> {
    let Totals { accepted, queued, delivering, delivered, dead, cancelled, discarded } = route.totals;
    let counts = [accepted, queued, delivering, delivered, dead, cancelled, discarded];
    [cell(&route.name), cell(&route.backend)].into_iter().chain(counts.map(cell)).collect()
}

fn books(totals: &Totals) -> String {
    let Totals { accepted, queued, delivering, delivered, dead, cancelled, discarded } = totals;
    format!(
        "accepted {accepted} = queued {queued} + delivering {delivering} + delivered {delivered} + dead {dead} + cancelled {cancelled} + discarded {discarded}"
    )
}

fn clients_line(clients: &Clients) -> String {
    let mut line = format!("clients: {} of {} connections", clients.connections, clients.max_connections);
    for (why, count) in clients.refused.iter().filter(|(_, count)| **count > 0) {
        line += &format!(", {count} turned away ({})", render::printable(why));
    }
    if clients.rate_limited > 0 {
        line += &format!(", {} requests past their rate", clients.rate_limited);
    }
    line
}

fn store_line(store: &Store) -> String {
    let mut line = match &store.failing {
        Some(why) => format!("store: FAILS, writes cannot be queued: {}; ", render::printable(why)),
        None => "store: ".to_owned(),
    };
    let requests = format!("{} of {} requests ({})", store.requests, store.max_requests, part(store.requests, store.max_requests));
    let bytes = format!("{} of {} ({})", size(store.bytes), size(store.max_bytes), part(store.bytes, store.max_bytes));
    line += &format!("{requests}, {bytes}");
    if let Some(free) = store.free_disk_bytes {
        line += &format!(", {} free on its disk (nothing new below {})", size(free), size(store.min_free_disk_bytes));
    }
    if store.damaged > 0 {
        line += &format!(", {} damaged records set aside", store.damaged);
    }
    line
}

/// A part of a whole; 100% only where there is no more.
fn part(used: u64, of: u64) -> String {
    let tenths = u128::from(used) * 1000 / u128::from(of.max(1));
    format!("{}.{}%", tenths / 10, tenths % 10)
}

/// Which limits refuse, each on a line of its own.
fn refusal_lines(store: &Store) -> String {
    let Refusals { max_requests, max_bytes, min_free_disk } = &store.refusals;
    let all = [("max_requests", max_requests), ("max_bytes", max_bytes), ("min_free_disk", min_free_disk)];
    let line = |(limit, refused): (&str, &Refused)| {
        let since = refused.since.as_ref()?;
        Some(format!("REFUSES what is new: store.{limit}, since {since}; {} since the start\n", refused.requests))
    };
    all.into_iter().filter_map(line).collect()
}

/// What reaches an age next.
fn age_line(store: &Store) -> Option<String> {
    let Ages { max_age, keep_delivered, keep_dead } = &store.ages;
    let all = [(max_age, "queued expire"), (keep_delivered, "outcomes are forgotten"), (keep_dead, "dead letters are discarded")];
    let next =
        |(age, what): (&Age, &str)| Some(format!("{} of {} {what} in {}", age.next_requests, age.requests, span(age.next_in_seconds?)));
    let parts: Vec<String> = all.into_iter().filter_map(next).collect();
    (!parts.is_empty()).then(|| format!("next by age: {}\n", parts.join(", ")))
}

#[cfg(test)]
mod tests;
