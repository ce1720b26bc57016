//! The nodes' file as `serve` took it over last: what it starts with while the file has an error.

use std::path::Path;

use super::{State, StateError};
use crate::file::Nodes;
use base::source::SourceFile;
use files::Durability;

/// Bytes of it at most.
const LONGEST: u64 = 64 << 20;

fn file(name: &str) -> String {
    format!("last.{name}")
}

impl State {
    /// Keeps a file of nodes without an error.
    /// Errors: It cannot be written; what was there stays.
    pub fn keep_last(&self, nodes: &SourceFile) -> Result<(), StateError> {
        self.replace(&file(&nodes.name), nodes.text.as_bytes(), 0o600, Durability::PowerCut)
    }

    /// The nodes of the file that was kept last, by the path of the file as it is now.
    pub fn last(&self, path: &Path) -> Option<Nodes> {
        let name = path.file_name()?.to_str()?;
        let text = String::from_utf8(self.read_bytes(&file(name), LONGEST).ok()??).ok()?;
        Nodes::of_file(&SourceFile::new(name, path, text)).ok()
    }
}
