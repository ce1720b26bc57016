//! Commands of a shell, as far as a recipe has fields for them.

use std::collections::BTreeMap;

mod programs;
mod split;

use programs::part;
use split::{Piece, pieces, split, substitutions, words};

use super::secrets;

/// What a simple command does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Installs packages; options that select what a recipe selects otherwise.
    Install {
        names: Vec<String>,
        /// Names that only a shell can tell: `kernel-$(uname -r)`.
        open: Vec<String>,
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

/// The commands of a text, with the values of variables that are known; none where they cannot be taken apart.
/// A variable `(COMMAND)` is what a command prints.
pub(crate) fn steps(text: &str, variables: &BTreeMap<String, String>) -> Option<Vec<Step>> {
    let mut found: Vec<Step> = Vec::new();
    for Piece { joined, text, is_compound } in split(text)? {
        if is_compound {
            let part = of_compound(&text);
            found.push(Step { joined, text, part });
            continue;
        }
        let words = words(&text, variables);
        if words.is_empty() {
            continue;
        }
        let mut part = part(&words, &text);
        // What a pipe leads to, or whose output counts, may load something, too.
        let loads = |piece: &str| loader(piece).is_some();
        let is_loading = || pieces(&text).iter().skip(1).any(|piece| loads(piece)) || substitutions(&text).any(loads);
        if part == Part::Other && is_loading() {
            part = Part::Network;
        }
        found.push(Step { joined, text, part });
    }
    Some(found)
}

/// What `if`, `for`, `( .. )`, `a || b` do: they stay whole, or are left out.
fn of_compound(text: &str) -> Part {
    match text.lines().find_map(secrets::of_line) {
        Some(problem) => Part::Secret(problem),
        None if text.lines().any(|line| loader(line).is_some()) => Part::Network,
        None => Part::Other,
    }
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
                Part::Install { names, open: vec![], options: list(&["--enablerepo crb"]) },
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
            [Part::Install { names: list(&["a=1", "b"]), open: vec![], options: vec![] }]
        );
        assert_eq!(parts("rpm -e --nodeps a"), [Part::Remove(list(&["a"]))]);
        assert_eq!(parts("dnf module enable -y nodejs:18"), [Part::Module("enable".into(), list(&["nodejs:18"]))]);
        assert_eq!(parts("dnf config-manager --set-enabled crb"), [Part::Component("crb".into())]);
        assert_eq!(parts("dracut -f --kver $(basename /lib/modules/*) 2>/dev/null"), [Part::Initrd]);
        let of =
            |names: &[&str], open: &[&str]| Part::Install { names: list(names), open: list(open), options: vec![] };
        assert_eq!(
            parts("dnf install -y a kernel-$OTHER x-$(id -u) >/log 2>&1"),
            [of(&["a"], &["kernel-$OTHER", "x-$(id -u)"])]
        );
        assert_eq!(
            parts("dnf install -y kernel-{core,devel}-$V '{x,y}'"),
            [of(&["kernel-core-5.14", "kernel-devel-5.14", "{x,y}"], &[])]
        );
        assert_eq!(
            parts("dnf install -y a | tee /log; V=$(wget -qO- x | awk '{print}')"),
            [Part::Network, Part::Network]
        );
        assert_eq!(parts("zypper install -yt pattern base"), [Part::Groups(list(&["base"]))]);
        assert_eq!(
            parts("dnf copr enable -y a/b; yum-config-manager --add-repo x; python3 -m pip install x"),
            [Part::Repository, Part::Repository, Part::Network]
        );
        assert_eq!(parts("curl -o /x https://x.example/y"), [Part::Network]);
        assert_eq!(parts("echo made-up | passwd --stdin root"), [Part::Secret(secrets::PASSWORD)]);
    }

    #[test]
    fn what_is_more_than_simple_commands_is_left_whole() {
        for text in [
            "cat <<EOF\nx\nEOF",
            "case $x in a) b;; esac",
            "f() { a; }",
            "x=(a b)",
            "a &",
            "echo 'open",
            "if a; then b",
            "done",
        ] {
            assert_eq!(steps(text, &BTreeMap::new()), None, "{text}");
        }
        // A part that is more is one command, next to others.
        for (text, expected) in [
            ("a && if true; then b; fi; c", &["a", "if true; then b; fi", "c"][..]),
            ("a || b && c", &["a || b", "c"]),
            ("a && (b; c) \\\n && d || true", &["a", "(b; c)", "d || true"]),
            ("for x in a; do\n  if b; then c; fi\ndone # e\nd", &["for x in a; do\n  if b; then c; fi\ndone", "d"]),
            ("{ a; b; } >/x; c", &["{ a; b; } >/x", "c"]),
            // What stands before `&&` may be the condition of what follows.
            ("[ -f x ] && systemctl disable y; z", &["[ -f x ] && systemctl disable y", "z"]),
            ("! a && b", &["! a && b"]),
            ("true; grep -q x /y && systemctl enable z", &["true", "grep -q x /y && systemctl enable z"]),
        ] {
            let found = steps(text, &BTreeMap::new()).unwrap();
            assert_eq!(found.iter().map(|step| step.text.as_str()).collect::<Vec<_>>(), expected, "{text}");
            assert!(found.iter().all(|step| step.part == Part::Other), "{text} {found:?}");
        }
        assert_eq!(parts("for x in a; do dnf install -y $x; done"), [Part::Network]);
        assert_eq!(parts("echo root:made-up | chpasswd || true").len(), 1);
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
