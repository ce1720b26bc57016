//! Having packages brought.

use super::report::{DownloadNews, Report};
use crate::distro::{DistroError, Download, Fetcher};
use crate::recipe::PinnedPackage;
use crate::store::Store;

/// Downloads the packages that the store lacks.
///
/// # Errors
/// [`DistroError`]; a package whose origin is not known is one.
pub fn download_packages(
    fetcher: &Fetcher,
    store: &Store,
    packages: &[PinnedPackage],
    url_of: &dyn Fn(&str) -> Vec<String>,
    report: &dyn Report,
) -> Result<(), DistroError> {
    let mut downloads = Vec::new();
    for package in packages {
        if store.package(&package.sha256).is_file() {
            continue;
        }
        let urls: Vec<String> = url_of(&package.origin).iter().map(|url| format!("{url}/{}", package.file)).collect();
        if urls.is_empty() {
            return Err(DistroError::NoSource {
                problem: format!(
                    "image.lock takes `{}` from `{}`, which the recipe's sources do not have",
                    package.name, package.origin
                ),
                help: "delete image.lock to resolve all packages again, or restore the source".to_owned(),
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
