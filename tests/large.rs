//! Many large uploads at once: each is replayed as it was sent, and memory does not grow with them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{
    backend::{self, Backend},
    client,
    program::Program,
    site::Site,
    within,
};

const UPLOADS: usize = 8;
const BYTES: usize = 8_000_000;
/// Memory that an upload may take: the piece that is being written, and what the connection holds. `benches/large.rs` measures it.
const KIB_OF_UPLOAD: u64 = 256;

/// What is touched for the first time whatever their number: code, threads, probes; and the kernel counts only to some 100 KiB. All bodies together have 64 MB.
const KIB_OF_ALL: u64 = 4096;

/// How many are replayed at a time.
const REPLAYS: u64 = 2;

/// Bytes of which no two uploads, and no two pieces of one, are alike.
fn content(number: usize, bytes: usize) -> Vec<u8> {
    let mut state = number as u64 + 1;
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        content.extend_from_slice(&state.to_be_bytes());
    }
    content.truncate(bytes);
    content
}

/// Queues so many at once. What each sent.
async fn upload(program: &Program, uploads: usize, bytes: usize) -> Vec<Vec<u8>> {
    let contents: Vec<_> = (0..uploads).map(|number| content(number, bytes)).collect();
    let address = program.proxy();
    let requests = contents.iter().map(|content| client::request("POST", "/", &[], content));
    let sent: Vec<_> = requests.map(|request| tokio::spawn(async move { client::fetch(address, request).await.status })).collect();
    for sent in sent {
        assert_eq!(within("an upload to be queued", sent).await.unwrap(), 202);
    }
    contents
}

/// Waits until so many have been delivered.
async fn delivered(program: &Program, count: usize) {
    let delivered = async { while program.status().await["totals"]["delivered"] != count {} };
    within("all to be delivered", delivered).await;
}

#[tokio::test]
async fn large_uploads_at_once_take_little_memory_and_are_replayed_byte_for_byte() {
    let mut backend = Backend::start().await;
    backend.otherwise(|_| backend::answer(200, &[], ""));
    let spill = "when = \"always\"";
    let site = Site::spilling(backend.url(), spill).backend(&format!("replay = {{ profile = \"fixed\", concurrency = {REPLAYS} }}"));
    let program = Program::start(&site.to_string()).await;
    // The first ones pay for threads and tables.
    upload(&program, UPLOADS, 1_500_000).await;
    delivered(&program, UPLOADS).await;
    backend.stop().await;
    program.forget_peak();
    let (before, threads) = (program.peak_kib(), program.threads().len());
    let contents = upload(&program, UPLOADS, BYTES).await;
    let grown = program.peak_kib().saturating_sub(before);
    assert!(grown <= UPLOADS as u64 * KIB_OF_UPLOAD + KIB_OF_ALL, "{UPLOADS} uploads took {grown} KiB");
    // Pieces are carried by the same few threads, and each upload waits for the disk once, at its end.
    let after = program.threads();
    let carriers = after.iter().filter(|name| *name == "payload").count();
    assert!((1..=4).contains(&carriers) && after.len() <= threads + UPLOADS, "{threads} threads before, and then {after:?}");
    program.forget_peak();
    let before = program.peak_kib();
    backend.start_again().await;
    delivered(&program, 2 * UPLOADS).await;
    let grown = program.peak_kib().saturating_sub(before);
    assert!(grown <= REPLAYS * KIB_OF_UPLOAD + KIB_OF_ALL, "{REPLAYS} replays at a time took {grown} KiB");
    let mut arrived: Vec<_> =
        backend.requests().into_iter().map(|request| request.body.content).filter(|body| body.len() == BYTES).collect();
    let mut sent = contents;
    arrived.sort_unstable();
    sent.sort_unstable();
    assert!(arrived == sent, "what arrived is not what was sent");
}
