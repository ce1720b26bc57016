//! xCAT's list formats: text to value, no I/O.
//!
//! Rules and vectors come from the semantic reference of xCAT 2.19 (sections 2 to 4 and 14 of the project's
//! reference): *keep* means the same result as xCAT's, *fix* an error or a warning where xCAT's result is a trap.
//! This room must not know recipes; what a file includes is read through a [`Loader`].

mod clauses;
pub mod definitions;
mod exlist;
mod glob;
mod include;
mod pkglist;
mod synclist;

pub use clauses::{appended, appended_once, merged};
pub use exlist::{ALWAYS_EXCLUDED, ExcludeList, Exclusion, Pattern, parse_exlist};
pub use glob::matches;
pub use include::{LoadError, Loader, expand_variables};
pub use pkglist::{Flavor, Item, PackageList, PassList, Variable, parse_pkglist};
pub use synclist::{Clause, SyncEntry, SyncList, SyncScript, parse_synclist};
