//! The backends: each with its health, its replay and its probes, started, replaced by a reload, and stopped.

use std::{sync::Arc, time::Duration};

use ahash::AHashMap;
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use crate::{
    admin::{BackendView, View},
    backend::Backend,
    config::{BackendConfig, Config},
    envelope::{Clock, Name},
    health::{Gate, Health, probe},
    proxy::{Own, Rates, Route, Site, Table, Upstream, Way},
    replay::{self, Handle, Replay, RouteGates, RouteTimeouts},
    store::Store,
    telemetry::Metrics,
};

use super::{
    memory::{Known, Memories},
    names,
    queue::Queue,
};

/// What is told to a client when nothing is known yet about how fast a queue empties: deliveries per second.
const ASSUMED_RATE: f64 = 10.0;

/// How long what is under way at a backend's old settings may take: as long as it does, for each attempt has its own time.
const FOREVER: Duration = Duration::from_secs(30 * 86_400);

/// All backends of the configuration.
pub(super) struct Fleet {
    members: Vec<Member>,
    /// The limit of each route that has one; kept over a reload that does not change it, so that the count in it stays true.
    gates: AHashMap<Name, (Limits, Arc<Gate>)>,
    /// The response timeout of each route that has one.
    timeouts: RouteTimeouts,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    clock: Clock,
    stop: watch::Sender<Option<Instant>>,
    /// Whether the store is open, so that it can be replayed from.
    replaying: bool,
    /// Ends those that an earlier configuration had and whose requests are still under way.
    retired: Vec<watch::Sender<Option<Instant>>>,
    /// Tasks that have to end before the program does.
    tasks: Vec<JoinHandle<()>>,
}

/// What bounds a route at its backend: its own number, and its part of the backend's.
type Limits = (Option<u32>, Option<f64>);

/// One backend.
struct Member {
    config: BackendConfig,
    backend: Arc<Backend>,
    health: Arc<Health>,
    replay: Arc<Handle>,
    /// Ends this backend's tasks when the configuration drops or changes it.
    retire: watch::Sender<Option<Instant>>,
}

impl Fleet {
    pub(super) fn new(config: &Config, store: Arc<dyn Store>, metrics: Arc<Metrics>, clock: Clock) -> Self {
        let (stop, _) = watch::channel(None);
        let (members, tasks) = (Vec::new(), Vec::new());
        let (gates, timeouts) = (AHashMap::new(), timeouts_of(config));
        let mut fleet = Self { members, gates, timeouts, store, metrics, clock, stop, replaying: false, retired: Vec::new(), tasks };
        fleet.gates = fleet.gates_of(config);
        fleet.members = config.backends.iter().map(|backend| fleet.member(backend, None)).collect();
        fleet.tie_shares(config);
        fleet
    }

    /// `before`: what it takes the place of, whose requests go on.
    fn member(&self, config: &BackendConfig, before: Option<&Member>) -> Member {
        let (settings, servers, room) = (config.health.clone(), config.backend.servers.len(), config.backend.room());
        let health = match before {
            None => Health::with_room(config.name.clone(), settings, servers, room),
            Some(before) => Health::after(&before.health, settings, servers, room),
        };
        let backend = Backend::new(config.name.clone(), config.backend.clone(), health.weights());
        let replay = Handle::new(config.replay.clone(), self.route_gates());
        replay.set_timeouts(self.timeouts.clone());
        Member { config: config.clone(), backend, health, replay, retire: watch::channel(None).0 }
    }

    /// Lets the backends know what an earlier run had learned of them.
    pub(super) fn remember(&self, known: &Memories) {
        for member in &self.members {
            if let Some(known) = known.get(&*member.config.name) {
                member.remember(known);
            }
        }
    }

    /// What a later run should know.
    pub(super) fn memories(&self) -> Memories {
        self.members.iter().map(|member| (member.config.name.to_string(), member.known())).collect()
    }

    /// Starts to look after every backend. Must be called within a runtime.
    pub(super) fn start(&self) {
        self.members.iter().for_each(Self::look_after);
    }

    /// Starts replay of every backend, and the store's own upkeep, once the store is open. Must be called within a runtime.
    pub(super) fn replay(&mut self) {
        self.replaying = true;
        let (store, clock) = (self.store.clone(), self.clock.clone());
        self.tasks.push(tokio::spawn(replay::prune(store, clock, self.stop.subscribe())));
        let replays: Vec<_> = self.members.iter().map(|member| self.replay_member(member)).collect();
        self.tasks.extend(replays);
    }

    fn replay_member(&self, member: &Member) -> JoinHandle<()> {
        let replay = Replay::new(replay::Parts {
            name: member.config.name.clone(),
            backend: member.backend.clone(),
            health: member.health.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            handle: member.replay.clone(),
        });
        tokio::spawn(replay.run(member.retire.subscribe()))
    }

    /// Probes of a backend, and look-ups of the names of its servers.
    fn look_after(member: &Member) {
        let mut retired = member.retire.subscribe();
        let (backend, check) = (member.backend.clone(), member.config.health.check.clone());
        let ask: probe::Probe = Arc::new(move |server| {
            let (backend, check) = (backend.clone(), check.clone());
            Box::pin(async move {
                let timeout = check.as_ref().map_or(probe::TIMEOUT, |check| check.timeout);
                backend.probe(server, check.as_ref().map(|check| check.path.as_str()), timeout).await
            })
        });
        let (followed, mut over) = (names::follow(member.backend.clone(), member.health.clone(), names::System), member.retire.subscribe());
        tokio::spawn(async move {
            tokio::select! {
                () = followed => {}
                _ = over.wait_for(Option::is_some) => {}
            }
        });
        // Probes have nothing to finish: they just end with the runtime, or when their backend is retired.
        tokio::spawn(probe::run(member.health.clone(), ask, async move {
            let _retired = retired.wait_for(Option::is_some).await;
        }));
    }

    /// Takes over another configuration. A backend whose settings are the same stays as it is, with its state; one whose servers changed
    /// begins anew, and what is under way at the old one is finished there.
    pub(super) fn replace(&mut self, config: &Config) {
        self.gates = self.gates_of(config);
        self.timeouts = timeouts_of(config);
        let mut old: Vec<Member> = std::mem::take(&mut self.members);
        for wanted in &config.backends {
            let kept = old.iter().position(|member| member.config.name == wanted.name && member.config.backend == wanted.backend);
            let member = match kept.map(|index| old.swap_remove(index)) {
                Some(mut member) if member.config.health.check == wanted.health.check => {
                    member.health.reconfigure(wanted.health.clone());
                    member.replay.configure(wanted.replay.clone(), self.route_gates());
                    member.replay.set_timeouts(self.timeouts.clone());
                    member.config = wanted.clone();
                    member
                }
                changed => {
                    let before = changed.as_ref().or_else(|| old.iter().find(|old| old.config.name == wanted.name));
                    let member = self.member(wanted, before);
                    // Other servers, but the same work.
                    if let Some(before) = before {
                        member.remember(&before.known());
                    }
                    old.extend(changed);
                    Self::look_after(&member);
                    if self.replaying {
                        self.tasks.push(self.replay_member(&member));
                    }
                    member
                }
            };
            self.members.push(member);
        }
        self.tie_shares(config);
        for member in old {
            let name = &member.config.name;
            if config.backends.iter().any(|wanted| wanted.name == *name) {
                tracing::info!(backend = %name, "the backend's old settings are retired; what is under way there is finished");
            } else {
                tracing::warn!(backend = %name, "the backend has gone from the configuration: what is queued for it waits until it comes back, or expires");
            }
            member.retire.send_replace(Some(Instant::now() + FOREVER));
            self.retired.push(member.retire);
        }
        self.retired.retain(|retire| retire.receiver_count() > 0);
        self.tasks.retain(|task| !task.is_finished());
    }

    /// Ends replay everywhere: what is under way is finished and settled within `deadline`.
    pub(super) async fn stop(&mut self, deadline: Duration) {
        let deadline = Some(Instant::now() + deadline);
        self.stop.send_replace(deadline);
        for retire in self.members.iter().map(|member| &member.retire).chain(&self.retired) {
            retire.send_replace(deadline);
        }
        for task in &mut self.tasks {
            if task.await.is_err() {
                tracing::error!("a task of replay had panicked");
            }
        }
        self.tasks.clear();
    }

    /// The routes, as the proxy needs them; what is known of clients goes on from the site `before`.
    pub(super) fn site(&self, config: &Config, before: Option<&Site>) -> Site {
        let ways = config.proxy.routes.iter().filter_map(|settings| {
            let Some(backend) = settings.backend() else {
                return Some(Way::Own(Arc::new(Own::new(settings.clone(), self.metrics.answers(&settings.name)))));
            };
            let member = self.members.iter().find(|member| member.config.name == *backend)?;
            let gate = self.gates.get(&settings.name).map(|(_, gate)| gate.clone());
            let metrics = self.metrics.route(backend, &settings.name);
            let kinds = (member.health.kind(&settings.name, true), member.health.kind(&settings.name, false));
            Some(Way::Backend(Arc::new(Route::new(settings.clone(), member.upstream(self.clock.clone()), gate, metrics, kinds))))
        });
        let rates = Rates::new(&config.proxy, before.map(|before| &before.rates), &self.metrics.clients());
        Site { routes: Table::new(ways), clients: Arc::new(config.proxy.clients.clone()), rates }
    }

    /// What the admin listener shows.
    pub(super) fn view(&self, config: &Config) -> View {
        let backends = self.members.iter().map(|member| BackendView {
            name: member.config.name.clone(),
            servers: {
                let backend = member.backend.clone();
                Arc::new(move || (0..backend.numbers()).map(|number| backend.server(number)).collect())
            },
            routes: config
                .proxy
                .routes
                .iter()
                .filter(|route| route.backend() == Some(&member.config.name))
                .map(|route| route.name.clone())
                .collect(),
            health: member.health.clone(),
            queue: Arc::new(Queue {
                name: member.config.name.clone(),
                replay: member.replay.clone(),
                store: self.store.clone(),
                clock: self.clock.clone(),
            }),
        });
        View {
            backends: backends.collect(),
            store: config.store.clone(),
            max_connections: config.proxy.clients.max_connections,
            token: config.admin.token.clone(),
        }
    }

    fn route_gates(&self) -> RouteGates {
        self.gates.iter().map(|(route, (_, gate))| (route.clone(), gate.clone())).collect()
    }

    fn gates_of(&self, config: &Config) -> AHashMap<Name, (Limits, Arc<Gate>)> {
        let limits = config.proxy.routes.iter().map(|route| (&route.name, (route.concurrency, route.max_share)));
        limits
            .filter(|(_, limits)| *limits != (None, None))
            .map(|(route, limits)| {
                let kept = self.gates.get(route).filter(|(kept, _)| *kept == limits).map(|(_, gate)| gate.clone());
                (route.clone(), (limits, kept.unwrap_or_else(|| Gate::new(limits.0.unwrap_or(1)))))
            })
            .collect()
    }

    /// Lets the gates of routes with a share follow their backend's limit.
    fn tie_shares(&self, config: &Config) {
        for member in &self.members {
            let of_backend = config.proxy.routes.iter().filter(|route| route.backend() == Some(&member.config.name));
            let gates = of_backend.filter_map(|route| self.gates.get(&route.name));
            member.health.set_shares(gates.filter_map(|((at_most, part), gate)| Some((gate.clone(), (*part)?, *at_most))));
        }
    }
}

fn timeouts_of(config: &Config) -> RouteTimeouts {
    config.proxy.routes.iter().filter_map(|route| Some((route.name.clone(), route.response_timeout?))).collect()
}

impl Member {
    fn known(&self) -> Known {
        Known { memory: self.health.memory(), paused: self.replay.is_paused() }
    }

    fn remember(&self, known: &Known) {
        self.health.remember(&known.memory);
        self.replay.set_paused(known.paused);
    }

    fn upstream(&self, clock: Clock) -> Upstream {
        let (replay, health) = (self.replay.clone(), self.health.clone());
        let estimate = Arc::new(move |ahead: u64| {
            let queue =
                replay.drained_in(ahead + 1, clock.now()).unwrap_or_else(|| Duration::from_secs_f64((ahead + 1) as f64 / ASSUMED_RATE));
            // While the backend is down nobody knows; it is at least until it is asked again.
            if health.failing() { queue + health.retry_after() } else { queue }
        });
        Upstream { name: self.config.name.clone(), backend: self.backend.clone(), health: self.health.clone(), estimate }
    }
}
