//! Servers and disks of a node's own files.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use super::{BASE, STATE, TREES};
use crate::cmdline::Parameters;
use crate::image::{cache, packed, place};
use crate::modules::Modules;
use crate::network::lease::Lease;
use crate::statelite::Source;
use crate::{say, sys};

/// As xCAT mounts the state where its table says nothing.
const STATE_OPTIONS: &str = "nolock,rsize=32768,tcp,timeo=14";
/// As xCAT mounts trees.
const TREE_OPTIONS: &str = "nolock,tcp";
/// Port of NFS.
const PORT: u16 = 2049;
/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// Mounts the node's directory of its state.
pub(super) fn state(source: &Source, node: &str, lease: &Lease, modules: &Modules) -> Result<(), String> {
    let whole = format!("{BASE}/.state");
    match source {
        Source::Server { .. } => nfs(source, &whole, STATE_OPTIONS, false, lease, modules)?,
        _ => disk(source, &whole, modules)?,
    }
    let own = format!("{whole}/{node}");
    let made = match std::fs::create_dir(&own) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    let shown = made.and_then(|()| sys::bind(&own, STATE, false)).map_err(|error| {
        format!("its directory `{node}` cannot be made: {error}; is it exported to this node with rw and no_root_squash, and not full?")
    });
    // What is shown holds it.
    sys::unmount(&whole);
    shown
}

/// Mounts a disk.
pub(crate) fn disk(source: &Source, target: &str, modules: &Modules) -> Result<(), String> {
    let Source::Disk { device, options } = source else { return Err("it is no disk".to_owned()) };
    let found = cache::find_disk(device, modules)?;
    modules.load(found.kind);
    let options = Options::of(options);
    sys::unmount(target);
    sys::mount_with(&found.path, target, found.kind, options.flags(), &options.rest.join(",")).map_err(|error| {
        format!("{} ({}) cannot be mounted: {error}; `fsck {}` may mend it", found.path, found.kind, found.path)
    })
}

/// Mounts a tree; gives its directory, or that of the image.
pub(super) fn tree(source: &Source, lease: &Lease, modules: &Modules) -> Result<(Option<String>, String), String> {
    match source {
        Source::Image(own) => Ok((None, own.clone())),
        Source::Server { server, directory, .. } => {
            let target = format!("{TREES}/{}{directory}", server.replace(':', "_"));
            nfs(source, &target, TREE_OPTIONS, true, lease, modules)?;
            Ok((Some(target), String::new()))
        }
        Source::Disk { .. } => Err("a tree is a directory of a server".to_owned()),
    }
}

/// Mounts a directory of a server for a dump.
pub(crate) fn mount_nfs(source: &Source, target: &str, lease: &Lease, modules: &Modules) -> Result<(), String> {
    nfs(source, target, TREE_OPTIONS, false, lease, modules)
}

/// Mounts the root over NFS for reading, and memory above it for what is written until it is whole.
pub(crate) fn mount_root_over_nfs(parameters: &Parameters, lease: &Lease, modules: &Modules) -> Result<(), String> {
    let Some((text, options)) = &parameters.nfs_root else { return Err("no root over NFS".to_owned()) };
    let source = Source::parse(text, options).filter(|source| matches!(source, Source::Server { .. }));
    let source = source.ok_or_else(|| format!("root=nfs:{text} is not root=nfs:SERVER:/DIRECTORY"))?;
    nfs(&source, &place(packed::LOWER), TREE_OPTIONS, true, lease, modules)
        .map_err(|problem| format!("the root {source}: {problem}"))?;
    modules.load("overlay");
    packed::write_above(parameters)?;
    say!("the root is {source}, over NFS");
    Ok(())
}

/// Options of a mount, sorted by who reads them.
struct Options {
    flags: Vec<&'static str>,
    version: Option<String>,
    rest: Vec<String>,
}

impl Options {
    /// Words of mount(8) and mount.nfs(8) alone are passed over.
    fn of(text: &str) -> Self {
        let mut options = Self { flags: Vec::new(), version: None, rest: Vec::new() };
        // Some releases of xCAT wrote them in quotes.
        for word in text.trim_matches(['"', '\'']).split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match name {
                "nosuid" => options.flags.push("nosuid"),
                "nodev" => options.flags.push("nodev"),
                "noexec" => options.flags.push("noexec"),
                "noatime" => options.flags.push("noatime"),
                "ro" | "rw" | "defaults" | "auto" | "noauto" | "_netdev" | "bg" | "fg" | "retry" | "nofail"
                | "suid" | "dev" | "exec" | "atime" | "relatime" | "nouser" => {}
                "vers" | "nfsvers" => options.version = Some(value.to_owned()),
                "v3" => options.version = Some("3".to_owned()),
                "v4" => options.version = Some("4".to_owned()),
                "v4.0" | "v4.1" | "v4.2" => options.version = Some(name[1..].to_owned()),
                _ => options.rest.push(word.to_owned()),
            }
        }
        options
    }

    fn flags(&self) -> sys::MountFlags {
        let has = |name: &str| self.flags.contains(&name);
        sys::MountFlags {
            read_only: false,
            no_suid: has("nosuid"),
            no_dev: has("nodev"),
            no_exec: has("noexec"),
            no_atime: has("noatime"),
        }
    }

    fn has(&self, names: &[&str]) -> bool {
        self.rest.iter().any(|word| names.contains(&word.split('=').next().unwrap_or_default()))
    }

    /// The value of a word.
    fn value(&self, name: &str) -> Option<&str> {
        self.rest.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// What the kernel gets of one version: there is no mount.nfs(8) that would add what it needs.
    fn of_version(&self, version: &str, server: SocketAddr, own: &str) -> String {
        let is_3 = version == "3";
        let mut words = vec![format!("vers={version}"), format!("addr={}", server.ip())];
        let only_3 = |word: &str| {
            ["nolock", "lock", "mountproto", "mountport", "mountvers", "mountaddr", "mounthost"].contains(&word)
        };
        if is_3 {
            // No program here answers for locks.
            words.push("nolock".to_owned());
            if !self.has(&["proto", "tcp", "udp"]) {
                words.push("proto=tcp".to_owned());
            }
            if !self.has(&["mountproto"]) {
                words.push("mountproto=tcp".to_owned());
            }
        } else {
            words.push(format!("clientaddr={own}"));
        }
        for word in &self.rest {
            let name = word.split('=').next().unwrap_or_default();
            if name == "addr" || name == "clientaddr" || name == "nolock" || name == "lock" || (!is_3 && only_3(name)) {
                continue;
            }
            words.push(word.clone());
        }
        words.join(",")
    }
}

/// Mounts a directory of a server: as its options say, or with the newest version that both have.
fn nfs(
    source: &Source,
    target: &str,
    default: &str,
    read_only: bool,
    lease: &Lease,
    modules: &Modules,
) -> Result<(), String> {
    let Source::Server { server, directory, options } = source else {
        return Err("it is no directory of a server".to_owned());
    };
    let options = Options::of(if options.is_empty() { default } else { options });
    let port = options.value("port").and_then(|port| port.parse().ok()).unwrap_or(PORT);
    let found =
        (server.as_str(), port).to_socket_addrs().map_err(|error| format!("`{server}` has no address: {error}"))?;
    let address = found.into_iter().next().ok_or_else(|| format!("`{server}` has no address"))?;
    // The kernel would wait without a word.
    if !options.has(&["udp"]) {
        TcpStream::connect_timeout(&address, PATIENCE)
            .map_err(|error| format!("no NFS server answers at {address}: {error}"))?;
    }
    for name in ["nfs", "nfsv3", "nfsv4"] {
        modules.load(name);
    }
    std::fs::create_dir_all(Path::new(target)).map_err(|error| format!("{target}: {error}"))?;
    sys::unmount(target);
    let versions = match &options.version {
        Some(version) => vec![version.as_str()],
        None => vec!["4.2", "4.1", "3"],
    };
    let own = lease.address.to_string();
    let mut problems = Vec::new();
    for version in versions {
        let data = options.of_version(version, address, &own);
        let shown =
            if server.contains(':') { format!("[{server}]:{directory}") } else { format!("{server}:{directory}") };
        let flags = sys::MountFlags { read_only, ..options.flags() };
        match sys::mount_with(&shown, target, "nfs", flags, &data) {
            Ok(()) => return Ok(()),
            Err(error) => problems.push(format!("version {version}: {}", explained(&error))),
        }
    }
    Err(format!("it cannot be mounted ({})", problems.join("; ")))
}

fn explained(error: &std::io::Error) -> String {
    let more = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "; does the server export it to this node?",
        std::io::ErrorKind::NotFound => "; does the server have and export this directory?",
        std::io::ErrorKind::InvalidInput => "; are its options those of the kernel (nfs(5))?",
        _ if error.raw_os_error() == Some(sys::NO_SUCH_KIND) => "; does the initrd have the module nfs?",
        _ => "",
    };
    format!("{error}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_the_kernels() {
        let address: SocketAddr = "10.0.0.5:2049".parse().unwrap();
        let of = |text: &str, version: &str| Options::of(text).of_version(version, address, "10.0.0.11");
        assert_eq!(of(STATE_OPTIONS, "3"), "vers=3,addr=10.0.0.5,nolock,mountproto=tcp,rsize=32768,tcp,timeo=14");
        assert_eq!(of(STATE_OPTIONS, "4.2"), "vers=4.2,addr=10.0.0.5,clientaddr=10.0.0.11,rsize=32768,tcp,timeo=14");
        assert_eq!(of("", "3"), "vers=3,addr=10.0.0.5,nolock,proto=tcp,mountproto=tcp");
        assert_eq!(of("\"rw,soft,addr=1.2.3.4\"", "4.1"), "vers=4.1,addr=10.0.0.5,clientaddr=10.0.0.11,soft");
        assert_eq!(Options::of("nfsvers=3,noatime").version.as_deref(), Some("3"));
        assert!(Options::of("nfsvers=3,noatime").flags().no_atime);
    }
}
