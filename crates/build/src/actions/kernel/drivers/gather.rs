//! Opens what [kernel] updates names: driver packages, driver update disks, directories, single modules. Runs inside.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};

use serde::{Deserialize, Serialize};

use super::disk;
use super::found::{Content, Gathering, Place, is_module, place_of};
use archive::{
    Container, Member, MemberKind, START, container, deb_architecture, plain, read_cpio, read_deb, read_iso, read_tar,
};
use packages::rpm::read_members;
use recipe::UpdateForm;

/// One item of [kernel] updates, with its files as the store has them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UpdateSource {
    pub name: String,
    pub form: Option<UpdateForm>,
    pub is_directory: bool,
    /// Its files: path below the directory, or its own name; and the blob, relative to the store's directory.
    pub files: Vec<(String, String)>,
}

/// Why drivers cannot be used: what is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub problem: String,
    pub help: String,
}

impl Refusal {
    pub fn new(problem: impl Into<String>, help: impl Into<String>) -> Self {
        Self { problem: problem.into(), help: help.into() }
    }
}

/// How deep archives may lie in one another: a package on a disk in a directory.
const DEPTH_LIMIT: usize = 3;

impl Gathering {
    /// Opens one item.
    /// Errors: [`Refusal`] with its name.
    pub(super) fn update(&mut self, update: &UpdateSource) -> Result<(), Refusal> {
        let before = self.files.len();
        let said = |problem: String| {
            Refusal::new(
                format!("`{}` of ‹[kernel]› updates cannot be used: {problem}", update.name),
                "it must be a driver package (.deb, .rpm), a driver update disk of Red Hat's or SUSE's form (ISO, cpio, tar or a directory), a module, or a directory of these",
            )
        };
        let outcome = if update.is_directory { self.directory(update) } else { self.single(update) };
        outcome.map_err(said)?;
        if self.files.len() == before {
            return Err(said("it contains no module and no firmware".to_owned()));
        }
        Ok(())
    }

    fn single(&mut self, update: &UpdateSource) -> Result<(), String> {
        let Some((name, blob)) = update.files.first() else { return Err("it does not exist".to_owned()) };
        let mut file = File::open(blob).map_err(|error| error.to_string())?;
        let is_package = matches!(start_of(&mut file)?.1, Some(Container::Deb | Container::Rpm));
        match update.form {
            Some(UpdateForm::Package) if !is_package => {
                return Err("it is marked `rpm:` but is not a package".into());
            }
            Some(UpdateForm::Disk) if is_package => return Err("it is marked `dud:` but is a package".into()),
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
            return self.disk(&update.name, tree, 0);
        }
        if update.form == Some(UpdateForm::Disk) {
            return Err("it is marked `dud:` but has none of `rhdd3`, `rhdd` and `linux/suse`".to_owned());
        }
        for (name, blob) in &update.files {
            let mut file = File::open(blob).map_err(|error| format!("{name}: {error}"))?;
            let source = format!("{}/{name}", update.name);
            self.file(&source, name, &mut file, false, 0).map_err(|problem| format!("{name}: {problem}"))?;
        }
        Ok(())
    }

    fn disk(&mut self, source: &str, tree: disk::Tree, depth: usize) -> Result<(), String> {
        disk::take(self, source, tree, &mut |gathering, source, name, bytes| {
            gathering.file(source, name, &mut Cursor::new(bytes), false, depth + 1)
        })
    }

    /// Opens a file by what it is. What was not named itself may be something else: it is left out then.
    pub(super) fn file(
        &mut self,
        source: &str,
        name: &str,
        file: &mut (impl Read + Seek),
        is_named: bool,
        depth: usize,
    ) -> Result<(), String> {
        if depth > DEPTH_LIMIT {
            return Err("archives are nested too deeply".to_owned());
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
                let read = read_members(file, &mut |member| self.member(source, member))?;
                let is_ours = self.is_own_cpu(&read);
                if !is_ours {
                    self.files.truncate(from);
                }
                if is_named && !is_ours { Err(format!("it is a package for {read}")) } else { Ok(()) }
            }
            Some(Container::Iso) => {
                let mut tree = disk::Tree::default();
                read_iso(file, &mut |member| self.keep_in(&mut tree, member))?;
                self.disk(source, tree, depth)
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
                    _ if is_named => return Err("it contains neither a cpio nor a tar archive".to_owned()),
                    _ => return Ok(()),
                }
                self.disk(source, tree, depth)
            }
            Some(kind) if kind.file_system().is_some() && (is_named || name.ends_with(".img")) => Err(format!(
                "it is an image of the file system {}, which is not supported; copy its files into a directory (mount -o loop,ro {base} /mnt) and name that",
                kind.file_system().unwrap_or_default()
            )),
            _ if is_named && start.is_empty() => Err("it is empty".to_owned()),
            _ if is_named => Err("it is not a known form of driver".to_owned()),
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
        if self.is_own_cpu(architecture) {
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
    use super::super::found::DriverFile;
    use super::*;

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(kind in 0usize..8, bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..3000)) {
            let magics: [&[u8]; 8] = [
                b"!<arch>\ndebian-binary   ", &[0xed, 0xab, 0xee, 0xdb, 3, 0], b"070701", b"070707", &[0x1f, 0x8b, 8], &[0x28, 0xb5, 0x2f, 0xfd],
                &[0xfd, b'7', b'z', b'X', b'Z', 0], b"\x7fELF\x02\x01\x01",
            ];
            let whole = [magics[kind], &bytes].concat();
            for name in ["x", "x.ko"] {
                let _ = Gathering::new("6.1", recipe::Arch::X86_64).file(name, name, &mut std::io::Cursor::new(&whole), true, 0);
            }
        }
    }

    /// A driver package, and one of which two names are one file.
    fn packages() -> &'static [Vec<u8>; 2] {
        static PACKAGES: std::sync::LazyLock<[Vec<u8>; 2]> = std::sync::LazyLock::new(|| {
            let build = |linked: bool, compression: rpm::CompressionType| {
                let mut builder = rpm::PackageBuilder::new("kmod-site", "1", "GPL", "x86_64", "x");
                builder.using_config(rpm::BuildConfig::v4().compression(compression));
                let content = b"a module ".repeat(40);
                for release in ["6.1", "6.2"] {
                    let options = rpm::FileOptions::new(format!("/lib/modules/{release}/extra/site.ko"));
                    let options = if linked { options.hardlink("site") } else { options };
                    builder.with_file_contents(content.clone(), options).unwrap();
                }
                builder.with_symlink(rpm::FileOptions::symlink("/lib/firmware/site.bin", "other.bin")).unwrap();
                let mut bytes = Vec::new();
                builder.build().unwrap().write(&mut bytes).unwrap();
                bytes
            };
            [build(false, rpm::CompressionType::None), build(true, rpm::CompressionType::Zstd)]
        });
        &PACKAGES
    }

    fn opened(bytes: &[u8]) -> Result<Vec<DriverFile>, String> {
        let mut gathering = Gathering::new("6.1", recipe::Arch::X86_64);
        gathering.file("p.rpm", "p.rpm", &mut std::io::Cursor::new(bytes), true, 0)?;
        gathering.files.sort_by_key(|file| format!("{:?}", file.place));
        Ok(gathering.files)
    }

    #[test]
    fn an_rpm_gives_its_modules_under_all_their_names() {
        for bytes in packages() {
            let found = opened(bytes).unwrap();
            let places: Vec<&Place> = found.iter().map(|file| &file.place).collect();
            let module = |release: &str| Place::Module(Some(release.to_owned()), "extra/site.ko".to_owned());
            let firmware = Place::Other("usr/lib/firmware/site.bin".to_owned());
            assert_eq!(places, [&module("6.1"), &module("6.2"), &firmware]);
            assert_eq!(found[0].content, Content::File(b"a module ".repeat(40)));
            assert!(found[0].content == found[1].content && found[2].content == Content::Symlink("other.bin".into()));
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]
        #[test]
        fn a_spoiled_rpm_gives_a_message_or_what_it_had_and_never_panics(
            which in 0usize..2, at: proptest::sample::Index, value: u8, cut: Option<proptest::sample::Index>,
            more in proptest::collection::vec(proptest::prelude::any::<(proptest::sample::Index, u8)>(), 0..12),
        ) {
            let whole = &packages()[which];
            let mut bytes = whole.clone();
            bytes[at.index(whole.len())] = value;
            // One byte: either it is never read, or a digest detects it.
            if let Ok(found) = opened(&bytes) {
                proptest::prop_assert_eq!(found, opened(whole).unwrap());
            }
            if let Some(cut) = cut {
                let cut = cut.index(whole.len());
                let said = opened(&whole[..cut]);
                proptest::prop_assert!(said.as_ref().is_err_and(|said| !said.is_empty()), "{} {:?}", cut, said);
                bytes.truncate(cut.max(1));
            }
            for (at, value) in more {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let _ = opened(&bytes);
        }
    }

    #[test]
    fn file_systems_are_named_and_refused() {
        let mut image = vec![0u8; 4096];
        image[1080] = 0x53;
        image[1081] = 0xef;
        let said = Gathering::new("6.1", recipe::Arch::X86_64)
            .file("x.img", "x.img", &mut std::io::Cursor::new(image), true, 0)
            .unwrap_err();
        assert!(said.contains("ext2, ext3 or ext4") && said.contains("copy its files"), "{said}");
    }
}
