//! Packages, groups and streams of the input, as lines of the list.

use recipe::Family;

use super::{Key, Plan};

impl Plan {
    /// Packages by name.
    pub(crate) fn install(&mut self, key: &Key, names: &[String]) {
        let mut is_done = false;
        for name in names {
            // Groups and streams have names as packages do, for dnf.
            if name.starts_with('@') && self.family() == Family::RedHat {
                match name.contains(':') {
                    true => self.module(key, "install", &[name.trim_start_matches('@').to_owned()]),
                    false => self.groups(key, std::slice::from_ref(name)),
                }
                continue;
            }
            match self.package_name(name) {
                Ok(name) => {
                    // The last word counts.
                    self.packages.retain(|line| *line != format!("--{name}"));
                    self.installed_at.insert(name.clone(), self.ran);
                    self.package(name.as_str());
                    match name == "epel-release" {
                        true => self.extra_component(key, "epel"),
                        false => is_done = true,
                    }
                }
                Err(reason) => self.decide(&Key { value: name.clone(), ..key.clone() }, reason),
            }
        }
        if is_done {
            self.exact(key, "packages.lists", "");
        }
    }

    /// Groups of comps, patterns of SUSE.
    pub(crate) fn groups(&mut self, key: &Key, names: &[String]) {
        for name in names {
            let of_name = Key { value: name.clone(), ..key.clone() };
            let name = name.trim_start_matches('@');
            if name.is_empty() || name.contains([',', '#', '\n']) || name.chars().any(char::is_control) {
                self.decide(&of_name, "not a valid name of a group");
                continue;
            }
            match self.family() {
                // Groups of comps, patterns of zypper.
                Family::RedHat | Family::Suse => {
                    self.package(format!("@{name}"));
                    self.exact(&of_name, "packages.lists", "");
                }
                Family::Debian => {
                    self.decide(&of_name, "groups have no counterpart in Debian's packages: add the packages")
                }
            }
        }
    }

    /// Packages that are removed after the others are installed, unless commands ran while they were there.
    pub(crate) fn remove(&mut self, key: &Key, names: &[String]) {
        if names.is_empty() {
            return self.stays(key, "not needed: what nothing needs is not installed");
        }
        let mut is_done = false;
        for name in names {
            let of_name = Key { value: name.clone(), ..key.clone() };
            match self.package_name(name) {
                Err(reason) => self.decide(&of_name, reason),
                // Also one that no list names: a group or the base has it.
                Ok(name) if self.ran > self.installed_at.get(&name).copied().unwrap_or_default() => self.decide(
                    &of_name,
                    format!("commands before it may use {name}, and a recipe removes packages before commands run: it is kept; add --{name} to the list if they do not, or remove it in a postinstall script"),
                ),
                Ok(name) => {
                    self.package(format!("--{name}"));
                    is_done = true;
                }
            }
        }
        if is_done {
            self.differs(
                key,
                Some("packages.lists"),
                "removed after the others are installed and before commands run, with what depends on it; to drop files alone use [exclude] lists",
            );
        }
    }

    /// Streams of modules.
    pub(crate) fn module(&mut self, key: &Key, verb: &str, streams: &[String]) {
        for stream in streams {
            let of_stream = Key { value: stream.clone(), ..key.clone() };
            let is_fine = stream.chars().all(|c| c.is_ascii_alphanumeric() || "._:/+-".contains(c));
            match (verb, is_fine) {
                ("enable" | "install", true) => {
                    self.package(format!("@{stream}"));
                    match verb {
                        "install" => self.exact(&of_stream, "packages.lists", ""),
                        _ => self.differs(
                            &of_stream,
                            Some("packages.lists"),
                            "the stream is installed with its default profile, where it was only enabled",
                        ),
                    }
                }
                ("reset", true) => self.stays(&of_stream, "not needed: a build begins without streams"),
                _ => self.decide(
                    &of_stream,
                    "streams cannot be disabled: name the wanted one as @module:stream in the list",
                ),
            }
        }
    }
}
