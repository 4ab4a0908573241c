//! What a line says.

use std::{net::IpAddr, time::Duration};

use serde::{Serialize, Serializer};

use crate::{
    envelope::{RequestId, Timestamp},
    telemetry::RequestOutcome,
};

/// One answered request. Fields that are `None` are left out of the line.
#[derive(Debug, Clone, Serialize)]
pub struct AccessEntry<'a> {
    /// When its head arrived.
    #[serde(rename = "timestamp", serialize_with = "display")]
    pub at: Timestamp,
    /// The client's address; behind trusted proxies the one that they name.
    pub client: IpAddr,
    /// Its method; none where what came could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'a str>,
    /// Its request target, as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<&'a str>,
    /// Its protocol, such as `HTTP/1.1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<&'static str>,
    /// Its `Host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<&'a str>,
    /// The status that it was answered with.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes_sent: u64,
    /// Time from its head to the end of its answer.
    #[serde(rename = "duration_seconds", serialize_with = "seconds")]
    pub duration: Duration,
    /// The server whose answer, or failure to answer, it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<&'a str>,
    /// Time from its head to the head of that server's answer, waiting for a seat included.
    #[serde(rename = "server_seconds", skip_serializing_if = "Option::is_none", serialize_with = "some_seconds")]
    pub server_time: Option<Duration>,
    /// The backend of its route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<&'a str>,
    /// Its route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<&'a str>,
    /// How it ended.
    #[serde(serialize_with = "outcome")]
    pub outcome: RequestOutcome,
    /// Why it was queued or refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// Its identity in the queue, if it was queued.
    #[serde(rename = "id", skip_serializing_if = "Option::is_none", serialize_with = "display_some")]
    pub request_id: Option<RequestId>,
    /// The user that its `Authorization` names, where that is `Basic`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "lossy")]
    pub user: Option<&'a [u8]>,
    /// Its `Referer`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "lossy")]
    pub referer: Option<&'a [u8]>,
    /// Its `User-Agent`, byte for byte; what is not UTF-8 in it is shown as U+FFFD.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "lossy")]
    pub user_agent: Option<&'a [u8]>,
}

fn display<S: Serializer>(value: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn display_some<S: Serializer>(value: &Option<impl std::fmt::Display>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

fn seconds<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(value.as_secs_f64())
}

fn some_seconds<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    seconds(&value.unwrap_or_default(), serializer)
}

fn outcome<S: Serializer>(value: &RequestOutcome, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.as_str())
}

fn lossy<S: Serializer>(value: &Option<&[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&String::from_utf8_lossy(value.unwrap_or_default()))
}
