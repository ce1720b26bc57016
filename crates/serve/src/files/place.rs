//! Which file an address means.

use std::path::PathBuf;

/// The one hidden directory whose files are served: builds by name, which nodes are pinned to.
const BUILDS: &str = ".builds";

/// Longest path that is looked at, in bytes. Source: limits.h, `PATH_MAX`.
const LONGEST: usize = 4096;

/// A path below the root, of names that are neither hidden nor lead upwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Directory, empty for the root.
    pub directory: PathBuf,
    pub name: String,
    /// Whether it is a file of a build that is named: such a file never changes.
    pub of_named_build: bool,
}

/// Reads the path of an address (without its query); none where no file can be meant.
pub(crate) fn place(path: &str) -> Option<Place> {
    if path.len() > LONGEST {
        return None;
    }
    let text = decoded(path)?;
    // xCAT's addresses have doubled slashes.
    let mut parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    if text.ends_with('/')
        || parts.iter().any(|part| {
            (part.starts_with('.') && *part != BUILDS && !fault::planted("serve-hidden-file")) || part.contains('\0')
        })
    {
        return None;
    }
    let name = parts.pop()?.to_owned();
    // .builds/IMAGE/BUILD/FILE, at any depth.
    let build = parts.len().checked_sub(3).and_then(|at| parts.get(at));
    let of_named_build = build == Some(&BUILDS);
    (name != BUILDS).then(|| Place { directory: parts.iter().collect(), name, of_named_build })
}

/// Undoes percent-encoding; none where it is wrong, or the bytes are no UTF-8.
pub(crate) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push((digit()? * 16 + digit()?) as u8);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_mean_files_below_the_root_and_nothing_else() {
        let kernel = place("/compute/kernel").unwrap();
        assert_eq!((kernel.directory, kernel.name.as_str()), (PathBuf::from("compute"), "kernel"));
        assert!(!kernel.of_named_build);
        assert!(place("//install///netboot/x/kernel").is_some());
        assert!(place("/.builds/compute/0123456789ab/kernel").unwrap().of_named_build);
        assert!(place("/site/.builds/compute/0123456789ab/kernel").unwrap().of_named_build);
        assert_eq!(place("/a%20b/c%2Bd").unwrap().name, "c+d");
        for bad in [
            "/",
            "",
            "/compute/",
            "/../etc/passwd",
            "/compute/../../etc/passwd",
            "/%2e%2e/etc/passwd",
            "/..%2fetc/passwd",
            "/%2e%2e%2fetc%2fpasswd",
            "/.imgbuild/nodes/secret",
            "/compute/.lock",
            "/.builds",
            "/compute/a%00b",
            "/compute/%",
            "/compute/%4",
            "/compute/%zz",
            "/compute/%ff",
        ] {
            assert_eq!(place(bad), None, "{bad}");
        }
        assert_eq!(place(&format!("/{}", "a/".repeat(4000))), None);
    }
}
