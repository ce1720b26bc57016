//! Pairs of builds, each compared once, however many nodes are between them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::rc::Rc;

use super::{BuildName, Comparison};
use crate::Exit;
use crate::output::render;
use crate::setup::{read_selection, store_directory};
use base::digest::Digest;
use build::diff::{BuildPlace, Difference, Packages, Tree, as_synced, compare, matched};
use build::{BuildInfo, LockState, lock_state};
use recipe::{Clause, NodeFile, Recipe, SyncedKind};
use restart::{Answer, Facts, Means, Reason, Restart, answer};
use store::Store;

/// A build and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Build {
    pub name: BuildName,
    pub directory: PathBuf,
}

impl Build {
    fn shown(&self) -> String {
        super::shown::build(&self.name)
    }
}

/// What `sync` brings of an image, before it is known which files differ.
struct Sources {
    files: Result<Vec<NodeFile>, String>,
    packages: Result<Packages, String>,
}

/// Paths that `sync` would bring otherwise than a build has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unbuilt {
    /// Their sources have changed since it was built, as far as is known.
    pub changed: Vec<String>,
    /// The build itself altered them after its sync lists had brought them.
    pub edited: Vec<String>,
}

impl Unbuilt {
    /// By digests of what is brought, the tree of the build, and that tree as its sync lists left it, where it is known.
    fn of(brought: BTreeMap<String, Option<String>>, tree: &Tree, synced: Option<&Tree>) -> Self {
        let mut unbuilt = Self::default();
        for (path, digest) in brought {
            let is = |tree: &Tree| tree.nodes.get(&path).map(|node| &node.content) == digest.as_ref();
            match digest.is_none() || is(tree) {
                true => {}
                false if synced.is_some_and(is) => unbuilt.edited.push(path),
                false => unbuilt.changed.push(path),
            }
        }
        unbuilt
    }
}

/// Keys of actions by their names, for each directory with a published build.
type PublishedKeys = HashMap<PathBuf, BTreeMap<String, Digest>>;

pub(super) struct Pairs<'a> {
    arguments: &'a crate::Arguments,
    /// Opened once it is needed.
    store: Option<(Store, PublishedKeys)>,
    known: HashMap<(PathBuf, PathBuf), usize>,
    facts: HashMap<PathBuf, Result<Rc<Facts>, String>>,
    sources: HashMap<String, Sources>,
    pub all: Vec<Comparison>,
}

impl<'a> Pairs<'a> {
    pub(super) fn new(arguments: &'a crate::Arguments) -> Self {
        let (known, facts, sources) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { arguments, store: None, known, facts, sources, all: Vec::new() }
    }

    /// The place of the answer for two builds.
    /// Errors: The exit code, after a store that a later imgbuild wrote was reported.
    pub(super) fn compared(&mut self, runs: &Build, boots: &Build) -> Result<usize, Exit> {
        let key = (runs.directory.clone(), boots.directory.clone());
        if let Some(at) = self.known.get(&key) {
            return Ok(*at);
        }
        self.open()?;
        let answer = self.answer(runs, boots).unwrap_or_else(|problem| {
            Answer::of(vec![Reason::unsure(Restart::Reboot, &format!("what differs: {problem}"))])
        });
        self.all.push(Comparison { runs: runs.name.clone(), boots: boots.name.clone(), answer });
        self.known.insert(key, self.all.len() - 1);
        Ok(self.all.len() - 1)
    }

    fn open(&mut self) -> Result<(), Exit> {
        if self.store.is_some() {
            return Ok(());
        }
        let store = Store::existing(&store_directory(self.arguments)?);
        let ends = store.builds_of_all().into_iter().flatten().filter_map(|build| build.end);
        let keys = ends.filter_map(|end| Some((end.published?, end.keys))).collect();
        self.store = Some((store, keys));
        Ok(())
    }

    fn answer(&mut self, runs: &Build, boots: &Build) -> Result<Answer, String> {
        for (build, help) in [
            (runs, "was it removed? only builds that nodes are pinned to and the last three are kept"),
            (boots, "`imgbuild nodeset` gives nodes the build that is published now"),
        ] {
            if !build.directory.join("build.json").is_file() {
                return Err(format!("the build {} is missing ({help})", build.shown()));
            }
        }
        let (difference, contents) = self.difference(runs, boots)?;
        let (was, now) = (self.facts(runs)?, self.facts(boots)?);
        let (_, file) = packed(boots)?;
        let brought = now.brought(&file, &difference);
        let brought = brought.map_err(|error| format!("cannot read `{}`: {error}", file.display()))?;
        let means = Means { contents, brought, ..self.means(&boots.name.image, &difference) };
        Ok(answer(&difference, &was, &now, &means))
    }

    /// What differs, and digests of the files of the second build among that.
    fn difference(&self, runs: &Build, boots: &Build) -> Result<(Difference, BTreeMap<String, String>), String> {
        let Some((store, keys)) = &self.store else { return Err("the store is not open".to_owned()) };
        let place = |build: &Build| {
            let directory = build.directory.canonicalize().unwrap_or_else(|_| build.directory.clone());
            let keys = keys.get(&directory).cloned().unwrap_or_default();
            BuildPlace { name: build.shown(), directory, keys }
        };
        let (a, b) = matched(&place(runs), &place(boots), store).map_err(|error| error.to_string())?;
        let difference = compare(&a, &b);
        let nodes = b.tree.as_ref().map(|tree| &tree.nodes);
        let content = |path: &str| nodes?.get(path).filter(|node| node.kind != "directory").map(|node| &node.content);
        let paths = differing(&difference).into_iter();
        let contents = paths.filter_map(|path| Some((path.to_owned(), content(path)?.clone()))).collect();
        Ok((difference, contents))
    }

    /// What `sync` would bring otherwise than a build has it, by the sync lists as they are now.
    /// Errors: The exit code; as text, why that is not known.
    pub(super) fn unbuilt(&mut self, boots: &Build) -> Result<Result<Unbuilt, String>, Exit> {
        self.open()?;
        let Some((store, keys)) = &self.store else { return Err(Exit::Mistake) };
        let directory = boots.directory.canonicalize().unwrap_or_else(|_| boots.directory.clone());
        let keys = keys.get(&directory).cloned().unwrap_or_default();
        let place = BuildPlace { name: boots.shown(), directory, keys };
        let side = match matched(&place, &place, store) {
            Ok((side, _)) => side,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let files = match sources(self.arguments, &boots.name.image).files {
            Ok(files) => files,
            Err(why) => return Ok(Err(why)),
        };
        let Some(tree) = side.all_files.as_ref().or(side.tree.as_ref()) else {
            return Ok(Err(format!("the files of {} are not known", boots.shown())));
        };
        // A line may name the file or the folder that it goes to.
        let mut paths = BTreeSet::new();
        for one in &files {
            let all = one.file.destinations().into_iter().map(|path| path.trim_matches('/').to_owned());
            let all: Vec<String> = all.collect();
            let is_file = |path: &&String| tree.nodes.get(*path).is_some_and(|node| node.kind != "directory");
            let there: Vec<String> = all.iter().filter(is_file).cloned().collect();
            paths.extend(if there.is_empty() { all.last().cloned().into_iter().collect() } else { there });
        }
        let paths = paths.iter().map(String::as_str).collect();
        let all = brought(&files, &paths);
        // Where the store has forgotten it, a new build knows it again.
        Ok(Ok(Unbuilt::of(all, tree, as_synced(&place, store).ok().flatten().as_ref())))
    }

    fn facts(&mut self, build: &Build) -> Result<Rc<Facts>, String> {
        let read = || -> Result<Rc<Facts>, String> {
            let (info, file) = packed(build)?;
            let facts = Facts::of_image(&build.shown(), &file);
            let mut facts = facts.map_err(|error| format!("cannot read `{}`: {error}", file.display()))?;
            (facts.cmdline, facts.memory) = (info.cmdline, info.memory);
            Ok(Rc::new(facts))
        };
        self.facts.entry(build.directory.clone()).or_insert_with(read).clone()
    }

    /// What `sync` would bring of an image, as far as it differs.
    fn means(&mut self, image: &str, difference: &Difference) -> Means {
        let arguments = self.arguments;
        let sources = self.sources.entry(image.to_owned()).or_insert_with(|| sources(arguments, image));
        let differs = differing(difference);
        let files = sources.files.as_ref().map_err(Clone::clone).map(|files| brought(files, &differs));
        Means { files, packages: sources.packages.clone(), contents: BTreeMap::new(), brought: BTreeSet::new() }
    }
}

/// The record of a build, and its packed image.
fn packed(build: &Build) -> Result<(BuildInfo, PathBuf), String> {
    let info =
        BuildInfo::read(&build.directory).ok_or_else(|| format!("the record of {} is damaged", build.shown()))?;
    let file = info.forms().first().map(|form| build.directory.join(form));
    let file = file.ok_or_else(|| format!("{} has no packed image", build.shown()))?;
    Ok((info, file))
}

/// Paths of the second build that are new or differ.
fn differing(difference: &Difference) -> BTreeSet<&str> {
    let files = difference.files.as_ref();
    let added = files.into_iter().flat_map(|files| &files.added).map(|file| file.path.as_str());
    let changed = files.into_iter().flat_map(|files| &files.changed).map(|file| file.path.as_str());
    added.chain(changed).collect()
}

/// Destinations of lines for all nodes among the paths that differ, with digests of what the lines name now.
fn brought(files: &[NodeFile], differs: &BTreeSet<&str>) -> BTreeMap<String, Option<String>> {
    let mut all = BTreeMap::new();
    for one in files {
        for destination in one.file.destinations() {
            let path = destination.trim_matches('/');
            if !differs.contains(path) {
                continue;
            }
            // What is added to a file, or is for some nodes, is not what the image has. The last line counts.
            all.remove(path);
            if one.nodes.is_none() && one.file.clause == Clause::Copy {
                let digest = match one.file.kind {
                    SyncedKind::Directory => None,
                    // What cannot be read is no content that an image has.
                    SyncedKind::File => Some(
                        std::fs::read(&one.file.source)
                            .map_or_else(|error| error.to_string(), |bytes| Digest::of(&bytes).to_string()),
                    ),
                };
                all.insert(path.to_owned(), digest);
            }
        }
    }
    all
}

fn sources(arguments: &crate::Arguments, image: &str) -> Sources {
    let recipe = read_selection(arguments, &[image.to_owned()]).ok();
    let recipe = recipe.and_then(|selected| selected.recipes.into_iter().find(|one| one.model.image.name == image));
    let Some(recipe) = recipe else {
        let why = format!(
            "no recipe without errors is of `{image}`, so `imgbuild sync` brings nothing: `imgbuild check` shows why"
        );
        render::say(&format!("note: {why}"));
        return Sources { files: Err(why.clone()), packages: Err(why) };
    };
    let files = recipe.synced_nodes.read().map(|(files, ..)| files);
    let files = files.map_err(|_| format!("a sync list of `{image}` has errors: `imgbuild check` shows them"));
    Sources { files, packages: packages(&recipe) }
}

/// The packages of a lock that answers its recipe, as `sync` wants it.
fn packages(recipe: &Recipe) -> Result<Packages, String> {
    let (name, shown) = (&recipe.model.image.name, recipe.lock_shown());
    let lock = recipe.lock().map_err(|_| format!("{shown} of `{name}` cannot be read"))?;
    match (&lock, lock_state(recipe, lock.as_ref())) {
        (Some(lock), LockState::Fresh) => Ok(Packages::of_lock(lock)),
        _ => Err(format!("{shown} is missing or out of date with the recipe of `{name}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_build_alters_later_is_told_from_what_changed_since() {
        let tree = |all: &[(&str, &str)]| {
            let root = tempfile::tempdir().unwrap();
            for (path, text) in all {
                std::fs::write(root.path().join(path), text).unwrap();
            }
            Tree::of_directory(root.path()).unwrap()
        };
        let digest = |text: &str| Some(Digest::of(text.as_bytes()).to_string());
        let built = tree(&[("same", "a"), ("edited", "a, edited"), ("changed", "a"), ("both", "a, edited")]);
        let synced = tree(&[("same", "a"), ("edited", "a"), ("changed", "a"), ("both", "a")]);
        let brought: BTreeMap<String, Option<String>> = [
            ("same".to_owned(), digest("a")),
            ("edited".to_owned(), digest("a")),
            ("changed".to_owned(), digest("b")),
            ("both".to_owned(), digest("b")),
            ("folder".to_owned(), None),
            ("new".to_owned(), digest("a")),
        ]
        .into();
        let words = |all: &[&str]| all.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
        let known = Unbuilt::of(brought.clone(), &built, Some(&synced));
        assert_eq!(known, Unbuilt { changed: words(&["both", "changed", "new"]), edited: words(&["edited"]) });
        // Without that tree nothing is taken for an edit.
        let unknown = Unbuilt::of(brought, &built, None);
        assert_eq!(unknown, Unbuilt { changed: words(&["both", "changed", "edited", "new"]), edited: words(&[]) });
    }
}
