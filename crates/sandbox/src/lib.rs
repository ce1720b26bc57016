//! The one room that enters namespaces and starts processes on what packages brought (D1 to D5).
//!
//! Everything that opens files of a layer runs inside a user namespace whose ids are shifted away from the
//! host's, root included. The host process re-executes itself as `imgbuild __sandbox`; that process is
//! single-threaded until it is inside, then answers one [`operation`](helper::Operation) and ends. When the host
//! process dies, the kernel kills the helper, and with it every process of its pid namespace and every mount of
//! its mount namespace: nothing has to be cleaned up by hand.
//!
//! This room must not know images or package managers.
#![expect(unsafe_code, reason = "namespaces, fork and seccomp have no safe interface; each block says why it is sound")]

mod command;
pub mod emulator;
mod error;
mod filter;
pub mod helper;
mod ids;
pub mod interrupt;
mod log;
mod memory;
mod namespace;
mod substitute;
mod tree;

pub use command::{
    Bind, CommandRequest, CommandResult, Confined, LIMIT_VARIABLE, STAND_IN_DIRECTORY, ScriptLimits, run_command,
    run_confined, set_process_one, shown,
};
pub use error::SandboxError;
pub use ids::{BUILT_IN_BASE, ID_COUNT, IdMap, ids_here};
pub use memory::{Memory, check_stack, give_back_at_once};
pub use namespace::Namespace;
pub use substitute::Substitute;
pub use tree::api_mounts::NO_RELEASE;
pub use tree::overlay::{Assembly, TreeMount, set_owner_and_mode, upper_is_whole};
