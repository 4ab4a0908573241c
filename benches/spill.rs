//! Durable 202s over HTTP, beside the limit of the machine and beside our own pass-through, side by side in one run.
//!
//! `cargo bench --bench spill` (about two minutes); `-- --quick` for a look. The backend of the spilled requests is down, so that each is
//! queued; every answer is counted only when it is a 202. Requests have 1.6 KB, head included. Figures that compare: CPU time per request
//! of the whole program, and rates within one run. A round measures each once; medians over the rounds are printed, with half their range.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on panics")]

mod common;

use std::time::Duration;

use common::{Measured, Program, backend, bare_log, dead_port, load, median};

const SIZE: usize = 1600;

struct Row {
    name: String,
    rates: Vec<f64>,
    cpu: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    wrong: u64,
}

fn config(backend: std::net::SocketAddr, data: &std::path::Path) -> String {
    format!(
        r#"{}
[backends.app]
servers = ["http://{backend}"]
concurrency = 1024
[[routes]]
name = "marks"
path = "/"
backend = "app"
[routes.spill]
methods = ["POST"]
delivery = "at-least-once"
order_by = ["header:authorization"]
"#,
        common::base(data)
    )
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (rounds, span) = if quick { (1, Duration::from_secs(1)) } else { (5, Duration::from_secs(3)) };
    let live = backend();
    let mut rows: Vec<Row> = Vec::new();
    for round in 0..rounds {
        for connections in [64, 256] {
            let folder = tempfile::tempdir().expect("a folder can be made");
            record(&mut rows, &format!("bare log, fdatasync, {connections}"), bare_log(folder.path(), connections, span, SIZE), None);
            let program = Program::start(folder.path(), &config(dead_port(), folder.path()));
            let _settle = load(program.address, 8, Duration::from_millis(300), SIZE, b"HTTP/1.1 202");
            let before = program.cpu();
            let spilled = load(program.address, connections, span, SIZE, b"HTTP/1.1 202");
            let cpu = program.cpu() - before;
            record(&mut rows, &format!("spilled, 202, {connections}"), spilled, Some(cpu));
            drop(program);
            let program = Program::start(folder.path(), &config(live, &folder.path().join("pass")));
            let _settle = load(program.address, 8, Duration::from_millis(300), SIZE, b"HTTP/1.1 200");
            let before = program.cpu();
            let passed = load(program.address, connections, span, SIZE, b"HTTP/1.1 200");
            let cpu = program.cpu() - before;
            record(&mut rows, &format!("passed, 200, {connections}"), passed, Some(cpu));
        }
        eprintln!("round {} of {rounds}", round + 1);
    }
    print(&mut rows);
}

fn record(rows: &mut Vec<Row>, name: &str, measured: Measured, cpu: Option<Duration>) {
    let index = rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
        rows.push(Row { name: name.to_owned(), rates: vec![], cpu: vec![], p50: vec![], p99: vec![], wrong: 0 });
        rows.len() - 1
    });
    let row = &mut rows[index];
    row.rates.push(measured.rate);
    row.p50.push(measured.p50 as f64);
    row.p99.push(measured.p99 as f64);
    row.wrong += measured.wrong;
    if let Some(cpu) = cpu {
        row.cpu.push(cpu.as_secs_f64() * 1e6 / measured.count.max(1) as f64);
    }
}

#[expect(clippy::print_stdout, reason = "the figures are what this program is for")]
fn print(rows: &mut [Row]) {
    println!("{:<28}{:>10}{:>6}{:>12}{:>6}{:>10}{:>10}{:>8}", "", "per s", "+-%", "CPU us/req", "+-%", "p50 us", "p99 us", "wrong");
    for row in rows {
        let (rate, spread) = median(&mut row.rates);
        let cpu = if row.cpu.is_empty() { None } else { Some(median(&mut row.cpu)) };
        let cpu = cpu.map_or(format!("{:>12}{:>6}", "-", ""), |(cpu, spread)| format!("{cpu:>12.1}{spread:>6.0}"));
        println!(
            "{:<28}{rate:>10.0}{spread:>6.0}{cpu}{:>10.0}{:>10.0}{:>8}",
            row.name,
            median(&mut row.p50).0,
            median(&mut row.p99).0,
            row.wrong
        );
    }
}
