//! Keys and identities that packages make when they are installed: a table.

use std::sync::LazyLock;

/// Who makes a secret that no image may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// The node, at boot or when it is needed.
    Node,
    Site,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Secret {
    /// Path without a slash in front; `*` stands for any text without a slash.
    pub pattern: &'static str,
    pub maker: Maker,
    pub unit: Option<&'static str>,
    pub package: &'static str,
}

pub static SECRETS: LazyLock<Vec<Secret>> =
    LazyLock::new(|| include_str!("secrets.txt").lines().filter_map(read).collect());

fn read(line: &'static str) -> Option<Secret> {
    let mut words = line.split_whitespace().filter(|_| !line.starts_with('#'));
    let (pattern, maker, unit, package) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let maker = if maker == "site" { Maker::Site } else { Maker::Node };
    Some(Secret { pattern, maker, unit: Some(unit).filter(|unit| *unit != "-"), package })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_the_table_is_one_entry() {
        let lines = include_str!("secrets.txt").lines().filter(|line| !line.starts_with('#'));
        assert_eq!(SECRETS.len(), lines.clone().count());
        for (secret, line) in SECRETS.iter().zip(lines) {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert!(words.len() == 4 && ["node", "site"].contains(&words[1]), "{line}");
            assert!(!secret.pattern.starts_with('/') && secret.pattern.matches('*').count() <= 1, "{line}");
        }
        let munge = SECRETS.iter().find(|secret| secret.package == "munge").unwrap();
        assert_eq!((munge.maker, munge.unit), (Maker::Site, Some("munge.service")));
    }

    #[test]
    fn the_name_of_an_initiator_is_made_by_the_node() {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        let name = root.join("etc/iscsi/initiatorname.iscsi");
        let write = |path: &std::path::Path| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "InitiatorName=iqn.1993-08.org.debian:01:5a5a\n").unwrap();
        };
        let normalise = || crate::distro::inside::common::normalise(root.to_str().unwrap(), &[]).unwrap();
        write(&name);
        normalise();
        assert!(!name.exists(), "a unit makes it where it is missing");
        write(&name);
        write(&root.join("usr/lib/open-iscsi/startup-checks.sh"));
        normalise();
        assert!(std::fs::read_to_string(&name).unwrap().ends_with("\nGenerateName=yes\n"));
    }

    /// Each pattern is taken out of a tree that has it, and what lies beside it stays.
    #[test]
    fn each_entry_is_taken_out_of_a_layer() {
        for secret in SECRETS.iter() {
            let tree = tempfile::tempdir().unwrap();
            let path = tree.path().join(secret.pattern.replace('*', "some"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "made at random").unwrap();
            let beside = path.parent().unwrap().join("stays");
            std::fs::write(&beside, "x").unwrap();
            crate::distro::inside::common::normalise(tree.path().to_str().unwrap(), &[]).unwrap();
            assert!(!path.exists(), "{secret:?}");
            assert_eq!(beside.exists(), !secret.pattern.ends_with("/*"), "{secret:?}");
        }
    }
}
