//! Inventory of a captured node: paths, metadata, digests.

use std::collections::BTreeMap;
use std::io::{self, Read};

use data_encoding::HEXLOWER;
use md5::Digest as _;

use archive::{Listed, over};
use packages::installed::{LONGEST_DATABASE, is_database_file};

use super::left_out::{Rules, Why, is_private_key};

/// Type bits of a mode. Source: stat(2).
const TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const FIFO: u32 = 0o010_000;

/// A larger file is no key and no configuration with one, in bytes.
const LARGEST_KEY: u64 = 4 << 20;

/// Digests of the configuration that scripts of packages installed by ucf(1).
pub(super) const UCF: &str = "var/lib/ucf/hashfile";

/// Longest file whose text is read, in bytes.
const LONGEST_TEXT: u64 = 4 << 20;

#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// What the archive or the directory says of it.
    pub listed: Listed,
    /// Digests of a file's content, hexadecimal: those that dpkg and rpm record.
    pub md5: String,
    pub sha256: String,
    pub is_private_key: bool,
}

impl Seen {
    pub(super) fn is_directory(&self) -> bool {
        self.listed.mode & TYPE == DIRECTORY
    }

    pub(super) fn is_file(&self) -> bool {
        self.listed.mode & TYPE == FILE
    }

    pub(super) fn is_link(&self) -> bool {
        self.listed.mode & TYPE == LINK
    }

    /// Whether an image can have it: no socket, no device.
    pub(super) fn is_plain(&self) -> bool {
        self.is_directory() || self.is_file() || self.is_link() || self.listed.mode & TYPE == FIFO
    }
}

#[derive(Debug, Default)]
pub(super) struct Census {
    /// By path without a slash in front.
    pub seen: BTreeMap<String, Seen>,
    pub databases: BTreeMap<String, Vec<u8>>,
    /// Texts of configuration that becomes fields of the recipe.
    pub texts: BTreeMap<String, Vec<u8>>,
    /// What was left out before it was looked at.
    pub left_out: BTreeMap<String, Why>,
    /// Where the link /etc/localtime leads.
    pub localtime: Option<String>,
    /// Files of a cpio archive by number: names whose content comes with another one, and why each is left out.
    numbered: BTreeMap<u64, Vec<(String, Option<Why>)>>,
    /// Names of which a further one is left out, and why: they are the same file.
    tainted: Vec<(String, Why)>,
    /// When the package database was written last, in seconds since 1970.
    pub packaged: Option<i64>,
    /// Bytes that were read.
    pub bytes: u64,
    /// Most bytes of databases and texts that are kept; of a directory they are its files' own.
    pub most_kept: Option<u64>,
    kept: u64,
}

/// Whether the text of a file is looked at.
fn is_read(path: &str) -> bool {
    const FILES: [&str; 22] = [
        "etc/os-release",
        "usr/lib/os-release",
        "etc/passwd",
        "etc/group",
        "etc/shadow",
        "etc/fstab",
        "etc/hosts",
        "etc/hosts.allow",
        "etc/hosts.deny",
        "etc/initramfs-tools/modules",
        "etc/timezone",
        "etc/locale.conf",
        "etc/default/locale",
        "etc/default/grub",
        "etc/apt/sources.list",
        "etc/kernel/cmdline",
        "root/.ssh/authorized_keys",
        "etc/sysconfig/grub",
        "etc/centos-release",
        "etc/redhat-release",
        "etc/debian_version",
        UCF,
    ];
    const FOLDERS: [&str; 14] = [
        "etc/dnf/modules.d/",
        "etc/apt/sources.list.d/",
        "etc/apt/keyrings/",
        "etc/apt/trusted.gpg.d/",
        "usr/share/keyrings/",
        "etc/yum.repos.d/",
        "etc/zypp/repos.d/",
        "etc/pki/rpm-gpg/",
        "etc/yum/vars/",
        "etc/dnf/vars/",
        "etc/systemd/system-preset/",
        "usr/lib/systemd/system-preset/",
        "usr/lib/systemd/system/",
        "lib/systemd/system/",
    ];
    FILES.contains(&path) || FOLDERS.iter().any(|folder| path.starts_with(folder))
}

impl Census {
    /// Takes an entry.
    /// Errors: The reader's; `InvalidData` for a name that leads out.
    pub(super) fn take(&mut self, listed: &Listed, content: &mut dyn Read, rules: &Rules) -> io::Result<()> {
        let path = listed.path.clone();
        if path.split('/').any(|part| part == "..") {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the path `{path}` points outside the tree"),
            ));
        }
        if path.is_empty() {
            return Ok(());
        }
        let is_twice = self.left_out.contains_key(&path) && listed.mode & TYPE != DIRECTORY
            || self.seen.get(&path).is_some_and(|seen| !seen.is_directory() || listed.mode & TYPE != DIRECTORY);
        if is_twice {
            let problem = format!("`{path}` is in it twice: unpack it, and capture the directory");
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        let is_database = is_database_file(&path);
        if is_database {
            self.packaged = self.packaged.max(Some(listed.mtime));
        }
        let why = rules.why(&path);
        let is_wanted = is_database || is_read(&path) || path == "etc/localtime";
        if let Some((number, _)) = listed.file {
            self.numbered.entry(number).or_default().push((path.clone(), why));
        }
        if let (Some(why @ (Why::Secret | Why::Node)), Some(first)) = (why, &listed.same_as) {
            self.tainted.push((first.clone(), why));
        }
        if let Some(why) = why
            && !is_wanted
        {
            self.left_out.insert(path, why);
            return Ok(());
        }
        let mut seen =
            Seen { listed: listed.clone(), md5: String::new(), sha256: String::new(), is_private_key: false };
        if seen.is_file() && listed.same_as.is_none() {
            let limit = if is_database { LONGEST_DATABASE } else { LONGEST_TEXT };
            let mut kept = ((is_database || is_read(&path)) && listed.size <= limit).then(Vec::new);
            let (mut md5, mut sha256) = (md5::Md5::new(), sha2::Sha256::new());
            // The end of what was read before, so that no key hides between two parts.
            let mut tail: Vec<u8> = Vec::new();
            let mut is_start = true;
            let mut buffer = vec![0; 1 << 17];
            loop {
                let read = content.read(&mut buffer)?;
                if read == 0 {
                    break;
                }
                if !seen.is_private_key && listed.size <= LARGEST_KEY {
                    tail.extend_from_slice(&buffer[..read]);
                    seen.is_private_key = is_private_key(&tail, is_start);
                    tail.drain(..tail.len().saturating_sub(128));
                    is_start = false;
                }
                md5.update(&buffer[..read]);
                sha256.update(&buffer[..read]);
                self.bytes += read as u64;
                if let Some(kept) = &mut kept {
                    self.kept += read as u64;
                    if let Some(most) = self.most_kept.filter(|most| self.kept > *most) {
                        return Err(over(most, "bytes of package databases and configuration"));
                    }
                    kept.extend_from_slice(&buffer[..read]);
                }
            }
            (seen.md5, seen.sha256) = (HEXLOWER.encode(&md5.finalize()), HEXLOWER.encode(&sha256.finalize()));
            if let Some(kept) = kept {
                let place = if is_database { &mut self.databases } else { &mut self.texts };
                place.insert(path.clone(), kept);
            }
        } else if seen.is_link() && listed.target.is_none() {
            // cpio has a link's target as its content.
            let mut target = Vec::new();
            content.take(1 << 16).read_to_end(&mut target)?;
            let target = node_words::name::text_of(&target).trim_end_matches('\0').to_owned();
            seen.listed.target = Some(target);
        }
        if path == "etc/localtime" {
            self.localtime.clone_from(&seen.listed.target);
        }
        if let Some(why) = why {
            self.left_out.insert(path, why);
        } else {
            self.seen.insert(path, seen);
        }
        Ok(())
    }

    /// When all is read: names of one file have the same content.
    pub(super) fn finish(&mut self) {
        for names in std::mem::take(&mut self.numbered).into_values() {
            let secret = names.iter().find_map(|(_, why)| why.filter(|why| matches!(why, Why::Secret | Why::Node)));
            let has_content = |name: &String| self.seen.get(name).is_some_and(|seen| seen.listed.size > 0);
            let full = names.iter().map(|(name, _)| name).find(|name| has_content(name)).cloned();
            let others =
                names.iter().map(|(name, _)| name.clone()).filter(|name| Some(name) != full.as_ref()).collect();
            let lost = names.iter().find_map(|(_, why)| *why);
            match (full, secret, lost) {
                // The name that had the content is left out.
                (_, Some(why), _) | (None, None, Some(why)) => {
                    names.into_iter().for_each(|(name, _)| self.leave_out(name, why));
                }
                (Some(full), None, _) => self.copy_content(&full, others),
                (None, None, None) => {}
            }
        }
        for (name, why) in std::mem::take(&mut self.tainted) {
            self.leave_out(name, why);
        }
        let hard: Vec<(String, String)> =
            self.seen.iter().filter_map(|(path, seen)| Some((path.clone(), seen.listed.same_as.clone()?))).collect();
        for (path, full) in hard {
            if self.seen.get(&full).is_some_and(|seen| seen.is_file() && seen.listed.same_as.is_none()) {
                self.copy_content(&full, vec![path]);
                continue;
            }
            // A further name of what is left out, or of nothing.
            let why = self.left_out.get(&full).copied().unwrap_or(Why::Special);
            self.leave_out(path, why);
        }
    }

    fn leave_out(&mut self, path: String, why: Why) {
        self.seen.remove(&path);
        self.left_out.insert(path, why);
    }

    fn copy_content(&mut self, from: &str, to: Vec<String>) {
        let Some(full) = self.seen.get(from).cloned() else { return };
        for path in to {
            if let Some(seen) = self.seen.get_mut(&path) {
                seen.listed.same_as = Some(from.to_owned());
                seen.listed.size = full.listed.size;
                seen.is_private_key = full.is_private_key;
                (seen.md5, seen.sha256) = (full.md5.clone(), full.sha256.clone());
            }
        }
    }

    pub(super) fn text(&self, path: &str) -> Option<String> {
        self.texts.get(path).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// A path whose folders' links are followed within the tree, as the node would; its last part stays.
    pub(super) fn resolved(&self, path: &str) -> String {
        match path.rsplit_once('/') {
            Some((folder, name)) => format!("{}/{name}", self.resolved_folder(folder)),
            None => path.to_owned(),
        }
    }

    /// The path of a folder where all links are followed within the tree.
    pub(super) fn resolved_folder(&self, path: &str) -> String {
        let mut done: Vec<String> = Vec::new();
        let mut left: Vec<String> = path.split('/').rev().filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == ".." {
                done.pop();
                continue;
            }
            done.push(part);
            let here = done.join("/");
            let target = self.seen.get(&here).filter(|seen| seen.is_link()).and_then(|seen| seen.listed.target.clone());
            // Source: path_resolution(7) has the same limit.
            if let Some(target) = target.filter(|_| links < 40) {
                links += 1;
                done.pop();
                if target.starts_with('/') {
                    done.clear();
                }
                left.extend(target.split('/').rev().filter(|part| !part.is_empty() && *part != ".").map(str::to_owned));
            }
        }
        done.join("/")
    }
}
