//! The planner: what each action depends on, its key, and why it runs.
//!
//! Pure but for hashing files in [`input`]. It must not know processes, package managers, or where the store is:
//! present records arrive through [`History`].

mod causes;
mod evaluate;
mod file;
mod graph;
mod input;
mod key;
mod kind;
mod name;
mod steps;
mod symbolic;

pub use causes::cause::{Cause, Reason};
pub use causes::explain::in_reading_order;
pub use causes::follow::Follow;
pub use causes::removals::{RECIPE, Removals, Sayings, Taken};
pub use causes::words::{Change, Subject};
pub use evaluate::{Decision, History, Outputs, RecordedAction, Verdict, decide, evaluate};
pub use file::{FileAction, FileImage, FileInput, LockPicture, Moved, PLAN_FILE_FORMAT, PlanFile, moved};
pub use graph::{Action, ActionGraph, GraphError, Stage, Upstream};
pub use input::{BESIDE, Input, Origin, Place, file_input};
pub use key::{InputSink, KeyHasher, Known, TraceWriter, describe, key_and_trace};
pub use kind::ActionKind;
pub use name::{InputKind, InputName};
pub use steps::{Step, chains_of, steps_of};
pub use symbolic::Symbolic;
