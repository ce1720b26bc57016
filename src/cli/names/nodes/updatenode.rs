//! xCAT's `updatenode`: its `-F` brings sync lists to running nodes.

use super::{Found, find};
use crate::cli::names::Done;
use crate::cli::names::shell::Shell;

/// What of xCAT's parts is asked for.
#[derive(Debug, Default)]
struct Asked<'a> {
    range: Vec<&'a str>,
    sync: bool,
    /// The first flag whose work is not done here.
    other: Option<&'a str>,
    fanout: Option<&'a str>,
    timeout: Option<&'a str>,
    user: Option<&'a str>,
    service_nodes: bool,
}

/// `updatenode NODERANGE -F [-V] [-l USER] [-t SECONDS] [--fanout N]`. Source: updatenode(1).
pub fn run(shell: &Shell) -> Done {
    let mut asked = Asked::default();
    let mut words = shell.words().iter().map(String::as_str);
    while let Some(word) = words.next() {
        let (flag, value) = word.split_once('=').map_or((word, None), |(flag, value)| (flag, Some(value)));
        match flag {
            "-F" | "--sync" => asked.sync = true,
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
        return Err(shell.fail("no nodes\n  help: updatenode NODERANGE -F"));
    };
    if let Some(other) = asked.other {
        let help = match other {
            "-P" | "--scripts" => {
                "run scripts by EXECUTEALWAYS: in a sync list, or by your ssh tool; what an image needs at each boot belongs in it".to_owned()
            }
            "-S" | "--sw" => {
                format!("add the packages to the recipe, `imgbuild build`, `imgbuild nodeset {range}`, and boot the nodes: a diskless node's packages are its image's")
            }
            _ => "imgbuild sync --help".to_owned(),
        };
        return Err(shell.hand_on(&format!("{other} is not done by imgbuild"), &help));
    }
    if !asked.sync {
        let help = format!("updatenode {range} -F for the sync lists alone");
        return Err(shell.hand_on(
            "without -F it also runs postscripts and installs packages, which is not done by imgbuild",
            &help,
        ));
    }
    let set = match find(shell, range)? {
        Found::Ours(_, set) => set,
        Found::Others => return Err(shell.hand_on("the workspace has no nodes.toml with these nodes", "")),
    };
    shell.say_moot(&[("-f", asked.service_nodes, "files go from this host to each node")]);
    let folded = set.folded();
    let mut arguments = vec!["sync", folded.as_str()];
    let ssh = asked.user.map(|user| format!("ssh -l {user}"));
    for (flag, value) in [("--fanout", asked.fanout), ("--timeout", asked.timeout), ("--ssh", ssh.as_deref())] {
        if let Some(value) = value {
            arguments.extend([flag, value]);
        }
    }
    shell.run(&arguments)
}
