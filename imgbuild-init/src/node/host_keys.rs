//! The public halves of this node's ssh host keys. A node without a disk makes its keys at each start: those who log in know them by what
//! it reports.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Most keys that are reported, and bytes of each; the server takes no more.
const MOST: usize = 8;
const LONGEST: usize = 4 << 10;
/// Types of keys that the server takes, in the words of the files.
const TYPES: [&str; 5] =
    ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"];

/// `TYPE BASE64` of each, a line each; nothing where this root has none.
pub(super) fn of(root: &Path) -> String {
    let entries = std::fs::read_dir(root.join("etc/ssh")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> =
        names.filter(|name| name.starts_with("ssh_host_") && name.ends_with("_key.pub")).collect();
    names.sort_unstable();
    let keys = names.iter().filter_map(|name| key(&root.join("etc/ssh").join(name)));
    keys.take(MOST).collect::<Vec<_>>().join("\n")
}

/// The key of a file, without its comment.
fn key(path: &Path) -> Option<String> {
    // What is no file may have no end.
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    File::open(path).ok()?.take(LONGEST as u64 + 1).read_to_string(&mut text).ok()?;
    let line = text.trim_end();
    let mut words = line.split(' ');
    let (kind, key) = (words.next()?, words.next()?);
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || [b'+', b'/', b'='].contains(&byte);
    let is_good = text.len() <= LONGEST && !line.contains('\n') && TYPES.contains(&kind) && key.bytes().all(is_base64);
    (is_good && !key.is_empty()).then(|| format!("{kind} {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_root_are_lines_without_comments_and_all_else_is_left_out() {
        let root = std::env::temp_dir().join(format!("imgbuild-host-keys-{}", std::process::id()));
        let ssh = root.join("etc/ssh");
        assert_eq!(of(&root), "");
        std::fs::create_dir_all(&ssh).unwrap();
        for (name, text) in [
            ("ssh_host_rsa_key.pub", "ssh-rsa AAAAB3== root@cn1 of rack 1\n".to_owned()),
            ("ssh_host_ed25519_key.pub", "ssh-ed25519 AAAAC3+/".to_owned()),
            ("ssh_host_ed25519_key", "-----BEGIN OPENSSH PRIVATE KEY-----\n".to_owned()),
            ("ssh_host_ed25519_key-cert.pub", "ssh-ed25519-cert-v01@openssh.com AAAA\n".to_owned()),
            ("ssh_host_a_key.pub", "@cert-authority * ssh-rsa AAAA\n".to_owned()),
            ("ssh_host_b_key.pub", "ssh-rsa AAAA\n* ssh-rsa BBBB\n".to_owned()),
            ("ssh_host_c_key.pub", format!("ssh-rsa {}\n", "A".repeat(LONGEST))),
            ("ssh_host_d_key.pub", "ssh-rsa AA,AA\n".to_owned()),
            ("ssh_host_e_key.pub", "ssh-rsa\n".to_owned()),
            ("other_key.pub", "ssh-rsa AAAA\n".to_owned()),
        ] {
            std::fs::write(ssh.join(name), text).unwrap();
        }
        std::fs::create_dir(ssh.join("ssh_host_f_key.pub")).unwrap();
        assert_eq!(of(&root), "ssh-ed25519 AAAAC3+/\nssh-rsa AAAAB3==");
        for at in 0..20 {
            std::fs::write(ssh.join(format!("ssh_host_z{at}_key.pub")), "ssh-rsa AAAA\n").unwrap();
        }
        assert_eq!(of(&root).lines().count(), MOST);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
