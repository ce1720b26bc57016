//! The packages' sections of a description, and the files in them.

use super::{Description, counts};
use crate::input::xml::Element;
use crate::plan::{Ownership, Plan, Step, quoted};

impl Description<'_> {
    pub(super) fn packages(&mut self, plan: &mut Plan, section: &Element) {
        let kind = section.get("type").unwrap_or("image").to_owned();
        let is_other = !["bootstrap", "image", "delete", "uninstall"].contains(&kind.as_str());
        // Those of disks and media bring what makes them.
        if is_other && !["kis", "pxe", "cpio", "squashfs", "tbz"].contains(&kind.as_str()) {
            let shown = |child: &Element| match (child.name.as_str(), child.get("name").unwrap_or_default()) {
                ("package", name) => name.to_owned(),
                (element, name) => format!("{element} {name}"),
            };
            let names = section.children.iter().map(shown).collect::<Vec<_>>().join(", ");
            return plan.stays(
                &self.key(section, format!("packages type={kind}"), names),
                format!("only for images of the type {kind}"),
            );
        }
        if section.get("patternType") == Some("plusRecommended") {
            plan.differs(
                &self.key(section, "packages patternType", "plusRecommended"),
                Some("packages.lists"),
                "recommended packages are not installed: name them",
            );
        } else if let Some(kind) = section.get("patternType") {
            plan.exact(&self.key(section, "packages patternType", kind), "packages.lists", "");
        }
        plan.exact(&self.key(section, "packages type", &kind), "packages.lists", "");
        for child in &section.children {
            let name = child.get("name").unwrap_or_default().to_owned();
            let key = self.key(child, format!("packages/{}", child.name), &name);
            if !counts(child, &self.profiles, plan.arch) {
                plan.stays(&key, "for another profile or CPU");
                continue;
            }
            for (attribute, value) in &child.attributes {
                let key = self.key(child, format!("packages/{} {attribute}", child.name), value);
                match attribute.as_str() {
                    "bootinclude" | "bootdelete" => {
                        plan.stays(&key, "for an initrd that KIWI builds itself: the recipe's is a stage of its own");
                    }
                    "replaces" => plan
                        .decide(&key, "the package that it replaces: add it as --NAME to the list, if it is installed"),
                    _ => {}
                }
            }
            match child.name.as_str() {
                "package" if kind == "delete" || kind == "uninstall" => plan.remove(&key, &[name]),
                "package" => plan.install(&key, &[name]),
                "namedCollection" | "collectionModule" | "ignore" | "product"
                    if kind == "delete" || kind == "uninstall" =>
                {
                    plan.decide(&key, "only packages are removed: name those that it stands for as --NAME in the list")
                }
                "namedCollection" => plan.groups(&key, &[name]),
                "collectionModule" => {
                    let stream = child.get("stream").map(|stream| format!("{name}:{stream}")).unwrap_or(name);
                    plan.module(
                        &key,
                        if child.get("enable") == Some("false") { "disable" } else { "enable" },
                        &[stream],
                    );
                }
                "ignore" => match plan.package_name(&name) {
                    Ok(name) => {
                        plan.package(format!("-{name}"));
                        plan.exact(&key, "packages.lists", "");
                    }
                    Err(reason) => plan.decide(&key, reason),
                },
                "product" => plan.decide(&key, "a product of zypper: add the packages that it stands for"),
                // With the other files.
                "file" | "archive" => {}
                _ => plan.unknown(&key),
            }
        }
    }

    /// `file` and `archive` of the packages' sections.
    pub(super) fn packaged_files(&mut self, plan: &mut Plan, image: &Element, wanted: &str) {
        let sections =
            image.children.iter().filter(|one| one.name == "packages" && counts(one, &self.profiles, plan.arch));
        let children: Vec<Element> = sections
            .flat_map(|one| &one.children)
            .filter(|one| one.name == wanted && counts(one, &self.profiles, plan.arch))
            .cloned()
            .collect();
        for child in &children {
            let name = child.get("name").unwrap_or_default();
            let key = self.key(child, format!("packages/{wanted}"), name);
            self.seen
                .extend(crate::input::roots::inside(name).and_then(|path| path.split('/').next().map(str::to_owned)));
            let (root, path) = match self.roots.find("", name) {
                Ok(found) => found,
                Err(reason) => {
                    plan.decide(&key, reason);
                    continue;
                }
            };
            match wanted {
                "file" => {
                    let target = child.get("target").unwrap_or(name);
                    let target = format!("/{}", target.trim_start_matches('/'));
                    let mode = child.get("permissions").and_then(|text| u32::from_str_radix(text, 8).ok());
                    if child.get("permissions").is_some() && mode.is_none() {
                        plan.decide(&key, "its permissions are not an octal number: set them in [sync.owner]");
                    }
                    let own = Ownership {
                        mode,
                        owner: child.get("owner").and_then(|owner| plan.owner(&key, owner)),
                        ..Ownership::default()
                    };
                    plan.put_from(&key, &root, &path, &target, &own);
                }
                _ => archive(plan, &key, &root, &path, child.get("target_dir").unwrap_or("/")),
            }
        }
    }
}

/// A tar archive that is unpacked in the image.
pub(super) fn archive(
    plan: &mut Plan,
    key: &crate::plan::Key,
    root: &std::sync::Arc<crate::input::roots::Root>,
    path: &str,
    target: &str,
) {
    if let Err(error) = root.file(path) {
        return plan.decide(key, format!("`{path}` is not read: {error}"));
    }
    // Others may have its name.
    let name = plan.free_script(path);
    let place = format!("{}/{name}", plan.scripts_folder());
    plan.files.insert(place, (crate::plan::Content::Beneath(root.clone(), path.to_owned()), 0o644));
    let target = format!("/{}", target.trim_start_matches('/'));
    let text = format!(
        "mkdir -p {} && tar -C {} -xf {}",
        quoted(&target),
        quoted(&target),
        quoted(&format!("/.imgbuild-import/scripts/{name}"))
    );
    plan.steps.push(Step::Run { place: key.place(), text, fails: true });
    plan.differs(
        key,
        Some("postinstall.scripts"),
        "unpacked by the image's own tar: its content is not looked into, so see that it has no secrets",
    );
}
