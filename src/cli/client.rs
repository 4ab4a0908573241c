//! Asks a running forebay through its admin API: a small HTTP/1.1 client, one connection per question.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST},
    uri::Authority,
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::TcpStream, time};

use super::render;
use crate::admin::{self, Problem};

/// Where an admin listener is unless something says otherwise.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(5);

/// Time for a whole answer: a redrive of a million dead letters takes a while.
const ANSWER: Duration = Duration::from_secs(300);

/// Bytes of an answer: a page of a thousand requests is far below.
const ANSWER_MAX: usize = 64 << 20;

/// Which forebay is asked, and as whom.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Connect {
    /// Admin address of the running forebay, such as http://127.0.0.1:8081
    #[arg(long, value_name = "URL", env = "FOREBAY_ADMIN")]
    pub admin: Option<String>,
    /// File that holds the bearer token of its admin API
    #[arg(long, value_name = "FILE", env = "FOREBAY_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
}

/// Why there is no answer. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// What was given as the address is not one.
    #[error("{0:?} is not the address of an admin listener: expected one such as http://127.0.0.1:8081")]
    Address(String),
    /// Only plain HTTP is spoken.
    #[error("{0:?}: the admin listener speaks plain HTTP; reach a distant one through a tunnel, such as `ssh -L 8081:127.0.0.1:8081 HOST`")]
    Tls(String),
    /// The token cannot be used.
    #[error("{path}: {why}")]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody listens there.
    #[error("no forebay answers at http://{address}: is it running? ({why}) Another address is given with --admin URL or FOREBAY_ADMIN")]
    NoAnswer {
        /// Where.
        address: Authority,
        /// What happened.
        why: String,
    },
    /// Whoever listens there is not a forebay.
    #[error("http://{address} answers, but not as a forebay does ({why}): is that the admin address?")]
    Stranger {
        /// Where.
        address: Authority,
        /// What came.
        why: String,
    },
    /// The token is missing or wrong.
    #[error("forebay at http://{0} wants its bearer token: give the file that holds it with --token-file FILE or FOREBAY_TOKEN_FILE")]
    Unauthorized(Authority),
    /// It said no.
    #[error("forebay refused: {} ({} {})", .0.detail, .0.status, .0.title)]
    Refused(Problem),
    /// This machine cannot even ask.
    #[error("cannot run: {0}")]
    Runtime(#[from] io::Error),
}

impl ClientError {
    /// 2 for wrong usage, 1 for whatever else went wrong.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Address(_) | Self::Tls(_) | Self::Token { .. } => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Asks one forebay.
#[derive(Debug, Clone)]
pub struct Client {
    address: Authority,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// The forebay that the flags name, else the configured one, else the one at the default address. A configured token goes to
    /// the configured address alone.
    pub fn new(connect: &Connect, configured: Option<&admin::Settings>) -> Result<Self, ClientError> {
        let configured_address = reachable(configured.map_or(DEFAULT, |settings| settings.address));
        let given = connect.admin.as_deref().map(authority).transpose()?;
        let home = authority(&configured_address.to_string())?;
        let token = match &connect.token_file {
            Some(path) => Some(read_token(path)?),
            None if given.as_ref().is_none_or(|given| *given == home) => configured.and_then(|settings| settings.token.clone()),
            None => None,
        };
        let authorization = token.map(|token| HeaderValue::try_from(format!("Bearer {token}"))).transpose().map_err(|_| {
            let path = connect.token_file.clone().unwrap_or_else(|| "admin.token_file".into());
            ClientError::Token { path, why: "the token holds characters that no HTTP header can carry".into() }
        })?;
        Ok(Self { address: given.unwrap_or(home), authorization })
    }

    /// What is at `path`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// What `path` answers to `body`.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(io::Error::from)?;
        self.ask(Method::POST, path, body.into()).await
    }

    /// What `path` answers to being set to `body`.
    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(io::Error::from)?;
        self.ask(Method::PUT, path, body.into()).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, ClientError> {
        let host = self.address.host().trim_start_matches('[').trim_end_matches(']');
        let port = self.address.port_u16().unwrap_or(80);
        let stream = match time::timeout(CONNECT, TcpStream::connect((host, port))).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.no_answer(error)),
            Err(_) => return Err(self.no_answer(format_args!("no connection within {} s", CONNECT.as_secs()))),
        };
        let answer = time::timeout(ANSWER, self.exchange(stream, method, path, body)).await;
        let (status, body) = answer.unwrap_or_else(|_| Err(self.no_answer(format_args!("no answer within {} s", ANSWER.as_secs()))))?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| self.stranger(error));
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(_) if status == StatusCode::UNAUTHORIZED => Err(ClientError::Unauthorized(self.address.clone())),
            Ok(problem) => Err(ClientError::Refused(problem)),
            Err(_) => Err(self.stranger(format_args!("{status} to {path}"))),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "collected through Limited")]
    async fn exchange(&self, stream: TcpStream, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), ClientError> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.no_answer(error))?;
        let mut request =
            Request::builder().method(&method).uri(path).header(HOST, self.address.as_str()).header(ACCEPT, "application/json");
        if method != Method::GET {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(body)).map_err(|error| self.no_answer(error))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| self.stranger(error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(|error| self.stranger(error))?;
            Ok((head.status, body.to_bytes()))
        };
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            // The connection may end together with the answer, which is then still to be read.
            _ = connection => answer.await,
        }
    }

    fn no_answer(&self, why: impl std::fmt::Display) -> ClientError {
        ClientError::NoAnswer { address: self.address.clone(), why: why.to_string() }
    }

    fn stranger(&self, why: impl std::fmt::Display) -> ClientError {
        ClientError::Stranger { address: self.address.clone(), why: why.to_string() }
    }
}

/// Runs a command that asks, prints what it found to stdout or why it failed to stderr, and gives its exit code.
pub fn run(command: impl Future<Output = Result<String, ClientError>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(ClientError::from).and_then(|runtime| runtime.block_on(command));
    match result.and_then(|text| Ok(render::print(&text)?)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            render::complain(&error);
            error.exit_code()
        }
    }
}

/// A path with a query of the parameters that are there.
pub fn with_query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut target = path.to_owned();
    for (name, value) in parameters.iter().filter_map(|&(name, value)| Some((name, value?))) {
        target.push(if target.len() == path.len() { '?' } else { '&' });
        target.push_str(name);
        target.push('=');
        target.push_str(&escaped(value));
    }
    target
}

/// Text as a part of a target: all but unreserved characters (RFC 3986 section 2.3) by their numbers.
pub(super) fn escaped(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

fn authority(text: &str) -> Result<Authority, ClientError> {
    if text.starts_with("https:") {
        return Err(ClientError::Tls(text.to_owned()));
    }
    let rest = text.strip_prefix("http://").unwrap_or(text);
    let authority = rest.strip_suffix('/').unwrap_or(rest).parse::<Authority>().ok();
    let usable = authority.filter(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'));
    usable.ok_or_else(|| ClientError::Address(text.to_owned()))
}

/// Where a listener can be reached from this machine: one that listens everywhere, through loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()),
        _ => address,
    }
}

fn read_token(path: &PathBuf) -> Result<String, ClientError> {
    let wrong = |why: String| ClientError::Token { path: path.clone(), why };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let token = text.trim();
    if token.is_empty() { Err(wrong("the file holds no token".into())) } else { Ok(token.to_owned()) }
}

#[cfg(test)]
mod tests;
