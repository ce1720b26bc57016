//! The closure of hard requirements over some seeds.

use super::Repository;
use crate::distro::DistroError;

/// What has to be installed for some seeds: pairs of a repository's and a candidate's index, in no special order.
///
/// A seed is a package name, `name = version`, a capability, or a path. Weak dependencies are left out.
///
/// # Errors
/// [`DistroError::NoClosure`] that says which package needs what.
pub fn closure(repositories: &[Repository], seeds: &[String], arch: &str) -> Result<Vec<(usize, usize)>, DistroError> {
    let _ = (repositories, seeds, arch);
    Err(DistroError::NoClosure { detail: "not reckoned yet".to_owned(), help: String::new() })
}
