//! The system layer: fstab, machine-id, time zone, names, and who may log in (D24, D34, D35).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::actions::reader::Declared;
use crate::inside::edit::layer_by_edit;
use archive::Meta;
use base::digest::Digest;
use packages::installed::dpkg::{STATUS, field};
use packages::{self, installed::rpm_database_files};
use sandbox::helper::News;
use store::{LayerReader, ScanAnswer};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SystemRequest {
    /// Scratch directory, relative to the store's.
    pub scratch: String,
    /// Layers below.
    pub base: Vec<Digest>,
    /// No time is later than this.
    pub epoch: i64,
    pub fstab: String,
    /// Text of /etc/exports, where the recipe has lines for it.
    pub exports: Option<String>,
    /// Name of every node, unless DHCP gives it.
    pub hostname: Option<String>,
    pub timezone: Option<String>,
    pub locale: Option<String>,
    pub authorized_keys: String,
    pub root_password_hash: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SystemAnswer {
    pub layer: ScanAnswer,
    pub warnings: Vec<String>,
    pub installed: BTreeSet<[String; 3]>,
    /// Names of packages that installed ones replace, with one that does: dpkg lets go what has no file left.
    pub replaced: BTreeMap<String, String>,
}

/// Text of the mounts that a recipe declares.
pub(crate) fn fstab(declared: &Declared) -> String {
    let more = if declared.mounts.is_empty() { "" } else { " and [system] fstab" };
    let mut text = format!("# Written by imgbuild from [boot] tmpfs{more}.\n");
    for entry in &declared.tmpfs {
        let (path, size) = &**entry;
        let mode = if path == "/tmp" || path == "/var/tmp" { "1777" } else { "755" };
        text.push_str(&format!("tmpfs {path} tmpfs size={size},mode={mode},nosuid,nodev 0 0\n"));
    }
    for mount in &declared.mounts {
        text.push_str(&format!("{}\n", mount.line));
    }
    text
}

/// Text of the exports that a recipe declares.
pub(crate) fn exports(declared: &Declared) -> Option<String> {
    if declared.exports.is_empty() {
        return None;
    }
    let mut text = String::from("# Written by imgbuild from [system] exports.\n");
    for export in &declared.exports {
        text.push_str(&format!("{}\n", export.line));
    }
    Some(text)
}

/// Keys are made at each start of a node, never in the image: those that sshd's configuration names, or all. An RSA key takes a
/// slow processor seconds, before anybody can log in. Sources: sshd_config(5), HostKey; ssh-keygen(1), -A.
const HOST_KEY_SCRIPT: &str = include_str!("ssh-host-keys.sh");

const HOST_KEY_SCRIPT_PATH: &str = "usr/lib/imgbuild/ssh-host-keys";

const HOST_KEY_UNIT: &str = "[Unit]\n\
Description=Make this node's ssh host keys\n\
Before=ssh.service sshd.service\n\
\n\
[Service]\n\
Type=oneshot\n\
RemainAfterExit=yes\n\
ExecStart=/bin/sh /usr/lib/imgbuild/ssh-host-keys\n";

const HOST_KEY_UNIT_NAME: &str = "imgbuild-ssh-host-keys.service";

pub(crate) fn inside(request: SystemRequest, _: News<'_>) -> Result<SystemAnswer, String> {
    let reader = LayerReader::open(&request.base)?;
    let has = |path: &str| reader.tree.0.contains_key(path);
    let mut warnings = Vec::new();
    let shadow = reader.read("etc/shadow")?.and_then(|bytes| String::from_utf8(bytes).ok());
    let layer = layer_by_edit(&request.scratch, &request.base, request.epoch, |tree| {
        let meta = |mode: u32| Meta { mode, mtime: request.epoch, ..Meta::default() };
        let mut put = |path: &str, mode: u32, text: &str| tree.file(path.as_bytes(), &meta(mode), &mut text.as_bytes());
        put("etc/fstab", 0o644, &request.fstab)?;
        if let Some(exports) = &request.exports {
            if !has("usr/sbin/exportfs") {
                warnings.push(
                    "‹[system]› exports has lines, but the image has no NFS server: add the package nfs-kernel-server"
                        .to_owned(),
                );
            }
            put("etc/exports", 0o644, exports)?;
        }
        // Empty, not "uninitialized": that would mean first boot (D34). The node writes its own at boot.
        put("etc/machine-id", 0o444, "")?;
        let own = request.hostname.as_ref().map_or(String::new(), |name| format!("127.0.1.1\t{name}\n"));
        put("etc/hosts", 0o644, &format!("127.0.0.1\tlocalhost\n{own}::1\tlocalhost ip6-localhost ip6-loopback\n"))?;
        if let Some(name) = &request.hostname {
            put("etc/hostname", 0o644, &format!("{name}\n"))?;
        }
        if let Some(locale) = &request.locale {
            // Debian's place, and everyone else's. Source: locale(5) of Debian, locale.conf(5).
            let place = if has("var/lib/dpkg") { "etc/default/locale" } else { "etc/locale.conf" };
            put(place, 0o644, &format!("LANG={locale}\n"))?;
        }
        if let Some(hash) = &request.root_password_hash {
            let shadow = shadow.as_deref().ok_or("the image has no /etc/shadow for root's password")?;
            let mode = reader.tree.0.get("etc/shadow").map_or(0o640, |found| found.entry.mode);
            let gid = reader.tree.0.get("etc/shadow").map_or(0, |found| found.entry.gid);
            let meta = Meta { gid, ..meta(mode) };
            tree.file(b"etc/shadow", &meta, &mut with_password(shadow, hash).as_bytes())?;
        }
        if let Some(zone) = &request.timezone {
            tree.symlink(b"etc/localtime", format!("/usr/share/zoneinfo/{zone}").as_bytes(), &meta(0o777))?;
            tree.file(b"etc/timezone", &meta(0o644), &mut format!("{zone}\n").as_bytes())?;
        }
        if !request.authorized_keys.is_empty() {
            tree.directory(b"root/.ssh", &meta(0o700))?;
            tree.file(b"root/.ssh/authorized_keys", &meta(0o600), &mut request.authorized_keys.as_bytes())?;
        }
        if has("var/lib/dbus") {
            tree.symlink(b"var/lib/dbus/machine-id", b"/etc/machine-id", &meta(0o777))?;
        }
        if has("usr/bin/ssh-keygen") && has("usr/lib/systemd/systemd") {
            let unit = format!("usr/lib/systemd/system/{HOST_KEY_UNIT_NAME}");
            tree.file(unit.as_bytes(), &meta(0o644), &mut HOST_KEY_UNIT.as_bytes())?;
            tree.directory(b"usr/lib/imgbuild", &meta(0o755))?;
            tree.file(HOST_KEY_SCRIPT_PATH.as_bytes(), &meta(0o755), &mut HOST_KEY_SCRIPT.as_bytes())?;
            for service in ["ssh", "sshd"] {
                let link = format!("etc/systemd/system/{service}.service.wants/{HOST_KEY_UNIT_NAME}");
                tree.symlink(link.as_bytes(), format!("/{unit}").as_bytes(), &meta(0o777))?;
            }
        }
        Ok(())
    })?;
    Ok(SystemAnswer { layer, warnings, installed: installed(&reader)?, replaced: replaced(&reader)? })
}

/// What installed packages of dpkg replace. Source: deb-control(5), `Replaces`.
fn replaced(reader: &LayerReader) -> Result<BTreeMap<String, String>, String> {
    let status = reader.read(STATUS)?.unwrap_or_default();
    let mut replaced = BTreeMap::new();
    for stanza in String::from_utf8_lossy(&status).split("\n\n") {
        let (Some(name), Some(words)) = (field(stanza, "Package"), field(stanza, "Replaces")) else { continue };
        let is_installed = field(stanza, "Status").is_some_and(|words| words.ends_with(" installed"));
        for word in words.split(',').filter(|_| is_installed) {
            let other = word.trim().split([' ', '(', ':']).next().unwrap_or_default();
            replaced.insert(other.to_owned(), name.to_owned());
        }
    }
    Ok(replaced)
}

/// Names, versions and architectures of what dpkg or rpm calls installed.
fn installed(reader: &LayerReader) -> Result<BTreeSet<[String; 3]>, String> {
    let mut files = BTreeMap::new();
    for path in rpm_database_files().chain([STATUS.to_owned()]) {
        files.extend(reader.read(&path)?.map(|bytes| (path, bytes)));
    }
    let packages = packages::installed::read(&files)?.map(|found| found.packages).unwrap_or_default();
    Ok(packages.into_iter().map(|one| [one.name, one.version, one.arch]).collect())
}

/// A shadow file with another password for root. Source: shadow(5).
fn with_password(shadow: &str, hash: &str) -> String {
    let mut out = String::new();
    let mut done = false;
    for line in shadow.lines() {
        match line.strip_prefix("root:") {
            Some(rest) => {
                let after = rest
                    .split_once(':')
                    .filter(|_| !fault::planted("password-of-all"))
                    .map_or("::::::", |(_, after)| after);
                out.push_str(&format!("root:{hash}:{after}\n"));
                done = true;
            }
            None => out.push_str(&format!("{line}\n")),
        }
    }
    if !done {
        out.insert_str(0, &format!("root:{hash}::::::\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{HOST_KEY_SCRIPT, with_password};

    /// The names of the keys that the node's script makes for a configuration, by a stand-in for ssh-keygen that says what it is asked.
    fn keys(config: &str, more: &str, there: &[&str]) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let own = |text: &str| text.replace("/etc/ssh", &directory.path().display().to_string());
        std::fs::create_dir(at("sshd_config.d")).unwrap();
        std::fs::write(at("sshd_config"), own(config)).unwrap();
        std::fs::write(at("sshd_config.d/site.conf"), own(more)).unwrap();
        there.iter().for_each(|name| std::fs::write(at(name), "").unwrap());
        let program = HOST_KEY_SCRIPT.replace("exec ", "").replace("ssh-keygen", "keygen");
        let program = format!("keygen() {{ echo \"$@\"; }}\n{program}");
        let ran = std::process::Command::new("sh").args(["-c", &program, "sh"]).arg(directory.path()).output().unwrap();
        assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
        let said = String::from_utf8(ran.stdout).unwrap().replace(&directory.path().display().to_string(), "/etc/ssh");
        said.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_node_makes_the_host_keys_that_its_sshd_asks_for() {
        assert_eq!(keys("#HostKey /etc/ssh/ssh_host_rsa_key\nPort 22\n", "", &[]), ["-A"]);
        assert_eq!(keys("Port 22\n", "", &["ssh_host_ed25519_key"]), [""; 0]);
        let one = |kind: &str| format!("-q -t {kind} -N  -f /etc/ssh/ssh_host_{kind}_key");
        assert_eq!(
            keys("HostKey /etc/ssh/ssh_host_rsa_key\n", " hostkey=\"/etc/ssh/ssh_host_ed25519_key\" # new\n", &[]),
            [one("rsa"), one("ed25519")]
        );
        // One that is there, and one whose kind no one knows, are left alone.
        let three =
            "HostKey /etc/ssh/ssh_host_rsa_key\nHostKey /etc/ssh/site.key\nHostKey /etc/ssh/ssh_host_ecdsa_key\n";
        assert_eq!(keys(three, "", &["ssh_host_rsa_key"]), [one("ecdsa")]);
    }

    #[test]
    fn only_the_password_field_of_root_changes() {
        assert_eq!(
            with_password("root:*:19675:0:99999:7:::\nd:!:1::::::\n", "$6$x"),
            "root:$6$x:19675:0:99999:7:::\nd:!:1::::::\n"
        );
        assert_eq!(with_password("", "$6$x"), "root:$6$x::::::\n");
    }
}
