//! A backend that does what it is told, and can be killed by a request.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    backend::{ErrorKind, SendError},
    health::{Health, Signal},
    replay::courier::{Answered, Courier, Outgoing},
};

/// What the backend does with a request.
#[derive(Clone)]
pub(super) struct Step {
    after: Duration,
    does: Does,
}

#[derive(Clone)]
enum Does {
    Answer(u16, Vec<(&'static str, &'static str)>),
    Fail { maybe_sent: bool },
    Nothing,
}

impl Step {
    pub(super) fn answer(status: u16) -> Self {
        Self { after: Duration::ZERO, does: Does::Answer(status, Vec::new()) }
    }

    /// No server is up.
    pub(super) fn not_sent() -> Self {
        Self { after: Duration::ZERO, does: Does::Fail { maybe_sent: false } }
    }

    /// The connection breaks after the request.
    pub(super) fn lost() -> Self {
        Self { after: Duration::ZERO, does: Does::Fail { maybe_sent: true } }
    }

    /// Nothing comes back, ever.
    pub(super) fn silent() -> Self {
        Self { after: Duration::ZERO, does: Does::Nothing }
    }

    pub(super) fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    pub(super) fn field(mut self, name: &'static str, value: &'static str) -> Self {
        if let Does::Answer(_, fields) = &mut self.does {
            fields.push((name, value));
        }
        self
    }
}

/// A backend that does what it is told, and keeps what it saw.
pub(super) struct Script {
    pub(super) steps: Mutex<VecDeque<Step>>,
    pub(super) default: Mutex<Step>,
    began: Instant,
    pub(super) sent: Mutex<Vec<(Duration, String)>>,
    present: Mutex<Present>,
    health: Arc<Health>,
    /// Path of a request that brings the backend down.
    pub(super) killer: Mutex<Option<Killer>>,
}

/// How a request brings the backend down.
#[derive(Clone)]
pub(super) struct Killer {
    pub(super) path: &'static str,
    /// After so long; then its connection breaks.
    pub(super) after: Duration,
    /// The breaker notices so much later.
    pub(super) noticed_after: Duration,
}

#[derive(Default)]
struct Present {
    paths: Vec<String>,
    /// How many others were there when a request came, by its path.
    beside: Vec<(String, usize)>,
    most: usize,
    most_of: Vec<(String, usize)>,
}

/// A request at the backend, until dropped.
struct Presence<'a>(&'a Script, String);

impl Script {
    pub(super) fn new(health: Arc<Health>) -> Arc<Self> {
        Arc::new(Self {
            steps: Mutex::default(),
            default: Mutex::new(Step::answer(200)),
            began: Instant::now(),
            sent: Mutex::default(),
            present: Mutex::default(),
            health,
            killer: Mutex::default(),
        })
    }

    fn enter(&self, path: String) -> Presence<'_> {
        self.sent.lock().push((self.began.elapsed(), path.clone()));
        let mut present = self.present.lock();
        let others = present.paths.len();
        present.beside.push((path.clone(), others));
        present.paths.push(path.clone());
        present.most = present.most.max(present.paths.len());
        let prefix = prefix(&path);
        let now = present.paths.iter().filter(|other| other.starts_with(&prefix)).count();
        match present.most_of.iter_mut().find(|(known, _)| *known == prefix) {
            Some((_, most)) => *most = now.max(*most),
            None => present.most_of.push((prefix, now)),
        }
        Presence(self, path)
    }

    pub(super) fn now_at_backend(&self) -> usize {
        self.present.lock().paths.len()
    }

    /// How many others were there each time that this one came.
    pub(super) fn beside(&self, path: &str) -> Vec<usize> {
        self.present.lock().beside.iter().filter(|(known, _)| known == path).map(|&(_, others)| others).collect()
    }

    pub(super) fn most_at_backend(&self) -> usize {
        self.present.lock().most
    }

    pub(super) fn most_at_backend_of(&self, prefix: &str) -> usize {
        self.present.lock().most_of.iter().find(|(known, _)| known == prefix).map_or(0, |&(_, most)| most)
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        let mut present = self.0.present.lock();
        if let Some(at) = present.paths.iter().position(|path| *path == self.1) {
            present.paths.swap_remove(at);
        }
    }
}

/// The first segment of a path.
fn prefix(path: &str) -> String {
    path.split('/').take(2).collect::<Vec<_>>().join("/")
}

impl Courier for Arc<Script> {
    fn send(&self, request: Request<Outgoing>) -> BoxFuture<'_, Result<Answered, SendError>> {
        Box::pin(async move {
            let path = request.uri().to_string();
            let _presence = self.enter(path.clone());
            let killer = self.killer.lock().clone();
            if let Some(killer) = killer.filter(|killer| killer.path == path) {
                tokio::time::sleep(killer.after).await;
                let health = Arc::clone(&self.health);
                let notice = async move {
                    tokio::time::sleep(killer.noticed_after).await;
                    (0..5).for_each(|_| health.report(0, Signal::ConnectFailure));
                };
                if killer.noticed_after.is_zero() {
                    notice.await
                } else {
                    drop(tokio::spawn(notice))
                }
                return Err(SendError {
                    kind: ErrorKind::Reset,
                    maybe_sent: true,
                    server: None,
                    detail: "it went down".into(),
                    spare: None,
                });
            }
            let step = self.steps.lock().pop_front().unwrap_or_else(|| self.default.lock().clone());
            tokio::time::sleep(step.after).await;
            match step.does {
                Does::Answer(status, fields) => {
                    let mut response = Response::new(Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync());
                    *response.status_mut() = StatusCode::from_u16(status).unwrap();
                    for (name, value) in fields {
                        response.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_static(value));
                    }
                    Ok(Answered { response, server: 0 })
                }
                Does::Fail { maybe_sent } => {
                    let kind = if maybe_sent { ErrorKind::Reset } else { ErrorKind::Connect };
                    Err(SendError { kind, maybe_sent, server: None, detail: "as scripted".into(), spare: None })
                }
                Does::Nothing => std::future::pending().await,
            }
        })
    }

    fn sweep(&self) {}
}
