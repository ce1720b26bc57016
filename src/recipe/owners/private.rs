//! Files that their programs refuse, or that open a node, where others may read or write them.

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
    fn public_halves_are_open() {
        assert!(open("/root/.ssh/id_rsa", 0o644).is_some() && open("/root/.ssh/id_rsa.pub", 0o644).is_none());
        assert_eq!(open("/etc/munge/munge.key", 0o400), None);
    }
}
