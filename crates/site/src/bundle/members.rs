//! What a bundle of imgbuild says of its own members, so that damage is found before anything is written.

use std::io::Read;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Members {
    pub format_version: String,
    /// Each member but this file.
    pub members: Vec<Member>,
    /// Folders and files of the management node that lie below `imgbuild/site`, whole: the recipe reads them there.
    #[serde(default)]
    pub paths: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Member {
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, in hexadecimal digits.
    pub sha256: String,
}

pub(super) const MEMBERS_FORMAT: &str = "1.0";

/// Size and digest of a file.
pub(super) fn measure(path: &Path) -> std::io::Result<(u64, String)> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut size = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
    Ok((size, HEXLOWER.encode(&hasher.finalize())))
}

/// A member's mode: whether it is executed, and whether it is for everybody.
pub(super) fn member_mode(mode: u32) -> u32 {
    let all = if mode & 0o100 != 0 { 0o755 } else { 0o644 };
    if mode & 0o004 == 0 { all & 0o700 } else { all }
}

/// Says which files go along that not everybody reads here.
pub(super) fn private<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Option<String> {
    let mode = |found: std::fs::Metadata| std::os::unix::fs::PermissionsExt::mode(&found.permissions());
    let is_private = |path: &&PathBuf| std::fs::metadata(path).is_ok_and(|found| mode(found) & 0o004 == 0);
    let private: Vec<String> = files.filter(is_private).map(|path| format!("`{}`", path.display())).collect();
    let more = if private.len() > 8 { format!(" and {} more", private.len() - 8) } else { String::new() };
    let shown = private[..private.len().min(8)].join(", ");
    (!private.is_empty()).then(|| {
        format!("the bundle has files that not everybody can read here: {shown}{more}; its mode is 0600: keep it so where it goes")
    })
}

impl Members {
    /// The first member that is not as it should be.
    pub(super) fn problem(&self, folder: &Path) -> Option<String> {
        self.members.iter().find_map(|member| match measure(&folder.join(&member.name)) {
            Ok((size, digest)) if size == member.size && digest == member.sha256 => None,
            Ok((size, _)) if size != member.size => {
                Some(format!("`{}` has {size} bytes instead of {}", member.name, member.size))
            }
            Ok(_) if fault::planted("bundle-member-unchecked") => None,
            Ok(_) => Some(format!("the SHA-256 of `{}` does not match the bundle", member.name)),
            Err(error) => Some(format!("`{}` is missing: {error}", member.name)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_is_not_as_it_was_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "text").unwrap();
        let (size, sha256) = measure(&path).unwrap();
        let members = Members { members: vec![Member { name: "a".to_owned(), size, sha256 }], ..Members::default() };
        assert_eq!(members.problem(folder.path()), None);
        for (other, said) in
            [(Some("test"), "the SHA-256 of `a`"), (Some("texts"), "has 5 bytes"), (None, "is missing")]
        {
            match other {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            let problem = members.problem(folder.path()).unwrap();
            assert!(problem.contains(said), "{problem}");
        }
    }
}
