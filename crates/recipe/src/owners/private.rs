//! Files that their programs refuse, or that open a node, where others may read or write them.

use crate::Family;

/// A pattern of paths, bits of the mode that no one may have, what comes of it.
pub type Private = (&'static str, u32, &'static str);

/// Sources: shadow(5), sshd(8) (StrictModes, host keys), munged(8), sudoers(5), slurmdbd.conf(5), sssd.conf(5).
pub const PRIVATE: [Private; 16] = [
    ("etc/shadow", 0o007, "every user of a node can read the password hashes"),
    ("etc/gshadow", 0o007, "every user of a node can read the password hashes"),
    ("etc/shadow-", 0o007, "every user of a node can read the password hashes"),
    ("etc/munge/munge.key", 0o077, "munged does not start"),
    ("etc/ssh/ssh_host_*_key", 0o007, "sshd does not use it"),
    ("root/.ssh/authorized_keys", 0o022, "sshd ignores it"),
    ("root/.ssh/id_*", 0o077, "ssh does not use it"),
    ("root/.ssh", 0o022, "sshd ignores the keys in it"),
    ("etc/sudoers", 0o002, "sudo refuses to work"),
    ("etc/krb5.keytab", 0o007, "every user of a node can act as the node"),
    ("etc/slurm/slurmdbd.conf", 0o077, "slurmdbd does not start"),
    ("etc/slurm-llnl/slurmdbd.conf", 0o077, "slurmdbd does not start"),
    ("etc/slurm/*.key", 0o007, "every user of a node can act as Slurm"),
    ("etc/sssd/sssd.conf", 0o077, "sssd does not start"),
    ("etc/ssl/private/*", 0o007, "every user of a node can read the key"),
    ("etc/pki/tls/private/*", 0o007, "every user of a node can read the key"),
];

/// Whether a path is one of a pattern; a star stands for no slash.
pub fn fits(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => path == pattern,
        Some((head, tail)) => {
            path.strip_prefix(head).and_then(|rest| rest.strip_suffix(tail)).is_some_and(|middle| !middle.contains('/'))
        }
    }
}

/// What a mode of a path opens: the bits, and what comes of it.
pub fn open(path: &str, mode: u32) -> Option<(u32, &'static str)> {
    let path = path.trim_start_matches('/');
    // Public halves lie next to private ones.
    let is_public = path.ends_with(".pub");
    let mut found = PRIVATE.iter().filter(|(pattern, bits, _)| fits(pattern, path) && mode & bits != 0 && !is_public);
    found.next().map(|(_, bits, consequence)| (mode & bits, *consequence))
}

/// Owner and mode with which the program of a path takes it, as `[sync.owner]` says them: the account for those that run as one. A mode
/// is what is left of the one that it has.
pub fn right(path: &str, mode: u32, family: Family) -> String {
    let path = path.trim_start_matches('/');
    let closed = mode & !open(path, mode).map_or(0, |(bits, _)| bits) & 0o7700;
    let is_shadow = ["etc/shadow", "etc/gshadow", "etc/shadow-"].contains(&path);
    match path {
        "etc/munge/munge.key" => "munge:munge 0400".to_owned(),
        // No group compares passwords there. Source: setup, /etc/shadow of RHEL.
        _ if is_shadow && family == Family::RedHat => "root:root 0000".to_owned(),
        _ if is_shadow => "root:shadow 0640".to_owned(),
        "etc/slurm/slurmdbd.conf" | "etc/slurm-llnl/slurmdbd.conf" => "slurm:slurm 0600".to_owned(),
        _ if fits("etc/slurm/*.key", path) => format!("slurm:slurm {closed:04o}"),
        "etc/sudoers" => "root:root 0440".to_owned(),
        _ => format!("root:root {closed:04o}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_no_slash() {
        assert!(fits("etc/ssh/ssh_host_*_key", "etc/ssh/ssh_host_rsa_key"));
        assert!(!fits("etc/ssh/ssh_host_*_key", "etc/ssh/ssh_host_rsa_key.pub"));
        assert!(!fits("etc/ssh/ssh_host_*_key", "etc/ssh/ssh_host_a/b_key"));
        assert!(fits("etc/shadow", "etc/shadow") && !fits("etc/shadow", "etc/shadow-"));
    }

    #[test]
    fn what_is_proposed_is_what_the_program_takes() {
        for (path, expected) in [
            ("/etc/munge/munge.key", "munge:munge 0400"),
            ("/etc/shadow", "root:shadow 0640"),
            ("/etc/gshadow", "root:shadow 0640"),
            ("/etc/slurm/slurmdbd.conf", "slurm:slurm 0600"),
            ("/etc/slurm/jwt.key", "slurm:slurm 0600"),
            ("/etc/sudoers", "root:root 0440"),
            ("/etc/sssd/sssd.conf", "root:root 0600"),
            ("/etc/ssh/ssh_host_rsa_key", "root:root 0600"),
        ] {
            let right = right(path, 0o644, Family::Debian);
            assert_eq!(right, expected, "{path}");
            // Taking it repeats nothing.
            let mode = super::super::Said::parse(&right).unwrap().mode.unwrap();
            assert_eq!(open(path, mode), None, "{path}");
        }
        assert_eq!(right("/etc/shadow", 0o644, Family::RedHat), "root:root 0000");
        assert_eq!(right("/root/.ssh", 0o775, Family::Suse), "root:root 0700");
    }

    #[test]
    fn public_halves_are_open() {
        assert!(open("/root/.ssh/id_rsa", 0o644).is_some() && open("/root/.ssh/id_rsa.pub", 0o644).is_none());
        assert_eq!(open("/etc/munge/munge.key", 0o400), None);
    }
}
