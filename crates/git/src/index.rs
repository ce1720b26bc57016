//! What git tracks of a work tree, by its index: the same answer for every user, and no git program runs. The index is data of
//! others; no setting of the repository is read.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use gix::index::entry::Mode;

use base::digest::Digest;
use base::failure::contained;
use witness::{self, Stamp};

/// Largest index that is read, in bytes: several million files.
const INDEX_LIMIT: u64 = 1 << 30;
/// Largest file that names a repository's directory, in bytes.
const NAME_LIMIT: u64 = 1 << 13;

/// What git tracks at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracked {
    /// Nothing: it is in no work tree, or was not added.
    No,
    File {
        executable: bool,
    },
    /// A folder that holds tracked files.
    Folder,
    /// A repository of its own, of which nothing was fetched.
    Submodule,
}

/// Entries by their paths from the root of the work tree.
struct Index(BTreeMap<Vec<u8>, Tracked>);

/// Trees in which everything is as git tracks it, without a repository: the files of a revision.
static WHOLE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
/// Indexes that were read, by path.
static READ: Mutex<Option<HashMap<PathBuf, Known>>> = Mutex::new(None);

/// An index that was read, with the digest of its content and the file's stamp, if that counts.
struct Known {
    digest: Digest,
    stamp: Option<Stamp>,
    index: Arc<Index>,
}

/// Says that all files below a directory are those of a revision.
pub(crate) fn whole(tree: &Path) {
    let tree = tree.canonicalize().unwrap_or_else(|_| tree.to_owned());
    WHOLE.lock().unwrap_or_else(PoisonError::into_inner).push(tree);
}

/// Whether a path lies in the files of a revision.
pub fn is_whole(path: &Path) -> bool {
    WHOLE.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|tree| path.starts_with(tree))
}

/// What git tracks at a path without links.
/// Errors: The index cannot be read.
pub fn tracked(path: &Path) -> io::Result<Tracked> {
    if is_whole(path) {
        return Ok(match witness::is_dir(path) {
            true => Tracked::Folder,
            false => Tracked::File { executable: witness::mode(path)? & 0o100 != 0 },
        });
    }
    let Some((root, index)) = around(path)? else { return Ok(Tracked::No) };
    let below = path.strip_prefix(&root).unwrap_or(Path::new("")).as_os_str().as_bytes();
    Ok(index.at(below))
}

/// The repository of which nothing was fetched that a path lies in, from the root of the work tree.
/// Errors: As [`tracked`].
pub fn unfetched(path: &Path) -> io::Result<Option<(PathBuf, PathBuf)>> {
    if is_whole(path) {
        return Ok(None);
    }
    let Some((root, index)) = around(path)? else { return Ok(None) };
    let below = path.strip_prefix(&root).unwrap_or(Path::new(""));
    let found = below.ancestors().find(|above| index.at(above.as_os_str().as_bytes()) == Tracked::Submodule);
    // Files that somebody put there are content as well.
    let found = found.filter(|found| witness::list(&root.join(found)).is_ok_and(|names| names.is_empty()));
    Ok(found.map(|found| (root.clone(), found.to_owned())))
}

impl Index {
    fn at(&self, path: &[u8]) -> Tracked {
        if let Some(found) = self.0.get(path) {
            return *found;
        }
        let below = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
        match self.0.range(below.clone()..).next() {
            Some((next, _)) if next.starts_with(&below) => Tracked::Folder,
            _ => Tracked::No,
        }
    }
}

/// A work tree: its root, and its index.
type Tree = Option<(PathBuf, Arc<Index>)>;

thread_local! {
    /// The folder that was asked for last, in which recording, and the work tree around it.
    static LAST: RefCell<Option<(u64, PathBuf, Tree)>> = const { RefCell::new(None) };
}

/// The innermost work tree around a path.
fn around(path: &Path) -> io::Result<Tree> {
    let (number, folder) = match (witness::recording_number(), path.parent()) {
        (Some(number), Some(folder)) if !witness::is_dir(path) => (number, folder),
        _ => return around_now(path),
    };
    let known = LAST.with_borrow(|last| match last {
        Some((of, at, tree)) if (*of, at.as_path()) == (number, folder) => Some(tree.clone()),
        _ => None,
    });
    if let Some(tree) = known {
        return Ok(tree);
    }
    let tree = around_now(folder)?;
    LAST.set(Some((number, folder.to_owned(), tree.clone())));
    Ok(tree)
}

fn around_now(path: &Path) -> io::Result<Tree> {
    for folder in path.ancestors() {
        let dot = folder.join(".git");
        let directory = if witness::is_dir(&dot) {
            dot
        } else if witness::is_file(&dot) {
            // A further work tree, or a submodule. Source: gitrepository-layout(5).
            let Some(text) = witness::read_at_most(&dot, NAME_LIMIT)? else { continue };
            let Some(name) = text.strip_prefix(b"gitdir:") else { continue };
            folder.join(OsString::from_vec(name.trim_ascii().to_vec()))
        } else {
            continue;
        };
        // What git takes for a repository has a HEAD.
        if !witness::is_there(&directory.join("HEAD")) {
            continue;
        }
        let index = directory.join("index");
        if !witness::is_there(&index) {
            return Ok(None);
        }
        return Ok(Some((folder.to_owned(), read(&index)?)));
    }
    Ok(None)
}

fn read(path: &Path) -> io::Result<Arc<Index>> {
    let wrong = |reason: String| {
        io::Error::other(format!("git's index `{}` cannot be read: {reason}; see `git status`", path.display()))
    };
    if let Some(problem) = witness::not_a_file(path) {
        return Err(wrong(format!("it {problem}")));
    }
    if std::fs::metadata(path)?.len() > INDEX_LIMIT {
        return Err(wrong(format!("it is larger than {} GiB", INDEX_LIMIT >> 30)));
    }
    let stamp = witness::settled(path);
    let known = |is_it: &dyn Fn(&Known) -> bool| {
        let read = READ.lock().unwrap_or_else(PoisonError::into_inner);
        read.as_ref().and_then(|read| read.get(path)).filter(|known| is_it(known)).map(|known| Arc::clone(&known.index))
    };
    // A recording notes what it read; without one the stamp is enough.
    if witness::recording_number().is_none()
        && stamp.is_some()
        && let Some(index) = known(&|known| known.stamp == stamp)
    {
        return Ok(index);
    }
    let digest_of = || witness::digest(path).map(|(_, digest)| digest).map_err(|error| wrong(error.to_string()));
    let digest = digest_of()?;
    if let Some(index) = known(&|known| known.digest == digest && known.stamp == stamp) {
        return Ok(index);
    }
    let index = match known(&|known| known.digest == digest) {
        Some(index) => index,
        None => Arc::new(parsed(path).map_err(wrong)?),
    };
    // git replaces it as a whole: one that is another now is read by the next command.
    if digest_of()? == digest {
        let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
        let known = Known { digest, stamp, index: Arc::clone(&index) };
        read.get_or_insert_default().insert(path.to_owned(), known);
    }
    Ok(index)
}

fn parsed(path: &Path) -> Result<Index, String> {
    let open = |hash| {
        // gix panics at some that git would call corrupt.
        contained(|| gix::index::File::at(path, hash, false, Default::default()))
            .and_then(|file| file.map_err(|error| super::plainly(&error)))
    };
    // Which of the hashes a repository uses stands in its settings; a file of the other has no checksum.
    let file = open(gix::hash::Kind::Sha1).or_else(|problem| open(gix::hash::Kind::Sha256).map_err(|_| problem))?;
    let mut entries = BTreeMap::new();
    for entry in file.entries() {
        let path: &[u8] = entry.path(&file);
        let what = match entry.mode {
            Mode::FILE => Tracked::File { executable: fault::planted("git-index-executable") },
            Mode::FILE_EXECUTABLE => Tracked::File { executable: true },
            Mode::COMMIT => Tracked::Submodule,
            Mode::DIR => Tracked::Folder,
            // A link has neither owner nor mode; what it leads to is asked for by its own path.
            _ => Tracked::File { executable: false },
        };
        entries.insert(path.strip_suffix(b"/").unwrap_or(path).to_vec(), what);
    }
    Ok(Index(entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(directory: &Path, words: &[&str]) {
        let settings = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"];
        let done =
            std::process::Command::new("git").current_dir(directory).args(settings).args(words).output().unwrap();
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// A repository with a file in a folder, one that may be executed and one that is not added.
    fn made() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap().join("site");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        for name in ["etc/motd", "run", "new", "etcetera"] {
            std::fs::write(root.join(name), name).unwrap();
        }
        run(&root, &["init", "-q"]);
        run(&root, &["add", "etc", "run", "etcetera"]);
        run(&root, &["update-index", "--chmod=+x", "run"]);
        (directory, root)
    }

    #[test]
    fn what_is_tracked_is_known_by_the_index_alone() {
        let (_directory, root) = made();
        let at = |name: &str| tracked(&root.join(name)).unwrap();
        let all = ["", "etc", "etc/motd", "run", "new", "et", "etc/missing"].map(at);
        let (plain, executable) = (Tracked::File { executable: false }, Tracked::File { executable: true });
        assert_eq!(all, [Tracked::Folder, Tracked::Folder, plain, executable, Tracked::No, Tracked::No, Tracked::No]);
        // The index has it otherwise now.
        run(&root, &["update-index", "--chmod=-x", "run"]);
        run(&root, &["add", "new"]);
        assert_eq!((at("run"), at("new")), (plain, plain));
        // An index in two files, and one that is sparse.
        run(&root, &["update-index", "--split-index"]);
        run(&root, &["update-index", "--chmod=+x", "new"]);
        assert_eq!((at("etc/motd"), at("new")), (plain, executable));
        assert_eq!(tracked(root.parent().unwrap()).unwrap(), Tracked::No);
    }

    #[test]
    fn an_index_is_read_once_for_all_files_also_outside_a_recording() {
        let (_directory, root) = made();
        // What this thread read so far, in bytes.
        let bytes_read = || {
            let text = std::fs::read_to_string("/proc/thread-self/io").unwrap();
            text.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse::<u64>().unwrap()
        };
        for number in 0..2000 {
            std::fs::write(root.join(format!("etc/a-file-with-a-long-name-{number}")), "").unwrap();
        }
        run(&root, &["add", "."]);
        let index = root.join(".git/index");
        while witness::settled(&index).is_none() {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert_ne!(tracked(&root.join("run")).unwrap(), Tracked::No);
        let before = bytes_read();
        assert_ne!(tracked(&root.join("etc/motd")).unwrap(), Tracked::No);
        let read = bytes_read() - before;
        assert!(read < std::fs::metadata(&index).unwrap().len() / 2, "{read} bytes");
        // One that git writes now is another one.
        run(&root, &["rm", "-q", "--cached", "etc/motd"]);
        assert_eq!(tracked(&root.join("etc/motd")).unwrap(), Tracked::No);
    }

    #[test]
    fn further_work_trees_and_submodules_have_their_own_index() {
        let (directory, root) = made();
        run(&root, &["commit", "-qm", "one"]);
        run(&root, &["worktree", "add", "-q", "../other"]);
        let other = directory.path().canonicalize().unwrap().join("other");
        assert_eq!(tracked(&other.join("etc/motd")).unwrap(), Tracked::File { executable: false });
        let above = directory.path().canonicalize().unwrap().join("above");
        std::fs::create_dir(&above).unwrap();
        run(&above, &["init", "-q"]);
        run(&above, &["submodule", "--quiet", "add", "../site", "sub"]);
        assert_eq!(tracked(&above.join("sub/run")).unwrap(), Tracked::File { executable: true });
        assert_eq!(unfetched(&above.join("sub/run")).unwrap(), None);
        run(&above, &["commit", "-qm", "one"]);
        run(&above, &["clone", "-q", ".", "../clone"]);
        let clone = directory.path().canonicalize().unwrap().join("clone");
        assert_eq!(tracked(&clone.join("sub")).unwrap(), Tracked::Submodule);
        assert_eq!(unfetched(&clone.join("sub/run")).unwrap(), Some((clone, "sub".into())));
    }

    #[test]
    fn an_index_that_is_none_is_an_error_and_never_a_tree_without_one() {
        let (_directory, root) = made();
        let index = root.join(".git/index");
        let whole = std::fs::read(&index).unwrap();
        for bytes in [&b""[..], b"DIRC", &whole[..whole.len() - 7], &[0xff; 200]] {
            std::fs::write(&index, bytes).unwrap();
            let problem = tracked(&root.join("run")).unwrap_err().to_string();
            assert!(problem.contains("git's index") && problem.contains("git status"), "{problem}");
        }
        std::fs::remove_file(&index).unwrap();
        assert_eq!(tracked(&root.join("run")).unwrap(), Tracked::No);
        std::fs::create_dir(&index).unwrap();
        assert!(tracked(&root.join("run")).is_err());
        // A directory of that name is no repository by itself.
        std::fs::remove_file(root.join(".git/HEAD")).unwrap();
        assert_eq!(tracked(&root.join("run")).unwrap(), Tracked::No);
    }
}
