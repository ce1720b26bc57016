//! What lies next to a description: the overlay tree and the scripts.

use super::Description;
use crate::input::roots::Kind;
use crate::input::xml::Element;
use crate::plan::{Content, Key, Ownership, Plan, Step};

/// Stand-ins for KIWI's functions, which its scripts find as /.kconfig.
const KCONFIG: &str = include_str!("kconfig.sh");

impl Description<'_> {
    pub(super) fn files(&mut self, plan: &mut Plan, image: &Element) {
        self.packaged_files(plan, image, "archive");
        let mut overlays = vec!["root".to_owned()];
        overlays.extend(self.profiles.iter().filter(|name| !name.contains('/') && !name.starts_with('.')).cloned());
        for overlay in overlays {
            if self.roots.own.is_folder(&overlay) {
                self.overlay(plan, &overlay);
            }
        }
        for name in ["root.tar", "root.tar.gz", "root.tar.xz", "root.tar.bz2"] {
            if self.roots.own.is_file(name) {
                self.seen.insert(name.to_owned());
                super::packages::archive(plan, &self.next_to(name), &self.roots.own, name, "/");
            }
        }
        self.packaged_files(plan, image, "file");
        self.certificates(plan, image);
        self.users(plan, image);
        self.scripts(plan, image);
        self.others(plan);
    }

    /// What a file next to the description is called.
    fn next_to(&self, name: &str) -> Key {
        let folder = self.file.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        Key::new(&format!("{folder}{name}"), 0, name, "")
    }

    fn overlay(&mut self, plan: &mut Plan, overlay: &str) {
        self.seen.insert(overlay.to_owned());
        let key = self.next_to(overlay);
        // KIWI gives all of it to root.
        plan.put_from(&key, &self.roots.own, overlay, "", &Ownership::default());
    }

    fn scripts(&mut self, plan: &mut Plan, image: &Element) {
        let mut is_prepared = false;
        for name in ["post_bootstrap.sh", "config.sh", "images.sh"] {
            if !self.roots.own.is_file(name) {
                continue;
            }
            self.seen.insert(name.to_owned());
            let key = Key { line: 1, ..self.next_to(name) };
            let text = match self.roots.own.text(name) {
                Ok(text) => text,
                Err(error) => {
                    plan.decide(&key, format!("it is not read: {error}"));
                    continue;
                }
            };
            if name == "post_bootstrap.sh" {
                plan.decide(&key, "it runs between the packages of the bootstrap and the others, where no script of a recipe runs: move what it does into a postinstall script");
                continue;
            }
            if !is_prepared && (text.contains(".kconfig") || text.contains(".profile") || text.contains("kiwi_")) {
                is_prepared = true;
                self.prepare(plan, image, &key);
            }
            for (at, line) in text.lines().enumerate() {
                for word in functions(line) {
                    let of_line = Key { line: at + 1, value: line.trim().to_owned(), ..key.clone() };
                    plan.decide(
                        &of_line,
                        format!("`{word}` is a function of KIWI that scripts do not find here: write what it does"),
                    );
                }
            }
            plan.script(&key, name, &text);
        }
        if is_prepared {
            plan.steps.push(Step::Run {
                place: self.file.clone(),
                text: "rm -f /.kconfig /.profile".to_owned(),
                fails: true,
            });
        }
        for (name, reason) in [
            ("pre_disk_sync.sh", "it runs for disks only"),
            ("disk.sh", "it runs for disks only"),
            ("edit_boot_install.sh", "it is of boot loaders"),
            ("edit_boot_config.sh", "it is of boot loaders"),
            ("config-overlay.sh", "it runs for delta containers only"),
            ("config-host-overlay.sh", "it runs for delta containers only"),
        ] {
            if self.roots.own.is_file(name) {
                self.seen.insert(name.to_owned());
                plan.stays(&self.next_to(name), reason);
            }
        }
    }

    /// Puts `/.kconfig` and `/.profile` into the image as long as scripts run.
    fn prepare(&mut self, plan: &mut Plan, image: &Element, key: &Key) {
        let version = image.children.iter().filter(|one| one.name == "preferences").flat_map(|one| &one.children);
        let version =
            version.filter(|one| one.name == "version").map(|one| one.text.clone()).next().unwrap_or_default();
        let profiles = self.profiles.iter().cloned().collect::<Vec<_>>().join(",");
        let kind = self.kinds.iter().next().cloned().unwrap_or_default();
        let values = [
            ("kiwi_iname", image.get("name").unwrap_or_default()),
            ("kiwi_iversion", version.as_str()),
            ("kiwi_profiles", profiles.as_str()),
            ("kiwi_type", kind.as_str()),
            ("kiwi_timezone", plan.timezone.as_deref().unwrap_or_default()),
            ("kiwi_language", plan.locale.as_deref().unwrap_or_default()),
        ];
        let text: String =
            values.iter().map(|(name, value)| format!("export {name}={}\n", crate::plan::quoted(value))).collect();
        let folder = plan.scripts_folder();
        let (functions, profile) = (plan.free_script("kconfig"), plan.free_script("profile"));
        plan.files.insert(format!("{folder}/{functions}"), (Content::Bytes(KCONFIG.as_bytes().to_vec()), 0o644));
        plan.files.insert(format!("{folder}/{profile}"), (Content::Bytes(text.into_bytes()), 0o644));
        let text = format!(
            "cp /.imgbuild-import/scripts/{functions} /.kconfig && cp /.imgbuild-import/scripts/{profile} /.profile"
        );
        plan.steps.push(Step::Run { place: key.place(), text, fails: true });
    }

    /// Files that nothing named.
    fn others(&mut self, plan: &mut Plan) {
        let names = self.roots.own.names("").unwrap_or_default();
        for name in names.iter().filter(|name| !self.seen.contains(*name) && !name.starts_with('.')) {
            let is_folder = self.roots.own.entry(name).is_ok_and(|entry| entry.kind == Kind::Folder);
            let what = if is_folder { "folder" } else { "file" };
            plan.stays(&self.next_to(name), format!("a {what} that the description does not name"));
        }
    }
}

/// Functions of KIWI that a line calls, and that have no stand-in.
fn functions(line: &str) -> Vec<&str> {
    if line.trim_start().starts_with('#') {
        return Vec::new();
    }
    let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let is_function = |word: &&str| {
        ["base", "suse", "debian"].iter().any(|begin| {
            word.strip_prefix(begin).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
        })
    };
    let is_defined = |word: &str| KCONFIG.lines().any(|line| line.starts_with(&format!("{word}()")));
    words.filter(is_function).filter(|word| !is_defined(word)).collect()
}
