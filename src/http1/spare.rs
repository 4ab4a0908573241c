//! The tables of heads that are over, for those that come: to make them anew for each head costs more than to fill them.

use std::cell::RefCell;

use http::{Extensions, HeaderMap};

/// Tables that a thread keeps at most, of less than 3 KiB each.
const MOST: usize = 32;
/// Fields that there is room for in a table. One that had to become larger is not kept.
const ROOM: usize = 24;

thread_local!(static SPARE: RefCell<Vec<(HeaderMap, Extensions)>> = const { RefCell::new(Vec::new()) });

/// Empty ones.
pub(super) fn take() -> (HeaderMap, Extensions) {
    let spare = SPARE.try_with(|spare| spare.borrow_mut().pop());
    spare.ok().flatten().unwrap_or_else(|| (HeaderMap::with_capacity(ROOM), Extensions::new()))
}

/// Keeps the tables of a head that is over, and nothing of what is in them.
pub(super) fn give(mut headers: HeaderMap, mut extensions: Extensions) {
    if !(1..=2 * ROOM).contains(&headers.capacity()) {
        return;
    }
    headers.clear();
    extensions.clear();
    let _at_the_end_of_a_thread = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < MOST {
            spare.push((headers, extensions));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_head_is_found_in_the_next_one() {
        let (mut headers, mut extensions) = take();
        headers.append("x-secret", "1".parse().unwrap());
        headers.append("x-secret", "2".parse().unwrap());
        extensions.insert("secret");
        let room = headers.capacity();
        give(headers, extensions);
        let (headers, extensions) = take();
        assert!(headers.is_empty() && headers.get("x-secret").is_none() && extensions.get::<&str>().is_none() && extensions.is_empty());
        assert_eq!(headers.capacity(), room, "it is the same table");
        give(HeaderMap::with_capacity(1000), extensions);
        assert!(take().0.capacity() < 1000);
    }
}
