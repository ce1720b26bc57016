//! xCAT's `updatenode`: its `-F` brings sync lists to running nodes, `-S` packages, and `-P` runs their postscripts again.

use super::{Found, find};
use crate::names::Done;
use crate::names::shell::Shell;

#[derive(Debug, Default)]
struct Asked<'a> {
    range: Vec<&'a str>,
    sync: bool,
    packages: bool,
    scripts: Option<&'a str>,
    /// The first flag whose work is not done here.
    other: Option<&'a str>,
    fanout: Option<&'a str>,
    timeout: Option<&'a str>,
    user: Option<&'a str>,
    service_nodes: bool,
}

/// A marker of a list, which xCAT takes in place of a script's name.
const MARKER: &str = "-start-here";

/// `updatenode NODERANGE [-F] [-S] [-P [SCRIPTS]] [-V] [-l USER] [-t SECONDS] [--fanout N]`. Source: updatenode(1).
pub(crate) fn run(shell: &Shell) -> Done {
    let mut asked = Asked::default();
    let mut words = shell.words().iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        let (flag, value) = word.split_once('=').map_or((word, None), |(flag, value)| (flag, Some(value)));
        match flag {
            "-F" | "--sync" => asked.sync = true,
            "-S" | "--sw" => asked.packages = true,
            // Its value is optional, and may be the next word: the nodes come before it.
            "-P" | "--scripts" => {
                let next = words.next_if(|next| !next.starts_with('-') && !asked.range.is_empty() && value.is_none());
                asked.scripts = Some(value.or(next).unwrap_or_default());
            }
            "-f" | "--snsync" => asked.service_nodes = true,
            "-V" | "--verbose" => {}
            "-l" | "--user" => asked.user = value.or_else(|| words.next()),
            "-t" | "--timeout" => asked.timeout = value.or_else(|| words.next()),
            "--fanout" => asked.fanout = value.or_else(|| words.next()),
            _ if word.starts_with('-') || !asked.range.is_empty() => {
                asked.other.get_or_insert(word);
            }
            _ => asked.range.push(word),
        }
    }
    let Some(range) = asked.range.first() else {
        return Err(shell.fail("no nodes\n  help: updatenode NODERANGE -F, -S or -P"));
    };
    if let Some(other) = asked.other {
        return Err(shell.hand_on(&format!("{other} is not done by imgbuild"), "imgbuild sync --help"));
    }
    if let Some(marker) = asked.scripts.and_then(|names| names.split(',').find(|name| name.ends_with(MARKER))) {
        let help = "name the scripts of that list; -P alone runs those of all lists";
        return Err(shell.hand_on(&format!("`{marker}` is not a script"), help));
    }
    // Without a flag xCAT does all three.
    if !(asked.sync || asked.packages || asked.scripts.is_some()) {
        (asked.sync, asked.packages, asked.scripts) = (true, true, Some(""));
    }
    let set = match find(shell, range)? {
        Found::Ours(_, set) => set,
        Found::Others => return Err(shell.hand_on("the workspace has no nodes.toml with these nodes", "")),
    };
    shell.say_moot(&[("-f", asked.service_nodes, "files go from this host to each node")]);
    let folded = set.folded();
    let mut arguments = vec!["sync", folded.as_str()];
    let scripts =
        asked.scripts.map(|names| if names.is_empty() { "--scripts".to_owned() } else { format!("--scripts={names}") });
    for (is_asked, flag) in [(asked.sync, "--files"), (asked.packages, "--packages")] {
        arguments.extend(is_asked.then_some(flag));
    }
    arguments.extend(scripts.as_deref());
    let ssh = asked.user.map(|user| format!("ssh -l {user}"));
    for (flag, value) in [("--fanout", asked.fanout), ("--timeout", asked.timeout), ("--ssh", ssh.as_deref())] {
        if let Some(value) = value {
            arguments.extend([flag, value]);
        }
    }
    shell.run(&arguments)
}
