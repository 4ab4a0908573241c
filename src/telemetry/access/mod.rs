//! The access log: one line per request, as JSON or in nginx's `combined`, which never holds up the request.
//!
//! Lines go through a bounded channel to a thread of their own. When the disk cannot keep up and the channel is full, lines are dropped
//! and counted: a slow disk costs lines of a log, not traffic.

mod combined;
mod entry;

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;

pub use entry::AccessEntry;

/// Lines that wait for the disk at most: a second of 16,000 requests.
const CAPACITY: usize = 16 * 1024;

/// Bytes that are gathered before a write.
const CHUNK: usize = 64 * 1024;

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AccessTarget {
    /// Nowhere.
    #[default]
    Off,
    /// To stdout.
    Stdout,
    /// To the end of this file, which is made when it does not exist.
    File(PathBuf),
}

/// How a line of the access log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccessFormat {
    /// A JSON object with everything that is known.
    #[default]
    Json,
    /// nginx's and Apache's `combined`.
    Combined,
}

/// The access log. Clones write to the same one.
#[derive(Debug, Clone, Default)]
pub struct AccessLog(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    lines: SyncSender<Message>,
    format: AccessFormat,
    /// Set to have the file opened anew. Not a message alone: the channel may be full when the operator asks.
    reopen: Arc<AtomicBool>,
    dropped: Counter,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Look at `reopen`.
    Wake,
    /// Everything before is to be written; then the sender is to be told.
    Flush(SyncSender<()>),
}

/// Where lines are written, and how to open it anew.
trait Sink: Write + Send + 'static {
    fn reopen(&mut self) -> io::Result<()>;
}

impl Sink for io::Stdout {
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct LogFile {
    path: PathBuf,
    file: File,
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sink for LogFile {
    fn reopen(&mut self) -> io::Result<()> {
        self.file = append(&self.path)?;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

impl AccessLog {
    /// Opens it and starts its thread, which lives until the last clone is gone. `dropped` counts lines that could not be written
    /// ([`Metrics::access_log_dropped`](super::Metrics::access_log_dropped)).
    ///
    /// # Errors
    /// The file cannot be opened for appending, or the thread cannot be started.
    pub fn open(target: &AccessTarget, format: AccessFormat, dropped: Counter) -> io::Result<Self> {
        match target {
            AccessTarget::Off => Ok(Self(None)),
            AccessTarget::Stdout => Self::start(io::stdout(), format, dropped, CAPACITY),
            AccessTarget::File(path) => Self::start(LogFile { path: path.clone(), file: append(path)? }, format, dropped, CAPACITY),
        }
    }

    fn start(sink: impl Sink, format: AccessFormat, dropped: Counter, capacity: usize) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(capacity);
        let reopen = Arc::new(AtomicBool::new(false));
        let writer = Writer { sink, reopen: Arc::clone(&reopen), dropped: dropped.clone(), failing: false };
        thread::Builder::new().name("access-log".into()).spawn(move || writer.run(&receiver))?;
        Ok(Self(Some(Arc::new(Shared { lines: sender, format, reopen, dropped }))))
    }

    /// Whether entries go anywhere: one need not be built otherwise.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Writes one line, or drops and counts it when too many wait. Never waits.
    pub fn write(&self, entry: &AccessEntry<'_>) {
        let Some(shared) = &self.0 else { return };
        let mut line = Vec::with_capacity(512);
        let written = match shared.format {
            AccessFormat::Json => serde_json::to_writer(&mut line, entry).is_ok(),
            AccessFormat::Combined => {
                combined::write(entry, &mut line);
                true
            }
        };
        line.push(b'\n');
        if !written || shared.lines.try_send(Message::Line(line)).is_err() {
            shared.dropped.inc();
        }
    }

    /// Opens the file anew, after a log rotation has moved it away.
    pub fn reopen(&self) {
        let Some(shared) = &self.0 else { return };
        shared.reopen.store(true, Ordering::Release);
        // When the channel is full the thread is awake, and looks at the flag before its next write.
        let _: Result<(), TrySendError<Message>> = shared.lines.try_send(Message::Wake);
    }

    /// Waits, at most so long, until everything written so far has reached the file. For the end of the process; it blocks the thread.
    pub fn flush(&self, at_most: Duration) {
        let Some(shared) = &self.0 else { return };
        let (done, wait) = sync_channel(1);
        let lines = shared.lines.clone();
        // On a thread of its own, since a send into a full channel waits without a deadline.
        let asked = thread::Builder::new().name("access-log-flush".into()).spawn(move || lines.send(Message::Flush(done)));
        if asked.is_ok() {
            let _: Result<(), _> = wait.recv_timeout(at_most);
        }
    }
}

struct Writer<S> {
    sink: S,
    reopen: Arc<AtomicBool>,
    dropped: Counter,
    /// Whether the last write failed, so that a full disk is reported once and not per line.
    failing: bool,
}

impl<S: Sink> Writer<S> {
    fn run(mut self, messages: &Receiver<Message>) {
        let mut chunk = Vec::with_capacity(CHUNK);
        while let Ok(first) = messages.recv() {
            let mut lines = 0;
            let mut waiting = Vec::new();
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Line(line) => {
                        chunk.extend_from_slice(&line);
                        lines += 1;
                    }
                    Message::Wake => {}
                    Message::Flush(done) => waiting.push(done),
                }
                next = if chunk.len() < CHUNK { messages.try_recv().ok() } else { None };
            }
            self.put(&chunk, lines);
            chunk.clear();
            for done in waiting {
                let _: Result<(), TrySendError<()>> = done.try_send(());
            }
        }
    }

    fn put(&mut self, chunk: &[u8], lines: u64) {
        if self.reopen.swap(false, Ordering::AcqRel) {
            match self.sink.reopen() {
                Ok(()) => tracing::info!("access log reopened"),
                Err(error) => tracing::error!(%error, "the access log cannot be reopened; it goes on to the old file"),
            }
        }
        match self.sink.write_all(chunk).and_then(|()| self.sink.flush()) {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!("the access log is written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.dropped.inc_by(lines);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "the access log cannot be written; its lines are dropped until it can");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
