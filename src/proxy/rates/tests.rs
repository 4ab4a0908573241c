use std::num::NonZeroU32;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use order::Rule;

use super::*;
use crate::{envelope::Rate, telemetry::Metrics};

fn limit(count: u32, seconds: u64, burst: u32, by: Vec<Rule>) -> Limit {
    let rate = Rate { count: NonZeroU32::new(count).unwrap(), per: Duration::from_secs(seconds) };
    let settings = RateLimit { rate, burst: NonZeroU32::new(burst).unwrap(), by };
    Limit::new(settings, Metrics::new().clients().rate_limited(""))
}

/// A request of this client with a header field `k`.
fn ask(limit: &Limit, ip: &str, value: Option<&str>) -> Result<(), Duration> {
    let fields = value.map(|value| (HeaderName::from_static("k"), HeaderValue::from_str(value).unwrap()));
    let (uri, headers) = (Uri::from_static("/a"), HeaderMap::from_iter(fields));
    limit.take(Subject { uri: &uri, headers: &headers, client_ip: ip.parse().unwrap() })
}

#[tokio::test(start_paused = true)]
async fn a_client_has_its_burst_at_once_and_then_its_rate() {
    let limit = limit(2, 1, 3, vec![Rule::ClientIp]);
    for _ in 0..3 {
        ask(&limit, "192.0.2.1", None).unwrap();
    }
    assert_eq!(ask(&limit, "192.0.2.1", None), Err(Duration::from_millis(500)));
    assert_eq!(ask(&limit, "192.0.2.1", None), Err(Duration::from_millis(500)), "who asks too often is not punished for it");
    ask(&limit, "192.0.2.2", None).unwrap();
    tokio::time::advance(Duration::from_millis(500)).await;
    ask(&limit, "192.0.2.1", None).unwrap();
    assert!(ask(&limit, "192.0.2.1", None).is_err());
    tokio::time::advance(Duration::from_secs(60)).await;
    for _ in 0..3 {
        ask(&limit, "192.0.2.1", None).unwrap();
    }
    assert!(ask(&limit, "192.0.2.1", None).is_err(), "a long silence saves up no more than the burst");
}

#[tokio::test(start_paused = true)]
async fn a_network_of_ipv6_is_one_client_and_an_address_of_ipv4_in_it_is_its_own() {
    let limit = limit(1, 60, 1, Vec::new());
    ask(&limit, "2001:db8:1:2::1", None).unwrap();
    assert!(ask(&limit, "2001:db8:1:2:ffff::9", None).is_err());
    ask(&limit, "2001:db8:1:3::1", None).unwrap();
    ask(&limit, "::ffff:192.0.2.1", None).unwrap();
    ask(&limit, "::ffff:192.0.2.2", None).unwrap();
    assert!(ask(&limit, "192.0.2.1", None).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_client_may_be_known_by_what_its_request_says_and_else_by_its_address() {
    let limit = limit(1, 60, 1, vec![Rule::Header("k".parse().unwrap())]);
    ask(&limit, "192.0.2.1", Some("a")).unwrap();
    ask(&limit, "192.0.2.1", Some("b")).unwrap();
    assert!(ask(&limit, "192.0.2.2", Some("a")).is_err());
    ask(&limit, "192.0.2.1", None).unwrap();
    assert!(ask(&limit, "192.0.2.1", None).is_err());
}

#[tokio::test(start_paused = true)]
async fn however_many_come_memory_is_bounded_and_nobody_who_is_known_is_forgotten_too_soon() {
    let limit = limit(1, 60, 2, Vec::new());
    ask(&limit, "192.0.2.1", None).unwrap();
    ask(&limit, "192.0.2.1", None).unwrap();
    let flood = |from: u32| {
        (0..3 * (MOST * SHARDS) as u32)
            .filter(|at| ask(&limit, &std::net::Ipv4Addr::from_bits(from + at).to_string(), None).is_ok())
            .count()
    };
    let let_in = flood(0x0a00_0000);
    assert!(let_in < 2 * MOST * SHARDS, "newcomers share what is left: {let_in}");
    assert!(ask(&limit, "192.0.2.1", None).is_err());
    tokio::time::advance(Duration::from_secs(120)).await;
    ask(&limit, "198.51.100.1", None).unwrap();
    assert!(flood(0x0b00_0000) >= MOST * SHARDS, "who has been quiet makes room");
    let kept: usize = limit.limiter.into_state_store().shards.iter().map(|shard| shard.lock().full_at.len()).sum();
    assert!(kept <= (MOST + SHARED as usize) * SHARDS, "{kept}");
}
