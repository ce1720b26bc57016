//! Files whose programs refuse them, or cannot read them, because of whom they belong to. Runs inside, on the merged tree.

use std::collections::{BTreeMap, BTreeSet};

use super::mismatches::{Mismatch, text};
use super::startable::View;
use store::{Entry, Kind};

/// Where slurmdbd's settings are: upstream's, Debian's until 11.
const SLURMDBD: [&str; 2] = ["etc/slurm/slurmdbd.conf", "etc/slurm-llnl/slurmdbd.conf"];
const CHKPWD: [&str; 2] = ["usr/sbin/unix_chkpwd", "sbin/unix_chkpwd"];

/// An account: its number, its group's and its home.
struct Account {
    uid: u32,
    gid: u32,
    home: String,
}

/// Looks for what belongs to the wrong account.
/// Errors: A file of the image cannot be read.
pub(super) fn belongings(view: &View<'_>, users: &BTreeSet<String>) -> Result<Vec<Mismatch>, String> {
    let tree = view.tree();
    let entry = |path: &str| {
        let there = tree.0.get(path).map(|found| &found.entry);
        there.filter(|entry| !matches!(entry.kind, Kind::Symlink(_)) && !view.is_left_out(path))
    };
    let settings = SLURMDBD.map(|path| text(view, path));
    let [first, second] = settings;
    Ok(judged(&entry, &text(view, "etc/passwd")?, &[first?, second?], users))
}

/// Sources: munged(8), unix_chkpwd(8), slurmdbd.conf(5), sshd(8) (StrictModes).
fn judged<'e>(
    entry: &dyn Fn(&str) -> Option<&'e Entry>,
    passwd: &str,
    slurmdbd: &[String; 2],
    users: &BTreeSet<String>,
) -> Vec<Mismatch> {
    let accounts = accounts(passwd);
    let mut found = Vec::new();
    let mut refuse = |path: &str, entry: &Entry, wanted: String, consequence: &str| {
        if !fault::planted("wrong-owner-not-reported") {
            found.push(Mismatch::Belongs {
                path: path.to_owned(),
                found: format!("{}:{}", entry.uid, entry.gid),
                mode: entry.mode & 0o7777,
                wanted,
                consequence: consequence.to_owned(),
            });
        }
    };
    const KEY: &str = "etc/munge/munge.key";
    if let (Some(munge), Some(key)) = (accounts.get("munge"), entry(KEY))
        && key.uid != munge.uid
    {
        refuse(KEY, key, "munge:munge 0400".to_owned(), "munged does not start");
    }
    // Where a program with the group's rights compares passwords: Debian. That of RPM distributions is root's.
    let helper = CHKPWD.iter().find_map(|path| entry(path)).filter(|entry| entry.mode & 0o2000 != 0);
    if let (Some(helper), Some(shadow)) = (helper, entry("etc/shadow"))
        && (shadow.gid != helper.gid || shadow.mode & 0o040 == 0)
    {
        let consequence = "unix_chkpwd cannot read it, so programs that do not run as root cannot check passwords";
        refuse("etc/shadow", shadow, "root:shadow 0640".to_owned(), consequence);
    }
    for (path, text) in SLURMDBD.iter().zip(slurmdbd) {
        let Some(settings) = entry(path) else { continue };
        let user = text.lines().filter_map(|line| line.trim().split_once('=')).find_map(|(name, value)| {
            let value = value.split('#').next().unwrap_or_default().trim();
            name.trim().eq_ignore_ascii_case("SlurmUser").then(|| value.to_owned())
        });
        let user = user.unwrap_or_else(|| "root".to_owned());
        if accounts.get(&user).is_some_and(|account| account.uid != settings.uid) {
            refuse(path, settings, format!("{user}:{user} 0600"), "slurmdbd does not start");
        }
    }
    for (name, Account { uid, gid, home }) in &accounts {
        let is_root = *uid == 0;
        // A home that many share is no one's own.
        if !(is_root || users.contains(name) && home.contains('/')) {
            continue;
        }
        let owner = if is_root { "root:root".to_owned() } else { format!("{name}:{gid}") };
        if let Some(folder) = entry(home).filter(|folder| folder.uid != *uid) {
            let consequence = if is_root { "sshd ignores root's keys" } else { "its user cannot write there" };
            refuse(home, folder, owner.clone(), consequence);
        }
        for path in [format!("{home}/.ssh"), format!("{home}/.ssh/authorized_keys")] {
            let Some(keys) = entry(&path) else { continue };
            if keys.uid != *uid && keys.uid != 0 {
                refuse(&path, keys, owner.clone(), "sshd ignores it");
            } else if !is_root && keys.mode & 0o022 != 0 {
                let wanted = format!("{owner} {:04o}", keys.mode & 0o7755);
                refuse(&path, keys, wanted, "others may write to it, so sshd ignores it");
            }
        }
    }
    found
}

/// The first line of a name counts, as for getpwnam(3).
fn accounts(passwd: &str) -> BTreeMap<String, Account> {
    let mut found = BTreeMap::new();
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [name, _, uid, gid, _, home, ..] = fields[..]
            && let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse())
        {
            let home = home.trim_matches('/').to_owned();
            found.entry(name.to_owned()).or_insert(Account { uid, gid, home });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_its_program_refuses_is_reported() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nmunge:x:900:900::/nonexistent:/bin/false\n\
                      slurm:x:901:901::/nonexistent:/bin/false\nalice:x:1000:1000::/home/alice:/bin/sh\n\
                      daemon:x:1:1::/usr/sbin:/bin/false\n";
        let file = |uid, gid, mode| {
            let kind = Kind::File { size: 0, digest: base::digest::Digest::of(b"") };
            Entry { kind, uid, gid, mode, ..Entry::whiteout() }
        };
        let good = [
            ("etc/munge/munge.key", file(900, 900, 0o400)),
            ("etc/shadow", file(0, 42, 0o640)),
            ("usr/sbin/unix_chkpwd", file(0, 42, 0o2755)),
            ("etc/slurm/slurmdbd.conf", file(901, 901, 0o600)),
            ("home/alice", file(1000, 1000, 0o755)),
            ("home/alice/.ssh", file(0, 0, 0o700)),
            ("home/alice/.ssh/authorized_keys", file(1000, 1000, 0o600)),
            ("root", file(0, 0, 0o700)),
            ("usr/sbin", file(0, 0, 0o755)),
        ];
        let users: BTreeSet<String> = ["alice", "munge", "slurm"].map(str::to_owned).into();
        let settings = ["# SlurmUser=x\nslurmuser = slurm # ours\n".to_owned(), String::new()];
        let of = |changed: Option<(&str, Entry)>| {
            let mut tree: BTreeMap<&str, Entry> = good.iter().cloned().collect();
            tree.extend(changed);
            let paths = judged(&|path| tree.get(path), passwd, &settings, &users);
            let path = |one| match one {
                Mismatch::Belongs { path, wanted, .. } => format!("{path} {wanted}"),
                other => panic!("{other:?}"),
            };
            paths.into_iter().map(path).collect::<Vec<_>>()
        };
        assert_eq!(of(None), Vec::<String>::new());
        for (path, entry, wanted) in [
            ("etc/munge/munge.key", file(0, 0, 0o400), "munge:munge 0400"),
            ("etc/shadow", file(0, 0, 0o640), "root:shadow 0640"),
            ("etc/shadow", file(0, 42, 0o600), "root:shadow 0640"),
            ("etc/slurm/slurmdbd.conf", file(0, 0, 0o600), "slurm:slurm 0600"),
            ("home/alice", file(0, 0, 0o755), "alice:1000"),
            ("home/alice/.ssh", file(900, 1000, 0o700), "alice:1000"),
            ("home/alice/.ssh/authorized_keys", file(1000, 1000, 0o664), "alice:1000 0644"),
            ("root", file(1000, 0, 0o700), "root:root"),
        ] {
            assert_eq!(of(Some((path, entry))), [format!("{path} {wanted}")]);
        }
        // A shadow that a program of root's reads: RPM distributions.
        let root = file(0, 0, 0o4755);
        let tree: BTreeMap<&str, Entry> = [("usr/sbin/unix_chkpwd", root), ("etc/shadow", file(0, 0, 0))].into();
        assert_eq!(judged(&|path| tree.get(path), passwd, &settings, &users).len(), 0);
    }
}
