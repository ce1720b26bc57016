//! Commands of a shell, as far as a recipe has fields for them.

use std::collections::BTreeMap;

use super::secrets;

/// What a simple command does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Installs packages; options that select what a recipe selects otherwise.
    Install {
        names: Vec<String>,
        options: Vec<String>,
    },
    /// Installs groups, or patterns of SUSE.
    Groups(Vec<String>),
    Remove(Vec<String>),
    /// Module streams of dnf: the verb and the streams.
    Module(String, Vec<String>),
    /// Enables a repository of the distribution that is usually off.
    Component(String),
    Enable(Vec<String>),
    Disable(Vec<String>),
    Mask(Vec<String>),
    /// Has no effect in a build of this tool, for this reason.
    Needless(&'static str),
    /// Makes an initrd or a boot loader's menu.
    Initrd,
    /// Changes repositories or keys of the image.
    Repository,
    /// Needs a network.
    Network,
    Secret(&'static str),
    Other,
}

/// A simple command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// What joins it to the one before: `&&` or `;`.
    pub(crate) joined: &'static str,
    pub(crate) text: String,
    pub(crate) part: Part,
}

/// Words with which a shell begins something that is more than simple commands.
const KEYWORDS: [&str; 14] =
    ["if", "then", "else", "fi", "for", "while", "until", "case", "esac", "do", "done", "function", "{", "}"];

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

/// Programs that ask something: before `&&` they are the condition of what follows.
const ASKING: [&str; 8] = ["[", "[[", "test", "!", "grep", "command", "which", "type"];

/// The simple commands of a text, with the values of variables that are known; none where it is more than that.
pub(crate) fn steps(text: &str, variables: &BTreeMap<String, String>) -> Option<Vec<Step>> {
    let mut found: Vec<Step> = Vec::new();
    let mut is_asked = false;
    for (joined, text) in split(text)? {
        let words = words(&text, variables);
        let Some((first, _)) = words.first() else { continue };
        if KEYWORDS.contains(&first.as_str()) || is_asked && joined == "&&" {
            return None;
        }
        is_asked = ASKING.contains(&first.as_str());
        let mut part = part(&words, &text);
        // What a pipe leads to may load something, too.
        if part == Part::Other && pieces(&text).iter().skip(1).any(|piece| loader(piece).is_some()) {
            part = Part::Network;
        }
        found.push(Step { joined, text, part });
    }
    Some(found)
}

/// Commands between pipes.
fn pieces(text: &str) -> Vec<String> {
    let (mut found, mut current, mut quote) = (Vec::new(), String::new(), None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None | Some('"'), '\\') => {
                current.push(c);
                current.extend(chars.next());
                continue;
            }
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"' | '`') => quote = Some(c),
            (None, '|') => {
                found.push(std::mem::take(&mut current));
                continue;
            }
            _ => {}
        }
        current.push(c);
    }
    found.push(current);
    found
}

/// Whether a line of a script needs a network: the program.
pub(crate) fn loader(line: &str) -> Option<String> {
    if line.trim_start().starts_with('#') {
        return None;
    }
    let pieces = line
        .split(['|', ';', '&', '(', '`'])
        .flat_map(|piece| piece.split(" do "))
        .flat_map(|piece| piece.split("then "));
    let begins = ["if", "then", "else", "elif", "do", "while", "until", "!", "{"];
    pieces.map(|piece| words(piece, &BTreeMap::new())).find_map(|words| {
        let first = words.iter().position(|(word, _)| !begins.contains(&word.as_str()))?;
        let words = &words[first..];
        match part(words, "") {
            Part::Network
            | Part::Install { .. }
            | Part::Groups(_)
            | Part::Module(..)
            | Part::Repository
            | Part::Component(_) => Some(words.first()?.0.clone()),
            _ => None,
        }
    })
}

/// Commands between `&&`, `;` and line ends; none for what groups them otherwise.
fn split(text: &str) -> Option<Vec<(&'static str, String)>> {
    let chars: Vec<char> = text.chars().collect();
    let (mut found, mut current, mut joined) = (Vec::new(), String::new(), ";");
    let mut quote = None;
    let mut depth = 0;
    let mut at = 0;
    while at < chars.len() {
        let (c, next) = (chars[at], chars.get(at + 1).copied());
        at += 1;
        match (quote, c) {
            (None | Some('"'), '\\') => {
                at += 1;
                match next {
                    Some('\n') => current.push(' '),
                    Some(next) => current.extend(['\\', next]),
                    None => {}
                }
                continue;
            }
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"' | '`') => quote = Some(c),
            (None, '$') if next == Some('(') => {
                depth += 1;
                current.push('$');
                at += 1;
                current.push('(');
                continue;
            }
            (None, '(') if depth == 0 => return None,
            (None, '(') => depth += 1,
            (None, ')') => {
                if depth == 0 {
                    return None;
                }
                depth -= 1;
            }
            _ if depth > 0 => {}
            (None, '#') if current.trim().is_empty() || current.ends_with(char::is_whitespace) => {
                while at < chars.len() && chars[at] != '\n' {
                    at += 1;
                }
                continue;
            }
            (None, '|') if next == Some('|') => return None,
            (None, '<') if next == Some('<') && chars.get(at + 1) != Some(&'<') => return None,
            (None, '&') if next == Some('&') => {
                at += 1;
                found.push((joined, std::mem::take(&mut current)));
                joined = "&&";
                continue;
            }
            (None, '&') if !current.ends_with('>') && next != Some('>') => return None,
            // A pipe goes on after a line end.
            (None, '\n') if current.trim_end().ends_with('|') => {
                current.push(' ');
                continue;
            }
            (None, ';' | '\n') => {
                // A line end after `&&` joins nothing.
                if current.trim().is_empty() {
                    continue;
                }
                found.push((joined, std::mem::take(&mut current)));
                joined = ";";
                continue;
            }
            _ => {}
        }
        current.push(c);
    }
    if quote.is_some() || depth > 0 {
        return None;
    }
    found.push((joined, current));
    Some(
        found
            .into_iter()
            .map(|(joined, text)| (joined, text.trim().to_owned()))
            .filter(|(_, text)| !text.is_empty())
            .collect(),
    )
}

/// Words without their quotes, and whether a shell would still expand them.
fn words(text: &str, variables: &BTreeMap<String, String>) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let mut word: Option<(String, bool)> = None;
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            found.extend(word.take());
            continue;
        }
        let (text, is_open) = word.get_or_insert_with(Default::default);
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None | Some('"'), '\\') => text.extend(chars.next()),
            (Some('\''), _) => text.push(c),
            (_, '$') => {
                let braced = chars.next_if_eq(&'{').is_some();
                let mut name = String::new();
                while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                }
                let is_closed = !braced || chars.next_if_eq(&'}').is_some();
                match variables.get(&name) {
                    Some(value) if is_closed => text.push_str(value),
                    _ => {
                        *is_open = true;
                        text.push_str(&format!("${name}"));
                    }
                }
            }
            (_, '`') => *is_open = true,
            (None, '*' | '?' | '[' | '~' | '<' | '>' | '|' | '{') => {
                *is_open = true;
                text.push(c);
            }
            _ => text.push(c),
        }
    }
    found.extend(word);
    found
}

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

fn part(words: &[(String, bool)], text: &str) -> Part {
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
    let is_open = rest.iter().any(|(_, is_open)| *is_open);
    let program = program.rsplit('/').next().unwrap_or(program);
    let (mut options, mut plain) = (Vec::new(), Vec::new());
    let mut all = rest.iter().map(|(word, _)| word.as_str()).peekable();
    while let Some(word) = all.next() {
        if !word.starts_with('-') || word == "-" {
            plain.push(word.to_owned());
        } else if WITH_VALUE.contains(&word) && !matches!(program, "systemctl" | "rpm" | "dpkg" | "git") {
            options.push(format!("{word} {}", all.next().unwrap_or_default()));
        } else {
            options.push(word.to_owned());
        }
    }
    let verb = plain.first().map_or("", String::as_str);
    let names = plain.get(1..).unwrap_or_default().to_vec();
    let install = |names: Vec<String>| {
        let is_selecting = |option: &&String| SELECT.iter().any(|one| option.split([' ', '=']).next() == Some(*one));
        match is_open {
            true => Part::Network,
            false => Part::Install { names, options: options.iter().filter(is_selecting).cloned().collect() },
        }
    };
    let has = |names: &[&str]| options.iter().any(|option| names.contains(&option.as_str()));
    const UPDATED: &str = "packages have the versions of image.lock";
    const CACHE: &str = "the package manager leaves no cache in the image";
    match (program, verb) {
        ("dnf" | "yum" | "microdnf" | "dnf5" | "dnf-3", verb) => match verb {
            "install" | "in" => install(names),
            "groupinstall" | "group" | "groups" => {
                let names = if verb == "groupinstall" { names } else { names.get(1..).unwrap_or_default().to_vec() };
                let is_install = verb == "groupinstall" || plain.get(1).is_some_and(|verb| verb == "install");
                if is_open || !is_install { Part::Network } else { Part::Groups(names) }
            }
            "remove" | "erase" | "autoremove" if !is_open => Part::Remove(names),
            "update" | "upgrade" | "distro-sync" | "update-minimal" if names.is_empty() => Part::Needless(UPDATED),
            "update" | "upgrade" => install(names),
            "clean" | "makecache" => Part::Needless(CACHE),
            "module" if !is_open && names.len() > 1 => Part::Module(names[0].clone(), names[1..].to_vec()),
            "config-manager" if has(&["--set-enabled", "--enable"]) && names.len() == 1 && !is_open => {
                Part::Component(names[0].clone())
            }
            "config-manager" => Part::Repository,
            "" if has(&["--version"]) => Part::Needless(CACHE),
            _ => Part::Network,
        },
        ("crb", "enable") => Part::Component("crb".to_owned()),
        ("zypper", "install" | "in") => {
            let is_pattern = options.iter().any(|option| option.ends_with("pattern"));
            match is_pattern && !is_open {
                true => Part::Groups(names),
                false => install(names),
            }
        }
        ("zypper", "remove" | "rm") if !is_open => Part::Remove(names),
        ("zypper", "refresh" | "ref" | "update" | "up" | "dist-upgrade" | "dup" | "patch") => Part::Needless(UPDATED),
        ("zypper", "clean" | "cc") => Part::Needless(CACHE),
        ("zypper", "addrepo" | "ar" | "modifyrepo" | "mr" | "removerepo" | "rr") => Part::Repository,
        ("zypper", _) => Part::Network,
        ("apt-get" | "apt" | "aptitude", "install") => install(names),
        ("apt-get" | "apt" | "aptitude", "remove" | "purge") if !is_open => Part::Remove(names),
        ("apt-get" | "apt" | "aptitude", "update" | "upgrade" | "dist-upgrade" | "full-upgrade" | "autoremove") => {
            Part::Needless(UPDATED)
        }
        ("apt-get" | "apt" | "aptitude", "clean" | "autoclean") => Part::Needless(CACHE),
        ("apt-get" | "apt" | "aptitude" | "add-apt-repository", _) => Part::Network,
        ("rpm", _) if has(&["-e", "--erase"]) && !is_open => Part::Remove(plain.clone()),
        ("rpm", _) if has(&["--import"]) => Part::Repository,
        ("rpm", _) if plain.iter().any(|word| word.contains("://")) => Part::Network,
        ("rpmkeys" | "apt-key", _) => Part::Repository,
        ("dpkg", _) if has(&["-r", "--remove", "-P", "--purge"]) && !is_open => Part::Remove(plain.clone()),
        ("systemctl", "enable") if !is_open && !has(&["--user", "--global"]) => Part::Enable(names),
        ("systemctl", "disable") if !is_open && !has(&["--user", "--global"]) => Part::Disable(names),
        ("systemctl", "mask") if !is_open && !has(&["--user", "--global"]) => Part::Mask(names),
        ("systemctl", "start" | "restart" | "stop" | "reload" | "daemon-reload" | "status") | ("service", _) => {
            Part::Needless("no service runs while an image is built")
        }
        (
            "dracut" | "mkinitrd" | "mkinitramfs" | "update-initramfs" | "kernel-install" | "grub2-mkconfig"
            | "grub-mkconfig" | "update-grub",
            _,
        ) => Part::Initrd,
        ("git", "config" | "init") => Part::Other,
        (program, _) if LOADERS.contains(&program) => Part::Network,
        _ => Part::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<Part> {
        steps(text, &BTreeMap::from([("V".to_owned(), "5.14".to_owned())]))
            .unwrap()
            .into_iter()
            .map(|step| step.part)
            .collect()
    }

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn commands_that_a_recipe_has_fields_for_are_known() {
        let found = parts(
            "dnf update -y \\\n  && DEBIAN_FRONTEND=x dnf install -y --enablerepo crb \\\n  kernel-$V 'vim' && dnf clean all; systemctl enable --now sshd\ntouch /x",
        );
        let names = list(&["kernel-5.14", "vim"]);
        assert_eq!(
            found,
            [
                Part::Needless("packages have the versions of image.lock"),
                Part::Install { names, options: list(&["--enablerepo crb"]) },
                Part::Needless("the package manager leaves no cache in the image"),
                Part::Enable(list(&["sshd"])),
                Part::Other,
            ]
        );
        assert_eq!(parts("dnf -y groupinstall 'Minimal Install'"), [Part::Groups(list(&["Minimal Install"]))]);
        assert_eq!(parts("dnf group install -y \"A B\" c"), [Part::Groups(list(&["A B", "c"]))]);
        assert_eq!(parts("zypper -n in -t pattern base"), [Part::Groups(list(&["base"]))]);
        assert_eq!(
            parts("apt-get install -y --no-install-recommends a=1 b"),
            [Part::Install { names: list(&["a=1", "b"]), options: vec![] }]
        );
        assert_eq!(parts("rpm -e --nodeps a"), [Part::Remove(list(&["a"]))]);
        assert_eq!(parts("dnf module enable -y nodejs:18"), [Part::Module("enable".into(), list(&["nodejs:18"]))]);
        assert_eq!(parts("dnf config-manager --set-enabled crb"), [Part::Component("crb".into())]);
        assert_eq!(parts("dracut -f --kver $(basename /lib/modules/*) 2>/dev/null"), [Part::Initrd]);
        assert_eq!(parts("dnf install -y kernel-$OTHER"), [Part::Network]);
        assert_eq!(parts("curl -o /x https://x.example/y"), [Part::Network]);
        assert_eq!(parts("echo made-up | passwd --stdin root"), [Part::Secret(secrets::PASSWORD)]);
    }

    #[test]
    fn what_is_more_than_simple_commands_is_left_whole() {
        for text in [
            "if true; then a; fi",
            "a || b",
            "(a; b)",
            "cat <<EOF\nx\nEOF",
            "for x in a; do b; done",
            "a &",
            "echo 'open",
        ] {
            assert_eq!(steps(text, &BTreeMap::new()), None, "{text}");
        }
        // What stands before `&&` may be the condition of what follows.
        for text in ["[ -f x ] && systemctl disable y", "! a && b", "true; grep -q x /y && systemctl enable z"] {
            assert_eq!(steps(text, &BTreeMap::new()), None, "{text}");
        }
        assert_eq!(steps("[ -f x ]; systemctl disable y", &BTreeMap::new()).unwrap().len(), 2);
        // A pipe over a line end is one command.
        let found = steps("cat a |\n  grep b\ntouch /c", &BTreeMap::new()).unwrap();
        assert_eq!(found.iter().map(|step| step.text.as_str()).collect::<Vec<_>>(), ["cat a |   grep b", "touch /c"]);
        assert_eq!(parts("cat /list | xargs -n1 echo"), [Part::Other]);
        assert_eq!((parts("cat /x | curl -T - y"), parts("echo 'a | curl'")), (vec![Part::Network], vec![Part::Other]));
        assert_eq!(steps("echo 'a; b' > /x 2>&1", &BTreeMap::new()).unwrap().len(), 1);
        assert_eq!(loader("  x=$(curl -s https://x.example/)"), Some("curl".to_owned()));
        assert_eq!(loader("if ! dnf -y install a; then"), Some("dnf".to_owned()));
        assert_eq!((loader("# curl x"), loader("echo curl")), (None, None));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[a-c $(){}'\"`\\\\|&;<>#=*\n-]{0,80}|(dnf|zypper|systemctl|rpm) [a -]{0,20}") {
            let _ = steps(&text, &BTreeMap::new());
            let _ = loader(&text);
        }
    }
}
