//! What is read of a packed image: units, what programs need, links, and which package each path belongs to. One pass over the file;
//! what is kept of it has a bound.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

use super::elf::Elf;
use super::unit::{KINDS, Unit, path_in};
use archive::{Budget, Listed, Unlisted, list_directory, list_packed, over};
use packages::installed;

/// Largest program that is read, in bytes; those of Go have up to 200 MB.
const LARGEST_PROGRAM: u64 = 256 << 20;
/// Longest text of a unit or a script that is read, in bytes.
const LONGEST_TEXT: u64 = 1 << 18;
/// Paths of one script that count.
const MOST_PATHS: usize = 200;
/// Longest target of a link, in bytes. Source: PATH_MAX.
const LONGEST_LINK: u64 = 4096;
/// As many links as the kernel follows. Source: path_resolution(7).
const MOST_LINKS: usize = 40;

/// Folders of units, the one that counts first. Source: systemd.unit(5).
pub(crate) const UNIT_FOLDERS: [&str; 4] =
    ["etc/systemd/system/", "usr/local/lib/systemd/system/", "usr/lib/systemd/system/", "lib/systemd/system/"];
const INIT_SCRIPTS: &str = "etc/init.d/";

/// A file that can be executed, or a library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Program {
    Elf(Elf),
    /// Its interpreter, and the absolute paths in it.
    Script {
        interpreter: String,
        paths: BTreeSet<String>,
    },
    /// What it needs is not known.
    Unread,
}

/// A path of a package.
#[derive(Debug, Clone)]
struct Owned {
    package: String,
    /// Digest of what the package brings, if its database has it: MD5 or SHA-256 in hexadecimal.
    digest: Option<String>,
}

/// What a tree says.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// How texts name the build.
    pub name: String,
    /// Words of the kernel's command line, as build.json has them.
    pub cmdline: Vec<String>,
    /// Bytes of memory that the unpacked image takes.
    pub memory: u64,
    /// The number before the first dot of systemd's version, if the image has it.
    pub systemd: Option<u32>,
    /// Whether systemd has the unit of a soft reboot, which administrators may remove.
    pub has_soft_reboot: bool,
    /// Packages by name, architecture and version, if the image has a database of them.
    pub(crate) packages: Option<BTreeSet<(String, String, String)>>,
    owners: BTreeMap<String, Owned>,
    pub(crate) links: BTreeMap<String, String>,
    /// Names of one file share what it is.
    pub(crate) programs: BTreeMap<String, Rc<Program>>,
    /// Files of settings of the kernel: one hides another of the same name.
    pub(crate) settings: BTreeSet<String>,
    /// Units by their names.
    pub(crate) units: BTreeMap<String, Unit>,
    /// Names of units that something starts at boot.
    pub(crate) enabled: BTreeSet<String>,
    pub(crate) masked: BTreeSet<String>,
}

/// The content of entries that counts, before it is put together.
#[derive(Default)]
struct Reading {
    facts: Facts,
    /// Bytes that may still be kept.
    left: u64,
    most: u64,
    databases: BTreeMap<String, Vec<u8>>,
    /// Texts of unit files and drop-ins.
    units: BTreeMap<String, String>,
    /// Names of one file: its content comes with one of them.
    names: BTreeMap<u64, Vec<String>>,
    /// Names whose content another has.
    same: Vec<(String, String)>,
}

impl Facts {
    /// Reads a packed image in cpio, tar, squashfs or erofs.
    /// Errors: It cannot be read, is damaged, or is no such image; a damaged database of packages.
    pub fn of_image(name: &str, file: &Path) -> io::Result<Self> {
        let packed = File::open(file)?;
        let most = Budget::of_file(&packed)?.texts();
        let mut reading = Reading { left: most, most, ..Reading::default() };
        list_packed(&packed, &mut |entry, content| reading.take(entry, content)).map_err(unlisted)?;
        reading.end(name)
    }

    /// The same of a directory.
    /// Errors: A file or directory cannot be read.
    pub fn of_directory(name: &str, directory: &Path) -> io::Result<Self> {
        let mut reading = Reading { left: u64::MAX, most: u64::MAX, ..Reading::default() };
        list_directory(directory, &mut |_| true, &mut |entry, content| reading.take(entry, content))?;
        reading.end(name)
    }

    /// A path with all links on the way followed, as on the node; where they never end, as far as the kernel goes.
    pub(crate) fn real(&self, path: &str) -> String {
        self.follow(path).0
    }

    /// The same, and the links that were followed.
    pub(crate) fn follow(&self, path: &str) -> (String, Vec<String>) {
        let parts = |path: &str| path.split('/').rev().map(str::to_owned).collect::<Vec<_>>();
        let (mut left, mut at, mut followed) = (parts(path), Vec::<String>::new(), Vec::<String>::new());
        while let Some(part) = left.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => drop(at.pop()),
                _ => at.push(part),
            }
            let link = at.join("/");
            let Some(target) = self.links.get(&link).filter(|_| followed.len() < MOST_LINKS) else { continue };
            followed.push(link);
            match target.starts_with('/') {
                true => at.clear(),
                false => drop(at.pop()),
            }
            left.extend(parts(target));
        }
        (at.join("/"), followed)
    }

    pub(crate) fn program(&self, path: &str) -> Option<&Program> {
        self.programs.get(path).map(|program| &**program)
    }

    /// The package of a path.
    pub(crate) fn owner(&self, path: &str) -> Option<&str> {
        self.owners.get(path).map(|owned| owned.package.as_str())
    }

    /// Digest of what the package of a path brings there.
    pub(crate) fn digest(&self, path: &str) -> Option<&str> {
        self.owners.get(path)?.digest.as_deref()
    }
}

pub(crate) fn unlisted(error: Unlisted) -> io::Error {
    match error {
        Unlisted::Io(error) => error,
        Unlisted::FileSystem(_) | Unlisted::Unknown => {
            io::Error::new(io::ErrorKind::InvalidData, "it is neither cpio, tar, squashfs nor erofs")
        }
    }
}

/// The number before the first dot of systemd's version, by the name of its own library.
fn systemd_of(path: &str) -> Option<u32> {
    let version = path.rsplit('/').next()?.strip_prefix("libsystemd-shared-")?;
    version[..version.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(version.len())].parse().ok()
}

impl Reading {
    /// The bytes of a file that are to be kept whole.
    fn keep(&mut self, size: u64, content: &mut dyn Read) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        content.take(size.min(self.left).saturating_add(1)).read_to_end(&mut bytes)?;
        self.charge(bytes.len())?;
        Ok(bytes)
    }

    /// Takes bytes that are kept from those that may be.
    fn charge(&mut self, bytes: usize) -> io::Result<()> {
        self.left = self.left.checked_sub(bytes as u64).ok_or_else(|| over(self.most, "bytes of texts"))?;
        Ok(())
    }

    fn take(&mut self, entry: &Listed, content: &mut dyn Read) -> io::Result<()> {
        let path = entry.path.clone();
        if path.contains("/sysctl.d/") {
            self.facts.settings.insert(path.clone());
        }
        match entry.mode & 0o170_000 {
            0o120_000 => {
                let target = match &entry.target {
                    Some(target) => target.clone(),
                    None => {
                        let bytes = self.keep(LONGEST_LINK, content)?;
                        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
                    }
                };
                self.facts.links.insert(path, target);
                return Ok(());
            }
            0o100_000 => {}
            _ => return Ok(()),
        }
        self.facts.systemd = self.facts.systemd.or_else(|| systemd_of(&path));
        if let Some((file, _)) = entry.file {
            self.names.entry(file).or_default().push(path.clone());
        }
        if let Some(other) = &entry.same_as {
            self.same.push((path, other.clone()));
            return Ok(());
        }
        if installed::is_database_file(&path) {
            let bytes = self.keep(entry.size.min(installed::LONGEST_DATABASE), content)?;
            self.databases.insert(path, bytes);
        } else if UNIT_FOLDERS.iter().any(|folder| path.starts_with(folder)) {
            let bytes = self.keep(LONGEST_TEXT, content)?;
            self.facts.has_soft_reboot |= path.ends_with("/soft-reboot.target");
            self.units.insert(path, String::from_utf8_lossy(&bytes).into_owned());
        } else if (is_library(&path) || entry.mode & 0o111 != 0)
            && let Some(program) = self.program(&path, content)?
        {
            self.facts.programs.insert(path, Rc::new(program));
        }
        Ok(())
    }

    fn program(&mut self, path: &str, content: &mut dyn Read) -> io::Result<Option<Program>> {
        let mut start = Vec::new();
        Read::take(&mut *content, 4).read_to_end(&mut start)?;
        if start == b"\x7fELF" {
            let mut bytes = start;
            content.take(LARGEST_PROGRAM).read_to_end(&mut bytes)?;
            let elf = Elf::of(&bytes).filter(|_| (bytes.len() as u64) < LARGEST_PROGRAM);
            let elf = elf.map(|elf| elf.without(path.rsplit('/').next().unwrap_or(path)));
            self.charge(elf.as_ref().map_or(0, Elf::bytes))?;
            return Ok(Some(elf.map_or(Program::Unread, Program::Elf)));
        }
        if !start.starts_with(b"#!") {
            return Ok(None);
        }
        let mut bytes = start;
        content.take(LONGEST_TEXT).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
        let mut words = first.trim_start_matches("#!").split_whitespace();
        let mut interpreter = words.next().unwrap_or_default();
        // `#!/usr/bin/env -S python3 -u`
        if interpreter.ends_with("/env") {
            interpreter = words.find(|word| !word.starts_with('-') && !word.contains('=')).unwrap_or(interpreter);
        }
        let lines = rest.lines().filter(|line| !line.trim_start().starts_with('#'));
        let paths = lines.flat_map(str::split_whitespace).filter_map(path_in).take(MOST_PATHS);
        let (interpreter, paths) = (interpreter.to_owned(), paths.map(str::to_owned).collect::<BTreeSet<_>>());
        self.charge(interpreter.len() + paths.iter().map(|path| path.len() + size_of::<String>()).sum::<usize>())?;
        Ok(Some(Program::Script { interpreter, paths }))
    }

    fn end(mut self, name: &str) -> io::Result<Facts> {
        name.clone_into(&mut self.facts.name);
        for names in std::mem::take(&mut self.names).into_values() {
            let Some(full) = names.iter().find(|name| self.facts.programs.contains_key(*name)).cloned() else {
                continue;
            };
            self.same.extend(names.into_iter().map(|name| (name, full.clone())));
        }
        for (path, other) in std::mem::take(&mut self.same) {
            if let Some(program) = self.facts.programs.get(&other).cloned() {
                self.facts.programs.insert(path, program);
            }
        }
        let damaged = |problem: String| io::Error::new(io::ErrorKind::InvalidData, problem);
        if let Some(database) = installed::read(&self.databases).map_err(damaged)? {
            let names = database.packages.iter().map(|one| (one.name.clone(), one.arch.clone(), one.version.clone()));
            self.facts.packages = Some(names.collect());
            for package in &database.packages {
                for file in &package.files {
                    let path = self.below_links(&file.path);
                    let owned = || Owned { package: package.name.clone(), digest: file.digest.clone() };
                    self.facts.owners.entry(path).or_insert_with(owned);
                }
            }
        }
        self.units();
        Ok(self.facts)
    }

    /// A path of a package, with a link at the top of the tree followed: `bin/x` is `usr/bin/x`.
    fn below_links(&self, path: &str) -> String {
        let path = path.trim_start_matches('/');
        match path.split_once('/').and_then(|(first, rest)| Some((self.facts.links.get(first)?, rest))) {
            Some((target, rest)) => format!("{}/{rest}", target.trim_matches('/')),
            None => path.to_owned(),
        }
    }

    fn units(&mut self) {
        let is_unit = |name: &str| KINDS.iter().any(|kind| name.ends_with(kind));
        let mut texts: BTreeMap<String, (String, String)> = BTreeMap::new();
        // The folder that counts comes last.
        for folder in UNIT_FOLDERS.iter().rev() {
            for (path, text) in
                self.units.range((*folder).to_owned()..).take_while(|(path, _)| path.starts_with(folder))
            {
                let name = &path[folder.len()..];
                if !name.contains('/') && is_unit(name) {
                    texts.insert(name.to_owned(), (path.clone(), text.clone()));
                }
            }
        }
        // Targets start units, too.
        for text in self.units.values() {
            let mut unit = Unit::default();
            unit.add(text);
            self.facts.enabled.extend(unit.pulls);
        }
        for (name, (path, text)) in texts {
            let mut unit = Unit { path, ..Unit::default() };
            unit.add(&text);
            for folder in UNIT_FOLDERS.iter().rev() {
                let drop_ins = format!("{folder}{name}.d/");
                let all = self.units.range(drop_ins.clone()..).take_while(|(path, _)| path.starts_with(&drop_ins));
                all.for_each(|(_, text)| unit.add(text));
            }
            self.facts.units.insert(name, unit);
        }
        for (path, target) in &self.facts.links {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            let parent = folder.rsplit('/').next().unwrap_or_default();
            let is_below = UNIT_FOLDERS.iter().any(|units| path.starts_with(units));
            let of_target = target.rsplit('/').next().unwrap_or(target);
            if is_below && [".wants", ".requires", ".upholds"].iter().any(|end| parent.ends_with(end)) {
                self.facts.enabled.insert(name.to_owned());
                // A link may have a name of its own.
                self.facts.enabled.insert(of_target.to_owned());
            } else if is_below && parent == "system" && is_unit(of_target) {
                // `Alias=` makes another name of a unit that is enabled.
                self.facts.enabled.insert(of_target.to_owned());
            } else if is_below && target == "/dev/null" && path.starts_with(UNIT_FOLDERS[0]) && parent == "system" {
                self.facts.masked.insert(name.to_owned());
            }
            // Source: update-rc.d(8).
            let level = parent.strip_prefix("rc").and_then(|rest| rest.strip_suffix(".d"));
            if let (Some("2" | "3" | "4" | "5" | "S"), Some(rest)) = (level, name.strip_prefix('S')) {
                let script = rest.trim_start_matches(|c: char| c.is_ascii_digit());
                self.facts.enabled.insert(format!("{script}.service"));
            }
        }
        // Scripts of System V's init are units of systemd, where no unit has their name. Source: systemd-sysv-generator(8).
        let scripts = self.facts.programs.range(INIT_SCRIPTS.to_owned()..);
        let scripts: Vec<String> =
            scripts.map(|(path, _)| path.clone()).take_while(|path| path.starts_with(INIT_SCRIPTS)).collect();
        for path in scripts {
            let name = format!("{}.service", &path[INIT_SCRIPTS.len()..]);
            let unit = Unit { programs: [path.clone()].into(), path, installs: true, ..Unit::default() };
            self.facts.units.entry(name).or_insert(unit);
        }
    }
}

/// Whether a path is named as a library: `libc.so.6`, `pam_unix.so`.
pub(crate) fn is_library(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.ends_with(".so") || name.contains(".so.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(path: &str, same_as: Option<&str>) -> Listed {
        Listed {
            path: path.to_owned(),
            mode: 0o100_755,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            target: None,
            same_as: same_as.map(str::to_owned),
            file: None,
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }

    #[test]
    fn what_is_kept_of_programs_counts_and_names_of_one_file_share_it() {
        let program = crate::tests::elf(&["libx.so.1"; 100]);
        let take = |left: u64| {
            let mut reading = Reading { left, most: left, ..Reading::default() };
            reading.take(&listed("usr/bin/x", None), &mut &program[..]).map(|()| reading)
        };
        assert!(take(500).is_err());
        let mut reading = take(1 << 16).unwrap();
        reading.take(&listed("usr/bin/y", Some("usr/bin/x")), &mut io::empty()).unwrap();
        let facts = reading.end("a").unwrap();
        assert!(Rc::ptr_eq(&facts.programs["usr/bin/x"], &facts.programs["usr/bin/y"]));
    }
}
