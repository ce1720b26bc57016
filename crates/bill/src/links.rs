//! Links of a tree, and where a path leads when they are followed as the node would: `sbin` to `usr/sbin`, `etc/init.d` to
//! `etc/rc.d/init.d`.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

/// Links that are followed for one path. Source: path_resolution(7).
const MOST_LINKS: usize = 40;
/// Longest path that is looked at, in bytes: PATH_MAX, where bytes that are no UTF-8 stand as four.
const LONGEST_PATH: usize = 4 * 4096;

#[derive(Debug, Default)]
pub(crate) struct Links {
    /// Targets by path without a slash in front.
    targets: BTreeMap<String, String>,
    /// Bytes of both.
    bytes: u64,
    /// Folders that were looked for.
    known: RefCell<HashMap<String, String>>,
}

impl Links {
    /// Notes a link. Gives the bytes of all of them.
    pub(crate) fn add(&mut self, path: &str, target: String) -> u64 {
        self.bytes = self.bytes.saturating_add((path.len() + target.len()) as u64);
        self.targets.insert(path.to_owned(), target);
        self.bytes
    }

    /// Where a path lies when the links on the way are followed within the tree; its last part stays.
    pub(crate) fn place(&self, path: &str) -> String {
        let Some((folder, name)) = path.rsplit_once('/').filter(|_| path.len() <= LONGEST_PATH) else {
            return path.to_owned();
        };
        let known = self.known.borrow().get(folder).cloned();
        let place = known.unwrap_or_else(|| {
            let place = self.resolved(folder);
            self.known.borrow_mut().insert(folder.to_owned(), place.clone());
            place
        });
        if place.is_empty() { name.to_owned() } else { format!("{place}/{name}") }
    }

    /// The path of a folder where all links are followed.
    fn resolved(&self, folder: &str) -> String {
        fn parts(path: &str) -> impl Iterator<Item = String> {
            path.split('/').rev().filter(|part| !part.is_empty() && *part != ".").map(str::to_owned)
        }
        let mut done = String::new();
        let mut left: Vec<String> = parts(folder).collect();
        let mut links = 0;
        while let Some(part) = left.pop() {
            let above = done.rfind('/').unwrap_or(0);
            if part == ".." {
                done.truncate(above);
                continue;
            }
            let before = done.len();
            if !done.is_empty() {
                done.push('/');
            }
            done.push_str(&part);
            let Some(target) = self.targets.get(&done).filter(|_| links < MOST_LINKS) else { continue };
            links += 1;
            done.truncate(if target.starts_with('/') { 0 } else { before });
            left.extend(parts(target));
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        let mut links = Links::default();
        for (path, target) in [
            ("sbin", "usr/sbin"),
            ("usr/sbin", "bin"),
            ("etc/init.d", "rc.d/init.d"),
            ("lib", "/usr/lib"),
            ("usr/lib/here", "../../opt/./there"),
            ("above", "../../../usr"),
            ("loop", "loop"),
            ("root", "/"),
        ] {
            links.add(path, target.to_owned());
        }
        links
    }

    #[test]
    fn links_are_followed_wherever_they_stand_and_wherever_they_lead() {
        let links = links();
        for (path, place) in [
            ("sbin/ip", "usr/bin/ip"),
            ("usr/sbin/ip", "usr/bin/ip"),
            ("etc/init.d/functions", "etc/rc.d/init.d/functions"),
            ("lib/a/b", "usr/lib/a/b"),
            ("lib/here/x", "opt/there/x"),
            ("above/bin/x", "usr/bin/x"),
            ("root/etc/x", "etc/x"),
            ("root/x", "x"),
            // The last part stays.
            ("sbin", "sbin"),
            ("usr/sbin", "usr/sbin"),
            ("etc/passwd", "etc/passwd"),
        ] {
            assert_eq!(links.place(path), place);
            assert_eq!(links.place(path), place, "again");
        }
        // Neither endless nor out of the tree.
        assert_eq!(links.place("loop/x"), "loop/x");
        let long = format!("sbin/{}", "x".repeat(LONGEST_PATH));
        assert_eq!(links.place(&long), long);
    }

    proptest::proptest! {
        #[test]
        fn no_link_ends_the_program(path: String, target: String, asked: String) {
            let mut links = Links::default();
            links.add(&path, target);
            let _ = links.place(&asked);
            let _ = links.place(&format!("{path}/{asked}"));
        }
    }
}
