//! `import nodes`, `export nodes`: nodes of a site's other tools, and back.

use std::path::{Path, PathBuf};

use crate::Exit;
use crate::output::harmless::one_line;
use crate::output::render;
use crate::setup::print_findings;
use crate::verbs::nodes::{StateArguments, open};
use ::xcat::definitions::{Definition, ObjectKind, write_stanza};
use base::source::{SourceFile, counted_as};
use files::{self, Durability};
use nodes::{NODES_FILE, Nodes, nodes_file};
use recipe::{Overlay, known};
use site::nodes::{nodes_file_text, read, xcat};

/// Those files among the arguments of `import xcat` that have nodes.
pub(super) fn files_with_nodes(paths: &[PathBuf]) -> Vec<PathBuf> {
    let has = |path: &&PathBuf| path.is_file() && read(&[path]).is_ok_and(|found| !found.is_empty());
    paths.iter().filter(has).cloned().collect()
}

pub(super) fn import(arguments: &crate::Arguments, files: &[PathBuf], into: &Path, dry_run: bool) -> Exit {
    let below = |path: &Path| arguments.directory.join(path);
    let refused = |problem: &str| {
        render::say(&format!("error: {problem}"));
        Exit::Input
    };
    let mut found = match read(&files.iter().map(|path| below(path)).collect::<Vec<_>>()) {
        Ok(found) => found,
        Err(problem) => return refused(&problem),
    };
    let into = below(into);
    if let Ok(known) = known(&into, true, &Overlay::new()) {
        let names = known.images().filter_map(|draft| draft.name()).map(|(name, _)| name.to_owned());
        found.only_images(&names.collect::<Vec<_>>());
    }
    let text = nodes_file_text(&found);
    let path = into.join(NODES_FILE);
    let file = SourceFile::new(NODES_FILE, &path, text.as_str());
    let outcome = Nodes::of_file(&file);
    for (name, count) in &found.left {
        let name = one_line(name);
        render::say(&format!("note: `{name}` of {} has no counterpart here", counted_as(*count, "object", "objects")));
    }
    found.notes.iter().for_each(|note| render::say(&format!("note: {}", one_line(note))));
    if dry_run {
        render::print_as_is(&text);
    }
    if let Err(findings) = outcome {
        print_findings(&findings, arguments.verbose);
        return refused(
            "what was read contradicts itself; nothing was written\n  help: correct the files, or take --dry-run's text, correct it and put it into nodes.toml",
        );
    }
    if dry_run {
        return Exit::Done;
    }
    if let Some(there) = nodes_file(&into) {
        let shown = there.display();
        return refused(&format!(
            "`{shown}` already exists: it stays\n  help: --dry-run prints what would be written, to take parts of it"
        ));
    }
    if let Err(error) = files::create(&path, text.as_bytes(), 0o644, Durability::PowerCut) {
        render::say(&format!("error: cannot write `{}`: {error}", path.display()));
        return Exit::Machine;
    }
    let (nodes, groups) = (found.nodes.len(), found.groups.len());
    render::say(&format!(
        "wrote {} with {} and {}",
        path.display(),
        counted_as(nodes, "node", "nodes"),
        counted_as(groups, "group", "groups")
    ));
    Exit::Done
}

/// Prints nodes and their groups as xCAT's stanzas.
pub(super) fn export(arguments: &crate::Arguments, range: Option<&str>) -> Result<Exit, Exit> {
    let site = open(arguments, &StateArguments { state_directory: None })?;
    let set = site.select(range, arguments.verbose)?;
    let mut definitions = Vec::new();
    for group in site.nodes.groups() {
        let members: Vec<&str> = group.nodes.iter().filter(|name| set.contains(name)).collect();
        if members.is_empty() {
            continue;
        }
        let kind = ObjectKind::Other("group".to_owned());
        let mut definition = Definition { name: group.name.clone(), kind, ..Definition::osimage("") };
        definition.set("grouptype", "static", None);
        definition.set("members", &members.join(","), None);
        definitions.push(definition);
    }
    for node in set.iter().filter_map(|name| site.nodes.get(name)) {
        let kind = ObjectKind::Other("node".to_owned());
        let mut definition = Definition { name: node.name.clone(), kind, ..Definition::osimage("") };
        for (name, value) in xcat::attributes(&node) {
            definition.set(name, &value, None);
        }
        definitions.push(definition);
    }
    let text: String = definitions.iter().enumerate().map(|(at, one)| write_stanza(one, at == 0)).collect();
    render::print_as_is(&text);
    Ok(Exit::Done)
}
