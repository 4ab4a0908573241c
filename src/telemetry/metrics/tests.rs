use super::*;
use crate::telemetry::{AgeGauges, BackendGauges, RefusalGauges, ReplayGauges, StoreGauges, Word};

fn value<'a>(text: &'a str, series: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
}

fn gauges() -> Gauges {
    let backend = BackendGauges {
        name: "admin".into(),
        queued: 3,
        delivering: 1,
        dead: 2,
        bytes: 4096,
        oldest_age: Duration::from_millis(1_500),
        breaker: vec![("passing", false), ("shedding", true), ("probing", false)],
        concurrency_limit: Some(20),
        in_flight: Some(1),
        waiting: Some(3),
        words: [(Word::Mode, "auto"), (Word::LimitWhy, "slow"), (Word::Ramp, "growing"), (Word::Hold, "window")]
            .map(|(word, value)| (word, value.into()))
            .to_vec(),
        slowdown: Some(2.25),
        base_latencies: vec![("order-upload".into(), "unsafe", 2.5)],
        replay: Some(ReplayGauges {
            window: 7,
            in_flight: 1,
            growing_keys: 3,
            drained_in: Some(90.0),
            slowdown: Some(1.25),
            paused: true,
            rate: 12.5,
            estimate_ratio: Some(0.75),
            ..ReplayGauges::default()
        }),
    };
    let store = StoreGauges {
        requests: 4,
        max_requests: u64::MAX,
        free_disk: Some(9),
        refusals: ["max_requests", "max_bytes", "min_free_disk"].map(|limit| RefusalGauges { limit, refused: 5, refusing: true }),
        ages: ["max_age", "keep_delivered", "keep_dead"].map(|limit| AgeGauges {
            limit,
            requests: 4,
            next_in: (limit == "max_age").then_some(1.5),
            next_requests: 2,
        }),
        ..StoreGauges::default()
    };
    Gauges { backends: vec![backend], store: Some(store) }
}

#[test]
fn every_name_of_the_contract_is_exposed() {
    let metrics = Metrics::new();
    let route = metrics.route("admin", "order-upload");
    route.request(RequestOutcome::Passed, Duration::from_millis(3));
    route.spilled(Reason::Down);
    route.attempt(AttemptOutcome::Again, Duration::from_millis(3));
    route.dead(DeadReason::Expired);
    metrics.store().committed(8, Duration::from_millis(2));
    metrics.estimated(&"admin".into(), 1.2);
    let text = metrics.encode(&gauges()).unwrap();
    let there = [
        ("forebay_requests_total{backend=\"admin\",route=\"order-upload\",outcome=\"passed\"}", "1"),
        ("forebay_request_duration_seconds_count{route=\"order-upload\",outcome=\"passed\"}", "1"),
        ("forebay_request_duration_seconds_sum{route=\"order-upload\",outcome=\"passed\"}", "0.003"),
        ("forebay_spilled_total{backend=\"admin\",route=\"order-upload\",reason=\"down\"}", "1"),
        ("forebay_replay_attempts_total{backend=\"admin\",route=\"order-upload\",outcome=\"again\"}", "1"),
        ("forebay_replay_attempt_duration_seconds_count{route=\"order-upload\",outcome=\"again\"}", "1"),
        ("forebay_dead_letters_total{backend=\"admin\",route=\"order-upload\",reason=\"expired\"}", "1"),
        ("forebay_dead_letters_total{backend=\"admin\",route=\"order-upload\",reason=\"poison\"}", "0"),
        ("forebay_queue_requests{backend=\"admin\",state=\"queued\"}", "3"),
        ("forebay_queue_requests{backend=\"admin\",state=\"delivering\"}", "1"),
        ("forebay_queue_dead_letters{backend=\"admin\"}", "2"),
        ("forebay_queue_bytes{backend=\"admin\"}", "4096"),
        ("forebay_queue_oldest_age_seconds{backend=\"admin\"}", "1.5"),
        ("forebay_breaker_state{backend=\"admin\",state=\"shedding\"}", "1"),
        ("forebay_breaker_state{backend=\"admin\",state=\"passing\"}", "0"),
        ("forebay_concurrency_limit{backend=\"admin\"}", "20"),
        ("forebay_in_flight{backend=\"admin\"}", "1"),
        ("forebay_waiting{backend=\"admin\"}", "3"),
        ("forebay_mode{backend=\"admin\",mode=\"auto\"}", "1"),
        ("forebay_concurrency_limit_why{backend=\"admin\",why=\"slow\"}", "1"),
        ("forebay_replay_ramp{backend=\"admin\",ramp=\"growing\"}", "1"),
        ("forebay_replay_hold{backend=\"admin\",hold=\"window\"}", "1"),
        ("forebay_replay_paused{backend=\"admin\"}", "1"),
        ("forebay_replay_slowdown_ratio{backend=\"admin\"}", "1.25"),
        ("forebay_replay_rate{backend=\"admin\"}", "12.5"),
        ("forebay_replay_last_estimate_ratio{backend=\"admin\"}", "0.75"),
        ("forebay_slowdown_ratio{backend=\"admin\"}", "2.25"),
        ("forebay_base_latency_seconds{backend=\"admin\",route=\"order-upload\",methods=\"unsafe\"}", "2.5"),
        ("forebay_replay_window{backend=\"admin\"}", "7"),
        ("forebay_replay_in_flight{backend=\"admin\"}", "1"),
        ("forebay_replay_slow_start{backend=\"admin\"}", "0"),
        ("forebay_replay_held{backend=\"admin\"}", "0"),
        ("forebay_queue_growing{backend=\"admin\"}", "0"),
        ("forebay_queue_growing_keys{backend=\"admin\"}", "3"),
        ("forebay_auth_expired_flood{backend=\"admin\"}", "0"),
        ("forebay_queue_drained_in_seconds{backend=\"admin\"}", "90.0"),
        ("forebay_replay_estimate_ratio_bucket{le=\"1.1\",backend=\"admin\"}", "0"),
        ("forebay_replay_estimate_ratio_bucket{le=\"1.25\",backend=\"admin\"}", "1"),
        ("forebay_replay_estimate_ratio_sum{backend=\"admin\"}", "1.2"),
        ("forebay_store_commit_seconds_count", "1"),
        ("forebay_store_batch_size_sum", "8.0"),
        ("forebay_store_requests", "4"),
        ("forebay_store_max_requests", "9223372036854775807"),
        ("forebay_store_free_disk_bytes", "9"),
        ("forebay_store_refused_total{limit=\"max_requests\"}", "5"),
        ("forebay_store_refusing{limit=\"min_free_disk\"}", "1"),
        ("forebay_store_aging_requests{limit=\"keep_dead\"}", "4"),
        ("forebay_store_next_aged_seconds{limit=\"max_age\"}", "1.5"),
        ("forebay_store_next_aged_requests{limit=\"max_age\"}", "2"),
        ("forebay_config_last_reload_successful", "1"),
        ("forebay_access_log_dropped_total", "0"),
        (concat!("forebay_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), "1"),
    ];
    for (series, expected) in there {
        assert_eq!(value(&text, series), Some(expected), "{series} in\n{text}");
    }
}

/// The grammar of a line, as far as a scraper would stumble over it.
#[test]
fn the_exposition_reads_as_openmetrics() {
    let metrics = Metrics::new();
    let _handles = metrics.route("a\"b\\c\nd", "r");
    let text = metrics.encode(&gauges()).unwrap();
    let mut families = std::collections::HashSet::new();
    let mut current = String::new();
    for line in text.strip_suffix("# EOF\n").unwrap().lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            current = rest.split(' ').next().unwrap().to_owned();
            assert!(families.insert(current.clone()), "{current} is declared twice");
        } else if !line.starts_with('#') {
            assert!(current.starts_with("forebay_") && line.starts_with(&current), "{line} stands under {current}");
            let (series, number) = line.rsplit_once(' ').unwrap();
            assert!(number.parse::<f64>().is_ok(), "{line}");
            assert_eq!(series.contains('{'), series.ends_with('}'), "{line}");
        }
    }
    assert!(text.contains("backend=\"a\\\"b\\\\c\\nd\""));
}

#[test]
fn the_handles_of_one_route_count_together() {
    let metrics = Metrics::new();
    metrics.route("app", "marks").spilled(Reason::Order);
    metrics.route("app", "marks").clone().spilled(Reason::Order);
    let text = metrics.encode(&Gauges::default()).unwrap();
    assert_eq!(value(&text, "forebay_spilled_total{backend=\"app\",route=\"marks\",reason=\"order\"}"), Some("2"));
}

#[test]
fn a_backend_that_is_gone_leaves_no_series() {
    let metrics = Metrics::new();
    assert!(metrics.encode(&gauges()).unwrap().contains("forebay_in_flight{backend=\"admin\"}"));
    assert!(!metrics.encode(&Gauges::default()).unwrap().contains("forebay_in_flight{"));
}

#[test]
fn a_failed_reload_shows_until_the_next_good_one() {
    let metrics = Metrics::new();
    for successful in [false, true] {
        metrics.reloaded(successful);
        let text = metrics.encode(&Gauges::default()).unwrap();
        assert_eq!(value(&text, "forebay_config_last_reload_successful"), Some(if successful { "1" } else { "0" }));
    }
}
