//! Media of several repositories on a server: RHEL 8 and its kin have BaseOS and AppStream, and nothing at their root. In directories of this
//! machine all repositories are found by themselves.

use std::collections::{BTreeMap, BTreeSet};

use crate::rpm::RepositorySource;
use crate::{DistroError, Fetcher};

/// Largest .treeinfo, in bytes.
const TREE_LIMIT: u64 = 1 << 20;

/// The repositories of a medium without one at its root: each is as far trusted as the medium, and signed as one of its own.
/// `gone` is what was said of the root.
/// Errors: `gone`, where it is no such medium.
pub(crate) fn parts(
    fetcher: &Fetcher,
    source: &RepositorySource,
    gone: DistroError,
) -> Result<Vec<RepositorySource>, DistroError> {
    let base = match source.base.as_slice() {
        [base] if is_server(base) && source.metalink.is_none() && source.mirrorlist.is_none() => base,
        _ => return Err(gone),
    };
    if !matches!(gone, DistroError::NotThere { .. }) {
        return Err(gone);
    }
    let base = base.trim_end_matches('/');
    let Ok(tree) = fetcher.read(&format!("{base}/.treeinfo"), TREE_LIMIT) else { return Err(gone) };
    let folders = folders(&String::from_utf8_lossy(&tree));
    if folders.is_empty() {
        return Err(gone);
    }
    let part = |folder: String| RepositorySource {
        id: format!("{}-{folder}", source.id),
        base: vec![format!("{base}/{folder}")],
        ..source.clone()
    };
    Ok(folders.into_iter().map(part).collect())
}

/// Where the packages of a part are, by what image.lock calls it: nothing has to be asked for that.
pub(crate) fn roots_of_part(roots: &BTreeMap<String, Vec<String>>, origin: &str) -> Vec<String> {
    let part = roots.iter().filter_map(|(id, bases)| {
        let folder = origin.strip_prefix(id)?.strip_prefix('-').filter(|folder| is_plain(folder))?;
        Some((id.len(), bases.iter().filter(|base| is_server(base)).map(move |base| format!("{base}/{folder}"))))
    });
    part.max_by_key(|(length, _)| *length).map(|(_, bases)| bases.collect()).unwrap_or_default()
}

fn is_server(base: &str) -> bool {
    base.starts_with("http:") || base.starts_with("https:")
}

/// Whether a folder stands in a lock as it is.
fn is_plain(folder: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    folder.starts_with(|c: char| c.is_ascii_alphanumeric()) && folder.chars().all(is_letter)
}

/// The folders of a medium's variants that are repositories. Source: productmd, "Treeinfo file format 1.x": `repository` of
/// `[variant-UID]`, relative to the medium's root.
fn folders(tree: &str) -> BTreeSet<String> {
    let mut is_variant = false;
    let mut found = BTreeSet::new();
    for line in tree.lines().map(str::trim) {
        if line.starts_with('[') {
            is_variant = line.starts_with("[variant-");
        }
        if let Some((name, value)) = line.split_once('=')
            && is_variant
            && name.trim() == "repository"
        {
            found.extend(Some(value.trim().trim_end_matches('/')).filter(|folder| is_plain(folder)).map(str::to_owned));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Rocky Linux 9 has it, cut, with what no medium may lead to.
    const TREE: &str = "[header]\ntype = productmd.treeinfo\nversion = 1.2\n\n[general]\nfamily = Rocky Linux\npackagedir = \n\
        repository = AppStream\nvariant = AppStream\nvariants = AppStream,BaseOS\n\n[variant-AppStream]\nid = AppStream\n\
        packages = AppStream/Packages\nrepository = AppStream\ntype = variant\n\n[variant-BaseOS]\nid = BaseOS\nrepository=BaseOS/\n\n\
        [variant-Evil]\nrepository = ../other\n[variant-Worse]\nrepository = http://h/x\n[variant-Root]\nrepository = .\n";

    #[test]
    fn variants_are_repositories_below_the_medium() {
        assert_eq!(folders(TREE).into_iter().collect::<Vec<_>>(), ["AppStream", "BaseOS"]);
        assert!(folders("[general]\nrepository = AppStream\n").is_empty() && folders("").is_empty());
    }

    #[test]
    fn a_locked_part_has_its_place_without_asking() {
        let roots = [("dvd", "http://h/dvd"), ("dvd-two", "https://h/two"), ("disc", "file:/mnt")];
        let roots = roots.map(|(id, base)| (id.to_owned(), vec![base.to_owned()])).into();
        for (origin, place) in [
            ("dvd-BaseOS", Some("http://h/dvd/BaseOS")),
            ("dvd-two-BaseOS", Some("https://h/two/BaseOS")),
            ("disc-BaseOS", None),
            ("dvd-../x", None),
            ("dvd-", None),
            ("other-BaseOS", None),
        ] {
            assert_eq!(roots_of_part(&roots, origin).first().map(String::as_str), place, "{origin}");
        }
    }
}
