//! Opens what [kernel] updates names: driver packages, driver update disks, directories, single modules. Runs inside.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use serde::{Deserialize, Serialize};

use super::disk;
use crate::archive::{
    Container, Member, MemberKind, START, container, deb_architecture, plain, read_cpio, read_deb, read_iso, read_rpm,
    read_tar,
};
use crate::recipe::UpdateForm;

/// One item of [kernel] updates, with its files as the store has them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UpdateSource {
    /// How the recipe calls it.
    pub name: String,
    /// What the recipe says that it is.
    pub form: Option<UpdateForm>,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Its files: path below the directory, or its own name; and the blob, relative to the store's directory.
    pub files: Vec<(String, String)>,
}

/// Something of a driver that goes into the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverFile {
    /// Where it comes from, for messages.
    pub source: String,
    /// Its place.
    pub place: Place,
    /// Its content.
    pub content: Content,
}

/// Where a file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A module for a release (none: for the image's), and its path below the release's folder.
    Module(Option<String>, String),
    /// Firmware or a setting, by its path.
    Other(String),
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Bytes.
    File(Vec<u8>),
    /// A link's target.
    Symlink(String),
}

/// Why drivers cannot be used: what is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub help: String,
}

impl Refusal {
    /// One.
    pub fn new(problem: impl Into<String>, help: impl Into<String>) -> Self {
        Self { problem: problem.into(), help: help.into() }
    }
}

/// The architecture in the three ways in which it is written: `uname -m`, Debian's, and the packages for all.
const ARCHITECTURES: [&str; 4] = ["x86_64", "amd64", "noarch", "all"];

/// All content that is held at once, in bytes: no set of drivers is larger.
const LIMIT: u64 = 2 << 30;

/// How deep archives may lie in one another: a package on a disk in a directory.
const DEPTH_LIMIT: usize = 3;

/// Collects files.
#[derive(Debug, Default)]
pub struct Gathering {
    /// What was found.
    pub files: Vec<DriverFile>,
    /// The image's kernel.
    pub release: String,
    held: u64,
}

/// Where a file of a package goes, if it is a driver's.
pub fn place_of(path: &str) -> Option<Place> {
    let below = path.strip_prefix("usr/").unwrap_or(path);
    if let Some(rest) = below.strip_prefix("lib/modules/") {
        let (release, rest) = rest.split_once('/')?;
        // Packages that wait for their script to give the module its name.
        let rest = rest.strip_suffix(".new").unwrap_or(rest);
        let base = rest.rsplit('/').next().unwrap_or(rest);
        return is_module(base).then(|| Place::Module(Some(release.to_owned()), rest.to_owned()));
    }
    let in_lib = ["lib/firmware/", "lib/modprobe.d/", "lib/depmod.d/", "lib/dracut/dracut.conf.d/"];
    if in_lib.iter().any(|start| below.starts_with(start)) {
        return Some(Place::Other(format!("usr/{below}")));
    }
    let in_etc = ["etc/modprobe.d/", "etc/depmod.d/", "etc/dracut.conf.d/"];
    in_etc.iter().any(|start| path.starts_with(start)).then(|| Place::Other(path.to_owned()))
}

/// Whether a file's name is that of a module.
pub fn is_module(name: &str) -> bool {
    [".ko", ".ko.gz", ".ko.xz", ".ko.zst"].iter().any(|ending| name.len() > ending.len() && name.ends_with(ending))
}

impl Gathering {
    /// For a kernel.
    pub fn new(release: &str) -> Self {
        Self { release: release.to_owned(), ..Self::default() }
    }

    /// Reads content, within what may be held.
    pub fn content(&mut self, stream: &mut dyn Read) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let left = LIMIT - self.held.min(LIMIT);
        stream.take(left + 1).read_to_end(&mut bytes).map_err(|error| format!("it is damaged: {error}"))?;
        self.held += bytes.len() as u64;
        if self.held > LIMIT { Err("the drivers hold more than 2 GiB".to_owned()) } else { Ok(bytes) }
    }

    /// Adds a file that has its place.
    pub fn add(&mut self, source: &str, place: Place, content: Content) {
        self.files.push(DriverFile { source: source.to_owned(), place, content });
    }

    /// Opens one item.
    ///
    /// # Errors
    /// [`Refusal`] with its name.
    pub fn update(&mut self, update: &UpdateSource) -> Result<(), Refusal> {
        let before = self.files.len();
        let said = |problem: String| {
            Refusal::new(
                format!("`{}` of [kernel] updates cannot be used: {problem}", update.name),
                "it must be a driver package (.deb, .rpm), a driver update disk of Red Hat's or SUSE's form (ISO, cpio, tar or a directory), a module, or a directory of these",
            )
        };
        let outcome = if update.is_directory { self.directory(update) } else { self.single(update) };
        outcome.map_err(said)?;
        if self.files.len() == before {
            return Err(said("it holds no module and no firmware".to_owned()));
        }
        Ok(())
    }

    fn single(&mut self, update: &UpdateSource) -> Result<(), String> {
        let Some((name, blob)) = update.files.first() else { return Err("it is not there".to_owned()) };
        let mut file = File::open(blob).map_err(|error| error.to_string())?;
        let is_package = matches!(start_of(&mut file)?.1, Some(Container::Deb | Container::Rpm));
        match update.form {
            Some(UpdateForm::Package) if !is_package => {
                return Err("`rpm:` stands before it, and it is no package".into());
            }
            Some(UpdateForm::Disk) if is_package => return Err("`dud:` stands before it, and it is a package".into()),
            _ => {}
        }
        self.file(&update.name, name, &mut file, true, 0)
    }

    fn directory(&mut self, update: &UpdateSource) -> Result<(), String> {
        let names = update.files.iter().map(|(name, _)| name.as_str());
        if disk::is_disk(names) {
            let mut tree = disk::Tree::default();
            for (name, blob) in &update.files {
                let mut file = File::open(blob).map_err(|error| format!("{name}: {error}"))?;
                let content = if disk::counts(name) { self.content(&mut file)? } else { Vec::new() };
                tree.insert(name.clone(), content);
            }
            return disk::take(self, &update.name, tree, 0);
        }
        if update.form == Some(UpdateForm::Disk) {
            return Err("`dud:` stands before it, and it has none of `rhdd3`, `rhdd` and `linux/suse`".to_owned());
        }
        for (name, blob) in &update.files {
            let mut file = File::open(blob).map_err(|error| format!("{name}: {error}"))?;
            let source = format!("{}/{name}", update.name);
            self.file(&source, name, &mut file, false, 0).map_err(|problem| format!("{name}: {problem}"))?;
        }
        Ok(())
    }

    /// Opens a file by what it is. What was not named itself may be something else: it is left out then.
    pub fn file(
        &mut self,
        source: &str,
        name: &str,
        file: &mut (impl Read + Seek),
        is_named: bool,
        depth: usize,
    ) -> Result<(), String> {
        if depth > DEPTH_LIMIT {
            return Err("archives lie too deep in one another".to_owned());
        }
        let (start, kind) = start_of(file)?;
        let base = name.rsplit('/').next().unwrap_or(name);
        match kind {
            Some(Container::Elf | Container::Compressed) if is_module(base) => {
                let content = self.content(file)?;
                self.add(source, Place::Module(None, format!("updates/{base}")), Content::File(content));
                Ok(())
            }
            Some(Container::Deb) => {
                let architecture = deb_architecture(&mut *file)?;
                file.seek(SeekFrom::Start(0)).map_err(|error| error.to_string())?;
                self.package(source, &architecture, is_named, |gathering, source| {
                    read_deb(file, &mut |member| gathering.member(source, member))
                })
            }
            Some(Container::Rpm) => {
                let from = self.files.len();
                let read = read_rpm(BufReader::new(file), &mut |member| self.member(source, member))?;
                let is_ours = ARCHITECTURES.contains(&read.as_str());
                if !is_ours {
                    self.files.truncate(from);
                }
                if is_named && !is_ours { Err(format!("it is a package for {read}")) } else { Ok(()) }
            }
            Some(Container::Iso) => {
                let mut tree = disk::Tree::default();
                read_iso(file, &mut |member| self.keep_in(&mut tree, member))?;
                disk::take(self, source, tree, depth)
            }
            Some(Container::Cpio | Container::Tar | Container::Compressed) => {
                let mut stream = plain(file).map_err(|error| error.to_string())?;
                let mut inner = vec![0u8; 512];
                let have = fill(&mut stream, &mut inner)?;
                inner.truncate(have);
                let kind = container(&inner);
                let mut whole = inner.chain(stream);
                let mut tree = disk::Tree::default();
                match kind {
                    Some(Container::Cpio) => read_cpio(&mut whole, &mut |member| self.keep_in(&mut tree, member))?,
                    Some(Container::Tar) => read_tar(&mut whole, &mut |member| self.keep_in(&mut tree, member))?,
                    _ if is_named => return Err("it holds neither a cpio nor a tar archive".to_owned()),
                    _ => return Ok(()),
                }
                disk::take(self, source, tree, depth)
            }
            Some(Container::FileSystem(system)) if is_named || name.ends_with(".img") => Err(format!(
                "it is an image of the file system {system}, which is not read; copy its files into a directory (mount -o loop,ro {base} /mnt) and name that"
            )),
            _ if is_named && start.is_empty() => Err("it is empty".to_owned()),
            _ if is_named => Err("it is nothing that holds drivers".to_owned()),
            _ => Ok(()),
        }
    }

    fn package(
        &mut self,
        source: &str,
        architecture: &str,
        is_named: bool,
        read: impl FnOnce(&mut Self, &str) -> Result<(), String>,
    ) -> Result<(), String> {
        if ARCHITECTURES.contains(&architecture) {
            return read(self, source);
        }
        if is_named { Err(format!("it is a package for {architecture}")) } else { Ok(()) }
    }

    /// Takes what belongs to a driver out of a package.
    fn member(&mut self, source: &str, member: Member<'_>) -> Result<(), String> {
        let Some(place) = place_of(&member.path) else { return Ok(()) };
        let content = match (member.kind, &place) {
            (MemberKind::File(stream), _) => Content::File(self.content(stream)?),
            // Links of weak-updates: what they lead to is looked at for itself.
            (MemberKind::Symlink(_), Place::Module(..)) => return Ok(()),
            (MemberKind::Symlink(target), Place::Other(_)) => Content::Symlink(target),
        };
        self.add(source, place, content);
        Ok(())
    }

    fn keep_in(&mut self, tree: &mut disk::Tree, member: Member<'_>) -> Result<(), String> {
        if let MemberKind::File(stream) = member.kind {
            let content = if disk::counts(&member.path) { self.content(stream)? } else { Vec::new() };
            tree.insert(member.path, content);
        }
        Ok(())
    }
}

fn fill(stream: &mut dyn Read, buffer: &mut [u8]) -> Result<usize, String> {
    let mut have = 0;
    while have < buffer.len() {
        match stream.read(&mut buffer[have..]).map_err(|error| format!("it is damaged: {error}"))? {
            0 => break,
            read => have += read,
        }
    }
    Ok(have)
}

/// The start of a file, and what it says; the file is at its start afterwards.
fn start_of(file: &mut (impl Read + Seek)) -> Result<(Vec<u8>, Option<Container>), String> {
    let mut start = vec![0u8; START];
    let have = fill(file, &mut start)?;
    start.truncate(have);
    file.seek(SeekFrom::Start(0)).map_err(|error| error.to_string())?;
    let kind = container(&start);
    Ok((start, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_gives_modules_firmware_and_settings_and_nothing_else() {
        let module = |release: &str, rest: &str| Some(Place::Module(Some(release.into()), rest.into()));
        assert_eq!(place_of("lib/modules/6.1/extra/a.ko.xz"), module("6.1", "extra/a.ko.xz"));
        assert_eq!(place_of("usr/lib/modules/6.1/updates/a.ko.new"), module("6.1", "updates/a.ko"));
        assert_eq!(place_of("lib/modules/6.1/modules.dep"), None);
        assert_eq!(place_of("lib/firmware/a.bin"), Some(Place::Other("usr/lib/firmware/a.bin".into())));
        assert_eq!(place_of("etc/modprobe.d/a.conf"), Some(Place::Other("etc/modprobe.d/a.conf".into())));
        assert_eq!(place_of("usr/bin/a"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(kind in 0usize..8, bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..3000)) {
            let magics: [&[u8]; 8] = [
                b"!<arch>\ndebian-binary   ", &[0xed, 0xab, 0xee, 0xdb, 3, 0], b"070701", b"070707", &[0x1f, 0x8b, 8], &[0x28, 0xb5, 0x2f, 0xfd],
                &[0xfd, b'7', b'z', b'X', b'Z', 0], b"\x7fELF\x02\x01\x01",
            ];
            let whole = [magics[kind], &bytes].concat();
            for name in ["x", "x.ko"] {
                let _ = Gathering::new("6.1").file(name, name, &mut std::io::Cursor::new(&whole), true, 0);
            }
        }
    }

    #[test]
    fn file_systems_are_named_and_refused() {
        let mut image = vec![0u8; 4096];
        image[1080] = 0x53;
        image[1081] = 0xef;
        let said = Gathering::new("6.1").file("x.img", "x.img", &mut std::io::Cursor::new(image), true, 0).unwrap_err();
        assert!(said.contains("ext2, ext3 or ext4") && said.contains("copy its files"), "{said}");
    }
}
