//! `forebay history`: what happened in each hour.

use std::process::ExitCode;

use comfy_table::Cell;

use super::{
    client::{self, Client, ClientError, Connect},
    render::{self, Align, Column, Output, cell},
};
use crate::admin::{
    self,
    api::{History, HourCounts},
};

/// What `forebay history` is told.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct HistoryArgs {
    /// Which forebay is asked.
    #[command(flatten)]
    pub connect: Connect,
    /// So many hours, the one that is under way included; 90 days are kept
    #[arg(long, value_name = "HOURS", default_value = "24", value_parser = clap::value_parser!(u32).range(1..=i64::from(crate::store::KEPT_HOURS) + 1))]
    pub hours: u32,
    /// What to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
}

/// Runs `forebay history`. `configured` is the `[admin]` table of the configuration, if there is one.
pub fn run(args: &HistoryArgs, configured: Option<&admin::Settings>) -> ExitCode {
    client::run(async {
        let client = Client::new(&args.connect, configured)?;
        let history: History = client.get(&format!("/api/v1/history?hours={}", args.hours)).await?;
        match args.output {
            Output::Json => Ok(render::json(&history, true)?),
            Output::Table => Ok::<_, ClientError>(page(&history)),
        }
    })
}

const HOURS: [Column; 8] = [
    ("HOUR", Align::Left),
    ("ROUTE", Align::Left),
    ("BACKEND", Align::Left),
    ("ACCEPTED", Align::Right),
    ("DELIVERED", Align::Right),
    ("DEAD", Align::Right),
    ("CANCELLED", Align::Right),
    ("DISCARDED", Align::Right),
];

fn page(history: &History) -> String {
    let mut text = match &*history.hours {
        [] => format!("nothing was queued since {}\n", minute(&history.from)),
        hours => render::table(&HOURS, hours.iter().map(row).chain([sum(hours)])),
    };
    if history.since > history.from {
        text += &format!("\ncounted since {}: what happened before is not known by the hour\n", history.since);
    }
    text
}

fn row(counts: &HourCounts) -> Vec<Cell> {
    let HourCounts { hour, backend, route, .. } = counts;
    [cell(minute(hour)), cell(route), cell(backend)].into_iter().chain(numbers(counts).map(cell)).collect()
}

fn sum(hours: &[HourCounts]) -> Vec<Cell> {
    let mut sum = [0; 5];
    for counts in hours {
        sum.iter_mut().zip(numbers(counts)).for_each(|(sum, count)| *sum += count);
    }
    [cell("all"), cell("-"), cell("-")].into_iter().chain(sum.map(cell)).collect()
}

fn numbers(counts: &HourCounts) -> [u64; 5] {
    let &HourCounts { accepted, delivered, dead, cancelled, discarded, .. } = counts;
    [accepted, delivered, dead, cancelled, discarded]
}

/// `2026-11-22T12:00Z` of `2026-11-22T12:00:00.000Z`.
fn minute(moment: &str) -> String {
    moment.get(..16).map_or_else(|| moment.to_owned(), |minute| format!("{minute}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(hour: &str, route: &str, accepted: u64, delivered: u64) -> HourCounts {
        let (hour, route) = (format!("2026-11-22T{hour}:00:00.000Z"), route.into());
        HourCounts { hour, backend: "app".into(), route, accepted, delivered, dead: 0, cancelled: 1, discarded: 0 }
    }

    fn history(since: &str, hours: Vec<HourCounts>) -> History {
        History { at: "2026-11-22T14:30:00.000Z".into(), from: "2026-11-22T12:00:00.000Z".into(), since: since.into(), hours }
    }

    #[test]
    fn a_table_has_a_line_for_each_hour_and_route_and_their_sum() {
        let page = page(&history("2026-11-01T00:00:00.000Z", vec![hour("12", "marks", 7, 5), hour("13", "marks", 3, 4)]));
        let lines: Vec<Vec<&str>> = page.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["2026-11-22T12:00Z", "marks", "app", "7", "5", "0", "1", "0"]);
        assert_eq!(lines[3], ["all", "-", "-", "10", "9", "0", "2", "0"]);
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn what_is_not_known_is_not_shown_as_nothing() {
        let page = page(&history("2026-11-22T13:10:00.000Z", Vec::new()));
        assert!(page.contains("counted since 2026-11-22T13:10:00.000Z"), "{page}");
    }
}
