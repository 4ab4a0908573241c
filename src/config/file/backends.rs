//! The part of the file about backends: servers, health checks, replay.

use super::*;

#[derive(Debug)]
pub(in crate::config) struct Backend {
    pub servers: Option<At<Vec<At<ServerAddress>>>>,
    pub connect_timeout: At<Duration>,
    pub response_timeout: At<Duration>,
    pub idle_timeout: At<Duration>,
    pub tunnel_timeout: At<Duration>,
    pub concurrency: At<Concurrency>,
    pub health: Option<At<Health>>,
    pub replay: Replay,
}

impl Section for Backend {
    const ABOUT: &'static str = "One backend: servers that do the same work, and what they can take.";

    fn keys(table: &mut Table<'_>) -> Self {
        Self {
            servers: table.need(
                key("servers", "Addresses such as `http://127.0.0.1:9001` or `unix:/PATH`; several are balanced by least load of two.")
                    .not_empty(),
            ),
            connect_timeout: table.or(key("connect_timeout", "Time to connect to a server.").range(MS, 60 * SECOND), SECOND),
            response_timeout: table.or(
                key("response_timeout", "Time from the whole request being sent to the headers of the response.").range(MS, DAY),
                30 * SECOND,
            ),
            idle_timeout: table.or(
                key(
                    "idle_timeout",
                    "Time that a kept connection may lie idle before it is not used any more; shorter than the servers' own. Where a server says how \
                     long it keeps one (`Keep-Alive: timeout=5`), it is used until a second before.",
                )
                .range(SECOND, DAY),
                45 * SECOND,
            ),
            tunnel_timeout: table.or(
                key("tunnel_timeout", "Time that both sides of a WebSocket, or of another connection that was upgraded, may be silent.").range(SECOND, 30 * DAY),
                HOUR,
            ),
            concurrency: table.or(
                key(
                    "concurrency",
                    "Requests at the backend at once, live and replayed together; what is more waits a moment, then spills or gets 503. \
                     `adaptive` finds out how many from how long they take; or a number.",
                )
                .range(Concurrency::Fixed(1), Concurrency::Fixed(100_000)),
                Concurrency::Adaptive,
            ),
            health: table.maybe(key("health", Health::ABOUT)),
            replay: table.section("replay"),
        }
    }
}

#[derive(Debug)]
pub(in crate::config) struct Health {
    pub path: Option<At<String>>,
    pub interval: At<Duration>,
    pub timeout: At<Duration>,
    pub fall: At<u32>,
    pub rise: At<u32>,
}

impl Section for Health {
    const ABOUT: &'static str = "The active check of each server. Without it a server is asked only while it is out.";

    fn keys(table: &mut Table<'_>) -> Self {
        Self {
            path: table.need(key("path", "What is asked for with GET, path and query.")),
            interval: table.or(key("interval", "Time between two checks of one server.").range(100 * MS, HOUR), 2 * SECOND),
            timeout: table.or(key("timeout", "Time for the whole answer; not longer than the interval.").range(MS, HOUR), SECOND),
            fall: table.or(key("fall", "Failures in a row that take a server out.").range(1, 1000), 3),
            rise: table.or(key("rise", "Passes in a row that bring it back.").range(1, 1000), 2),
        }
    }
}

#[derive(Debug)]
pub(in crate::config) struct Replay {
    pub profile: At<Profile>,
    pub rate: Option<At<Rate>>,
    pub concurrency: Option<At<u32>>,
}

impl Section for Replay {
    const ABOUT: &'static str = "How what is queued goes to the backend once it can take it.";

    fn keys(table: &mut Table<'_>) -> Self {
        Self {
            profile: table.or(
                key(
                    "profile",
                    "How the pace is found: `gentle` takes what does not slow live traffic down, `fast` all that the backend's limit leaves, `fixed` \
                     the rate and concurrency written here.",
                ),
                Profile::Gentle,
            ),
            rate: table.maybe(key("rate", "Ceiling on the attempts started, such as `50/s`. Default: none.")),
            concurrency: table.maybe(
                key("concurrency", "Replayed requests at the backend at once, at most. Default: none, and 8 for `fixed`, or the backend's concurrency if that is less.")
                    .range(1, 100_000),
            ),
        }
    }
}
