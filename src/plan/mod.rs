//! The planner: what each action depends on, its key, and why it runs.
//!
//! Pure but for hashing files in [`input`]. It must not know processes, package managers, or where the store is:
//! present records arrive through [`Past`].

mod absence;
mod cause;
mod evaluate;
mod explain;
mod file;
mod follow;
mod graph;
mod input;
mod items;
mod key;
mod kind;
mod lists;
mod symbolic;
mod words;

pub use absence::{Absences, RECIPE, Sayings, Taken};
pub use cause::{Cause, Reason};
pub use evaluate::{Decision, Outputs, Past, PastAction, Verdict, decide, evaluate};
pub use explain::in_reading_order;
pub use file::{FileAction, FileImage, FileInput, LockPicture, Moved, PLAN_FILE_FORMAT, PlanFile, moved};
pub use follow::Follow;
pub use graph::{Action, ActionGraph, GraphError, Stage, Upstream};
pub use input::{Input, Origin, Place, file_input};
pub use key::{InputSink, KeyHasher, Known, TraceWriter, describe, key_and_trace};
pub use kind::ActionKind;
pub use symbolic::Symbolic;
pub use words::{Change, Subject};
