//! The smallest restart that takes a node from the build that it runs to another one: nothing, a sync, a restart of services, a soft
//! reboot, a reboot of the machine.
//!
//! Owns the order of restarts, what a change of each path asks for, and what a tree says of its services. Two builds and what `sync` can
//! bring come in; an answer with its reasons goes out. Must not know nodes, their reports, or the terminal.
//!
//! Begin with `decide.rs`. `places.rs` has paths that are known by their names, `services.rs` which service has a path open, `starts.rs`
//! which units run, `facts.rs` what is read of a packed image for that, `bring.rs` and `brought.rs` what `sync` brings.

mod answer;
mod bring;
mod brought;
mod decide;
mod elf;
mod facts;
mod open;
mod places;
mod services;
mod starts;
#[cfg(test)]
mod tests;
mod unit;

pub use answer::{Answer, PackageMove, Reason, Restart};
pub use bring::Means;
pub use decide::{FIRST_SOFT_REBOOT, answer};
pub use facts::Facts;
