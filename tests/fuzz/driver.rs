//! Mutated inputs for whatever parses bytes of ours: no coverage and no nightly compiler, but seeds, a dictionary, and what was accepted before.
//!
//! A run of the tests makes a fixed number of inputs from a fixed seed. `FUZZ_SECONDS=600 cargo test --release --lib fuzz_` makes as many as that time
//! takes, for each target, from a new seed. Whatever fails prints its seed, its number and its input; `FUZZ_SEED=N` starts from that seed again.

use std::time::{Duration, Instant};

/// Inputs of a short run.
const SHORT: u64 = 5000;
/// Accepted inputs that are kept to start from.
const MOST_KEPT: usize = 256;
/// Bytes that an input grows to at most.
const LONGEST: usize = 8192;

/// Gives `check` one input after the other. `seeds` are whole inputs to start from, `words` are put in here and there. `check` panics at what must not be, and
/// says whether the input was accepted, which makes it one to start from.
pub(crate) fn run(seeds: &[&[u8]], words: &[&[u8]], mut check: impl FnMut(&[u8]) -> bool) {
    let seconds: Option<u64> = std::env::var("FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let given = std::env::var("FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| if seconds.is_some() { fastrand::u64(..) } else { 0x0f04_eba7 });
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut pool: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.to_vec()).collect();
    for input in seeds {
        assert!(check(input), "a seed is not accepted: {:?}", input.escape_ascii().to_string());
    }
    for number in 0.. {
        if end.map_or(number >= SHORT, |end| Instant::now() >= end) {
            break;
        }
        let input = mutate(&mut random, &pool, words);
        let trace = Trace { seed, number, input: &input };
        let accepted = check(&input);
        std::mem::forget(trace);
        if accepted {
            match pool.len() {
                MOST_KEPT => {
                    let replaced = random.usize(seeds.len()..MOST_KEPT);
                    pool[replaced] = input;
                }
                _ => pool.push(input),
            }
        }
    }
}

/// Dropped only by a panic, and says then what it was at.
struct Trace<'a> {
    seed: u64,
    number: u64,
    input: &'a [u8],
}

impl Drop for Trace<'_> {
    fn drop(&mut self) {
        let Self { seed, number, input } = self;
        eprintln!("FUZZ_SEED={seed}, input number {number}:\n{}", input.escape_ascii());
    }
}

fn mutate(random: &mut fastrand::Rng, pool: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
    let mut input = pool[random.usize(..pool.len())].clone();
    for _ in 0..random.usize(1..6) {
        step(random, pool, words, &mut input);
    }
    input.truncate(LONGEST);
    input
}

fn step(random: &mut fastrand::Rng, pool: &[Vec<u8>], words: &[&[u8]], input: &mut Vec<u8>) {
    let mut at = random.usize(..=input.len());
    if random.bool() {
        // What is written in lines is most easily misunderstood where one begins.
        at = input[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    }
    let end = (at + random.usize(..24)).min(input.len());
    match random.u8(..12) {
        0 if at < input.len() => input[at] ^= 1 << random.u8(..8),
        1 if at < input.len() => input[at] = *random.choice(b"\0\x01\t\n\r \"#,/:;=\x7f\x80\xff").unwrap_or(&0),
        2 => drop(input.drain(at..end)),
        3 => {
            let copy = input[at..end].to_vec();
            let to = random.usize(..=input.len());
            put(input, to, &copy);
        }
        4 => input.truncate(at),
        5 => {
            let other = &pool[random.usize(..pool.len())];
            let from = random.usize(..=other.len());
            let to = (from + random.usize(..64)).min(other.len());
            put(input, at, &other[from..to]);
        }
        6 => {
            let byte = random.u8(..);
            put(input, at, &[byte]);
        }
        _ if !words.is_empty() => put(input, at, words[random.usize(..words.len())]),
        _ => {}
    }
}

fn put(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}
