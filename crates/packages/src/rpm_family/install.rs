//! What transactions of pinned packages are asked with.

use super::inside::{InstallRequest, RpmPackage};
use super::packages::package_file;
use super::resolve::solver::Solver;
use crate::Transaction;

pub(super) fn request(solver: &dyn Solver, transaction: &Transaction<'_>) -> InstallRequest {
    // What needs a package goes with it, when it goes.
    let with = |names: &[String]| match names {
        [] => Vec::new(),
        names => names.iter().chain(transaction.remove_with).cloned().collect(),
    };
    let files = transaction.files(package_file).into_iter().zip(transaction.packages);
    let package = |(file, one): (_, &recipe::PinnedPackage)| RpmPackage {
        file,
        line: format!("{} {} {}", one.name, one.version, one.architecture),
        nvra: format!(
            "{}-{}.{}",
            one.name,
            one.version.split_once(':').map_or(&*one.version, |(_, rest)| rest),
            one.architecture
        ),
        beside: one.beside,
    };
    InstallRequest {
        scratch: transaction.scratch.clone(),
        tools: transaction.tools.clone(),
        base: transaction.base.clone(),
        packages: files.map(package).collect(),
        remove: with(transaction.remove),
        remove_after: with(transaction.remove_after),
        conflicting: transaction.conflicting.to_vec(),
        installed: transaction.installed.map(<[String]>::to_vec),
        accounts: transaction.accounts.clone(),
        uname: transaction.uname.clone(),
        over_payload: transaction.over_payload,
        files: solver.module_files(transaction.modules),
        variables: transaction.variables.to_vec(),
        epoch: transaction.epoch,
        log: transaction.log.clone(),
    }
}
