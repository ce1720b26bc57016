//! The stages: what each action does, and running a plan.
//!
//! [`actions`] turns a recipe and its lock into actions; [`builder`] is the only place that commits them to the store.
//! Must not know the terminal or xCAT's syntax.
//!
//! # Folders
//!
//! | folder | what lives there |
//! |---|---|
//! | `bench/` | what the work on an action stands on, `Bench`: recipe, store, sandbox, who takes news, results so far, files as their keys have them, ids |
//! | `supply/` | packages on their way |
//! | `actions/` | a folder for each action: its description with the inputs of its key, its run, what happens inside; `reader/graph.rs` makes the graph of a recipe and its lock, `reader/work.rs` asks for the work |
//! | `lock/` | whether image.lock is up to date, why not, and resolving |
//! | `plan/` | the plan of an image as a value: `ExactPlan` where the lock is up to date, `ImagePlan` for all that is shown; builds, plan files, explanations and views take it from here |
//! | `builder/` | running a plan: the builder, the only `impl Builder`, locks made and renewed (`locking/`), turns, what is noted, a second build next to it; `cached/` asks and fills caches, `cached/alone.rs` is for one action by itself |
//! | `published/` | artefacts, layouts of other tools, what drifted there; `oci/` has images in registries and container images |
//! | `examine/` | differences, sizes, a shell, an action once more |
//! | `estimate/` | how long it will take |
//! | `inside/` | operations that belong to no action, and the programs of initrds; `operations.rs` lists all operations |
//!
//! An action is run by a free function of its folder that takes the `Bench`: it cannot know the builder. `tests/tidy.rs` has the order of these
//! folders; none imports one above it.

mod actions;
mod bench;
mod builder;
mod error;
mod estimate;
mod examine;
mod inside;
mod lock;
mod operations;
mod plan;
mod published;
mod supply;

pub use actions::packages::emulator::{emulator_of_lock, namespace_for};
pub use actions::{Forms, StageGraph, graph_of};
pub use bench::history::StoreHistory;
pub use bench::ids;
pub use bench::report::{DownloadNews, Report, UploadNews};
pub use builder::cached::elsewhere::{
    NeedsOfAction, asked_of_lock, ensure_lock, fix_lock, needs_of, note_failed, package_files,
};
pub use builder::cached::{CachedActions, Here, bring as bring_cached, give, here, look as cached_actions};
pub use builder::failed::Failed;
pub use builder::locking::mend::{Proposal, Refused, adopt, propose};
pub use builder::locking::relock::{Update, update};
pub use builder::locking::vendor::vendor;
pub use builder::many::{Failure, ImageOutcome, build_images};
pub use builder::planfile::{PlanToKeep, picture};
pub use builder::run::{Builder, Options, Outcome, Summary};
pub use builder::shared::{Deliver, Limits, SharedBuild, estimate as memory_of};
pub use builder::trace::Trace;
pub use embedded::init_program;
pub use error::StageError;
pub use estimate::{ActionEstimate, Estimate, Facts, PathStep, Range, Source, Total, Workload};
pub use examine::against::{State, compare, name_lines};
pub use examine::diff;
pub use examine::excluded::{ExcludedLine, excluded};
pub use examine::reproduce::{Again, Reproduced, reproduce};
pub use examine::shell::{ShellRequest, ShellTree};
pub use examine::size::tree::{SizedTree, sized_tree};
pub use examine::size::{SizedFile, lists_files, packages as package_owners, sizes};
pub use inside::init::init_for;
pub use inside::probe::{ProbeAnswer, ProbeRequest};
pub use inside::removal::{remove_collected, remove_inside};
pub use inside::{KeptLog, LEGACY};
pub use lock::check::check_repositories;
pub use lock::repositories::asked as asked_repositories;
pub use lock::state::{LockState, lock_state, requested};
pub use operations::operations;
pub use packages::PackageSources;
pub use plan::{
    Comparison, ExactPlan, ImagePlan, PlannedAction, all_run, forms_for, fresh_lock, shape_of, stages_of, workers,
};
pub use published::artefacts::{Artefact, BuildInfo, newer_build, published};
pub use published::copies::delta::{Delta, delta};
pub use published::copies::error::FetchError;
pub use published::copies::fetch::fetch;
pub use published::drift::{Drift, drift_of_artefacts, drift_of_layers, remove_damaged_layers};
pub use published::earlier::keep_roots;
pub use published::layouts::Target;
pub use published::layouts::xcat::XcatPublished;
pub use published::oci::LOCK_NAME;
pub use published::oci::believed::{OnlyBelieved, only_believed};
pub use published::oci::container::with_container;
pub use published::oci::error::CarryError;
pub use published::oci::pull::{Pulled, pull};
pub use published::oci::push::{Parcel, artefact};
pub use published::otherwise::{publishes_otherwise, publishing};
pub use published::unpacked::unpack_published;
