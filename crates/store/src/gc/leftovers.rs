//! Leftovers of killed processes, recognised by locks that are no longer held.

use std::path::PathBuf;

use crate::{FileLock, Store};

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
        for name in self.names_in("handover") {
            // `scratch-PID-TIME-NUMBER-WHAT`, as the scratch directory that it goes with.
            let of_process: Vec<&str> = name.splitn(5, '-').take(4).collect();
            let lock = self.directory().join("locks").join(of_process.join("-"));
            if of_process.len() == 4 && !lock.exists() {
                left.inside.push(format!("handover/{name}"));
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_handed_over_goes_also_where_its_lock_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let own = (rustix::process::geteuid(), rustix::process::getegid());
        let store = Store::open(folder.path(), "a map", (own.0.as_raw(), own.1.as_raw())).unwrap();
        let running = store.scratch().unwrap();
        let handed = |name: &str| {
            let name = format!("handover/{}-saved", name.replace('/', "-"));
            std::fs::create_dir_all(store.directory().join("handover")).unwrap();
            std::fs::write(store.directory().join(&name), "half").unwrap();
            name
        };
        let (_, dead) = (handed(&running.name), handed("scratch/1-2-3"));
        assert_eq!(store.leftovers().inside, [dead]);
    }
}
