//! The one type of body that goes to clients.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::{
    backend::ResponseBody,
    health::Seat,
    http1::{Pipe, Piped},
    store::{PayloadBody, StoreError},
};

use super::{access::Entry, taking::Taker, tunnel::Tunnel, watch::Answering};

/// The body of a response. It goes through many hands before the first byte of it is read: only a pointer is moved.
pub(super) struct ClientBody(Box<Parts>);

struct Parts {
    kind: Kind,
    /// Logged when the body ends or is dropped; none when the access log is off.
    entry: Option<Box<Entry>>,
    /// Dropped when the answer is over.
    answering: Option<Answering>,
    /// Told when a piece of it is taken,
    taker: Option<Taker>,
    /// of which this is to be given yet.
    rest: Option<Bytes>,
    /// The connection closes after it, read to its end or not.
    refusal: bool,
}

enum Kind {
    /// One that we wrote.
    Full(Option<Bytes>),
    /// One that streams from a backend, and the seats that it holds until its end.
    Passing(ResponseBody, Option<Seats>),
    /// None: another protocol follows.
    Tunnel(Box<Tunnel>),
    /// One that was kept.
    Kept(PayloadBody),
}

/// Bytes of an answer of which a client of HTTP/2 has to take all within its time: a frame of usual size (RFC 9113 section 4.2).
const PIECE: usize = 16 * 1024;

/// What a request holds at the backend, to the end of its response.
#[derive(Debug)]
pub(super) struct Seats {
    /// None once it was given back before the end.
    pub(super) backend: Option<Seat>,
    pub(super) route: Option<Seat>,
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The backend's connection broke.
    #[error("the backend's response broke off: {0}")]
    Backend(#[from] std::io::Error),
    /// The kept response could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ClientBody {
    fn new(kind: Kind) -> Self {
        Self(Box::new(Parts { kind, entry: None, answering: None, taker: None, rest: None, refusal: false }))
    }

    /// A body that we wrote.
    pub(super) fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::new(Kind::Full((!bytes.is_empty()).then_some(bytes)))
    }

    pub(super) fn passing(body: ResponseBody, seats: Option<Seats>) -> Self {
        // A response without a body is over with its head.
        let seats = seats.filter(|_| !body.is_end_stream());
        Self::new(Kind::Passing(body, seats))
    }

    /// A 101, and what follows it.
    pub(super) fn tunnel(tunnel: Tunnel) -> Self {
        Self::new(Kind::Tunnel(Box::new(tunnel)))
    }

    /// What follows a 101, if this is its body; it takes the line of the access log along.
    pub(super) fn take_tunnel(&mut self) -> Option<Box<Tunnel>> {
        if !matches!(self.0.kind, Kind::Tunnel(_)) {
            return None;
        }
        let Kind::Tunnel(mut tunnel) = std::mem::replace(&mut self.0.kind, Kind::Full(None)) else { return None };
        tunnel.log_at_end(self.0.entry.take());
        Some(tunnel)
    }

    pub(super) fn kept(body: PayloadBody) -> Self {
        Self::new(Kind::Kept(body))
    }

    /// Leaves nothing to read.
    pub(super) fn empty(&mut self) {
        self.0.kind = Kind::Full(None);
    }

    pub(super) fn log_at_end(&mut self, entry: Box<Entry>) {
        self.0.entry = Some(entry);
    }

    /// It tells a client, who may still be sending, that nobody listens any more.
    pub(super) fn refusing(mut self) -> Self {
        self.0.refusal = true;
        self
    }

    /// The request has been answered when this body has been written or given up.
    pub(super) fn ends(&mut self, mut answering: Answering) {
        answering.answered(self.0.refusal);
        self.0.taker = answering.taker();
        self.0.answering = Some(answering);
    }
}

impl Parts {
    /// The first piece of this, whose client is to show that it takes it.
    fn piece(&mut self, mut data: Bytes) -> Bytes {
        let piece = data.split_to(data.len().min(PIECE));
        self.rest = (!data.is_empty()).then_some(data);
        if let Some(taker) = &self.taker {
            taker.is_given();
        }
        piece
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self.0;
        if let Some(taker) = &this.taker {
            taker.asks();
            if let Some(rest) = this.rest.take() {
                return Poll::Ready(Some(Ok(Frame::data(this.piece(rest)))));
            }
        }
        let frame = match &mut this.kind {
            Kind::Tunnel(_) => None,
            Kind::Full(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Kind::Passing(body, seats) => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                if body.is_end_stream() || !matches!(frame, Some(Ok(_))) {
                    *seats = None;
                }
                frame.map(|frame| frame.map_err(Broken::from))
            }
            Kind::Kept(body) => ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(Broken::from)),
        };
        if let (Some(entry), Some(Ok(frame))) = (&mut this.entry, &frame) {
            entry.sent(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        let frame = match frame {
            Some(Ok(frame)) if this.taker.is_some() => Some(Ok(match frame.into_data() {
                Ok(data) => Frame::data(this.piece(data)),
                Err(frame) => frame,
            })),
            frame => frame,
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        if self.0.rest.is_some() {
            return false;
        }
        match &self.0.kind {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Tunnel(_) => true,
            Kind::Passing(body, _) => body.is_end_stream(),
            Kind::Kept(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let hint = match &self.0.kind {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Tunnel(_) => SizeHint::with_exact(0),
            Kind::Passing(body, _) => body.size_hint(),
            Kind::Kept(body) => body.size_hint(),
        };
        match (&self.0.rest, hint.exact()) {
            (None, _) => hint,
            (Some(rest), Some(length)) => SizeHint::with_exact(length + rest.len() as u64),
            (Some(_), None) => SizeHint::default(),
        }
    }
}

impl Piped for ClientBody {
    fn poll_pipe(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Pipe, Broken>>> {
        let Kind::Passing(body, seats) = &mut self.0.kind else { return Poll::Ready(None) };
        let Some(pipe) = ready!(body.poll_pipe(cx)) else { return Poll::Ready(None) };
        if body.is_end_stream() || pipe.is_err() {
            *seats = None;
        }
        if let (Some(entry), Ok(pipe)) = (&mut self.0.entry, &pipe) {
            entry.sent(pipe.len() as u64);
        }
        Poll::Ready(Some(pipe.map_err(Broken::from)))
    }
}
