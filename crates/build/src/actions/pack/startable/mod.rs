//! Whether a node can start what is packed: an init, what that needs to run, and a shell for root. Runs inside, on the merged
//! tree less what the exclude lists leave out; links are followed as on the node.

mod elf;
pub(crate) mod interfaces;
pub(crate) mod mounts;
mod units;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use self::elf::Needs;
use self::interfaces::interfaces;
use self::mounts::{Modules, mounts};
use self::units::units;
use base::source::nearest;
use store::{Checked, Kind, LayerReader, Merged, MergedEntry};

/// What a node tries, in this order, as imgbuild-init does.
pub(crate) const INITS: [&str; 4] = ["sbin/init", "usr/lib/systemd/systemd", "etc/init", "bin/init"];

/// As many links as the kernel follows. Source: path_resolution(7).
const MOST_LINKS: usize = 40;
/// How deep scripts may name one another as interpreters. Source: Linux, `bprm_execve`.
const MOST_INTERPRETERS: usize = 5;
/// Largest program that is read, in bytes; the largest init is some 2 MB.
const PROGRAM_LIMIT: u64 = 256 << 20;

/// Why a node could not start the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Obstacle {
    /// There is no init that can be executed; those that the exclude lists leave out.
    NoInit(Vec<String>),
    /// A program or library that starting needs lacks something; where that would be, if the exclude lists leave it out.
    Lacks {
        program: String,
        /// An interpreter, a library.
        needs: String,
        left_out: Option<String>,
    },
    /// A line of the image's own fstab.
    Mount {
        point: String,
        kind: String,
        needs: String,
        left_out: Option<String>,
        /// The package that brings it, Debian's and that of RPM distributions.
        package: Option<(String, String)>,
    },
    /// An interface of the image's own settings of the network.
    Interface { file: String, kind: String, module: String, left_out: Option<String> },
    /// A unit that is enabled, and whose program the exclude lists leave out.
    Unit {
        /// Whole name.
        unit: String,
        left_out: String,
    },
    /// No one has an account: `/etc/passwd` is left out; the path.
    NoAccounts(String),
    /// The time zone that the recipe names, its path if it is left out, and near names of those that there are.
    NoZone(String, Option<String>, Vec<String>),
    /// The locale that the recipe names, and its path if it is left out.
    NoLocale(String, Option<String>),
    NoShell {
        /// As `/etc/passwd` has it.
        shell: String,
        left_out: Option<String>,
    },
}

/// What a kernel starts of an archive that it takes as its initramfs. Source: Linux, ramfs-rootfs-initramfs.rst.
const OF_INITRAMFS: &str = "init";

/// What the recipe says that starting depends on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Promises {
    /// Whether a kernel may take the archive as its initramfs.
    pub single: bool,
    pub zone: Option<String>,
    pub locale: Option<String>,
}

/// Looks for what would keep the image from starting, or from being what the recipe says.
pub(crate) fn obstacle(
    reader: &LayerReader,
    excluded: &BTreeSet<String>,
    promises: &Promises,
) -> Result<Option<Obstacle>, String> {
    let mut view = View::new(reader, excluded);
    let mut left_out = Vec::new();
    let mut init = None;
    for path in INITS.into_iter().chain(promises.single.then_some(OF_INITRAMFS)) {
        match view.executable(path) {
            Ok(found) => {
                init = Some(found);
                break;
            }
            Err(Gone { path, is_left_out: true }) => left_out.push(path),
            Err(_) => {}
        }
    }
    let Some(init) = init else { return Ok(Some(Obstacle::NoInit(left_out))) };
    if let Some(obstacle) = view.program(&init, MOST_INTERPRETERS)? {
        return Ok(Some(obstacle));
    }
    if let Some(obstacle) = view.shell_of_root()? {
        return Ok(Some(obstacle));
    }
    // Without a file of its own a zone is UTC.
    if let Some(zone) = promises.zone.as_ref().filter(|zone| !["UTC", "Etc/UTC"].contains(&zone.as_str()))
        && let Err(gone) = view.resolve(&format!("usr/share/zoneinfo/{zone}"))
    {
        return Ok(Some(Obstacle::NoZone(
            zone.clone(),
            gone.is_left_out.then_some(gone.path),
            near_zones(reader, zone),
        )));
    }
    if let Some(locale) = &promises.locale
        && let Err(left_out) = view.has_locale(locale)?
    {
        return Ok(Some(Obstacle::NoLocale(locale.clone(), left_out)));
    }
    let modules = Modules::of(&view)?;
    Ok(mounts(&view, &modules)?.0)
}

/// Names of time zones that an image has and that are like another one: of the same town, or else by their letters.
fn near_zones(reader: &LayerReader, zone: &str) -> Vec<String> {
    const ZONES: &str = "usr/share/zoneinfo/";
    let all = reader.tree.0.range(ZONES.to_owned()..).map_while(|(path, _)| path.strip_prefix(ZONES));
    let all: Vec<&str> = all.filter(|name| !name.starts_with("posix/") && !name.starts_with("right/")).collect();
    let town = |name: &str| name.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let same: Vec<&str> = all.iter().copied().filter(|name| town(name) == town(zone)).collect();
    let near = if same.is_empty() { nearest(zone, all.iter().copied()) } else { same };
    near.into_iter().take(3).map(str::to_owned).collect()
}

/// What a node that starts will do without: mounts that may fail, interfaces of the network, and services.
/// Errors: As [`obstacle`].
pub(crate) fn shortcomings(reader: &LayerReader, excluded: &BTreeSet<String>) -> Result<Vec<Obstacle>, String> {
    let view = View::new(reader, excluded);
    let modules = Modules::of(&view)?;
    let mut lacking = mounts(&view, &modules)?.1;
    lacking.extend(interfaces(&view, &modules)?);
    lacking.extend(units(&view)?);
    Ok(lacking)
}

/// What runs a script, where a root does not have it: the interpreter of the first line, or what `env` is to start there.
/// Source: execve(2), env(1).
pub(crate) fn lacks_interpreter(reader: &LayerReader, script: &[u8]) -> Option<String> {
    let line = script.strip_prefix(b"#!")?;
    let line = String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
    let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
    let interpreter = words.next()?;
    let nothing = BTreeSet::new();
    let view = View::new(reader, &nothing);
    if view.executable(interpreter).is_err() {
        return Some(interpreter.to_owned());
    }
    let is_env = interpreter.rsplit('/').next() == Some("env");
    let program = words.find(|word| !word.starts_with('-') && !word.contains('=')).filter(|_| is_env)?;
    let is_there = match program.contains('/') {
        true => view.executable(program).is_ok(),
        false => PATH.iter().any(|folder| view.executable(&format!("{folder}/{program}")).is_ok()),
    };
    (!is_there).then(|| program.to_owned())
}

/// Where programs are looked for.
const PATH: [&str; 6] = ["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"];

pub(crate) struct Whole {
    pub program: String,
    pub interpreter: Option<(String, String)>,
    pub libraries: BTreeMap<String, String>,
}

/// An ELF program of a tree and all that it needs, or else what that lacks: nothing, where there is no such program. Libraries of
/// `more` come with it if they exist.
pub(crate) fn whole(reader: &LayerReader, name: &str, more: &[&str]) -> Result<Result<Whole, String>, String> {
    let nothing = BTreeSet::new();
    let view = View::new(reader, &nothing);
    let Some(program) = PATH.iter().find_map(|folder| view.executable(&format!("{folder}/{name}")).ok()) else {
        return Ok(Err(String::new()));
    };
    let Some(mut needs) = view.read(&program)?.and_then(|bytes| Needs::of(&bytes)) else {
        return Ok(Err("a form that can be started without a shell".to_owned()));
    };
    let interpreter = match needs.interpreter.take() {
        Some(asked) => match view.executable(&asked) {
            Ok(found) => Some((asked, found)),
            Err(_) => return Ok(Err(asked)),
        },
        None => None,
    };
    let mut libraries = match view.loaded(&program, needs)? {
        Ok(libraries) => libraries,
        Err(Obstacle::Lacks { needs, .. }) => return Ok(Err(needs)),
        Err(_) => return Ok(Err(name.to_owned())),
    };
    for library in more {
        let asked = Needs { libraries: vec![(*library).to_owned()], ..Needs::default() };
        if let Ok(found) = view.loaded(&program, asked)? {
            for (name, path) in found {
                libraries.entry(name).or_insert(path);
            }
        }
    }
    Ok(Ok(Whole { program, interpreter, libraries }))
}

pub(crate) struct Gone {
    path: String,
    is_left_out: bool,
}

/// The merged tree less what is left out.
pub(crate) struct View<'a> {
    reader: &'a LayerReader,
    excluded: &'a BTreeSet<String>,
    seen: BTreeSet<String>,
}

impl<'a> View<'a> {
    pub(crate) fn new(reader: &'a LayerReader, excluded: &'a BTreeSet<String>) -> Self {
        Self { reader, excluded, seen: BTreeSet::new() }
    }

    pub(crate) fn tree(&self) -> &'a Merged {
        &self.reader.tree
    }

    pub(crate) fn is_left_out(&self, path: &str) -> bool {
        self.excluded.contains(path)
    }

    pub(crate) fn resolve(&self, path: &str) -> Result<(String, &'a MergedEntry), Gone> {
        let mut ahead: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut here: Vec<String> = Vec::new();
        let mut links = 0;
        let mut found = None;
        while let Some(part) = ahead.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    here.pop();
                    continue;
                }
                _ => here.push(part),
            }
            let name = here.join("/");
            let gone = |is_left_out| Gone { path: name.clone(), is_left_out };
            let entry = self.reader.tree.0.get(&name).ok_or_else(|| gone(false))?;
            // A directory that is left out is made for what is in it.
            if self.excluded.contains(&name) && !entry.entry.is_directory() {
                return Err(gone(true));
            }
            if let Kind::Symlink(target) = &entry.entry.kind {
                links += 1;
                if links > MOST_LINKS {
                    return Err(gone(false));
                }
                here.pop();
                if target.starts_with('/') {
                    here.clear();
                }
                ahead.extend(target.split('/').rev().map(str::to_owned));
                continue;
            }
            found = Some((name, entry));
        }
        found.ok_or_else(|| Gone { path: path.to_owned(), is_left_out: false })
    }

    /// What of a path is left out, if that is why it leads nowhere.
    pub(crate) fn left_out(&self, path: &str) -> Option<String> {
        self.resolve(path).err().filter(|gone| gone.is_left_out).map(|gone| gone.path)
    }

    /// Files below a folder, and whether each is left out.
    pub(crate) fn below<'t>(&'t self, folder: &'t str) -> impl Iterator<Item = (&'t str, bool)> {
        let from = self.reader.tree.0.range(folder.to_owned()..);
        let inside = from.map(|(path, _)| path.as_str()).take_while(move |path| path.starts_with(folder));
        inside.map(|path| (path, self.excluded.contains(path)))
    }

    /// The file that a path leads to, if it can be executed.
    pub(crate) fn executable(&self, path: &str) -> Result<String, Gone> {
        let (path, found) = self.resolve(path)?;
        let is_one = matches!(found.entry.kind, Kind::File { .. }) && found.entry.mode & 0o111 != 0;
        if is_one { Ok(path) } else { Err(Gone { path, is_left_out: false }) }
    }

    /// A file's content; none for what is no file, or too large to be a program.
    pub(crate) fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        let Some(found) = self.reader.tree.0.get(path) else { return Ok(None) };
        let Kind::File { size, digest } = found.entry.kind else { return Ok(None) };
        if size > PROGRAM_LIMIT {
            return Ok(None);
        }
        let said = |error: std::io::Error| format!("cannot read `{path}`: {error}");
        self.reader.open_in(found.layer, path, (size, &digest)).and_then(Checked::whole).map(Some).map_err(said)
    }

    fn program(&mut self, path: &str, interpreters: usize) -> Result<Option<Obstacle>, String> {
        if interpreters == 0 || !self.seen.insert(path.to_owned()) {
            return Ok(None);
        }
        let Some(bytes) = self.read(path)? else { return Ok(None) };
        let lacks = |needs: &str, left_out: Option<String>| {
            Ok(Some(Obstacle::Lacks { program: path.to_owned(), needs: needs.to_owned(), left_out }))
        };
        if let Some(line) = bytes.strip_prefix(b"#!") {
            let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let line = String::from_utf8_lossy(line);
            let Some(word) = line.split([' ', '\t', '\r']).find(|word| !word.is_empty()) else { return Ok(None) };
            return match self.executable(word) {
                Ok(interpreter) => self.program(&interpreter, interpreters - 1),
                Err(gone) => lacks(word, gone.is_left_out.then_some(gone.path)),
            };
        }
        let Some(needs) = Needs::of(&bytes) else { return Ok(None) };
        if let Some(interpreter) = &needs.interpreter {
            match self.executable(interpreter) {
                Ok(found) => {
                    if let Some(obstacle) = self.program(&found, interpreters - 1)? {
                        return Ok(Some(obstacle));
                    }
                }
                Err(gone) => return lacks(interpreter, gone.is_left_out.then_some(gone.path)),
            }
        }
        self.libraries(path, needs)
    }

    /// Which library of an ELF program is missing. As the loader does: all that one file needs before what these need, and
    /// what is loaded under a name is found under it by everyone. Source: ld.so(8).
    fn libraries(&self, program: &str, needs: Needs) -> Result<Option<Obstacle>, String> {
        Ok(self.loaded(program, needs)?.err())
    }

    /// The libraries of an ELF program, by the names that they are asked for by, and where they are.
    fn loaded(&self, program: &str, needs: Needs) -> Result<Result<BTreeMap<String, String>, Obstacle>, String> {
        let folders = self.library_folders()?;
        let of_program = needs.inherited.clone();
        let mut loaded: BTreeMap<String, String> = BTreeMap::new();
        let mut waiting = VecDeque::from([(program.to_owned(), needs)]);
        while let Some((path, needs)) = waiting.pop_front() {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let own = needs.run_path.iter().chain(&needs.inherited).chain(&of_program);
            let own: Vec<String> =
                own.map(|one| one.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", folder)).collect();
            for library in needs.libraries {
                if loaded.contains_key(&library) {
                    continue;
                }
                let places: Vec<String> = match library.contains('/') {
                    true => vec![library.clone()],
                    false => own.iter().chain(&folders).map(|folder| format!("{folder}/{library}")).collect(),
                };
                let mut left_out = None;
                let mut found = None;
                for place in &places {
                    match self.resolve(place) {
                        Ok((path, entry)) if matches!(entry.entry.kind, Kind::File { .. }) => {
                            found = Some(path);
                            break;
                        }
                        Err(gone) if gone.is_left_out => left_out = Some(gone.path),
                        _ => {}
                    }
                }
                let Some(found) = found else {
                    return Ok(Err(Obstacle::Lacks { program: path, needs: library, left_out }));
                };
                loaded.insert(library, found.clone());
                if let Some(needs) = self.read(&found)?.and_then(|bytes| Needs::of(&bytes)) {
                    waiting.push_back((found, needs));
                }
            }
        }
        Ok(Ok(loaded))
    }

    /// Where libraries are looked for. Source: ld.so(8); Debian's and the other distributions' own folders are in files of
    /// `/etc/ld.so.conf.d`, or built in.
    fn library_folders(&self) -> Result<Vec<String>, String> {
        let mut folders = Vec::new();
        let mut files = vec!["etc/ld.so.conf".to_owned()];
        files.extend(self.reader.names_in("etc/ld.so.conf.d").iter().map(|name| format!("etc/ld.so.conf.d/{name}")));
        for file in files {
            let Ok((path, _)) = self.resolve(&file) else { continue };
            let text = self.read(&path)?.unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            folders.extend(text.lines().map(str::trim).filter(|line| line.starts_with('/')).map(str::to_owned));
        }
        for folder in ["lib64", "usr/lib64", "lib", "usr/lib"] {
            folders.push(folder.to_owned());
            let triplets = self.reader.names_in(folder).into_iter().filter(|name| name.contains("-linux-"));
            folders.extend(triplets.map(|name| format!("{folder}/{name}")));
        }
        Ok(folders)
    }

    /// Whether glibc finds a locale, or else what of it is left out: built in, in a folder, or in its archive. Source: locale(7), setlocale(3), glibc's
    /// locale/findlocale.c, which writes the codeset in small letters and digits.
    fn has_locale(&self, locale: &str) -> Result<Result<(), Option<String>>, String> {
        let (name, modifier) = match locale.split_once('@') {
            Some((name, modifier)) => (name, format!("@{modifier}")),
            None => (locale, String::new()),
        };
        let normal = match name.split_once('.') {
            Some((language, codeset)) => {
                let codeset: String =
                    codeset.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
                format!("{language}.{codeset}{modifier}")
            }
            None => locale.to_owned(),
        };
        if ["C", "POSIX", "C.utf8"].contains(&normal.as_str()) {
            return Ok(Ok(()));
        }
        // A file of it: a directory that is left out is made for what is in it.
        let file = if fault::planted("locale-left-out") { "" } else { "/LC_CTYPE" };
        let kept = [normal.as_str(), locale].map(|name| format!("usr/lib/locale/{name}{file}"));
        let archive = "usr/lib/locale/locale-archive";
        if kept.iter().any(|file| self.resolve(file).is_ok()) {
            return Ok(Ok(()));
        }
        let has = |bytes: &[u8]| memchr::memmem::find(bytes, format!("\0{normal}\0").as_bytes()).is_some();
        match self.resolve(archive) {
            Ok((path, _)) if has(&self.read(&path)?.unwrap_or_default()) => return Ok(Ok(())),
            _ => {}
        }
        // An archive that is left out had it, or not: it is what there was of locales.
        Ok(Err(kept.iter().map(String::as_str).chain([archive]).find_map(|path| self.left_out(path))))
    }

    /// The shell that root's login starts. One that refuses a login is meant so. Source: passwd(5).
    fn shell_of_root(&mut self) -> Result<Option<Obstacle>, String> {
        let path = match self.resolve("etc/passwd") {
            Ok((path, _)) => path,
            Err(Gone { path, is_left_out: true }) => return Ok(Some(Obstacle::NoAccounts(path))),
            // An init may do without.
            Err(_) => return Ok(None),
        };
        let text = self.read(&path)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let Some(root) = text.lines().find(|line| line.starts_with("root:")) else { return Ok(None) };
        let shell = match root.split(':').nth(6).map(str::trim) {
            None | Some("") => "/bin/sh",
            Some(shell) => shell,
        };
        if shell.ends_with("/nologin") || shell.ends_with("/false") {
            return Ok(None);
        }
        match self.executable(shell) {
            Ok(found) => self.program(&found, MOST_INTERPRETERS),
            Err(gone) => {
                Ok(Some(Obstacle::NoShell { shell: shell.to_owned(), left_out: gone.is_left_out.then_some(gone.path) }))
            }
        }
    }
}
