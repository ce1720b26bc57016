//! What well-known programs do with their words: package managers, systemctl, makers of initrds.

use super::Part;
use super::secrets;

/// Programs that load something from a network.
const LOADERS: [&str; 14] = [
    "curl",
    "wget",
    "git",
    "pip",
    "pip3",
    "npm",
    "gem",
    "go",
    "cargo",
    "scp",
    "sftp",
    "subscription-manager",
    "SUSEConnect",
    "conda",
];

/// Options of package managers that have a value of their own.
const WITH_VALUE: [&str; 16] = [
    "--enablerepo",
    "--disablerepo",
    "--repo",
    "--repoid",
    "--setopt",
    "--releasever",
    "--installroot",
    "--exclude",
    "-x",
    "-c",
    "-o",
    "-t",
    "--target-release",
    "--type",
    "-r",
    "--from",
];

/// Options that select something that a recipe says in another way.
const SELECT: [&str; 11] = [
    "--enablerepo",
    "--disablerepo",
    "--repo",
    "--repoid",
    "--exclude",
    "-x",
    "-t",
    "--target-release",
    "-r",
    "--from",
    "--nogpgcheck",
];

const UPDATED: &str = "packages have the versions of image.lock";
const ASKS: &str = "it changes nothing in the image";
const CACHE: &str = "the package manager leaves no cache in the image";

/// What a simple command does; its words without quotes, each with whether a shell would still expand it.
pub(super) fn part(words: &[(String, bool)], text: &str) -> Part {
    let mut words = words;
    let is_assignment = |word: &str| {
        word.split_once('=')
            .is_some_and(|(name, _)| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
    };
    while words.first().is_some_and(|(word, _)| word == "sudo" || word == "env" || is_assignment(word))
        && words.len() > 1
    {
        words = &words[1..];
    }
    let Some(((program, _), rest)) = words.split_first() else { return Part::Other };
    if let Some(problem) = secrets::of_line(text) {
        return Part::Secret(problem);
    }
    let call = Call::of(program.rsplit('/').next().unwrap_or(program), rest);
    match call.program {
        "dnf" | "yum" | "microdnf" | "dnf5" | "dnf-3" => call.of_dnf(),
        "zypper" => call.of_zypper(),
        "apt-get" | "apt" | "aptitude" | "add-apt-repository" => call.of_apt(),
        _ => call.of_others(),
    }
}

/// A program with its words.
struct Call<'a> {
    program: &'a str,
    options: Vec<String>,
    plain: Vec<String>,
    /// Words that a shell would still expand.
    open: Vec<String>,
    /// Whether an option, or another word, is one of them.
    is_open: bool,
}

impl<'a> Call<'a> {
    fn of(program: &'a str, words: &[(String, bool)]) -> Self {
        let words = without_redirections(words);
        let is_open = words.iter().any(|(_, is_open)| *is_open);
        let mut call = Self { program, options: Vec::new(), plain: Vec::new(), open: Vec::new(), is_open };
        let mut all = words.iter();
        while let Some((word, is_open)) = all.next() {
            // `-yt pattern` of zypper.
            let is_cluster = program == "zypper" && word.len() > 2 && !word.starts_with("--") && word.ends_with('t');
            if !word.starts_with('-') || word == "-" {
                if *is_open { call.open.push(word.clone()) } else { call.plain.push(word.clone()) }
            } else if is_cluster
                || WITH_VALUE.contains(&word.as_str()) && !matches!(program, "systemctl" | "rpm" | "dpkg" | "git")
            {
                let word = if is_cluster { "-t" } else { word.as_str() };
                call.options.push(format!("{word} {}", all.next().map_or("", |(word, _)| word.as_str())));
            } else {
                call.options.push(word.clone());
            }
        }
        call
    }

    fn verb(&self) -> &str {
        self.plain.first().map_or("", String::as_str)
    }

    /// The words after the verb.
    fn names(&self) -> Vec<String> {
        self.plain.get(1..).unwrap_or_default().to_vec()
    }

    fn has(&self, names: &[&str]) -> bool {
        self.options.iter().any(|option| names.contains(&option.as_str()))
    }

    fn install(&self) -> Part {
        if self.open.iter().any(|word| word.contains('|')) {
            return Part::Network;
        }
        let is_selecting = |option: &&String| SELECT.iter().any(|one| option.split([' ', '=']).next() == Some(*one));
        let options = self.options.iter().filter(is_selecting).cloned().collect();
        Part::Install { names: self.names(), open: self.open.clone(), options }
    }

    fn of_dnf(&self) -> Part {
        let names = self.names();
        match self.verb() {
            "install" | "in" => self.install(),
            verb @ ("groupinstall" | "group" | "groups") => {
                let names = if verb == "groupinstall" { names } else { names.get(1..).unwrap_or_default().to_vec() };
                let is_install = verb == "groupinstall" || self.plain.get(1).is_some_and(|verb| verb == "install");
                if self.is_open || !is_install { Part::Network } else { Part::Groups(names) }
            }
            "remove" | "erase" | "autoremove" if !self.is_open => Part::Remove(names),
            "update" | "upgrade" | "distro-sync" | "update-minimal" if names.is_empty() => Part::Needless(UPDATED),
            "update" | "upgrade" => self.install(),
            "clean" | "makecache" => Part::Needless(CACHE),
            "versionlock" => Part::Needless(UPDATED),
            "list" | "repolist" | "info" | "mark" | "check-update" => Part::Needless(ASKS),
            "copr" => Part::Repository,
            "module" if !self.is_open && names.len() > 1 => Part::Module(names[0].clone(), names[1..].to_vec()),
            "config-manager" if self.has(&["--set-enabled", "--enable"]) && names.len() == 1 && !self.is_open => {
                Part::Component(names[0].clone())
            }
            "config-manager" => Part::Repository,
            "" if self.has(&["--version"]) => Part::Needless(CACHE),
            _ => Part::Network,
        }
    }

    fn of_zypper(&self) -> Part {
        let names = self.names();
        match self.verb() {
            "install" | "in" => {
                let is_pattern = self.options.iter().any(|option| option.ends_with("pattern"));
                match is_pattern && !self.is_open {
                    true => Part::Groups(names),
                    false => self.install(),
                }
            }
            "remove" | "rm" if !self.is_open => Part::Remove(names),
            "refresh" | "ref" | "update" | "up" | "dist-upgrade" | "dup" | "patch" => Part::Needless(UPDATED),
            "clean" | "cc" => Part::Needless(CACHE),
            "addrepo" | "ar" | "modifyrepo" | "mr" | "removerepo" | "rr" => Part::Repository,
            _ => Part::Network,
        }
    }

    fn of_apt(&self) -> Part {
        let names = self.names();
        match self.verb() {
            "install" => self.install(),
            "remove" | "purge" if !self.is_open => Part::Remove(names),
            "update" | "upgrade" | "dist-upgrade" | "full-upgrade" | "autoremove" => Part::Needless(UPDATED),
            "clean" | "autoclean" => Part::Needless(CACHE),
            _ => Part::Network,
        }
    }

    fn of_others(&self) -> Part {
        let names = self.names();
        match (self.program, self.verb()) {
            ("yum-config-manager", name) if self.has(&["--enable"]) && self.plain.len() == 1 && !self.is_open => {
                Part::Component(name.to_owned())
            }
            ("yum-config-manager", _) => Part::Repository,
            ("crb", "enable") => Part::Component("crb".to_owned()),
            ("rpm", _) if self.has(&["-e", "--erase"]) && !self.is_open => Part::Remove(self.plain.clone()),
            ("rpm", _) if self.has(&["--import"]) => Part::Repository,
            ("rpm", _) if self.plain.iter().any(|word| word.contains("://")) => Part::Network,
            ("rpmkeys" | "apt-key", _) => Part::Repository,
            ("dpkg", _) if self.has(&["-r", "--remove", "-P", "--purge"]) && !self.is_open => {
                Part::Remove(self.plain.clone())
            }
            ("systemctl", "enable") if !self.is_open && !self.has(&["--user", "--global"]) => Part::Enable(names),
            ("systemctl", "disable") if !self.is_open && !self.has(&["--user", "--global"]) => Part::Disable(names),
            ("systemctl", "mask") if !self.is_open && !self.has(&["--user", "--global"]) => Part::Mask(names),
            ("systemctl", "start" | "restart" | "stop" | "reload" | "daemon-reload" | "status") | ("service", _) => {
                Part::Needless("no service runs while an image is built")
            }
            (
                "dracut" | "mkinitrd" | "mkinitramfs" | "update-initramfs" | "kernel-install" | "grub2-mkconfig"
                | "grub-mkconfig" | "update-grub",
                _,
            ) => Part::Initrd,
            ("git", "config" | "init") => Part::Other,
            (python, "pip") if python.starts_with("python") && self.has(&["-m"]) => Part::Network,
            (program, _) if LOADERS.contains(&program) => Part::Network,
            _ => Part::Other,
        }
    }
}

/// Words without those that say where output goes.
fn without_redirections(words: &[(String, bool)]) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let mut all = words.iter();
    while let Some((word, is_open)) = all.next() {
        let operator = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '&');
        if !is_open || !operator.starts_with(['>', '<']) {
            found.push((word.clone(), *is_open));
        } else if operator.trim_matches(['>', '<']).is_empty() {
            all.next();
        }
    }
    found
}
