//! What `ip=`, `bond=` and `vlan=` of a kernel's command line mean: read by the checks of recipes and nodes.toml, and by imgbuild-init,
//! which has the same folder. Source: kernel, Documentation/admin-guide/nfs/nfsroot.rst, and dracut.cmdline(7).

mod address;
mod links;

pub use address::{Fixed, Method, read};
pub use links::{Bond, Vlan};
