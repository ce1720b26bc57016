//! Leftovers of killed processes, recognised by locks that are no longer held.

use std::path::PathBuf;

use crate::fault;
use crate::store::{FileLock, Store};

/// Half-finished work of processes that are gone; the locks keep others from removing the same.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Paths relative to the store's directory that are removed from inside.
    pub inside: Vec<String>,
    outside: Vec<PathBuf>,
    locks: Vec<FileLock>,
}

impl Leftovers {
    pub fn is_empty(&self) -> bool {
        self.locks.is_empty() && self.inside.is_empty()
    }

    /// Removes what the host process removes, and then the locks. What lies inside must be gone by now.
    pub fn remove(self) {
        for path in &self.outside {
            let _ = std::fs::remove_dir_all(path);
        }
        self.locks.into_iter().for_each(FileLock::remove);
    }
}

impl Store {
    pub fn leftovers(&self) -> Leftovers {
        let mut left = Leftovers::default();
        for file in self.names_in("locks") {
            let of_process = file.strip_prefix("scratch-").map(|name| ("scratch", name));
            let of_process = of_process.or_else(|| file.strip_prefix("aside-").map(|name| ("aside", name)));
            // Others are held while an action runs, and have nothing but themselves.
            let is_action = file.len() == 64 && file.bytes().all(|byte| byte.is_ascii_hexdigit());
            if of_process.is_none() && !is_action {
                continue;
            }
            let Ok(Some(lock)) = FileLock::try_take(&self.directory().join("locks").join(&file)) else { continue };
            left.locks.push(lock);
            match of_process {
                Some(("scratch", name)) => {
                    let handed = format!("scratch-{name}-");
                    let handover = self.names_in("handover").into_iter().filter(|file| file.starts_with(&handed));
                    left.inside.extend(handover.map(|file| format!("handover/{file}")));
                    if !fault::planted("leftover-stays") {
                        left.inside.push(format!("scratch/{name}"));
                    }
                    left.outside.push(self.directory().join("links").join(name));
                }
                Some((directory, name)) => left.outside.push(self.directory().join(directory).join(name)),
                None => {}
            }
        }
        // The lock is made before the directory: one without a lock belongs to no one.
        for name in self.names_in("scratch") {
            if !self.directory().join("locks").join(format!("scratch-{name}")).exists() {
                left.inside.push(format!("scratch/{name}"));
            }
        }
        left
    }
}
