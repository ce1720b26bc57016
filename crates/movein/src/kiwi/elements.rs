//! The elements of a description.

use recipe::Family;

use super::{Description, counts};
use crate::input::xml::Element;
use crate::plan::{AptArchive, Key, Ownership, Plan, RpmKind, RpmRepository, Step, quoted};

/// What the description says of disks and boot loaders, which nodes of a network have not.
const OF_DISKS: &str = "disks, media and boot loaders: nodes boot over the network";

/// Attributes and children that elements have; a star stands for all. Source: kiwi.rnc.
const KNOWN: [(&str, &str, &str); 20] = [
    // Named one by one.
    ("image", "*", "*"),
    ("description", "type", "*"),
    ("preferences", "arch profiles", "*"),
    ("packagemanager", "name", ""),
    ("profiles", "", "profile"),
    ("profile", "name description import arch", "requires"),
    ("requires", "profile arch", ""),
    ("users", "arch profiles", "*"),
    ("user", "*", ""),
    ("repository", "*", "source"),
    ("source", "path", "signing"),
    ("signing", "key", ""),
    ("packages", "type profiles patternType arch", "*"),
    ("package", "name arch bootinclude bootdelete replaces", ""),
    ("namedCollection", "name arch", ""),
    ("collectionModule", "name stream enable arch", ""),
    ("file", "name arch target owner permissions", ""),
    ("archive", "name arch bootinclude target_dir", ""),
    ("certificates", "target_distribution arch profiles", "certificate"),
    ("certificate", "name", ""),
];

impl Description<'_> {
    /// Names attributes and elements that KIWI does not have, wherever they are.
    fn unknown(&self, plan: &mut Plan, element: &Element) {
        // What is below it is one thing: of disks and boot loaders.
        if element.name == "type" {
            return;
        }
        let known = KNOWN.iter().find(|(name, ..)| *name == element.name);
        let (attributes, children) =
            known.map_or(("name arch profiles", "*"), |(_, attributes, children)| (*attributes, *children));
        let is_known = |list: &str, name: &str| list == "*" || list.split(' ').any(|one| one == name);
        for (name, value) in element.attributes.iter().filter(|(name, _)| !is_known(attributes, name)) {
            plan.unknown(&self.key(element, format!("{} {name}", element.name), value));
        }
        for child in &element.children {
            match is_known(children, &child.name) {
                true => self.unknown(plan, child),
                false => plan.unknown(&self.key(child, format!("{}/{}", element.name, child.name), &child.text)),
            }
        }
    }

    pub(super) fn key(&self, element: &Element, name: impl Into<String>, value: impl Into<String>) -> Key {
        Key::new(&self.file, element.line, name, value)
    }

    pub(super) fn elements(&mut self, plan: &mut Plan, image: &Element) {
        let sections: Vec<&Element> =
            image.children.iter().filter(|one| counts(one, &self.profiles, plan.arch)).collect();
        let arch = plan.arch;
        let skipped = image.children.iter().filter(|one| !counts(one, &self.profiles, arch));
        for one in skipped {
            let of = one.get("profiles").or_else(|| one.get("arch")).unwrap_or_default();
            plan.stays(&self.key(one, &one.name, of), "for another profile or CPU");
        }
        self.unknown(plan, image);
        // What later sections mean depends on them.
        let preferences = || sections.iter().filter(|one| one.name == "preferences");
        let kinds = || preferences().flat_map(|one| &one.children).filter(|one| one.name == "type");
        let built = kinds().find(|one| one.is_true("primary")).or_else(|| kinds().next());
        for one in preferences() {
            self.preferences(plan, one, built);
        }
        for section in sections {
            match section.name.as_str() {
                "preferences" | "profiles" => {}
                "description" => {
                    for child in &section.children {
                        plan.stays(
                            &self.key(child, format!("description/{}", child.name), &child.text),
                            "it describes",
                        );
                    }
                }
                "repository" => self.repository(plan, section),
                "packages" => self.packages(plan, section),
                // After the files.
                "users" | "certificates" => {}
                "drivers" => {
                    plan.decide(&self.key(section, "drivers", ""), "name drivers of the initrd in [kernel] drivers")
                }
                "strip" => plan.decide(
                    &self.key(section, "strip", section.get("type").unwrap_or_default()),
                    "write what is left out into an exclude list, [exclude] lists",
                ),
                "extension" | "registry" | "instsource" => {
                    plan.stays(&self.key(section, &section.name, ""), "for other tools of KIWI")
                }
                "containers" => plan.decide(
                    &self.key(section, "containers", ""),
                    "containers are not put into images: load them on nodes, [node] postscripts",
                ),
                _ => plan.unknown(&self.key(section, &section.name, &section.text)),
            }
        }
    }

    /// `built` is the type that KIWI builds: the primary one, or the first.
    fn preferences(&mut self, plan: &mut Plan, section: &Element, built: Option<&Element>) {
        for child in &section.children {
            let key = self.key(child, format!("preferences/{}", child.name), child.get("name").unwrap_or(&child.text));
            match child.name.as_str() {
                "version" => plan.stays(&key, "it describes"),
                "packagemanager" => {
                    let family = match key.value.trim() {
                        "zypper" => Some(Family::Suse),
                        "dnf" | "dnf4" | "dnf5" | "microdnf" | "yum" => Some(Family::RedHat),
                        "apt" | "apt-get" => Some(Family::Debian),
                        _ => None,
                    };
                    match family == Some(plan.family()) {
                        true => plan.exact(&key, "image.distro", ""),
                        false => plan.decide(
                            &key,
                            format!("{} has another package manager: pass --distro and --release", plan.distro.title()),
                        ),
                    }
                }
                "type" if built.is_some_and(|built| std::ptr::eq(built, child)) => self.kind(plan, child),
                "type" => {
                    for (name, value) in &child.attributes {
                        let shown = if name == "luks" { "(not shown)" } else { value.as_str() };
                        let key = self.key(child, format!("preferences/type {name}"), shown);
                        plan.stays(&key, "for another type: KIWI builds the primary one, or the first");
                    }
                    for one in &child.children {
                        let name = one.get("name").unwrap_or_default();
                        plan.stays(&self.key(one, format!("preferences/type/{}", one.name), name), OF_DISKS);
                    }
                }
                "timezone" => {
                    plan.timezone = Some(child.text.clone());
                    plan.exact(&key, "system.timezone", "");
                }
                "locale" => match child.text.split(',').next().unwrap_or_default().trim() {
                    "POSIX" | "C" | "" => plan.stays(&key, "the usual one"),
                    first => {
                        plan.locale =
                            Some(if first.contains('.') { first.to_owned() } else { format!("{first}.UTF-8") });
                        match child.text.contains(',') {
                            false => plan.exact(&key, "system.locale", ""),
                            true => {
                                plan.differs(&key, Some("system.locale"), "the first one: packages bring the others")
                            }
                        }
                    }
                },
                "keytable" => {
                    let name = child.text.trim_end_matches(".map.gz");
                    plan.put(&key, "/etc/vconsole.conf", format!("KEYMAP={name}\n").into_bytes(), 0o644, None);
                }
                "rpm-check-signatures" => {
                    self.is_checked = child.text == "true";
                    plan.exact(&key, "repo.check-packages", "");
                }
                "rpm-excludedocs" | "rpm-locale-filtering" if child.text == "true" => {
                    plan.differs(
                        &key,
                        Some("exclude.lists"),
                        "packages are installed whole: an exclude list drops their documentation and translations",
                    );
                }
                "rpm-excludedocs" | "rpm-locale-filtering" => plan.exact(&key, "packages", ""),
                "release-version" => plan.stays(&key, "the recipe's release is meant"),
                "bootsplash-theme" | "bootloader-theme" | "showlicense" => plan.stays(&key, OF_DISKS),
                _ => plan.unknown(&key),
            }
        }
    }

    fn kind(&mut self, plan: &mut Plan, kind: &Element) {
        self.kinds.extend(kind.get("image").map(str::to_owned));
        for (name, value) in &kind.attributes {
            let key = self.key(kind, format!("preferences/type {name}"), value);
            match name.as_str() {
                "image" => plan.stays(&key, "a recipe's image boots over the network: [pack] says how it is packed"),
                "kernelcmdline" => {
                    if plan.kernel_words(&key, value) {
                        plan.exact(&key, "boot.cmdline", "");
                    }
                }
                "derived_from" => match value.split_once("://") {
                    Some(("obs" | "file" | "dir", _)) | None => plan
                        .decide(&key, "name a container image of a registry in [image] from, docs/container-base.md"),
                    Some((_, rest)) => {
                        plan.from = Some(format!("oci:{}", rest.replace('#', ":")));
                        plan.exact(&key, "image.from", "");
                    }
                },
                "luks" | "luks_version" if name == "luks" => {
                    plan.decide(
                        &Key { value: "(not shown)".to_owned(), ..key },
                        "a passphrase of a disk: nodes have none",
                    );
                }
                _ => plan.stays(&key, OF_DISKS),
            }
        }
        for child in &kind.children {
            plan.stays(
                &self.key(child, format!("preferences/type/{}", child.name), child.get("name").unwrap_or_default()),
                OF_DISKS,
            );
        }
    }

    fn repository(&mut self, plan: &mut Plan, section: &Element) {
        let source = section.children.iter().find(|child| child.name == "source");
        let path = source.and_then(|source| source.get("path")).unwrap_or_default();
        let key = self.key(section, "repository", path);
        for (name, value) in &section.attributes {
            let key = self.key(section, format!("repository {name}"), value);
            match name.as_str() {
                "username" | "password" => {
                    let key = Key { value: "(not shown)".to_owned(), ..key };
                    plan.decide(
                        &key,
                        "credentials are not written into recipes: put them into ~/.netrc, docs/security.md",
                    );
                }
                "imageonly" if value == "true" => {
                    plan.decide(&key, "not used in the build: put a file of it into the image, [sync] lists")
                }
                "imageinclude" if value == "true" => plan.differs(
                    &key,
                    Some("repo"),
                    "used in the build; for nodes put a file of it into the image, [sync] lists",
                ),
                "customize" => plan.decide(&key, "the script is not run: write what it adds into the [[repo]]"),
                "prefer-license"
                | "use_for_bootstrap"
                | "status"
                | "imageonly"
                | "imageinclude"
                | "type"
                | "alias"
                | "priority"
                | "distribution"
                | "components"
                | "repository_gpgcheck"
                | "package_gpgcheck"
                | "sourcetype"
                | "profiles"
                | "arch"
                | "architectures" => {}
                _ => plan.unknown(&key),
            }
        }
        if section.is_true("imageonly") {
            return;
        }
        if path.starts_with("obs://") || path.starts_with("obsrepositories:") {
            return plan.decide(
                &key,
                "a project of the Open Build Service: add a [[repo]] with the address where it is published",
            );
        }
        let keys: Vec<String> = source
            .iter()
            .flat_map(|source| &source.children)
            .filter(|child| child.name == "signing")
            .filter_map(|child| child.get("key"))
            .map(str::to_owned)
            .collect();
        let is_checked =
            section.is_true("package_gpgcheck") || section.is_true("repository_gpgcheck") || self.is_checked;
        let roots = Some((self.roots, ""));
        match plan.family() {
            Family::Debian => {
                let words = |name: &str| {
                    section.get(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
                };
                let (mut suites, mut components) = (words("distribution"), words("components"));
                if suites.is_empty() {
                    suites = vec!["./".to_owned()];
                } else if components.is_empty() {
                    components = vec!["main".to_owned()];
                }
                plan.apt_archive(
                    &key,
                    &AptArchive { address: path.to_owned(), suites, components, keys, is_checked },
                    roots,
                );
            }
            _ => {
                let kind = match section.get("sourcetype") {
                    Some("metalink") => RpmKind::MetaLink,
                    Some("mirrorlist") => RpmKind::MirrorList,
                    _ => RpmKind::Base,
                };
                let id = section.get("alias").unwrap_or("repo").to_owned();
                let priority = section.get("priority").map(str::to_owned);
                plan.rpm_repository(
                    &key,
                    &RpmRepository {
                        id,
                        kind,
                        address: path.to_owned(),
                        priority,
                        keys,
                        is_checked,
                        ..Default::default()
                    },
                    roots,
                );
            }
        }
    }

    fn packages(&mut self, plan: &mut Plan, section: &Element) {
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
        }
        for child in &section.children {
            let name = child.get("name").unwrap_or_default().to_owned();
            let key = self.key(child, format!("packages/{}", child.name), &name);
            if !counts(child, &self.profiles, plan.arch) {
                plan.stays(&key, "for another profile or CPU");
                continue;
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
    key: &Key,
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
