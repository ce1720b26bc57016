//! Directories whose files are brought when they are looked at.
//!
//! A revision of a repository may hold far more than what a recipe names. Its files need not lie on a disk before: anyone who
//! has them says so, and is asked before anything below its directory is looked at.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Whether something has that name, of what kind it is, and its mode.
    Name,
    Content,
    /// The names in it and their kinds.
    List,
}

/// Makes a path, relative to the directory, be there as far as it is needed; links on the way are followed.
type Supplier = Box<dyn FnMut(&Path, Need) + Send>;

static SUPPLIERS: Mutex<Vec<(Vec<PathBuf>, Supplier)>> = Mutex::new(Vec::new());
/// How many there are: looking anywhere costs no lock while there are none.
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn suppliers() -> MutexGuard<'static, Vec<(Vec<PathBuf>, Supplier)>> {
    SUPPLIERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory that is supplied until this goes.
#[derive(Debug)]
pub struct Supplied(PathBuf);

/// From now on `supplier` is asked before anything below `directory` is looked at, which is absolute. It must not look at
/// anything through this room itself.
pub fn supplied(directory: &Path, supplier: impl FnMut(&Path, Need) + Send + 'static) -> Supplied {
    let mut names = vec![directory.to_owned()];
    names.extend(directory.canonicalize().ok().filter(|real| real != directory));
    suppliers().push((names, Box::new(supplier)));
    COUNT.fetch_add(1, Ordering::Release);
    Supplied(directory.to_owned())
}

impl Drop for Supplied {
    fn drop(&mut self) {
        suppliers().retain(|(names, _)| names.first() != Some(&self.0));
        COUNT.fetch_sub(1, Ordering::Release);
    }
}

/// Lets a path be brought before it is looked at.
pub(crate) fn bring(path: &Path, need: Need) {
    if COUNT.load(Ordering::Acquire) == 0 {
        return;
    }
    for (names, supplier) in suppliers().iter_mut() {
        if let Some(below) = names.iter().find_map(|name| path.strip_prefix(name).ok()) {
            supplier(below, need);
        }
    }
}
