//! What a publication changes, or would change.

/// What becomes of one thing: a file, a directory, a document on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    New,
    Changed,
    Removed,
    Unchanged,
    /// It was changed by hand since imgbuild wrote it; it is replaced.
    Drift,
}

/// One thing of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Path below the directory, or address of the document.
    pub name: String,
    pub change: Change,
}

/// What a publication changed, or would change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    pub items: Vec<Item>,
    /// What an administrator has to know; shown also with `-q`.
    pub warnings: Vec<String>,
    /// What is left to do, as commands or lines of configuration; a line each.
    pub next: Vec<String>,
}

impl Report {
    pub fn add(&mut self, name: impl Into<String>, change: Change) {
        self.items.push(Item { name: name.into(), change });
    }

    /// The same with more to say: what is to be known of the layout comes first.
    pub(crate) fn with(mut self, mut warnings: Vec<String>, next: Vec<String>) -> Self {
        warnings.append(&mut self.warnings);
        self.warnings = warnings;
        self.next.extend(next);
        self
    }

    /// Whether anything is, or would be, different afterwards.
    pub fn changes(&self) -> bool {
        self.items.iter().any(|item| item.change != Change::Unchanged)
    }
}
