//! The elements of a description.

use recipe::Family;

use super::{Description, counts};
use crate::input::xml::Element;
use crate::plan::{AptArchive, Key, Plan, RpmKind, RpmRepository};

/// What the description says of disks and boot loaders, which nodes of a network have not.
const OF_DISKS: &str = "disks, media and boot loaders: nodes boot over the network";

/// Attributes and children that elements have; a star stands for all. Source: kiwi.rnc.
const KNOWN: [(&str, &str, &str); 22] = [
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
    ("containers", "*", "*"),
    ("container", "*", "*"),
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
        Key::new(element.file.as_deref().unwrap_or(&self.file), element.line, name, value)
    }

    pub(super) fn profiles(&self, plan: &mut Plan, image: &Element) {
        let all = image.children.iter().filter(|one| one.name == "profiles").flat_map(|one| &one.children);
        for one in all.filter(|one| one.name == "profile") {
            let name = one.get("name").unwrap_or_default();
            let key = self.key(one, "profiles/profile", name);
            match self.profiles.contains(name) {
                true => plan.exact(&key, "image", ""),
                false => plan.stays(&key, "not taken: --profile NAME takes it"),
            }
        }
    }

    /// What says for which images a section or an entry is, of one that is taken.
    fn selected(&self, plan: &mut Plan, element: &Element, name: &str) {
        for (attribute, value) in
            element.attributes.iter().filter(|(name, _)| ["profiles", "arch"].contains(&name.as_str()))
        {
            plan.exact(&self.key(element, format!("{name} {attribute}"), value), "image", "");
        }
    }

    pub(super) fn elements(&mut self, plan: &mut Plan, image: &Element) {
        let sections: Vec<&Element> =
            image.children.iter().filter(|one| counts(one, &self.profiles, plan.arch)).collect();
        let arch = plan.arch;
        let skipped = image.children.iter().filter(|one| !counts(one, &self.profiles, arch));
        for one in skipped {
            let of = one.get("profiles").or_else(|| one.get("arch")).unwrap_or_default();
            let names: Vec<&str> = one.children.iter().filter_map(|child| child.get("name")).collect();
            let shown = if names.is_empty() { of.to_owned() } else { format!("{of}: {}", names.join(", ")) };
            plan.stays(&self.key(one, &one.name, shown), "for another profile or CPU");
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
            self.selected(plan, section, &section.name);
            match section.name.as_str() {
                "preferences" | "profiles" => {}
                "description" => {
                    plan.stays(
                        &self.key(section, "description", section.get("type").unwrap_or_default()),
                        "it describes",
                    );
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

    /// What a repository's attributes say, beside those that become a part of it.
    fn repository_attributes(&self, plan: &mut Plan, section: &Element) {
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
                "prefer-license" | "use_for_bootstrap" | "status" => {
                    plan.stays(&key, "how KIWI uses it while it builds")
                }
                "imageonly"
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
    }

    fn repository(&mut self, plan: &mut Plan, section: &Element) {
        let source = section.children.iter().find(|child| child.name == "source");
        let path = source.and_then(|source| source.get("path")).unwrap_or_default();
        let key = self.key(section, "repository", path);
        self.repository_attributes(plan, section);
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
}
