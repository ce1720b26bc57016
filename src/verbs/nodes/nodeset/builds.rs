//! Published builds, and notes beside them of which nodes are pinned to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Outcome, refused};
use crate::Exit;
use crate::output::render;
use crate::published::published_here;
use crate::setup::{print_findings, published_image};
use base::digest::Sha256;
use base::source::nearest;
use build::BuildInfo;
use files::{self, Durability};
use nodes::loaders::{Bootable, KERNEL, initrd_of};
use nodes::{Assignments, Boots, Report, State};
use recipe::{Known, Overlay, known};
use store::NODE_PINS;

#[derive(Debug, Clone)]
struct Build {
    bootable: Bootable,
    directory: PathBuf,
    target: String,
}

/// Builds that were looked at, by image and wanted name.
pub(super) struct Builds<'a> {
    arguments: &'a crate::Arguments,
    from: Option<PathBuf>,
    known: Option<Known>,
    found: BTreeMap<(String, Option<String>), Build>,
}

impl<'a> Builds<'a> {
    /// None yet; `from` is the directory that has all.
    pub(super) fn new(arguments: &'a crate::Arguments, from: Option<PathBuf>) -> Self {
        Self { arguments, from, known: None, found: BTreeMap::new() }
    }

    /// The directory where an image is published.
    fn out_of(&mut self, image: &str) -> Outcome<PathBuf> {
        if let Some(from) = &self.from {
            return Ok(std::path::absolute(from).unwrap_or_else(|_| from.clone()));
        }
        if self.known.is_none() {
            match known(&self.arguments.directory, true, &Overlay::new()) {
                Ok(read) => self.known = Some(read),
                Err(findings) => {
                    return self.published(image).ok_or_else(|| {
                        print_findings(&findings, self.arguments.verbose);
                        Exit::Input
                    });
                }
            }
        }
        let Some(known) = &self.known else { return Err(Exit::Mistake) };
        let draft = known.images().find(|draft| draft.name().is_some_and(|(name, _)| name == image));
        let Some(draft) = draft else {
            // What was built is given out, whatever has become of its recipe since.
            if let Some(out) = self.published(image) {
                return Ok(out);
            }
            let names: Vec<&str> = known.images().filter_map(|draft| draft.name()).map(|(name, _)| name).collect();
            let near = nearest(image, names.iter().copied());
            let help = match near.first() {
                _ if !known.broken.is_empty() => "a recipe has errors: `imgbuild check` shows them".to_owned(),
                Some(near) => format!("did you mean `{near}`?"),
                None if names.is_empty() => {
                    "the workspace has no images; --from DIR names a directory of published ones".to_owned()
                }
                None => format!("images are {}", names.join(", ")),
            };
            return Err(refused(&format!("there is no image `{image}`\n  help: {help}"), Exit::Input));
        };
        let of_workspace = known.workspace.as_ref().and_then(|workspace| workspace.out());
        let out = of_workspace.unwrap_or_else(|| draft.directory.join("out"));
        Ok(out.canonicalize().unwrap_or(out))
    }

    /// Where an image is published that no recipe which can be read is of.
    fn published(&self, image: &str) -> Option<PathBuf> {
        let place = published_here(self.arguments, true).into_iter().find(|place| place.name == image)?;
        render::say(&format!(
            "warning: no recipe without errors is of `{image}`: what was published before is used; `imgbuild check` shows the errors"
        ));
        Some(place.out.canonicalize().unwrap_or(place.out))
    }

    /// The build of an image, by the first digits of its name, or the published one: what a node is pinned to.
    /// Errors: It is missing, or cannot be booted.
    pub(super) fn pinned(&mut self, image: &str, build: Option<&str>) -> Outcome<Boots> {
        let key = (image.to_owned(), build.map(str::to_owned));
        if !self.found.contains_key(&key) {
            let found = self.look(image, build)?;
            self.found.insert(key.clone(), found);
        }
        let Some(found) = self.found.get(&key) else { return Err(Exit::Mistake) };
        let build = found.bootable.build.clone();
        Ok(Boots::Image { image: image.to_owned(), build, directory: found.directory.clone() })
    }

    /// What nodes boot of a build that was chosen before; it is read again where it was not looked at yet.
    /// Errors: It is no longer there.
    pub(super) fn bootable(&mut self, boots: &Boots) -> Outcome<Option<(Bootable, String)>> {
        let Boots::Image { image, build, directory } = boots else { return Ok(None) };
        let same = |found: &&Build| &found.directory == directory;
        if let Some(found) = self.found.values().find(same) {
            return Ok(Some((found.bootable.clone(), found.target.clone())));
        }
        let found = read(image, directory)?;
        let answer = (found.bootable.clone(), found.target.clone());
        self.found.insert((image.clone(), Some(build.clone())), found);
        Ok(Some(answer))
    }

    fn look(&mut self, image: &str, build: Option<&str>) -> Outcome<Build> {
        let out = self.out_of(image)?;
        let builds = out.join(".builds").join(image);
        let Some(wanted) = build else {
            let Some((directory, _)) = published_image(&out, image)? else {
                let problem = format!(
                    "nothing is published of `{image}`: there is no {}\n  help: `imgbuild build {image}` builds and publishes it",
                    out.join(image).display()
                );
                return Err(refused(&problem, Exit::Input));
            };
            return read(image, &directory);
        };
        let entries = std::fs::read_dir(&builds).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let names: BTreeSet<String> = names.filter(|name| !name.starts_with('.')).collect();
        let fitting: Vec<&String> =
            names.iter().filter(|name| !wanted.is_empty() && name.starts_with(wanted)).collect();
        match fitting.as_slice() {
            [one] => read(image, &builds.join(one)),
            [] => {
                let there: Vec<&str> = names.iter().map(String::as_str).collect();
                let help = match there.is_empty() {
                    true => format!("`imgbuild build {image}` builds and publishes one"),
                    false => format!("builds are {}", there.join(", ")),
                };
                Err(refused(&format!("`{image}` has no build `{wanted}`\n  help: {help}"), Exit::Input))
            }
            several => {
                let several: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
                let problem = format!(
                    "`{wanted}` means several builds of `{image}`: {}\n  help: write more of its digits",
                    several.join(", ")
                );
                Err(refused(&problem, Exit::Input))
            }
        }
    }
}

fn read(image: &str, directory: &Path) -> Outcome<Build> {
    let path = directory.join("build.json");
    let shown = path.display();
    let bytes = std::fs::read(&path).map_err(|error| {
        let help = format!("`imgbuild nodeset RANGE {image}` gives nodes the build that is published now");
        refused(&format!("the build of `{image}` cannot be read: `{shown}`: {error}\n  help: {help}"), Exit::Input)
    })?;
    let info: BuildInfo = serde_json::from_slice(&bytes)
        .map_err(|error| refused(&format!("`{shown}` is not what imgbuild wrote: {error}"), Exit::Input))?;
    let name = directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if Sha256::of(&bytes).short() != name {
        let problem = format!(
            "`{shown}` does not match the digest in its directory's name\n  help: `imgbuild build {image}` publishes it again"
        );
        return Err(refused(&problem, Exit::Input));
    }
    for file in [KERNEL, initrd_of(&info.cmdline)] {
        if !info.artefacts.iter().any(|one| one.name == file) || !directory.join(file).is_file() {
            let problem = format!(
                "the build {name} of `{image}` has no `{file}`: nodes cannot boot it\n  help: `imgbuild build {image}` publishes all"
            );
            return Err(refused(&problem, Exit::Input));
        }
    }
    let device_trees = info.device_trees();
    let bootable = Bootable { image: image.to_owned(), build: name, cmdline: info.cmdline, device_trees };
    Ok(Build { bootable, directory: directory.to_owned(), target: info.target })
}

/// Notes beside the builds which of them nodes boot, so that they are kept. `also` are builds that are about to be left, and stay
/// until that is done.
/// Errors: A note cannot be written.
pub(super) fn note_pins(state: &State, assigned: &Assignments, also: &Assignments) -> Outcome<()> {
    note(state, assigned, also.builds().iter().map(|(_, _, directory)| folder_of(directory)).collect())
}

/// The same beside all that is published here, too: a killed run may have left a note there.
/// Errors: A note cannot be written.
pub(super) fn correct_pins(
    arguments: &crate::Arguments,
    state: &State,
    assigned: &Assignments,
    also: &Assignments,
) -> Outcome<()> {
    let published = published_here(arguments, true).into_iter();
    let folders = published.filter_map(|place| place.out.join(".builds").join(place.name).canonicalize().ok());
    let of_state = also.builds().iter().map(|(_, _, directory)| folder_of(directory)).collect::<Vec<_>>();
    note(state, assigned, folders.chain(of_state).collect())
}

fn folder_of(build: &Path) -> PathBuf {
    build.parent().unwrap_or(Path::new("/")).to_owned()
}

/// Where nothing is pinned any longer, the note goes: `also` has folders of builds in which there may be one.
fn note(state: &State, assigned: &Assignments, also: Vec<PathBuf>) -> Outcome<()> {
    let mut places: BTreeMap<PathBuf, BTreeSet<String>> =
        also.into_iter().map(|folder| (folder, BTreeSet::new())).collect();
    for (_, build, directory) in assigned.builds() {
        places.entry(folder_of(&directory)).or_default().insert(build);
    }
    // Nodes that read their root from a build need it as long as they run, whatever they boot next.
    let reports = state.reports();
    for (image, build) in reports.values().filter_map(Report::reads_root_from) {
        let is_name = build.bytes().all(|byte| byte.is_ascii_alphanumeric());
        for (folder, names) in places.iter_mut().filter(|_| is_name && !fault::planted("lazy-build-not-kept")) {
            if folder.file_name().is_some_and(|name| name == image) && folder.join(build).is_dir() {
                names.insert(build.to_owned());
            }
        }
    }
    let of_state = state.directory().canonicalize().unwrap_or_else(|_| state.directory().to_owned());
    let id = Sha256::of(of_state.as_os_str().as_encoded_bytes()).short();
    for (builds, names) in places.into_iter().filter(|(builds, _)| builds.is_dir()) {
        let path = builds.join(format!("{NODE_PINS}{id}"));
        let written = match names.is_empty() {
            true => match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
            false => {
                let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
                let text = format!("# Nodes boot these: {}\n{lines}", of_state.display());
                match std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
                    true => Ok(()),
                    false => files::replace(&path, text.as_bytes(), 0o644, Durability::PowerCut),
                }
            }
        };
        written.map_err(|error| {
            render::say(&format!(
                "error: cannot write `{}`: {error}\n  help: it keeps the builds that nodes boot; nothing was changed",
                path.display()
            ));
            Exit::Machine
        })?;
    }
    Ok(())
}
