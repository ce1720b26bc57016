//! A directory that any web server serves: the files of a build under a name of their own, and `boot.ipxe`, which leads to them.
//!
//! ```text
//! builds/BUILD/kernel, initrd-stateless, rootimg.*, ..   of this build and of the one before
//! nodes/01-MAC.ipxe                                       for nodes that nodes.toml says something of
//! boot.ipxe                                               the moment of the change: its rename
//! ```
//!
//! A node that has read the script before the change finds all files that this names.

mod scripts;
#[cfg(test)]
mod tests;

use std::path::Path;

use super::servers::{boots, command_line};
use super::{files_of_build, layout_of, no_form, path_of};
use crate::lay::{Content, Layout, OldNames, Planned, has_any, text_there};
use crate::{Error, Image, Node, Report, Request};

pub(crate) use scripts::{base_of, script};

/// Bytes of a boot script that is read.
const LARGEST_SCRIPT: u64 = 64 << 10;

fn path_of_script(mac: &str) -> String {
    format!("nodes/01-{}.ipxe", mac.replace(':', "-"))
}

/// The layout, and what is to be said of it.
fn layout<'a>(request: &Request<'a>, directory: &'a Path) -> Result<(Layout<'a>, Vec<String>), Error> {
    let image = request.image;
    let form = image.first().ok_or_else(|| no_form(request))?;
    let mut files = files_of_build(image, &image.files());
    let (mut warnings, mut pinned) = (Vec::new(), Vec::new());
    let boots = boots(request);
    let base = base_of(request, directory);
    let text = |path: String, text: String| Planned { path, mode: 0o644, content: Content::Text(text) };
    let words = form.boot_words(&format!("{base}/builds/{}", image.build));
    command_line(request, words.clone(), None)?;
    for node in boots.current.iter().filter(|node| !node.macs.is_empty()) {
        command_line(request, words.clone(), Some(node))?;
        let script = script(image, form, Some(node), &base);
        files.extend(node.macs.iter().map(|mac| text(path_of_script(mac), script.clone())));
    }
    for (node, build) in boots.pinned {
        let folder = stays_at(directory, image, (node, build))?;
        match &folder {
            Some(folder) => warnings.push(format!("{} stays with build {build}, which its file pins ({folder})", node.name)),
            None => warnings.push(format!(
                "{} is pinned to build {build}, which was not published here: its script stops it, and says so, until that build is published or nodes.toml has no `build` for it",
                node.name
            )),
        }
        for mac in &node.macs {
            let path = path_of_script(mac);
            let there = if folder.is_some() { text_there(directory, &path, LARGEST_SCRIPT)? } else { None };
            files.push(text(path, there.unwrap_or_else(|| scripts::stop(image, &node.name, build))));
        }
        pinned.extend(folder);
    }
    let has_nodes = request.nodes.iter().any(|node| !node.macs.is_empty());
    if !has_nodes && has_any(directory, "nodes")? {
        let text = "scripts of single nodes are there, but no node of nodes.toml boots this image: all nodes get the words of the image alone";
        warnings.push(text.to_owned());
    }
    files.push(text("boot.ipxe".to_owned(), scripts::first(image, form, has_nodes, &base)));
    let layout = Layout { pinned, ..layout_of(request, directory, form, (files, OldNames::KeepOnce)) };
    Ok((layout, warnings))
}

/// The folder of the build that a node is pinned to, if its scripts lead there.
fn stays_at(directory: &Path, image: &Image, (node, build): (&Node, &str)) -> Result<Option<String>, Error> {
    // A pin may be shorter than the name of a build, or longer.
    let build = build.get(..image.build.len()).unwrap_or(build);
    let start = format!("${{imgbuild-base}}/builds/{build}");
    let mut folder = None;
    for mac in &node.macs {
        let there = text_there(directory, &path_of_script(mac), LARGEST_SCRIPT)?.unwrap_or_default();
        let Some((_, rest)) = there.split_once(&start) else { return Ok(None) };
        let rest: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
        folder = Some(format!("builds/{build}{rest}/"));
    }
    Ok(folder)
}

fn next(request: &Request<'_>, directory: &Path) -> Vec<String> {
    let base = base_of(request, directory);
    let mut next = vec![format!("serve {} by HTTP, and have nodes load boot.ipxe from there", directory.display())];
    if request.destination.served_at().is_none() {
        next.push(format!(
            "the script looks for its files below {base}; if that is wrong: publish in `{}?files=URL`, or `set imgbuild-base URL` before `chain`",
            request.destination
        ));
    }
    next
}

/// What [`apply`] would change.
pub(crate) fn plan(request: &Request<'_>) -> Result<Report, Error> {
    let directory = path_of(request)?;
    let (layout, warnings) = layout(request, directory)?;
    Ok(layout.plan()?.with(warnings, next(request, directory)))
}

/// Publishes the build.
pub(crate) fn apply(request: &Request<'_>) -> Result<Report, Error> {
    let directory = path_of(request)?;
    let (layout, warnings) = layout(request, directory)?;
    Ok(layout.apply()?.with(warnings, next(request, directory)))
}
