//! Security advisories as files, and which packages of images they are about.
//!
//! It owns the readers of what others publish (OSV, Debian's tracker, CSAF and VEX, OpenVEX, updateinfo.xml, the catalogue of exploited
//! vulnerabilities, EPSS), the order of versions, and the comparison with components of images. All that is read is taken for hostile: it
//! has bounds, and an error names file and place. It must not know where packages come from, what a store is, or how anything is shown.
//!
//! Begin with [`audit`]: components and a [`Database`] in, a [`Report`] out. [`Database::read`] finds out by its content what a file is.

mod audit;
mod ecosystem;
mod error;
mod model;
mod platform;
mod purl;
mod read;
mod recognise;
mod severity;
mod version;

pub use audit::{Expired, Finding, Report, Silenced, Subject, audit};
pub use ecosystem::Ecosystem;
pub use error::AdvisoryError;
pub use model::{Component, Database, Epss, Exploited, Kind, Loaded, SourceFrom, source_of_deb, source_of_rpm};
pub use platform::Platform;
pub use recognise::{LONGEST_FILE, Part, may_have_parts, parts};
pub use severity::Severity;
pub use version::Order;
