//! Configurations of tests: one backend named `app`, everything on port 0, and what a test says on top.

use std::fmt::{self, Display};

/// A `config.toml` in the making. What is given are whole TOML lines.
#[derive(Debug, Clone)]
pub struct Site {
    top: String,
    listeners: String,
    clients: String,
    store: String,
    servers: Vec<String>,
    backend: String,
    routes: String,
}

impl Site {
    /// A backend of these servers and no routes yet. One worker thread, so that who shares a thread's connections is no matter of luck.
    pub fn of(servers: &[String]) -> Self {
        Self {
            top: "workers = 1".into(),
            listeners: "[[listeners]]\naddress = \"127.0.0.1:0\"\n".into(),
            clients: String::new(),
            store: "path = \"queue.redb\"\nmin_free_disk = \"1KiB\"".into(),
            servers: servers.to_vec(),
            backend: String::new(),
            routes: String::new(),
        }
    }

    /// Everything streams: one route `/` that never spills.
    pub fn passing(server: String) -> Self {
        Self::of(&[server]).route("all", "/", "")
    }

    /// One route `/` that spills, with these lines in its `spill` table, and no order among its requests.
    pub fn spilling(server: String, spill: &str) -> Self {
        Self::of(&[server]).route("all", "/", &format!("[routes.spill]\norder_by = \"none\"\n{spill}"))
    }

    /// Lines at the top, in place of `workers = 1`.
    pub fn top(mut self, lines: &str) -> Self {
        self.top = lines.into();
        self
    }

    /// One more listener.
    pub fn listener(mut self, address: &str) -> Self {
        self.listeners.push_str(&format!("[[listeners]]\naddress = \"{address}\"\n"));
        self
    }

    /// Lines for the last listener beside its address.
    pub fn listening(mut self, lines: &str) -> Self {
        self.listeners.push_str(&format!("{lines}\n"));
        self
    }

    /// Lines of `[clients]`.
    pub fn clients(mut self, lines: &str) -> Self {
        self.clients = lines.into();
        self
    }

    /// Lines of `[store]`, in place of a `min_free_disk` that any disk has.
    pub fn store(mut self, lines: &str) -> Self {
        self.store = format!("path = \"queue.redb\"\n{lines}");
        self
    }

    /// Lines of `[backends.app]` beside its servers.
    pub fn backend(mut self, lines: &str) -> Self {
        self.backend = lines.into();
        self
    }

    /// One more route to the backend, with these lines after its path.
    pub fn route(mut self, name: &str, path: &str, lines: &str) -> Self {
        self.routes.push_str(&format!("[[routes]]\nname = \"{name}\"\npath = \"{path}\"\nbackend = \"app\"\n{lines}\n"));
        self
    }
}

impl Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { top, listeners, clients, store, servers, backend, routes } = self;
        write!(
            f,
            "{top}\n{listeners}\n[clients]\n{clients}\n[admin]\naddress = \"127.0.0.1:0\"\n[store]\n{store}\n\
             [backends.app]\nservers = {servers:?}\n{backend}\n{routes}"
        )
    }
}

/// The start of a configuration of the backend `legacy`, where all that a test does not care for is as users have it: the workers, and the place of the queue.
/// `top` are lines at the top, and `store` lines of `[store]`. It ends within the backend's table, and routes come behind ([`route`]).
pub fn legacy(server: &str, top: &str, store: &str) -> String {
    format!(
        "{top}\n[[listeners]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n[log]\nlevel = \"debug\"\n\
         [store]\nmin_free_disk = \"0\"\n{store}\n[backends.legacy]\nservers = [{server:?}]\n"
    )
}

/// A route to that backend, with these lines after its path.
pub fn route(name: &str, path: &str, lines: &str) -> String {
    format!("[[routes]]\nname = \"{name}\"\npath = \"{path}\"\nbackend = \"legacy\"\n{lines}\n")
}
