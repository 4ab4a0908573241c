//! `forebay demo`: the whole story on one machine.

pub mod books;
pub mod journal;
pub mod ledger;
pub mod load;
pub mod schedule;
pub mod servers;
pub mod stage;
pub mod wire;
pub mod workbook;
