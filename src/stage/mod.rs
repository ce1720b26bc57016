//! The stages: what each action does, and running a plan.
//!
//! [`actions`] turns a recipe and its lock into actions; [`run`] is the only place that commits them to the store.
//! Must not know the terminal or xCAT's syntax.

mod accounts;
mod actions;
mod artefacts;
mod assemble;
mod dracut;
mod drift;
mod drivers;
mod edit;
mod error;
mod execute;
mod execute_dracut;
mod execute_node_support;
mod gate;
mod initrd;
mod inside;
mod kernel;
mod kernel_dir;
mod lock;
mod modules;
mod node_support;
mod pack;
mod past;
mod places;
mod postinstall;
mod probe;
mod publish;
mod relock;
mod renewal;
mod report;
mod results;
mod run;
mod schedule;
mod selinux;
mod services;
mod shell;
mod size;
mod supply;
mod sync;
mod system;
mod tools;
mod vendor;
mod verify;
mod wish;

pub use crate::distro::Places;
pub use actions::{Forms, StageGraph, graph_of};
pub use artefacts::{BuildInfo, published};
pub use drift::{Drift, drift_of_artefacts, drift_of_layers, remove_damaged_layers};
pub use error::StageError;
pub use inside::operations;
pub use lock::{LockState, lock_state};
pub use past::StorePast;
pub use probe::{ProbeAnswer, ProbeRequest};
pub use publish::{Target, XcatPublished, xcat_drift};
pub use relock::Update;
pub use renewal::{LOCK_ACTION, graph_before_renewal};
pub use report::Report;
pub use run::{Builder, Options, Outcome, Summary, init_program};
pub use shell::ShellRequest;
pub use size::{SizedFile, packages as package_owners, sizes};
