//! From what nodes are to boot to files of loaders, and to the state.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rayon::prelude::*;

use super::builds::{Builds, note_pins};
use super::{Arguments, Outcome, diff, gone, refused, shown};
use crate::Exit;
use crate::output::render;
use crate::setup::print_findings;
use crate::verbs::nodes::{Site, failed};
use base::source::Finding;
use efi::signatures_of;
use nodes::deploy::Served;
use nodes::loaders::{Boot, Bootable, KERNEL, Loader, NodeFiles, Templates};
use nodes::{Assigned, Assignments, Attr, Boots, Effective, NodeSet};

pub(super) fn loader_of(own: &Arguments, node: &Effective) -> Outcome<Loader> {
    let of_file = || node.text(Attr::Loader).and_then(Loader::named);
    own.loader.map(Loader::from).or_else(of_file).ok_or_else(|| {
        let problem = format!("which boot loader does `{}` have?\n  help: name it with --loader, or with ‹loader = \"ipxe\"› in nodes.toml, for instance in [defaults]", node.name);
        refused(&problem, Exit::Usage)
    })
}

pub(super) fn out_of(own: &Arguments, site: &Site) -> Outcome<PathBuf> {
    known_out(own, site).ok_or_else(|| {
        let problem = "where do boot loaders load from?\n  help: name the directory with --out DIR, for instance /tftpboot, or with ‹[nodeset] out = \"...\"› in nodes.toml";
        refused(problem, Exit::Usage)
    })
}

/// The directory that loaders load from, where it is said.
pub(super) fn known_out(own: &Arguments, site: &Site) -> Option<PathBuf> {
    let root = site.nodes.file.path.parent().map(PathBuf::from).unwrap_or_default();
    let of_file = || site.nodes.out.as_ref().map(|out| root.join(out));
    let out = own.out.clone().or_else(of_file)?;
    Some(std::path::absolute(&out).unwrap_or(out))
}

/// Where nodes of a loader find the images.
pub(super) fn url_of(own: &Arguments, site: &Site, loader: Loader) -> Outcome<String> {
    let name = loader.name();
    let url = own.url.clone().or_else(|| site.nodes.url.clone()).or_else(|| loader.own_url().map(str::to_owned));
    let Some(url) = url else {
        let problem = format!(
            "{name} does not know the server that it came from\n  help: say where the images are, with --url http://HOST/PATH, or with ‹[nodeset] url = \"...\"› in nodes.toml"
        );
        return Err(refused(&problem, Exit::Usage));
    };
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).filter(|rest| !rest.is_empty());
    let shown = url.escape_debug();
    if rest.is_none() || url.contains(char::is_whitespace) || url.contains(['\'', '"', '\\']) {
        let problem = format!("`{shown}` is not a URL that nodes can use: write http://HOST/PATH or https://HOST/PATH");
        return Err(refused(&problem, Exit::Usage));
    }
    if url.starts_with("https:") && matches!(loader, Loader::Grub | Loader::Pxelinux) {
        let problem = format!("{name} fetches by http only: give a URL with http://, or use another loader");
        return Err(refused(&problem, Exit::Usage));
    }
    Ok(url)
}

/// Files of each node, all that is wrong reported together.
fn rendered(
    site: &Site,
    wanted: &BTreeMap<String, Assigned>,
    builds: &mut Builds,
) -> Outcome<BTreeMap<String, NodeFiles>> {
    let loaders =
        wanted.values().filter(|one| one.boots != Boots::Nothing).filter_map(|one| Loader::named(&one.loader));
    let root = site.nodes.file.path.parent().map(PathBuf::from).unwrap_or_default();
    let reported = |finding: Finding| {
        print_findings(&[finding], 1);
        Exit::Input
    };
    let templates = Templates::read(&root, loaders).map_err(reported)?;
    let mut bootables: Vec<(Boots, Option<(Bootable, String)>)> = Vec::new();
    for one in wanted.values() {
        if !bootables.iter().any(|(known, _)| known == &one.boots) {
            bootables.push((one.boots.clone(), builds.bootable(&one.boots)?));
        }
    }
    let (mut jobs, mut nameless, mut alien) = (Vec::new(), NodeSet::default(), NodeSet::default());
    let mut files = BTreeMap::new();
    for (name, assigned) in wanted {
        let (Some(node), Some(loader)) = (site.nodes.get(name), Loader::named(&assigned.loader)) else { continue };
        if assigned.boots == Boots::Nothing {
            files.insert(name.clone(), NodeFiles::default());
            continue;
        }
        let found = bootables.iter().find(|(boots, _)| boots == &assigned.boots).and_then(|(_, found)| found.as_ref());
        let arch = node.text(Attr::Arch);
        let fits = arch.is_none_or(|arch| loader.runs_on(arch) && found.is_none_or(|(_, target)| is_for(target, arch)));
        if !fits || (arch.is_none() && loader == Loader::Petitboot) {
            alien.insert(name);
        } else if loader.files(&node).is_empty() {
            nameless.insert(name);
        } else {
            jobs.push((name, node, loader, found.map(|(bootable, _)| bootable), &assigned.url));
        }
    }
    if !alien.is_empty() {
        let name =
            alien.iter().next().and_then(|name| wanted.get(name)).map(|one| one.loader.clone()).unwrap_or_default();
        let problem = format!(
            "{name} or the image is for another processor than these nodes have: {alien}\n  help: correct `arch` or `loader` of the nodes, or give them another image; petitboot needs arch = \"ppc64le\""
        );
        return Err(refused(&problem, Exit::Input));
    }
    if !nameless.is_empty() {
        let problem = format!(
            "the loader finds its file by MAC address or address, and these nodes have none: {nameless}\n  help: give each ‹mac = \"52:54:00:12:34:56\"›"
        );
        return Err(refused(&problem, Exit::Input));
    }
    starts_signed(&jobs, wanted)?;
    let heard = site.nodes.report.as_deref().map(|server| server.trim_end_matches('/'));
    let tokens = heard.map(|server| Ok::<_, Exit>((server, site.state.tokens().map_err(failed)?))).transpose()?;
    let texts: Result<Vec<_>, Finding> = jobs
        .par_iter()
        .map(|(name, node, loader, bootable, url)| {
            let report = tokens.as_ref().map(|(server, tokens)| {
                let token = match bootable {
                    Some(boots) => tokens.of_build(name, &boots.image, &boots.build),
                    None => tokens.of(name),
                };
                format!("{server}/-/report/{name}/{token}")
            });
            let (loader, bootable, report) = (*loader, *bootable, report.as_deref());
            let boot = Boot { node, loader, bootable, url, servers: &site.nodes.servers, report };
            boot.files(&templates).map(|files| ((*name).clone(), files))
        })
        .collect();
    files.extend(texts.map_err(reported)?);
    Ok(files)
}

/// A node's name, with what its files are made of.
type Job<'a> = (&'a String, Effective, Loader, Option<&'a Bootable>, &'a String);

/// Whether shim and GRUB would start the kernels of nodes behind shim.
fn starts_signed(jobs: &[Job], wanted: &BTreeMap<String, Assigned>) -> Outcome<()> {
    let mut kernels: BTreeMap<&PathBuf, (String, NodeSet)> = BTreeMap::new();
    for (name, ..) in jobs.iter().filter(|(_, _, loader, ..)| *loader == Loader::Shim) {
        if let Some(Boots::Image { image, build, directory }) = wanted.get(*name).map(|one| &one.boots) {
            kernels
                .entry(directory)
                .or_insert_with(|| (format!("{image}@{build}"), NodeSet::default()))
                .1
                .insert(name.as_str());
        }
    }
    for (directory, (which, nodes)) in kernels {
        match signatures_of(&directory.join(KERNEL)) {
            Ok(found) => {
                let signers: Vec<String> = found.iter().map(|one| format!("`{}`", one.signer)).collect();
                render::say(&format!("the kernel of {which} is signed by {}", signers.join(" and ")));
                let info = build::BuildInfo::read(directory);
                if let Some(first) = info.as_ref().and_then(|info| info.own_drivers.first()) {
                    render::say(&format!(
                        "warning: {which} has drivers of its own (`{}`): with Secure Boot the kernel loads them only if they are signed with a key that it trusts",
                        first.escape_debug()
                    ));
                }
            }
            Err(problem) => {
                let problem = format!(
                    "the kernel of {which} {problem}, but these nodes use Secure Boot: {nodes}\n  help: give the image a kernel that its distribution signs, such as Debian's linux-image-amd64: ‹[kernel] package = \"...\"›; or give nodes without Secure Boot another loader: ‹loader = \"grub\"›"
                );
                return Err(refused(&problem, Exit::Input));
            }
        }
    }
    Ok(())
}

/// Whether an image's target, which ends in its architecture, is for a processor.
fn is_for(target: &str, arch: &str) -> bool {
    let words: &[&str] = match arch {
        "x86_64" => &["x86_64", "amd64"],
        "aarch64" => &["aarch64", "arm64"],
        "ppc64le" => &["ppc64le", "ppc64el"],
        _ => return true,
    };
    let known = ["x86_64", "amd64", "aarch64", "arm64", "ppc64le", "ppc64el"];
    let named = target.split([' ', '/', ',']).filter(|word| known.contains(word)).count() > 0;
    !named || target.split([' ', '/', ',']).any(|word| words.contains(&word))
}

/// Gives nodes what is wanted: all of them, or none. `last` does what belongs to it, just before it counts.
pub(super) fn apply(
    own: &Arguments,
    site: &Site,
    wanted: BTreeMap<String, Assigned>,
    builds: &mut Builds,
    last: impl FnOnce(&Site) -> Result<(), nodes::StateError>,
) -> Outcome<()> {
    let is_dry = own.dry_run || own.diff;
    // Waits for others, and finishes what a killed one had begun.
    let _turn = match is_dry {
        true => None,
        false => Some(site.state.turn().map_err(failed)?),
    };
    if !is_dry {
        site.state.settle().map_err(failed)?;
    }
    let mut files = rendered(site, &wanted, builds)?;
    let old = site.state.assignments().map_err(failed)?;
    let outs: std::collections::BTreeSet<&PathBuf> = wanted.values().map(|one| &one.out).collect();
    let [out] = outs.into_iter().collect::<Vec<_>>()[..] else {
        let problem = "these nodes' files are in several directories\n  help: name fewer nodes at a time";
        return Err(refused(problem, Exit::Input));
    };
    let served = Served::open(out).map_err(failed)?;
    if !is_dry {
        served.tidy();
    }
    let gave_way = gone::give_way(site, (&served, &old), &mut files, own.force);
    let changes = served.changes(&files, own.diff);
    if let Some((path, one, other)) = changes.twice.first() {
        let problem = format!(
            "`{one}` and `{other}` would both have the file `{path}`\n  help: give one of them another name or address, or move both nodes together"
        );
        return Err(refused(&problem, Exit::Input));
    }
    if !changes.foreign.is_empty() && !own.force {
        let shown: Vec<&str> = changes.foreign.iter().take(5).map(String::as_str).collect();
        let problem = format!(
            "{} in {} {} not written by imgbuild\n  help: --force replaces them and keeps each as FILE.ORIG",
            shown.join(", "),
            out.display(),
            if changes.foreign.len() == 1 { "was" } else { "were" }
        );
        return Err(refused(&problem, Exit::Input));
    }
    let mut new = old.clone();
    let mut moved = NodeSet::default();
    let mut left: BTreeMap<&str, Assigned> = BTreeMap::new();
    for (before, node) in &gave_way {
        let taken = new.nodes.remove(before);
        render::say(&format!("{before} is no longer in {}: {node} takes its files", site.nodes.file.name));
        left.extend(taken.map(|taken| (node.as_str(), taken)));
    }
    for (name, assigned) in &wanted {
        // What another name of it had is where it goes back to.
        let now_has = new.nodes.get(name).or_else(|| left.get(name.as_str()));
        let same = new.nodes.contains_key(name)
            && now_has.is_some_and(|known| {
                (&known.boots, &known.loader, &known.out, &known.url)
                    == (&assigned.boots, &assigned.loader, &assigned.out, &assigned.url)
            });
        if !same {
            moved.insert(name);
            let previous = now_has.map(|known| Box::new(Assigned { previous: None, ..known.clone() }));
            new.nodes.insert(name.clone(), Assigned { previous, ..assigned.clone() });
        }
    }
    if own.diff {
        render::print(&diff::text(&changes));
    }
    if is_dry {
        return shown::done(own, &wanted, &moved, &changes, true);
    }
    if moved.is_empty() && changes.is_none() {
        last(site).map_err(failed)?;
        return shown::done(own, &wanted, &moved, &changes, false);
    }
    gone::say_left(site, &new);
    note_pins(&site.state, &both(&old, &new), &old)?;
    let outcome = (|| {
        let mut pending = served.write(&files)?;
        site.state.announce(&new, pending.turn())?;
        pending.link(own.force)?;
        last(site)?;
        pending.take()?;
        site.state.settle()
    })();
    if let Err(error) = outcome {
        let exit = failed(error);
        // What was announced does not count, unless the link was turned.
        let _ = site.state.settle();
        let counts = site.state.assignments().unwrap_or(old);
        note_pins(&site.state, &counts, &new)?;
        return Err(exit);
    }
    note_pins(&site.state, &new, &old)?;
    shown::done(own, &wanted, &moved, &changes, false)
}

pub(super) fn both(old: &Assignments, new: &Assignments) -> Assignments {
    let mut all = new.clone();
    for (name, assigned) in &old.nodes {
        // The names stand for nothing here: both are wanted.
        all.nodes.insert(format!("{name} before"), assigned.clone());
    }
    all
}
