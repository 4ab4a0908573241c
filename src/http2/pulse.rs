//! Whether a server that is silent is still there.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

/// What a connection has to do, and whether anything has come on it.
#[derive(Debug, Default)]
pub(super) struct Life {
    requests: AtomicUsize,
    heard: AtomicBool,
}

/// One request, to the end of its answer.
#[derive(Debug)]
pub(super) struct Busy(Arc<Life>);

impl Busy {
    pub(super) fn begin(life: &Arc<Life>) -> Self {
        life.requests.fetch_add(1, Relaxed);
        Self(life.clone())
    }

    /// Something has come for it.
    pub(super) fn hears(&self) {
        self.0.heard.store(true, Relaxed);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

/// Asks a server whether it is there when nothing comes for the requests that it has (RFC 9113 section 6.7). An idle one is not asked: some take that for abuse.
pub(super) struct Pulse {
    pings: PingPong,
    life: Arc<Life>,
    /// Silence after which it is asked, and how long it may take to say something.
    after: Duration,
    patience: Duration,
    timer: Pin<Box<Sleep>>,
    asked: bool,
}

impl Pulse {
    pub(super) fn new(pings: PingPong, life: Arc<Life>, after: Duration, patience: Duration) -> Self {
        Self { pings, life, after, patience, timer: Box::pin(sleep(after)), asked: false }
    }

    /// Ready when the server is not there.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.asked && self.pings.poll_pong(cx).is_ready() {
                self.asked = false;
                self.timer.as_mut().reset(Instant::now() + self.after);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if self.asked {
                return Poll::Ready(());
            }
            let is_silent = !self.life.heard.swap(false, Relaxed) && self.life.requests.load(Relaxed) > 0;
            self.asked = is_silent && self.pings.send_ping(Ping::opaque()).is_ok();
            let next = if self.asked { self.patience } else { self.after };
            self.timer.as_mut().reset(Instant::now() + next);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::Bytes;
    use tokio::io::DuplexStream;

    use super::*;
    use crate::http2::{
        client::{Limits, begin},
        server,
    };

    const AFTER: Duration = Duration::from_secs(20);
    const PATIENCE: Duration = Duration::from_secs(10);
    const LIMITS: Limits = Limits {
        stream_window: 65_535,
        connection_window: 65_535,
        send_buffer: 65_535,
        header_bytes: 8192,
        ping_after: AFTER,
        ping_timeout: PATIENCE,
    };

    /// A server that takes requests and never answers them, nor pings once it `sleeps`.
    fn serve(socket: DuplexStream, sleeps: Arc<AtomicBool>) {
        let limits =
            server::Limits { streams: 10, header_bytes: 8192, stream_window: 65_535, connection_window: 65_535, send_buffer: 65_535 };
        tokio::spawn(async move {
            type Never = std::future::Pending<crate::http1::ResponseOf<http_body_util::Empty<Bytes>>>;
            let mut connection = server::Connection::new(socket, limits, |_| -> Never { std::future::pending() });
            poll_fn(|cx| if sleeps.load(Relaxed) { Poll::Pending } else { connection.poll(cx) }).await
        });
    }

    /// Whether a connection is over after so many seconds.
    async fn is_over(busy: bool, asleep: bool, after: Duration) -> bool {
        let (near, far) = tokio::io::duplex(65_536);
        let sleeps = Arc::new(AtomicBool::new(false));
        serve(far, sleeps.clone());
        let (mut sender, connection) = begin(near, LIMITS).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::get("http://test/").body(http_body_util::Empty::<Bytes>::new()).unwrap();
        let kept = sender.clone();
        let asked = busy.then(|| tokio::spawn(async move { sender.send(request, |_| {}).await.map(drop).map_err(drop) }));
        tokio::time::sleep(Duration::from_secs(1)).await;
        sleeps.store(asleep, Relaxed);
        tokio::time::sleep(after).await;
        let is_over = connection.is_finished();
        assert_eq!(asked.is_some_and(|asked| asked.is_finished()), is_over && busy, "who waits is told");
        assert_eq!(kept.is_open(), !is_over);
        is_over
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_gone_is_found_out_while_a_request_waits_for_it_and_only_then() {
        assert!(is_over(true, true, AFTER + PATIENCE + Duration::from_secs(1)).await);
        assert!(!is_over(true, true, AFTER + PATIENCE - Duration::from_secs(2)).await, "it had time to say something");
        assert!(!is_over(true, false, AFTER * 10).await, "it is slow, and there");
        assert!(!is_over(false, true, AFTER * 10).await, "an idle one is not asked");
    }
}
