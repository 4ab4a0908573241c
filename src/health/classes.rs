//! Which classes of requests are refused. What is short of room refuses all alike; where one class gets nothing but refusals and the others get none, it is that
//! class which is out of order, and no matter of how much is in flight.

use smallvec::SmallVec;

use super::samples::Bad;

/// Classes that are told apart in one window; those that come later are one.
const MOST: usize = 32;
/// Good requests that the others need.
const GOOD: u32 = 5;
/// A class that is out of order has so many refusals for each good request.
const REFUSALS: u32 = 4;

/// Windows for which it is remembered that a class was served.
const REMEMBERED: u8 = 4;

/// Good and refused requests of one window, by their class.
#[derive(Debug, Default)]
pub(super) struct ByClass {
    classes: SmallVec<[Class; 4]>,
    /// Refusals of all.
    pub(super) refused: u32,
}

#[derive(Debug, Clone, Copy)]
struct Class {
    kind: u16,
    good: u32,
    refused: u32,
    /// One was good in one of the last so many windows.
    served: u8,
}

impl ByClass {
    /// One has ended.
    pub(super) fn add(&mut self, kind: u16, bad: Option<Bad>) {
        let (good, refused) = match bad {
            None => (1, 0),
            Some(Bad::Refused) => (0, 1),
            Some(Bad::Overloaded | Bad::Lost(_)) => return,
        };
        self.refused += refused;
        let known = self.classes.iter_mut().position(|class| class.kind == kind);
        match known.or_else(|| self.classes.len().checked_sub(1).filter(|last| *last + 1 >= MOST)) {
            Some(at) => {
                self.classes[at].good += good;
                self.classes[at].refused += refused;
            }
            None => self.classes.push(Class { kind, good, refused, served: 0 }),
        }
    }

    /// Whether all refusals are of classes that are out of order.
    pub(super) fn are_apart(&self) -> bool {
        if self.refused == 0 {
            return false;
        }
        let others: u32 = self.classes.iter().filter(|class| class.refused == 0).map(|class| class.good).sum();
        others >= GOOD && self.classes.iter().all(|class| class.refused == 0 || class.refused >= REFUSALS * class.good)
    }

    /// Whether they are no class's own, as far as can be seen: one of those that are refused is also served, or was until now.
    pub(super) fn are_of_the_good(&self) -> bool {
        self.classes.iter().any(|class| class.refused > 0 && (class.good > 0 || class.served > 0)) && !self.are_apart()
    }

    /// A window begins.
    pub(super) fn clear(&mut self) {
        self.classes.iter_mut().for_each(|class| {
            let served = if class.good > 0 { REMEMBERED } else { class.served.saturating_sub(1) };
            *class = Class { good: 0, refused: 0, served, ..*class };
        });
        self.classes.retain(|class| class.served > 0);
        self.refused = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of these classes, with so many good and refused ones each.
    fn of(classes: &[(u16, u32, u32)]) -> ByClass {
        let mut all = ByClass::default();
        for &(kind, good, refused) in classes {
            (0..good).for_each(|_| all.add(kind, None));
            (0..refused).for_each(|_| all.add(kind, Some(Bad::Refused)));
        }
        all
    }

    #[test]
    fn a_class_that_gets_nothing_but_refusals_is_apart_from_others_that_get_none() {
        for (classes, apart) in [
            (&[(0, 5, 0), (1, 0, 40)][..], true),
            (&[(0, 5, 0), (1, 10, 40)], true),
            (&[(0, 5, 0), (1, 11, 40)], false),
            (&[(0, 4, 0), (1, 0, 40)], false),
            (&[(0, 50, 1), (1, 0, 40)], false),
            (&[(0, 3, 0), (2, 2, 0), (1, 0, 40), (3, 0, 1)], true),
            (&[(1, 0, 40)], false),
            (&[(0, 50, 0)], false),
        ] {
            assert_eq!(of(classes).are_apart(), apart, "{classes:?}");
        }
        assert!(
            !of(&[(1, 0, 40)]).are_of_the_good() && of(&[(1, 1, 40)]).are_of_the_good(),
            "what nothing else is known of may be its own"
        );
        let mut all = of(&[(0, 5, 0), (1, 0, 40)]);
        all.clear();
        assert!(all.refused == 0 && !all.are_apart());
        all.add(1, Some(Bad::Refused));
        assert!(!all.are_of_the_good());
        all.add(0, Some(Bad::Refused));
        assert!(all.are_of_the_good(), "it was served a moment ago");
    }

    #[test]
    fn of_very_many_classes_the_last_ones_count_as_one() {
        let many: Vec<_> = (0..100).map(|kind| (kind, 1, 0)).chain([(200, 0, 100)]).collect();
        let all = of(&many);
        assert_eq!((all.classes.len(), all.refused, all.are_apart()), (MOST, 100, false));
    }
}
