//! `imgbuild check`: checks recipes and lists.

use clap::ValueEnum;
use serde_json::json;

use crate::Exit;
use crate::output::documents::{CheckDocument, CheckedImage, ReportedFinding};
use crate::output::render;
use crate::setup::{name_from, print_findings, read_selection};
use crate::verbs::nodes::{checked as checked_nodes, root_of};
use base::source::{Finding, Severity, Span};
use build::check_repositories;
use nodes::nodes_file;
use recipe::{Recipe, Selected, once, read_list};
use xcat::{Flavor, Item, Loader, parse_exlist, parse_pkglist, parse_synclist};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Show how a list of this kind is read
    #[arg(long = "as", value_name = "KIND")]
    pub kind: Option<ListKind>,
    /// Images, by name or glob [default: the recipe in the current directory, or all in the workspace]; with
    /// --as, the list
    #[arg(value_name = "IMAGE|FILE", required_if_eq_any([("kind", "pkglist"), ("kind", "otherpkgs"), ("kind", "exlist"), ("kind", "synclist")]))]
    pub names: Vec<String>,
    /// Also query the repositories: whether they answer, have what is requested, and have valid signatures
    #[arg(long, conflicts_with = "kind")]
    pub online: bool,
    /// With --online, the mirror to use instead of the recipe's `source = "host"` or "distribution"
    #[arg(long, value_name = "URL", env = "IMGBUILD_MIRROR")]
    pub mirror: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Kinds of lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListKind {
    /// Packages of the distribution
    Pkglist,
    /// Other packages
    Otherpkgs,
    /// Files to leave out of the packed image
    Exlist,
    /// Files to copy into the image
    Synclist,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Exit {
    if let (Some(kind), Some(file)) = (own.kind, own.names.first()) {
        if own.names.len() > 1 {
            render::say("error: `check --as` takes one list");
            return Exit::Usage;
        }
        return check_list(arguments, own, kind, std::path::Path::new(file));
    }
    let selected = checked(arguments, &own.names, (own.mirror.as_deref(), own.online), true);
    let selected = if own.names.is_empty() { with_nodes(arguments, selected) } else { selected };
    let selected = selected.map(|selected| with_nodes_of_lists(arguments, selected));
    let (findings, good, broken, is_several) = match &selected {
        Ok(selected) => {
            let good = selected.recipes.iter().map(|recipe| recipe.model.image.name.as_str()).collect();
            (&selected.findings, good, selected.broken.clone(), selected.is_several)
        }
        Err(findings) => (findings, Vec::new(), Vec::new(), false),
    };
    let is_good = selected.as_ref().is_ok_and(|selected| selected.broken.is_empty());
    if own.json {
        let mut images: Vec<CheckedImage> =
            good.iter().map(|name| CheckedImage { name: (*name).to_owned(), good: true }).collect();
        images.extend(broken.iter().map(|name| CheckedImage { name: name.clone(), good: false }));
        images.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let findings = findings.iter().map(ReportedFinding::from).collect();
        let document = json!(CheckDocument { format_version: "1.0".to_owned(), images: Some(images), findings });
        render::print_json(&format!("{document:#}\n"));
    } else {
        print_findings(findings, arguments.verbose);
        let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
        let (errors, warnings, notes) = (count(Severity::Error), count(Severity::Warning), count(Severity::Note));
        let s = if errors == 1 { "" } else { "s" };
        let others = format!(
            "{}, {}",
            render::counted_as(warnings, "warning", "warnings"),
            render::counted_as(notes, "note", "notes")
        );
        render::say(&match (is_good, is_several) {
            (true, false) => format!("the recipe is good ({others})"),
            (true, true) => format!("{} images are good ({others})", good.len()),
            (false, true) => format!(
                "{errors} error{s}: {} cannot be built, {} can",
                broken.join(", "),
                match good.len() {
                    0 => "none".to_owned(),
                    _ => good.join(", "),
                }
            ),
            (false, false) => format!("the recipe has {errors} error{s}"),
        });
    }
    if is_good { Exit::Done } else { Exit::Input }
}

/// The same with what `sync` would refuse: nodes that lists name, sources of lines for some nodes, scripts; where there are nodes.
fn with_nodes_of_lists(arguments: &crate::Arguments, mut selected: Selected) -> Selected {
    if let Ok(Some(nodes)) = checked_nodes(&root_of(&arguments.directory)) {
        look_at_each(&mut selected, &|recipe, _| sync::refused(&nodes, recipe));
    }
    selected
}

/// Looks at each image, also at what could be read of broken ones, so that all that is wrong is reported at once; images of which an error
/// is reported are broken too. The list of errors that a broken one has is empty for others.
fn look_at_each(selected: &mut Selected, look: &dyn Fn(&Recipe, &[Finding]) -> Vec<Finding>) {
    let mut more = Vec::new();
    for recipe in &selected.refused {
        more.extend(look(recipe, &selected.findings));
    }
    for recipe in std::mem::take(&mut selected.recipes) {
        let found = look(&recipe, &[]);
        match found.iter().any(|finding| finding.severity == Severity::Error) {
            true => {
                selected.broken.push(recipe.model.image.name.clone());
                selected.refused.push(recipe);
            }
            false => selected.recipes.push(recipe),
        }
        more.extend(found);
    }
    if more.is_empty() {
        return;
    }
    if let Some(workspace) = selected.workspace.as_deref().filter(|_| selected.is_several) {
        name_from(&workspace.root, &mut more);
    }
    selected.findings.extend(more);
    // Images of a workspace may name the same file.
    once(&mut selected.findings);
    selected.broken.sort_unstable();
}

/// The same with what is to be said of the nodes, where there are some and all of the workspace is checked. Nodes that are wrong
/// count as an image that is.
fn with_nodes(
    arguments: &crate::Arguments,
    selected: Result<Selected, Vec<Finding>>,
) -> Result<Selected, Vec<Finding>> {
    let root = root_of(&arguments.directory);
    let is_root = arguments.directory.canonicalize().is_ok_and(|here| here == root);
    let mut selected = selected?;
    if is_root {
        match checked_nodes(&root) {
            Ok(nodes) => selected.findings.extend(nodes.map(|nodes| nodes.findings).unwrap_or_default()),
            Err(findings) => {
                selected.findings.extend(findings);
                selected
                    .broken
                    .extend(nodes_file(&root).and_then(|path| Some(path.file_name()?.display().to_string())));
            }
        }
    }
    Ok(selected)
}

/// Reads images and all that they name; those that cannot be built are broken. With `packages` also what is wrong with packages.
/// Errors: What stands in the way of knowing their names.
pub(crate) fn checked(
    arguments: &crate::Arguments,
    names: &[String],
    (mirror, online): (Option<&str>, bool),
    packages: bool,
) -> Result<Selected, Vec<Finding>> {
    let mut selected = read_selection(arguments, names)?;
    look_at_each(&mut selected, &|recipe, _| {
        let lock = recipe.lock();
        lock.err().map(|error| error.finding(&recipe.lock_shown(), &recipe.lock_path)).into_iter().collect()
    });
    look_at_each(&mut selected, &|recipe, known| {
        // What is wrong with a repository's table is known: it is not asked for.
        let is_of_repo = |finding: &&Finding| {
            let path = finding.span.as_ref().and_then(|span| recipe.spans.path_of(span));
            path.is_some_and(|path| path.starts_with("repo"))
        };
        let errors = known.iter().filter(|finding| finding.severity == Severity::Error);
        if errors.filter(is_of_repo).count() > 0 {
            Vec::new()
        } else {
            check_repositories(recipe, mirror, online, packages)
        }
    });
    Ok(selected)
}

fn finding_json(finding: &Finding) -> serde_json::Value {
    serde_json::to_value(ReportedFinding::from(finding)).unwrap_or_default()
}

fn at(span: &Span) -> serde_json::Value {
    json!({"file": span.file.name, "line": span.line()})
}

fn check_list(arguments: &crate::Arguments, own: &Arguments, kind: ListKind, file: &std::path::Path) -> Exit {
    let (source, loader) = match read_list(file, &arguments.directory) {
        Ok(read) => read,
        Err(problem) => {
            let finding = Finding::nowhere(
                Severity::Error,
                "list::unreadable",
                format!("`{}` cannot be read: {problem}", file.display()),
            );
            if own.json {
                render::print_json(&format!(
                    "{:#}\n",
                    json!({"format_version": "1.0", "findings": [finding_json(&finding)]})
                ));
            }
            print_findings(&[finding], arguments.verbose);
            return Exit::Input;
        }
    };
    let (mut document, text, findings) = match kind {
        ListKind::Pkglist | ListKind::Otherpkgs => {
            let flavor = if kind == ListKind::Pkglist { Flavor::Packages } else { Flavor::OtherPackages };
            let list = parse_pkglist(&[source], flavor, &loader);
            let item = |item: &Item| {
                let mut value = json!({"name": item.name, "at": at(&item.span)});
                if let Some(folder) = &item.subdirectory {
                    value["subdir"] = folder.clone().into();
                }
                value
            };
            let items = |items: &[Item]| items.iter().map(item).collect::<Vec<_>>();
            let mut text = String::new();
            let mut passes = Vec::new();
            for (number, pass) in list.passes.iter().enumerate() {
                let environment: Vec<_> = pass
                    .environment
                    .iter()
                    .map(|one| json!({"name": one.name, "value": one.value, "at": at(&one.span)}))
                    .collect();
                passes.push(json!({"install": items(&pass.install), "remove_before": items(&pass.remove_before), "remove_after": items(&pass.remove_after), "environment": environment}));
                text.push_str(&format!("pass {}\n", number + 1));
                for one in &pass.environment {
                    text.push_str(&format!("  with     {}={}\n", one.name, one.value));
                }
                for (word, list) in
                    [("remove", &pass.remove_before), ("install", &pass.install), ("remove after", &pass.remove_after)]
                {
                    for one in list {
                        let folder =
                            one.subdirectory.as_ref().map(|folder| format!(" from {folder}")).unwrap_or_default();
                        text.push_str(&format!("  {word:<8} {}{folder}\n", one.name));
                    }
                }
            }
            (json!({"passes": passes}), text, list.findings)
        }
        ListKind::Exlist => {
            let list = parse_exlist(&[source], &loader);
            let mut text = String::new();
            for (word, patterns) in [("exclude", &list.exclude), ("include", &list.include)] {
                for pattern in patterns {
                    text.push_str(&format!("{word} {}\n", pattern.text));
                }
            }
            let patterns = |list: &[xcat::Pattern]| {
                list.iter().map(|one| json!({"pattern": one.text, "at": at(&one.span)})).collect::<Vec<_>>()
            };
            (json!({"exclude": patterns(&list.exclude), "include": patterns(&list.include)}), text, list.findings)
        }
        ListKind::Synclist => {
            let list = parse_synclist(&source, &|name| loader.variable(name));
            let mut text = String::new();
            let mut entries = Vec::new();
            for entry in &list.entries {
                let clause = match entry.clause {
                    xcat::Clause::Copy => "copy",
                    xcat::Clause::Append => "append",
                    xcat::Clause::Merge => "merge",
                };
                entries.push(json!({"clause": clause, "sources": entry.sources, "destination": entry.destination, "folder": entry.folder, "at": at(&entry.span)}));
                let into = if entry.folder { " (folder)" } else { "" };
                text.push_str(&format!("{clause} {} -> {}{into}\n", entry.sources.join(" "), entry.destination));
            }
            let nodes: Vec<_> = list.for_nodes.iter().map(|(nodes, entry)| json!({"nodes": nodes, "sources": entry.sources, "destination": entry.destination, "at": at(&entry.span)})).collect();
            let scripts: Vec<_> = list
                .scripts
                .iter()
                .map(|script| json!({"path": script.path, "always": script.always, "at": at(&script.span)}))
                .collect();
            (json!({"entries": entries, "for_nodes": nodes, "scripts": scripts}), text, list.findings)
        }
    };
    let failed = findings.iter().any(|finding| finding.severity == Severity::Error);
    if own.json {
        document["format_version"] = "1.0".into();
        document["findings"] = findings.iter().map(finding_json).collect();
        render::print_json(&format!("{document:#}\n"));
    } else {
        render::print(&text);
        print_findings(&findings, arguments.verbose);
    }
    if failed { Exit::Input } else { Exit::Done }
}
