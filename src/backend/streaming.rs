//! A client's body on its way to a backend while it comes.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::{
    BodyError,
    floor::{Floor, Meter, came},
    incoming::Incoming,
    patience::Pace,
};
use crate::http1::{Pipe, Piped};

/// Bytes of a body that are kept for the case that its server does not process the request, as far as it says so.
const MOST_KEPT: usize = 64 * 1024;

/// See the module.
pub(super) struct Streaming {
    incoming: Incoming,
    left: u64,
    limit: u64,
    pace: Arc<Pace>,
    meter: Option<Meter>,
    /// Some of it has been read.
    begun: bool,
    kept: Option<Box<Kept>>,
}

/// What has been read of a body, to be read once more.
#[derive(Default)]
struct Kept {
    parts: Vec<Part>,
    bytes: usize,
    /// The part that is read next, where it is one of these.
    next: usize,
}

#[derive(Clone)]
enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(_) => 0,
        }
    }
}

impl From<Part> for Frame<Bytes> {
    fn from(part: Part) -> Self {
        match part {
            Part::Data(data) => Self::data(data),
            Part::Trailers(trailers) => Self::trailers(trailers),
        }
    }
}

impl Streaming {
    pub(super) fn new(incoming: Incoming, limit: u64, stall: Duration, floor: Option<Floor>) -> Self {
        Self { incoming, left: limit, limit, pace: Arc::new(Pace::new(stall)), meter: floor.map(Meter::new), begun: false, kept: None }
    }

    pub(super) fn pace(&self) -> Arc<Pace> {
        self.pace.clone()
    }

    /// Keeps what is read from now on, if that is from its beginning.
    pub(super) fn keep(&mut self) {
        if !self.begun {
            self.kept.get_or_insert_default();
        }
    }

    /// Goes back to its beginning; false where that is gone.
    pub(super) fn rewind(&mut self) -> bool {
        self.kept.as_mut().map(|kept| kept.next = 0).is_some()
    }

    /// What is kept and is to be read once more.
    fn ahead(&self) -> impl Iterator<Item = &Part> {
        self.kept.iter().flat_map(|kept| &kept.parts[kept.next..])
    }

    /// Notes what has been read of it.
    fn note(&mut self, part: Part) {
        let Some(kept) = &mut self.kept else { return };
        kept.bytes += part.len();
        if kept.bytes > MOST_KEPT {
            self.kept = None;
        } else {
            kept.parts.push(part);
            kept.next = kept.parts.len();
        }
    }

    /// Heeds what a look at the body has brought: `bytes` of it are in a part.
    fn heed<T>(
        &mut self,
        polled: Poll<Option<Result<T, BodyError>>>,
        bytes: impl Fn(&T) -> usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<T, BodyError>>> {
        let Self { left, limit, pace, meter, .. } = self;
        if let Some(meter) = meter
            && meter.is_too_slow(cx, came(&polled, &bytes))
        {
            return Poll::Ready(Some(Err(BodyError::TooSlow)));
        }
        pace.looked(polled.is_ready());
        let Some(part) = ready!(polled) else { return Poll::Ready(None) };
        let part = part?;
        self.begun = true;
        match left.checked_sub(bytes(&part) as u64) {
            Some(rest) => *left = rest,
            None => return Poll::Ready(Some(Err(BodyError::TooLarge(*limit)))),
        }
        Poll::Ready(Some(Ok(part)))
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(kept) = &mut self.kept
            && let Some(part) = kept.parts.get(kept.next)
        {
            kept.next += 1;
            self.pace.looked(true);
            return Poll::Ready(Some(Ok(part.clone().into())));
        }
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        let frame = ready!(self.heed(polled, |frame| frame.data_ref().map_or(0, Bytes::len), cx));
        if self.kept.is_none() {
            return Poll::Ready(frame);
        }
        let Some(frame) = frame.transpose()? else { return Poll::Ready(None) };
        let part = match frame.into_data() {
            Ok(data) => Part::Data(data),
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => Part::Trailers(trailers),
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            },
        };
        self.note(part.clone());
        Poll::Ready(Some(Ok(part.into())))
    }

    pub(super) fn poll_pipe(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Pipe, BodyError>>> {
        // What is kept, or to be kept, is asked for as a frame.
        if self.kept.is_some() {
            return Poll::Ready(None);
        }
        match self.incoming.poll_pipe(cx) {
            Poll::Ready(None) => Poll::Ready(None),
            polled => self.heed(polled, Pipe::len, cx),
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.ahead().next().is_none() && self.incoming.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let ahead: usize = self.ahead().map(Part::len).sum();
        self.incoming.size_hint().exact().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + ahead as u64))
    }
}
