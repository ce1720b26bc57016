//! Commands and packages of the input: each in its turn, and named.

use std::collections::BTreeMap;

use recipe::Arch;

use super::{Content, Key, Plan, Step};
use crate::input::secrets;
use crate::input::shell::{self, Part};

/// How the other tool treats a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// Whether a command that fails stops its build.
    pub(crate) fails: bool,
    /// Values of variables in commands.
    pub(crate) variables: &'a BTreeMap<String, String>,
}

/// Options with which package managers leave recommended packages out.
const LEAN: [&str; 4] = ["install_weak_deps", "--no-install-recommends", "--no-recommends", "Install-Recommends"];

impl Plan {
    /// Words of the kernel's command line; whether some were taken. Passwords of disks and servers are named, and not taken.
    pub(crate) fn kernel_words(&mut self, key: &Key, text: &str) -> bool {
        let before = self.cmdline.len();
        for word in text.split_whitespace() {
            match secrets::of_kernel_word(word) {
                Some(problem) => self.decide(
                    &Key { value: secrets::NOT_SHOWN.to_owned(), ..key.clone() },
                    format!("a word of it has {problem}, which is not written into the recipe: every user of a node reads /proc/cmdline"),
                ),
                None => self.cmdline.push(word.to_owned()),
            }
        }
        self.cmdline.len() > before
    }

    /// A text of commands that ran in the image.
    pub(crate) fn commands(&mut self, key: &Key, text: &str, rules: Rules<'_>) {
        let mut variables = rules.variables.clone();
        // Commands that print the CPU.
        for command in ["arch", "uname -m", "uname -p", "rpm -E %_arch", "rpm --eval %_arch"] {
            variables.insert(format!("({command})"), self.arch.machine().to_owned());
        }
        variables.insert("(dpkg --print-architecture)".to_owned(), deb_name(self.arch).to_owned());
        let Some(mut steps) = shell::steps(text, &variables) else { return self.whole(key, text, rules) };
        // Commands that use packages whose names are not known may find them missing.
        let is_unknown = |part: &Part| matches!(part, Part::Install { open, .. } if !open.is_empty());
        // Accounts and passwords that a later command feeds to chpasswd.
        let mut is_left = steps.iter().any(|step| step.part == Part::Network || is_unknown(&step.part));
        for step in steps.iter_mut().filter(|step| step.part == Part::Other) {
            let is_fed = text.contains("chpasswd") || self.is_fed && secrets::prints(&step.text);
            if is_fed && secrets::is_account(&step.text) {
                step.part = Part::Secret(secrets::PASSWORD);
                step.text = secrets::NOT_SHOWN.to_owned();
                is_left = true;
            }
        }
        let mut rest: Vec<(&'static str, String)> = Vec::new();
        let mut is_said = false;
        for step in steps {
            let of_step = Key { value: step.text.clone(), ..key.clone() };
            match step.part {
                Part::Other if is_left => {
                    self.ran += 1;
                    self.decide(
                        &of_step,
                        "left out with a command of its line that is left out: put it into a postinstall script, if it is still needed",
                    );
                    self.steps.push(Step::Left { place: key.place(), text: step.text });
                }
                Part::Other => {
                    self.ran += 1;
                    rest.push((step.joined, step.text));
                    continue;
                }
                Part::Network => {
                    self.ran += 1;
                    // A part of a longer command may be what loads.
                    let first = step.text.split_whitespace().next().unwrap_or_default();
                    let program = step.text.lines().find_map(shell::loader).filter(|program| program != first);
                    let who = program.map_or(String::new(), |program| format!("runs {program}, which "));
                    self.decide(&of_step, format!("{who}needs a network, and scripts have none: the command is left out but for what became fields; put what it loads into packages or files"));
                    self.steps.push(Step::Left { place: key.place(), text: step.text });
                }
                part => {
                    let is_install = matches!(part, Part::Install { .. } | Part::Groups(_));
                    if is_install && !LEAN.iter().any(|option| step.text.contains(option)) {
                        self.weak(&of_step);
                    }
                    self.part(&of_step, part);
                }
            }
            is_said = true;
        }
        if !rest.is_empty() {
            let mut text = String::new();
            for (at, (joined, step)) in rest.iter().enumerate() {
                let joined = if at == 0 {
                    ""
                } else if *joined == "&&" {
                    " && "
                } else {
                    "; "
                };
                text.push_str(&format!("{joined}{step}"));
            }
            self.steps.push(Step::Run { place: key.place(), text, fails: rules.fails });
            self.exact(key, "postinstall.scripts", "");
        } else if !is_said {
            self.stays(key, "nothing is run");
        }
    }

    /// What is more than simple commands: a part of the script, or left out.
    fn whole(&mut self, key: &Key, text: &str, rules: Rules<'_>) {
        self.ran += 1;
        let masked = self.masked(text);
        if let Some((_, problem)) = masked.lines.first() {
            self.decide(&Key { value: secrets::NOT_SHOWN.to_owned(), ..key.clone() }, secret(problem));
            return self.steps.push(Step::Left { place: key.place(), text: masked.text.trim_end().to_owned() });
        }
        if let Some(program) = text.lines().find_map(shell::loader) {
            self.decide(key, format!("runs {program}, which needs a network, and scripts have none: it is left out"));
            return self.steps.push(Step::Left { place: key.place(), text: text.to_owned() });
        }
        self.steps.push(Step::Run { place: key.place(), text: text.trim().to_owned(), fails: rules.fails });
        self.exact(key, "postinstall.scripts", "");
    }

    /// A script without its secrets; also without passwords that another command of the input feeds to chpasswd.
    fn masked(&self, text: &str) -> secrets::Masked {
        secrets::masked(text, self.is_fed && secrets::prints(text))
    }

    /// Says once that packages which others recommend are not installed.
    fn weak(&mut self, key: &Key) {
        if !std::mem::replace(&mut self.is_weak_said, true) {
            self.differs(
                key,
                Some("packages.lists"),
                "packages that others only recommend (weak dependencies) are not installed: name those that are wanted",
            );
        }
    }

    fn part(&mut self, key: &Key, part: Part) {
        match part {
            Part::Install { names, open, options } => {
                self.install(key, &names);
                for name in open {
                    self.ran += 1;
                    let of_name = Key { value: name, ..key.clone() };
                    self.decide(&of_name, "a name that only a shell tells: add the packages that it means to the list");
                }
                for option in options {
                    let of_option = Key { value: option, ..key.clone() };
                    self.differs(&of_option, Some("packages.lists"), "the option is not translated: a recipe's repositories hold for all its packages");
                }
            }
            Part::Groups(names) => self.groups(key, &names),
            Part::Remove(names) => self.remove(key, &names),
            Part::Module(verb, streams) => self.module(key, &verb, &streams),
            Part::Component(name) => self.extra_component(key, &name),
            Part::Enable(names) => self.units(key, &names, "services.enable", |plan| &mut plan.enable),
            Part::Disable(names) => self.units(key, &names, "services.disable", |plan| &mut plan.disable),
            Part::Mask(names) => self.units(key, &names, "services.mask", |plan| &mut plan.mask),
            Part::Needless(reason) => self.stays(key, format!("not needed: {reason}")),
            Part::Initrd => self.differs(key, Some("initrd"), "the initrd is made by its own stage: name drivers in [kernel] drivers; [initrd] generator = \"dracut\" runs the release's own"),
            Part::Repository => self.decide(key, "changes repositories or their keys: write them as [[repo]] with signed-by"),
            Part::Secret(problem) => {
                self.decide(key, secret(problem));
                self.steps.push(Step::Left { place: key.place(), text: "it has a secret".to_owned() });
            }
            Part::Network | Part::Other => {}
        }
    }

    fn units(&mut self, key: &Key, names: &[String], field: &str, list: fn(&mut Self) -> &mut Vec<String>) {
        let is_fine = |name: &String| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || ":_.@\\-".contains(c))
        };
        if !names.iter().all(is_fine) || names.is_empty() {
            return self.decide(key, "not names of units: write them into [services]");
        }
        names.iter().for_each(|name| self.unit(name, list));
        self.exact(key, field, "");
    }

    /// A script that is run in the image; its secrets are left out, and what would not work is named.
    pub(crate) fn script(&mut self, key: &Key, name: &str, text: &str) {
        let name = self.script_file(key, name, text);
        self.steps.push(Step::Script { place: key.place(), name });
        self.exact(key, "postinstall.scripts", "");
    }

    /// The file of a script, without a step that runs it: its name in the folder of scripts.
    pub(crate) fn script_file(&mut self, key: &Key, name: &str, text: &str) -> String {
        self.ran += 1;
        let name = self.free_script(name);
        let masked = self.masked(text);
        for (line, problem) in &masked.lines {
            let of_line = Key {
                file: key.file.clone(),
                line: key.line.max(1) + line - 1,
                key: key.key.clone(),
                value: String::new(),
            };
            self.decide(&of_line, secret(problem));
        }
        let begins = if text.starts_with("#!") { "" } else { "#!/bin/bash\n" };
        for (at, line) in masked.text.lines().enumerate() {
            let of_line = Key { line: key.line.max(1) + at, value: line.trim().to_owned(), ..key.clone() };
            if let Some(program) = shell::loader(line) {
                self.decide(
                    &of_line,
                    format!(
                        "runs {program}, which needs a network, and scripts have none: change {}/{name}",
                        self.scripts_folder()
                    ),
                );
            }
        }
        let bytes = format!("{begins}{}", masked.text).into_bytes();
        self.files.insert(format!("{}/{name}", self.scripts_folder()), (Content::Bytes(bytes), 0o755));
        name
    }

    /// A name for a file in the folder of scripts that none there has.
    pub(crate) fn free_script(&self, name: &str) -> String {
        let name = super::repositories::file_name(name);
        let is_taken = |name: &str| self.files.contains_key(&format!("{}/{name}", self.scripts_folder()));
        let mut names = std::iter::once(name.clone()).chain((2..).map(|number| format!("{number}-{name}")));
        names.find(|name| !is_taken(name)).unwrap_or(name)
    }
}

/// A CPU as dpkg names it.
fn deb_name(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "amd64",
        Arch::Aarch64 => "arm64",
        Arch::Ppc64le => "ppc64el",
    }
}

/// What is done about a secret in a command.
pub(crate) fn secret(problem: &str) -> String {
    format!(
        "it has {problem}, which is not written into the recipe: for root's password `openssl passwd -6 >keys/root.hash` and [system] root_password_hash_file; anything else is synced to nodes, docs/sync.md"
    )
}

#[cfg(test)]
mod tests {
    use recipe::Distro;
    use site::osimage::Release;

    use super::*;
    use crate::plan::Verdict;

    fn plan(texts: &[&str]) -> Plan {
        let release = Release { distro: Distro::Rocky, release: "9".to_owned() };
        let mut plan = Plan::new("test", "input", "image", release, Arch::default());
        for (at, text) in texts.iter().enumerate() {
            let key = Key::new("input", at + 1, "RUN", *text);
            plan.commands(&key, text, Rules { fails: true, variables: &BTreeMap::new() });
        }
        plan
    }

    fn rows(plan: &Plan, verdict: Verdict) -> Vec<&str> {
        plan.rows.iter().filter(|row| row.verdict == verdict).map(|row| row.value.as_str()).collect()
    }

    #[test]
    fn a_package_that_commands_may_have_used_is_kept() {
        let found = plan(&["dnf -y install gcc vim", "dnf -y remove vim"]);
        assert_eq!(found.packages, ["gcc", "vim", "--vim"]);
        let found = plan(&["dnf -y install gcc && make && dnf -y remove gcc", "dnf -y remove nano"]);
        assert_eq!(found.packages, ["gcc"]);
        assert_eq!(rows(&found, Verdict::Decide), ["gcc", "nano"]);
        // What is installed again stays.
        assert_eq!(plan(&["dnf -y remove vim", "dnf -y install vim"]).packages, ["vim"]);
    }

    #[test]
    fn each_command_next_to_one_that_is_left_out_has_a_row() {
        let found = plan(&["curl https://x.example/y | tar x && useradd a && echo a >/etc/b"]);
        assert_eq!(rows(&found, Verdict::Decide), ["curl https://x.example/y | tar x", "useradd a", "echo a >/etc/b"]);
        assert!(found.steps.iter().all(|step| matches!(step, Step::Left { .. })), "{:?}", found.steps);
    }

    #[test]
    fn passwords_that_are_fed_in_two_commands_are_nowhere() {
        let found = plan(&["dnf -y install vim && echo 'root:hunter2' >/tmp/p && chpasswd </tmp/p"]);
        assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
        assert_eq!(found.packages, ["vim"]);
        assert!(found.steps.iter().all(|step| matches!(step, Step::Left { .. })), "{:?}", found.steps);
        // The whole form, and the value of its row.
        let found = plan(&["if true; then echo 'root:hunter2' >/tmp/p; chpasswd </tmp/p; fi"]);
        assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
    }

    #[test]
    fn passwords_of_the_command_line_and_in_reasons_are_not_written() {
        let mut found = plan(&[]);
        let key = Key::new("input", 1, "kernelcmdline", "");
        assert!(found.kernel_words(&key, "quiet rd.iscsi.password=hunter2 netroot=iscsi:me:hunter2@10.0.0.1::::iqn.x"));
        assert_eq!((found.cmdline.join(" "), rows(&found, Verdict::Decide).len()), ("quiet".to_owned(), 2));
        found.decide(&key, "https://me:hunter2@x.example/y is not fetched: save it");
        assert_eq!(found.rows[2].reason, "(not shown) is not fetched: save it");
        assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
    }

    #[test]
    fn recommended_packages_are_named_once() {
        let found = plan(&["dnf -y install a", "dnf -y install b"]);
        assert_eq!(rows(&found, Verdict::Differs), ["dnf -y install a"]);
        assert!(rows(&plan(&["dnf -y install --setopt=install_weak_deps=False a"]), Verdict::Differs).is_empty());
    }
}
