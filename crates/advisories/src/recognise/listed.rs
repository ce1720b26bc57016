//! Texts with names and versions: METADATA of Python's packages, pom.properties of Maven's.

use super::Part;
use crate::Ecosystem;

/// Whether a path is that of a text which an installed package of Python has. Source: packaging.python.org, "Recording installed
/// projects".
pub(super) fn is_metadata(path: &str) -> bool {
    [".dist-info/METADATA", ".egg-info/PKG-INFO"].iter().any(|ending| path.ends_with(ending))
}

/// Name and version of METADATA. Source: packaging.python.org, "Core metadata specifications".
pub(super) fn metadata(text: &str) -> Option<Part> {
    // Behind an empty line is the description.
    let head = || text.lines().map(|line| line.trim_end_matches('\r')).take_while(|line| !line.is_empty());
    let field = |name: &str| head().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Part::new(Ecosystem::PyPi, field("Name:")?, field("Version:")?)
}

/// Name and version of pom.properties, as Maven's archiver writes it.
pub(super) fn properties(text: &str) -> Option<Part> {
    let value = |key: &str| text.lines().find_map(|line| line.trim().strip_prefix(key)?.trim_start().strip_prefix('='));
    let [group, artifact, version] = ["groupId", "artifactId", "version"].map(|key| value(key).map(str::trim));
    Part::new(Ecosystem::Maven, &format!("{}:{}", group?, artifact?), version?)
}
