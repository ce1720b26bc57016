//! Which images a command is for: all of the workspace, those that patterns name, or the recipe where one stands.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::file::Workspace;
use crate::front::open::has_recipe;
use crate::inherit::drafts::{Draft, Overlay, Relatives, readable};
use crate::load::{Recipe, load_draft};
use base::source::{Finding, Severity, nearest};

#[derive(Debug, Default)]
pub struct Selected {
    pub workspace: Option<Arc<Workspace>>,
    /// The images that can be used, sorted by name.
    pub recipes: Vec<Recipe>,
    /// Those that cannot, by their names, or their directories where not even that is known.
    pub broken: Vec<String>,
    /// What could be read of those: for checks of their other parts alone.
    pub refused: Vec<Recipe>,
    /// What is to be said of all of them; each thing once.
    pub findings: Vec<Finding>,
    /// Whether more than one image was asked for, so that messages must say which they mean.
    pub is_several: bool,
}

/// The drafts of images before one is chosen.
#[derive(Debug, Default)]
pub struct Known {
    pub workspace: Option<Arc<Workspace>>,
    pub recipes: Vec<(PathBuf, Relatives)>,
    /// Directories of those that could not, with the reasons.
    pub broken: Vec<(PathBuf, Vec<Finding>)>,
    /// What is left of some of those without the keys and values that are wrong.
    pub refused: Vec<(PathBuf, Relatives)>,
    pub findings: Vec<Finding>,
}

/// Where a recipe is looked for from a directory: there, and above it as far as the workspace goes.
fn recipe_around(start: &Path, workspace: Option<&Workspace>) -> Option<PathBuf> {
    let root = workspace.map_or(start, |workspace| workspace.root.as_path());
    start
        .ancestors()
        .take_while(|folder| folder.starts_with(root))
        .find(|folder| has_recipe(folder))
        .map(Path::to_owned)
}

pub(crate) type Folders = (Option<Arc<Workspace>>, Vec<PathBuf>);

/// The workspace that a directory lies in, and the directories of the recipes that could be meant from there.
/// Errors: What is wrong with the workspace's file, or that there is no recipe at all.
pub fn folders(start: &Path, wants_all: bool) -> Result<Folders, Vec<Finding>> {
    let start = witness::canonicalize(start).map_err(|error| {
        let message = format!("`{}` cannot be read: {error}", start.display());
        vec![Finding::nowhere(Severity::Error, "recipe::missing", message).help("name a directory with `-C DIR`")]
    })?;
    if witness::is_file(&start) {
        let folder = start.parent().unwrap_or(Path::new("/"));
        let here = std::env::current_dir().ok();
        let folder = here.as_deref().and_then(|here| folder.strip_prefix(here).ok()).unwrap_or(folder);
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let help = format!("name the recipe's directory: -C {}", folder.display());
        let problem = format!("`{}` is a file", start.display());
        return Err(vec![Finding::nowhere(Severity::Error, "recipe::missing", problem).help(help)]);
    }
    let workspace = Workspace::above(&start)?.map(Arc::new);
    let own = recipe_around(&start, workspace.as_deref());
    let all = workspace.as_deref().map(|workspace| workspace.images.as_slice()).unwrap_or_default();
    let is_root = |folder: &PathBuf| workspace.as_deref().is_some_and(|workspace| workspace.root == *folder);
    let own = own.filter(|own| all.is_empty() || !is_root(own));
    let directories = match own {
        Some(own) if !wants_all || all.is_empty() => vec![own],
        _ if !all.is_empty() => all.to_vec(),
        _ => {
            let mut finding = Finding::nowhere(
                Severity::Error,
                "recipe::missing",
                format!(
                    "`{}` has no recipe: neither {} nor {} exists",
                    start.display(),
                    crate::RECIPE_FILE,
                    crate::KDL_RECIPE_FILE
                ),
            );
            finding = finding.help(match &workspace {
                Some(workspace) if workspace.model.images.is_empty() => {
                    "the workspace names no images: write ‹images = [\"images/*\"]› in its imgbuild.toml".to_owned()
                }
                Some(_) => {
                    "no pattern of the workspace's imgbuild.toml matches a recipe: run `imgbuild init NAME`".to_owned()
                }
                None => "run `imgbuild init` to write one, or name the recipe's directory with `-C DIR`".to_owned(),
            });
            let warnings = workspace.as_deref().map(|workspace| workspace.findings.clone()).unwrap_or_default();
            return Err(warnings.into_iter().chain([finding]).collect());
        }
    };
    Ok((workspace, directories))
}

/// Reads the images that could be meant from a directory.
/// Errors: As [`folders`]; that two images have one name.
pub fn known(start: &Path, wants_all: bool, overlay: &Overlay) -> Result<Known, Vec<Finding>> {
    let (workspace, directories) = folders(start, wants_all)?;
    let all = workspace.as_deref().map(|workspace| workspace.images.as_slice()).unwrap_or_default();
    let read: Vec<_> = directories
        .into_par_iter()
        .map(|directory| {
            let read = readable(&directory, workspace.as_deref(), overlay);
            (directory, read)
        })
        .collect();
    let findings = match &workspace {
        Some(workspace) if !all.is_empty() && (wants_all || read.len() > 1) => workspace.findings.clone(),
        _ => Vec::new(),
    };
    let mut known = Known { findings, ..Known::default() };
    for (directory, read) in read {
        match read {
            (Some(read), findings) if findings.is_empty() => known.recipes.push((directory, read)),
            (read, findings) => {
                known.refused.extend(read.map(|read| (directory.clone(), read)));
                known.broken.push((directory, findings));
            }
        }
    }
    known.workspace = workspace;
    known.refuse_two_of_one_name()?;
    Ok(known)
}

impl Known {
    fn shown(&self, directory: &Path) -> String {
        let below = self.workspace.as_deref().and_then(|workspace| directory.strip_prefix(&workspace.root).ok());
        below.filter(|below| !below.as_os_str().is_empty()).unwrap_or(directory).display().to_string()
    }

    /// All images, in the order in which they were read.
    pub fn images(&self) -> impl Iterator<Item = &Draft> {
        self.recipes.iter().flat_map(|(_, relatives)| {
            let plain = relatives.plain.iter().filter(|_| relatives.is_image);
            plain.chain(&relatives.variants)
        })
    }

    fn refuse_two_of_one_name(&self) -> Result<(), Vec<Finding>> {
        let mut first: BTreeMap<&str, &Draft> = BTreeMap::new();
        let mut findings = Vec::new();
        for draft in self.images() {
            let Some((name, span)) = draft.name() else { continue };
            let Some(other) = first.insert(name, draft) else { continue };
            let place = other.name().map(|(_, span)| format!("{}:{}", self.shown(&span.file.path), span.line()));
            findings.push(
                Finding::error("workspace::two_images", span, format!("two images are called `{name}`"))
                    .label("the second one")
                    .help(format!(
                        "the first one is named at {}; rename one of them, or exclude its directory in the workspace's `images`",
                        place.unwrap_or_default()
                    )),
            );
        }
        if findings.is_empty() { Ok(()) } else { Err(findings) }
    }

    /// The images that patterns mean, sorted by name; all without patterns.
    /// Errors: Patterns that mean none, with near names.
    pub fn chosen(&self, patterns: &[String]) -> Result<Vec<&Draft>, Vec<Finding>> {
        let mut all: Vec<(&str, &Draft)> =
            self.images().map(|draft| (draft.name().map(|(name, _)| name).unwrap_or_default(), draft)).collect();
        all.sort_by(|(a, one), (b, other)| a.cmp(b).then(one.directory.cmp(&other.directory)));
        if patterns.is_empty() {
            return Ok(all.into_iter().map(|(_, draft)| draft).collect());
        }
        let mut findings = Vec::new();
        let mut wanted = vec![false; all.len()];
        for pattern in patterns {
            let matcher = match globset::Glob::new(pattern) {
                Ok(glob) => glob.compile_matcher(),
                Err(error) => {
                    let message = format!("`{pattern}` is not a pattern of names: {}", error.kind());
                    findings.push(Finding::nowhere(Severity::Error, "workspace::pattern", message));
                    continue;
                }
            };
            let mut matched = false;
            for (index, (name, draft)) in all.iter().enumerate() {
                // An image without a name is called as its directory: what is wrong with it is said then.
                let nameless = |draft: &Draft| name.is_empty() && self.is_in(draft, pattern);
                if name == pattern || matcher.is_match(name) && !name.is_empty() || nameless(draft) {
                    (wanted[index], matched) = (true, true);
                }
            }
            if !matched && !self.broken.iter().any(|(directory, _)| is_called(directory, pattern)) {
                // It may be an image of a recipe that cannot be read: what is wrong with those comes first.
                findings.extend(self.broken.iter().flat_map(|(_, findings)| findings.iter().cloned()));
                findings.push(self.no_image(pattern, &all));
            }
        }
        if !findings.is_empty() {
            let mut seen = BTreeSet::new();
            findings.retain(|finding| seen.insert((finding.message.clone(), finding.span.clone())));
            return Err(findings);
        }
        Ok(all.into_iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|((_, draft), _)| draft).collect())
    }

    fn is_in(&self, draft: &Draft, pattern: &str) -> bool {
        self.shown(&draft.directory) == pattern.trim_end_matches('/') || is_called(&draft.directory, pattern)
    }

    fn no_image(&self, pattern: &str, all: &[(&str, &Draft)]) -> Finding {
        const SHOWN: usize = 12;
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
        let near = nearest(pattern, names.iter().copied());
        let with_variants = self.recipes.iter().find(|(_, relatives)| {
            !relatives.is_image
                && relatives.plain.as_ref().and_then(|plain| plain.name()).is_some_and(|(name, _)| name == pattern)
        });
        let in_directory = all.iter().find(|(name, draft)| !name.is_empty() && self.is_in(draft, pattern));
        let help = if with_variants.is_some() {
            format!("`{pattern}` is built as its variants only: write '{pattern}-*', or ‹plain = true› in its recipe")
        } else if let Some((name, _)) = in_directory {
            format!("the image of that directory is called `{name}`")
        } else if let Some(near) = near.first() {
            format!("did you mean `{near}`?")
        } else if names.is_empty() {
            "no image can be read".to_owned()
        } else if names.len() > SHOWN {
            format!(
                "there are {} and {} more; `imgbuild list` shows all",
                names[..SHOWN].join(", "),
                names.len() - SHOWN
            )
        } else {
            format!("there {} {}", if names.len() == 1 { "is" } else { "are" }, names.join(", "))
        };
        Finding::nowhere(Severity::Error, "workspace::no_image", format!("no image is called `{pattern}`")).help(help)
    }
}

fn is_called(directory: &Path, pattern: &str) -> bool {
    directory.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
        name == pattern || globset::Glob::new(pattern).is_ok_and(|glob| glob.compile_matcher().is_match(name))
    })
}

impl Selected {
    /// Adds what else is wrong with a recipe whose file has wrong keys or values. Warnings may follow from what was left out of it.
    fn add_refused(&mut self, known: &Known, directory: &Path) {
        for (_, relatives) in known.refused.iter().filter(|(of, _)| of == directory) {
            for draft in relatives.clone().images() {
                let loaded = load_draft(&draft, known.workspace.as_deref());
                let is_own =
                    |finding: &Finding| finding.severity == Severity::Error && finding.code != "recipe::missing_key";
                self.findings.extend(loaded.findings.into_iter().filter(is_own));
                self.refused.extend(loaded.recipe.into_iter().chain(loaded.refused.map(|recipe| *recipe)));
            }
        }
    }
}

/// Reads the images that a command is for.
/// Errors: What is wrong before any image is read whole: the workspace's file, two images of one name, a pattern that means none.
pub fn select(start: &Path, patterns: &[String]) -> Result<Selected, Vec<Finding>> {
    let known = known(start, !patterns.is_empty(), &Overlay::new())?;
    let chosen = known.chosen(patterns)?;
    let mut selected = Selected { workspace: known.workspace.clone(), ..Selected::default() };
    selected.findings.extend(known.findings.iter().cloned());
    for (directory, findings) in &known.broken {
        if patterns.is_empty() || patterns.iter().any(|pattern| is_called(directory, pattern)) {
            selected.broken.push(known.shown(directory));
            selected.findings.extend(findings.iter().cloned());
            selected.add_refused(&known, directory);
        } else {
            let message =
                format!("the recipe in `{}` cannot be read, so its image name is unknown", known.shown(directory));
            let finding = Finding::nowhere(Severity::Warning, "workspace::unreadable_recipe", message);
            selected.findings.push(finding.help(format!("`imgbuild -C {} check` shows why", directory.display())));
        }
    }
    selected.is_several = chosen.len() + selected.broken.len() > 1;
    let loaded: Vec<_> = chosen.par_iter().map(|draft| load_draft(draft, known.workspace.as_deref())).collect();
    for (draft, loaded) in chosen.iter().zip(loaded) {
        selected.findings.extend(loaded.findings);
        match loaded.recipe {
            Some(recipe) => selected.recipes.push(recipe),
            None => selected.broken.push(match draft.name() {
                Some((name, _)) => name.to_owned(),
                None => known.shown(&draft.directory),
            }),
        }
        selected.refused.extend(loaded.refused.map(|recipe| *recipe));
    }
    once(&mut selected.findings);
    Ok(selected)
}

/// Leaves each thing once that is said of one place, however many images inherit it; the worst first.
pub fn once(findings: &mut Vec<Finding>) {
    let mut seen = std::collections::BTreeSet::new();
    findings.retain(|finding| {
        let place = finding.span.as_ref().map(|span| (span.file.path.clone(), span.start, span.end));
        seen.insert((finding.code, finding.message.clone(), place))
    });
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
}
