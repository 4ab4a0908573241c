//! What the user types while the demo runs.

use std::io::{BufRead, IsTerminal};

use tokio::sync::mpsc;

use super::servers::Which;

/// A line that means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Crash this server, or bring it back.
    Toggle(Which),
    /// End early.
    Quit,
}

impl Key {
    /// What a line means.
    pub fn of(line: &str) -> Option<Self> {
        match line.trim() {
            "a" => Some(Self::Toggle(Which::Admin)),
            "p" => Some(Self::Toggle(Which::App)),
            "q" => Some(Self::Quit),
            _ => None,
        }
    }
}

/// Reads the terminal's lines on a thread that ends with the process: a read of the terminal cannot be called off. Without a terminal nothing is read.
pub fn listen() -> mpsc::Receiver<Key> {
    let (typed, keys) = mpsc::channel(8);
    if std::io::stdin().is_terminal() {
        let read = move || {
            for line in std::io::stdin().lock().lines() {
                let Ok(line) = line else { return };
                if Key::of(&line).is_some_and(|key| typed.blocking_send(key).is_err()) {
                    return;
                }
            }
        };
        // Without the thread the keys are missing, and curl still works.
        std::thread::Builder::new().name("keys".into()).spawn(read).ok();
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_three_keys_mean_something() {
        assert_eq!(Key::of("a\n"), Some(Key::Toggle(Which::Admin)));
        assert_eq!(Key::of(" p "), Some(Key::Toggle(Which::App)));
        assert_eq!(Key::of("q"), Some(Key::Quit));
        for line in ["", "A", "ap", "quit"] {
            assert_eq!(Key::of(line), None, "{line}");
        }
    }
}
