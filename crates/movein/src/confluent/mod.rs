//! Confluent's diskless profiles: package lists of imgutil, syncfiles, scripts, profile.yaml. Sources: `imgutil` (`list_packages`,
//! `pack_image`), `syncfiles.py` and the el9-diskless profile of Confluent 3.

mod syncfiles;

use std::collections::BTreeSet;
use std::sync::Arc;

use recipe::Arch;
use site::osimage::Release;

use crate::input::roots::{Kind, Root, Roots};
use crate::input::yaml;
use crate::plan::release::named_in;
use crate::plan::{Content, Key, Plan, leaves};
use crate::{MoveError, MoveRequest};

const TOOL: &str = "Confluent";

/// Most lists that one includes.
const LIST_LIMIT: usize = 200;

/// What imgutil and osdeploy make, which an import does not need.
const MADE: [&str; 9] = [
    "rootimg.sfs",
    "boot",
    "boot.ipxe",
    "boot.img",
    "build-info",
    "distribution",
    "manifest.yaml",
    "initprofile.sh",
    "kernelversion",
];

/// Scripts that come with each profile, and are Confluent's own.
const OWN_SCRIPTS: [&str; 14] = [
    "add_local_repositories",
    "firstboot.service",
    "firstboot.sh",
    "image2disk.py",
    "imageboot.sh",
    "installimage",
    "onboot.service",
    "onboot.sh",
    "post.sh",
    "pre.sh",
    "getinstalldisk",
    "functions",
    "confignet",
    "setupssh",
];

/// What scripts use that only nodes of Confluent have.
const HELPERS: [&str; 10] = [
    "/etc/confluent",
    "fetch_remote",
    "run_remote",
    "run_remote_parts",
    "run_remote_python",
    "confluent_mgr",
    "confluent_profile",
    "confluent_apikey",
    "confluentpython",
    "/opt/confluent",
];

struct Profile<'a> {
    roots: &'a Roots,
    shown: String,
}

pub(super) fn plans(request: &MoveRequest) -> Result<Vec<Plan>, MoveError> {
    let (path, shown) = (&request.paths[0], request.shown[0].trim_end_matches('/'));
    if !path.is_dir() {
        return Err(MoveError::input(
            shown,
            "not a directory",
            "name a profile's directory: /var/lib/confluent/public/os/NAME",
        ));
    }
    let (roots, _) = request.roots(path)?;
    let profile = Profile { roots: &roots, shown: shown.to_owned() };
    let name = roots.own.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let yaml = roots.own.text("profile.yaml").ok();
    let document = match &yaml {
        None => None,
        Some(text) => yaml::document(text).map_err(|(line, problem)| {
            MoveError::input(format!("{shown}/profile.yaml:{line}"), problem, "correct the file")
        })?,
    };
    let label = document
        .as_ref()
        .and_then(|node| node.get("label"))
        .and_then(|node| node.text())
        .unwrap_or_default()
        .to_owned();
    let target = roots
        .own
        .entry("distribution")
        .ok()
        .and_then(|entry| if let Kind::Link(target) = entry.kind { Some(target) } else { None });
    let found = named_in(&name)
        .or_else(|| named_in(&label))
        .or_else(|| target.as_deref().and_then(named_in))
        .or_else(|| category(&name));
    let release = request.release(shown, found)?;
    let arch = name
        .split(['-', '_', '.'])
        .find_map(Arch::named)
        .or_else(|| Arch::ALL.into_iter().find(|arch| name.contains(arch.machine())))
        .unwrap_or_default();
    let mut plan = request.plan(TOOL, shown, &name, release, arch);
    let (distro, release) = (plan.distro.title(), plan.release.clone());
    plan.exact(
        &Key::new(shown, 0, "release", ""),
        "image.release",
        format!("{distro} {release}, as the profile is named, or as --release says"),
    );
    let mut seen: BTreeSet<String> = BTreeSet::from(["profile.yaml".to_owned()]);
    for entry in document.iter().flat_map(|node| node.entries()) {
        let key = Key::new(&format!("{shown}/profile.yaml"), entry.line, &entry.key, entry.node.shown());
        match entry.key.as_str() {
            "label" => plan.stays(&key, "it describes"),
            "kernelargs" | "installedargs" => {
                for word in entry.node.text().unwrap_or_default().split_whitespace() {
                    let of_word = Key { value: word.to_owned(), ..key.clone() };
                    if word.starts_with("confluent_") || entry.key == "installedargs" {
                        plan.stays(&of_word, "for nodes that Confluent boots or installs");
                    } else if plan.kernel_words(&of_word, word) {
                        plan.exact(&of_word, "boot.cmdline", "");
                    }
                }
            }
            _ => plan.decide(&key, "of Confluent's deployment: no field of a recipe"),
        }
    }
    if let Some(document) = &document {
        plan.cover(leaves(&format!("{shown}/profile.yaml"), document));
    }
    profile.packages(request, &mut plan, &mut seen)?;
    if roots.own.is_file("syncfiles") {
        seen.insert("syncfiles".to_owned());
        let read = syncfiles::take(&mut plan, &roots, "syncfiles", &format!("{shown}/syncfiles"));
        seen.extend(read.iter().filter_map(|path| path.split('/').next()).map(str::to_owned));
    }
    profile.scripts(&mut plan, &mut seen);
    profile.others(&mut plan, &seen);
    plan.usual_repositories(&Key::new(shown, 0, "repositories", ""));
    Ok(vec![plan])
}

/// The distribution that a folder of imgutil's lists is for: `el9`, `suse15`, `ubuntu`.
fn category(name: &str) -> Option<Release> {
    name.strip_prefix("el").and_then(|number| named_in(&format!("rhel {number}")))
}

impl Profile<'_> {
    fn key(&self, name: &str, value: impl Into<String>) -> Key {
        Key::new(&format!("{}/{name}", self.shown), 0, name, value)
    }

    fn packages(&self, request: &MoveRequest, plan: &mut Plan, seen: &mut BTreeSet<String>) -> Result<(), MoveError> {
        let mut read = BTreeSet::new();
        if request.lists.is_empty() {
            // As imgutil's own folders have it: one for the CPU, if there is one.
            let of_arch = format!("pkglist.{}", plan.arch.machine());
            let lists = self.roots.own.names("").unwrap_or_default();
            let found = if lists.contains(&of_arch) { of_arch } else { "pkglist".to_owned() };
            for name in lists.iter().filter(|name| name.starts_with("pkglist")) {
                seen.insert(name.clone());
                if *name != found {
                    plan.stays(&self.key(name, ""), "for another CPU");
                }
            }
            if self.roots.own.is_file(&found) {
                list(plan, self.roots, "", &found, &format!("{}/{found}", self.shown), &mut read);
            } else {
                let key = self.key("pkglist", "");
                plan.decide(&key, "a profile has no list of its packages: pass those that `imgutil build -p` and `-a` had as --packages FILE, or take the packages of a node by `imgbuild capture`");
            }
        }
        for path in &request.lists {
            let (roots, name) = request.roots(path)?;
            if name.is_empty() {
                return Err(MoveError::input(
                    path.display().to_string(),
                    "it is a directory",
                    "name a list of packages",
                ));
            }
            request.text(&roots.own, &name)?;
            list(plan, &roots, "", &name, &path.display().to_string(), &mut read);
        }
        seen.extend(read.iter().filter_map(|path| path.split('/').next()).map(str::to_owned));
        Ok(())
    }

    fn scripts(&self, plan: &mut Plan, seen: &mut BTreeSet<String>) {
        seen.insert("scripts".to_owned());
        let own = &self.roots.own;
        if !own.is_folder("scripts") {
            return;
        }
        for entry in own.tree("scripts").unwrap_or_default() {
            let name = entry.path.trim_start_matches("scripts/").to_owned();
            let key = self.key(&entry.path, "");
            if entry.kind == Kind::Folder || name.ends_with(".gitignore") {
                continue;
            }
            if OWN_SCRIPTS.contains(&name.as_str()) {
                plan.stays(&key, "it is Confluent's own");
                continue;
            }
            let stage = name.split(['/', '.']).next().unwrap_or_default().to_owned();
            match stage.as_str() {
                "onboot" | "firstboot" => node_script(plan, own, &key, &entry.path, &stage),
                "post" | "pre" | "prechroot" => plan.decide(&key, "it runs when an image is written to a disk: nodes of a recipe have none"),
                _ => plan.decide(&key, "a script that the profile's own scripts may fetch: name it in [node] postscripts, if nodes are to run it"),
            }
        }
    }

    fn others(&self, plan: &mut Plan, seen: &BTreeSet<String>) {
        for name in self.roots.own.names("").unwrap_or_default() {
            let key = self.key(&name, "");
            if seen.contains(&name) {
                continue;
            }
            if MADE.contains(&name.as_str()) {
                plan.stays(&key, "made by imgutil or osdeploy");
            } else if name == "ansible" {
                plan.decide(
                    &key,
                    "playbooks are not translated: run them from [node] postscripts, or against running nodes",
                );
            } else if ["dracut", "initramfs-tools"].contains(&name.as_str()) {
                plan.stays(&key, "of Confluent's initrd");
            } else {
                plan.decide(&key, "nothing of a profile has this name: not read");
            }
        }
    }
}

/// The text of a file that another one may include, and its folder; each is read once.
/// Errors: Why it is not read.
fn included(roots: &Roots, folder: &str, name: &str, read: &mut BTreeSet<String>) -> Result<(String, String), String> {
    let (root, path) = roots.find(folder, name)?;
    if !read.insert(path.clone()) {
        return Err("it is included twice: read once".to_owned());
    }
    let text = root.text(&path).map_err(|error| format!("it is not read: {error}"))?;
    Ok((text, path.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_owned())))
}

/// A list of packages with those that it includes; whether it is read. Source: `list_packages` of imgutil.
fn list(plan: &mut Plan, roots: &Roots, folder: &str, name: &str, shown: &str, read: &mut BTreeSet<String>) -> bool {
    let key = Key::new(shown, 0, "pkglist", "");
    if read.len() > LIST_LIMIT {
        plan.decide(&key, format!("more than {LIST_LIMIT} lists: the others are not read"));
        return false;
    }
    let (text, below) = match included(roots, folder, name, read) {
        Ok(found) => found,
        Err(reason) => {
            plan.decide(&key, reason);
            return false;
        }
    };
    let mut is_ignored = None;
    for (at, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let of_line = Key { line: at + 1, value: line.to_owned(), ..key.clone() };
        let words = |rest: &str| rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        if let Some(rest) = line.strip_prefix("%onlyarch ") {
            let is_own = words(rest).iter().any(|word| Arch::named(word) == Some(plan.arch));
            is_ignored = (!is_own).then_some("for another CPU");
            plan.exact(&of_line, "packages.lists", "");
        } else if let Some(rest) = line.strip_prefix("%onlyversions ") {
            let is_own = words(rest)
                .iter()
                .any(|word| *word == plan.release || recipe::release_named(plan.distro, word) == Some(&plan.release));
            is_ignored = (!is_own).then_some("for another release");
            plan.exact(&of_line, "packages.lists", "");
        } else if let (Some(reason), false) = (is_ignored, line.is_empty()) {
            plan.stays(&of_line, reason);
        } else {
            for word in words(line) {
                let of_word = Key { value: word.clone(), ..of_line.clone() };
                match word.strip_prefix('<') {
                    Some(included) => {
                        let included = included.trim_end_matches('>');
                        let shown = shown
                            .rsplit_once('/')
                            .map_or(included.to_owned(), |(above, _)| format!("{above}/{included}"));
                        if list(plan, roots, &below, included, &shown, read) {
                            plan.exact(&of_word, "packages.lists", "");
                        } else {
                            plan.decide(&of_word, "the list that it includes is not read");
                        }
                    }
                    None if word.starts_with('@') => plan.groups(&of_word, &[word]),
                    None => plan.install(&of_word, &[word]),
                }
            }
        }
    }
    true
}

/// A script of onboot.d or firstboot.d: a postscript, if it does not need what only Confluent's nodes have.
fn node_script(plan: &mut Plan, root: &Arc<Root>, key: &Key, path: &str, stage: &str) {
    let text = match root.text(path) {
        Ok(text) => text,
        Err(error) => return plan.decide(key, format!("it is not read: {error}")),
    };
    let is_empty = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    if is_empty {
        return plan.stays(key, "it has no commands");
    }
    let mut is_left = false;
    for (at, line) in text.lines().enumerate() {
        let of_line = Key { line: at + 1, value: line.trim().to_owned(), ..key.clone() };
        if let Some(helper) =
            HELPERS.iter().find(|helper| line.contains(*helper) && !line.trim_start().starts_with('#'))
        {
            plan.decide(
                &of_line,
                format!("it uses `{helper}`, which only nodes of Confluent have: the script is left out"),
            );
            is_left = true;
        }
    }
    if is_left {
        return;
    }
    let masked = crate::input::secrets::masked(&text, false);
    for (line, problem) in &masked.lines {
        plan.decide(&Key { line: *line, ..key.clone() }, crate::plan::secret(problem));
    }
    let name = format!("scripts/{}", path.trim_start_matches("scripts/").replace('/', "-"));
    let begins = if text.starts_with("#!") { "" } else { "#!/bin/sh\n" };
    plan.files.insert(name.clone(), (Content::Bytes(format!("{begins}{}", masked.text).into_bytes()), 0o755));
    plan.postscripts.push(name);
    match stage {
        "firstboot" => {
            plan.differs(key, Some("node.postscripts"), "it runs at each boot: a node without a disk has no first one")
        }
        _ => plan.exact(key, "node.postscripts", ""),
    }
}
