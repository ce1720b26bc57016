//! Nodes behind shim, which start with Secure Boot. What they load comes from where they came from, so that each node's
//! configuration, its kernel and its initrd lie below the directory of TFTP; what would be refused there is refused here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest, Sha256};

use super::Plan;
use super::loaders::{Offer, make_directory, of_node};
use super::process::write_readable;
use crate::Say;
use crate::error::ServeError;
use crate::files::Roots;
use crate::site::boot::{Script, of_node as script_of};
use crate::site::desk::Desk;
use build::{Artefact, BuildInfo};
use efi::{self, Signature, authorities_of_shim, signatures, signatures_of};
use files::sweep;
use nodes::loaders::{Bootable, KERNEL, Loader, TEMPLATES, grub_word, initrd_of, shim_file};
use nodes::{Assignments, Effective, Nodes};

/// Builds by name, as they are below a directory of images.
const BUILDS: &str = ".builds";
/// How long files of a build stay that no node boots any longer: one may be loading them.
const STAYS: Duration = Duration::from_secs(600);
/// When it is tried again where something could not be written, or a build is not whole.
const TRIED_AGAIN: Duration = Duration::from_secs(30);

/// Looks at what firmware loads for nodes behind shim: sentences on what it would refuse.
/// Errors: It would refuse it in any case.
pub(super) fn check(offers: &[Offer], nodes: &[Effective]) -> Result<Vec<String>, ServeError> {
    let mut said = Vec::new();
    if !nodes.iter().any(|node| of_node(node) == Loader::Shim) {
        return Ok(said);
    }
    for offer in offers.iter().filter(|offer| offer.loader == Loader::Shim) {
        let refused = |path: &Path, problem: &dyn std::fmt::Display| {
            ServeError::dhcp_input(
                format!("`{}` {problem}: firmware with Secure Boot refuses it", path.display()),
                "use the distribution's signed shim and GRUB; docs/secure-boot.md lists the packages, and the names of the files in --loaders",
            )
        };
        let bytes = efi::read(&offer.from).map_err(|problem| refused(&offer.from, &problem))?;
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
            "{what} is signed by `{}`, but shim trusts `{authority}`: nodes refuse it unless its key was enrolled on each (mokutil --import)",
            first.signer
        )
    })
}

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
pub(super) struct Behind {
    roots: Arc<Roots>,
    url: String,
    tftp: PathBuf,
    offers: Vec<Offer>,
    authorities: Vec<String>,
    nodes: Option<Arc<Nodes>>,
    behind: Vec<Node>,
    seen: Option<Seen>,
    /// Files of nodes, with their texts.
    written: BTreeMap<String, String>,
    /// Directories of builds, and since when no node boots them.
    builds: BTreeMap<PathBuf, Option<Instant>>,
    /// Files of builds that were copied whole.
    whole: BTreeSet<PathBuf>,
    /// When something failed last.
    failed: Option<Instant>,
    /// Why nothing could be written.
    trouble: Option<String>,
    said: BTreeSet<String>,
}

impl Behind {
    /// None yet.
    pub(super) fn new(plan: &Plan, roots: Arc<Roots>, tftp: PathBuf) -> Self {
        let shims = plan.offers.iter().filter(|offer| offer.loader == Loader::Shim);
        let authorities = shims.filter_map(|shim| efi::read(&shim.from).ok());
        Self {
            roots,
            url: plan.url(),
            tftp,
            offers: plan.offers.clone(),
            authorities: authorities.flat_map(|bytes| authorities_of_shim(&bytes)).collect(),
            nodes: None,
            behind: Vec::new(),
            seen: None,
            written: BTreeMap::new(),
            builds: BTreeMap::new(),
            whole: BTreeSet::new(),
            failed: None,
            trouble: None,
            said: BTreeSet::new(),
        }
    }

    pub(super) fn look(&mut self, desk: &Desk, say: &Say) {
        self.forget_builds();
        let nodes = desk.nodes();
        if !self.nodes.as_ref().is_some_and(|known| Arc::ptr_eq(known, &nodes)) {
            let all = nodes.names().filter_map(|name| nodes.get(name));
            let behind = all.filter(|node| of_node(node) == Loader::Shim).map(|node| Node {
                files: node.macs().into_iter().map(shim_file).collect(),
                image: node.image().map(str::to_owned),
                name: node.name.clone(),
            });
            let is_first = self.behind.is_empty();
            self.behind = behind.collect();
            // Loaders were looked at when the server started, if there were such nodes then.
            if is_first && !self.behind.is_empty() && self.nodes.is_some() {
                self.say_of_loaders(&nodes, say);
            }
            self.nodes = Some(nodes);
            self.seen = None;
        }
        if self.behind.is_empty() && self.written.is_empty() {
            return;
        }
        let images: BTreeSet<&str> = self.behind.iter().filter_map(|node| node.image.as_deref()).collect();
        let published = |image: &&str| self.roots.now().iter().find_map(|root| fs::read_link(root.join(image)).ok());
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
        if is_same && self.failed.is_none_or(|since| since.elapsed() < TRIED_AGAIN) {
            return;
        }
        self.seen = Some(now);
        let written = self.write(desk, say);
        self.failed = (!matches!(written, Ok(true))).then(Instant::now);
        let trouble = written.err().map(|error| {
            format!("nodes behind shim do not get their new files: cannot write `{}`: {error}", self.tftp.display())
        });
        if let Some(text) = trouble.as_ref().filter(|text| self.trouble.as_ref() != Some(text)) {
            say(text);
        }
        self.trouble = trouble;
    }

    fn say_of_loaders(&self, nodes: &Nodes, say: &Say) {
        let all: Vec<_> = nodes.names().filter_map(|name| nodes.get(name)).collect();
        match check(&self.offers, &all) {
            Ok(said) => said.iter().for_each(|text| say(text)),
            Err(error) => say(&error.to_string()),
        }
    }

    /// Writes all of it; whether each node has what it boots.
    fn write(&mut self, desk: &Desk, say: &Say) -> std::io::Result<bool> {
        let mut whole = std::mem::take(&mut self.whole);
        let mut unfinished = BTreeSet::new();
        let mut texts = BTreeMap::new();
        let mut taken: BTreeMap<PathBuf, Result<PathBuf, String>> = BTreeMap::new();
        let mut said = BTreeSet::new();
        for node in &self.behind {
            let of = (node.name.as_str(), Loader::Shim, self.url.as_str());
            let (mut script, chosen) = script_of(desk, &self.roots.now(), say, of, false);
            if let Some((bootable, directory)) = chosen {
                let taking = || {
                    let mut note = |text: String| {
                        said.insert(text);
                    };
                    self.take(&bootable, &directory, &mut whole, &mut note)
                };
                if let Err(why) = taken.entry(directory.clone()).or_insert_with(taking) {
                    unfinished.extend(self.target(&bootable));
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
        self.whole = whole;
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
        let is_good = unfinished.is_empty();
        for directory in unfinished {
            self.builds.entry(directory).or_insert_with(|| Some(Instant::now()));
        }
        Ok(is_good)
    }

    /// Where a build's files go, if its names are ones.
    fn target(&self, of: &Bootable) -> Option<PathBuf> {
        let are_plain = [&of.image, &of.build].into_iter().all(|name| is_plain(name));
        are_plain.then(|| self.tftp.join(BUILDS).join(&of.image).join(&of.build))
    }

    /// Puts the kernel and the initrd of a build below the directory of TFTP: where, or why not.
    fn take(
        &self,
        bootable: &Bootable,
        directory: &Path,
        whole: &mut BTreeSet<PathBuf>,
        note: &mut dyn FnMut(String),
    ) -> Result<PathBuf, String> {
        let Bootable { image, build, cmdline, device_trees } = bootable;
        let which = format!("{image}@{build}");
        let found = signatures_of(&directory.join(KERNEL))
            .map_err(|problem| format!("the kernel of {which} {problem}: shim and GRUB refuse it with Secure Boot"))?;
        if let Some(text) = stranger(&format!("the kernel of {which}"), &found, &self.authorities) {
            note(text);
        }
        let info = BuildInfo::read(directory).ok_or_else(|| format!("the build {which} cannot be read"))?;
        let names = [KERNEL, initrd_of(cmdline)].into_iter().chain(device_trees.iter().map(String::as_str));
        let target = self.target(bootable).ok_or_else(|| format!("the build {which} has an invalid name"))?;
        for name in names {
            if !is_plain(name) {
                return Err(format!("the build {which} lists an invalid file name: `{}`", name.escape_debug()));
            }
            let to = target.join(name);
            if whole.contains(&to) {
                continue;
            }
            let artefact = info.artefacts.iter().find(|one| one.name == name);
            let artefact = artefact.ok_or_else(|| format!("the build {which} has no `{name}`"))?;
            let copied = make_directory(&target).and_then(|()| copy(&directory.join(name), &to, artefact));
            if !copied.map_err(|error| format!("`{name}` of {which} cannot be copied for TFTP: {error}"))? {
                return Err(format!(
                    "`{name}` of {which} was changed after it was published: it does not match its digest in build.json"
                ));
            }
            whole.insert(to);
        }
        Ok(target)
    }

    /// Removes builds that no node has booted for a while.
    fn forget_builds(&mut self) {
        self.builds.retain(|directory, since| {
            let is_old = since.is_some_and(|since| since.elapsed() > STAYS);
            if is_old {
                self.whole.retain(|file| !file.starts_with(directory.as_path()));
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

/// Copies an artefact under a name that appears when it was compared with its digest; whether it is the same. Builds are written by
/// others than this server: a link is not followed, a pipe not waited for.
fn copy(from: &Path, to: &Path, artefact: &Artefact) -> std::io::Result<bool> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let source = fs::File::options().read(true).custom_flags(flags).open(from)?;
    if !source.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut source = source.take(artefact.size.saturating_add(1));
    // Removed where it does not get its name.
    let mut target = sweep::file_in(to.parent().unwrap_or(Path::new(".")), ".new-", 0o600)?;
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
    let digest: [u8; 32] = hasher.finalize().into();
    if digest != artefact.sha256.0 && !fault::planted("signed-copy-unchecked") {
        return Ok(false);
    }
    target.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    target.persist(to)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_distribution_signed_is_noted() {
        let one = |signer: &str, issuer: &str| Signature { signer: signer.to_owned(), issuer: issuer.to_owned() };
        let trusted = ["Example CA".to_owned()];
        let text = stranger("`grubx64.efi`", &[one("Other Signer", "Other CA")], &trusted).unwrap();
        assert!(text.contains("signed by `Other Signer`") && text.contains("shim trusts `Example CA`"), "{text}");
        // By it, or by a certificate that it vouches for; one of several is enough. Nothing is known of this shim.
        assert_eq!(stranger("x", &[one("Example CA", "Root")], &trusted), None);
        assert_eq!(stranger("x", &[one("Other", "Other"), one("Signer", "Example CA")], &trusted), None);
        assert_eq!(stranger("x", &[one("Other", "Other")], &[]), None);
    }

    #[test]
    fn nothing_but_what_was_published_is_copied() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let artefact = |bytes: &[u8]| Artefact {
            name: "kernel".to_owned(),
            size: bytes.len() as u64,
            sha256: base::digest::Sha256::of(bytes),
        };
        fs::write(at("kernel"), "bytes").unwrap();
        assert!(copy(&at("kernel"), &at("to"), &artefact(b"bytes")).unwrap());
        assert_eq!(fs::read(at("to")).unwrap(), b"bytes");
        // Another one, a longer one: no name appears.
        for other in [&b"other"[..], b"byte"] {
            assert!(!copy(&at("kernel"), &at("other"), &artefact(other)).unwrap());
        }
        std::os::unix::fs::symlink(at("kernel"), at("link")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        for odd in ["link", "pipe", "nothing"] {
            assert!(copy(&at(odd), &at("other"), &artefact(b"bytes")).is_err(), "{odd}");
        }
        let names = fs::read_dir(place.path()).unwrap().count();
        assert_eq!(names, 4, "kernel, to, link and pipe");
    }
}
