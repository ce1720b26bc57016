//! Transactions of pinned packages, with no network.

use super::blame::{failing, failure};
use super::inside::{InstallAnswer, InstallRequest};
use super::packages::package_file;
use super::resolve::solver::Solver;
use crate::distro::{DistroError, Install, Layer, ready_name};
use crate::sandbox::Namespace;
use crate::store::Store;

/// Installs packages and commits the layer.
/// Errors: [`DistroError::MaintainerScript`] with the package when one of its scripts fails, [`DistroError::PackageManager`]
/// with the log's last lines for anything else.
pub fn install(
    solver: &dyn Solver,
    store: &Store,
    namespace: &Namespace,
    request: &Install<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<Layer, DistroError> {
    let scratch = store.scratch()?;
    for package in request.packages {
        scratch.link(&store.directory().join(ready_name(request.ready, &package.sha256)), &package_file(package))?;
    }
    // What needs a package goes with it, when it goes.
    let with = |names: &[String]| match names {
        [] => Vec::new(),
        names => names.iter().chain(request.remove_with).cloned().collect(),
    };
    let inside = InstallRequest {
        scratch: scratch.name.clone(),
        links: scratch.links_name.clone(),
        tools: request.tools.clone(),
        base: request.base.clone(),
        packages: request
            .packages
            .iter()
            .map(|one| {
                let line = format!("{} {} {}", one.name, one.version, one.architecture);
                (package_file(one), one.name.clone(), line)
            })
            .collect(),
        remove: with(request.remove),
        remove_after: with(request.remove_after),
        conflicting: request.conflicting.to_vec(),
        accounts: request.accounts.clone(),
        uname: request.uname.clone(),
        over_payload: request.over_payload,
        files: solver.module_files(request.modules),
        variables: request.variables.to_vec(),
        epoch: request.epoch,
        log: request.log.clone(),
    };
    let log = store.directory().join(&request.log);
    match namespace.call("rpm-install", &inside, progress)? {
        // rpm itself goes on after most scripts that fail.
        InstallAnswer::Layer(answer, accounts) => match failing(&log, request.failing) {
            Some(error) => Err(error),
            None => Ok((answer, accounts)),
        },
        InstallAnswer::AsksRelease => Err(DistroError::AsksRelease),
        InstallAnswer::Lacking(names) => Err(DistroError::PackageManager {
            what: format!("installing packages: afterwards the package database lacks {}", names.join(", ")),
            status: 0,
            lines: String::new(),
            log: log.display().to_string(),
        }),
        InstallAnswer::Failed(result) => Err(failure("installing packages", &result, &log)),
    }
}
