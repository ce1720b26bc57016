//! The one room that enters namespaces and starts processes on what packages brought (D1 to D5).
//!
//! Everything that opens files of a layer runs inside a user namespace whose ids are shifted away from the
//! host's, root included. The host process re-executes itself as `imgbuild __sandbox`; that process is
//! single-threaded until it is inside, then answers one [`operation`](helper::Operation) and ends. When the host
//! process dies, the kernel kills the helper, and with it every process of its pid namespace and every mount of
//! its mount namespace: nothing has to be cleaned up by hand.
//!
//! This room must not know images or package managers.
//!
//! # Roots and commands
//!
//! A command (package manager, postinstall, shell) gets a root made of layers by overlayfs (`userxattr`), or by copying where
//! that cannot be had (`tree/copy.rs`; a probe decides once for each kernel and store), its own /proc
//! and /sys with the same machine on every host (`tree/machine.rs`), /dev with six devices, /run and /tmp in memory, no network, and a clean environment.
//! A seccomp filter lets go on what `filter/calls.txt` lists, by each ABI of the kernel, and answers all else with ENOSYS; `fsync` and its kin succeed
//! at once, `TIOCSTI`, the kernel's log and sockets of families without namespaces are refused. What a command has of the caller's process is fixed (`command/caller.rs`). Each rename asks the helper first (`command/renames.rs`): a directory of lower layers, which overlayfs does not rename, is recreated. So does each start of a program where others stand in for some (`command/stand_ins.rs`).
//! The command is not process 1 but a child of one that may be looked at (`command/process_one.rs`), because systemd's tools find a chroot by it. `uname` is a
//! stand-in (`packages/inside/uname.rs`): a transaction whose scripts ask for the release runs again with the release in its key, and image.lock says so. The session keyring is a new one. Package files and inputs are shown by an overlay without an upper
//! directory: unlike a bind mount, no one inside can make it writable. [docs/security.md](docs/security.md) says what is
//! trusted; `tests/it/e2e/escapes.rs` tries to get out. When the command ends, everything that it
//! left running is killed before the layer is hashed.
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
