//! Whose the state is: one directory is written by a server that runs as an account of its own, and by root's commands. What root writes
//! there belongs to the owner of the directory.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{State, StateError};
use files::shared::own_directory;

impl State {
    /// Makes the directory, and gives it to the account that the server will run as; what is the account's already is left as it is.
    /// Errors: It cannot be made or given; others decide what it is.
    pub fn hand_to(&self, account: (u32, u32)) -> Result<(), StateError> {
        if std::fs::metadata(&self.directory).is_ok_and(|found| found.uid() == account.0) {
            return Ok(());
        }
        let is_own = |path: &Path| match own_directory(path) {
            Err(problem) if !fault::planted("state-given-by-links") => {
                Err(StateError::NotGiven { path: self.directory.clone(), problem })
            }
            _ => Ok(()),
        };
        // Nothing is made behind a link either.
        self.directory.ancestors().find(|one| one.symlink_metadata().is_ok()).map(is_own).transpose()?;
        self.make()?;
        is_own(&self.directory)?;
        let given = self.shared().and_then(|shared| shared.hand_to(account));
        given.map_err(StateError::of("give to the server's account", &self.directory))
    }

    /// Whether this process may write what a server writes. That a disk is full is said when something is lost.
    /// Errors: It may not.
    pub fn try_to_write(&self) -> Result<(), StateError> {
        self.make()?;
        let made = tempfile::Builder::new().prefix(files::TEMPORARY).tempfile_in(&self.directory);
        match made.map(drop) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(StateError::of("write in", &self.directory)(error))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

    use super::*;

    #[test]
    fn a_state_of_which_others_decide_where_it_lies_is_not_given_away() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let owner = |name: &str| std::fs::symlink_metadata(at(name)).unwrap().uid();
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::create_dir_all(at("precious/deep")).unwrap();
        std::fs::create_dir_all(at("ws")).unwrap();
        let refused = |name: &str| {
            let error = State::at(at(name)).hand_to((55, 55)).unwrap_err();
            assert!(matches!(error, StateError::NotGiven { .. }), "{name}: {error}");
            assert_eq!((owner("precious"), owner("precious/deep")), (0, 0), "{name}");
        };
        // A link of another user, in the place of the state and of a folder above it.
        symlink(at("precious"), at("ws/nodes")).unwrap();
        symlink(at("precious"), at("ws/.imgbuild")).unwrap();
        for link in ["ws/nodes", "ws/.imgbuild"] {
            lchown(at(link), Some(1234), Some(1234)).unwrap();
        }
        for name in ["ws/nodes", "ws/.imgbuild/nodes", "ws/.imgbuild/deep"] {
            refused(name);
        }
        assert!(!at("precious/nodes").exists());
        // A folder that others can put another one in the place of.
        std::fs::create_dir_all(at("open/state")).unwrap();
        std::fs::set_permissions(at("open"), PermissionsExt::from_mode(0o777)).unwrap();
        refused("open/state");
        lchown(at("ws"), Some(1234), Some(1234)).unwrap();
        refused("ws/new");
        // What is the account's already is left as it is; a link of root's is the administrator's own.
        lchown(at("open/state"), Some(55), Some(55)).unwrap();
        State::at(at("open/state")).hand_to((55, 55)).unwrap();
        symlink(at("precious"), at("link")).unwrap();
        State::at(at("link/deep")).hand_to((55, 55)).unwrap();
        assert_eq!((owner("precious"), owner("precious/deep")), (0, 55));
    }
}
