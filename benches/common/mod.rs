//! What the benchmarks share: a closed-loop HTTP load, a backend that answers at once, the bare append log, and the program under test.

#![allow(
    missing_docs,
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    reason = "each benchmark uses a part of it, and one that cannot go on panics"
)]

pub mod queue;

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener as StdListener},
    os::fd::AsFd,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// What one measurement gave.
pub struct Measured {
    /// Answers.
    pub count: u64,
    /// Answers per second.
    pub rate: f64,
    /// Latency in microseconds.
    pub p50: u64,
    pub p99: u64,
    /// Answers whose status was not the expected one.
    pub wrong: u64,
}

/// A program under test, killed at the end.
pub struct Program {
    child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Program {
    /// Starts `forebay run` with a configuration of which `{backend}` and `{data}` are already filled in, and waits until it listens.
    pub fn start(folder: &Path, config: &str) -> Self {
        Self::start_by(Command::new(program()), folder, config)
    }

    /// The same by a command to which the program's own arguments are only added.
    pub fn start_by(mut command: Command, folder: &Path, config: &str) -> Self {
        let file = folder.join("config.toml");
        std::fs::write(&file, config).expect("the folder is writable");
        let mut child = command
            .args(["run", "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let (mut address, mut admin) = (None, None);
        while address.is_none() || admin.is_none() {
            let line = lines.next().expect("the program says where it listens").expect("stderr is text");
            let Ok(event) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
            if event["message"] == "listening" {
                let bound = event["address"].as_str().and_then(|text| text.parse().ok());
                match event["role"].as_str() {
                    Some("proxy") => address = bound,
                    _ => admin = bound,
                }
            }
        }
        let log = Arc::new(Mutex::new(Vec::new()));
        let theirs = log.clone();
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| keep(&theirs, line)));
        Self { child, address: address.expect("known"), admin: admin.expect("known"), log }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged since it listens, the last lines at least.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().clone()
    }

    /// CPU time used so far, all threads.
    pub fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        let nanos: u64 = tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
            .filter_map(|stat| stat.split_whitespace().next()?.parse::<u64>().ok())
            .sum();
        Duration::from_nanos(nanos)
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.memory_kib("VmRSS:")
    }

    /// Does something, and says how many KiB more than before it were resident at most, looked at every 5 ms. Its pages are counted for that: `VmHWM` is exact to some
    /// 100 KiB only, since each CPU has a share of the count.
    pub fn grown_while<T>(&self, work: impl FnOnce() -> T) -> (T, u64) {
        let before = self.counted_kib();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let most = scope.spawn(|| {
                let mut most = before;
                while !over.load(Relaxed) {
                    most = most.max(self.counted_kib());
                    std::thread::sleep(Duration::from_millis(5));
                }
                most
            });
            // Also where it panics.
            let end = End(&over);
            let done = work();
            drop(end);
            (done, most.join().expect("it only looks") - before)
        })
    }

    fn counted_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id())).expect("it runs");
        kib(&text, "Rss:")
    }

    fn memory_kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        kib(&status, name)
    }
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or(0)
}

/// How a configuration begins: on ports that are free, with a queue in `data` that nothing but the disk limits.
pub fn base(data: &Path) -> String {
    let address = "address = \"127.0.0.1:0\"";
    let store = format!("path = \"{}/queue.redb\"\nmax_requests = 10_000_000\nmax_bytes = \"64GiB\"", data.display());
    format!("[[listeners]]\n{address}\n[admin]\n{address}\n[store]\n{store}")
}

fn keep(log: &Mutex<Vec<String>>, line: String) {
    let mut log = log.lock();
    if log.len() >= 20_000 {
        log.drain(..10_000);
    }
    log.push(line);
}

impl Drop for Program {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

/// The program under test. Another build of it can be measured with the same benchmark.
pub fn program() -> String {
    std::env::var("FOREBAY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_forebay").to_owned())
}

/// A port of the loopback on which nobody listens.
pub fn dead_port() -> SocketAddr {
    let listener = StdListener::bind("127.0.0.1:0").expect("the loopback has a port");
    listener.local_addr().expect("it is bound")
}

/// A backend that reads a request and answers 200 at once, on a thread of its own.
pub fn backend() -> SocketAddr {
    let (send, address) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let socket = TcpSocket::new_v4().expect("there are sockets");
            socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("the loopback has a port");
            // Room for all connections of a load at once: where it is short, connects time out, and the breaker rightly sheds.
            let listener = socket.listen(4096).expect("it is bound");
            send.send(listener.local_addr().expect("it is bound")).expect("somebody asked for it");
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                tokio::spawn(answer_all(stream));
            }
        });
    });
    address.recv().expect("the backend starts")
}

async fn answer_all(mut stream: TcpStream) {
    let _set = stream.set_nodelay(true);
    let mut buffer = Vec::with_capacity(64 * 1024);
    loop {
        while let Some(length) = message_length(&buffer) {
            buffer.drain(..length);
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
                return;
            }
        }
        if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

/// Length of the message at the start of `bytes`, if it is whole.
pub fn message_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let body = text
        .lines()
        .find_map(|line| line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .unwrap_or(0);
    (bytes.len() >= head + body).then_some(head + body)
}

/// A POST of `total` bytes, head included, as a driver's phone sends one. Every connection has a sender of its own.
pub fn post(total: usize, sender: usize) -> Vec<u8> {
    let head = |body: usize| {
        format!(
            "POST /marks HTTP/1.1\r\nHost: app.example\r\nUser-Agent: bench\r\nAccept: application/json\r\n\
             Authorization: Bearer {sender:032}\r\nContent-Type: application/json\r\nContent-Length: {body}\r\n\r\n"
        )
    };
    let body = total - head(total).len();
    let mut request = head(body).into_bytes();
    request.resize(request.len() + body, b'x');
    request
}

/// Sends requests over `connections` connections, each waiting for its answer before the next, for `span`.
pub fn load(address: SocketAddr, connections: usize, span: Duration, size: usize, expected: &'static [u8]) -> Measured {
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let until = Instant::now() + span;
            let began = Instant::now();
            let clients: Vec<_> =
                (0..connections).map(|sender| tokio::spawn(client(address, post(size, sender), until, expected))).collect();
            let mut all = Histogram::<u64>::new(3).expect("3 digits are possible");
            let mut wrong = 0;
            for client in clients {
                let (latencies, unexpected) = client.await.expect("a client does not panic");
                all.add(latencies).expect("the same range");
                wrong += unexpected;
            }
            measured(&all, began.elapsed(), wrong)
        })
    })
    .join()
    .expect("the load does not panic")
}

async fn client(address: SocketAddr, request: Vec<u8>, until: Instant, expected: &'static [u8]) -> (Histogram<u64>, u64) {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("TCP has it");
    let mut latencies = Histogram::new(3).expect("3 digits are possible");
    let (mut buffer, mut wrong) = (Vec::with_capacity(4096), 0);
    while Instant::now() < until {
        let sent = Instant::now();
        stream.write_all(&request).await.expect("it stays open");
        let length = loop {
            assert_ne!(stream.read_buf(&mut buffer).await.expect("it stays open"), 0, "it stays open");
            if let Some(length) = message_length(&buffer) {
                break length;
            }
        };
        wrong += u64::from(!buffer.starts_with(expected));
        buffer.drain(..length);
        let _too_large = latencies.record(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    (latencies, wrong)
}

/// The limit of the machine: `producers` threads of control append `size` bytes each to one growing file and go on when they are synced. One
/// writer takes all that waits, writes it, syncs once, and answers all.
pub fn bare_log(folder: &Path, producers: usize, span: Duration, size: usize) -> Measured {
    let path = folder.join("bare.log");
    let (send, receive) = mpsc::sync_channel::<tokio::sync::oneshot::Sender<()>>(producers);
    let stop = Arc::new(AtomicBool::new(false));
    let synced = Arc::new(AtomicU64::new(0));
    let writer = {
        let (synced, record) = (synced.clone(), vec![b'x'; size]);
        let mut file = File::create(&path).expect("the folder is writable");
        std::thread::spawn(move || {
            while let Ok(first) = receive.recv() {
                let mut waiting = vec![first];
                waiting.extend(receive.try_iter());
                file.write_all(&record.repeat(waiting.len())).expect("the disk has room");
                rustix::fs::fdatasync(file.as_fd()).expect("the disk works");
                synced.fetch_add(waiting.len() as u64, Relaxed);
                for answer in waiting {
                    let _gone = answer.send(());
                }
            }
        })
    };
    let measured = runtime().block_on(async {
        let began = Instant::now();
        let tasks: Vec<_> = (0..producers)
            .map(|_| {
                let (send, stop) = (send.clone(), stop.clone());
                tokio::spawn(async move {
                    let mut latencies = Histogram::<u64>::new(3).expect("3 digits are possible");
                    while !stop.load(Relaxed) {
                        let (answer, answered) = tokio::sync::oneshot::channel();
                        let sent = Instant::now();
                        send.try_send(answer).expect("as many places as producers");
                        answered.await.expect("the writer answers");
                        let _too_large = latencies.record(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
                    }
                    latencies
                })
            })
            .collect();
        tokio::time::sleep(span).await;
        stop.store(true, Relaxed);
        let mut all = Histogram::<u64>::new(3).expect("3 digits are possible");
        for task in tasks {
            all.add(task.await.expect("a producer does not panic")).expect("the same range");
        }
        measured(&all, began.elapsed(), 0)
    });
    drop(send);
    writer.join().expect("the writer does not panic");
    std::fs::remove_file(&path).expect("it is ours");
    measured
}

fn measured(latencies: &Histogram<u64>, span: Duration, wrong: u64) -> Measured {
    Measured {
        count: latencies.len(),
        rate: latencies.len() as f64 / span.as_secs_f64(),
        p50: latencies.value_at_quantile(0.5),
        p99: latencies.value_at_quantile(0.99),
        wrong,
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built")
}

/// Median, and half the distance of the extremes in percent of it.
pub fn median(values: &mut [f64]) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let middle = values[values.len() / 2];
    (middle, (values[values.len() - 1] - values[0]) / 2.0 / middle * 100.0)
}
