//! How many instructions of ours a passed request costs, by callgrind, so that the hot path does not grow by and by. Time is noise on a machine that others
//! use; instructions are the same everywhere but for a few in a hundred.
//!
//! `cargo bench --profile dev --bench instructions` is what `.ci/run` does: it measures the build that the tests use, of which our own code is not optimised, and
//! fails where a figure is more than [`MARGIN`] percent off what is written here: what has been won has to be written down, so that it is not lost again. Without `--profile dev` it measures the optimised build, which takes minutes to make, and judges nothing. It needs valgrind, and says so
//! where there is none.

#![allow(missing_docs, unreachable_pub, clippy::expect_used, clippy::print_stdout, reason = "a program, and one that cannot go on panics")]

mod common;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use common::{Program, backend};

/// Requests that are measured of each kind, after some that are not.
const REQUESTS: u64 = 1000;
const BEFORE: u64 = 100;
/// Percent by which a figure may be off: the compiler, the C library and the processor have a part in it, and so has what else goes on in the program.
const MARGIN: u64 = 10;
/// What each kind costs.
const EXPECTED: [(Kind, u64); 3] = [(Kind::Get, 170_000), (Kind::Post, 212_000), (Kind::NewConnection, 207_000)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Get,
    Post,
    NewConnection,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Get => "a GET",
            Self::Post => "a POST of 1 KiB on a route that may spill",
            Self::NewConnection => "a GET on a connection of its own",
        }
    }

    fn request(self) -> Vec<u8> {
        let fields = "Host: app.example\r\nUser-Agent: bench\r\nAccept: application/json\r\nAccept-Encoding: gzip\r\n";
        match self {
            Self::Post => format!("POST /marks HTTP/1.1\r\n{fields}Content-Length: 1024\r\n\r\n{}", "x".repeat(1024)).into_bytes(),
            Self::Get | Self::NewConnection => format!("GET /marks?driver=7 HTTP/1.1\r\n{fields}\r\n").into_bytes(),
        }
    }
}

fn main() -> ExitCode {
    if !Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        println!("SKIPPED: no instructions were counted, since there is no valgrind here (apt-get install valgrind)");
        return ExitCode::SUCCESS;
    }
    let mut good = true;
    for (kind, expected) in EXPECTED {
        let measured = measure(kind);
        let off = measured as f64 / expected as f64 * 100.0 - 100.0;
        let verdict = match off {
            _ if !cfg!(debug_assertions) => "not judged: another build".to_owned(),
            _ if off > MARGIN as f64 => format!("TOO MANY: {off:+.1}% of {expected}, and {MARGIN}% is the margin"),
            _ if off < -(MARGIN as f64) => format!("WON: {off:+.1}% of {expected}; write the new figure down in benches/instructions.rs"),
            _ => format!("{off:+.1}% of {expected}"),
        };
        good &= !cfg!(debug_assertions) || off.abs() <= MARGIN as f64;
        println!("{:45} {measured:>9} instructions   {verdict}", kind.name());
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Instructions for each request of a kind.
fn measure(kind: Kind) -> u64 {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let out = folder.path().join("callgrind");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind", "--instr-atstart=no"]).arg(format!("--callgrind-out-file={}", out.display()));
    valgrind.arg(common::program());
    let config = format!(
        "workers = 1\n[[listeners]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n[store]\npath = \"{}\"\nmin_free_disk = \"0\"\n\
         [backends.app]\nservers = [\"http://{}\"]\n[[routes]]\nname = \"marks\"\npath = \"/\"\nbackend = \"app\"\n[routes.spill]\n",
        folder.path().join("data/forebay.redb").display(),
        backend()
    );
    let program = Program::start_by(valgrind, folder.path(), &config);
    let request = kind.request();
    let mut client = Client { address: program.address, stream: None, again: kind == Kind::NewConnection };
    // Writes are taken once the store is open.
    while !client.ask(&request) {
        std::thread::sleep(Duration::from_millis(50));
    }
    (0..BEFORE).for_each(|_| assert!(client.ask(&request)));
    control(&program, &["--instr=on"]);
    (0..REQUESTS).for_each(|_| assert!(client.ask(&request)));
    control(&program, &["--instr=off"]);
    control(&program, &["--dump"]);
    counted(&out.with_extension("1")) / REQUESTS
}

fn control(program: &Program, arguments: &[&str]) {
    let told = Command::new("callgrind_control")
        .args(arguments)
        .arg(program.id().to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(told.expect("it comes with valgrind").success(), "callgrind does not listen");
}

/// The sum that a dump of callgrind ends with.
fn counted(dump: &Path) -> u64 {
    let text = std::fs::read_to_string(dump).expect("callgrind has written it");
    let sum = text.lines().find_map(|line| line.strip_prefix("totals: "));
    sum.and_then(|sum| sum.trim().parse().ok()).expect("a dump has a sum")
}

/// Asks one thing after the other.
struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
    /// On a new connection each time.
    again: bool,
}

impl Client {
    /// Whether the answer was 200.
    fn ask(&mut self, request: &[u8]) -> bool {
        let mut stream = self.stream.take().unwrap_or_else(|| {
            let stream = TcpStream::connect(self.address).expect("it listens");
            stream.set_nodelay(true).expect("TCP has it");
            stream
        });
        stream.write_all(request).expect("it listens");
        let (mut answer, mut room) = (Vec::new(), [0; 4096]);
        while common::message_length(&answer).is_none() {
            let read = stream.read(&mut room).expect("it answers");
            assert_ne!(read, 0, "it answers");
            answer.extend_from_slice(&room[..read]);
        }
        self.stream = if self.again { None } else { Some(stream) };
        answer.starts_with(b"HTTP/1.1 200")
    }
}
