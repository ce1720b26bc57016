//! Files of a checkout whose content was not fetched: git then has a stand-in for them, or an empty folder.

use std::path::Path;

use crate::load::moved;
use git::{is_whole, unfetched};

/// Larger files are no stand-ins. Sources: git-lfs, docs/spec.md; git-annex, pointer file format.
const POINTER_LIMIT: u64 = 1024;

/// Why a file or folder has not the content that it stands for, and the command that fetches it; none where it has.
pub fn without_content(path: &Path) -> Option<(String, String)> {
    if is_whole(path) || moved::is_moved() {
        return None;
    }
    let folder = path.parent().unwrap_or(path).display();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let annexed = || {
        let help = format!("fetch its content: git -C {folder} annex get {name}");
        Some(("git-annex keeps its content elsewhere".to_owned(), help))
    };
    if !witness::exists(path) {
        let target = witness::link_target(path).unwrap_or_default();
        if target.to_string_lossy().contains(".git/annex/objects/") {
            return annexed();
        }
        return of_submodule(path);
    }
    if witness::is_dir(path) {
        return of_submodule(path);
    }
    if !witness::is_file(path) {
        return None;
    }
    // Larger ones are not read here; what becomes of their size, their digest says.
    let bytes = witness::read_at_most(path, POINTER_LIMIT).ok()??;
    if bytes.starts_with(b"version https://git-lfs.github.com/spec/v1\n") {
        let help = format!("fetch its content: git -C {folder} lfs pull");
        return Some(("it is a pointer of Git LFS, and its content was not fetched".to_owned(), help));
    }
    if bytes.starts_with(b"/annex/objects/") {
        return annexed();
    }
    None
}

fn of_submodule(path: &Path) -> Option<(String, String)> {
    let (root, below) = unfetched(path).ok()??;
    let help = format!("fetch it: git -C {} submodule update --init {}", root.display(), below.display());
    Some((format!("the submodule `{}` was not fetched", below.display()), help))
}
