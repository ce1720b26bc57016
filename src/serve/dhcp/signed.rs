//! Nodes behind shim, which start with Secure Boot. What they load comes from where they came from, so that each node's
//! configuration, its kernel and its initrd lie below the directory of TFTP; what would be refused there is refused here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest, Sha256};

use super::Plan;
use super::loaders::{Offer, make_directory, of_node};
use super::process::write_readable;
use crate::efi::{Signature, authorities_of_shim, signatures, signatures_of};
use crate::nodes::loaders::{Bootable, KERNEL, Loader, TEMPLATES, grub_word, initrd_of, shim_file};
use crate::nodes::{Assignments, Effective, Nodes};
use crate::serve::Say;
use crate::serve::error::ServeError;
use crate::serve::site::boot::{Script, of_node as script_of};
use crate::serve::site::desk::Desk;
use crate::stage::BuildInfo;

/// Builds by name, as they are below a directory of images.
const BUILDS: &str = ".builds";
/// How long files of a build stay that no node boots any longer: one may be loading them.
const STAYS: Duration = Duration::from_secs(600);

/// Looks at what firmware loads for nodes behind shim: sentences on what it would refuse.
///
/// # Errors
/// It would refuse it in any case.
pub fn check(offers: &[Offer], nodes: &[Effective]) -> Result<Vec<String>, ServeError> {
    let mut said = Vec::new();
    if !nodes.iter().any(|node| of_node(node) == Loader::Shim) {
        return Ok(said);
    }
    for offer in offers.iter().filter(|offer| offer.loader == Loader::Shim) {
        let bytes = fs::read(&offer.from).map_err(ServeError::Machine)?;
        let refused = |path: &Path, problem: &dyn std::fmt::Display| {
            ServeError::dhcp_input(
                format!("`{}` {problem}: firmware with Secure Boot refuses it", path.display()),
                "take shim and GRUB as the distribution signs them; docs/secure-boot.md names the packages, and the names of the files in --loaders",
            )
        };
        signatures(&bytes).map_err(|problem| refused(&offer.from, &problem))?;
        let authorities = authorities_of_shim(&bytes);
        for (_, path) in &offer.beside {
            let found = signatures_of(path).map_err(|problem| refused(path, &problem))?;
            said.extend(stranger(&format!("`{}`", path.display()), &found, &authorities));
        }
    }
    Ok(said)
}

/// A sentence on a program that shim does not start without a key of the site.
fn stranger(what: &str, found: &[Signature], authorities: &[String]) -> Option<String> {
    let is_known = |one: &Signature| authorities.contains(&one.issuer) || authorities.contains(&one.signer);
    let (first, authority) = (found.first()?, authorities.first()?);
    (!found.iter().any(is_known)).then(|| {
        format!(
            "{what} is signed by `{}`, and shim trusts `{authority}`: nodes refuse it unless its key was enrolled on each (mokutil --import)",
            first.signer
        )
    })
}

/// A node behind shim.
struct Node {
    name: String,
    files: Vec<String>,
    image: Option<String>,
}

/// What texts were made from.
struct Seen {
    assigned: Arc<Assignments>,
    published: Vec<Option<PathBuf>>,
    template: Option<SystemTime>,
}

/// Keeps what nodes behind shim load where they look for it.
pub struct Behind {
    roots: Vec<PathBuf>,
    url: String,
    tftp: PathBuf,
    authorities: Vec<String>,
    nodes: Option<Arc<Nodes>>,
    behind: Vec<Node>,
    seen: Option<Seen>,
    /// Files of nodes, with their texts.
    written: BTreeMap<String, String>,
    /// Directories of builds, and since when no node boots them.
    builds: BTreeMap<PathBuf, Option<Instant>>,
    said: BTreeSet<String>,
}

impl Behind {
    /// None yet.
    pub fn new(plan: &Plan, roots: &[PathBuf], tftp: PathBuf) -> Self {
        let shims = plan.offers.iter().filter(|offer| offer.loader == Loader::Shim);
        let authorities = shims.filter_map(|shim| fs::read(&shim.from).ok());
        Self {
            roots: roots.to_vec(),
            url: plan.url(),
            tftp,
            authorities: authorities.flat_map(|bytes| authorities_of_shim(&bytes)).collect(),
            nodes: None,
            behind: Vec::new(),
            seen: None,
            written: BTreeMap::new(),
            builds: BTreeMap::new(),
            said: BTreeSet::new(),
        }
    }

    /// Writes what has changed.
    pub fn look(&mut self, desk: &Desk, say: &Say) {
        let (nodes, _) = desk.nodes();
        if !self.nodes.as_ref().is_some_and(|known| Arc::ptr_eq(known, &nodes)) {
            let all = nodes.names().filter_map(|name| nodes.get(name));
            let behind = all.filter(|node| of_node(node) == Loader::Shim).map(|node| Node {
                files: node.macs().into_iter().map(shim_file).collect(),
                image: node.image().map(str::to_owned),
                name: node.name.clone(),
            });
            self.behind = behind.collect();
            self.nodes = Some(nodes);
            self.seen = None;
        }
        if self.behind.is_empty() && self.written.is_empty() {
            return;
        }
        self.forget_builds();
        let images: BTreeSet<&str> = self.behind.iter().filter_map(|node| node.image.as_deref()).collect();
        let published = |image: &&str| self.roots.iter().find_map(|root| fs::read_link(root.join(image)).ok());
        let template = desk.root().join(TEMPLATES).join(format!("{}.j2", Loader::Shim.name()));
        let now = Seen {
            assigned: desk.assigned(),
            published: images.iter().map(published).collect(),
            template: fs::metadata(template).and_then(|found| found.modified()).ok(),
        };
        let is_same = self.seen.as_ref().is_some_and(|seen| {
            Arc::ptr_eq(&seen.assigned, &now.assigned)
                && (&seen.published, seen.template) == (&now.published, now.template)
        });
        if is_same {
            return;
        }
        match self.write(desk, say) {
            Ok(()) => self.seen = Some(now),
            Err(error) => {
                let text = format!(
                    "nodes behind shim do not get their new files: cannot write `{}`: {error}",
                    self.tftp.display()
                );
                if self.said.insert(text.clone()) {
                    say(&text);
                }
            }
        }
    }

    fn write(&mut self, desk: &Desk, say: &Say) -> std::io::Result<()> {
        let mut texts = BTreeMap::new();
        let mut taken: BTreeMap<PathBuf, Result<PathBuf, String>> = BTreeMap::new();
        let mut said = BTreeSet::new();
        for node in &self.behind {
            let of = (node.name.as_str(), Loader::Shim, self.url.as_str());
            let (mut script, chosen) = script_of(desk, &self.roots, say, of, false);
            if let Some((bootable, directory)) = chosen {
                let taking = || {
                    let mut note = |text: String| {
                        said.insert(text);
                    };
                    self.take(&bootable, &directory, &mut note)
                };
                if let Err(why) = taken.entry(directory.clone()).or_insert_with(taking) {
                    said.insert(why.clone());
                    script = Script::Broken(why.clone());
                }
            }
            let text = match script {
                Script::Text(text) => text,
                // It stands on the node's console for a while.
                Script::Missing(why) | Script::Broken(why) => {
                    format!("echo {}\nsleep 30\nexit 1\n", grub_word(&format!("{}: {why}", node.name)))
                }
            };
            texts.extend(node.files.iter().map(|file| (file.clone(), text.clone())));
        }
        said.iter().filter(|text| !self.said.contains(*text)).for_each(|text| say(text));
        self.said = said;
        for (file, text) in &texts {
            if self.written.get(file) != Some(text) {
                let path = self.tftp.join(file);
                path.parent().map_or(Ok(()), make_directory)?;
                let aside = path.with_extension("new");
                write_readable(&aside, text)?;
                fs::rename(aside, path)?;
            }
        }
        for file in self.written.keys().filter(|file| !texts.contains_key(*file)) {
            let _ = fs::remove_file(self.tftp.join(file));
        }
        self.written = texts;
        let wanted: BTreeSet<PathBuf> = taken.into_values().flatten().collect();
        for (directory, since) in &mut self.builds {
            *since = (!wanted.contains(directory)).then(|| since.unwrap_or_else(Instant::now));
        }
        for directory in wanted {
            self.builds.insert(directory, None);
        }
        Ok(())
    }

    /// Puts the kernel and the initrd of a build below the directory of TFTP: where, or why not.
    fn take(&self, bootable: &Bootable, directory: &Path, note: &mut dyn FnMut(String)) -> Result<PathBuf, String> {
        let Bootable { image, build, cmdline, device_trees } = bootable;
        let which = format!("{image}@{build}");
        let found = signatures_of(&directory.join(KERNEL))
            .map_err(|problem| format!("the kernel of {which} {problem}: shim and GRUB refuse it with Secure Boot"))?;
        if let Some(text) = stranger(&format!("the kernel of {which}"), &found, &self.authorities) {
            note(text);
        }
        let info = BuildInfo::read(directory).ok_or_else(|| format!("the build {which} cannot be read"))?;
        let names = [KERNEL, initrd_of(cmdline)].into_iter().chain(device_trees.iter().map(String::as_str));
        let own = Path::new(BUILDS).join(image).join(build);
        let target = self.tftp.join(&own);
        for name in names {
            if ![image, build, name].into_iter().all(is_plain) {
                return Err(format!("the build {which} has a file of no use: `{}`", name.escape_debug()));
            }
            let to = target.join(name);
            if to.is_file() {
                continue;
            }
            let artefact = info.artefacts.iter().find(|one| one.name == name);
            let artefact = artefact.ok_or_else(|| format!("the build {which} has no `{name}`"))?;
            let copied = make_directory(&target).and_then(|()| copy(&directory.join(name), &to, artefact.size));
            let digest = copied.map_err(|error| format!("`{name}` of {which} cannot be copied for TFTP: {error}"))?;
            if digest != artefact.sha256.0 {
                let _ = fs::remove_file(to);
                return Err(format!(
                    "`{name}` of {which} was changed after it was published: its digest is not that of build.json"
                ));
            }
        }
        Ok(target)
    }

    /// Removes builds that no node has booted for a while.
    fn forget_builds(&mut self) {
        self.builds.retain(|directory, since| {
            let is_old = since.is_some_and(|since| since.elapsed() > STAYS);
            if is_old {
                let _ = fs::remove_dir_all(directory);
            }
            !is_old
        });
    }
}

/// Whether a name is one, and leads nowhere else.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) && !name.contains(['\0', '/'])
}

/// Copies a file of a known size under a name that appears when it is whole; its digest.
fn copy(from: &Path, to: &Path, size: u64) -> std::io::Result<[u8; 32]> {
    let aside = to.with_extension("new");
    let mut source = fs::File::open(from)?.take(size.saturating_add(1));
    let mut target = fs::File::create(&aside)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        let length = source.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        let part = buffer.get(..length).unwrap_or_default();
        hasher.update(part);
        target.write_all(part)?;
    }
    target.set_permissions(fs::Permissions::from_mode(0o644))?;
    fs::rename(aside, to)?;
    Ok(hasher.finalize().into())
}
