//! Where a node's files come from: a running node by ssh, a directory, an archive.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use archive::{Budget, Look, Unlisted, list_directory, list_packed};

use super::CaptureError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Node {
        /// `user@host`, as ssh takes it.
        host: String,
        port: Option<u16>,
    },
    Directory(PathBuf),
    /// A tar or cpio archive, compressed or not.
    Archive(PathBuf),
}

impl Source {
    /// Reads `ssh://[USER@]NODE[:PORT]`, or a path.
    /// Errors: [`CaptureError::Source`] for anything else.
    pub fn parse(text: &str, below: &Path) -> Result<Self, CaptureError> {
        let wrong = |problem: &str| CaptureError::Source { text: text.to_owned(), problem: problem.to_owned() };
        if let Some(node) = text.strip_prefix("ssh://") {
            let node = node.trim_end_matches('/');
            let (host, port) = match node.rsplit_once(':') {
                Some((host, port)) if !port.contains(']') => {
                    (host, Some(port.parse().map_err(|_| wrong("its port is not a number"))?))
                }
                _ => (node, None),
            };
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-@:[]%".contains(c);
            if host.is_empty() || host.starts_with('-') || !host.chars().all(is_plain) {
                return Err(wrong(
                    "write ssh://NODE, ssh://USER@NODE or ssh://USER@NODE:PORT; the whole node is captured",
                ));
            }
            let host = host.replace(['[', ']'], "");
            return Ok(Self::Node { host, port });
        }
        if text.contains("://") {
            return Err(wrong("only ssh:// is supported; fetch an archive first"));
        }
        let path = below.join(text);
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => Ok(Self::Directory(path)),
            Ok(_) => Ok(Self::Archive(path)),
            Err(error) => Err(CaptureError::Io { path, error }),
        }
    }

    /// The name that an image of it gets if no one says another one.
    pub fn name(&self) -> String {
        let name = match self {
            Self::Node { host, .. } => host.rsplit('@').next().unwrap_or(host).to_owned(),
            Self::Directory(path) | Self::Archive(path) => {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let is_ending = |word: &str| {
                    ["tar", "cpio", "gz", "xz", "zst", "lz4", "tgz", "txz", "bz2", "sfs", "squashfs"].contains(&word)
                };
                let words: Vec<&str> = name.split('.').collect();
                let end = words.iter().rposition(|word| !is_ending(word)).map_or(words.len(), |at| at + 1);
                words[..end].join(".")
            }
        };
        let plain: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
        let plain = plain.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
        if plain.is_empty() { "captured".to_owned() } else { plain }
    }
}

/// What runs on the node: one tar stream of its root and of the file systems on its disks. Other mounts (memory, network,
/// the kernel's own) are named for tar to leave out. `tar --xattrs` keeps capabilities; a tar without it (BusyBox) packs all the same.
const ON_NODE: &str = r#"set -f
[ "$(id -u)" = 0 ] || { echo "imgbuild: log in as root: others cannot read all files" >&2; exit 77; }
cd / || exit 1
while read -r device at kind rest; do
    case "$kind" in ext2|ext3|ext4|xfs|btrfs|f2fs|jfs|reiserfs|vfat|zfs|bcachefs) continue ;; esac
    [ "$at" = / ] || set -- "$@" "--exclude=.$(printf '%b' "$at")/*"
done < /proc/mounts
set -- "$@" "--exclude=./proc/*" "--exclude=./sys/*" "--exclude=./dev/*" "--exclude=./run/*" "--exclude=./tmp/*" "--exclude=./var/tmp/*" "--exclude=./var/cache/*"
if tar --version 2>/dev/null | grep -q GNU; then
    tar --format=posix --numeric-owner --xattrs "--xattrs-include=*" --ignore-failed-read --warning=no-file-changed --warning=no-file-ignored --anchored --no-wildcards-match-slash -cf - "$@" .
    code=$?
    [ $code -eq 1 ] && code=0
    exit $code
fi
tar -cf - "$@" .
"#;

/// A source that can be read as often as it takes.
#[derive(Debug)]
pub(super) struct Opened {
    what: Source,
    /// The stream of a node; gone when this is dropped.
    spool: Option<File>,
}

/// Fetches a node's stream into a file beside the workspace; other sources are read where they lie.
pub(super) fn open(
    source: &Source,
    ssh: &[String],
    beside: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Opened, CaptureError> {
    let Source::Node { host, port } = source else { return Ok(Opened { what: source.clone(), spool: None }) };
    let failed = |problem: String| CaptureError::Node { host: host.clone(), problem };
    // Without a name: whatever ends this, nothing of the node is left.
    let spool = tempfile::tempfile_in(beside);
    let spool = spool.map_err(|error| CaptureError::Io { path: beside.to_owned(), error })?;
    let mut words = ssh.iter();
    let program = words.next().map_or("ssh", String::as_str);
    let mut command = Command::new(program);
    command.args(words);
    if let Some(port) = port {
        command.args(["-p", &port.to_string()]);
    }
    // Through stdin, so that no shell on the way reads it.
    command.args(["--", host, "sh"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().map_err(|error| failed(format!("`{program}` cannot be started: {error}")))?;
    let mut stdin = child.stdin.take().ok_or_else(|| failed("ssh takes no input".to_owned()))?;
    let mut stdout = child.stdout.take().ok_or_else(|| failed("ssh gives no output".to_owned()))?;
    // A node that hangs up is known by what ssh says when it ends.
    let _ = stdin.write_all(ON_NODE.as_bytes());
    drop(stdin);
    let unwritable = |error: io::Error| CaptureError::Io { path: beside.to_owned(), error };
    let mut packer = zstd::Encoder::new(&spool, 1).map_err(unwritable)?;
    let mut buffer = vec![0; 1 << 18];
    let mut bytes = 0u64;
    loop {
        let read = match stdout.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(format!("the stream broke off: {error}"))),
        };
        if read == 0 {
            break;
        }
        if let Err(error) = packer.write_all(&buffer[..read]) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(unwritable(error));
        }
        bytes += read as u64;
        progress(bytes);
    }
    packer.finish().map_err(unwritable)?;
    let ended = child.wait().map_err(|error| failed(error.to_string()))?;
    if !ended.success() {
        let code = ended.code().map_or_else(|| "a signal".to_owned(), |code| format!("code {code}"));
        let help = if ended.code() == Some(255) {
            "ssh could not log in, or the connection broke"
        } else {
            "the node could not pack its files"
        };
        return Err(failed(format!("{help} (it ended with {code}); nothing was written")));
    }
    Ok(Opened { what: source.clone(), spool: Some(spool) })
}

/// Kinds of file systems whose files are a system's own. Source: statfs(2); magic numbers of linux/magic.h.
fn is_on_disk(path: &Path) -> bool {
    const KINDS: [u32; 7] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x2fc1_2fc1, 0x3153_464a, 0x794c_7630];
    rustix::fs::statfs(path).is_ok_and(|found| u32::try_from(found.f_type).is_ok_and(|kind| KINDS.contains(&kind)))
}

impl Opened {
    /// Bytes of texts that may be kept of it; a directory's files are as large as they are.
    pub(super) fn most_kept(&self) -> Option<u64> {
        let file = match (&self.what, &self.spool) {
            (_, Some(spool)) => spool.try_clone().ok()?,
            (Source::Archive(path), _) => File::open(path).ok()?,
            _ => return None,
        };
        Some(Budget::of_file(&file).ok()?.texts())
    }

    /// Lists everything, in the order of the archive or of the paths.
    pub(super) fn list(&self, look: &mut Look<'_>) -> Result<(), CaptureError> {
        let path = match (&self.what, &self.spool) {
            (_, Some(_)) => PathBuf::from("the node's stream"),
            (Source::Directory(path), _) => {
                let said = |error: io::Error| CaptureError::Io { path: path.clone(), error };
                let device = std::fs::metadata(path).map_err(said)?.dev();
                let mut keep = |entry: &walkdir::DirEntry| {
                    let is_mounted = entry.depth() > 0
                        && entry.file_type().is_dir()
                        && entry.metadata().is_ok_and(|found| found.dev() != device);
                    !is_mounted || is_on_disk(entry.path())
                };
                return list_directory(path, &mut keep, look).map_err(said);
            }
            (Source::Archive(path), _) => path.clone(),
            (Source::Node { .. }, None) => return Ok(()),
        };
        let said = |error: io::Error| CaptureError::Io { path: path.clone(), error };
        let file = match &self.spool {
            Some(spool) => {
                let mut file = spool.try_clone().map_err(said)?;
                io::Seek::seek(&mut file, io::SeekFrom::Start(0)).map_err(said)?;
                file
            }
            None => File::open(&path).map_err(said)?,
        };
        let wrong = |problem: String| CaptureError::Source { text: path.display().to_string(), problem };
        match list_packed(&file, look) {
            Ok(_) => Ok(()),
            Err(Unlisted::Io(error)) => Err(said(error)),
            Err(Unlisted::FileSystem(kind)) => {
                Err(wrong(format!("it is a file system ({kind}): mount it, and name the directory")))
            }
            Err(Unlisted::Unknown) => {
                Err(wrong("it is neither an archive in tar or cpio, nor squashfs or erofs".to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let parse = |text: &str| Source::parse(text, folder.path());
        let node = |host: &str, port| Source::Node { host: host.to_owned(), port };
        assert_eq!(parse("ssh://n1").unwrap(), node("n1", None));
        assert_eq!(parse("ssh://root@n1:2222/").unwrap(), node("root@n1", Some(2222)));
        assert_eq!(parse("ssh://[fe80::1]").unwrap(), node("fe80::1", None));
        for bad in ["ssh://", "ssh://-oProxyCommand=x", "ssh://n 1", "ssh://n:x", "http://n/x", "ssh://n/etc"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("gone").is_err());
        std::fs::write(folder.path().join("node1.cluster.tar.gz"), b"").unwrap();
        assert_eq!(parse("node1.cluster.tar.gz").unwrap().name(), "node1.cluster");
        assert_eq!(node("root@n1", None).name(), "n1");
        assert_eq!(Source::Directory("/".into()).name(), "captured");
    }
}
