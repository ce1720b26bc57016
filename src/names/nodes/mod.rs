//! xCAT's commands for nodes, where the workspace has a `nodes.toml` that knows them: `nodeset`, `lsdef`, `chdef`. What it does not
//! know is xCAT's own.

pub(super) mod updatenode;

use super::Ended;
use super::osimage::lsdef;
use super::shell::Shell;
use crate::output::render;
use crate::setup::print_findings;
use crate::verbs::nodes::{checked, root_of};
use nodes::{NodeSet, Nodes};
use site::nodes::xcat::attributes;

pub(super) enum Found {
    Ours(Box<Nodes>, NodeSet),
    /// The workspace has no such nodes: xCAT's own may.
    Others,
}

/// Looks for nodes by xCAT's noderange.
pub(super) fn find(shell: &Shell, range: &str) -> Result<Found, Ended> {
    let reported = |findings: Vec<base::source::Finding>| {
        print_findings(&findings, 0);
        Ended(1)
    };
    let Some(nodes) = checked(&root_of(&shell.workspace)).map_err(reported)? else { return Ok(Found::Others) };
    match nodes.select_xcat(range, nodes::xcat_range::Files::Any) {
        Ok(set) => Ok(Found::Ours(Box::new(nodes), set)),
        Err(findings) if shell.real().is_some() => {
            if let Some(first) = findings.first() {
                shell.say(&format!("{}: xCAT's own {} gets it", first.message, shell.name.name()));
            }
            Ok(Found::Others)
        }
        Err(findings) => Err(reported(findings)),
    }
}

/// `nodeset NODERANGE osimage[=IMAGE]|boot|offline|stat`; gives it back where it is not for here.
pub(super) fn nodeset(shell: &Shell) -> Result<Option<()>, Ended> {
    let words: Vec<&str> = shell.words().iter().map(String::as_str).collect();
    let (flags, words): (Vec<&str>, Vec<&str>) =
        words.into_iter().partition(|word| word.starts_with('-') && word.len() > 1 && !word.contains(','));
    let [range, state] = words.as_slice() else { return Ok(None) };
    let target = match state.split_once('=').unwrap_or((state, "")) {
        ("osimage", "") => None,
        ("osimage", image) => Some(image),
        ("boot" | "offline" | "stat", "") => Some(*state),
        // Installing on disks, discovery: xCAT's.
        _ => return Ok(None),
    };
    if let Some(image) = target.filter(|image| !matches!(*image, "boot" | "offline" | "stat"))
        && shell.real().is_some()
        && (!shell.has(image) || shell.unbuildable(image).is_some())
    {
        return Ok(None);
    }
    let Found::Ours(_, set) = find(shell, range)? else { return Ok(None) };
    shell.say_moot(&[
        ("--noupdateinitrd", flags.contains(&"--noupdateinitrd"), "nodes boot a published build as it is"),
        ("--ignorekernelchk", flags.contains(&"--ignorekernelchk"), "nodes boot a published build as it is"),
    ]);
    let folded = set.folded();
    let mut arguments = vec!["nodeset", folded.as_str()];
    arguments.extend(target);
    shell.run(&arguments).map(Some)
}

/// `lsdef NODERANGE [-i ATTRIBUTES] [-s] [--osimage]`; gives it back where it is not for here.
pub(super) fn lsdef(shell: &Shell) -> Result<Option<()>, Ended> {
    let types = lsdef::types_of(shell.words());
    if !(types.is_empty() || types == ["node"]) {
        return Ok(None);
    }
    let (mut range, mut wanted, mut is_short, mut with_image) = (Vec::new(), None, false, false);
    let mut words = shell.words().iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "-t" | "-o" => range.extend(words.next().filter(|_| word == "-o")),
            "-i" => wanted = words.next().map(|text| text.split(',').collect::<Vec<_>>()),
            "-s" | "--short" => is_short = true,
            "-l" | "--long" | "-V" | "--verbose" => {}
            "-O" | "--osimage" => with_image = true,
            flag if flag.starts_with('-') => return Ok(None),
            word => range.push(word),
        }
    }
    if range.is_empty() {
        return Ok(None);
    }
    let Found::Ours(nodes, set) = find(shell, &range.join(","))? else { return Ok(None) };
    let mut text = String::new();
    for node in set.iter().filter_map(|name| nodes.get(name)) {
        if is_short {
            text.push_str(&format!("{}  (node)\n", node.name));
            continue;
        }
        text.push_str(&format!("Object name: {}\n", node.name));
        let all = attributes(&node);
        match &wanted {
            None => text.extend(all.iter().map(|(name, value)| format!("    {name}={value}\n"))),
            Some(wanted) => text.extend(wanted.iter().map(|name| {
                let value = all.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value);
                format!("    {name}={value}\n")
            })),
        }
        if with_image && let Some(image) = node.image() {
            text.push_str(&shell.output(&["list", "-l", image])?);
        }
    }
    render::print_as_is(&text);
    Ok(Some(()))
}

/// `chdef NODERANGE ATTRIBUTE=VALUE..` and `chdef -t group GROUP ATTRIBUTE=VALUE..`; gives it back where it is not for here.
pub(super) fn chdef(shell: &Shell) -> Result<Option<()>, Ended> {
    let types = lsdef::types_of(shell.words());
    let is_group = types == ["group"];
    if !(is_group || types.is_empty() || types == ["node"]) {
        return Ok(None);
    }
    let (mut range, mut pairs, mut sign) = (Vec::new(), Vec::new(), "");
    let mut words = shell.words().iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "-t" => drop(words.next()),
            "-o" => range.extend(words.next()),
            "-p" | "--plus" => sign = "+",
            "-m" | "--minus" => sign = "-",
            "-V" | "--verbose" => {}
            flag if flag.starts_with('-') => return Ok(None),
            word => match word.split_once('=') {
                Some(pair) => pairs.push(pair),
                None => range.push(word),
            },
        }
    }
    let range = range.join(",");
    if range.is_empty() || pairs.is_empty() {
        return Ok(None);
    }
    let target = match is_group {
        true => {
            let nodes = checked(&root_of(&shell.workspace)).ok().flatten();
            match nodes.filter(|nodes| nodes.groups().iter().any(|group| group.name == range)) {
                Some(_) => format!("@{range}"),
                None => return Ok(None),
            }
        }
        false => match find(shell, &range)? {
            Found::Ours(_, set) => set.folded(),
            Found::Others => return Ok(None),
        },
    };
    let mut edits = Vec::new();
    let mut arguments = vec!["set".to_owned(), "--node".to_owned(), target];
    for (name, value) in pairs {
        edits.extend(edit(shell, name, value, sign)?);
    }
    arguments.extend(edits);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    shell.run(&arguments)?;
    // xCAT's own tables say the same then.
    match shell.real() {
        Some(path) => shell.run_real(&path, None).map(Some),
        None => Ok(Some(())),
    }
}

fn edit(shell: &Shell, name: &str, value: &str, sign: &str) -> Result<Vec<String>, Ended> {
    let (key, is_list) = match name {
        "provmethod" => ("image", false),
        "mac" => ("mac", false),
        "ip" => ("ip", false),
        "arch" => ("arch", false),
        "netboot" => ("loader", false),
        "serial" => ("serial", false),
        "usercomment" => ("comment", false),
        "postscripts" => ("postscripts", true),
        "postbootscripts" => ("postbootscripts", true),
        "addkcmdline" => ("kernel_args", true),
        "installnic" | "primarynic" => ("nic", false),
        "members" => ("nodes", false),
        _ => {
            return Err(shell.fail(&format!("`{name}` has no counterpart in nodes.toml; nothing was changed\n  help: nodes have image (provmethod), mac, ip, arch, loader (netboot), nic (installnic), kernel_args (addkcmdline), postscripts, postbootscripts, comment")));
        }
    };
    let value = match (name, value) {
        ("netboot", "grub2" | "grub2-http" | "grub2-tftp") => "grub",
        ("netboot", "pxe") => "pxelinux",
        ("mac", value) => value.split(['|', '!']).next().unwrap_or_default(),
        _ => value,
    };
    if !is_list {
        return match (sign, value) {
            ("", "") => Ok(vec!["--unset".to_owned(), key.to_owned()]),
            ("", _) => Ok(vec![format!("{key}={value}")]),
            (sign, _) => Ok(vec![format!("{key}{sign}={value}")]),
        };
    }
    let separator = if key == "kernel_args" { ' ' } else { ',' };
    let items: Vec<&str> = value.split(separator).filter(|item| !item.is_empty()).collect();
    Ok(match (sign, items.is_empty()) {
        ("", true) => vec!["--unset".to_owned(), key.to_owned()],
        ("", false) => vec![format!("{key}={}", serde_json::json!(items))],
        (sign, _) => items.iter().map(|item| format!("{key}{sign}={item}")).collect(),
    })
}
