//! Where the packages of a lock come from, as their origins tell.

use recipe::PinnedPackage;

/// Start of the origin of packages from the directory.
pub(crate) const KERNELS: &str = "kernels";

/// The folder below the directory of kernels that a package comes from. `.` is the directory itself.
pub(crate) fn kernel_folder(origin: &str) -> Option<&str> {
    let folder = origin.strip_prefix(KERNELS)?.strip_prefix('/')?;
    Some(if folder == "." { "" } else { folder })
}

/// The folder below otherpkgs that a package comes from; none for the distribution's. `.` is otherpkgs itself.
pub(crate) fn local_folder(package: &PinnedPackage) -> Option<&str> {
    package.origin.strip_prefix("otherpkgs/").map(|folder| if folder == "." { "" } else { folder })
}

/// Whether a package comes from a mirror, and not from a directory of the site.
pub(crate) fn is_fetched(package: &PinnedPackage) -> bool {
    local_folder(package).is_none() && kernel_folder(&package.origin).is_none()
}
