//! A built image as other provisioners take it: Warewulf, Confluent, OpenCHAMI, Grendel, Cobbler, any boot server, systemd's own initrd.
//!
//! Owns what each of them wants of an image, and how it is put there: all of it or nothing, the one before kept, what was changed by hand
//! named. Must not know how an image is built, where the store is, the nodes' file, or the terminal.
//!
//! Begin with [`Request`]: an [`Image`], the [`Node`]s that are to boot it, and a [`Destination`]. [`plan`] says what would change, [`apply`]
//! changes it; both answer with a [`Report`]. `kinds/` has a folder for each provisioner, `lay/` puts files into directories.

mod error;
mod facts;
mod kinds;
mod lay;
mod report;

pub use error::Error;
pub use facts::image::{Arch, File, Form, Image, RootKind};
pub use facts::node::Node;
pub use kinds::{Consent, Request, apply, plan};
pub use recipe::{Destination, PublishKind as Kind};
pub use report::{Change, Item, Report};
