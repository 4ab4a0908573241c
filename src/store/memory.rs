//! The model: the same promises in plain maps, with nothing durable. Tests compare the real engine against it.
