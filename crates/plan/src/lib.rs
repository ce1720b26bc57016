//! The planner: what each action depends on, its key, and why it runs.
//!
//! Pure but for hashing files in [`input`]. It must not know processes, package managers, or where the store is:
//! present records arrive through [`History`].
//!
//! # Keys
//!
//! The key of an action is BLAKE3 over kind, implementation version, parameters, package versions and digests, file
//! contents and modes, and the *outputs* of the actions it uses; `key.rs` has the table. Tools roots enter by what they
//! are made of, not by what came out (D9). Where a package came from is in no key.
//! A file of the build host is read twice, for the key and when its action runs, minutes later: `build/bench/keyed.rs` compares the two, and
//! what changed in between ends the build (D41).
//!
//! Each kind of action is described once: its `inputs.rs` keeps values as `Keyed`, which only a `Key` makes, together with the inputs that say
//! them. Its work (`Work` in `build/actions/reader/work.rs`) makes a request of these values, of the layers of actions that it names, and of
//! places in the store; the recipe is not in reach there. The request is asked inside, and answer and recipe give what is stored and said. A request names
//! content by digest and has no path of the build host: `tests/it/e2e/elsewhere.rs` asks all requests of a build again, from another program and
//! in another store, and gets the same layers. What only decides what is said or refused is `Said`. Transactions are described so, too, by the recipe
//! and its lock, and what runs before there is a plan is asked in the same way (`packages/tools.rs`, `Before`).
//!
//! Failures that ask for a remedy of their own (disk, memory, threads, limits, a damaged store) are noted where they are met (`failure.rs`) and cross
//! from the inside as data; words of a script or a file's name decide nothing.

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
