//! The content of a package: cpio in the forms that rpm writes. Source: rpm's lib/cpio.c and rpmfi.c, described;
//! kernel, Documentation/driver-api/early-userspace/buffer-format.rst.

use std::collections::HashMap;
use std::io::{BufReader, Read, Seek, Write};

use super::file::FileEntry;
use super::header::Headers;
use crate::rpm::decompress::decompressed;
use crate::rpm::{Checksum, Package};
use archive::{Extractor, Member, MemberKind, Meta, Visit, clean_path};
use base::digest::Sha256;

const NAME_LIMIT: u64 = 4096 + 2;

/// Most bytes of a file that is read under several names: they are held at once.
const LINKED_LIMIT: u64 = 1 << 30;

#[derive(Debug, Clone, Default)]
pub(in crate::rpm) struct Owners {
    pub users: HashMap<String, u32>,
    pub groups: HashMap<String, u32>,
}

impl Owners {
    pub(crate) fn read(passwd: &str, group: &str) -> Self {
        let table = |text: &str| {
            text.lines()
                .filter_map(|line| {
                    let mut fields = line.split(':');
                    let name = fields.next()?;
                    Some((name.to_owned(), fields.nth(1)?.parse().ok()?))
                })
                .collect()
        };
        Self { users: table(passwd), groups: table(group) }
    }

    /// Owner, mode and so on of an entry; who is not known is root, and then nothing runs as its owner.
    pub(crate) fn meta(&self, file: &FileEntry) -> Result<Meta, String> {
        let find = |table: &HashMap<String, u32>, name: &str| match name {
            "root" | "" => Some(0),
            name => table.get(name).copied(),
        };
        let (uid, gid) = (find(&self.users, &file.user), find(&self.groups, &file.group));
        let mut mode = file.mode & 0o7777;
        if uid.is_none() {
            mode &= !0o4000;
        }
        if gid.is_none() && !file.is_directory() {
            mode &= !0o2000;
        }
        let attribute = super::caps::attribute(&file.capabilities)?;
        let xattrs = attribute.into_iter().map(|value| ("security.capability".to_owned(), value)).collect();
        Ok(Meta { mode, uid: uid.unwrap_or(0), gid: gid.unwrap_or(0), mtime: file.mtime, xattrs })
    }
}

/// A package file opened: its headers were read, its payload comes next.
pub(in crate::rpm) struct Opened<R> {
    pub package: Package,
    rest: R,
}

impl<R: Read> Opened<R> {
    pub(crate) fn new(mut file: R) -> Result<Self, String> {
        let headers = Headers::read(&mut file)?;
        let nothing = Checksum::Sha256(Sha256([0; 32]));
        let package = Package::of(&headers, nothing, 0, String::new())?;
        for file in &package.files {
            check(file)?;
        }
        Ok(Self { package, rest: file })
    }

    /// Gives symbolic links and regular files to `visit`, in the payload's order; a file with several names under each.
    /// Errors: A text that says what is wrong, or what `visit` says.
    fn visit(self, visit: &mut Visit<'_>) -> Result<(), String> {
        let files = &self.package.files;
        let by_path = by_path(files);
        let names = Names::of(files);
        let member =
            |file: &FileEntry| Some((clean_path(file.path.as_bytes())?, file.mode & 0o7777)).filter(|_| !file.ghost);
        for file in files.iter().filter(|file| file.is_link()) {
            if let Some((path, mode)) = member(file) {
                visit(Member { path, size: None, mode, kind: MemberKind::Symlink(file.link.clone()) })?;
            }
        }
        let content = decompressed(self.rest).map_err(|error| format!("has a payload that is damaged: {error}"))?;
        let mut archive = Archive { input: content, at: 0 };
        while let Some(Found { index, size }) = archive.next(files, &by_path, &names)? {
            let (file, group) = (&files[index], names.first[index]);
            let several = names.count[group] > 1;
            if !file.is_file() || (several && size == 0 && file.size > 0) {
                archive.skip(size)?;
                continue;
            }
            let mut content = (&mut archive.input).take(size);
            if several {
                if size > LINKED_LIMIT {
                    return Err(format!("has several names for a file of {size} bytes, which is too large"));
                }
                let mut bytes = Vec::new();
                content.read_to_end(&mut bytes).map_err(|error| format!("has a payload that is damaged: {error}"))?;
                for other in files.iter().zip(&names.first).filter(|(_, first)| **first == group).map(|(file, _)| file)
                {
                    if let Some((path, mode)) = member(other) {
                        visit(Member { path, size: None, mode, kind: MemberKind::File(&mut &bytes[..]) })?;
                    }
                }
            } else if let Some((path, mode)) = member(file) {
                visit(Member { path, size: None, mode, kind: MemberKind::File(&mut content) })?;
            }
            let left = content.limit();
            archive.at += size - left;
            archive.skip(left)?;
        }
        Ok(())
    }

    /// Unpacks the regular files for which `wanted` holds; directories and links come from the header.
    pub(crate) fn files(
        self,
        extractor: &mut Extractor,
        owners: &Owners,
        wanted: &dyn Fn(usize) -> bool,
    ) -> Result<(), String> {
        let files = &self.package.files;
        let by_path = by_path(files);
        let names = Names::of(files);
        let mut written = vec![false; files.len()];
        // Names of one file whose content did not come yet.
        let mut waiting: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut content: HashMap<usize, usize> = HashMap::new();
        let content_of = decompressed(self.rest).map_err(|error| format!("has a payload that is damaged: {error}"))?;
        let mut archive = Archive { input: content_of, at: 0 };
        while let Some(entry) = archive.next(files, &by_path, &names)? {
            let Found { index, size } = entry;
            let file = &files[index];
            if !file.is_file() || written[index] {
                archive.skip(size)?;
                continue;
            }
            written[index] = true;
            let group = names.first[index];
            if names.count[group] > 1 {
                if let Some(source) = content.get(&group) {
                    archive.skip(size)?;
                    link(extractor, files, *source, index, wanted)?;
                    continue;
                }
                if size == 0 && file.size > 0 {
                    waiting.entry(group).or_default().push(index);
                    continue;
                }
                // The content is kept under one name that is wanted.
                let all = waiting.remove(&group).unwrap_or_default();
                let keeper = std::iter::once(index).chain(all.iter().copied()).find(|name| wanted(*name));
                match keeper {
                    Some(keeper) => archive.extract(extractor, &files[keeper], owners, size)?,
                    None => archive.skip(size)?,
                }
                let keeper = keeper.unwrap_or(index);
                content.insert(group, keeper);
                for other in all.into_iter().chain([index]).filter(|other| *other != keeper) {
                    link(extractor, files, keeper, other, wanted)?;
                }
                continue;
            }
            if wanted(index) {
                archive.extract(extractor, file, owners, size)?;
            } else {
                archive.skip(size)?;
            }
        }
        if let Some(index) = waiting.values().flatten().next() {
            return Err(format!("has no content for `{}`", files[*index].path.escape_default()));
        }
        let missing = files.iter().zip(&written).find(|(file, written)| file.is_file() && !file.ghost && !**written);
        match missing {
            Some((file, _)) => Err(format!("has no `{}` in its payload", file.path.escape_default())),
            None => Ok(()),
        }
    }
}

/// Places in the header's order by paths as the payload has them.
fn by_path(files: &[FileEntry]) -> HashMap<&str, usize> {
    files.iter().enumerate().map(|(at, file)| (file.path.trim_start_matches('/'), at)).collect()
}

/// Gives what a package file has to `visit`, after its own digests were checked; tells the architecture that it is for.
/// Errors: A text that says what is wrong with the package, or what `visit` says.
pub fn read_members(mut package: impl Read + Seek, visit: &mut Visit<'_>) -> Result<String, String> {
    let said = |problem: String| format!("the package {problem}");
    Package::read_from(BufReader::new(&mut package), String::new()).map_err(said)?;
    package.rewind().map_err(|error| format!("the package cannot be read: {error}"))?;
    let opened = Opened::new(package).map_err(said)?;
    let architecture = opened.package.candidate.arch.clone();
    let mut refused = None;
    let read = opened.visit(&mut |member| visit(member).map_err(|problem| refused.insert(problem).clone()));
    match (read, refused) {
        (Ok(()), _) => Ok(architecture),
        (Err(_), Some(problem)) => Err(problem),
        (Err(problem), None) => Err(said(problem)),
    }
}

fn link(
    extractor: &mut Extractor,
    files: &[FileEntry],
    from: usize,
    to: usize,
    wanted: &dyn Fn(usize) -> bool,
) -> Result<(), String> {
    if wanted(from) && wanted(to) {
        extractor.hard_link(files[to].path.as_bytes(), files[from].path.as_bytes())?;
    }
    Ok(())
}

/// Refuses what no package of a tools root may bring.
fn check(file: &FileEntry) -> Result<(), String> {
    let shown = file.path.escape_default();
    if file.path.split('/').any(|part| part == "..") {
        return Err(format!("has a file that escapes the root: `{shown}`"));
    }
    if !file.ghost && !file.is_directory() && !file.is_file() && !file.is_link() {
        return Err(format!("has a special file, `{shown}`; packages must not contain one"));
    }
    Ok(())
}

/// Which entries are names of one file.
struct Names {
    /// The first entry of each file, and of each of its names.
    first: Vec<usize>,
    /// How many names the file has; reported at its first entry.
    count: Vec<usize>,
    /// The last of them, in the header's order.
    last: Vec<usize>,
}

impl Names {
    fn of(files: &[FileEntry]) -> Self {
        let mut known: HashMap<(u32, u32), usize> = HashMap::new();
        let mut names = Self { first: Vec::new(), count: vec![0; files.len()], last: vec![0; files.len()] };
        for (at, file) in files.iter().enumerate() {
            // Ghosts have no part in it, and a file without a number has one name.
            let single = !file.is_file() || file.ghost || file.inode.1 == 0;
            let first = if single { at } else { *known.entry(file.inode).or_insert(at) };
            names.first.push(first);
            names.count[first] += 1;
            names.last[first] = at;
        }
        names
    }
}

struct Found {
    index: usize,
    /// Bytes of content that follow.
    size: u64,
}

struct Archive<R> {
    input: R,
    /// Bytes read, for the padding.
    at: u64,
}

impl<R: Read> Archive<R> {
    fn take(&mut self, buffer: &mut [u8]) -> Result<(), String> {
        self.input.read_exact(buffer).map_err(|error| format!("has a payload that is damaged: {error}"))?;
        self.at += buffer.len() as u64;
        Ok(())
    }

    fn pad(&mut self) -> Result<(), String> {
        let padding = (self.at.next_multiple_of(4) - self.at) as usize;
        self.take(&mut [0u8; 4][..padding])
    }

    /// The next entry; none at the trailer.
    fn next(
        &mut self,
        files: &[FileEntry],
        by_path: &HashMap<&str, usize>,
        names: &Names,
    ) -> Result<Option<Found>, String> {
        let wrong = |problem: &str| format!("has a payload that is not a cpio archive: {problem}");
        self.pad()?;
        let mut magic = [0u8; 6];
        self.take(&mut magic)?;
        let field = |bytes: &[u8]| {
            std::str::from_utf8(bytes)
                .ok()
                .and_then(|text| u32::from_str_radix(text, 16).ok())
                .ok_or_else(|| wrong("bad number"))
        };
        if &magic == b"07070X" {
            let mut number = [0u8; 8];
            self.take(&mut number)?;
            self.pad()?;
            let index = field(&number)? as usize;
            let file = files.get(index).ok_or_else(|| wrong("it counts more files than the header"))?;
            let group = names.first[index];
            // Only the last name of a file has its content.
            let has_content =
                file.is_link() || file.is_file() && (names.count[group] < 2 || names.last[group] == index);
            return Ok(Some(Found { index, size: if has_content { file.size } else { 0 } }));
        }
        if &magic != b"070701" && &magic != b"070702" {
            return Err(wrong("bad magic"));
        }
        let mut fields = [0u8; 104];
        self.take(&mut fields)?;
        let size = u64::from(field(&fields[48..56])?);
        let length = u64::from(field(&fields[88..96])?);
        if length == 0 || length > NAME_LIMIT {
            return Err(wrong("bad length of a name"));
        }
        let mut name = vec![0u8; length as usize];
        self.take(&mut name)?;
        self.pad()?;
        name.pop();
        if name == b"TRAILER!!!" {
            return Ok(None);
        }
        let text = std::str::from_utf8(&name).map_err(|_| wrong("a name is not UTF-8"))?;
        let path = text.strip_prefix('.').unwrap_or(text).trim_start_matches('/');
        match by_path.get(path) {
            Some(index) => Ok(Some(Found { index: *index, size })),
            None => Err(format!("has `{}` in its payload but not in its header", text.escape_default())),
        }
    }

    fn skip(&mut self, size: u64) -> Result<(), String> {
        let skipped = std::io::copy(&mut (&mut self.input).take(size), &mut std::io::sink());
        let skipped = skipped.map_err(|error| format!("has a payload that is damaged: {error}"))?;
        self.at += skipped;
        if skipped < size {
            return Err("has a payload that is truncated".to_owned());
        }
        Ok(())
    }

    fn extract(
        &mut self,
        extractor: &mut Extractor,
        file: &FileEntry,
        owners: &Owners,
        size: u64,
    ) -> Result<(), String> {
        let mut content = (&mut self.input).take(size);
        extractor.file(file.path.as_bytes(), &owners.meta(file)?, &mut content)?;
        let left = content.limit();
        if left > 0 {
            return Err("has a payload that is truncated".to_owned());
        }
        self.at += size;
        Ok(())
    }
}

pub(in crate::rpm) fn skeleton(extractor: &mut Extractor, package: &Package, owners: &Owners) -> Result<(), String> {
    for file in package.files.iter().filter(|file| file.is_directory() && !file.ghost) {
        extractor.directory(file.path.as_bytes(), &owners.meta(file)?)?;
    }
    for file in package.files.iter().filter(|file| file.is_link() && !file.ghost) {
        extractor.symlink(file.path.as_bytes(), file.link.as_bytes(), &owners.meta(file)?)?;
    }
    Ok(())
}

/// Unpacks one package into a tree; owners are root.
pub fn unpack(extractor: &mut Extractor, package: impl Read) -> Result<(), String> {
    let opened = Opened::new(package)?;
    let owners = Owners::default();
    skeleton(extractor, &opened.package, &owners)?;
    opened.files(extractor, &owners, &|_| true)?;
    extractor.finish()
}

/// Unpacks what of a package is wanted, by path without a slash in front; owners are root.
pub fn unpack_part(extractor: &mut Extractor, package: impl Read, wanted: &dyn Fn(&str) -> bool) -> Result<(), String> {
    let opened = Opened::new(package)?;
    let owners = Owners::default();
    let is_wanted = |file: &FileEntry| wanted(file.path.trim_start_matches('/'));
    let mut part = opened.package.clone();
    part.files.retain(is_wanted);
    skeleton(extractor, &part, &owners)?;
    let chosen: Vec<bool> = opened.package.files.iter().map(is_wanted).collect();
    opened.files(extractor, &owners, &|index| chosen[index])
}

/// Writes what a package brings, a line a file: mode, owner, group, size, path and, for a link, its target.
/// Errors: The writer's.
pub fn write_payload_listing(out: &mut dyn Write, package: &Package) -> std::io::Result<()> {
    for file in &package.files {
        let ghost = if file.ghost { " (ghost)" } else { "" };
        write!(out, "{:06o} {} {} {} {}", file.mode, file.user, file.group, file.size, file.path)?;
        if file.is_link() {
            write!(out, " -> {}", file.link)?;
        }
        writeln!(out, "{ghost}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
