//! Driver update disks, by what is on them.
//!
//! | form | known by | what is taken |
//! |---|---|---|
//! | Red Hat, since 6 | `rhdd3` | all packages of `rpms/<arch>` |
//! | Red Hat, before | `rhdd`, `modinfo`, `modules.cgz` | of `modules.cgz` (cpio, gzip) what lies in `<release>/<arch>`; firmware |
//! | SUSE | `linux/suse/<arch>-<product>` | `install/*.rpm`, `install/update.tar.gz`; of `modules` what those lack |
//! | a plain medium | packages or modules somewhere | these |
//!
//! Sources: anaconda's README-driver-updates and driverdisc documentation, Red Hat's ddiskit, SUSE's Update-Media-HOWTO.

use std::collections::{BTreeMap, BTreeSet};

use super::found::{Content, Gathering, Place, is_module, place_of};
use crate::actions::kernel::modules::{decompress_module, modinfo};
use archive::{MemberKind, plain, read_cpio, read_tar};
use recipe::normal_name;

/// Files of a disk by path; those that do not count have no content.
pub(super) type Tree = BTreeMap<String, Vec<u8>>;

pub(super) fn counts(path: &str) -> bool {
    let base = path.rsplit('/').next().unwrap_or(path);
    [".rpm", ".deb"].iter().any(|ending| base.ends_with(ending))
        || is_module(base)
        || matches!(base, "modules.cgz" | "modinfo" | "update.tar.gz")
        || path.contains("firmware/")
}

/// SUSE's folder in a path: what stands before it, its architecture, and what follows.
fn suse(path: &str) -> Option<(&str, &str, &str)> {
    let at = path.find("linux/suse/")?;
    if at > 0 && !path[..at].ends_with('/') {
        return None;
    }
    let (folder, rest) = path[at + "linux/suse/".len()..].split_once('/')?;
    let (architecture, _) = folder.split_once('-')?;
    Some((&path[..path.len() - rest.len()], architecture, rest))
}

fn is_old_red_hat(name: &str) -> bool {
    name == "rhdd" || (name.starts_with("rhdd-") && !name.contains('/'))
}

/// Whether these are the files of a disk, and not of a directory of packages.
pub(super) fn is_disk<'n>(names: impl Iterator<Item = &'n str>) -> bool {
    names
        .into_iter()
        .any(|name| name == "rhdd3" || is_old_red_hat(name) || name == "modules.cgz" || suse(name).is_some())
}

/// Opens a package of a disk: its name in messages, its path on the disk, its content.
pub(super) type Open<'o> = dyn FnMut(&mut Gathering, &str, &str, &[u8]) -> Result<(), String> + 'o;

/// Takes the drivers of a disk.
/// Errors: A text that says what is wrong with it.
pub(super) fn take(gathering: &mut Gathering, source: &str, tree: Tree, open: &mut Open<'_>) -> Result<(), String> {
    if tree.contains_key("rhdd3") {
        return red_hat(gathering, source, &tree, open);
    }
    if tree.keys().any(|name| is_old_red_hat(name) || name == "modules.cgz") {
        return old_red_hat(gathering, source, &tree);
    }
    if tree.keys().any(|name| suse(name).is_some()) {
        return suse_disk(gathering, source, &tree, open);
    }
    let before = gathering.files.len();
    for (name, bytes) in tree.iter().filter(|(name, _)| counts(name)) {
        if let Some(place @ Place::Module(..)) = place_of(name) {
            gathering.add(source, place, Content::File(bytes.clone()));
            continue;
        }
        let inner = format!("{source}: {name}");
        open(gathering, &inner, name, bytes)?;
    }
    if gathering.files.len() == before {
        return Err("it is not a driver update disk (it has none of `rhdd3`, `rhdd` and `linux/suse`), and has no packages for this architecture".into());
    }
    Ok(())
}

fn packages<'t>(tree: &'t Tree, folder: &str) -> Vec<(&'t String, &'t Vec<u8>)> {
    let inside =
        |name: &str| name.strip_prefix(folder).is_some_and(|rest| !rest.contains('/') && rest.ends_with(".rpm"));
    tree.iter().filter(|(name, _)| inside(name)).collect()
}

fn red_hat(gathering: &mut Gathering, source: &str, tree: &Tree, open: &mut Open<'_>) -> Result<(), String> {
    let found = packages(tree, &format!("rpms/{}/", gathering.arch.machine()));
    if found.is_empty() {
        let others: BTreeSet<&str> =
            tree.keys().filter_map(|name| name.strip_prefix("rpms/")?.split_once('/')).map(|(name, _)| name).collect();
        let others = others.into_iter().collect::<Vec<_>>().join(", ");
        return Err(format!("the disk has no packages in `rpms/{}` (it has: {others})", gathering.arch.machine()));
    }
    for (name, bytes) in found {
        let inner = format!("{source}: {name}");
        open(gathering, &inner, name, bytes)?;
    }
    Ok(())
}

fn old_red_hat(gathering: &mut Gathering, source: &str, tree: &Tree) -> Result<(), String> {
    if let Some(info) = tree.get("modinfo") {
        let first = String::from_utf8_lossy(info).lines().next().unwrap_or_default().trim_end().to_owned();
        if first != "Version 0" {
            return Err(format!("its `modinfo` starts with `{first}` instead of `Version 0`"));
        }
    }
    let archive = tree.get("modules.cgz").ok_or("the disk has no `modules.cgz`")?;
    let mut releases = BTreeSet::new();
    let release = gathering.release.clone();
    let mut stream = plain(&archive[..]).map_err(|error| format!("modules.cgz: {error}"))?;
    let mut any = false;
    read_cpio(&mut stream, &mut |member| {
        let mut parts = member.path.splitn(3, '/');
        let (Some(of), Some(architecture), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
            return Ok(());
        };
        let base = rest.rsplit('/').next().unwrap_or(rest);
        if architecture != gathering.arch.machine() || !is_module(base) {
            return Ok(());
        }
        releases.insert(of.to_owned());
        if let (true, MemberKind::File(stream)) = (of == release, member.kind) {
            let bytes = gathering.content(stream)?;
            gathering.add(source, Place::Module(None, format!("updates/{base}")), Content::File(bytes));
            any = true;
        }
        Ok(())
    })
    .map_err(|problem| format!("modules.cgz: {problem}"))?;
    if !any {
        let releases = releases.into_iter().collect::<Vec<_>>().join(", ");
        return Err(format!(
            "the disk has no modules for {release} on {} (it has: {releases})",
            gathering.arch.machine()
        ));
    }
    for (name, bytes) in tree {
        let firmware = name.strip_prefix("lib/firmware/").or_else(|| name.strip_prefix("firmware/"));
        if let Some(rest) = firmware {
            let place = Place::Other(format!("usr/lib/firmware/{rest}"));
            gathering.add(source, place, Content::File(bytes.clone()));
        }
    }
    Ok(())
}

fn suse_disk(gathering: &mut Gathering, source: &str, tree: &Tree, open: &mut Open<'_>) -> Result<(), String> {
    let machine = gathering.arch.machine();
    let ours = |name: &&String| suse(name).is_some_and(|(_, architecture, _)| architecture == machine);
    if !tree.keys().any(|name| ours(&name)) {
        let folders: BTreeSet<&str> = tree.keys().filter_map(|name| Some(suse(name)?.0)).collect();
        let folders = folders.into_iter().collect::<Vec<_>>().join(", ");
        return Err(format!("the disk has nothing for {machine} (it has: {folders})"));
    }
    let before = gathering.files.len();
    for (name, bytes) in tree.iter().filter(|(name, _)| ours(name)) {
        let Some((_, _, rest)) = suse(name) else { continue };
        let inner = format!("{source}: {name}");
        if rest == "install/update.tar.gz" {
            let mut stream = plain(&bytes[..]).map_err(|error| format!("{name}: {error}"))?;
            read_tar(&mut stream, &mut |member| {
                if let (Some(place), MemberKind::File(stream)) = (place_of(&member.path), member.kind) {
                    let bytes = gathering.content(stream)?;
                    gathering.add(&inner, place, Content::File(bytes));
                }
                Ok(())
            })
            .map_err(|problem| format!("{name}: {problem}"))?;
        } else if rest.starts_with("install/") && rest.ends_with(".rpm") {
            open(gathering, &inner, name, bytes)?;
        }
    }
    // `modules` is for the kernel of the installer: it is taken where that is the image's, and no package has the module.
    let known: BTreeSet<String> = gathering.files[before..]
        .iter()
        .filter_map(|file| match &file.place {
            Place::Module(_, rest) => Some(normal_name(rest)),
            Place::Other(_) => None,
        })
        .collect();
    for (name, bytes) in tree.iter().filter(|(name, _)| ours(name)) {
        let Some(base) = suse(name).and_then(|(_, _, rest)| rest.strip_prefix("modules/")) else { continue };
        if !is_module(base) || known.contains(&normal_name(base)) {
            continue;
        }
        let plain = decompress_module(base, bytes.clone()).map_err(|error| format!("{name}: {error}"))?;
        let vermagic = modinfo(&plain, "vermagic").into_iter().next().unwrap_or_default();
        if vermagic.split(' ').next() == Some(gathering.release.as_str()) || gathering.files.len() == before {
            gathering.add(source, Place::Module(None, format!("updates/{base}")), Content::File(bytes.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_known_by_their_files() {
        let disk = |names: &[&str]| is_disk(names.iter().copied());
        assert!(disk(&["rhdd3"]) && disk(&["rhdd"]) && disk(&["rhdd-6.1"]));
        assert!(disk(&["linux/suse/x86_64-sles15/modules/a.ko"]));
        assert!(disk(&["01/linux/suse/x86_64-15.6/dud.config"]));
        assert!(!disk(&["a.rpm", "sub/rhdd3", "README"]));
        assert_eq!(suse("01/linux/suse/x86_64-sles15/install/a.rpm").unwrap().2, "install/a.rpm");
    }

    #[test]
    fn a_disk_for_another_kernel_or_machine_says_what_it_has() {
        let tree = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), Vec::new())).collect::<Tree>();
        let mut gathering = Gathering::new("6.1", recipe::Arch::X86_64);
        let mut nothing = |_: &mut Gathering, _: &str, _: &str, _: &[u8]| Ok(());
        let said = take(&mut gathering, "d", tree(&["rhdd3", "rpms/ppc64le/a.rpm"]), &mut nothing).unwrap_err();
        assert!(said.contains("it has: ppc64le"), "{said}");
        let said = take(&mut gathering, "d", tree(&["linux/suse/i586-11.1/install/a.rpm"]), &mut nothing).unwrap_err();
        assert!(said.contains("linux/suse/i586-11.1/"), "{said}");
        let said = take(&mut gathering, "d", tree(&["README"]), &mut nothing).unwrap_err();
        assert!(said.contains("not a driver update disk"), "{said}");
    }
}
