//! Which route a request takes, what the route changes in it, and the answers that routes give by themselves.

mod location;
mod own;
pub(crate) mod path;
mod rewrite;
mod table;
mod template;

use std::sync::Arc;

use http::Method;

use crate::{
    backend::Backend,
    envelope::Name,
    health::{Health, Kind, gate::Gate},
    telemetry::{AnswerMetrics, RouteMetrics},
};

use super::settings::{RouteSettings, Spill};

pub use table::Table;
pub use template::{Template, TemplateError, VARIABLES};

pub(super) use rewrite::{Changes, Rewriter};
pub(super) use table::Found;
pub(super) use template::Scene;

/// A backend as the proxy sees it.
#[derive(Clone)]
pub struct Upstream {
    /// Its name.
    pub name: Name,
    /// How to send.
    pub backend: Arc<Backend>,
    /// Whether to send.
    pub health: Arc<Health>,
    /// When a request with so many ahead of it will have been delivered.
    pub estimate: Estimate,
}

/// From the number of requests ahead to the time that they will take.
pub type Estimate = Arc<dyn Fn(u64) -> std::time::Duration + Send + Sync>;

/// Where a route leads.
#[derive(Clone)]
pub enum Way {
    /// To a backend.
    Backend(Arc<Route>),
    /// Nowhere: forebay answers.
    Own(Arc<Own>),
}

/// A route to a backend and what it needs at run time.
pub struct Route {
    /// What the configuration says.
    pub settings: RouteSettings,
    /// Where it leads.
    pub upstream: Upstream,
    /// Its own limit, shared with replay.
    pub gate: Option<Arc<Gate>>,
    /// Its counters.
    pub metrics: RouteMetrics,
    /// The classes of its requests: with a safe method, and with another.
    pub kinds: (Kind, Kind),
    /// What it changes; none for most.
    rewriter: Option<Arc<Rewriter>>,
}

/// A route that is answered here.
pub struct Own {
    /// What the configuration says.
    pub settings: RouteSettings,
    /// Its counters.
    pub metrics: AnswerMetrics,
    /// What it changes in its own answers.
    rewriter: Option<Arc<Rewriter>>,
}

impl Way {
    /// What the configuration says.
    pub fn settings(&self) -> &RouteSettings {
        match self {
            Self::Backend(route) => &route.settings,
            Self::Own(own) => &own.settings,
        }
    }
}

impl Own {
    /// A route that is answered here.
    pub fn new(settings: RouteSettings, metrics: AnswerMetrics) -> Self {
        let rewriter = settings.rewrite.as_ref().map(|rewrite| Rewriter::new(rewrite, std::iter::empty()));
        Self { settings, metrics, rewriter }
    }
}

impl Route {
    /// A route to a backend.
    pub fn new(settings: RouteSettings, upstream: Upstream, gate: Option<Arc<Gate>>, metrics: RouteMetrics, kinds: (Kind, Kind)) -> Self {
        let servers = || upstream.backend.addresses().iter().map(crate::backend::ServerAddress::host);
        let rewriter = settings.rewrite.as_ref().map(|rewrite| Rewriter::new(rewrite, servers()));
        Self { settings, upstream, gate, metrics, kinds, rewriter }
    }

    /// How a request of that method spills on this route; none when it never does.
    pub(super) fn spill(&self, method: &Method) -> Option<&Spill> {
        self.settings.spill.as_ref().filter(|spill| spill.methods.contains(method))
    }

    /// The class of a request of that method.
    pub(super) fn kind(&self, method: &Method) -> Kind {
        if method.is_safe() { self.kinds.0 } else { self.kinds.1 }
    }

    /// What it changes in requests and answers.
    pub(super) fn rewriter(&self) -> Option<&Arc<Rewriter>> {
        self.rewriter.as_ref()
    }
}
