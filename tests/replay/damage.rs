//! A payload that was damaged on disk is set aside, and the rest goes on.

use std::{fs, path::Path};

use crate::{
    CHECKED,
    common::{backend::Backend, client, program::Program},
    configuration, drained, outcome, queue, take_down, targets, writes,
};

/// Flips one bit in the middle of the one place under `directory` where `content` stands.
fn damage(directory: &Path, content: &[u8]) {
    let mut found = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damage(&path, content);
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(content.len()).position(|window| window == content) {
            bytes[at + content.len() / 2] ^= 1;
            fs::write(&path, bytes).unwrap();
            found += 1;
        }
    }
    assert_eq!(found, 1, "{} holds it once", directory.display());
}

#[tokio::test]
async fn a_flipped_bit_costs_the_request_that_it_is_in_and_no_other() {
    let mut backend = Backend::start().await;
    let mut program = Program::start(&configuration(&backend, CHECKED, &writes("order_by = \"none\""))).await;
    take_down(&mut backend, &program).await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(queue(&program, client::request("POST", &format!("/w/{number}"), &[], format!("content of number {number}"))).await);
    }
    let large: Vec<u8> = (0..400_000_u32).flat_map(u32::to_le_bytes).collect();
    ids.push(queue(&program, client::request("POST", "/w/5", &[], &large)).await);
    assert!(program.terminate().await.success());
    let payloads = program.path("data/forebay.redb.payloads");
    damage(&payloads, b"content of number 2");
    damage(&payloads, &300_000_u32.to_le_bytes().map(|byte| byte).into_iter().chain(300_001_u32.to_le_bytes()).collect::<Vec<_>>());

    backend.start_again().await;
    program.run().await;
    let totals = drained(&program).await;
    assert_eq!((&totals["delivered"], &totals["dead"]), (&4.into(), &2.into()));
    for (number, id) in ids.iter().enumerate() {
        let seen = outcome(&program, id).await;
        let expected = if [2, 5].contains(&number) { ("dead", "damaged") } else { ("delivered", "down") };
        assert_eq!((seen["state"].as_str().unwrap(), seen["reason"].as_str().unwrap()), expected, "{number}");
    }
    assert_eq!(program.status().await["store"]["damaged"], 2);
    let mut whole: Vec<_> = backend.requests().into_iter().filter(|request| request.body.complete).map(|request| request.target).collect();
    whole.retain(|target| target.starts_with("/w/"));
    whole.sort();
    assert_eq!(whole, ["/w/0", "/w/1", "/w/3", "/w/4"]);
    assert!(targets(&backend).len() <= 5);
}
