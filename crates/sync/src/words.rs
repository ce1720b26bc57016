//! Words of the protocol: names that go through a shell, and texts that come back.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};

/// A name as `printf %b` undoes it: one word for a shell's `read`, whatever is in it.
pub(crate) fn encoded(name: &Path) -> String {
    let mut word = String::new();
    for byte in name.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' => word.push(char::from(*byte)),
            other => word.push_str(&format!("\\0{other:03o}")),
        }
    }
    word
}

/// A word in single quotes for a shell.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Bytes of base64 in lines.
pub(crate) fn from_base64(text: &[u8]) -> Result<Vec<u8>, String> {
    let text: String = text.iter().map(|byte| char::from(*byte)).filter(|letter| !letter.is_whitespace()).collect();
    Base64::decode_vec(&text).map_err(|_| "the answer is not base64".to_owned())
}

pub(crate) fn path_of(text: &[u8]) -> Result<PathBuf, String> {
    Ok(PathBuf::from(OsStr::from_bytes(&from_base64(text)?)))
}
