//! Upgrades (RFC 9110 section 7.8): which are passed on, and the bytes that follow a 101, both ways, to their end.
//!
//! Nothing that a client sends behind its request reaches the server before the server has agreed: until the 101 the connection is HTTP, and what
//! comes early waits. A tunnel is the rest of its client's connection: it counts as one, and a stop leaves it alone until the deadline.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use http::{
    HeaderMap, HeaderValue, Version,
    header::{CONNECTION, TE, UPGRADE},
    request::Parts,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional},
    sync::Notify,
    time::Instant,
};

use crate::backend::{ResponseBody, Switched};

use super::{access::Entry, body::Seats};

/// How long a tunnel may be silent one side of which has ended: what the other still has to say it is saying now.
const HALF_CLOSED: Duration = Duration::from_secs(10);

/// Protocols that are never passed on: within them HTTP would go on past us, unseen (`h2c` smuggling).
const NEVER: &[&str] = &["h2c", "h2", "h3", "http", "tls", "ssl"];

/// The protocols of a request's `Upgrade` that may be passed on; none when it asks for none. To be called before the fields of the client's own
/// connection are taken out.
pub(super) fn asked_for(head: &Parts) -> Option<HeaderValue> {
    let wants = |name: &str| name.trim().eq_ignore_ascii_case("upgrade");
    let is_option = members(&head.headers, CONNECTION).any(wants);
    // An upgrade in a request of HTTP/1.0 is to be ignored, and HTTP/2 has none.
    if !is_option || head.version != Version::HTTP_11 {
        return None;
    }
    let passed: Vec<&str> = members(&head.headers, UPGRADE).map(str::trim).filter(|protocol| may_pass(protocol)).collect();
    HeaderValue::from_str(&passed.join(", ")).ok().filter(|value| !value.is_empty())
}

/// Asks the next hop for these protocols, or tells it that one of them is spoken from now on.
pub(super) fn announce(protocols: HeaderValue, headers: &mut HeaderMap) {
    headers.remove(TE);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, protocols);
}

fn members(headers: &HeaderMap, name: http::HeaderName) -> impl Iterator<Item = &str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','))
}

fn may_pass(protocol: &str) -> bool {
    let (name, version) = protocol.split_once('/').unwrap_or((protocol, "1"));
    let is_token =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
    is_token(name) && is_token(version) && !NEVER.iter().any(|never| name.eq_ignore_ascii_case(never))
}

/// A tunnel whose server has agreed, and whose client is about to hear of it.
pub(super) struct Tunnel {
    switched: Switched,
    /// Counts it at its server.
    _body: ResponseBody,
    _seats: Option<Seats>,
    /// Time that it may be silent, both ways.
    idle: Duration,
    entry: Option<Box<Entry>>,
}

impl Tunnel {
    pub(super) fn new(switched: Switched, body: ResponseBody, seats: Option<Seats>, idle: Duration) -> Self {
        Self { switched, _body: body, _seats: seats, idle, entry: None }
    }

    /// Logged when it ends.
    pub(super) fn log_at_end(&mut self, entry: Option<Box<Entry>>) {
        self.entry = entry;
    }

    /// Carries bytes between the client and the server until one of them has had enough, or for too long neither says anything. `early` is what the
    /// client has sent already.
    pub(super) async fn run<T: AsyncRead + AsyncWrite + Unpin>(self, near: T, early: BytesMut) {
        let (ended, to_client) = carry(near, self.switched, &early, self.idle).await;
        tracing::debug!(error = ended.as_ref().err().map(tracing::field::display), "a tunnel has ended");
        if let Some(mut entry) = self.entry {
            entry.sent(to_client);
        }
    }
}

/// Gives how it ended, and how many bytes went to `near`.
async fn carry<N, F>(near: N, far: F, early: &[u8], idle: Duration) -> (io::Result<()>, u64)
where
    N: AsyncRead + AsyncWrite + Unpin,
    F: AsyncRead + AsyncWrite + Unpin,
{
    let pulse = Arc::new(Pulse::new());
    let (mut near, mut far) =
        (Felt { stream: near, pulse: pulse.clone(), written: 0 }, Felt { stream: far, pulse: pulse.clone(), written: 0 });
    let carried = async {
        far.write_all(early).await?;
        copy_bidirectional(&mut near, &mut far).await.map(drop)
    };
    let ended = tokio::select! {
        ended = carried => ended,
        () = pulse.stopped(idle) => Err(io::ErrorKind::TimedOut.into()),
    };
    (ended, near.written)
}

/// When something last moved in a tunnel.
#[derive(Debug)]
struct Pulse {
    began: Instant,
    /// Milliseconds after `began`.
    last: AtomicU64,
    half_closed: AtomicBool,
    changed: Notify,
}

impl Pulse {
    fn new() -> Self {
        Self { began: Instant::now(), last: AtomicU64::new(0), half_closed: AtomicBool::new(false), changed: Notify::new() }
    }

    fn beat(&self) {
        self.last.store(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    fn half_close(&self) {
        self.beat();
        self.half_closed.store(true, Relaxed);
        self.changed.notify_one();
    }

    /// Resolves when nothing has moved for as long as is allowed.
    async fn stopped(&self, idle: Duration) {
        loop {
            let patience = if self.half_closed.load(Relaxed) { idle.min(HALF_CLOSED) } else { idle };
            let due = self.began + Duration::from_millis(self.last.load(Relaxed)) + patience;
            if due <= Instant::now() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.changed.notified() => {}
            }
        }
    }
}

/// One side of a tunnel.
struct Felt<T> {
    stream: T,
    pulse: Arc<Pulse>,
    written: u64,
}

impl<T: AsyncRead + Unpin> AsyncRead for Felt<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        match &polled {
            Poll::Ready(Ok(())) if buffer.filled().len() > before => self.pulse.beat(),
            Poll::Ready(_) => self.pulse.half_close(),
            Poll::Pending => {}
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Felt<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(length)) = &polled {
            self.pulse.beat();
            self.written += *length as u64;
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;

    fn asked(version: Version, fields: &[(&'static str, &'static str)]) -> Option<String> {
        let mut request = Request::get("/").version(version).body(()).unwrap();
        for &(name, value) in fields {
            request.headers_mut().append(name, HeaderValue::from_static(value));
        }
        asked_for(&request.into_parts().0).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn an_upgrade_is_passed_on_unless_http_would_go_on_in_it() {
        let upgrade = |protocols| asked(Version::HTTP_11, &[("connection", "keep-alive, Upgrade"), ("upgrade", protocols)]);
        assert_eq!(upgrade("websocket").as_deref(), Some("websocket"));
        assert_eq!(upgrade("IRC/6.9 , foo").as_deref(), Some("IRC/6.9, foo"));
        assert_eq!(upgrade("h2c, WebSocket").as_deref(), Some("WebSocket"));
        for never in ["h2c", "H2C", "h2c/1", "HTTP/2.0", "http/1.1", "TLS/1.2", "", ",", "a b", "x/", "web\tsocket"] {
            assert_eq!(upgrade(never), None, "{never}");
        }
    }

    #[test]
    fn an_upgrade_that_is_not_meant_for_us_is_none() {
        assert_eq!(asked(Version::HTTP_11, &[("upgrade", "websocket")]), None, "Connection has to name it");
        assert_eq!(asked(Version::HTTP_10, &[("connection", "upgrade"), ("upgrade", "websocket")]), None);
        assert_eq!(asked(Version::HTTP_11, &[("connection", "upgrade")]), None);
    }

    fn tunnel(early: &'static [u8], idle: u64) -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<(io::Result<()>, u64)>) {
        let ((client, near), (far, server)) = (duplex(64), duplex(64));
        let carried = tokio::spawn(async move { carry(near, far, early, Duration::from_secs(idle)).await });
        (client, server, carried)
    }

    async fn read<const N: usize>(stream: &mut DuplexStream) -> [u8; N] {
        let mut bytes = [0; N];
        stream.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_ends_when_neither_side_has_said_anything_for_its_time() {
        let (mut client, mut server, carried) = tunnel(b"early", 3600);
        assert_eq!(&read(&mut server).await, b"early");
        let began = Instant::now();
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(3599)).await;
            server.write_all(b"x").await.unwrap();
            read::<1>(&mut client).await;
        }
        let (ended, written) = carried.await.unwrap();
        assert_eq!((ended.unwrap_err().kind(), written), (io::ErrorKind::TimedOut, 5));
        assert_eq!(began.elapsed().as_secs(), 5 * 3599 + 3600);
    }

    #[tokio::test(start_paused = true)]
    async fn one_side_may_end_and_still_hear_the_other_out_but_not_wait_for_ever() {
        let (mut client, mut server, carried) = tunnel(b"", 3600);
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
        tokio::time::sleep(Duration::from_secs(9)).await;
        server.write_all(b"last words").await.unwrap();
        assert_eq!(&read(&mut client).await, b"last words");
        let began = Instant::now();
        assert_eq!(carried.await.unwrap().0.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), HALF_CLOSED);
    }

    #[tokio::test]
    async fn both_ends_end_a_tunnel() {
        let (mut client, mut server, carried) = tunnel(b"", 3600);
        client.shutdown().await.unwrap();
        server.shutdown().await.unwrap();
        carried.await.unwrap().0.unwrap();
    }
}
