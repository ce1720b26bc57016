//! The recipe: `image.toml` or `image.kdl` and all that it names, read and checked before anything runs.
//!
//! One model with as many front ends as there are file formats; each front end gives a tree of values with spans,
//! which is checked against the model's own JSON Schema, so that every problem is found in one go. This room must
//! not know the plan, the host, or whether a package exists.

mod accounts;
mod check;
mod convert;
mod document;
mod dracut;
mod drivers;
mod edit;
mod editable;
mod effective;
mod field;
mod front;
mod inherit;
mod kdl;
mod kernel_names;
mod kin;
mod load;
mod lock_read;
mod lockfile;
mod merge;
mod model;
mod mounts;
mod node_support;
mod paths;
mod relative;
mod releases;
mod repositories;
mod role;
mod schema;
mod select;
mod services;
mod sync;
mod toml;
mod wanted;
mod workspace;

pub use crate::xcat::Clause;
pub use accounts::{Accounts, LockedGroup, LockedUser, NOBODY, STATIC_IDS};
pub use check::check_against_schema;
pub use convert::{Converted, Format, convert};
pub use document::{Node, Spans, Value};
pub use dracut::dracut_modules;
pub use drivers::{DriverBuild, DriverUpdate, Drivers, UpdateForm};
pub use edit::{Change, Edit};
pub use editable::Editable;
pub use effective::{GZIP_LEVEL, HOSTNAME_BY_DHCP, ROOT_SIZE, ZSTD_LEVEL};
pub use field::{Field, FieldPath, Step};
pub use front::{document_from, document_in, document_of, file_schema, has_recipe, recipe_file, recipe_text};
pub use inherit::{Draft, Overlay, Relatives, relatives};
pub use kdl::in_kdl;
pub use kin::{is_name as is_image_name, schema_text};
pub use load::{Loaded, Postinstall, Recipe, load, load_draft, package_of, read_list};
pub use lock_read::LockError;
pub use lockfile::{LOCK_MINOR, Lock, LockedPass, LockedRepo, LockedSuite, PinnedPackage, epoch_of_today};
pub use merge::Withdrawn;
pub use model::*;
pub use mounts::{Export, Mount};
pub use node_support::{NodeSupport, SupportFile};
pub use relative::plain;
pub use releases::known_releases;
pub use repositories::id_of;
pub use role::PassRole;
pub use schema::{lock_schema_text, recipe_schema, schema_of};
pub use select::{Known, Selected, folders, known, once, select};
pub use services::{Unit, UnitState};
pub use sync::{SyncedFile, SyncedKind};
pub use wanted::{ALL_UPDATES, Wanted, default_drivers, normal_name, wanted_drivers};
pub use workspace::{Workspace, WorkspaceModel, root_of_all, workspace_schema_text};

/// File name of a recipe.
pub const RECIPE_FILE: &str = "image.toml";
/// File name of a recipe in KDL.
pub const KDL_RECIPE_FILE: &str = "image.kdl";
/// File name of the lock beside it.
pub const LOCK_FILE: &str = "image.lock";
/// File of a workspace, at its root.
pub const WORKSPACE_FILE: &str = "imgbuild.toml";
