//! filelists: all files of all packages. Large, so that it is read only for paths that `primary` leaves out.

use std::collections::BTreeSet;
use std::io::BufRead;

use super::xml::{Event, Reader};

/// Reads an unpacked filelists.xml for some paths; calls `found` with the digits of a package's digest and a path.
///
/// # Errors
/// A text that says what is wrong and where.
pub(super) fn find_paths(
    data: impl BufRead,
    wanted: &BTreeSet<String>,
    mut found: impl FnMut(&str, &str),
) -> Result<(), String> {
    let mut reader = Reader::new(data);
    let mut package = String::new();
    while let Some(event) = reader.next()? {
        match event {
            Event::Start { name: "package", attributes } => {
                package.clear();
                package.push_str(attributes.get("pkgid").unwrap_or_default());
            }
            Event::End { name: "file", text } if wanted.contains(text) => found(&package, text),
            _ => {}
        }
    }
    reader.ended_within("filelists")
}
