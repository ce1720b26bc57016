//! What each action is: the inputs that its key is made of, how it runs, and what happens inside the sandbox.
//!
//! A folder for each; [`reader`] puts them together, [`run`] does the work of one.

pub mod gate;
pub mod initrd;
pub mod kernel;
pub mod node_support;
pub mod pack;
pub mod packages;
pub mod postinstall;
mod reader;
pub mod services;
pub mod statelite;
pub mod sync;
pub mod system;

pub use reader::graph::{Forms, StageGraph, graph_of};
pub use reader::{
    gzip_initrd, image_packages, initrd_compression, kernel_packages, pack_action, packed_form, xcat_pack,
};

use super::StageError;
use super::bench::Bench;
use super::bench::results::{Done, missing};
use super::supply::Supply;
use crate::plan::{Action, ActionKind};
use crate::recipe::Lock;
use crate::store::Outputs;

pub struct Context<'a> {
    pub stages: &'a StageGraph,
    pub lock: &'a Lock,
    pub done: &'a Done,
    pub supply: &'a Supply<'a>,
}

/// Does the work of an action that is not in the store.
pub fn run(bench: &Bench<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let run = match action.kind {
        // They come before and after the graph.
        ActionKind::Lock | ActionKind::Publish => return Err(missing(&action.id)),
        ActionKind::Unpack | ActionKind::Bootstrap => packages::run::bootstrap,
        ActionKind::Container => packages::container::run,
        ActionKind::Install => packages::run::install,
        ActionKind::Kernel => kernel::run::run,
        ActionKind::Driver => kernel::drivers::run,
        ActionKind::System => system::run::run,
        ActionKind::Postinstall => postinstall::run::run,
        ActionKind::Services => services::run::run,
        ActionKind::Gate => gate::run::run,
        ActionKind::NodeSupport => node_support::run::run,
        ActionKind::Postscripts => node_support::postscripts::run::run,
        ActionKind::Sync => sync::run::run,
        ActionKind::Initrd => initrd::run::run,
        ActionKind::Dracut => initrd::dracut::run::run,
        ActionKind::Pack => pack::run::run,
        ActionKind::Statelite => statelite::run::run,
    };
    run(bench, action, context)
}
