//! image-builder's layers.

use std::collections::BTreeMap;

use recipe::Arch;
use site::osimage::Release;

use super::{Layer, Parents, items, parent};
use crate::input::yaml::{Entry, Node};
use crate::plan::release::named_in;
use crate::plan::{Ownership, Plan, RpmKind, RpmRepository, Rules, leaves, matching};
use crate::{MoveError, MoveRequest};

const TOOL: &str = "image-builder";

pub(super) fn plan(
    request: &MoveRequest,
    layer: &Layer<'_>,
    document: &Node,
    parents: &Parents,
    of_parent: &dyn Fn(&str) -> Option<Release>,
) -> Result<Plan, MoveError> {
    let option = |name: &str| document.get("options").and_then(|options| options.get(name)).and_then(Node::text);
    let name = option("name").unwrap_or("image");
    let base = option("parent").unwrap_or("scratch");
    let addresses = || {
        document
            .get("repos")
            .map(Node::items)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|repo| repo.get("url").and_then(Node::text))
    };
    let tag =
        document.get("options").and_then(|options| options.get("publish_tags")).map(Node::shown).unwrap_or_default();
    let found = of_parent(base)
        .or_else(|| named_in(base))
        .or_else(|| addresses().find_map(named_in))
        .or_else(|| named_in(&format!("{name} {tag}")));
    let release = request.release(&layer.file, found)?;
    let mut plan = request.plan(TOOL, &layer.file, name, release, Arch::default());
    plan.is_fed = document.shown().contains("chpasswd");
    let is_scratch = base == "scratch";
    let mut is_checked = !is_scratch;
    for entry in document.get("options").map(Node::entries).unwrap_or_default() {
        self::option(&mut plan, layer, entry, parents, &mut is_checked);
    }
    let key = layer.key(0, "release", "");
    let (distro, release) = (plan.distro.title(), plan.release.clone());
    plan.exact(
        &key,
        "image.release",
        format!("{distro} {release}, as its parent, its repositories or its name say, or --release"),
    );
    // In the order in which image-builder does it, whatever the order of the file.
    let order = [
        "options",
        "repos",
        "modules",
        "package_groups",
        "packages",
        "remove_packages",
        "copyfiles",
        "cmds",
        "openscap",
    ];
    for name in order {
        for entry in document.entries().iter().filter(|entry| entry.key == name) {
            section(&mut plan, layer, entry, is_checked);
        }
    }
    for entry in document.entries().iter().filter(|entry| !order.contains(&entry.key.as_str())) {
        plan.unknown(&layer.entry("", entry));
    }
    plan.usual_repositories(&layer.key(0, "repos", ""));
    plan.cover(leaves(&layer.file, document));
    Ok(plan)
}

fn option(plan: &mut Plan, layer: &Layer<'_>, entry: &Entry, parents: &Parents, is_checked: &mut bool) {
    let key = layer.entry("options", entry);
    match entry.key.as_str() {
        "name" => plan.exact(&key, "image.name", ""),
        "layer_type" if entry.node.text() == Some("base") => plan.exact(&key, "postinstall", ""),
        "layer_type" => plan.decide(
            &key,
            "a layer made by Ansible is not translated: run the playbook in a postinstall script, or on nodes",
        ),
        "pkg_manager" => plan.exact(&key, "image.distro", ""),
        "parent" if entry.node.text() == Some("scratch") => plan.exact(&key, "image", ""),
        "parent" => parent(plan, &key, entry.node.text().unwrap_or_default(), parents),
        "gpgcheck" => {
            *is_checked = entry.node.is_true();
            plan.exact(&key, "repo.check-packages", "");
        }
        "proxy" => plan.decide(&key, "a proxy is the building host's: set http_proxy where imgbuild runs"),
        "groups" | "playbooks" | "inventory" | "vars" | "ansible_verbosity" => {
            plan.decide(&key, "a layer made by Ansible is not translated")
        }
        "install_scap" | "scap_benchmark" | "oval_eval" => {
            plan.decide(&key, "images are not scanned: run oscap on a node, or on the tree")
        }
        name if name.starts_with("publish") || name.starts_with("s3_") || name.starts_with("registry_opts") => {
            plan.stays(&key, "where it is published: `imgbuild push`, `imgbuild serve`, docs/oci.md");
        }
        "labels" => plan.stays(&key, "it describes"),
        _ => plan.unknown(&key),
    }
}

fn section(plan: &mut Plan, layer: &Layer<'_>, entry: &Entry, is_checked: bool) {
    match entry.key.as_str() {
        "repos" => items(entry).for_each(|(at, repo)| repository(plan, layer, at, repo, is_checked)),
        "modules" => {
            for verb in entry.node.entries() {
                for (key, stream) in layer.texts(plan, &format!("modules.{}", verb.key), &verb.node) {
                    plan.module(&key, &verb.key, &[stream]);
                }
            }
        }
        "package_groups" => {
            for (key, name) in layer.texts(plan, "package_groups", &entry.node) {
                plan.groups(&key, &[name]);
            }
        }
        "packages" => {
            for (key, text) in layer.texts(plan, "packages", &entry.node) {
                // They go to a shell, so one item may be several packages.
                let names: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
                plan.install(&key, &names);
            }
        }
        "remove_packages" => {
            for (key, name) in layer.texts(plan, "remove_packages", &entry.node) {
                plan.remove(&key, &[name]);
            }
        }
        "copyfiles" => items(entry).for_each(|(at, file)| copy(plan, layer, at, file)),
        "cmds" => items(entry).for_each(|(at, command)| self::command(plan, layer, at, command)),
        "openscap" => {
            plan.decide(&layer.entry("", entry), "images are not scanned: run oscap on a node, or on the tree")
        }
        _ => {}
    }
}

fn repository(plan: &mut Plan, layer: &Layer<'_>, at: usize, repo: &Node, is_checked: bool) {
    let name = format!("repos[{at}]");
    let text = |key: &str| repo.get(key).and_then(Node::text).unwrap_or_default().trim().to_owned();
    let address = text("url");
    for entry in
        repo.entries().iter().filter(|entry| !["alias", "url", "gpg", "priority"].contains(&entry.key.as_str()))
    {
        plan.unknown(&layer.entry(&name, entry));
    }
    let key = layer.key(repo.line, name, &address);
    if address.ends_with(".repo") {
        return plan.decide(
            &key,
            "a file of repositories on a server: save it next to the recipe, and name it in [[repo]] file",
        );
    }
    let keys = Some(text("gpg")).filter(|key| !key.is_empty()).into_iter().collect();
    let priority = Some(text("priority")).filter(|text| !text.is_empty());
    let id = text("alias");
    let repository =
        RpmRepository { id, kind: RpmKind::Base, address, priority, keys, is_checked, ..Default::default() };
    plan.rpm_repository(&key, &repository, Some((layer.roots, &layer.folder)));
}

fn copy(plan: &mut Plan, layer: &Layer<'_>, at: usize, file: &Node) {
    let name = format!("copyfiles[{at}]");
    let text = |key: &str| file.get(key).and_then(Node::text).unwrap_or_default().trim().to_owned();
    let (from, to) = (text("src"), text("dest"));
    let key = layer.key(file.line, &name, format!("{from} -> {to}"));
    let mut own = Ownership::default();
    for entry in file.entries() {
        match entry.key.as_str() {
            "src" | "dest" => {}
            "opts" => {
                let words: Vec<String> = layer
                    .texts(plan, "opts", &entry.node)
                    .iter()
                    .flat_map(|(_, text)| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
                    .collect();
                let mut words = words.into_iter();
                while let Some(word) = words.next() {
                    let (option, value) = match word.split_once('=') {
                        Some((option, value)) => (option.to_owned(), Some(value.to_owned())),
                        None => (word, None),
                    };
                    let value = value.or_else(|| {
                        if ["--chmod", "--chown"].contains(&option.as_str()) { words.next() } else { None }
                    });
                    match (option.as_str(), value) {
                        ("--chmod", Some(value)) if u32::from_str_radix(&value, 8).is_ok() => {
                            own.mode = u32::from_str_radix(&value, 8).ok()
                        }
                        ("--chown", Some(value)) => own.owner = plan.owner(&key, &value),
                        ("--quiet" | "-q", _) => {}
                        (option, _) => plan.decide(
                            &layer.key(entry.line, format!("{name}.opts"), option),
                            "an option of `buildah copy` that is not translated",
                        ),
                    }
                }
            }
            _ => plan.unknown(&layer.entry(&name, entry)),
        }
    }
    if to.is_empty() || !to.starts_with('/') {
        return plan.decide(&key, "its `dest` is not an absolute path");
    }
    match layer.roots.find(&layer.folder, &from) {
        Err(reason) => plan.decide(&key, reason),
        Ok((root, path)) if path.contains(['*', '?', '[']) => match matching(&root, &path) {
            Err(reason) => plan.decide(&key, reason),
            Ok(paths) => {
                for path in paths {
                    let base = path.rsplit('/').next().unwrap_or(&path);
                    let to =
                        if root.is_folder(&path) { to.clone() } else { format!("{}/{base}", to.trim_end_matches('/')) };
                    plan.put_from(&key, &root, &path, &to, &own);
                }
            }
        },
        Ok((root, path)) => {
            // Into a folder, if the path ends so; a folder's content goes to the path itself.
            let base = path.rsplit('/').next().unwrap_or(&path).to_owned();
            let to = if to.ends_with('/') && !root.is_folder(&path) { format!("{to}{base}") } else { to };
            plan.put_from(&key, &root, &path, &to, &own);
        }
    }
}

fn command(plan: &mut Plan, layer: &Layer<'_>, at: usize, command: &Node) {
    let name = format!("cmds[{at}]");
    let text = command.text().or_else(|| command.get("cmd").and_then(Node::text)).unwrap_or_default();
    let line = command.get("cmd").map_or(command.line, |node| node.line);
    let key = layer.key(line, &name, text.trim());
    for entry in command.entries() {
        match entry.key.as_str() {
            "cmd" => {}
            "loglevel" => plan.stays(&layer.entry(&name, entry), "how image-builder logs the command"),
            "buildah_extra_args" => plan.decide(&layer.entry(&name, entry), "an option of `buildah run`: what it mounts is not there; files that the command needs are `inputs` of the script"),
            _ => plan.unknown(&layer.entry(&name, entry)),
        }
    }
    if text.trim().is_empty() {
        return plan.decide(&key, "it has no `cmd`");
    }
    // image-builder goes on after a command that fails.
    plan.commands(&key, text, Rules { fails: false, variables: &BTreeMap::new() });
}
