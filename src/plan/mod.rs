//! The planner: what each action depends on, its key, and why it runs.
//!
//! Pure but for hashing files in [`input`]. It must not know processes, package managers, or where the store is:
//! present records arrive through [`Past`].

mod evaluate;
mod explain;
mod file;
mod graph;
mod input;
mod key;

pub use evaluate::{Decision, Outputs, Past, PastAction, Verdict, decide, evaluate};
pub use explain::{Cause, Reason, causes};
pub use file::{FileAction, FileImage, FileInput, LockPicture, Moved, PLAN_FILE_FORMAT, PlanFile, moved};
pub use graph::{Action, ActionGraph, GraphError, Stage, Upstream};
pub use input::{Input, Place, file_input};
pub use key::{InputSink, KeyHasher, Known, TraceWriter, describe, key_and_trace};
