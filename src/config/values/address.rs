//! Addresses: where we listen, where servers are, and whom we believe.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use http::Uri;
use ipnet::IpNet;
use serde_json::{Value as Json, json};

use crate::{
    backend::{Fingerprint, Place, ServerAddress},
    config::{read::Value, units::Wrong},
    proxy::ListenAddress,
};

/// Longest path of a unix socket: `sun_path` has 108 bytes on Linux, the last of them 0.
const UNIX_PATH_MAX: usize = 107;

impl Value for ListenAddress {
    const NOUN: &'static str = "an address to listen on";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^(unix:.+|.+:[0-9]+)$", "examples": ["127.0.0.1:8080", "[::1]:8080", "unix:/run/forebay.sock"] })
    }

    fn show(&self) -> Json {
        self.to_string().into()
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        match text.strip_prefix("unix:") {
            Some(path) => unix(path).map(Self::Unix),
            None => SocketAddr::text(text).map(Self::Tcp),
        }
    }

    fn integer(integer: i64) -> Result<Self, Wrong> {
        SocketAddr::integer(integer).map(Self::Tcp)
    }
}

impl Value for SocketAddr {
    const NOUN: &'static str = "an IP address and port";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^.+:[0-9]+$", "examples": ["127.0.0.1:8081", "[::1]:8081"] })
    }

    fn show(&self) -> Json {
        self.to_string().into()
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        if let Ok(address) = text.parse() {
            return Ok(address);
        }
        let wrong = Wrong::because("not an IP address and port");
        if text.starts_with("unix:") {
            return Err(
                Wrong::because("a unix socket cannot be used here").help("write an IP address and port, such as \"127.0.0.1:8081\"")
            );
        }
        if let Some((_, rest)) = text.split_once("://") {
            return Err(wrong.help(format!("an address has no scheme: write \"{rest}\"")));
        }
        if text.parse::<u16>().is_ok() {
            return Err(Wrong::because("the IP address is missing")
                .help(format!("write \"127.0.0.1:{text}\", or \"0.0.0.0:{text}\" for every interface")));
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(wrong.help("an IPv6 address stands in brackets and its port behind them, as in \"[::1]:8080\""));
        }
        if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Err(Wrong::because("the port is missing").help(format!("write \"{}\"", SocketAddr::new(ip, 8080))));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(wrong.help("write it as \"127.0.0.1:8080\""));
        };
        if port.parse::<u16>().is_err() {
            return Err(Wrong::because("the port must be a number from 0 to 65535"));
        }
        Err(match host {
            "" | "*" => Wrong::because("the IP address is missing").help(format!("write \"0.0.0.0:{port}\" for every interface")),
            "localhost" => Wrong::because("a name is not an address").help(format!("write \"127.0.0.1:{port}\"")),
            _ if host.parse::<Ipv6Addr>().is_ok() => wrong.help(format!("an IPv6 address stands in brackets: write \"[{host}]:{port}\"")),
            _ => wrong.help("write an IP address that this machine has, or \"0.0.0.0\" for every interface"),
        })
    }

    fn integer(integer: i64) -> Result<Self, Wrong> {
        Err(Wrong::because("the IP address is missing").help(format!("write \"127.0.0.1:{integer}\"")))
    }
}

impl Value for ServerAddress {
    const NOUN: &'static str = "the address of a server";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^(https?://[^/?#@]+/?|unix:.+)$", "examples": ["http://127.0.0.1:9001", "https://orders.internal:8443", "unix:/run/app.sock"] })
    }

    fn show(&self) -> Json {
        self.to_string().into()
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path).map(|path| Self::plain(Place::Unix(path)));
        }
        let form = "write it as \"http://HOST:PORT\" or \"unix:/PATH\"";
        if text.starts_with("http://unix:") {
            return Err(Wrong::because("a unix socket has no scheme").help("write \"unix:/PATH\""));
        }
        let lower = text.to_ascii_lowercase();
        let tls = lower.starts_with("https://");
        if !tls && !lower.starts_with("http://") {
            let wrong = Wrong::because("the scheme must be `http://` or `https://`");
            return Err(if text.contains("://") || text.is_empty() {
                wrong.help(form)
            } else {
                wrong.help(format!("write \"http://{text}\""))
            });
        }
        let uri: Uri = text.parse().map_err(|_| Wrong::because("not a URL").help(form))?;
        let authority = uri
            .authority()
            .filter(|authority| !authority.host().is_empty())
            .ok_or_else(|| Wrong::because("the host is missing").help(form))?;
        if authority.as_str().contains('@') {
            return Err(Wrong::because("a server has no user or password").help("clients' own Authorization is passed on"));
        }
        if uri.path() != "/" || uri.query().is_some() || text.contains('#') {
            let scheme = if tls { "https" } else { "http" };
            let help = format!("paths are passed on as they come: write \"{scheme}://{authority}\"");
            return Err(Wrong::because("a server has no path").help(help));
        }
        let port = port(authority, if tls { 443 } else { 80 })?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let place = match host.parse() {
            Ok(ip) => Place::Tcp(SocketAddr::new(ip, port)),
            Err(_) => Place::Name(name(host)?, port),
        };
        Ok(Self { place, tls })
    }
}

impl Value for Fingerprint {
    const NOUN: &'static str = "a fingerprint";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^([0-9a-fA-F]{2}:?){31}[0-9a-fA-F]{2}$", "examples": ["ab".repeat(32)] })
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        Self::parse(text).ok_or_else(|| {
            Wrong::because("not a SHA-256 in 64 hexadecimal digits")
                .help("print it with: openssl x509 -noout -fingerprint -sha256 -in server.crt")
        })
    }
}

impl Value for IpNet {
    const NOUN: &'static str = "an IP address or network";

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9a-fA-F.:]+(/[0-9]+)?$", "examples": ["10.0.0.0/8", "192.0.2.7", "fd00::/8"] })
    }

    fn show(&self) -> Json {
        self.to_string().into()
    }

    fn text(text: &str) -> Result<Self, Wrong> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(ip.into());
        }
        let net: Self =
            text.parse().map_err(|_| Wrong::because("not an IP address or network").help("write it as \"10.0.0.0/8\" or \"192.0.2.7\""))?;
        // The bits behind the prefix are a sign that another network was meant.
        if net.trunc() != net {
            let help = format!("write \"{}\" for the network, or \"{}\" for the one address", net.trunc(), net.addr());
            return Err(Wrong::because("the address has bits behind its prefix").help(help));
        }
        Ok(net)
    }
}

fn unix(path: &str) -> Result<PathBuf, Wrong> {
    match path {
        "" => Err(Wrong::because("the path of the socket is missing").help("write it as \"unix:/run/forebay.sock\"")),
        _ if path.starts_with("//") => {
            Err(Wrong::because("a unix socket is not a URL").help(format!("write \"unix:/{}\"", path.trim_start_matches('/'))))
        }
        _ if path.contains('\0') => Err(Wrong::because("a path has no NUL")),
        _ if path.len() > UNIX_PATH_MAX => {
            Err(Wrong::because(format!("the path of a socket has at most {UNIX_PATH_MAX} bytes, this has {}", path.len())))
        }
        _ => Ok(path.into()),
    }
}

/// The port behind the host of an authority without a user. Read here, since [`http::uri::Authority`] takes a port that is too large for none.
fn port(authority: &http::uri::Authority, usual: u16) -> Result<u16, Wrong> {
    let behind = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    if behind.is_empty() {
        return Ok(usual);
    }
    match behind.strip_prefix(':').map(str::parse) {
        Some(Ok(0)) => Err(Wrong::because("port 0 is no port of a server")),
        Some(Ok(port)) => Ok(port),
        _ => Err(Wrong::because("the port must be a number from 1 to 65535")),
    }
}

/// A host name as resolvers take it (RFC 1123 section 2.1; `_` is met in container networks).
fn name(host: &str) -> Result<String, Wrong> {
    let label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        (1..=63).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    // What ends in a number was meant as an IPv4 address.
    let numeric = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    let trimmed = host.strip_suffix('.').unwrap_or(host);
    if numeric || host.len() > 253 || !trimmed.split('.').all(label) {
        return Err(Wrong::because(format!("`{host}` is neither an IP address nor a host name")));
    }
    Ok(host.to_ascii_lowercase())
}
