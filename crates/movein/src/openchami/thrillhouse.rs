//! image-thrillhouse's configurations.

use std::collections::BTreeMap;

use recipe::Arch;
use site::osimage::Release;

use super::{Layer, Parents, items, parent};
use crate::input::roots::inside;
use crate::input::yaml::{Entry, Node};
use crate::plan::release::{named_in, of_suite};
use crate::plan::{AptArchive, Key, Ownership, Plan, Rules, leaves};
use crate::{MoveError, MoveRequest};

pub(super) const TOOL: &str = "image-thrillhouse";

pub(super) fn plan(
    request: &MoveRequest,
    layer: &Layer<'_>,
    document: &Node,
    parents: &Parents,
    of_parent: &dyn Fn(&str) -> Option<Release>,
) -> Result<Plan, MoveError> {
    let meta = |name: &str| document.get("meta").and_then(|meta| meta.get(name));
    let name = meta("name").and_then(Node::text).unwrap_or("image");
    let base = meta("from").and_then(Node::text).filter(|text| !text.is_empty()).unwrap_or("scratch");
    let options =
        document.get("layer").and_then(|layer| layer.get("manager")).and_then(|manager| manager.get("options"));
    let option = |name: &str| options.and_then(|options| options.get(name)).and_then(Node::text);
    let repos = || document.get("layer").and_then(|layer| layer.get("repos")).map(Node::items).unwrap_or_default();
    let texts = || repos().into_iter().filter_map(|repo| repo.get("content").and_then(Node::text));
    let tags = meta("tags").map(Node::shown).unwrap_or_default();
    let found = of_parent(base)
        .or_else(|| option("suite").and_then(of_suite))
        .or_else(|| named_in(base))
        .or_else(|| {
            texts().flat_map(str::lines).filter_map(|line| line.split_once('=')).find_map(|(_, value)| named_in(value))
        })
        .or_else(|| texts().flat_map(str::split_whitespace).find_map(of_suite))
        .or_else(|| named_in(&format!("{name} {}", option("releasever").unwrap_or_default())))
        .or_else(|| named_in(&format!("{name} {tags}")));
    let release = request.release(&layer.file, found)?;
    let mut plan = request.plan(TOOL, &layer.file, name, release, Arch::default());
    plan.is_fed = document.shown().contains("chpasswd");
    let key = layer.key(0, "release", "");
    let (distro, release) = (plan.distro.title(), plan.release.clone());
    plan.exact(
        &key,
        "image.release",
        format!("{distro} {release}, as its parent, its repositories or its name say, or --release"),
    );
    for key in &layer.followed {
        plan.exact(key, "image", "");
    }
    for (key, reason) in &layer.notes {
        plan.decide(key, reason.as_str());
    }
    for entry in document.entries() {
        match entry.key.as_str() {
            "meta" => entry.node.entries().iter().for_each(|one| self::meta(&mut plan, layer, one, parents)),
            "layer" => {}
            "publish" => plan.stays(
                &layer.entry("", entry),
                "where it is published: `imgbuild push`, `imgbuild serve`, docs/oci.md",
            ),
            _ => plan.unknown(&layer.entry("", entry)),
        }
    }
    let entries = document.get("layer").map(Node::entries).unwrap_or_default();
    // In its own order: what is written before packages are installed comes first.
    let order = ["manager", "env", "repos", "files", "directories", "actions", "openscap"];
    for name in order {
        for entry in entries.iter().filter(|entry| entry.key == name) {
            section(&mut plan, layer, entry);
        }
    }
    for entry in entries.iter().filter(|entry| !order.contains(&entry.key.as_str())) {
        plan.unknown(&layer.entry("layer", entry));
    }
    plan.usual_repositories(&layer.key(0, "layer.repos", ""));
    plan.cover(leaves(&layer.file, document));
    Ok(plan)
}

fn meta(plan: &mut Plan, layer: &Layer<'_>, entry: &Entry, parents: &Parents) {
    let key = layer.entry("meta", entry);
    match entry.key.as_str() {
        "name" => plan.exact(&key, "image.name", ""),
        "from" if matches!(entry.node.text(), Some("scratch" | "")) => plan.exact(&key, "image", ""),
        "from" => parent(plan, &key, entry.node.text().unwrap_or_default(), parents),
        "tags" | "labels" => plan.stays(&key, "it describes"),
        "from-tls-verify" if entry.node.is_true() => plan.exact(&key, "image.from", ""),
        "from-tls-verify" => plan.decide(
            &key,
            "registries are always asked by TLS with a valid certificate: add the registry's authority to this host",
        ),
        _ => plan.unknown(&key),
    }
}

fn section(plan: &mut Plan, layer: &Layer<'_>, entry: &Entry) {
    match entry.key.as_str() {
        "manager" => manager(plan, layer, &entry.node),
        "env" => environment(plan, layer, "layer.env", &entry.node),
        "repos" => items(entry).for_each(|(at, repo)| repository(plan, layer, at, repo)),
        "files" => items(entry).for_each(|(at, file)| self::file(plan, layer, at, file)),
        "directories" => items(entry).for_each(|(at, directory)| self::directory(plan, layer, at, directory)),
        "actions" => actions(plan, layer, &entry.node),
        _ => plan.decide(&layer.entry("layer", entry), "images are not scanned: run oscap on a node, or on the tree"),
    }
}

fn environment(plan: &mut Plan, layer: &Layer<'_>, prefix: &str, node: &Node) {
    for entry in node.entries() {
        match entry.key.as_str() {
            "set" => {
                for one in entry.node.entries() {
                    let key = layer.entry(&format!("{prefix}.set"), one);
                    plan.variable(&key, &one.key, one.node.text().unwrap_or_default());
                }
            }
            _ => plan.decide(
                &layer.entry(prefix, entry),
                "variables of the building host are not passed to scripts: write their values into [environment]",
            ),
        }
    }
}

fn manager(plan: &mut Plan, layer: &Layer<'_>, node: &Node) {
    let options = node.get("options").map(Node::entries).unwrap_or_default();
    let option = |name: &str| options.iter().find(|entry| entry.key == name).and_then(|entry| entry.node.text());
    if let (Some(mirror), Some(suite)) = (option("mirror"), option("suite")) {
        let line = options.first().map_or(node.line, |entry| entry.line);
        let (suites, components) = (vec![suite.to_owned()], vec!["main".to_owned()]);
        let archive = AptArchive { address: mirror.to_owned(), suites, components, keys: Vec::new(), is_checked: true };
        plan.apt_archive(&layer.key(line, "layer.manager.options.mirror", mirror), &archive, None);
    }
    for entry in node.entries() {
        let key = layer.entry("layer.manager", entry);
        match entry.key.as_str() {
            "name" => plan.exact(&key, "image.distro", ""),
            "options" => {}
            "config" => {
                plan.stays(&key, "the package manager's own settings: a recipe's repositories say what is checked")
            }
            _ => plan.unknown(&key),
        }
    }
    for entry in options {
        let key = layer.entry("layer.manager.options", entry);
        let is_on = entry.node.is_true();
        match (entry.key.as_str(), is_on) {
            ("suite" | "releasever", _) => plan.exact(&key, "image.release", ""),
            ("mirror", _) if option("suite").is_some() => {}
            ("mode", _) => plan.stays(&key, "how mmdebstrap runs"),
            ("variant", _) => match entry.node.text() {
                Some("minbase") => plan.exact(&key, "packages.base", ""),
                Some("essential") => {
                    plan.base = Some("essential");
                    plan.exact(&key, "packages.base", "");
                }
                _ => plan.decide(
                    &key,
                    "the base is `minbase` or `essential`: add the other packages of this variant to the list",
                ),
            },
            ("install-recommends" | "install-suggests", true) | ("install-weak-deps", true) => {
                plan.differs(&key, Some("packages.lists"), "recommended packages are not installed: name them");
            }
            ("allow-unauthenticated" | "no-gpg-checks", true) => {
                plan.differs(&key, Some("repo"), "unsigned packages are accepted only where a [[repo]] says so")
            }
            ("skip-broken", true) => {
                plan.differs(&key, Some("packages.lists"), "a package that cannot be installed is an error")
            }
            (
                "install-recommends"
                | "install-suggests"
                | "install-weak-deps"
                | "allow-unauthenticated"
                | "no-gpg-checks"
                | "skip-broken"
                | "no-recommends"
                | "best"
                | "nobest"
                | "allowerasing"
                | "force-resolution"
                | "auto-agree-with-licenses"
                | "allow-vendor-change",
                _,
            ) => plan.stays(&key, "how packages are chosen: image.lock has the result"),
            _ => plan.unknown(&key),
        }
    }
}

/// What `content`, `src` or `url` of an entry gives: bytes, or why there are none.
fn source(layer: &Layer<'_>, node: &Node) -> Result<Vec<u8>, String> {
    if let Some(text) = node.get("content").and_then(Node::text) {
        return Ok(text.as_bytes().to_vec());
    }
    if let Some(url) = node.get("url").and_then(Node::text) {
        return Err(format!("{url} is not fetched: save it next to the recipe, and add it to a synclist"));
    }
    let path = node.get("src").and_then(Node::text).ok_or("it has no `content`, `src` or `url`")?;
    let (root, path) = layer.roots.find(&layer.folder, path)?;
    root.text(&path).map(String::into_bytes).map_err(|error| format!("`{path}` is not read: {error}"))
}

fn repository(plan: &mut Plan, layer: &Layer<'_>, at: usize, repo: &Node) {
    let name = format!("layer.repos[{at}]");
    let path = repo.get("path").and_then(Node::text).unwrap_or_default();
    let key = layer.key(repo.line, &name, path);
    for entry in
        repo.entries().iter().filter(|entry| !["path", "content", "src", "url", "gpg"].contains(&entry.key.as_str()))
    {
        plan.unknown(&layer.entry(&name, entry));
    }
    let text = match source(layer, repo) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(reason) => return plan.decide(&key, format!("{reason}; then name it in [[repo]] file")),
    };
    let gpg: Vec<String> = repo.get("gpg").and_then(Node::text).map(str::to_owned).into_iter().collect();
    // The text begins on the line after its key.
    let line = repo.entries().iter().find(|entry| entry.key == "content").map_or(repo.line, |entry| entry.line);
    let key = Key { line, key: name, ..key };
    plan.repository_file(&key, path, &text, &gpg, Some((layer.roots, &layer.folder)));
}

fn mode_of(plan: &mut Plan, key: &Key, node: &Node) -> Option<u32> {
    let text = node.get("mode").and_then(Node::text)?;
    let mode = u32::from_str_radix(text.trim_start_matches("0o"), 8).ok().filter(|mode| *mode <= 0o7777);
    if mode.is_none() {
        plan.decide(key, "its mode is not an octal number: set it in [sync.owner]");
    }
    mode
}

fn file(plan: &mut Plan, layer: &Layer<'_>, at: usize, node: &Node) {
    let name = format!("layer.files[{at}]");
    let path = node.get("path").and_then(Node::text).unwrap_or_default();
    let key = layer.key(node.line, &name, path);
    for entry in node
        .entries()
        .iter()
        .filter(|entry| !["path", "content", "src", "url", "mode", "owner"].contains(&entry.key.as_str()))
    {
        plan.unknown(&layer.entry(&name, entry));
    }
    let mode = mode_of(plan, &key, node);
    let owner = node.get("owner").and_then(Node::text).and_then(|owner| plan.owner(&key, owner));
    if !path.starts_with('/') {
        return plan.decide(&key, "its `path` is not absolute");
    }
    let Some(path) = inside(path) else { return plan.decide(&key, "its `path` leads outside the image") };
    let path = format!("/{path}");
    if let (None, Some(from)) = (node.get("content"), node.get("src").and_then(Node::text)) {
        return match layer.roots.find(&layer.folder, from) {
            Ok((root, from)) => {
                plan.put_from(&key, &root, &from, &path, &Ownership { mode, owner, ..Ownership::default() })
            }
            Err(reason) => plan.decide(&key, reason),
        };
    }
    match source(layer, node) {
        Ok(bytes) => plan.put(&key, &path, bytes, mode.unwrap_or(0o644), owner),
        Err(reason) => plan.decide(&key, reason),
    }
}

fn directory(plan: &mut Plan, layer: &Layer<'_>, at: usize, node: &Node) {
    let name = format!("layer.directories[{at}]");
    let text = |key: &str| node.get(key).and_then(Node::text);
    let (from, to) = (text("src").unwrap_or_default(), text("path").unwrap_or_default());
    let key = layer.key(node.line, &name, format!("{from} -> {to}"));
    let known = ["path", "src", "mode", "owner", "preserve_ownership", "contents_only", "excludes"];
    for entry in node.entries().iter().filter(|entry| !known.contains(&entry.key.as_str())) {
        plan.unknown(&layer.entry(&name, entry));
    }
    let mut excludes: Vec<String> = node
        .get("excludes")
        .map(Node::items)
        .unwrap_or_default()
        .iter()
        .filter_map(|one| one.text())
        .map(str::to_owned)
        .collect();
    if excludes.iter().any(|pattern| pattern.starts_with('!')) {
        plan.decide(&key, "exceptions of `excludes` are not translated: look at what was copied");
        excludes.retain(|pattern| !pattern.starts_with('!'));
    }
    excludes.push("**/.git".to_owned());
    let own = Ownership {
        mode: mode_of(plan, &key, node),
        owner: text("owner").and_then(|owner| plan.owner(&key, owner)),
        is_kept: node.get("preserve_ownership").is_some_and(Node::is_true),
        excludes,
        ..Ownership::default()
    };
    let Some(target) = inside(to).filter(|_| to.starts_with('/')) else {
        return plan.decide(&key, "its `path` is not absolute, or leads outside the image");
    };
    match layer.roots.find(&layer.folder, from) {
        Err(reason) => plan.decide(&key, reason),
        Ok((root, path)) => {
            let is_whole = node.get("contents_only").is_some_and(|node| !node.is_true());
            let base = path.rsplit('/').next().unwrap_or(&path).to_owned();
            let target = if is_whole { format!("/{target}/{base}") } else { format!("/{target}") };
            plan.put_from(&key, &root, &path, &target, &own);
        }
    }
}

fn actions(plan: &mut Plan, layer: &Layer<'_>, node: &Node) {
    for entry in node.entries() {
        match entry.key.as_str() {
            "install" => entry.node.entries().iter().for_each(|one| install(plan, layer, one)),
            "commands" => {}
            _ => plan.unknown(&layer.entry("layer.actions", entry)),
        }
    }
    for (at, command) in node.get("commands").map(Node::items).unwrap_or_default().into_iter().enumerate() {
        self::command(plan, layer, at, command);
    }
}

fn install(plan: &mut Plan, layer: &Layer<'_>, entry: &Entry) {
    let name = format!("layer.actions.install.{}", entry.key);
    match entry.key.as_str() {
        "packages" => {
            layer.texts(plan, &name, &entry.node).into_iter().for_each(|(key, text)| plan.install(&key, &[text]))
        }
        "groups" => {
            layer.texts(plan, &name, &entry.node).into_iter().for_each(|(key, text)| plan.groups(&key, &[text]))
        }
        "remove_packages" => {
            layer.texts(plan, &name, &entry.node).into_iter().for_each(|(key, text)| plan.remove(&key, &[text]))
        }
        "modules" => {
            for (at, module) in entry.node.items().into_iter().enumerate() {
                let known = ["name", "stream", "action"];
                for entry in module.entries().iter().filter(|entry| !known.contains(&entry.key.as_str())) {
                    plan.unknown(&layer.entry(&format!("{name}[{at}]"), entry));
                }
                let text = |key: &str| module.get(key).and_then(Node::text).unwrap_or_default();
                let stream = if text("stream").is_empty() {
                    text("name").to_owned()
                } else {
                    format!("{}:{}", text("name"), text("stream"))
                };
                plan.module(&layer.key(module.line, format!("{name}[{at}]"), &stream), text("action"), &[stream]);
            }
        }
        _ => plan.unknown(&layer.key(entry.line, name, entry.node.shown())),
    }
}

fn command(plan: &mut Plan, layer: &Layer<'_>, at: usize, command: &Node) {
    let name = format!("layer.actions.commands[{at}]");
    for entry in command.entries() {
        let key = layer.entry(&name, entry);
        match entry.key.as_str() {
            "run" => plan.commands(
                &key,
                entry.node.text().unwrap_or_default(),
                Rules { fails: true, variables: &BTreeMap::new() },
            ),
            // The text begins on the line after `script: |`.
            "script" => plan.script(
                &Key { line: entry.line + 1, ..key },
                &format!("command-{}.sh", at + 1),
                entry.node.text().unwrap_or_default(),
            ),
            "ansible" => plan.decide(&key, "a playbook is not translated: run it in a postinstall script, or on nodes"),
            "env" => environment(plan, layer, &format!("{name}.env"), &entry.node),
            _ => plan.unknown(&key),
        }
    }
}
