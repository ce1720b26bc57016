//! A root of unpacked packages, from inside: tools roots.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::payload::{Opened, Owners, skeleton};
use crate::inside::common::{Made, PackageFile};
use crate::rpm::Package;
use archive::Extractor;
use recipe::Accounts;
use sandbox::helper::News;
use store::scan;
use store::{ScanRequest, TreeEditor, in_scratch, make_directories};

/// Version of what [`inside`] does; part of the keys of what runs in tools roots (D9). 1: first.
pub const ROOT_VERSION: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RpmRootRequest {
    /// Scratch directory, relative to the store's.
    pub scratch: String,
    /// Those that bring only directories and links are unpacked first, whatever their order.
    pub packages: Vec<PackageFile>,
    /// No time is later than this.
    pub epoch: i64,
}

/// Unpacks packages in an empty root and commits the layer. No script runs.
pub(crate) fn inside(request: RpmRootRequest, progress: News<'_>) -> Result<Made, String> {
    in_scratch(&request.scratch, || {
        let tree = format!("{}/tree", request.scratch);
        make_directories(&tree, &[""])?;
        unpack_all(&tree, &request.packages, progress)?;
        fault::point("unpack.done");
        let answer = scan(&ScanRequest { tree, base: Vec::new(), epoch: request.epoch, whole: false })?;
        Ok(Made::Layer(answer, Accounts::default()))
    })
}

/// Unpacks packages into a tree, given relative to the working directory, several at a time.
///
/// First come directories and links, in the packages' order, so that what is made does not depend on which thread is
/// faster; then files. A file that two packages have must be the same in both.
/// Errors: A text that names the package.
pub fn unpack_all(tree: &str, files: &[PackageFile], progress: News<'_>) -> Result<(), String> {
    let open = |package: &PackageFile| -> Result<Opened<BufReader<File>>, String> {
        let file = File::open(&package.file).map_err(|error| format!("{}: {error}", package.name))?;
        Opened::new(BufReader::with_capacity(1 << 17, file)).map_err(|problem| format!("{} {problem}", package.name))
    };
    progress(&format!("reading {} packages", files.len()));
    let mut packages: Vec<(usize, Package)> = files
        .par_iter()
        .enumerate()
        .map(|(at, package)| Ok((at, open(package)?.package)))
        .collect::<Result<_, String>>()?;
    // Links such as /bin must be there before files come through them.
    packages.sort_by_key(|(at, package)| {
        let full = package.files.is_empty()
            || package.files.iter().any(|file| !(file.ghost || file.is_directory() || file.is_link()));
        (full, *at)
    });
    let mut extractor = Extractor::new(tree)?;
    let accounts = accounts(tree, &packages, &open, files, &mut extractor)?;
    for (at, package) in &packages {
        skeleton(&mut extractor, package, &accounts).map_err(|problem| format!("{} {problem}", files[*at].name))?;
    }
    let owner = claims(&packages, files)?;
    progress(&format!("unpacking {} packages", files.len()));
    packages.par_iter().try_for_each(|(at, package)| {
        let said = |problem: String| format!("{} {problem}", files[*at].name);
        if !package.files.iter().any(|file| file.is_file() && !file.ghost) {
            return Ok(());
        }
        fault::point("unpack.package");
        let mut extractor = Extractor::new(tree)?;
        let wanted = |index: usize| owner.get(package.files[index].path.as_str()) == Some(at);
        open(&files[*at])?.files(&mut extractor, &accounts, &wanted).map_err(said)
    })?;
    extractor.finish()
}

type Open<'a> = &'a dyn Fn(&PackageFile) -> Result<Opened<BufReader<File>>, String>;

/// The users and groups of the packages that bring /etc/passwd and /etc/group; these are unpacked for it.
fn accounts(
    tree: &str,
    packages: &[(usize, Package)],
    open: Open<'_>,
    files: &[PackageFile],
    extractor: &mut Extractor,
) -> Result<Owners, String> {
    let is_table = |path: &str| matches!(path, "/etc/passwd" | "/etc/group");
    for (at, package) in packages {
        if !package.files.iter().any(|file| is_table(&file.path) && file.is_file() && !file.ghost) {
            continue;
        }
        let wanted = |index: usize| is_table(&package.files[index].path);
        open(&files[*at])?
            .files(extractor, &Owners::default(), &wanted)
            .map_err(|problem| format!("{} {problem}", files[*at].name))?;
    }
    let editor = TreeEditor::open(tree)?;
    let text = |name: &str| {
        let mut text = String::new();
        if let Some(mut file) = editor.open_file(name) {
            file.read_to_string(&mut text).map_err(|error| format!("cannot read `{name}`: {error}"))?;
        }
        Ok::<String, String>(text)
    };
    Ok(Owners::read(&text("etc/passwd")?, &text("etc/group")?))
}

/// Which package brings each file: the first that has it.
fn claims<'p>(packages: &'p [(usize, Package)], files: &[PackageFile]) -> Result<HashMap<&'p str, usize>, String> {
    let mut owner: HashMap<&str, (usize, usize)> = HashMap::new();
    for (place, (_, package)) in packages.iter().enumerate() {
        for (index, file) in package.files.iter().enumerate().filter(|(_, file)| file.is_file() && !file.ghost) {
            let Some((other_place, other_index)) = owner.get(file.path.as_str()).copied() else {
                owner.insert(&file.path, (place, index));
                continue;
            };
            let (other_at, other) = &packages[other_place];
            if other.files[other_index].digest != file.digest || other.files[other_index].mode != file.mode {
                return Err(format!(
                    "{} and {} both contain `{}`, with different content",
                    files[*other_at].name,
                    files[packages[place].0].name,
                    file.path.escape_default()
                ));
            }
        }
    }
    Ok(owner.into_iter().map(|(path, (place, _))| (path, packages[place].0)).collect())
}

#[cfg(test)]
mod tests;
