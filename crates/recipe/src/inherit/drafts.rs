//! `extends` and `variant`: from a recipe's file to the documents of its images.
//!
//! The files are put in one order, parents before children and each once, however many ways lead to it; then each in turn
//! takes out what its `[remove]` says and is merged over what came before. A variant comes after all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file_fields::check_file;
use super::merge::{Trail, Withdrawn, merge, remove};
use super::relative::{between, plain, rewrite};
use crate::front::open::{document_in, is_allowed, link_out, recipe_file};
use crate::workspace::file::Workspace;
use crate::{Node, Value};
use base::source::{Finding, Share, SourceFile, Span};

/// How many files may stand between a recipe and the last of those that it inherits from.
const DEPTH_LIMIT: usize = 16;

/// Texts that stand in for those of files, by their absolute paths: what an edit would make of them.
pub type Overlay = BTreeMap<PathBuf, String>;

/// One image of a recipe's file, before the model is made of it.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Directory of the recipe, without links.
    pub directory: PathBuf,
    /// Which variant it is; none for the recipe itself.
    pub variant: Option<String>,
    pub document: Node,
    /// Files that it was made from, parents first, its own last.
    pub files: Vec<Arc<SourceFile>>,
    /// Files that it inherits from, by their names, each with the place that says so.
    pub inherits: Vec<(String, Span)>,
    /// Inherited values that do not count.
    pub withdrawn: Vec<Withdrawn>,
    pub findings: Vec<Finding>,
    /// What its values take: each variant has all of its own.
    pub share: Option<Arc<Share>>,
}

impl Draft {
    /// Name of the image and its place, if it has one.
    pub fn name(&self) -> Option<(&str, &Span)> {
        let name = self.document.get("image")?.get("name")?;
        Some((name.text()?, &name.span))
    }
}

/// What is known of a recipe's file and of those that it inherits from.
#[derive(Debug, Clone, Default)]
pub struct Relatives {
    /// The recipe without its variants.
    pub plain: Option<Draft>,
    pub is_image: bool,
    pub variants: Vec<Draft>,
}

impl Relatives {
    /// The images: the variants, and the recipe itself where there are none or it says so.
    pub fn images(self) -> Vec<Draft> {
        let plain = self.plain.filter(|_| self.is_image);
        plain.into_iter().chain(self.variants).collect()
    }
}

/// One file in its place in the order.
#[derive(Debug, Clone)]
struct Piece {
    file: Arc<SourceFile>,
    remove: Option<Node>,
    body: Node,
}

#[derive(Debug, Clone)]
struct VariantPiece {
    file: Arc<SourceFile>,
    table: Node,
}

struct Reading<'a> {
    recipe: PathBuf,
    workspace: Option<&'a Workspace>,
    overlay: &'a Overlay,
    seen: BTreeSet<PathBuf>,
    /// From the recipe to the file that is read now: each file, and the place that names it.
    way: Vec<(PathBuf, Option<Span>)>,
    /// Absolute paths that the files on the way allow.
    allow: Vec<String>,
    inherits: Vec<(String, Span)>,
    pieces: Vec<Piece>,
    variants: Vec<(String, Span, Vec<VariantPiece>)>,
    wants_plain: Option<bool>,
    findings: Vec<Finding>,
    /// How many of them are of keys and values that were left out, so that the rest could be read.
    left_out: usize,
}

/// Reads the recipe of a directory and what it inherits from.
/// Errors: What is wrong with any of the files.
pub fn relatives(
    directory: &Path,
    workspace: Option<&Workspace>,
    overlay: &Overlay,
) -> Result<Relatives, Vec<Finding>> {
    match readable(directory, workspace, overlay) {
        (Some(relatives), findings) if findings.is_empty() => Ok(relatives),
        (_, findings) => Err(findings),
    }
}

/// The same where something is wrong: what is left without unknown keys and values of another type, unless more is wrong than those.
pub(crate) fn readable(
    directory: &Path,
    workspace: Option<&Workspace>,
    overlay: &Overlay,
) -> (Option<Relatives>, Vec<Finding>) {
    let recipe = witness::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    let mut reading = Reading {
        recipe: recipe.clone(),
        workspace,
        overlay,
        seen: BTreeSet::new(),
        way: Vec::new(),
        allow: workspace.map(|workspace| workspace.model.workspace.allow.clone()).unwrap_or_default(),
        inherits: Vec::new(),
        pieces: Vec::new(),
        variants: Vec::new(),
        wants_plain: None,
        findings: Vec::new(),
        left_out: 0,
    };
    let own = recipe_file(&recipe);
    reading.findings.extend(link_out(&own, &recipe, workspace, &reading.allow));
    if reading.findings.is_empty() {
        reading.add(&own, None);
    }
    if reading.findings.len() > reading.left_out {
        return (None, reading.findings);
    }
    let plain = reading.draft(None);
    let mut variants = Vec::new();
    for (name, key, pieces) in std::mem::take(&mut reading.variants) {
        let variant = reading.variant(&name, &key, &pieces);
        if variant.share.is_none() {
            let message = "the values of all variants together need more memory than a command may take";
            let help = "remove variants, or move long lists from the recipe to files";
            return (None, vec![Finding::error("recipe::too_large", &key, message).label("with this one").help(help)]);
        }
        variants.push(variant);
    }
    if reading.findings.len() > reading.left_out {
        return (None, reading.findings);
    }
    let is_image = variants.is_empty() || reading.wants_plain == Some(true);
    (Some(Relatives { plain: Some(plain), is_image, variants }), reading.findings)
}

impl Reading<'_> {
    /// Adds a file after those that it inherits from; not twice.
    fn add(&mut self, path: &Path, named: Option<Span>) {
        if self.seen.contains(path) {
            return;
        }
        let name = between(&self.recipe, path).display().to_string();
        let mut document = match document_in(path, &name, self.overlay.get(path).map(String::as_str)) {
            Ok(document) => document,
            Err(findings) => return self.findings.extend(findings),
        };
        let findings = check_file(&document, named.is_none());
        for finding in findings {
            if finding.code != "recipe::missing_key" {
                finding.span.iter().for_each(|span| document.leave_out(span));
            }
            self.left_out += 1;
            self.findings.push(finding);
        }
        let file = Arc::clone(&document.span.file);
        self.allow.extend(allowed(&document));
        self.way.push((path.to_owned(), named));
        let extends = document.take("extends").map(|(_, node)| node);
        self.parents(extends.as_ref(), path);
        self.way.pop();
        self.seen.insert(path.to_owned());
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let mut remove = document.take("remove").map(|(_, node)| node);
        if let Some(remove) = &mut remove {
            self.forget(remove);
            rewrite(remove, &folder, &self.recipe);
        }
        if let Some((_, Node { value: Value::Boolean(wanted), .. })) = document.take("plain") {
            self.wants_plain = Some(wanted);
        }
        if let Some((_, Node { value: Value::Table(variants), .. })) = document.take("variant") {
            for (name, key, mut table) in variants {
                rewrite(&mut table, &folder, &self.recipe);
                if let Some(Node { value: Value::Table(_), .. }) = table.get("remove") {
                    let (key, mut remove) = table.take("remove").unwrap_or_else(|| (key.clone(), Node::nothing(&key)));
                    rewrite(&mut remove, &folder, &self.recipe);
                    table.put("remove", key, remove);
                }
                let piece = VariantPiece { file: Arc::clone(&file), table };
                match self.variants.iter_mut().find(|(known, _, _)| *known == name) {
                    Some((_, place, pieces)) => {
                        *place = key;
                        pieces.push(piece);
                    }
                    None => self.variants.push((name, key, vec![piece])),
                }
            }
        }
        rewrite(&mut document, &folder, &self.recipe);
        self.pieces.push(Piece { file, remove, body: document });
    }

    /// Takes `variant` and `plain` out of what was inherited so far.
    fn forget(&mut self, remove: &mut Node) {
        if remove.take("plain").is_some() {
            self.wants_plain = None;
        }
        match remove.take("variant") {
            Some((_, Node { value: Value::Table(names), .. })) => {
                for (name, key, _) in names {
                    let before = self.variants.len();
                    self.variants.retain(|(known, _, _)| *known != name);
                    if self.variants.len() == before {
                        self.findings.push(
                            Finding::error("recipe::remove", &key, format!("no variant `{name}` is inherited"))
                                .help("remove the line"),
                        );
                    }
                }
            }
            Some(_) => self.variants.clear(),
            None => {}
        }
    }

    /// Adds the files that a value of `extends` names.
    fn parents(&mut self, extends: Option<&Node>, from: &Path) {
        let Some(extends) = extends else { return };
        let items: Vec<&Node> = match &extends.value {
            Value::Array(items) => items.iter().collect(),
            _ => vec![extends],
        };
        let folder = from.parent().unwrap_or(Path::new("/"));
        for item in items {
            let Some(text) = item.text() else { continue };
            let path = folder.join(text);
            let real =
                if self.overlay.contains_key(&plain(&path)) { Ok(plain(&path)) } else { witness::canonicalize(&path) };
            let real = match real {
                Ok(real) if witness::is_dir(&real) => {
                    let help =
                        format!("name the file in it: \"{}\"", Path::new(text).join(crate::RECIPE_FILE).display());
                    self.complain("recipe::no_file", item, format!("`{text}` is a directory"), help);
                    continue;
                }
                Ok(real) => {
                    if let Some(problem) = witness::not_a_file(&real) {
                        let help = "name a file".to_owned();
                        self.complain("recipe::no_file", item, format!("`{text}` {problem}"), help);
                        continue;
                    }
                    real
                }
                Err(error) => {
                    let problem = match error.kind() {
                        std::io::ErrorKind::NotFound => "no such file".to_owned(),
                        _ => error.to_string(),
                    };
                    let help = "correct the path; it is relative to the file with this line".to_owned();
                    self.complain("recipe::no_file", item, format!("`{text}` cannot be read: {problem}"), help);
                    continue;
                }
            };
            if !self.may_read(&real) {
                let help = format!(
                    "an empty `{}` in a folder above both makes them one workspace; or add: ‹[workspace] allow = [\"{}\"]›",
                    crate::WORKSPACE_FILE,
                    real.display()
                );
                self.complain("recipe::outside", item, format!("`{text}` is outside the workspace"), help);
                continue;
            }
            if let Some(at) = self.way.iter().position(|(known, _)| *known == real) {
                self.complain_of_circle(at, item, text);
            } else if self.way.len() > DEPTH_LIMIT {
                let help = format!("recipes may inherit at most {DEPTH_LIMIT} levels deep");
                self.complain("recipe::too_deep", item, format!("`{text}` is inherited too deeply"), help);
            } else {
                self.inherits.push((between(&self.recipe, &real).display().to_string(), item.span.clone()));
                self.add(&real, Some(item.span.clone()));
            }
        }
    }

    fn complain(&mut self, code: &'static str, item: &Node, message: String, help: String) {
        self.findings.push(Finding::error(code, &item.span, message).label("inherited here").help(help));
    }

    /// The files that inherit from one another, from the one that is named again.
    fn complain_of_circle(&mut self, at: usize, item: &Node, text: &str) {
        let place = |span: &Span| format!("{}:{}", span.file.name, span.line());
        let mut chain: Vec<String> = self.way[at + 1..]
            .iter()
            .filter_map(|(path, span)| Some((path, span.as_ref()?)))
            .map(|(path, span)| format!("{} extends {}", place(span), between(&self.recipe, path).display()))
            .collect();
        let again = between(&self.recipe, &self.way[at].0).display().to_string();
        chain.push(format!("{} extends {again}", place(&item.span)));
        let message = format!("`{text}` creates an inheritance cycle");
        self.complain("recipe::circle", item, message, format!("remove one of these links:\n{}", chain.join("\n")));
    }

    fn may_read(&self, path: &Path) -> bool {
        let root = self.workspace.map_or(self.recipe.as_path(), |workspace| workspace.root.as_path());
        path.starts_with(root) || is_allowed(path, &self.allow)
    }

    /// Merges all pieces so far.
    fn draft(&self, variant: Option<String>) -> Draft {
        let mut trail = Trail::default();
        let own = self.pieces.last().map(|piece| piece.body.span.clone());
        let span = own.unwrap_or_else(|| Span::new(&SourceFile::new("", "", ""), 0..0));
        let mut document = Node::nothing(&span);
        for piece in &self.pieces {
            if let Some(what) = &piece.remove {
                remove(&mut document, what, &mut trail);
            }
            document = merge(document, piece.body.clone(), &mut trail);
        }
        let mut files: Vec<Arc<SourceFile>> = Vec::new();
        for piece in &self.pieces {
            if !files.iter().any(|file| file.path == piece.file.path) {
                files.push(Arc::clone(&piece.file));
            }
        }
        // The recipe's own file last, also where its variant inherits from more.
        if let Some(at) = files.iter().position(|file| file.path == recipe_file(&self.recipe)) {
            let own = files.remove(at);
            files.push(own);
        }
        let Trail { withdrawn, findings } = trail;
        let share = Share::of_values(document.values()).map(Arc::new);
        Draft {
            directory: self.recipe.clone(),
            variant,
            document,
            files,
            inherits: self.inherits.clone(),
            withdrawn,
            findings,
            share,
        }
    }

    /// The draft of a variant: all pieces, then what its files say of it.
    fn variant(&mut self, name: &str, key: &Span, pieces: &[VariantPiece]) -> Draft {
        let before = (self.pieces.clone(), self.seen.clone(), self.inherits.clone());
        let mut names_image = false;
        for piece in pieces {
            let mut table = piece.table.clone();
            let extends = table.take("extends").map(|(_, node)| node);
            self.way = vec![(piece.file.path.clone(), None)];
            self.parents(extends.as_ref(), &piece.file.path);
            self.way.clear();
            if let Some((nested, _, pieces)) = self.variants.pop() {
                let place = pieces.first().map_or(key.clone(), |piece| piece.table.span.clone());
                let message = format!("a variant inherits a variant `{nested}`, which cannot be selected");
                self.findings.push(
                    Finding::error("recipe::variant", &place, message)
                        .help("move the variant to the recipe, or what both need to a file without variants"),
                );
                self.variants.clear();
            }
            names_image |= table.get("image").is_some_and(|image| image.get("name").is_some());
            let remove = table.take("remove").map(|(_, node)| node);
            self.pieces.push(Piece { file: Arc::clone(&piece.file), remove, body: table });
        }
        let mut draft = self.draft(Some(name.to_owned()));
        (self.pieces, self.seen, self.inherits) = before;
        if !names_image && let Some((plain, _)) = draft.name() {
            let text = Node { value: Value::Text(format!("{plain}-{name}")), span: key.clone() };
            if let Value::Table(entries) = &mut draft.document.value
                && let Some((_, _, image)) = entries.iter_mut().find(|(known, _, _)| known == "image")
            {
                image.put("name", key.clone(), text);
            }
        }
        draft
    }
}

/// `[workspace] allow` of one file.
fn allowed(document: &Node) -> Vec<String> {
    match document.get("workspace").and_then(|table| table.get("allow")).map(|node| &node.value) {
        Some(Value::Array(items)) => items.iter().filter_map(Node::text).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}
