//! Which files a recipe may read (D26).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::moved;
use crate::front::open::is_allowed;
use crate::inherit::relative::{between, plain};
use crate::owners::{Owners, checkout};
use crate::{Family, Model, Workspace};
use base::source::{Finding, MOST_LINES, SourceFile, Span, too_much};
use xcat::{LoadError, Loader};

/// Largest list or recipe that is read.
const TEXT_LIMIT: u64 = 16 << 20;
/// Bytes of all lists that are read for a recipe.
const MOST_OF_ALL: u64 = 256 << 20;

#[derive(Debug, Clone)]
pub struct Paths {
    pub recipe: PathBuf,
    /// Where relative paths of synclists start: the folder of the file that names the list.
    pub start: PathBuf,
    workspace: PathBuf,
    allow: Vec<String>,
    /// Folders of the xCAT host, and where they are found here.
    map: Vec<(String, PathBuf)>,
    environment: BTreeMap<String, String>,
    pub owners: Arc<Owners>,
    /// In the image: which accounts own its files.
    pub family: Family,
    /// Every file and directory that was asked for by its name, as it was named and without links.
    named: Arc<Mutex<BTreeSet<PathBuf>>>,
    /// Lists that other lists include: by which file, on which line of it.
    included: Arc<Mutex<Included>>,
    /// Whether variables may come from this process: only for looking at one list.
    pub process_variables: bool,
    /// Bytes of lists that were read.
    taken: Arc<AtomicU64>,
}

/// Lists by their names, with the file that includes each and the line of it.
pub(crate) type Included = BTreeMap<String, (String, usize)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathProblem {
    Missing(PathBuf, String),
    /// It lies outside; the text is the line to add.
    Outside(PathBuf, String),
    /// It stands for a content that was not fetched: why, and the command.
    Unfetched(PathBuf, String, String),
}

/// A path as text; what no text can hold is escaped.
pub(crate) fn escaped(path: &Path) -> String {
    let chunks = path.as_os_str().as_encoded_bytes().utf8_chunks();
    chunks.fold(String::new(), |shown, chunk| shown + chunk.valid() + &chunk.invalid().escape_ascii().to_string())
}

/// What is said of a file that a line asks for and whose name no text can hold.
pub(crate) fn name_problem(code: &'static str, path: &Path, span: &Span) -> Finding {
    Finding::error(code, span, format!("the name of `{}` is not UTF-8", escaped(path)))
        .label("requested here")
        .help("rename the file, or choose a pattern that leaves it out")
}

/// What is said of a file or folder that stands for a content that was not fetched.
pub(crate) fn unfetched(name: &str, span: &Span, problem: &str, help: String) -> Finding {
    Finding::error("recipe::unfetched", span, format!("`{name}` has no content: {problem}"))
        .label("named here")
        .help(help)
}

impl Paths {
    /// Rules of a recipe in a directory; without a workspace the directory is one of its own.
    pub fn new(recipe: &Path, model: &Model, workspace: Option<&Workspace>) -> Self {
        let recipe = witness::canonicalize(recipe).unwrap_or_else(|_| recipe.to_owned());
        let mut allow = model.workspace.allow.clone();
        let here = |root: &Path, map: &BTreeMap<String, String>| -> Vec<(String, PathBuf)> {
            let mut map: Vec<_> = map.iter().map(|(from, to)| (from.clone(), root.join(to))).collect();
            // A folder below another one goes before it.
            map.sort_by_key(|(from, _)| std::cmp::Reverse(from.trim_end_matches('/').len()));
            map
        };
        let mut map = here(&recipe, &model.xcat.path_map);
        if let Some(workspace) = workspace {
            allow.extend(workspace.model.workspace.allow.iter().cloned());
            map.extend(here(&workspace.root, &workspace.model.xcat.path_map));
        }
        Self {
            workspace: workspace.map_or(&recipe, |workspace| &workspace.root).clone(),
            start: recipe.clone(),
            owners: Arc::new(Owners::new(&recipe, &model.sync.owner)),
            family: model.image.distro.family(),
            recipe,
            allow,
            map,
            environment: model.environment.clone(),
            named: Arc::default(),
            included: Arc::default(),
            process_variables: false,
            taken: Arc::default(),
        }
    }

    /// Finds the file that a text names, relative to a folder.
    /// Errors: [`PathProblem`] when it is not there, or lies where the recipe may not read.
    pub fn resolve(&self, text: &str, folder: &Path) -> Result<PathBuf, PathProblem> {
        let path = self.mapped(text, folder);
        let unfetched = |path: &Path| {
            let (problem, help) = checkout::without_content(path)?;
            Some(PathProblem::Unfetched(path.to_owned(), problem, help))
        };
        let real = witness::canonicalize(&path).map_err(|error| {
            if let Some(problem) = unfetched(&path) {
                return problem;
            }
            let problem = match error.kind() {
                std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                _ => error.to_string(),
            };
            PathProblem::Missing(moved::original(&path).into_owned(), problem)
        })?;
        if real.starts_with(&self.workspace) || self.is_allowed(&real) || self.is_allowed(&path) {
            if let Some(problem) = unfetched(&real) {
                return Err(problem);
            }
            if let Ok(mut named) = self.named.lock() {
                named.insert(plain(&path));
                named.insert(real.clone());
            }
            return Ok(real);
        }
        let real = moved::original(&real);
        let shown = real.display();
        Err(PathProblem::Outside(
            real.to_path_buf(),
            format!("copy it into the workspace, or add to the recipe: ‹[workspace] allow = [\"{shown}\"]›"),
        ))
    }

    /// The folder in which wildcards are looked up; nothing in it is asked for yet.
    /// Errors: As [`Paths::resolve`].
    pub fn folder(&self, text: &str, folder: &Path) -> Result<PathBuf, PathProblem> {
        let quiet = Self { named: Arc::default(), ..self.clone() };
        quiet.resolve(text, folder)
    }

    /// Every file and directory that was asked for so far.
    pub fn named(&self) -> BTreeSet<PathBuf> {
        self.named.lock().map(|named| named.clone()).unwrap_or_default()
    }

    /// Lists that other lists include.
    pub fn included(&self) -> Included {
        self.included.lock().map(|included| included.clone()).unwrap_or_default()
    }

    /// Where a text says that a file lies, relative to a folder; whether it may be read is another question.
    pub fn mapped(&self, text: &str, folder: &Path) -> PathBuf {
        for (from, to) in &self.map {
            if let Some(rest) = text.strip_prefix(from.trim_end_matches('/'))
                && (rest.is_empty() || rest.starts_with('/'))
            {
                let rest = rest.trim_start_matches('/');
                // A file may be named whole; joined with nothing its path would end in a slash.
                return moved::place(if rest.is_empty() { to.clone() } else { to.join(rest) });
            }
        }
        moved::place(folder.join(text))
    }

    fn is_allowed(&self, path: &Path) -> bool {
        is_allowed(&moved::original(path), &self.allow)
    }

    /// How messages and keys call a file: relative to the recipe where it lies in the workspace.
    pub fn name(&self, path: &Path) -> String {
        if let Ok(inside) = path.strip_prefix(&self.recipe) {
            return inside.display().to_string();
        }
        if path.starts_with(&self.workspace) {
            return between(&self.recipe, path).display().to_string();
        }
        moved::original(path).display().to_string()
    }

    /// Where a file is not UTF-8, if it is not.
    pub fn not_utf8(&self, path: &Path) -> Option<Span> {
        let bytes = witness::read_at_most(path, TEXT_LIMIT).ok()??;
        let at = std::str::from_utf8(&bytes).err()?.valid_up_to();
        let file = SourceFile::new(self.name(path), path, String::from_utf8_lossy(&bytes));
        Some(Span::new(&file, at..at + char::REPLACEMENT_CHARACTER.len_utf8()))
    }

    pub fn read(&self, path: &Path) -> Result<Arc<SourceFile>, String> {
        if witness::exists(path) && !witness::is_file(path) {
            return Err("it is not a regular file".to_owned());
        }
        let bytes = witness::read_at_most(path, TEXT_LIMIT).map_err(|error| error.to_string())?;
        let bytes = bytes.ok_or_else(|| format!("it is larger than {} MiB", TEXT_LIMIT >> 20))?;
        if let Some(problem) = too_much(&bytes, MOST_LINES) {
            return Err(problem);
        }
        // All lists of a recipe together: each may include others.
        let total = self.taken.fetch_add(bytes.len() as u64, Ordering::Relaxed).saturating_add(bytes.len() as u64);
        if total > MOST_OF_ALL {
            return Err(format!("with it the lists are larger than the limit of {} MiB", MOST_OF_ALL >> 20));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            format!("line {line} is not UTF-8; save the file as UTF-8")
        })?;
        if text.contains('\0') {
            return Err("it contains a NUL character, so it is not text".to_owned());
        }
        // A byte order mark says nothing of a UTF-8 file.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned();
        Ok(SourceFile::new(self.name(path), path, text))
    }
}

impl Loader for Paths {
    fn load(&self, path: &str, from: &SourceFile) -> Result<Arc<SourceFile>, LoadError> {
        let folder = from.path.parent().unwrap_or(&self.recipe);
        match self.resolve(path, folder) {
            Ok(real) => {
                let file = self.read(&real).map_err(LoadError::Missing)?;
                let line = from.text.lines().position(|line| line.contains(path)).map_or(1, |at| at + 1);
                if let Ok(mut included) = self.included.lock() {
                    included.entry(file.name.clone()).or_insert_with(|| (from.name.clone(), line));
                }
                Ok(file)
            }
            Err(PathProblem::Missing(path, problem)) => {
                Err(LoadError::Missing(format!("{}: {problem}", path.display())))
            }
            Err(PathProblem::Unfetched(_, problem, help)) => Err(LoadError::Missing(format!("{problem}; {help}"))),
            Err(PathProblem::Outside(_, help)) => Err(LoadError::Refused(help)),
        }
    }

    fn exists(&self, path: &str, from: &SourceFile) -> bool {
        from.path.parent().is_some_and(|folder| witness::is_file(&folder.join(path)))
    }

    fn variable(&self, name: &str) -> Option<String> {
        let of_process = || if self.process_variables { witness::variable(name) } else { None };
        self.environment.get(name).cloned().or_else(of_process)
    }
}
