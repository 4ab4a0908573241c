use std::{
    net::Ipv4Addr,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

use super::*;
use crate::{
    envelope::{RequestId, Timestamp},
    telemetry::RequestOutcome,
};

const LONG: Duration = Duration::from_secs(60);

fn entry(target: &str) -> AccessEntry<'_> {
    AccessEntry {
        at: Timestamp::from_millis(1_795_348_800_007),
        client: Ipv4Addr::LOCALHOST.into(),
        method: Some("POST"),
        target: Some(target),
        protocol: Some("HTTP/1.1"),
        host: None,
        status: 202,
        bytes_sent: 17,
        duration: Duration::from_micros(1_250),
        server: None,
        server_time: None,
        backend: Some("admin"),
        route: Some("order-upload"),
        outcome: RequestOutcome::Spilled,
        reason: Some("down"),
        request_id: None,
        user: None,
        referer: None,
        user_agent: None,
    }
}

/// A disk that takes a write only when the test lets it, and then shows it.
struct SlowDisk {
    permits: Receiver<()>,
    written: SyncSender<Vec<u8>>,
}

impl Write for SlowDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.permits.recv().map_err(|_| io::Error::other("gone"))?;
        self.written.send(bytes.to_vec()).map_err(|_| io::Error::other("gone"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for SlowDisk {
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_disk_that_stands_still_costs_lines_and_never_blocks() {
    let (permit, permits) = sync_channel(64);
    let (written, shown) = sync_channel(64);
    let dropped = Counter::default();
    let log = AccessLog::start(SlowDisk { permits, written }, AccessFormat::Json, dropped.clone(), 4).unwrap();

    // The disk takes nothing, so that this loop would never end if a write waited for it.
    (0..100).for_each(|_| log.write(&entry("/")));
    // Up to 64 KiB lie in the writer's hands and four lines in the channel; the rest is gone, and counted.
    (0..1_000).for_each(|_| log.write(&entry("/")));
    (0..64).for_each(|_| permit.try_send(()).unwrap());
    log.flush(LONG);
    drop(log);

    let lines = shown.iter().flatten().filter(|&byte| byte == b'\n').count() as u64;
    assert!(dropped.get() > 0);
    assert_eq!(lines + dropped.get(), 1_100);
}

#[test]
fn a_line_is_one_json_object_whatever_the_client_sent() {
    let mut nasty = entry("/a\"b\\\n{}");
    nasty.user_agent = Some(b"x\xff\"\r\n");
    nasty.request_id = Some(RequestId::from_bytes([7; 16]));
    (nasty.server, nasty.server_time) = (Some("http://127.0.0.1:9001"), Some(Duration::from_millis(1)));
    (nasty.user, nasty.referer) = (Some(&b"jo"[..]), Some(&b"http://a/\xfe"[..]));
    let line = serde_json::to_string(&nasty).unwrap();
    assert!(!line.contains('\n'));
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    let expected = serde_json::json!({
        "timestamp": "2026-11-22T12:00:00.007Z", "client": "127.0.0.1", "method": "POST", "target": "/a\"b\\\n{}", "status": 202,
        "protocol": "HTTP/1.1", "server": "http://127.0.0.1:9001", "server_seconds": 0.001, "user": "jo", "referer": "http://a/\u{fffd}",
        "bytes_sent": 17, "duration_seconds": 0.00125, "backend": "admin", "route": "order-upload", "outcome": "spilled", "reason": "down",
        "id": "07070707-0707-0707-0707-070707070707", "user_agent": "x\u{fffd}\"\r\n",
    });
    assert_eq!(value, expected);
}

#[test]
fn combined_is_that_of_nginx() {
    let written = |entry: &AccessEntry<'_>| {
        let mut line = Vec::new();
        combined::write(entry, &mut line);
        String::from_utf8(line).unwrap()
    };
    let plain = written(&entry("/orders?day=1"));
    assert_eq!(plain, r#"127.0.0.1 - - [22/Nov/2026:12:00:00 +0000] "POST /orders?day=1 HTTP/1.1" 202 17 "-" "-""#);
    let mut nasty = entry("/a\"b\\c\u{e9}");
    nasty.client = "2001:db8::1".parse().unwrap();
    (nasty.user, nasty.referer, nasty.user_agent) = (Some(&b"jo e"[..]), Some(&b"\" 200 0 \"\n"[..]), Some(&b"x\xff\x00~ \x7f"[..]));
    let expected = r#"2001:db8::1 - jo e [22/Nov/2026:12:00:00 +0000] "POST /a\x22b\x5Cc\xC3\xA9 HTTP/1.1" 202 17 "\x22 200 0 \x22\x0A" "x\xFF\x00~ \x7F""#;
    assert_eq!(written(&nasty), expected);
}

#[test]
fn a_reopened_log_leaves_the_rotated_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (path, rotated) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let log = AccessLog::open(&AccessTarget::File(path.clone()), AccessFormat::Json, Counter::default()).unwrap();
    log.write(&entry("/first"));
    log.flush(LONG);
    std::fs::rename(&path, &rotated).unwrap();
    log.reopen();
    log.write(&entry("/second"));
    log.flush(LONG);
    assert!(std::fs::read_to_string(rotated).unwrap().trim_end().lines().eq([serde_json::to_string(&entry("/first")).unwrap()]));
    assert!(std::fs::read_to_string(path).unwrap().trim_end().lines().eq([serde_json::to_string(&entry("/second")).unwrap()]));
}

#[test]
fn a_log_that_cannot_be_written_counts_its_lines() {
    let dropped = Counter::default();
    let log = AccessLog::open(&AccessTarget::File("/dev/full".into()), AccessFormat::Json, dropped.clone()).unwrap();
    log.write(&entry("/"));
    log.flush(LONG);
    assert_eq!(dropped.get(), 1);
}

#[test]
fn a_log_that_is_off_takes_nothing() {
    let log = AccessLog::open(&AccessTarget::Off, AccessFormat::Json, Counter::default()).unwrap();
    assert!(!log.is_on());
    log.write(&entry("/"));
    log.reopen();
    log.flush(LONG);
}
