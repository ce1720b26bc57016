//! A new build brought to running nodes: a canary first, then batches, each node drained, restarted as little as needed, looked at, and
//! resumed. It can be killed at any moment and called again.
//!
//! Owns the order in which that is done, what is noted before each step, and when it stops. Must not know ssh, Slurm, files or the
//! terminal: all of these are behind [`Hands`].
//!
//! Begin with `record.rs`, what is kept, and `run/mod.rs`, the loop. `need.rs` says what a node needs, `abort.rs` gives nodes back.

mod abort;
mod begin;
mod hands;
mod limits;
mod need;
mod planned;
mod record;
mod run;
#[cfg(test)]
mod tests;

pub use abort::{Aborted, abort};
pub use begin::{Refusal, begin};
pub use hands::{Answers, Event, Hands, Kind, NodeState, Reported, ReportedState, Seat, Sent};
pub use limits::{Count, Window};
pub use planned::{Planned, plan};
pub use record::{Act, Build, Held, Node, Part, Record, Roll, Scheduler, Stage, Synced, is_ours, reason};
pub use run::{Ended, Options, Outcome, run};
