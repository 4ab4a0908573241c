//! `forebay dead`: the requests that were given up, and sending them round again.

use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use comfy_table::Cell;

use super::{
    client::{self, Client, ClientError, Connect, with_query},
    render::{self, Align, Column, Output, cell, size},
};
use crate::{
    admin::{
        self,
        api::{RedriveRequest, Redriven, Request, Requests},
    },
    envelope::{DeadReason, RequestId, State},
};

/// What the admin API gives at once.
const PAGE: u64 = 1_000;

/// What can be done with dead letters.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum DeadCommand {
    /// List dead letters, oldest first
    List(ListArgs),
    /// Queue dead letters again, with all their attempts and their whole age anew
    ///
    /// All that match the filters, or all there are. They go out in order and at the pace of their backend's replay.
    Redrive(RedriveArgs),
}

/// Which dead letters.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct FilterArgs {
    /// Only those of this backend
    #[arg(long, value_name = "NAME")]
    pub backend: Option<String>,
    /// Only those of this route
    #[arg(long, value_name = "NAME")]
    pub route: Option<String>,
    /// Only those that died for this reason
    #[arg(long, value_name = "REASON", value_parser = reasons())]
    pub reason: Option<DeadReason>,
}

/// What `forebay dead list` is told.
#[derive(Debug, Clone, clap::Args)]
pub struct ListArgs {
    /// Which forebay is asked.
    #[command(flatten)]
    pub connect: Connect,
    /// Which are listed.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,
    /// Only those that come after this one
    #[arg(long, value_name = "ID")]
    pub after: Option<RequestId>,
    /// What to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
}

/// What `forebay dead redrive` is told.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RedriveArgs {
    /// Which forebay is asked.
    #[command(flatten)]
    pub connect: Connect,
    /// Which are queued again.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Only say how many it would be
    #[arg(long)]
    pub dry_run: bool,
    /// What to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
}

fn reasons() -> impl TypedValueParser<Value = DeadReason> {
    PossibleValuesParser::new(DeadReason::ALL.iter().map(|reason| reason.as_str()))
        .try_map(|name| DeadReason::from_name(&name).ok_or("no such reason"))
}

/// Runs `forebay dead`. `configured` is the `[admin]` table of the configuration, if there is one.
pub fn run(command: &DeadCommand, configured: Option<&admin::Settings>) -> ExitCode {
    client::run(async {
        match command {
            DeadCommand::List(args) => list(&Client::new(&args.connect, configured)?, args).await,
            DeadCommand::Redrive(args) => redrive(&Client::new(&args.connect, configured)?, args).await,
        }
    })
}

async fn list(client: &Client, args: &ListArgs) -> Result<String, ClientError> {
    let mut found = Requests { requests: Vec::new(), next: args.after.map(|after| after.to_string()) };
    loop {
        let wanted = (args.limit - found.requests.len() as u64).min(PAGE).to_string();
        let target = with_query(
            "/api/v1/requests",
            &[
                ("state", Some(State::Dead.as_str())),
                ("backend", args.filter.backend.as_deref()),
                ("route", args.filter.route.as_deref()),
                ("reason", args.filter.reason.map(DeadReason::as_str)),
                ("after", found.next.as_deref()),
                ("limit", Some(&wanted)),
            ],
        );
        let page: Requests = client.get(&target).await?;
        found.requests.extend(page.requests);
        found.next = page.next;
        if found.next.is_none() || found.requests.len() as u64 >= args.limit {
            break;
        }
    }
    match args.output {
        Output::Json => Ok(render::json(&found, true)?),
        Output::Table => Ok(page(&found)),
    }
}

const DEAD: [Column; 9] = [
    ("ID", Align::Left),
    ("DIED", Align::Left),
    ("REASON", Align::Left),
    ("BACKEND", Align::Left),
    ("ROUTE", Align::Left),
    ("REQUEST", Align::Left),
    ("SIZE", Align::Right),
    ("ATTEMPTS", Align::Right),
    ("LAST OUTCOME", Align::Left),
];

fn page(found: &Requests) -> String {
    if found.requests.is_empty() {
        return "no dead letters\n".into();
    }
    let table = render::table(&DEAD, found.requests.iter().map(row));
    match &found.next {
        Some(next) => format!("{table}\nthere are more: see them with --after {next}, or raise --limit\n"),
        None => table,
    }
}

fn row(request: &Request) -> Vec<Cell> {
    vec![
        cell(&request.id),
        cell(&request.changed_at),
        cell(request.dead_reason.map_or("-", DeadReason::as_str)),
        cell(&request.backend),
        cell(&request.route),
        cell(format_args!("{} {}", request.method, request.target)),
        cell(size(request.body_bytes)),
        cell(format_args!("{}/{}", request.attempts, request.max_attempts)),
        cell(&request.last_outcome),
    ]
}

async fn redrive(client: &Client, args: &RedriveArgs) -> Result<String, ClientError> {
    let asked = RedriveRequest {
        backend: args.filter.backend.clone(),
        route: args.filter.route.clone(),
        reason: args.filter.reason,
        rate: None,
        dry_run: args.dry_run,
    };
    let done: Redriven = client.post("/api/v1/dead/redrive", &asked).await?;
    match args.output {
        Output::Json => Ok(render::json(&done, true)?),
        Output::Table => Ok(sentence(done)),
    }
}

fn sentence(done: Redriven) -> String {
    match done {
        Redriven { matched: 0, .. } => "no dead letter matches\n".into(),
        Redriven { matched, dry_run: true, .. } => format!("would queue {matched} dead letters again\n"),
        Redriven { matched, redriven, .. } if redriven < matched => {
            format!("queued {redriven} dead letters again; {} more were gone by then\n", matched - redriven)
        }
        Redriven { redriven, .. } => format!("queued {redriven} dead letters again\n"),
    }
}

#[cfg(test)]
mod tests;
