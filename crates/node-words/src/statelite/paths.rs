//! Which texts are paths of an entry.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathFault {
    Relative,
    /// A blank or a control character is in it: the node's list has lines of words.
    Blank,
    /// `.`, `..` or an empty part.
    Part,
    /// The root: only an overlay can be there.
    Root,
    /// The kernel's own, or what is made at each boot.
    Kernel,
}

/// Trees of the kernel or of the boot, which nothing lies below.
const KERNEL: [&str; 7] = ["/proc", "/sys", "/dev", "/run", "/.statelite", "/.sllocal", "/.default"];

pub fn check_path(path: &str, is_overlay: bool) -> Option<PathFault> {
    if !path.starts_with('/') {
        return Some(PathFault::Relative);
    }
    if path.chars().any(|one| one.is_whitespace() || one.is_control()) {
        return Some(PathFault::Blank);
    }
    if path == "/" {
        return (!is_overlay).then_some(PathFault::Root);
    }
    let plain = path.strip_suffix('/').unwrap_or(path);
    if plain[1..].split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Some(PathFault::Part);
    }
    let below = |tree: &&str| plain.strip_prefix(*tree).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    (KERNEL.iter().any(below) && !fault::planted("statelite-kernel-path")).then_some(PathFault::Kernel)
}

/// A path without the slash at its end; empty for the root.
pub(super) fn plain(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

/// Whether a folder's path holds another one.
pub(super) fn holds(folder: &str, path: &str) -> bool {
    folder.ends_with('/') && path.len() > folder.len() && path.starts_with(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_plain_and_not_the_kernels() {
        for good in ["/etc/hosts", "/etc/ssh/", "/devices", "/var/run/x"] {
            assert_eq!(check_path(good, false), None, "{good}");
        }
        for (bad, fault) in [
            ("etc/hosts", PathFault::Relative),
            ("/etc/my file", PathFault::Blank),
            ("/etc/a\tb", PathFault::Blank),
            ("/etc//a", PathFault::Part),
            ("/etc/../a", PathFault::Part),
            ("/", PathFault::Root),
            ("//", PathFault::Part),
            ("/proc/", PathFault::Kernel),
            ("/dev/shm/x", PathFault::Kernel),
            ("/.statelite/tmpfs", PathFault::Kernel),
        ] {
            assert_eq!(check_path(bad, false), Some(fault), "{bad}");
        }
        assert_eq!(check_path("/", true), None);
    }
}
