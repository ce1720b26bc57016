//! The recipe: `image.toml` or `image.kdl` and all that it names, read and checked before anything runs.
//!
//! One model with as many front ends as there are file formats; each front end gives a tree of values with spans,
//! which is checked against the model's own JSON Schema, so that every problem is found in one go. This room must
//! not know the plan, the host, or whether a package exists.
//!
//! # Front ends
//!
//! `front/open.rs` reads a file as its ending says; TOML (`front/toml.rs`) and KDL (`front/kdl/`) give the same tree of values
//! with spans (`front/document.rs`), and all that follows knows no format. KDL's nodes are read by the model's JSON Schema, which
//! says what is a list. `front/kdl/guard.rs` refuses what the parser would need too much time or stack for, and the parser has a thread
//! with a stack of its own. Messages are written with TOML's words; `front/kdl/remedy.rs` turns them for a recipe in KDL. `convert/`
//! writes either format from such a tree, with the comments, and reads it back before anybody gets it.
//!
//! `tests/it/exact/` holds the table of which field moves which keys, driven by the schema, and the pinned digests.

mod convert;
mod front;
mod inherit;
mod load;
mod lock;
mod model;
pub mod owners;
mod roles;
mod tables;
mod workspace;

pub use convert::{Converted, Format, convert, in_format, worded};
pub use front::check::check_against_schema;
pub use front::document::{Node, Spans, Value};
pub use front::edit::{Change, Edit};
pub use front::editable::Editable;
pub use front::field::{Field, FieldPath, Step};
pub use front::open::{document_from, document_in, document_of, file_schema, has_recipe, recipe_file, recipe_text};
pub use front::schema::{lock_schema_text, recipe_schema, schema_of};
pub use inherit::drafts::{Draft, Overlay, Relatives, relatives};
pub use inherit::file_fields::{is_name as is_image_name, schema_text};
pub use inherit::merge::Withdrawn;
pub use inherit::relative::{between, plain};
pub use load::base_image::{BASE_IMAGE_FORMS, BaseImage, moved_base_image};
pub use load::moved;
pub use load::{
    InputKind, Loaded, NodeScripts, Postinstall, Recipe, Script, ScriptFile, ScriptInput, StateliteList,
    is_authorized_key, is_script_name, is_script_path, load, load_draft, package_of, read_list,
};
pub use lock::base::{BasePackage, LockedBase, LockedDocument, LockedLayer};
pub use lock::file::{
    LOCK_MINOR, Lock, LockedPass, LockedRepo, LockedSuite, PinnedPackage, SAYS_BESIDE, epoch_of_today, family_of,
};
pub use lock::installed::{InImage, is_kernel_name, is_meant, is_pattern, plain_version, takes_place};
pub use lock::places::{LockItem, LockPlaces};
pub use lock::read::LockError;
pub use lock::role::PassRole;
pub use model::effective::{GZIP_LEVEL, HOSTNAME_BY_DHCP, ROOT_SIZE, ZSTD_LEVEL};
pub use model::official::{
    OfficialAddress, OfficialRepository, chosen as chosen_repositories, official_releases, official_repositories,
};
pub use model::releases::{check_release_name, known_releases, named as release_named};
pub use model::*;
pub use roles::{ROLE_HOST, RoleFiles};
pub use tables::accounts::{
    Accounts, LockedGroup, LockedUser, NOBODY, STATIC_IDS, is_name as is_account_name, is_nobodys,
};
pub use tables::kernel::dracut::dracut_modules;
pub use tables::kernel::drivers::{DriverBuild, DriverUpdate, Drivers, UpdateForm};
pub use tables::kernel::kdump::{KdumpFiles, target_of as kdump_target};
pub use tables::mounts::{Export, Mount};
pub use tables::node_support::{NodeSupport, SupportFile};
pub use tables::publish::{Destination, NotADestination, PublishKind, PublishPlace, destinations_of};
pub use tables::repositories::id_of;
pub use tables::services::{Unit, UnitState};
pub use tables::sync::{NodeFile, NodeScript, SyncedFile, SyncedKind, SyncedNodes};
pub use tables::wanted::{ALL_UPDATES, Wanted, default_drivers, initrd_drivers, normal_name};
pub use workspace::executor::{ExecutorKind, WorkspaceExecutor};
pub use workspace::file::{Workspace, WorkspaceModel, root_of_all, workspace_schema_text};
pub use workspace::select::{Known, Selected, folders, known, once, select};
pub use xcat::Clause;

pub const RECIPE_FILE: &str = "image.toml";
pub const KDL_RECIPE_FILE: &str = "image.kdl";
pub const LOCK_FILE: &str = "image.lock";
pub const WORKSPACE_FILE: &str = "imgbuild.toml";
