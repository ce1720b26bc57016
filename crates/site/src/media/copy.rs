//! Bringing media into repositories.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::identify::{Medium, identify};
use super::recipes;
use super::source::{Found, Source};
use super::{Family, ImportedMedium, MediaError, MediaReport};
use files::beside;
use files::{Aside, Durability, TEMPORARY};
use xcat::definitions::is_word;

/// Version of what `import media --json` prints.
const MEDIA_FORMAT: &str = "1.0";

#[derive(Debug, Clone, Default)]
pub struct MediaImport {
    pub paths: Vec<PathBuf>,
    /// Workspace for the default recipes; created if missing.
    pub into: PathBuf,
    /// Directory of the repositories. None: `repository` in the workspace.
    pub repository: Option<PathBuf>,
    /// The directory of the one repository itself, instead of NAME/ARCH below that one (copycds -p).
    pub destination: Option<PathBuf>,
    /// What the media are, for those that no one knows: `rocky9.4`.
    pub name: Option<String>,
    pub arch: Option<String>,
    /// Whether no recipes are written.
    pub only_repository: bool,
    pub dry_run: bool,
}

/// Files that each disc of a set has its own of; the first one's stay.
const OF_EACH_DISC: [&str; 9] = [
    ".discinfo",
    ".treeinfo",
    "media.repo",
    "TRANS.TBL",
    "md5sum.txt",
    "README.diskdefines",
    ".disk/info",
    "isolinux/boot.cat",
    "boot.catalog",
];

/// Said while media are copied: bytes that were written since the last time.
pub(super) type Progress<'t> = dyn FnMut(u64) + 't;

/// Makes repositories of media, and default recipes that use them.
pub fn import_media(request: &MediaImport, progress: &mut Progress<'_>) -> Result<MediaReport, MediaError> {
    let into = std::path::absolute(&request.into).unwrap_or_else(|_| request.into.clone());
    let into = recipe::plain(&into);
    let root = request.repository.clone().unwrap_or_else(|| into.join("repository"));
    let root = recipe::plain(&std::path::absolute(&root).unwrap_or(root));
    let mut known = Vec::new();
    let mut bytes = 0;
    for path in &request.paths {
        let (source, medium, size) = look(path, request)?;
        bytes += size;
        known.push((path, source, medium));
    }
    // What lies in the workspace stays there; a link that the command line names is followed.
    let linked = |path: &Path| {
        let checked = files::beside::check(&into, path);
        checked.map_err(|error| MediaError::Linked { path: path.to_owned(), problem: error.to_string() })
    };
    for (.., medium) in &known {
        if request.repository.is_none() && request.destination.is_none() {
            linked(&repository_of(request, &root, medium).join("any"))?;
        }
        for profile in ["compute", "service"].iter().filter(|_| !request.only_repository) {
            let name = recipes::image_name(medium, profile);
            linked(&into.join("images").join(name).join("any"))?;
        }
    }
    if !request.dry_run {
        room(&root, bytes)?;
    }
    let mut report = MediaReport { format_version: MEDIA_FORMAT.to_owned(), ..MediaReport::default() };
    for (path, source, medium) in &known {
        let mut target = repository_of(request, &root, medium);
        if let Some(folder) = &medium.folder {
            target.push(folder);
        }
        let mut one = ImportedMedium {
            source: path.display().to_string(),
            name: medium.name.clone(),
            arch: medium.arch.clone(),
            disc: medium.disc.clone(),
            repository: target.clone(),
            files: 0,
            bytes: 0,
            kept: 0,
        };
        if !request.dry_run {
            bring(path, source, &target, &mut one, &mut report.notes, progress)?;
        }
        report.media.push(one);
    }
    if !request.only_repository {
        let media: BTreeMap<(String, String), Medium> =
            known.iter().map(|(.., medium)| ((medium.name.clone(), medium.arch.clone()), medium.clone())).collect();
        for medium in media.values() {
            let repository = repository_of(request, &root, medium);
            recipes::write(medium, &repository, &into, request.dry_run, &mut report)?;
        }
    }
    Ok(report)
}

fn repository_of(request: &MediaImport, root: &Path, medium: &Medium) -> PathBuf {
    match &request.destination {
        Some(destination) => recipe::plain(&std::path::absolute(destination).unwrap_or(destination.clone())),
        None => root.join(&medium.name).join(&medium.arch),
    }
}

fn look(path: &Path, request: &MediaImport) -> Result<(Source, Medium, u64), MediaError> {
    let unknown = |problem: String| MediaError::Unknown { path: path.to_owned(), problem };
    let source = Source::open(path).map_err(|error| MediaError::Io { path: path.to_owned(), error })?;
    let (texts, bytes) = source.look().map_err(unknown)?;
    let mut medium = match (identify(&|name| texts.get(name).cloned()), &request.name, &request.arch) {
        (Ok(medium), ..) => medium,
        (Err(_), Some(name), Some(arch)) => {
            let family = family_of(name).ok_or_else(|| {
                unknown(format!("`{name}` does not start with a distribution's name, for instance rocky or sle"))
            })?;
            Medium { family, name: name.clone(), arch: arch.clone(), disc: None, folder: None }
        }
        (Err(problem), ..) => return Err(unknown(problem)),
    };
    if let Some(arch) = request.arch.as_ref().filter(|arch| **arch != medium.arch) {
        return Err(MediaError::Other { path: path.to_owned(), found: medium.arch, said: arch.clone() });
    }
    if let Some(name) = &request.name {
        if family_of(name) != Some(medium.family) {
            return Err(unknown(format!("it is {}, but `{name}` is the name of another distribution", medium.name)));
        }
        medium.name = name.clone();
    }
    // Names become folders.
    if !is_word(&medium.name) || !is_word(&medium.arch) {
        return Err(unknown(format!(
            "it calls itself `{}` for `{}`",
            medium.name.escape_debug(),
            medium.arch.escape_debug()
        )));
    }
    Ok((source, medium, bytes))
}

fn family_of(name: &str) -> Option<Family> {
    let is = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
    match () {
        () if is(&["rh", "rocky", "alma", "centos", "ol", "fedora", "SL"]) => Some(Family::RedHat),
        () if is(&["sle", "leap"]) => Some(Family::Suse),
        () if is(&["debian", "ubuntu"]) => Some(Family::Debian),
        () => None,
    }
}

/// Refuses media that do not fit; what already exists may make it less.
fn room(root: &Path, needed: u64) -> Result<(), MediaError> {
    let there = root.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let Ok(status) = rustix::fs::statvfs(there) else { return Ok(()) };
    let free = status.f_bavail.saturating_mul(status.f_frsize);
    let held: u64 = walkdir::WalkDir::new(root)
        .into_iter()
        .flatten()
        .filter_map(|one| one.metadata().ok())
        .map(|one| one.len())
        .sum();
    if free < needed.saturating_sub(held) {
        let needed = (needed.saturating_sub(held)) / 1_000_000;
        return Err(MediaError::Full { path: there.to_owned(), free: free / 1_000_000, needed });
    }
    Ok(())
}

enum Failed {
    Medium(String),
    Here(PathBuf, std::io::Error),
}

/// Removes what killed imports had begun.
fn remove_begun(place: &Path) {
    let walk = walkdir::WalkDir::new(place).into_iter().flatten();
    let begun =
        walk.filter(|entry| entry.file_type().is_file() && entry.file_name().to_string_lossy().starts_with(TEMPORARY));
    for entry in begun {
        let _ = std::fs::remove_file(entry.path());
    }
}

/// Copies what is not there yet. A repository that is new is made beside its place and renamed when it is whole.
fn bring(
    path: &Path,
    source: &Source,
    target: &Path,
    one: &mut ImportedMedium,
    notes: &mut Vec<String>,
    progress: &mut Progress<'_>,
) -> Result<(), MediaError> {
    let io = |path: &Path, error: std::io::Error| MediaError::Io { path: path.to_owned(), error };
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_new = !target.is_dir();
    let place = if is_new { target.with_file_name(format!(".{name}.partial")) } else { target.to_owned() };
    std::fs::create_dir_all(&place).map_err(|error| io(&place, error))?;
    remove_begun(&place);
    let mut links: Vec<(String, String)> = Vec::new();
    let mut others: BTreeSet<String> = BTreeSet::new();
    let mut brought: BTreeSet<String> = BTreeSet::new();
    let mut failed = None;
    let walked = source.walk(&mut |below, found| {
        if below.split('/').any(|part| part == "..") {
            return Err(format!("it contains `{}`", below.escape_debug()));
        }
        let to = place.join(below);
        if let Err(error) = beside::check(&place, &to) {
            return Err(format!("`{}`: {error}", below.escape_debug()));
        }
        match found {
            Found::Link(aim) => links.push((below.to_owned(), aim)),
            Found::File(from, size, content) => match std::fs::symlink_metadata(&to) {
                // Files appear whole, so one of that size is it.
                Ok(there) if there.is_file() && there.len() == size => one.kept += 1,
                Ok(_) => {
                    if !OF_EACH_DISC.contains(&below) {
                        others.insert(below.to_owned());
                    }
                }
                Err(_) => match put(from, size, content, &to) {
                    Ok(()) => {
                        brought.insert(below.to_owned());
                        one.files += 1;
                        one.bytes += size;
                        progress(size);
                    }
                    Err(Failed::Medium(problem)) => return Err(format!("`{below}`: {problem}")),
                    Err(Failed::Here(path, error)) => {
                        failed = Some(io(&path, error));
                        return Err("stopped".to_owned());
                    }
                },
            },
        }
        Ok(())
    });
    if let Some(failed) = failed {
        return Err(failed);
    }
    let damaged = |problem: String| MediaError::Damaged { path: path.to_owned(), problem, partial: place.clone() };
    walked.map_err(damaged)?;
    // What was there before is the site's own.
    if let Some((wrong, _)) = wrong_sum(&place, &|path: &str| is_new || brought.contains(path)) {
        // The file that is wrong must not count as there the next time.
        let _ = std::fs::remove_file(place.join(&wrong));
        return Err(damaged(format!("`{wrong}` does not match the digest on the medium")));
    }
    for (below, aim) in links {
        make_link(&place, &below, &aim, notes).map_err(|error| io(&place.join(&below), error))?;
    }
    if !others.is_empty() {
        let shown: Vec<&str> = others.iter().take(3).map(String::as_str).collect();
        notes.push(format!(
            "{}: {} files differ from those already in {}, which are kept: {}",
            path.display(),
            others.len(),
            target.display(),
            shown.join(", ")
        ));
    }
    fault::point("media.copied");
    if is_new {
        std::fs::rename(&place, target).map_err(|error| io(target, error))?;
    }
    Ok(())
}

/// Makes one file: shared with the medium's where the file system can, else linked, else copied; it appears whole.
fn put(from: Option<&Path>, size: u64, content: &mut dyn Read, to: &Path) -> Result<(), Failed> {
    let here = |error: std::io::Error| Failed::Here(to.to_owned(), error);
    let folder = to.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).map_err(here)?;
    let mut file = Aside::of(to, 0o644).map_err(here)?;
    fault::point("media.writing");
    let is_shared = from.is_some_and(|from| {
        File::open(from).is_ok_and(|from| rustix::fs::ioctl_ficlone(file.as_file(), &from).is_ok())
    });
    if !is_shared && from.is_some_and(|from| std::fs::hard_link(from, to).is_ok()) {
        return Ok(());
    }
    if !is_shared {
        let mut buffer = vec![0; 1 << 18];
        let mut written = 0;
        loop {
            let read = content.read(&mut buffer).map_err(|error| Failed::Medium(format!("cannot be read: {error}")))?;
            if read == 0 {
                break;
            }
            file.write_all(&buffer[..read]).map_err(here)?;
            written += read as u64;
        }
        if written != size {
            return Err(Failed::Medium(format!("it has {written} bytes instead of {size}")));
        }
    }
    file.replace(Durability::Kill).map_err(here)
}

/// Makes a link of the medium if what it leads to, all links followed, is in the repository.
fn make_link(place: &Path, below: &str, aim: &str, notes: &mut Vec<String>) -> std::io::Result<()> {
    let to = place.join(below);
    if to.symlink_metadata().is_ok() {
        return Ok(());
    }
    if aim.starts_with('/') || aim.is_empty() || beside::make_folders(place, &to).is_err() {
        notes.push(format!("the link `{below}` points outside the medium, to `{}`: left out", aim.escape_debug()));
        return Ok(());
    }
    std::os::unix::fs::symlink(aim, &to)?;
    let root = place.canonicalize()?;
    if !to.canonicalize().is_ok_and(|real| real.starts_with(&root)) {
        std::fs::remove_file(&to)?;
        let aim = aim.escape_debug();
        notes.push(format!("the link `{below}` points outside the medium, or to nothing, `{aim}`: left out"));
    }
    Ok(())
}

/// The first file whose SHA-256 is another than `.treeinfo` or `CHECKSUMS` say, and its digest.
fn wrong_sum(place: &Path, is_brought: &dyn Fn(&str) -> bool) -> Option<(String, String)> {
    let read = |name: &str| std::fs::read_to_string(place.join(name)).unwrap_or_default();
    let mut sums: Vec<(String, String)> = Vec::new();
    for line in read(".treeinfo").lines() {
        if let Some((path, sum)) = line.split_once('=')
            && let Some(sum) = sum.trim().strip_prefix("sha256:")
        {
            sums.push((path.trim().to_owned(), sum.trim().to_owned()));
        }
    }
    for line in read("CHECKSUMS").lines() {
        if let Some((sum, path)) = line.split_once("  ")
            && sum.len() == 64
        {
            sums.push((path.trim_start_matches("./").to_owned(), sum.to_owned()));
        }
    }
    sums.into_iter().find(|(path, sum)| {
        let file = place.join(path);
        let is_plain = beside::check(place, &file).is_ok() && file.symlink_metadata().is_ok_and(|one| one.is_file());
        let differs = || crate::bundle::sha256_of(&file).is_some_and(|found| !found.eq_ignore_ascii_case(sum));
        is_plain && is_brought(path) && differs()
    })
}
