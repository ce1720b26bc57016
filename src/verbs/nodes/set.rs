//! `imgbuild set RANGE`: values of nodes, in `nodes.toml`.

use super::root_of;
use crate::Exit;
use crate::output::render;
use crate::recipe_lock::RecipeLock;
use crate::setup::print_findings;
use crate::verbs::recipe::set::write;
use nodes::edit::{Changed, Target, changed};
use nodes::{Nodes, nodes_file};
use recipe::{Edit, Overlay, known};

/// Whether the first argument of `set` means nodes: it is a set, or the name of a node and not of an image.
/// Errors: It is both.
pub(crate) fn means_nodes(arguments: &crate::Arguments, text: &str) -> Result<bool, String> {
    let root = root_of(&arguments.directory);
    if nodes_file(&root).is_none() || text == "." {
        return Ok(false);
    }
    if text.contains(['[', ']', ',', '!', '&', '^', '@', '*', '?']) || text.contains(char::is_whitespace) {
        return Ok(true);
    }
    let Ok(Some(nodes)) = Nodes::load(&root) else { return Ok(false) };
    if nodes.span_of(text).is_none() {
        return Ok(false);
    }
    let is_image = known(&root, true, &Overlay::new())
        .is_ok_and(|known| known.images().any(|draft| draft.name().is_some_and(|(name, _)| name == text)));
    match is_image {
        true => Err(format!(
            "`{text}` is a node and an image\n  help: --node means the node; give one of them another name"
        )),
        false => Ok(true),
    }
}

pub(crate) fn run(arguments: &crate::Arguments, range: &str, edits: &[Edit]) -> Exit {
    match set(arguments, range, edits) {
        Ok(text) => {
            render::say(&text);
            Exit::Done
        }
        Err((problem, exit)) => {
            if !problem.is_empty() {
                render::say(&format!("error: {problem}"));
            }
            exit
        }
    }
}

fn set(arguments: &crate::Arguments, range: &str, edits: &[Edit]) -> Result<String, (String, Exit)> {
    let root = root_of(&arguments.directory);
    let _turn = RecipeLock::take(&root);
    let reported = |findings: Vec<base::source::Finding>| {
        print_findings(&findings, arguments.verbose);
        (String::new(), Exit::Input)
    };
    let input = |problem: String| (problem, Exit::Input);
    let nodes = super::checked(&root).map_err(reported)?;
    let nodes = nodes.ok_or_else(|| input(format!("`{}` has no nodes.toml", root.display())))?;
    let name = nodes.file.name.clone();
    if !name.ends_with(".toml") {
        return Err(input(format!("{name} is changed by hand: only nodes.toml is edited in place")));
    }
    let set = nodes.select(range).map_err(reported)?;
    let group = range.strip_prefix('@').filter(|group| nodes.groups().iter().any(|one| one.name == *group));
    let target = group.map_or(Target::Nodes(set), |group| Target::Group(group.to_owned()));
    let Changed { text, notes, after } = changed(&nodes, &target, edits).map_err(input)?;
    let notes: String = notes.iter().map(|note| format!("\nnote: {note}")).collect();
    let Some(after) = after.filter(|_| text != nodes.file.text) else {
        return Ok(format!("nothing changed{notes}"));
    };
    // What would be wrong is reported before anything is written.
    let after = after.whole().and_then(|after| {
        let known = known(&root, true, &Overlay::new()).ok().filter(|known| known.broken.is_empty());
        let names = known.map(|known| {
            known.images().filter_map(|draft| draft.name()).map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        });
        let unknown = names.map(|names| after.unknown_images(&names)).unwrap_or_default();
        if unknown.is_empty() { Ok(()) } else { Err(unknown) }
    });
    if let Err(findings) = after {
        print_findings(&findings, arguments.verbose);
        return Err(input(format!("{name} was not changed: it would be wrong")));
    }
    match write(&nodes.file.path, &nodes.file.text, &text) {
        Ok(true) => Ok(format!("{name} was changed: `imgbuild nodeset` gives nodes what they are to boot{notes}")),
        Ok(false) => Err(input(format!("{name} was written by somebody else at the same time: nothing was changed"))),
        Err(error) => Err((format!("cannot write {name}: {error}"), Exit::Machine)),
    }
}
