//! The image: fetched, checked, and brought to where the new root is.

pub(crate) mod cache;
mod cpio;
pub(crate) mod download;
pub(crate) mod fetch;
pub(crate) mod index;
pub(crate) mod local;
mod loops;
pub(crate) mod packed;
pub(crate) mod servers;
mod tar;
mod unpack;
pub(crate) mod unpacked;

use std::sync::OnceLock;

/// Where the new root is made, unless [`make_root_at`] said otherwise.
const OWN_ROOT: &str = "/newroot";

static ROOT: OnceLock<String> = OnceLock::new();

/// Where the new root is made.
pub(crate) fn root() -> &'static str {
    ROOT.get().map_or(OWN_ROOT, String::as_str)
}

/// Takes away what an attempt left that ended early.
pub(crate) fn unmount_all() {
    for place in [root(), packed::HELD, packed::LOWER, packed::UPPER, cache::PLACE] {
        crate::sys::unmount(place);
    }
}

/// Says where the new root is made; only the first call counts.
pub(crate) fn make_root_at(path: &str) {
    let _ = ROOT.set(path.to_owned());
}
