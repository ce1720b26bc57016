//! What each action is: the inputs that its key is made of, how it runs, and what happens inside the sandbox.
//!
//! A folder for each. Its `inputs` describe an action: the inputs of its key, and the same values as [`Described`], which is all that
//! its work takes of the recipe. Its `run` turns that into a request, which is asked inside, and the answer into outputs
//! ([`reader::work::Work`]). [`reader`] puts the actions together, [`run`] does the work of one.

pub(crate) mod gate;
pub(crate) mod initrd;
pub(crate) mod kernel;
pub(crate) mod node_support;
pub(crate) mod pack;
pub(crate) mod packages;
pub(crate) mod postinstall;
mod reader;
pub(crate) mod services;
pub(crate) mod statelite;
pub(crate) mod sync;
pub(crate) mod system;

pub use reader::graph::{Forms, StageGraph, graph_of};
pub(crate) use reader::work::{Context, Given};
pub(crate) use reader::{gzip_initrd, kernel_packages, pack_action, packed_form, xcat_pack};

use self::reader::work::{Above, perform};
use super::StageError;
use super::bench::Bench;
use super::bench::results::missing;
use plan::Action;
use store::Outputs;

/// An action, as its key describes it.
#[derive(Debug)]
pub enum Described {
    Transaction(packages::inputs::Transaction),
    Container(packages::container::Image),
    Kernel(kernel::inputs::Kernel),
    Driver(kernel::inputs::Driver),
    System(system::inputs::System),
    Role(postinstall::roles::inputs::Role),
    Postinstall(postinstall::inputs::Scripts),
    Services(services::inputs::Services),
    Gate(gate::inputs::Gate),
    NodeSupport(node_support::inputs::Support),
    Postscripts(node_support::postscripts::inputs::Postscripts),
    Sync(sync::inputs::Sync),
    Initrd(initrd::inputs::Initrd),
    Dracut(initrd::dracut::inputs::Dracut),
    Pack(pack::inputs::Pack),
    Statelite(statelite::inputs::Statelite),
}

/// Does the work of an action that is not in the store.
pub(crate) fn run(bench: &Bench<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let given = context.given;
    // What comes before and after the graph is described nowhere.
    let described = context.stages.described.get(&action.id).ok_or_else(|| missing(&action.id))?;
    match described {
        Described::Kernel(work) => perform(work, bench, action, given),
        Described::Driver(work) => perform(work, bench, action, given),
        Described::System(work) => perform(work, bench, action, given),
        Described::Role(work) => perform(work, bench, action, given),
        Described::Postinstall(work) => perform(work, bench, action, given),
        Described::Services(work) => perform(work, bench, action, given),
        Described::NodeSupport(work) => perform(work, bench, action, given),
        Described::Postscripts(work) => perform(work, bench, action, given),
        Described::Sync(work) => perform(work, bench, action, given),
        Described::Initrd(work) => perform(work, bench, action, given),
        Described::Dracut(work) => perform(work, bench, action, given),
        Described::Pack(work) => perform(work, bench, action, given),
        Described::Transaction(work) => perform(work, bench, action, given),
        Described::Container(work) => perform(work, bench, action, given),
        Described::Gate(work) => work.run(bench, &Above::new(bench, action, given)),
        Described::Statelite(work) => work.run(bench, &Above::new(bench, action, given)),
    }
}
