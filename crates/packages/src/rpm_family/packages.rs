//! File names of packages inside the sandbox.

use recipe::PinnedPackage;

/// Name of a package's file where the sandbox sees it.
pub(super) fn package_file(package: &PinnedPackage) -> String {
    let version = package.version.replace(':', "_");
    format!("{}-{version}.{}.rpm", package.name, package.architecture)
}
