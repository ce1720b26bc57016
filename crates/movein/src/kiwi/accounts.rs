//! Users and certificates of a description.

use recipe::Family;

use super::{Description, counts};
use crate::input::xml::Element;
use crate::plan::{Key, Ownership, Plan, Step, quoted};

impl Description<'_> {
    pub(super) fn certificates(&mut self, plan: &mut Plan, image: &Element) {
        let sections: Vec<&Element> = image
            .children
            .iter()
            .filter(|one| one.name == "certificates" && counts(one, &self.profiles, plan.arch))
            .collect();
        let (folder, tool) = match plan.family() {
            Family::Suse => ("/etc/pki/trust/anchors", "update-ca-certificates"),
            Family::RedHat => ("/etc/pki/ca-trust/source/anchors", "update-ca-trust"),
            Family::Debian => ("/usr/local/share/ca-certificates", "update-ca-certificates"),
        };
        let mut place = None;
        for one in &sections {
            let of = one.get("target_distribution").unwrap_or_default();
            let key = self.key(one, "certificates target_distribution", of);
            let is_own = matches!(
                (plan.family(), of),
                (Family::Suse, "suse") | (Family::RedHat, "redhat") | (Family::Debian, "debian") | (_, "")
            );
            match is_own {
                true => plan.exact(&key, "files", ""),
                false => plan.differs(
                    &key,
                    Some("files"),
                    "certificates are put where the image's own distribution reads them",
                ),
            }
        }
        for child in sections.iter().flat_map(|one| &one.children) {
            let name = child.get("name").unwrap_or_default();
            let key = self.key(child, "certificates/certificate", name);
            match self.roots.find("", name) {
                Ok((root, path)) => {
                    let base = path.rsplit('/').next().unwrap_or(&path).to_owned();
                    plan.put_from(&key, &root, &path, &format!("{folder}/{base}"), &Ownership::default());
                    place = Some(key.place());
                }
                Err(reason) => plan.decide(&key, reason),
            }
        }
        if let Some(place) = place {
            plan.steps.push(Step::Run { place, text: tool.to_owned(), fails: true });
        }
    }

    pub(super) fn users(&mut self, plan: &mut Plan, image: &Element) {
        let sections: Vec<&Element> =
            image.children.iter().filter(|one| one.name == "users" && counts(one, &self.profiles, plan.arch)).collect();
        for user in sections.iter().flat_map(|one| &one.children) {
            let name = user.get("name").unwrap_or_default().to_owned();
            let key = self.key(user, "users/user", &name);
            if user.name != "user" {
                plan.unknown(&self.key(user, format!("users/{}", user.name), &user.text));
                continue;
            }
            if user.get("password").is_some_and(|password| !password.is_empty()) {
                let of_password = Key { key: "users/user password".to_owned(), ..key.clone() };
                let reason = match name.as_str() {
                    "root" => crate::plan::secret("root's password"),
                    _ => format!(
                        "the password of {name} is not written into the recipe: the account is locked; sync /etc/shadow to nodes, or use keys"
                    ),
                };
                plan.decide(&of_password, reason);
            }
            let is_name = |text: &str| {
                text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
                    && text.len() <= 32
                    && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.-".contains(c))
            };
            for (attribute, _) in &user.attributes {
                if !["name", "password", "pwdformat", "home", "id", "groups", "realname", "shell"]
                    .contains(&attribute.as_str())
                {
                    plan.unknown(&self.key(user, format!("users/user {attribute}"), "(not shown)"));
                }
            }
            if !is_name(&name) {
                plan.decide(&key, "not a valid name of a user");
                continue;
            }
            let mut text = String::new();
            let mut groups = Vec::new();
            for group in
                user.get("groups").unwrap_or_default().split(',').map(str::trim).filter(|group| !group.is_empty())
            {
                let (group, number) = group.split_once(':').unwrap_or((group, ""));
                if !is_name(group) || !number.chars().all(|c| c.is_ascii_digit()) {
                    plan.decide(&key, format!("`{group}` is not a valid name of a group"));
                    continue;
                }
                let number = if number.is_empty() { String::new() } else { format!(" -g {number}") };
                text.push_str(&format!("getent group {group} >/dev/null || groupadd{number} {group}\n"));
                groups.push(group.to_owned());
            }
            let mut options = Vec::new();
            for (option, attribute) in [("-u", "id"), ("-d", "home"), ("-s", "shell"), ("-c", "realname")] {
                if let Some(value) = user.get(attribute).filter(|value| !value.is_empty()) {
                    options.push(format!("{option} {}", quoted(value)));
                }
            }
            if let Some((first, others)) = groups.split_first() {
                options.push(format!("-g {first}"));
                if !others.is_empty() {
                    options.push(format!("-G {}", others.join(",")));
                }
            }
            // What each system has is as it should be.
            let is_plain_root =
                name == "root" && user.get("shell").is_none() && user.get("home").is_none_or(|home| home == "/root");
            if is_plain_root {
                plan.exact(&key, "system", "");
                continue;
            }
            let options = options.join(" ");
            text.push_str(&format!("if getent passwd {name} >/dev/null; then usermod {options} {name}; else useradd -m {options} {name}; fi"));
            plan.steps.push(Step::Run { place: key.place(), text, fails: true });
            plan.exact(&key, "postinstall.scripts", "");
        }
    }
}
