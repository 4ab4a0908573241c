use super::*;

const KEY: Option<OrderKey> = Some(OrderKey::from_u64(7));

fn live(turn: Turn) -> LiveTurn {
    match turn {
        Turn::Live(turn) => turn,
        Turn::Queued(turn) => panic!("queued: {turn:?}"),
    }
}

fn queued(turn: Turn) -> QueuedTurn {
    match turn {
        Turn::Queued(turn) => turn,
        Turn::Live(turn) => panic!("live: {turn:?}"),
    }
}

fn blocks(turns: &Turns, position: Position) -> bool {
    turns.blocks(KEY.unwrap(), position)
}

#[test]
fn live_writes_of_one_key_pass_side_by_side_until_one_is_queued() {
    let turns = Turns::new(1);
    let (first, second) = (live(turns.enter(KEY)), live(turns.enter(KEY)));
    let rescued = second.into_queued();
    let later = queued(turns.enter(KEY));
    assert!(first.position() < rescued.position() && rescued.position() < later.position());
    drop((rescued, later));
    live(turns.enter(KEY));
}

#[test]
fn what_is_stored_makes_later_ones_queue_until_it_is_settled() {
    let turns = Turns::new(1);
    live(turns.enter(KEY)).into_queued().stored();
    drop(queued(turns.enter(KEY)));
    turns.remove_stored(KEY.unwrap());
    drop(live(turns.enter(KEY)));
    assert_eq!(turns.keys(), 0);
}

#[test]
fn a_rescued_write_stands_before_those_that_came_after_it() {
    let turns = Turns::new(1);
    let (first, second) = (live(turns.enter(KEY)), live(turns.enter(KEY)));
    let position = second.position();
    second.into_queued().stored();
    assert!(blocks(&turns, position), "a live write is under way");
    let rescued = first.into_queued();
    assert!(blocks(&turns, position), "an earlier one is about to be appended");
    assert!(!blocks(&turns, rescued.position()));
    rescued.stored();
    assert!(!blocks(&turns, position), "what comes first among the stored is the engine's to know");
}

#[test]
fn the_end_of_what_held_a_stored_request_back_is_told() {
    let turns = Turns::new(1);
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    turns.on_freed(move |_| {
        count.fetch_add(1, Relaxed);
    });
    let (first, second) = (live(turns.enter(KEY)), live(turns.enter(KEY)));
    first.into_queued().stored();
    assert_eq!(told.load(Relaxed), 0);
    drop(second);
    assert_eq!(told.load(Relaxed), 1);
    drop(queued(turns.enter(KEY)));
    assert_eq!(told.load(Relaxed), 2);
}

#[test]
fn writes_without_a_key_never_wait_for_one_another() {
    let turns = Turns::new(41);
    let first = live(turns.enter(None)).into_queued();
    assert_eq!(first.position(), 41);
    first.stored();
    drop(live(turns.enter(None)));
    assert_eq!(turns.keys(), 0);
}

#[test]
fn who_queues_here_is_told_only_of_what_comes_to_be_on_offer() {
    let turns = Turns::new(1);
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    turns.on_freed(move |_| {
        count.fetch_add(1, Relaxed);
    });
    let key = KEY.unwrap().as_u64();
    let (first, second) = (live(turns.enter(KEY)), live(turns.enter(KEY)));
    let slot = Slot::new(second.position(), 0);
    let second = second.into_queued();
    assert_eq!(turns.arrange(key, |state| state.queue(slot)), (None, None), "a live write is under way");
    second.stored();
    assert_eq!((turns.on_offer(key), told.load(Relaxed)), (None, 0));
    drop(first);
    assert_eq!((turns.on_offer(key), told.load(Relaxed)), (Some(slot), 1));
    let later = queued(turns.enter(KEY));
    let behind = Slot::new(later.position(), 0);
    assert_eq!(turns.arrange(key, |state| state.queue(behind)), (None, None));
    later.stored();
    assert_eq!((turns.on_offer(key), told.load(Relaxed)), (Some(slot), 1));
    assert_eq!(turns.arrange(key, |state| state.unqueue(slot)), (Some(slot), Some(behind)));
}

#[test]
fn a_store_that_reads_itself_anew_keeps_what_is_under_way() {
    let turns = Turns::new(1);
    let waiting = live(turns.enter(KEY)).into_queued();
    let other = OrderKey::from_u64(8);
    turns.add_stored(other);
    let anew = turns.beside();
    let third = OrderKey::from_u64(9);
    for position in [3, 4] {
        anew.arrange(third.as_u64(), |state| state.queue(Slot::new(position, 0)));
        anew.add_stored(third);
    }
    anew.arrange(KEY.unwrap().as_u64(), |state| state.queue(Slot::new(9, 0)));
    anew.add_stored(KEY.unwrap());
    assert_eq!(turns.adopt(&anew), [KEY.unwrap().as_u64()]);
    assert_eq!(turns.on_offer(KEY.unwrap().as_u64()), None, "an earlier one is about to be appended");
    assert_eq!((turns.stored(KEY.unwrap()), turns.stored(other), turns.stored(third)), (1, 0, 2));
    assert_eq!(turns.keys(), 2);
    drop(live(turns.enter(Some(other))));
    drop(waiting);
    assert_eq!(turns.on_offer(KEY.unwrap().as_u64()), Some(Slot::new(9, 0)));
    drop(queued(turns.enter(Some(third))));
    assert_eq!(turns.keys(), 2);
}

/// Whatever happens to a key, it does the same whether it is kept whole or as what little is to be known of it.
#[test]
fn what_is_next_under_a_key_is_the_same_however_it_is_kept() {
    let (turns, mut random) = (Turns::new(1), fastrand::Rng::with_seed(3));
    let mut queues = vec![std::collections::BTreeSet::new(); 50];
    for position in 1..20_000 {
        let number = random.usize(..queues.len());
        let (key, queue) = (OrderKey::from_u64(number as u64), &mut queues[number]);
        if random.bool() && queue.len() < 8 {
            if position % 2 == 0 {
                turns.arrange(key.as_u64(), |state| state.queue(Slot::new(position, 1)));
                turns.add_stored(key);
            } else {
                let moved = turns.found(key.as_u64(), Slot::new(position, 1));
                assert_eq!(moved, (None, queue.is_empty().then(|| Slot::new(position, 1))));
            }
            queue.insert(position);
        } else if let Some(&gone) = queue.iter().nth(random.usize(..queue.len().max(1))) {
            turns.arrange(key.as_u64(), |state| state.unqueue(Slot::new(gone, 1)));
            turns.remove_stored(key);
            queue.remove(&gone);
        }
        assert_eq!(turns.on_offer(key.as_u64()).map(Slot::position), queue.first().copied());
        assert_eq!(turns.stored(key) as usize, queue.len());
    }
    assert_eq!(turns.keys(), queues.iter().filter(|queue| !queue.is_empty()).count());
}

#[test]
fn keys_take_few_bytes_grow_without_a_step_and_give_them_back() {
    // How many keys a shard has is chance, by the hasher.
    let turns = Turns::hashed(1, ahash::RandomState::with_seeds(1, 2, 3, 4));
    let bytes = || turns.shards.iter().map(|shard| shard.lock().bytes()).sum::<usize>();
    const STEP: u64 = 20_000;
    let add = |key| {
        turns.found(key, Slot::new(key + 1, 0));
    };
    (0..STEP).for_each(add);
    for step in 1..10 {
        let before = bytes();
        (step * STEP..(step + 1) * STEP).for_each(add);
        let each = (bytes() - before) as f64 / STEP as f64;
        assert!(each < 40.0, "{each} bytes for each more on the way to {} keys", (step + 1) * STEP);
    }
    for key in 0..10 * STEP {
        turns.arrange(key, |state| state.unqueue(Slot::new(key + 1, 0)));
        turns.remove_stored(OrderKey::from_u64(key));
    }
    assert_eq!(turns.keys(), 0);
    assert!(bytes() < 1_000_000, "{}", bytes());
}
