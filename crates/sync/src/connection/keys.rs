//! What ssh is to know nodes by: the host keys that they reported, in a file of their own beside the lists that it reads anyway; and what
//! to do where it knows a node by another key.

use std::io::Write;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::wanted::Job;
use crate::words::quoted;
use nodes::known_hosts;

/// A file with the keys of nodes, which its owner alone can read; it goes when it is dropped. Nothing where no node has reported keys.
/// Errors: It cannot be written.
pub(crate) fn known(jobs: &[Job]) -> Result<Option<NamedTempFile>, String> {
    let text = known_hosts(jobs.iter().map(|job| (job.node.as_str(), job.host_keys.as_slice())));
    if text.is_empty() {
        return Ok(None);
    }
    // Made with mode 0600.
    let file = tempfile::Builder::new().prefix("imgbuild-known-hosts-").tempfile();
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()).map(|()| file));
    written.map(Some).map_err(|error| {
        format!("the host keys that nodes reported cannot be written below {}: {error}", std::env::temp_dir().display())
    })
}

/// What to do where ssh does not take a node's key, by what it said; `own` is the file of [`known`].
pub(crate) fn advice(said: &str, node: &str, own: Option<&Path>) -> Option<String> {
    let what = said.lines().map(str::trim).find(|line| line.starts_with("Host key verification failed"))?;
    let what = what.trim_end_matches('.');
    // The last of several lists is named.
    let offending = said.lines().rev().find_map(|line| {
        let (kind, place) = line.trim().strip_prefix("Offending ")?.split_once(" key in ")?;
        let (file, number) = place.rsplit_once(':')?;
        number.parse::<u32>().is_ok().then_some((kind, file))
    });
    let again = "where the node is up, `systemctl restart imgbuild-report` there reports them again";
    let Some((kind, file)) = offending else {
        return Some(format!("{what}: it has not reported the host key that it has now, and no list has it; {again}"));
    };
    if own.is_some_and(|own| own == Path::new(file)) {
        return Some(format!("{what}: it has another {kind} key than it reported; {again}"));
    }
    // The name by which ssh looked for it.
    let name = said.lines().find_map(|line| line.trim().strip_prefix("Host key for ")?.split(' ').next());
    let name = name.unwrap_or(node);
    let plain = |one: char| one.is_ascii_alphanumeric() || "/._-".contains(one);
    let word = |text: &str| if text.chars().all(plain) { text.to_owned() } else { quoted(text) };
    let (shown, name) = (word(file), word(name));
    Some(format!(
        "{what}: {shown} has another {kind} key of it, and it has not reported the one that it has now; `ssh-keygen -f {shown} -R {name}` takes the old one out, and {again}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_ssh_does_not_take_has_a_remedy() {
        let own = Path::new("/tmp/imgbuild-known-hosts-x");
        let said = |file: &str, name: &str| {
            format!(
                "@@@@@\n@  WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!  @\nAdd correct host key in /root/.ssh/known_hosts to get rid of this message.\n\
                 Offending RSA key in /etc/ssh/ssh_known_hosts:7\nOffending ED25519 key in {file}:3\n  remove with:\n  ssh-keygen -f \"{file}\" -R \"{name}\"\n\
                 Host key for {name} has changed and you have requested strict checking.\nHost key verification failed."
            )
        };
        let advice = |text: &str| advice(text, "cn1", Some(own));
        let text = advice(&said("/root/.ssh/known_hosts", "cn1")).unwrap();
        assert!(
            text.starts_with("Host key verification failed: /root/.ssh/known_hosts has another ED25519 key"),
            "{text}"
        );
        assert!(text.contains("`ssh-keygen -f /root/.ssh/known_hosts -R cn1`"), "{text}");
        // What is in a name stays in a word.
        let text = advice(&said("/root/my hosts;x", "[cn1]:2222")).unwrap();
        assert!(text.contains("`ssh-keygen -f '/root/my hosts;x' -R '[cn1]:2222'`"), "{text}");
        let text = advice(&said("/tmp/imgbuild-known-hosts-x", "cn1")).unwrap();
        assert!(text.contains("another ED25519 key than it reported") && !text.contains("ssh-keygen"), "{text}");
        let text = advice("Host key verification failed.\r\n").unwrap();
        assert!(text.contains("has not reported") && text.contains("imgbuild-report"), "{text}");
        assert_eq!(advice("cn1: Permission denied (publickey)."), None);
    }
}
