//! The workspace: `imgbuild.toml`, which says where the images are and what they have in common.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::front::open::{has_recipe, text_from};
use crate::front::toml;
use crate::inherit::relative::plain;
use crate::load::moved;
use crate::load::paths::escaped;
use crate::workspace::executor::WorkspaceExecutor;
use crate::{Node, Spans, WORKSPACE_FILE, WorkspaceRules, check_against_schema};
use base::source::{Finding, Severity, SourceFile, Span};

/// A workspace: a directory with images that are built together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "imgbuild workspace")]
pub struct WorkspaceModel {
    /// Directories with recipes, from here: paths, or globs (`*` does not cross `/`, `**` does). `!` in front takes
    /// out what earlier ones matched.
    #[serde(default)]
    pub images: Vec<String>,
    /// Where the artefacts of all images go, from here. None: `out` beside each recipe.
    #[serde(default)]
    pub out: Option<String>,
    /// What the recipes may read outside the workspace, besides what each allows itself.
    #[serde(default)]
    pub workspace: WorkspaceRules,
    /// For files that come from an xCAT site.
    #[serde(default)]
    pub xcat: WorkspaceXcat,
    /// What other machines built.
    #[serde(default)]
    pub cache: WorkspaceCache,
    /// Where actions run.
    #[serde(default)]
    pub executor: WorkspaceExecutor,
    /// For the nodes of nodes.toml.
    #[serde(default)]
    pub nodes: WorkspaceNodes,
}

/// For the nodes of nodes.toml.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceNodes {
    /// The directory of what nodes boot and reported, from here: for the server and all commands. None: `.imgbuild/nodes`.
    #[serde(default)]
    pub state: Option<String>,
}

/// What other machines built.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceCache {
    /// Caches, in the order in which they are asked: directories, from here, or http, https, s3, oci, grpc and
    /// grpcs addresses.
    #[serde(default)]
    pub urls: Vec<String>,
    /// Public keys, as `imgbuild cache key` prints them: only what one of them signed is believed. None: what lies in a directory is
    /// believed unless anyone may write there, and servers are refused. `outputs-only`: what no one signed is used too, and a share of it
    /// is built and compared. `unsigned`: all who can write to a cache are believed.
    #[serde(default)]
    pub trust: Vec<String>,
    /// That share, for instance `5%`, which it is unless this says otherwise.
    #[serde(default)]
    pub sample: Option<String>,
    /// How many bytes builds write to caches in each second at most, for instance `20M`.
    #[serde(default)]
    pub rate: Option<String>,
}

/// For files that come from an xCAT site.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceXcat {
    /// Where absolute folders of the xCAT host are found, from here; what a recipe says itself goes before it.
    #[serde(default)]
    pub path_map: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
pub struct Workspace {
    /// Its root, without links.
    pub root: PathBuf,
    pub file: Arc<SourceFile>,
    pub model: WorkspaceModel,
    /// Directories of its images, without links, sorted; each once.
    pub images: Vec<PathBuf>,
    pub findings: Vec<Finding>,
}

static SCHEMA: LazyLock<serde_json::Value> =
    LazyLock::new(|| schemars::SchemaGenerator::default().into_root_schema_for::<WorkspaceModel>().to_value());

/// Largest file of a workspace that is read, in bytes.
const TEXT_LIMIT: u64 = 16 << 20;

/// Directories above which no workspace is looked for.
static ROOTS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// From now on nothing above a directory belongs to recipes in it: it has the files of a revision.
pub fn root_of_all(directory: &Path) {
    let real = witness::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    ROOTS.lock().unwrap_or_else(PoisonError::into_inner).push(real);
}

impl Workspace {
    /// Root of the workspace that a directory lies in: the nearest folder above with `imgbuild.toml`, or itself.
    /// Something of that name that is no file counts: it must be reported, not passed over.
    pub fn root_of(directory: &Path) -> Option<PathBuf> {
        let real = witness::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
        let roots = ROOTS.lock().unwrap_or_else(PoisonError::into_inner);
        let within = roots.iter().find(|root| real.starts_with(root));
        let mut above = real.ancestors().take_while(|folder| within.is_none_or(|root| folder.starts_with(root)));
        above.find(|folder| witness::is_there(&folder.join(WORKSPACE_FILE))).map(Path::to_owned)
    }

    /// Reads the workspace that a directory lies in, if it lies in one.
    /// Errors: What is wrong with its file.
    pub fn above(directory: &Path) -> Result<Option<Self>, Vec<Finding>> {
        Self::root_of(directory).map(|root| Self::read(&root)).transpose()
    }

    fn read(root: &Path) -> Result<Self, Vec<Finding>> {
        let path = root.join(WORKSPACE_FILE);
        if let Some(problem) = witness::not_a_file(&path) {
            let message = match witness::link_target(&path) {
                Some(to) => {
                    let problem = match problem {
                        "is a dangling link" => "does not exist",
                        other => other,
                    };
                    format!("`{}` is a link to `{}`, which {problem}", path.display(), to.display())
                }
                None => format!("`{}` {problem}", path.display()),
            };
            let finding = Finding::nowhere(Severity::Error, "workspace::no_file", message);
            return Err(vec![finding.help("put a file there, or remove it: it marks the root of a workspace")]);
        }
        let bytes = witness::read_at_most(&path, TEXT_LIMIT).map_err(|error| {
            let message = format!("`{}` cannot be read: {error}", path.display());
            vec![Finding::nowhere(Severity::Error, "workspace::unreadable", message)]
        })?;
        let bytes = bytes.ok_or_else(|| {
            let message = format!("`{}` is larger than {} MiB", path.display(), TEXT_LIMIT >> 20);
            let finding = Finding::nowhere(Severity::Error, "workspace::too_large", message);
            vec![finding.help("is it the right file? It marks the root of a workspace")]
        })?;
        let file = text_from(bytes, &path, WORKSPACE_FILE).map_err(|finding| vec![finding])?;
        let (document, mut findings) = toml::read(&file);
        for finding in &mut findings {
            finding.message = finding.message.replacen("the recipe", "the workspace", 1);
        }
        if !findings.is_empty() {
            return Err(findings);
        }
        let findings = check_against_schema(&document, &SCHEMA);
        if !findings.is_empty() {
            return Err(findings);
        }
        let mut model: WorkspaceModel = serde_json::from_value(document.to_json()).map_err(|error| {
            let message = format!("the workspace cannot be parsed: {error}");
            vec![Finding::error("workspace::model", &document.span, message)]
        })?;
        // From here, as all other paths of the file.
        let here = moved::original(root);
        for rule in model.workspace.allow.iter_mut().filter(|rule| !rule.starts_with('/')) {
            *rule = plain(&here.join(&*rule)).display().to_string();
        }
        let mut workspace = Self { root: root.to_owned(), file, model, images: Vec::new(), findings: Vec::new() };
        let mut errors = workspace.find_images(&document);
        errors.extend(workspace.model.executor.problems(&document));
        if errors.is_empty() { Ok(workspace) } else { Err(errors) }
    }

    pub fn out(&self) -> Option<PathBuf> {
        self.model.out.as_ref().map(|out| self.root.join(out))
    }

    fn find_images(&mut self, document: &Node) -> Vec<Finding> {
        let spans = Spans::of(document);
        let mut errors = Vec::new();
        let mut found: Vec<PathBuf> = Vec::new();
        let mut odd: BTreeMap<PathBuf, Span> = BTreeMap::new();
        for (index, text) in self.model.images.iter().enumerate() {
            let span = spans.nearest(&format!("images[{index}]")).unwrap_or(&document.span).clone();
            let (pattern, is_out) = text.strip_prefix('!').map_or((text.as_str(), false), |rest| (rest, true));
            let pattern = pattern.trim_end_matches('/');
            let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
            if let Some(finding) = problem_of(pattern, &span) {
                errors.push(finding);
                continue;
            }
            let matches = expand(&self.root, pattern);
            let is_glob = pattern.contains(['*', '?', '[', '{']);
            if is_out {
                let before = found.len();
                found.retain(|path| !matches.contains(path));
                if found.len() == before {
                    self.findings.push(
                        Finding::warning("workspace::no_match", &span, format!("`{text}` removes nothing"))
                            .label("matches none of the images before it")
                            .help("correct the pattern, put it after the pattern that it removes from, or remove it"),
                    );
                }
                continue;
            }
            let with_recipe: Vec<PathBuf> = matches.iter().filter(|path| has_recipe(path)).cloned().collect();
            if with_recipe.is_empty() {
                let what = match matches.first() {
                    Some(_) => "no directory with a recipe",
                    None => "nothing",
                };
                let finding = if is_glob {
                    Finding::warning("workspace::no_match", &span, format!("`{text}` matches {what}"))
                } else {
                    Finding::error(
                        "workspace::no_match",
                        &span,
                        format!(
                            "`{text}` is {}",
                            match matches.first() {
                                Some(_) => "a directory without a recipe",
                                None => "not a directory",
                            }
                        ),
                    )
                };
                let finding = finding.label("it adds no image").help(
                    "paths are relative to the workspace's root; `imgbuild init NAME` writes a recipe; or remove the pattern",
                );
                if is_glob { self.findings.push(finding) } else { errors.push(finding) }
            }
            for path in with_recipe.iter().filter(|path| below(&self.root, path).to_str().is_none()) {
                odd.entry(path.clone()).or_insert_with(|| span.clone());
            }
            found.extend(with_recipe);
        }
        // Unless a pattern took it out.
        odd.retain(|path, _| found.contains(path));
        errors.extend(odd.iter().map(|(path, span)| odd_name(below(&self.root, path), span)));
        found.sort();
        found.dedup();
        self.images = found;
        errors
    }
}

fn below<'a>(root: &Path, path: &'a Path) -> &'a Path {
    path.strip_prefix(root).unwrap_or(path)
}

/// What is said of a directory whose name no text can hold: no message, lock or plan could name it.
fn odd_name(path: &Path, span: &Span) -> Finding {
    let mut pattern = String::new();
    for letter in path.to_string_lossy().chars() {
        match letter {
            '\u{fffd}' | '\0'..' ' if pattern.ends_with('*') => {}
            '\u{fffd}' | '\0'..' ' => pattern.push('*'),
            letter => pattern.push_str(&globset::escape(letter.encode_utf8(&mut [0; 4]))),
        }
    }
    Finding::error("workspace::name", span, format!("the name of the directory `{}` is not UTF-8", escaped(path)))
        .label("matches it")
        .help(format!("rename the directory, or leave it out with a pattern after this one: \"!{pattern}\""))
}

/// What makes a pattern unusable.
fn problem_of(pattern: &str, span: &Span) -> Option<Finding> {
    if pattern.is_empty() {
        return Some(Finding::error("workspace::pattern", span, "this pattern is empty").help("remove it"));
    }
    if pattern.starts_with('/') || pattern.split('/').any(|part| part == "..") {
        let message = format!("`{pattern}` escapes the workspace");
        return Some(
            Finding::error("workspace::pattern", span, message)
                .label("images are inside the workspace")
                .help("write a path below the workspace's root"),
        );
    }
    for part in pattern.split('/') {
        if let Err(error) = globset::Glob::new(part) {
            let message = format!("`{pattern}` is not a pattern: {}", error.kind());
            return Some(Finding::error("workspace::pattern", span, message).label("here"));
        }
    }
    None
}

/// Directories that are never images, nor hold any.
fn is_passed_over(name: &str) -> bool {
    name.starts_with('.') || name == "out"
}

/// Directories below `root` that a pattern matches, part by part, without links, sorted. `root` has no links in it.
fn expand(root: &Path, pattern: &str) -> Vec<PathBuf> {
    // With each whether it is known to be a directory without links on the way: a thousand are not asked again.
    let mut found = vec![(root.to_owned(), true)];
    for part in pattern.split('/').filter(|part| !part.is_empty() && *part != ".") {
        let mut next = Vec::new();
        for (folder, is_real) in &found {
            if part == "**" {
                let enter = |_: usize, name: &std::ffi::OsStr| !is_passed_over(&name.to_string_lossy());
                let walk = witness::walk().only(&enter).through(folder).into_iter().flatten();
                let directories = walk.filter(|found| found.kind == witness::Kind::Directory);
                next.extend(directories.map(|found| (found.path, *is_real)));
            } else if !part.contains(['*', '?', '[', '{']) {
                let path = folder.join(part);
                let is_real = witness::is_dir(&path) && witness::canonicalize(&path).is_ok_and(|real| real == path);
                next.push((path, is_real));
            } else if let Ok(glob) = globset::Glob::new(part) {
                let matcher = glob.compile_matcher();
                for (name, kind) in witness::list(folder).unwrap_or_default() {
                    if !is_passed_over(&name.to_string_lossy()) && matcher.is_match(&name) {
                        next.push((folder.join(name), *is_real && kind == witness::Kind::Directory));
                    }
                }
            }
        }
        next.sort();
        next.dedup_by(|a, b| a.0 == b.0);
        found = next;
    }
    let real = |(path, is_real): (PathBuf, bool)| match is_real {
        true => Some(path),
        false => Some(path).filter(|path| witness::is_dir(path)).and_then(|path| witness::canonicalize(&path).ok()),
    };
    let mut real: Vec<PathBuf> = found.into_iter().filter_map(real).collect();
    real.retain(|path| path.starts_with(root));
    real.sort();
    real.dedup();
    real
}

/// The schema of `imgbuild.toml`; the committed copy is `schemas/workspace.schema.json`.
pub fn workspace_schema_text() -> String {
    crate::schema_of::<WorkspaceModel>("workspace.schema.json")
}
