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
/// Below which directory an image that stays packed is brought; none in an initrd.
static BELOW: OnceLock<String> = OnceLock::new();

/// Where the new root is made.
pub(crate) fn root() -> &'static str {
    ROOT.get().map_or(OWN_ROOT, String::as_str)
}

/// Takes away what an attempt left that ended early.
pub(crate) fn unmount_all() {
    let packed = [packed::HELD, packed::LOWER, packed::UPPER].map(place);
    for place in packed.iter().map(String::as_str).chain([root(), cache::PLACE, crate::lazy::OWN_ROOT]) {
        crate::sys::unmount(place);
    }
}

/// A place of what an image needs that stays packed.
pub(crate) fn place(path: &str) -> String {
    format!("{}{path}", BELOW.get().map_or("", String::as_str))
}

/// Says below which directory the new root and all that it needs is made; only the first call counts. Gives where the root is.
pub(crate) fn make_all_below(directory: &str) -> &'static str {
    let _ = BELOW.set(directory.to_owned());
    make_root_at(&format!("{directory}/root"));
    root()
}

/// Says where the new root is made; only the first call counts.
pub(crate) fn make_root_at(path: &str) {
    let _ = ROOT.set(path.to_owned());
}
