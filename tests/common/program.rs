//! The program as its users run it: the built binary, a configuration file in a directory of its own, signals, and what it logs.
//!
//! It is expected to log, as JSON on stderr, one line for each address that it has bound, with the fields `"message":"listening"`, `"address"` and
//! `"role"` (`proxy` or `admin`): so a test gives port 0 and learns the real one.

use std::{
    net::SocketAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
};

use super::{backend::Backend, client, site::Site, within};

/// The program, running or not, with its directory. Dropped, it is killed and its directory removed.
pub struct Program {
    directory: TempDir,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    /// A listening socket that it is given as a service manager would.
    socket: Option<OwnedFd>,
    running: Option<Running>,
    /// What the last run wrote to stderr, and to stdout.
    log: Log,
    output: Log,
}

struct Running {
    child: Child,
    proxies: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
}

/// What one run wrote, line by line, also while it runs.
#[derive(Clone, Default)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    /// Number of lines, and whether there will be no more.
    state: Arc<watch::Sender<(usize, bool)>>,
}

impl Program {
    /// A backend and the program before it, everything streaming.
    pub async fn passing() -> (Backend, Self) {
        let backend = Backend::start().await;
        let program = Self::start(&Site::passing(backend.url()).to_string()).await;
        (backend, program)
    }

    /// `forebay run` with this configuration, listening. It runs in a directory of its own, so that a relative `store.path` lies there.
    pub async fn start(config: &str) -> Self {
        let mut program = Self::prepare(config, &["run", "-c", "config.toml"]);
        program.run().await;
        program
    }

    /// The program with any arguments, in a directory with this configuration (`config.toml`), not yet running.
    pub fn prepare(config: &str, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.toml"), config).unwrap();
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { directory, arguments, variables: Vec::new(), socket: None, running: None, log: Log::default(), output: Log::default() }
    }

    /// Gives this variable to every run from now on.
    pub fn variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Gives this listening socket to every run from now on, as systemd's socket activation does.
    pub fn inherit(&mut self, socket: OwnedFd) {
        self.socket = Some(socket);
    }

    /// Starts it and waits until it listens: for clients, and for the operator unless there is no admin listener (see [`run_without_admin`](Self::run_without_admin)); and until its store is open.
    pub async fn run(&mut self) {
        self.launch().await;
        self.learn_addresses(true).await;
        self.opens().await;
    }

    /// As [`run`](Self::run), for a configuration without an admin listener.
    pub async fn run_without_admin(&mut self) {
        self.launch().await;
        self.learn_addresses(false).await;
        self.opens().await;
    }

    async fn opens(&self) {
        self.logged("its store to be open", |line| line["message"] == "the store is open").await;
    }

    /// Starts it and waits for nothing.
    pub async fn launch(&mut self) {
        assert!(self.running.is_none(), "it is running already");
        let program = env!("CARGO_BIN_EXE_forebay");
        let (mut command, stdin) = match &self.socket {
            None => (Command::new(program), Stdio::null()),
            Some(socket) => {
                // A passed socket is descriptor 3, and the variable names the process that it is for (sd_listen_fds(3)).
                let mut command = Command::new("sh");
                command.args(["-c", "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"", "sh", program]);
                (command, socket.try_clone().unwrap().into())
            }
        };
        let mut child = command
            .args(&self.arguments)
            .current_dir(self.directory.path())
            .env_remove("FOREBAY_CONFIG")
            .envs(self.variables.clone())
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        self.log = Log::of(child.stderr.take().unwrap());
        self.output = Log::of(child.stdout.take().unwrap());
        self.running = Some(Running { child, proxies: Vec::new(), admin: None });
    }

    /// Where it listens for clients: the first listener of its configuration.
    pub fn proxy(&self) -> SocketAddr {
        self.proxies()[0]
    }

    /// Where it listens for clients, as far as it had said so when it was ready.
    pub fn proxies(&self) -> &[SocketAddr] {
        &self.running.as_ref().expect("it is not running").proxies
    }

    /// Where it listens for the operator.
    pub fn admin(&self) -> SocketAddr {
        self.running.as_ref().expect("it is not running").admin.expect("it has no admin listener")
    }

    /// What the operator sees of it: `GET /api/v1/status`.
    pub async fn status(&self) -> Value {
        client::fetch(self.admin(), "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n").await.json()
    }

    /// Tells it something as its operator, in JSON.
    pub async fn tell(&self, method: &str, target: &str, body: &str) -> client::Response {
        let length = body.len();
        let head =
            format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
        client::fetch(self.admin(), head + body).await
    }

    /// What a client sees of its queued request: `GET /.forebay/requests/ID`.
    pub async fn outcome(&self, id: &str) -> Value {
        client::answered(self.proxy(), client::get(&format!("/.forebay/requests/{id}"))).await.1.json()
    }

    /// The same as soon as the request is in this state. Panics when it has ended in another one.
    pub async fn becomes(&self, id: &str, state: &str) -> Value {
        let seen = async {
            loop {
                let outcome = self.outcome(id).await;
                if outcome["state"] == state {
                    return outcome;
                }
                assert!(matches!(outcome["state"].as_str(), Some("queued" | "delivering")), "not {state}: {outcome}");
            }
        };
        within(&format!("request {id} to be {state}"), seen).await
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A path in its directory.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    /// Writes a new configuration; the program learns of it by a signal or at its next start.
    pub fn configure(&self, config: &str) {
        std::fs::write(self.path("config.toml"), config).unwrap();
    }

    /// Gives it a new configuration by HUP, and waits until that is in force.
    pub async fn reload(&self, config: &str) {
        self.configure(config);
        let seen = self.log.lines.lock().unwrap().len();
        self.signal(Signal::HUP);
        let reloaded = self.log.find(seen, |line| line["message"] == "the configuration has been reloaded");
        assert!(within("the reload", reloaded).await.is_some(), "the program ended in place of a reload; it wrote:\n{}", self.stderr());
    }

    /// The most memory that it has had resident since [`forget_peak`](Self::forget_peak), in KiB.
    pub fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid().as_raw_pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// The names of its threads.
    pub fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid().as_raw_pid())).unwrap();
        // One that has just ended has no name any more.
        tasks
            .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
            .map(|name| name.trim().to_owned())
            .collect()
    }

    /// Forgets the most that it has been, but for what it is (`clear_refs` of proc(5)).
    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid().as_raw_pid()), "5").unwrap();
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// kill -9, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }

    /// TERM, and waits for its end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Waits for its end, and for all that it wrote.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut running = self.running.take().expect("it is not running");
        let status = within("the end of the program", running.child.wait()).await.unwrap();
        for log in [&self.log, &self.output] {
            within("the end of its output", log.state.subscribe().wait_for(|(_, ended)| *ended)).await.unwrap();
        }
        status
    }

    /// kill -9 and a new start on the same directory.
    pub async fn crash_and_restart(&mut self) {
        self.kill().await;
        self.run().await;
    }

    /// Everything that this run, or the last one, has written to stderr.
    pub fn stderr(&self) -> String {
        self.log.lines.lock().unwrap().join("\n")
    }

    /// The same of stdout, where the access log and tables go.
    pub fn stdout(&self) -> String {
        self.output.lines.lock().unwrap().join("\n")
    }

    /// The first log line of this run, past or to come, that `matches` accepts.
    pub async fn logged(&self, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        match within(what, self.log.find(0, matches)).await {
            Some((line, _)) => line,
            None => panic!("the program ended without {what}; it wrote:\n{}", self.stderr()),
        }
    }

    /// Resolves when so many log lines of this run have been such that `matches` accepts them.
    pub async fn logged_times(&self, what: &str, times: usize, matches: impl Fn(&Value) -> bool) {
        let mut seen = 0;
        for _ in 0..times {
            let found = within(what, self.log.find(seen, &matches)).await;
            seen = found.unwrap_or_else(|| panic!("the program ended without {what}; it wrote:\n{}", self.stderr())).1;
        }
    }

    /// The JSON line of this run on stdout with this number (from 0), past or to come.
    pub async fn printed(&self, number: usize, what: &str) -> Value {
        within(what, self.output.find(number, |_| true)).await.unwrap_or_else(|| panic!("the program ended without {what}")).0
    }

    /// Holds the replay to the backend `app`, as its operator.
    pub async fn pause(&self) {
        assert_eq!(self.tell("POST", "/api/v1/backends/app/pause", "").await.status, 200);
    }

    /// Lets it go on.
    pub async fn resume(&self) {
        assert_eq!(self.tell("POST", "/api/v1/backends/app/resume", "").await.status, 200);
    }

    /// The status as soon as `holds`. It is asked for again whenever the program logs something, so its log level has to be `debug`.
    pub async fn status_when(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut state = self.log.state.subscribe();
        loop {
            // Before the question: a line that comes after it asks again.
            let ended = state.borrow_and_update().1;
            assert!(!ended, "the program ended without {what}; it wrote:\n{}", self.stderr());
            let status = self.status().await;
            if holds(&status) {
                return status;
            }
            if tokio::time::timeout(super::PATIENCE, state.changed()).await.is_err() {
                panic!("waited in vain: {what}; the status is {status:#}\nand it wrote:\n{}", self.stderr());
            }
        }
    }

    async fn learn_addresses(&mut self, with_admin: bool) {
        let (mut proxies, mut admin, mut seen) = (Vec::new(), None, 0);
        while proxies.is_empty() || (with_admin && admin.is_none()) {
            let found = within("the program to listen", self.log.find(seen, |line| line["message"] == "listening")).await;
            let Some((line, next)) = found else {
                panic!("the program ended before it listened; it wrote:\n{}", self.stderr());
            };
            seen = next;
            let address = line["address"].as_str().unwrap_or_default();
            match (line["role"].as_str(), address.parse()) {
                (Some("proxy"), Ok(address)) => proxies.push(address),
                (Some("admin"), Ok(address)) => admin = Some(address),
                // A unix socket has no port to learn.
                _ => {}
            }
        }
        let running = self.running.as_mut().unwrap();
        (running.proxies, running.admin) = (proxies, admin);
    }

    fn pid(&self) -> Pid {
        let id = self.running.as_ref().and_then(|running| running.child.id()).expect("it is not running");
        Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
    }
}

impl Log {
    /// What comes out of this pipe, from now on.
    fn of(pipe: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let log = Self::default();
        let theirs = log.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(pipe).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                theirs.lines.lock().unwrap().push(line);
                theirs.state.send_modify(|(count, _)| *count += 1);
            }
            theirs.state.send_modify(|(_, ended)| *ended = true);
        });
        log
    }

    /// The first JSON line from line number `from` on that `matches` accepts, and the number of the line after it; none when the log ends.
    async fn find(&self, mut from: usize, matches: impl Fn(&Value) -> bool) -> Option<(Value, usize)> {
        let mut state = self.state.subscribe();
        loop {
            // Read before the lines: an end that is seen here has no line after it.
            let (count, ended) = *state.borrow_and_update();
            // There may be fewer yet.
            let lines: Vec<String> = self.lines.lock().unwrap()[from.min(count)..count].to_vec();
            for line in lines {
                from += 1;
                if let Some(line) = serde_json::from_str(&line).ok().filter(&matches) {
                    return Some((line, from));
                }
            }
            if ended {
                return None;
            }
            state.changed().await.ok()?;
        }
    }
}
