//! A root made of packages alone: tools roots, and the base of each image.

use super::blame::failure;
use super::inside::PackageFile;
use super::root::RootRequest;
use crate::distro::inside::common::Made;
use crate::distro::{Bootstrap, DistroError, Layer, ready_name};
use crate::sandbox::Namespace;
use crate::store::Store;

/// Version of what [`bootstrap`] does with configured packages. 1: first; 2: tells the accounts; 3: /proc tells no kernel of the host.
pub const BOOTSTRAP_VERSION: u32 = 3;

/// Version of what [`bootstrap`] does without configuring; part of the keys of what runs in tools roots (D9). 1: first.
pub const UNPACK_VERSION: u32 = 1;

/// Architectures whose programs name a loader in /lib64. Source: the ABIs' supplements, and base-files of Debian.
const LIB64: [&str; 2] = ["amd64", "ppc64el"];

/// Unpacks packages in an empty root, configures them where that is asked for, and commits the layer.
/// Errors: [`DistroError::MaintainerScript`] when a script fails, [`DistroError::PackageManager`] for anything else.
pub fn bootstrap(
    store: &Store,
    namespace: &Namespace,
    request: &Bootstrap<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<Layer, DistroError> {
    let scratch = store.scratch()?;
    for package in request.packages {
        scratch.link(&store.directory().join(ready_name(request.ready, &package.sha256)), &package.file_name())?;
    }
    let inside = RootRequest {
        scratch: scratch.name.clone(),
        links: scratch.links_name.clone(),
        packages: request
            .packages
            .iter()
            .map(|package| PackageFile { file: ready_name(request.ready, &package.sha256), name: package.name.clone() })
            .collect(),
        configure: request.configure,
        lib64: request.packages.iter().any(|package| LIB64.contains(&package.architecture.as_str())),
        epoch: request.epoch,
        log: request.log.clone(),
    };
    match namespace.call("apt-root", &inside, progress)? {
        Made::Layer(answer, accounts) => Ok((answer, accounts)),
        Made::AsksRelease => Err(DistroError::AsksRelease),
        Made::Failed(result) => {
            Err(failure("configuring the base packages", &result, &store.directory().join(&request.log)))
        }
    }
}
