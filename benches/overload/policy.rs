//! What stands before the backend.

use std::{net::SocketAddr, path::Path};

/// What stands before the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// forebay as it comes.
    Ours,
    /// A limit and a replay rate that somebody chose well: twice the workers of the backend, and a tenth of its capacity.
    Fixed,
    /// Nothing: the clients talk to the backend themselves.
    Nothing,
}

impl Policy {
    pub const ALL: [Self; 3] = [Self::Ours, Self::Fixed, Self::Nothing];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "forebay",
            Self::Fixed => "fixed 32, 20/s",
            Self::Nothing => "no protection",
        }
    }

    /// The configuration of the program; none where there is none.
    pub fn config(self, backend: SocketAddr, data: &Path, delivery: &str) -> Option<String> {
        let (concurrency, replay, share) = match self {
            Self::Ours => ("\"adaptive\"", "", "max_share = 0.5"),
            Self::Fixed => ("32", "replay = { profile = \"fixed\", rate = \"20/s\", concurrency = 8 }", ""),
            Self::Nothing => return None,
        };
        let data = data.display();
        Some(format!(
            r#"
[[listeners]]
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[store]
path = "{data}/queue.redb"
[log]
level = "debug"
[backends.app]
servers = ["http://{backend}"]
response_timeout = "10s"
concurrency = {concurrency}
{replay}
[[routes]]
name = "reads"
path = "/read"
backend = "app"
[[routes]]
name = "quick"
path = "/quick"
backend = "app"
[[routes]]
name = "uploads"
path = "/slow"
backend = "app"
{share}
[[routes]]
name = "marks"
path = "/marks"
backend = "app"
[routes.spill]
order_by = "none"
delivery = "{delivery}"
max_attempts = 50
"#
        ))
    }
}
