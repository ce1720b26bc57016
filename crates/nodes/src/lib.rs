//! The nodes of a cluster: `nodes.toml` or `nodes.kdl`, sets of nodes, what each boots, and what it reported.
//!
//! A room beside the recipe: it reads files in the same way, and knows images only by their names.

pub mod deploy;
pub mod edit;
pub mod file;
pub mod formats;
pub mod loaders;
pub mod model;
pub mod set;
pub mod state;
pub mod xcat_range;

pub use file::effective::{Effective, Given, Sourced};
pub use file::scripts::{NodeScripts, ScriptFault, name_of as script_name, script_of};
pub use file::{NODES_FILE, NODES_KDL_FILE, Nodes, nodes_file};
pub use model::mac::Mac;
pub use model::{Attr, nodes_schema_text};
pub use set::NodeSet;
pub use state::asked::Asked;
pub use state::host_keys::{HostKey, known_hosts};
pub use state::reports::{Report, ReportState, RootState};
pub use state::roll::{RollNode, RollShown, RollTarget};
pub use state::rollout::Rollout;
pub use state::scripts::{ScriptOutcome, ScriptResult, Scripts};
pub use state::synced::Synced;
pub use state::tokens::{DIGITS as TOKEN_DIGITS, Spoken, Tokens};
pub use state::{Assigned, Assignments, Boots, State, StateError};
