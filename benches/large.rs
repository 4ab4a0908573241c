//! Large bodies: spilled, and replayed, through the built program, beside the goals.
//!
//! `cargo bench --bench large` (about a minute, 2.1 GB of disk at a time); `-- --quick` for a look at a tenth of that. Twenty uploads of 50 MB at once, then one of 1 GB.
//! Each is queued, then delivered; the backend takes the SHA-256 of what it gets. Goals: contents identical; at most 256 KiB of memory more per upload
//! (the highest resident memory over that before, the page cache not being memory of the program); at least half the rate of `dd` with `conv=fdatasync` in the same minute.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on panics")]

mod common;

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{Context, SHA256};
use common::Program;
use parking_lot::{Condvar, Mutex};

const MB: u64 = 1_000_000;
/// Bytes that are written at once.
const BLOCK: usize = 256 * 1024;
const GOAL_KIB: u64 = 256;

/// Digests of what arrived at the backend, by upload.
#[derive(Default)]
struct Arrived {
    digests: Mutex<HashMap<u64, Vec<u8>>>,
    more: Condvar,
}

fn config(backend: SocketAddr, data: &Path) -> String {
    format!(
        r#"{}
[clients]
max_body = "2GiB"
[backends.app]
servers = ["http://{backend}"]
concurrency = 64
replay = {{ profile = "fixed", concurrency = 4 }}
[[routes]]
name = "uploads"
path = "/"
backend = "app"
[routes.spill]
when = "always"
order_by = "none"
max_body = "2GiB"
"#,
        common::base(data)
    )
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let part = if quick { 10 } else { 1 };
    let arrived = Arc::new(Arrived::default());
    let backend = backend(&arrived);
    print_head();
    for (uploads, bytes) in [(20, 50 * MB / part), (1, 1_000 * MB / part)] {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let program = Program::start(folder.path(), &config(backend, folder.path()));
        // The first requests pay for threads, caches and tables.
        round(&program, &arrived, uploads.max(4), 2 * MB);
        let dd = dd(folder.path(), uploads * bytes);
        let figures = round(&program, &arrived, uploads, bytes);
        print_row(uploads, bytes, dd, &figures);
    }
}

struct Figures {
    spilled: Duration,
    replayed: Duration,
    spill_kib: u64,
    replay_kib: u64,
    wrong: usize,
}

/// Queues so many uploads at once, then has them delivered.
fn round(program: &Program, arrived: &Arrived, uploads: u64, bytes: u64) -> Figures {
    arrived.digests.lock().clear();
    tell(program.admin, "POST", "/api/v1/backends/app/pause");
    let began = Instant::now();
    let (sent, spill_kib) = program.grown_while(|| {
        let senders: Vec<_> = (0..uploads)
            .map(|number| {
                let address = program.address;
                std::thread::spawn(move || upload(address, number, bytes))
            })
            .collect();
        senders.into_iter().map(|sender| sender.join().expect("an upload is accepted")).collect::<Vec<_>>()
    });
    let spilled = began.elapsed();
    let began = Instant::now();
    let (digests, replay_kib) = program.grown_while(|| {
        tell(program.admin, "POST", "/api/v1/backends/app/resume");
        let mut digests = arrived.digests.lock();
        while digests.len() < sent.len() {
            let patience = arrived.more.wait_for(&mut digests, Duration::from_secs(120));
            assert!(!patience.timed_out(), "{} of {uploads} were delivered", digests.len());
        }
        digests
    });
    let replayed = began.elapsed();
    let wrong = (0..).zip(&sent).filter(|(number, digest)| digests.get(number) != Some(digest)).count();
    Figures { spilled, replayed, spill_kib, replay_kib, wrong }
}

/// Sends one upload and waits for its 202. The digest of what was sent.
fn upload(address: SocketAddr, number: u64, bytes: u64) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "POST /uploads HTTP/1.1\r\nHost: bench\r\nUpload: {number}\r\nContent-Length: {bytes}\r\n\r\n").expect("it reads");
    let mut block: Vec<u8> =
        (0..BLOCK).map(|index| (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[number as usize % 8]).collect();
    let mut digest = Context::new(&SHA256);
    let mut left = bytes;
    while left > 0 {
        block[..8].copy_from_slice(&left.to_be_bytes());
        let piece = &block[..usize::try_from(left).unwrap_or(BLOCK).min(BLOCK)];
        digest.update(piece);
        stream.write_all(piece).expect("it reads");
        left -= piece.len() as u64;
    }
    let mut status = [0; 12];
    stream.read_exact(&mut status).expect("it answers");
    assert_eq!(&status, b"HTTP/1.1 202", "an upload is queued");
    digest.finish().as_ref().to_vec()
}

/// A backend that hashes what it is sent.
fn backend(arrived: &Arc<Arrived>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a port");
    let address = listener.local_addr().expect("it is bound");
    let arrived = arrived.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let arrived = arrived.clone();
            std::thread::spawn(move || while take_upload(&stream, &arrived).is_some() {});
        }
    });
    address
}

/// Takes one upload; none when the connection has ended.
fn take_upload(stream: &TcpStream, arrived: &Arrived) -> Option<()> {
    let mut reader = BufReader::with_capacity(BLOCK, stream);
    let (mut number, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            if line == "\r\n" {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "upload" => number = value.parse().ok(),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut digest = Context::new(&SHA256);
    let mut left = length;
    while left > 0 {
        let piece = reader.fill_buf().ok().filter(|piece| !piece.is_empty())?;
        let took = piece.len().min(left);
        digest.update(&piece[..took]);
        reader.consume(took);
        left -= took;
    }
    let mut writer = stream;
    writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()?;
    if let Some(number) = number {
        arrived.digests.lock().insert(number, digest.finish().as_ref().to_vec());
        arrived.more.notify_all();
    }
    Some(())
}

fn tell(admin: SocketAddr, method: &str, target: &str) {
    let mut stream = TcpStream::connect(admin).expect("it listens");
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {admin}\r\nContent-Type: application/json\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Bytes per second of `dd` that writes so many zeros and syncs them.
fn dd(folder: &Path, bytes: u64) -> f64 {
    let file = folder.join("dd");
    let began = Instant::now();
    let status = Command::new("dd")
        .args(["if=/dev/zero", "bs=1000000", "conv=fdatasync"])
        .args([format!("of={}", file.display()), format!("count={}", bytes / MB)])
        .stderr(Stdio::null())
        .status()
        .expect("there is dd");
    assert!(status.success(), "dd can write");
    let span = began.elapsed();
    std::fs::remove_file(&file).expect("it is ours");
    bytes as f64 / span.as_secs_f64()
}

#[expect(clippy::print_stdout, reason = "the figures are what this program is for")]
fn print_head() {
    let columns = [
        "uploads",
        "MB each",
        "dd MB/s",
        "spill MB/s",
        "goal",
        "KiB more each",
        "goal",
        "replay MB/s",
        "KiB more each",
        "goal",
        "not identical",
        "goal",
    ];
    println!("{}", columns.map(|column| format!("{column:>14}")).concat());
}

#[expect(clippy::print_stdout, reason = "the figures are what this program is for")]
fn print_row(uploads: u64, bytes: u64, dd: f64, figures: &Figures) {
    let rate = |span: Duration| (uploads * bytes) as f64 / span.as_secs_f64() / MB as f64;
    let dd = dd / MB as f64;
    // As many bodies are on their way at once as the replay may have.
    let replaying = uploads.min(4);
    let row = [
        uploads.to_string(),
        (bytes / MB).to_string(),
        format!("{dd:.0}"),
        format!("{:.0}", rate(figures.spilled)),
        format!("{:.0}", dd / 2.0),
        (figures.spill_kib / uploads).to_string(),
        GOAL_KIB.to_string(),
        format!("{:.0}", rate(figures.replayed)),
        (figures.replay_kib / replaying).to_string(),
        GOAL_KIB.to_string(),
        figures.wrong.to_string(),
        "0".into(),
    ];
    println!("{}", row.map(|cell| format!("{cell:>14}")).concat());
}
