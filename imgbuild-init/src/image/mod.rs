//! The image: fetched, checked, and brought to where the new root is.

pub mod cache;
mod cpio;
pub mod download;
pub mod fetch;
pub mod index;
pub mod local;
mod loops;
pub mod packed;
pub mod servers;
mod tar;
mod unpack;
pub mod unpacked;

use std::sync::OnceLock;

/// Where the new root is made, unless [`make_root_at`] said otherwise.
const OWN_ROOT: &str = "/newroot";

static ROOT: OnceLock<String> = OnceLock::new();

/// Where the new root is made.
pub fn root() -> &'static str {
    ROOT.get().map_or(OWN_ROOT, String::as_str)
}

/// Takes away what an attempt left that ended early.
pub fn unmount_all() {
    for place in [root(), packed::HELD, packed::LOWER, packed::UPPER, cache::PLACE] {
        crate::sys::unmount(place);
    }
}

/// Says where the new root is made; only the first call counts.
pub fn make_root_at(path: &str) {
    let _ = ROOT.set(path.to_owned());
}
