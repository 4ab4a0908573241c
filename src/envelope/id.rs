//! Request identities.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// Identity of one accepted request, a UUID version 7 (RFC 9562 section 5.7).
///
/// Its first 48 bits are the millisecond of its making, so that identities sort by age and lie side by side in a B-tree; the
/// other 74 bits are random, so that knowing one's own says nothing about another's: whoever holds it may read the outcome.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(Uuid);

impl RequestId {
    /// A new identity, from the operating system's clock and random numbers.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The 16 bytes that are stored, in the order in which they sort.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// The identity that [`to_bytes`](Self::to_bytes) stored.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a request identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a request id: expected a UUID such as 0198a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b")]
pub struct InvalidId;

impl FromStr for RequestId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        // Only the one spelling that we hand out: a second spelling of an identity would be a second URL of one resource.
        if text.len() != 36 {
            return Err(InvalidId);
        }
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_text_and_bytes() {
        let id = RequestId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(RequestId::from_bytes(id.to_bytes()), id);
    }

    #[test]
    fn other_spellings_of_an_id_are_refused() {
        let id = RequestId::new();
        for text in [String::new(), "42".into(), id.to_string().replace('-', ""), format!("{{{id}}}")] {
            assert_eq!(text.parse::<RequestId>(), Err(InvalidId), "{text}");
        }
    }
}
