//! The place of a dump, as a recipe writes it.

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Nfs {
        /// Name or address; none for the server of the image.
        server: Option<String>,
        directory: String,
    },
    /// A directory of a host that is reached by ssh.
    Ssh { user: String, host: String, port: u16, directory: String },
    /// A directory of a file system on a disk of the node.
    Disk {
        /// `/dev/NAME`, `LABEL=`, `UUID=`, `PARTLABEL=`.
        device: String,
        /// Absolute path below its root.
        directory: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetProblem {
    /// It begins like no place of a dump.
    Kind,
    /// The path of a directory alone: it would be in the node's memory.
    Memory,
    /// No host, or one that is no name and no address.
    Host,
    /// ssh without an account.
    User,
    Port,
    /// No absolute path, or one with `..`, a quote, or a space.
    Directory,
    /// The device has no name, or one with a space.
    Device,
    /// A name that udev gives: it does not run after a crash.
    Udev,
}

impl TargetProblem {
    /// A sentence's end.
    pub fn text(self) -> &'static str {
        match self {
            Self::Kind => "it is neither an NFS server, nor a host with ssh, nor a disk",
            Self::Memory => "a directory of the node is in its memory, which the crash takes away",
            Self::Host => "the host is neither a name nor an address",
            Self::User => "ssh needs an account",
            Self::Port => "the port is not a number",
            Self::Directory => "the directory is not an absolute path without `..`, quotes and spaces",
            Self::Device => "the device has no name",
            Self::Udev => {
                "no one gives devices that name after a crash: use LABEL=, UUID=, PARTLABEL= or the kernel's own /dev/NAME"
            }
        }
    }
}

const DEVICES: [&str; 4] = ["/dev/", "LABEL=", "UUID=", "PARTLABEL="];

/// An absolute path; it is part of commands on the server.
fn directory(text: &str) -> Result<String, TargetProblem> {
    let is_plain = |c: char| c.is_ascii_graphic() && !"'\"\\`$;&|<>(){}*?[]!#~".contains(c);
    let is_good = text.starts_with('/')
        && text.chars().all(is_plain)
        && (text.split('/').all(|part| part != "..") || fault::planted("kdump-directory-leads-up"));
    match text.trim_end_matches('/') {
        _ if !is_good => Err(TargetProblem::Directory),
        "" => Ok("/".to_owned()),
        plain => Ok(plain.to_owned()),
    }
}

/// A name or an address; it is an argument of programs.
fn host(text: &str) -> Result<String, TargetProblem> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
    let is_host = text.chars().all(is_good) && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == ':');
    if is_host { Ok(text.to_owned()) } else { Err(TargetProblem::Host) }
}

/// Host and port, an address of IPv6 in brackets.
fn authority(text: &str) -> Result<(String, Option<u16>), TargetProblem> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (name, after) = rest.split_once(']').ok_or(TargetProblem::Host)?;
            (name, after)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(number) => Some(number.parse().map_err(|_| TargetProblem::Port)?),
        None if port.is_empty() => None,
        None => return Err(TargetProblem::Host),
    };
    Ok((host(name)?, port))
}

/// What stands before a path, and the path.
fn cut(text: &str) -> (&str, &str) {
    text.split_at(text.find('/').unwrap_or(text.len()))
}

impl Target {
    /// Reads `nfs://SERVER/DIRECTORY`, `nfs:///DIRECTORY`, `ssh://USER@HOST[:PORT]/DIRECTORY`, `DEVICE` and `DEVICE:/DIRECTORY`.
    pub fn parse(text: &str) -> Result<Self, TargetProblem> {
        if let Some(rest) = text.strip_prefix("nfs://") {
            let (server, path) = cut(rest);
            let server = match server {
                "" => None,
                name => match authority(name)? {
                    (name, None) => Some(name),
                    // An option of the mount has it.
                    (_, Some(_)) => return Err(TargetProblem::Port),
                },
            };
            return Ok(Self::Nfs { server, directory: directory(path)? });
        }
        if let Some(rest) = text.strip_prefix("ssh://") {
            let (place, path) = cut(rest);
            let (user, place) = place.split_once('@').ok_or(TargetProblem::User)?;
            let is_letter = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if !user.chars().all(is_letter) || !user.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
                return Err(TargetProblem::User);
            }
            let (host, port) = authority(place)?;
            let directory = directory(path)?;
            return Ok(Self::Ssh { user: user.to_owned(), host, port: port.unwrap_or(22), directory });
        }
        let Some(start) = DEVICES.iter().find(|start| text.starts_with(**start)) else {
            let is_path = text.starts_with('/') || text.starts_with("local:") || text.starts_with("file:");
            return Err(if is_path { TargetProblem::Memory } else { TargetProblem::Kind });
        };
        let (device, path) = text.split_once(":/").map_or((text, ""), |(device, path)| (device, path));
        if device.len() == start.len() || device.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(TargetProblem::Device);
        }
        if ["/dev/disk/", "/dev/mapper/"].iter().any(|start| device.starts_with(start)) {
            return Err(TargetProblem::Udev);
        }
        Ok(Self::Disk { device: device.to_owned(), directory: directory(&format!("/{path}"))? })
    }

    /// The directory in which each dump gets one of its own.
    pub fn directory(&self) -> &str {
        match self {
            Self::Nfs { directory, .. } | Self::Ssh { directory, .. } | Self::Disk { directory, .. } => directory,
        }
    }

    /// Whether it lies on a disk of the node.
    pub fn is_disk(&self) -> bool {
        matches!(self, Self::Disk { .. })
    }
}

fn in_brackets(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

impl std::fmt::Display for Target {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nfs { server, directory } => {
                write!(to, "nfs://{}{directory}", server.as_deref().map(in_brackets).unwrap_or_default())
            }
            Self::Ssh { user, host, port: 22, directory } => {
                write!(to, "ssh://{user}@{}{directory}", in_brackets(host))
            }
            Self::Ssh { user, host, port, directory } => {
                write!(to, "ssh://{user}@{}:{port}{directory}", in_brackets(host))
            }
            Self::Disk { device, directory } => write!(to, "{device}:{directory}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_shown() {
        for (text, shown) in [
            ("nfs://10.0.0.1/export/dumps/", "nfs://10.0.0.1/export/dumps"),
            ("nfs://[fd00::1]/x", "nfs://[fd00::1]/x"),
            ("nfs:///install/crash", "nfs:///install/crash"),
            ("ssh://kdump@head/srv/crash", "ssh://kdump@head/srv/crash"),
            ("ssh://kdump@[fd00::1]:2222/srv", "ssh://kdump@[fd00::1]:2222/srv"),
            ("ssh://kdump@head:22/srv", "ssh://kdump@head/srv"),
            ("LABEL=crash", "LABEL=crash:/"),
            ("LABEL=crash:/var/crash/", "LABEL=crash:/var/crash"),
            ("/dev/nvme0n1p3:/x", "/dev/nvme0n1p3:/x"),
        ] {
            let read = Target::parse(text).map(|target| target.to_string());
            assert_eq!(read.as_deref(), Ok(shown), "{text}");
            assert_eq!(Target::parse(shown).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_place_says_why() {
        for (text, problem) in [
            ("", TargetProblem::Kind),
            ("ftp://x/y", TargetProblem::Kind),
            ("10.0.0.1:/x", TargetProblem::Kind),
            ("/var/crash", TargetProblem::Memory),
            ("local:/var/crash", TargetProblem::Memory),
            ("nfs://10.0.0.1", TargetProblem::Directory),
            ("nfs://10.0.0.1/a/../b", TargetProblem::Directory),
            ("nfs://-o/x", TargetProblem::Host),
            ("nfs://h:2049/x", TargetProblem::Port),
            ("ssh://head/x", TargetProblem::User),
            ("ssh://-x@head/x", TargetProblem::User),
            ("ssh://k@-oProxyCommand=x/y", TargetProblem::Host),
            ("ssh://k@h:x/y", TargetProblem::Port),
            ("ssh://k@h/a'b", TargetProblem::Directory),
            ("ssh://k@h", TargetProblem::Directory),
            ("LABEL=", TargetProblem::Device),
            ("/dev/:/x", TargetProblem::Device),
            ("LABEL=a b", TargetProblem::Device),
            ("/dev/disk/by-path/pci-0000:00:1f.2-ata-1:/x", TargetProblem::Udev),
            ("/dev/mapper/vg-crash:/x", TargetProblem::Udev),
        ] {
            assert_eq!(Target::parse(text), Err(problem), "{text}");
        }
    }
}
