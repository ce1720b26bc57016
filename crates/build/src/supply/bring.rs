//! The download of packages.

use crate::bench::report::{DownloadNews, Report};
use packages::{DistroError, Download, Escapes, Fetcher, address_places};
use recipe::PinnedPackage;
use store::{Store, StoreError};

/// Downloads the packages that the store lacks.
/// Errors: [`DistroError`]; a package whose origin is not known is one.
pub(crate) fn download_packages(
    fetcher: &Fetcher,
    store: &Store,
    packages: &[PinnedPackage],
    url_of: &dyn Fn(&str) -> Vec<String>,
    report: &dyn Report,
    lock: &str,
) -> Result<(), DistroError> {
    let mut downloads = Vec::new();
    for package in packages {
        if is_there(store, package, lock)? {
            continue;
        }
        let escapes = if package.file.ends_with(".rpm") { Escapes::StandForOne } else { Escapes::AreNames };
        let urls: Vec<String> =
            url_of(&package.origin).iter().flat_map(|url| address_places(url, &package.file, escapes)).collect();
        if urls.is_empty() {
            return Err(DistroError::NoSource {
                problem: format!(
                    "{lock} takes `{}` from `{}`, which the recipe's sources do not have",
                    package.name, package.origin
                ),
                help: format!("delete {lock} to resolve all packages again, or restore the source"),
            });
        }
        downloads.push(Download {
            urls,
            size: package.size,
            sha256: package.sha256,
            destination: store.package(&package.sha256),
        });
    }
    fetcher.fetch_all(&downloads, &DownloadNews(report, "packages"))
}

/// Whether the store has a package file of the size that the lock says. One of another size is damaged, and is fetched
/// again; or else the lock is.
fn is_there(store: &Store, package: &PinnedPackage, lock: &str) -> Result<bool, DistroError> {
    let size = match std::fs::metadata(store.package(&package.sha256)) {
        Ok(found) if found.is_file() => found.len(),
        Ok(_) => 0,
        Err(_) => return Ok(false),
    };
    if size == package.size {
        return Ok(true);
    }
    match store.check_package(&package.sha256) {
        Ok(()) => Err(DistroError::LockedSize {
            package: package.name.clone(),
            lock: lock.to_owned(),
            locked: package.size,
            found: size,
        }),
        // It was removed.
        Err(StoreError::Damaged { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
