//! What was written of an image into a directory.

use base::digest::Sha256;
use serde::{Deserialize, Serialize};

pub(super) const VERSION: u32 = 1;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub path: String,
    /// What it was made of.
    pub of: String,
    pub sha256: Sha256,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Record {
    pub version: u32,
    pub build: String,
    /// Digest of the path of the directory in which this image's builds are: another one has images of its own, maybe of the same name. The
    /// path itself is not for all who can read the record, because web servers give it to nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Digest of the image's index: the same wherever the image is published.
    pub image: Option<Sha256>,
    pub files: Vec<Entry>,
    /// Those of the publication before that are still there under names of their own.
    #[serde(default)]
    pub kept: Vec<Entry>,
    /// Paths that go when this one takes place.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// Whether a path stays below the directory, and out of what belongs to imgbuild.
fn is_below(path: &str) -> bool {
    let parts = || path.split('/');
    parts().all(|part| !part.is_empty() && part != "." && part != "..") && parts().next() != Some(super::STATE)
}

impl Record {
    /// Whether it can be one of imgbuild's: the directory's owner can write to it.
    pub(super) fn is_good(&self) -> bool {
        let paths = self.files.iter().chain(&self.kept).map(|entry| &entry.path).chain(&self.remove);
        self.version == VERSION && paths.into_iter().all(|path| is_below(path))
    }

    pub(super) fn of(&self, path: &str) -> Option<&Entry> {
        self.files.iter().chain(&self.kept).find(|entry| entry.path == path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_leads_nowhere_else() {
        let of = |path: &str| Record { version: VERSION, remove: vec![path.to_owned()], ..Record::default() };
        assert!(of("boot/kernel").is_good());
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", ".imgbuild-publish/lock"] {
            assert!(!of(bad).is_good(), "{bad}");
        }
        assert!(!Record::default().is_good());
    }
}
