//! Reads a recipe and all that it names.

pub(crate) mod base_image;
mod captured;
mod checks;
mod device_trees;
mod elsewhere;
mod keys;
pub mod moved;
pub(crate) mod paths;
mod postinstall;
mod postscripts;
mod startable;
mod statelite;

pub use keys::is_authorized_key;
pub use postinstall::{InputKind, Postinstall, Script, ScriptInput, package_of};
pub use postscripts::{NodeScripts, ScriptFile, is_script_name, is_script_path};
pub use statelite::StateliteList;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::paths::{PathProblem, Paths, unfetched};
use self::statelite::{Lists, read_statelite};
use super::convert::{Format, worded};
use super::front::kdl::is_kdl;
use super::front::schema;
use super::inherit::drafts::{Draft, Overlay, relatives};
use super::inherit::merge::Withdrawn;
use super::roles::{RoleFiles, read_role};
use super::tables::kernel::drivers::{Drivers, read_drivers};
use super::tables::kernel::kdump::KdumpFiles;
use super::tables::kernel::kernel_names::lift_kernels;
use super::tables::mounts::{Export, Mount, read_exports, read_fstab};
use super::tables::node_support::{NodeSupport, node_support};
use super::tables::services::{Unit, read_units};
use super::tables::sync::{SyncedNodes, expand, owner};
use super::{Family, LOCK_FILE, Lock, LockError, Model, Node, Spans, SyncedFile, Workspace, check_against_schema};
use base::source::{Finding, Severity, Share, SourceFile, Span};
use xcat::{ExcludeList, Flavor, Item, PackageList, PassList, parse_exlist, parse_pkglist, parse_synclist};

#[derive(Debug, Clone)]
pub struct Recipe {
    pub directory: PathBuf,
    pub in_kdl: bool,
    /// Where its lock is, or would be.
    pub lock_path: PathBuf,
    /// How messages about what is wrong with the lock call it, where that is not its file name: its path from where one stands.
    pub lock_shown: Option<String>,
    /// Which variant of the directory's recipe it is, if it is one.
    pub variant: Option<String>,
    /// Where its artefacts go, unless the command line says it.
    pub out: PathBuf,
    /// Files that it was made from: those that it inherits from, and its own last.
    pub files: Vec<Arc<SourceFile>>,
    pub withdrawn: Vec<Withdrawn>,
    /// Files that it inherits from, each with the place that says so.
    pub inherits: Vec<(String, Span)>,
    /// What its values take of what a command may hold.
    pub share: Option<Arc<Share>>,
    /// Lists that other lists include: by which file, on which line of it.
    pub included: BTreeMap<String, (String, usize)>,
    pub named: BTreeSet<PathBuf>,
    pub model: Model,
    pub spans: Spans,
    /// Packages, pass by pass, kernels taken out.
    pub packages: PackageList,
    pub otherpkgs: PackageList,
    pub otherpkgs_directory: Option<PathBuf>,
    /// A kernel package that a list names, with its place.
    pub kernel_in_list: Option<(String, Span)>,
    pub kernel_files: Drivers,
    /// Playbooks, in order.
    pub roles: Vec<RoleFiles>,
    pub postinstall: Option<Postinstall>,
    pub node_scripts: Option<NodeScripts>,
    pub units: Vec<Unit>,
    pub mounts: Vec<Mount>,
    pub exports: Vec<Export>,
    /// Synced files, in order.
    pub sync: Vec<SyncedFile>,
    pub synced_nodes: SyncedNodes,
    /// xCAT's side of a node.
    pub node_support: Option<NodeSupport>,
    /// Paths of a node that are not the image's.
    pub statelite: Option<StateliteList>,
    pub exclude: ExcludeList,
    /// The packages of the node that it was captured from: name, version, architecture.
    pub captured: Option<Vec<[String; 3]>>,
    /// Files with public keys: path and name.
    pub authorized_keys: Vec<(PathBuf, String)>,
    pub root_password_hash: Option<(PathBuf, String)>,
    pub ca: Vec<(PathBuf, String)>,
    pub kdump: KdumpFiles,
    pub dracut_conf: Vec<(PathBuf, String)>,
    /// Keyrings of the repositories, by their index.
    pub keyrings: Vec<Option<PathBuf>>,
    pub repo_files: Vec<Option<Arc<SourceFile>>>,
}

impl Recipe {
    /// Names of the repositories of which signatures count that can be forged.
    pub fn weak_repositories(&self) -> Vec<String> {
        let weak = self.model.repo.iter().enumerate().filter(|(_, repo)| repo.weak_signatures);
        let name =
            |(index, repo): (usize, &crate::Repo)| repo.file.clone().unwrap_or_else(|| crate::id_of(repo, index));
        weak.map(name).collect()
    }

    pub fn lock_name(&self) -> String {
        self.lock_path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Reads the lock, if it exists.
    /// Errors: [`LockError`]: it cannot be read.
    pub fn lock(&self) -> Result<Option<Lock>, LockError> {
        Lock::read(&self.lock_path, &self.lock_shown())
    }

    /// The lock's path from where one stands, or else its file name.
    pub fn lock_shown(&self) -> String {
        self.lock_shown.clone().unwrap_or_else(|| self.lock_name())
    }
}

/// How keys begin that are written where a file is to be named.
const KEY_STARTS: [&str; 5] = ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-", "-----BEGIN"];

/// What loading gave: a recipe unless there are errors, and everything that is to be said.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    pub recipe: Option<Recipe>,
    /// What could be read of one with errors: nothing is built of it, but its other parts can be checked.
    pub refused: Option<Box<Recipe>>,
    pub findings: Vec<Finding>,
}

fn failed(findings: Vec<Finding>) -> Loaded {
    Loaded { findings, ..Loaded::default() }
}

/// Reads the recipe in a directory; where it has variants only, the first of them.
pub fn load(directory: &Path) -> Loaded {
    let read = Workspace::above(directory).and_then(|workspace| {
        let drafts = relatives(directory, workspace.as_ref(), &Overlay::new())?.images();
        Ok((workspace, drafts))
    });
    match read {
        Ok((workspace, drafts)) => match drafts.first() {
            Some(draft) => load_draft(draft, workspace.as_ref()),
            None => failed(Vec::new()),
        },
        Err(findings) => failed(findings),
    }
}

/// What a recipe lacks although its files were good one by one; said so that its author knows where to write it.
fn incomplete(document: &Node, draft: &Draft) -> Vec<Finding> {
    let findings = check_against_schema(document, &schema::MODEL).into_iter();
    findings
        .map(|finding| match (finding.code, draft.files.len()) {
            ("recipe::missing_key", 2..) => {
                let help = "neither the recipe nor its parents set it; add it to one of them".to_owned();
                finding.help(help)
            }
            ("recipe::missing_key", _) if draft.directory.ancestors().any(|up| witness::exists(&up.join(super::WORKSPACE_FILE))) => {
                let help = finding.help.clone().unwrap_or_default();
                finding.help(format!(
                    "{help}; if others only inherit from it, exclude its directory in the workspace's `images` with a leading `!`"
                ))
            }
            _ => finding,
        })
        .collect()
}

pub fn load_draft(draft: &Draft, workspace: Option<&Workspace>) -> Loaded {
    let mut loaded = read_draft(draft, workspace);
    if is_kdl(&draft.document.span.file.name) {
        let in_toml = |finding: &Finding| finding.span.as_ref().is_some_and(|span| span.file.name.ends_with(".toml"));
        for finding in loaded.findings.iter_mut().filter(|finding| !in_toml(finding)) {
            *finding = worded(finding, Format::Kdl);
        }
    }
    loaded
}

fn read_draft(draft: &Draft, workspace: Option<&Workspace>) -> Loaded {
    let document = &draft.document;
    let mut findings = incomplete(document, draft);
    if !findings.is_empty() {
        findings.extend(draft.findings.iter().cloned());
        return failed(findings);
    }
    let model: Model = match serde_json::from_value(document.to_json()) {
        Ok(model) => model,
        Err(error) => {
            return failed(vec![Finding::error(
                "recipe::model",
                &document.span,
                format!("the recipe cannot be parsed: {error}"),
            )]);
        }
    };
    let paths = Paths::new(&draft.directory, &model, workspace);
    let (spans, whole) = (Spans::of(document), document.span.clone());
    let out = workspace.and_then(Workspace::out).unwrap_or_else(|| paths.recipe.join("out"));
    findings.extend(draft.findings.iter().cloned());
    Reader { draft, out, paths, spans, model, findings, whole }.read()
}

struct Reader<'a> {
    draft: &'a Draft,
    out: PathBuf,
    paths: Paths,
    spans: Spans,
    model: Model,
    findings: Vec<Finding>,
    whole: Span,
}

impl Reader<'_> {
    fn span(&self, path: &str) -> Span {
        self.spans.nearest(path).unwrap_or(&self.whole).clone()
    }

    /// Finds a file that the recipe names at a path of the model.
    fn file(&mut self, at: &str, name: &str) -> Option<PathBuf> {
        let span = self.span(at);
        match self.paths.resolve(name, &self.paths.recipe.clone()) {
            Ok(path) => return Some(path),
            Err(_) if KEY_STARTS.iter().any(|start| name.starts_with(start)) => self.findings.push(
                Finding::error("recipe::no_file", &span, "this is a key itself, not the name of a file")
                    .label("written here")
                    .help("write it to a file next to the recipe, for instance keys/admin.pub, and name that file"),
            ),
            Err(PathProblem::Missing(_, problem)) => self.findings.push(
                Finding::error("recipe::no_file", &span, format!("`{name}` cannot be read: {problem}"))
                    .label("named here")
                    .help("create it, or correct the path; paths are relative to the recipe's directory"),
            ),
            Err(PathProblem::Unfetched(_, problem, help)) => {
                self.findings.push(unfetched(name, &span, &problem, help));
            }
            Err(PathProblem::Outside(_, help)) => self.findings.push(
                Finding::error("recipe::outside", &span, format!("`{name}` is outside the workspace"))
                    .label("named here")
                    .help(help),
            ),
        }
        None
    }

    fn texts(&mut self, table: &str, names: &[String]) -> Vec<Arc<SourceFile>> {
        let mut files = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let at = format!("{table}[{index}]");
            let Some(path) = self.file(&at, name) else { continue };
            files.extend(self.read_text(&at, name, &path));
        }
        files
    }

    fn read_text(&mut self, at: &str, name: &str, path: &Path) -> Option<Arc<SourceFile>> {
        match self.paths.read(path) {
            Ok(file) => Some(file),
            Err(_) if self.paths.not_utf8(path).is_some() => {
                let span = self.paths.not_utf8(path).unwrap_or_else(|| self.span(at));
                let help = format!("save the file as UTF-8: iconv -f latin1 -t utf-8 {name}");
                self.findings
                    .push(Finding::error("list::not_utf8", &span, "this is not UTF-8").label("here").help(help));
                None
            }
            Err(problem) => {
                let span = self.span(at);
                self.findings.push(
                    Finding::error("recipe::no_file", &span, format!("`{name}` cannot be read: {problem}"))
                        .label("named here"),
                );
                None
            }
        }
    }

    /// The folder of the file that says something: its own or that of one that it inherits from.
    fn folder(&self, at: &str) -> PathBuf {
        let span = self.spans.nearest(at).unwrap_or(&self.whole);
        match span.file.path.parent() {
            Some(folder) if folder.is_absolute() => folder.to_owned(),
            _ => self.paths.recipe.clone(),
        }
    }

    fn files(&mut self, table: &str, names: &[String]) -> Vec<(PathBuf, String)> {
        let mut files = Vec::new();
        for (index, name) in names.iter().enumerate() {
            if let Some(path) = self.file(&format!("{table}[{index}]"), name) {
                files.push((path.clone(), self.paths.name(&path)));
            }
        }
        files
    }

    fn read(mut self) -> Loaded {
        let model = self.model.clone();
        let (packages, kernel_in_list) = self.packages(&model);
        let (otherpkgs, otherpkgs_directory) = self.other_packages(&model);
        let (sync, synced_nodes) = self.sync_entries(&model);

        let spans = &self.spans;
        let place = |path: &str| spans.nearest(path).unwrap_or(&self.whole).clone();
        let node_support = node_support(&model, &place, &self.paths, &mut self.findings);

        let kernel_files = read_drivers(&model, &place, &self.paths, &mut self.findings);

        let lists = self.texts("exclude.lists", &model.exclude.lists);
        let mut exclude = parse_exlist(&lists, &self.paths);
        self.findings.append(&mut exclude.findings);

        let roles = self.roles(&model);
        let postinstall = model.postinstall.as_ref().and_then(|table| self.postinstall(table));
        let node_scripts = model.node.as_ref().map(|table| self.node_scripts(table));
        let authorized_keys = self.files("system.authorized_keys", &model.system.authorized_keys);
        let root_password_hash = model.system.root_password_hash_file.as_ref().and_then(|name| {
            let path = self.file("system.root_password_hash_file", name)?;
            let name = self.paths.name(&path);
            Some((path, name))
        });
        self.check_login(&authorized_keys, root_password_hash.as_ref());
        let ca = self.files("initrd.ca", &model.initrd.ca);
        let kdump = self.kdump_files();
        self.findings.extend(super::tables::kernel::kdump::check(&self.model, &kdump, &self.spans, &self.whole));
        self.findings.extend(super::tables::publish::check(&self.model, &self.spans, &self.whole));
        let captured = self.captured(model.capture.packages.as_ref());
        let dracut_conf = self.files("initrd.dracut_conf", &model.initrd.dracut_conf);
        let (keyrings, repo_files) = self.repositories(&model);
        self.findings.extend(super::tables::repositories::check_all(&model, &self.whole));
        self.findings.extend(super::model::releases::check_release(&model, self.spans.get("image.release")));
        self.check_base_image();
        self.check_pack();
        self.check_boot();
        self.findings.extend(super::tables::accounts::check(&self.model, &self.spans, &self.whole));
        self.check_drivers();
        self.refuse_others_words_in_fields();
        self.check_release();
        self.check_device_trees();
        self.check_environment();
        self.findings.extend(super::tables::kernel::dracut::check(&self.model, &self.spans, &self.whole));
        let lists = self.statelite_lists(&model);
        let (spans, whole) = (&self.spans, &self.whole);
        let span = |path: &str| spans.nearest(path).unwrap_or(whole).clone();
        let units = read_units(&model.services, &span, &mut self.findings);
        let mounts = read_fstab(&model, &span, &mut self.findings);
        let exports = read_exports(&model.system.exports, &span, &mut self.findings);
        let statelite = read_statelite(&model, &lists, &span, &mut self.findings);

        let has_errors = self.findings.iter().any(|finding| finding.severity == Severity::Error);
        let recipe = Recipe {
            directory: self.paths.recipe.clone(),
            in_kdl: is_kdl(&self.whole.file.name),
            lock_path: self.paths.recipe.join(match &self.draft.variant {
                Some(variant) => format!("image.{variant}.lock"),
                None => LOCK_FILE.to_owned(),
            }),
            lock_shown: None,
            variant: self.draft.variant.clone(),
            out: self.out,
            files: self.draft.files.clone(),
            withdrawn: self.draft.withdrawn.clone(),
            inherits: self.draft.inherits.clone(),
            share: self.draft.share.clone(),
            included: self.paths.included(),
            named: self.paths.named(),
            model,
            spans: self.spans,
            packages,
            otherpkgs,
            otherpkgs_directory,
            kernel_in_list,
            kernel_files,
            roles,
            postinstall,
            node_scripts,
            units,
            mounts,
            exports,
            sync,
            synced_nodes,
            node_support,
            statelite,
            exclude,
            captured,
            authorized_keys,
            root_password_hash,
            ca,
            kdump,
            dracut_conf,
            keyrings,
            repo_files,
        };
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        match has_errors {
            true => Loaded { refused: Some(Box::new(recipe)), findings: self.findings, recipe: None },
            false => Loaded { recipe: Some(recipe), findings: self.findings, refused: None },
        }
    }

    /// The packages of the image, and the kernel that a list names.
    fn packages(&mut self, model: &Model) -> (PackageList, Option<(String, Span)>) {
        let lists = self.texts("packages.lists", &model.packages.lists);
        let flavor = match model.image.distro.family() {
            Family::Debian => Flavor::DebianPackages,
            Family::RedHat | Family::Suse => Flavor::Packages,
        };
        let mut packages = parse_pkglist(&lists, flavor, &self.paths);
        self.inline("packages.install", &model.packages.install, &mut packages, flavor);
        self.refuse_others_words(&mut packages);
        let kernel_in_list = lift_kernels(model.image.distro, &mut packages);
        self.findings.append(&mut packages.findings);
        self.check_kernel(kernel_in_list.as_ref());
        (packages, kernel_in_list)
    }

    fn other_packages(&mut self, model: &Model) -> (PackageList, Option<PathBuf>) {
        let Some(table) = &model.otherpkgs else { return (PackageList::default(), None) };
        let directory = self.file("otherpkgs.dir", &table.dir);
        let lists = self.texts("otherpkgs.lists", &table.lists);
        let mut packages = parse_pkglist(&lists, Flavor::OtherPackages, &self.paths);
        self.inline("otherpkgs.install", &table.install, &mut packages, Flavor::OtherPackages);
        self.refuse_others_words(&mut packages);
        self.findings.append(&mut packages.findings);
        self.check_other_packages(&table.dir, directory.as_deref());
        (packages, directory)
    }

    fn roles(&mut self, model: &Model) -> Vec<RoleFiles> {
        let mut all: Vec<RoleFiles> = Vec::new();
        for (index, role) in model.role.iter().enumerate() {
            let at = format!("role[{index}]");
            let playbook = self.file(&format!("{at}.ansible"), &role.ansible);
            let vars_files = self.files(&format!("{at}.vars_files"), &role.vars_files);
            let Some(playbook) = playbook else { continue };
            let (spans, whole) = (&self.spans, &self.whole);
            let place = |path: &str| spans.nearest(path).unwrap_or(whole).clone();
            let read = read_role((index, role), (&playbook, &vars_files), &place, &self.paths, &mut self.findings);
            if let Some(other) = all.iter().find(|other| other.name == read.name) {
                let span = self.span(&format!("{at}.ansible"));
                let message =
                    format!("two roles have the name `{}`: {} and {}", read.name, other.playbook, read.playbook);
                let finding = Finding::error("role::same_name", &span, message).label("named here");
                self.findings.push(finding.help("rename one of the playbooks: a role is called by its file"));
                continue;
            }
            all.push(read);
        }
        all
    }

    fn kdump_files(&mut self) -> KdumpFiles {
        let Some(table) = self.model.kdump.clone() else { return KdumpFiles::default() };
        let mut named = |at: &str, name: Option<String>| {
            let path = self.file(at, &name?)?;
            let name = self.paths.name(&path);
            Some((path, name))
        };
        KdumpFiles {
            key: named("kdump.ssh_key", table.ssh_key),
            known_hosts: named("kdump.known_hosts", table.known_hosts),
        }
    }

    fn statelite_lists(&mut self, model: &Model) -> Lists {
        let Some(table) = &model.statelite else { return Lists::default() };
        Lists {
            files: self.texts("statelite.litefile", &table.litefile),
            trees: self.texts("statelite.litetree", &table.litetree),
            states: self.texts("statelite.statelite", &table.statelite),
        }
    }

    fn sync_entries(&mut self, model: &Model) -> (Vec<SyncedFile>, SyncedNodes) {
        let (mut sync, mut of_nodes) = (Vec::new(), SyncedNodes::new(&self.paths));
        for (index, name) in model.sync.lists.iter().enumerate() {
            let at = format!("sync.lists[{index}]");
            let Some(path) = self.file(&at, name) else { continue };
            let start = self.folder(&at);
            let Some(file) = self.read_text(&at, name, &path) else { continue };
            let list = parse_synclist(&file, &|name| model.environment.get(name).cloned());
            of_nodes.add(&list, &start);
            self.findings.extend(list.findings);
            let mut paths = self.paths.clone();
            paths.start = start;
            for entry in &list.entries {
                sync.extend(expand(entry, &paths, &mut self.findings));
            }
        }
        self.findings.extend(owner::check(&model.sync.owner, (&sync, &of_nodes), &self.spans, &self.whole));
        (sync, of_nodes)
    }

    fn repositories(&mut self, model: &Model) -> (Vec<Option<PathBuf>>, Vec<Option<Arc<SourceFile>>>) {
        let (mut keyrings, mut files) = (Vec::new(), Vec::new());
        for (index, repo) in model.repo.iter().enumerate() {
            let at = format!("repo[{index}]");
            let span = self.span(&at);
            self.findings.extend(super::tables::repositories::check(repo, &model.image, &span));
            keyrings.push(repo.signed_by.as_ref().and_then(|name| self.keys(&format!("{at}.signed-by"), name)));
            files.push(match &repo.file {
                Some(name) => self.texts(&format!("{at}.file"), std::slice::from_ref(name)).pop(),
                None => None,
            });
        }
        (keyrings, files)
    }

    /// Packages named in the recipe itself; read by the lists' own rules.
    fn inline(&mut self, table: &str, names: &[String], list: &mut PackageList, flavor: Flavor) {
        for (index, name) in names.iter().enumerate() {
            let span = self.span(&format!("{table}[{index}]"));
            let text = SourceFile::new(&*span.file.name, &span.file.path, name.as_str());
            let one = parse_pkglist(&[text], flavor, &self.paths);
            for mut finding in one.findings {
                finding.span = Some(span.clone());
                list.findings.push(finding);
            }
            if list.passes.is_empty() {
                list.passes.push(PassList::default());
            }
            for pass in one.passes {
                let place = |items: Vec<Item>| {
                    items.into_iter().map(|item| Item { span: span.clone(), ..item }).collect::<Vec<_>>()
                };
                let first = &mut list.passes[0];
                for (to, from) in [
                    (&mut first.install, place(pass.install)),
                    (&mut first.remove_before, place(pass.remove_before)),
                    (&mut first.remove_after, place(pass.remove_after)),
                ] {
                    for item in from {
                        if !to.iter().any(|known| known.name == item.name) {
                            to.push(item);
                        }
                    }
                }
            }
        }
    }
}

/// Reads one list by itself, as `check --as` does: what it includes is found from its own folder, variables come from
/// the recipe in `recipe`, if there is one that can be read, and from this process.
/// Errors: A text that says why the file cannot be read.
pub fn read_list(path: &Path, recipe: &Path) -> Result<(Arc<SourceFile>, impl xcat::Loader + use<>), String> {
    let minimal = "{\"image\":{\"name\":\"list\",\"release\":\"none\"}}";
    let mut model: Model = serde_json::from_str(minimal).map_err(|error| error.to_string())?;
    let mut folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let workspace = Workspace::above(recipe).ok().flatten();
    let of_recipe = relatives(recipe, workspace.as_ref(), &Overlay::new()).ok().and_then(|relatives| {
        let drafts = relatives.images();
        serde_json::from_value::<Model>(drafts.first()?.document.to_json()).ok()
    });
    if let Some(found) = of_recipe {
        model = found;
        folder = recipe;
    }
    model.workspace.allow = vec!["/**".to_owned()];
    let mut paths = Paths::new(folder, &model, workspace.as_ref());
    paths.process_variables = true;
    let file = paths.read(path)?;
    Ok((SourceFile::new(path.display().to_string(), path, file.text.clone()), paths))
}
