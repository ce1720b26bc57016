//! xCAT's `liteimg`, `ilitefile`, `litefile` and `litetree`: what of a node is its own (`[statelite]`).

use super::nodes::{Found, find};
use super::shell::Shell;
use super::{Done, Ended, Name};
use crate::output::render;
use crate::verbs::nodes::root_of;
use node_words::statelite::NodeFacts;
use nodes::{Boots, State};
use recipe::StateliteList;

/// The one word of a command that is no flag.
fn word(shell: &Shell, what: &str) -> Result<String, Ended> {
    let words: Vec<&String> = shell.words().iter().filter(|word| !word.starts_with('-')).collect();
    match words.as_slice() {
        [one] => Ok((*one).clone()),
        _ => Err(shell.fail(&format!("usage: {} {what}", shell.name.name()))),
    }
}

fn list(shell: &Shell, image: &str) -> Result<StateliteList, Ended> {
    let help = format!("imgbuild import xcat brings the tables, and [statelite] in the recipe of {image} names paths");
    let recipe = shell.recipe(image)?;
    recipe
        .statelite
        .ok_or_else(|| shell.fail(&format!("{image} is a stateless image: it has no [statelite]\n  help: {help}")))
}

/// A line as xCAT's server answers it.
fn line(name: &str, option: &str, path: &str) -> String {
    format!("{name}: {option:<13} {path}\n")
}

pub(super) fn run(shell: &Shell) -> Done {
    match shell.name {
        Name::Litefile | Name::Litetree => of_nodes(shell),
        _ => of_image(shell),
    }
}

fn of_image(shell: &Shell) -> Done {
    let image = word(shell, "IMAGE")?;
    shell.hand_on_unknown(&image)?;
    let own = list(shell, &image)?;
    if shell.name == Name::Ilitefile {
        let lines = own.list.entries.iter().map(|entry| line(&image, entry.way.name(), &entry.path));
        render::print_as_is(&lines.collect::<String>());
        return Ok(());
    }
    shell.hand_on_unbuildable(&image)?;
    shell.run(&["build", &image])?;
    shell.say(&format!(
        "{} paths are a node's own: initrd-statelite and statelite.json are beside the image",
        own.list.entries.len()
    ));
    shell.say(&format!(
        "for a root over NFS: imgbuild publish nfs:DIR {image}; to boot nodes with it: nodeset NODES osimage={image}"
    ));
    Ok(())
}

fn of_nodes(shell: &Shell) -> Done {
    let range = word(shell, "NODERANGE")?;
    let Found::Ours(nodes, set) = find(shell, &range)? else {
        return Err(
            shell.hand_on("the workspace has no nodes.toml with these nodes", "imgbuild import xcat brings nodes")
        );
    };
    let mut text = String::new();
    // What nodeset gave a node goes before what its file names.
    let state = State::of(&root_of(&shell.workspace), None);
    let assigned = state.assignments().map_err(|error| shell.fail(&error.to_string()))?;
    for node in set.iter().filter_map(|name| nodes.get(name)) {
        let image = match assigned.nodes.get(&node.name).map(|one| &one.boots) {
            Some(Boots::Image { image, .. }) => image.as_str(),
            Some(Boots::Disk) => continue,
            Some(Boots::Nothing) | None => match node.image() {
                Some(image) => image,
                None => {
                    let problem =
                        format!("{} has no image: nodeset gave it none, nor does nodes.toml name one", node.name);
                    return Err(shell.fail(&problem));
                }
            },
        };
        let own = list(shell, image)?.list;
        if shell.name == Name::Litefile {
            text.extend(own.entries.iter().map(|entry| line(&node.name, entry.way.name(), &entry.path)));
            continue;
        }
        let places = own.places(&NodeFacts { name: node.name.clone(), ..NodeFacts::default() });
        let places = places.map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            shell.fail(&format!("{}: {}", node.name, problems.join("; ")))
        })?;
        text.extend(places.trees.iter().map(|tree| format!("{}: {tree}\n", node.name)));
    }
    render::print_as_is(&text);
    Ok(())
}
