//! Images on the page: their builds, and what differs between one and the one before.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::html::{bytes, encoded, escaped, page};
use crate::site::desk::NodeLine;
use build::BuildInfo;
use nodes::state::{age, now};

const LONGEST: u64 = 4 << 20;

pub(super) struct Build {
    name: String,
    info: BuildInfo,
    made: u64,
    is_published: bool,
}

pub(super) fn builds(roots: &[PathBuf], image: &str) -> Vec<Build> {
    let mut found: Vec<Build> = roots.iter().flat_map(|root| builds_in(root, image)).collect();
    found.sort_by(|a, b| b.made.cmp(&a.made).then_with(|| a.name.cmp(&b.name)));
    found
}

fn builds_in(root: &Path, image: &str) -> Vec<Build> {
    let directory = root.join(".builds").join(image);
    let published = std::fs::read_link(root.join(image)).ok();
    let published = published.and_then(|link| link.file_name().map(|name| name.to_string_lossy().into_owned()));
    let Ok(entries) = std::fs::read_dir(&directory) else { return Vec::new() };
    let read = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let path = entry.path().join("build.json");
        let metadata = std::fs::metadata(&path).ok().filter(|found| found.len() <= LONGEST)?;
        let info: BuildInfo = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
        let made = metadata.modified().unwrap_or(UNIX_EPOCH).duration_since(UNIX_EPOCH).unwrap_or_default();
        let is_published = published.as_deref() == Some(&*name);
        Some(Build { name, info, made: u64::try_from(made.as_millis()).unwrap_or(0), is_published })
    });
    read.collect()
}

pub(super) fn images(roots: &[PathBuf]) -> Vec<String> {
    let mut names: Vec<String> = roots
        .iter()
        .filter_map(|root| std::fs::read_dir(root.join(".builds")).ok())
        .flat_map(|entries| entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()))
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn size(info: &BuildInfo) -> u64 {
    info.artefacts.iter().map(|one| one.size).sum()
}

pub(super) fn table(roots: &[PathBuf]) -> String {
    let mut text = String::from(
        "<div class=\"scroll\"><table><caption>Published images</caption><thead><tr><th scope=\"col\">Image</th><th scope=\"col\">Build</th>\
         <th scope=\"col\">Kernel</th><th scope=\"col\" class=\"n\">Size</th><th scope=\"col\" class=\"n\">Memory</th><th scope=\"col\" class=\"n\">Age</th></tr></thead><tbody>",
    );
    for image in images(roots) {
        let builds = builds(roots, &image);
        let Some(build) = builds.iter().find(|build| build.is_published).or(builds.first()) else { continue };
        let _ = write!(
            text,
            "<tr><th scope=\"row\"><a href=\"/-/images/{}\">{}</a></th><td><code>{}</code></td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            encoded(&image),
            escaped(&image),
            escaped(&build.name),
            escaped(&build.info.kernel_release),
            bytes(size(&build.info)),
            bytes(build.info.memory),
            age(now().saturating_sub(build.made)),
        );
    }
    text + "</tbody></table></div>"
}

/// What differs between two builds, in words: the kernel, stages, sizes.
fn differences(new: &BuildInfo, old: &BuildInfo) -> Vec<String> {
    let mut said = Vec::new();
    if new.kernel_release != old.kernel_release {
        said.push(format!("kernel {} (before: {})", new.kernel_release, old.kernel_release));
    }
    let before: BTreeMap<&str, &str> = old.layers.iter().map(|(name, digest)| (&**name, &**digest)).collect();
    let mut changed: Vec<&str> = new
        .layers
        .iter()
        .filter(|(name, digest)| before.get(&**name) != Some(&&**digest))
        .map(|(name, _)| &**name)
        .collect();
    let gone = before.keys().filter(|name| new.layers.iter().all(|(one, _)| one != **name));
    changed.extend(gone);
    if !changed.is_empty() {
        said.push(format!("stages: {}", changed.join(", ")));
    }
    if new.cmdline != old.cmdline {
        said.push("kernel command line".to_owned());
    }
    let files: Vec<String> = new
        .artefacts
        .iter()
        .filter_map(|one| {
            let other = old.artefacts.iter().find(|other| other.name == one.name)?;
            (other.sha256 != one.sha256).then(|| {
                let sign = if one.size >= other.size { '+' } else { '-' };
                format!("{} {sign}{}", one.name, bytes(one.size.abs_diff(other.size)))
            })
        })
        .collect();
    if !files.is_empty() {
        said.push(format!("files: {}", files.join(", ")));
    }
    said
}

pub(super) fn image_page(roots: &[PathBuf], image: &str, nodes: &[NodeLine]) -> Option<String> {
    let builds = builds(roots, image);
    let newest = builds.first()?;
    let mut text = format!("<p class=\"quiet\">{}</p>", escaped(&newest.info.target));
    text += "<h2>Builds</h2><div class=\"scroll\"><table><caption>The newest first, each with what differs from the one before</caption>\
             <thead><tr><th scope=\"col\">Build</th><th scope=\"col\" class=\"n\">Age</th><th scope=\"col\" class=\"n\">Size</th>\
             <th scope=\"col\" class=\"n\">Nodes</th><th scope=\"col\">Changed</th></tr></thead><tbody>";
    for (at, build) in builds.iter().enumerate() {
        let on = nodes.iter().filter(|line| line.build.as_deref() == Some(&*build.name)).count();
        let changed = match builds.get(at + 1) {
            Some(before) => match differences(&build.info, &before.info) {
                none if none.is_empty() => "nothing".to_owned(),
                said => said.iter().map(|one| escaped(one)).collect::<Vec<_>>().join("<br>"),
            },
            None => "-".to_owned(),
        };
        let published = if build.is_published { " (published)" } else { "" };
        let _ = write!(
            text,
            "<tr><th scope=\"row\"><code>{}</code>{published}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{on}</td><td>{changed}</td></tr>",
            escaped(&build.name),
            age(now().saturating_sub(build.made)),
            bytes(size(&build.info)),
        );
    }
    text += "</tbody></table></div><h2>Files of the newest build</h2><div class=\"map\" role=\"list\">";
    let all = size(&newest.info).max(1);
    for one in &newest.info.artefacts {
        let _ = write!(
            text,
            "<div role=\"listitem\" style=\"flex:{} 1 0\" title=\"{name}\">{name}<br><span class=\"quiet\">{}</span></div>",
            (one.size * 1000 / all).max(1),
            bytes(one.size),
            name = escaped(&one.name),
        );
    }
    text += "</div>";
    Some(page(&format!("Image {image}"), &text))
}
