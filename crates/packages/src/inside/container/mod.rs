//! A root made of a container image's layers: the base of an image whose recipe names one. What differs between families of package
//! managers is [`ContainerFamily`]. Runs inside.

pub(crate) mod lost;

use std::collections::BTreeMap;
use std::fs::File;

use serde::{Deserialize, Serialize};

use super::accounts;
use super::common::normalise;
use super::keystore;
use archive::{Extractor, LayerSize, look_at_layer, plain_layer};
use base::digest::{Digest, Sha256};
use base::failure::Failure;
use recipe::{Accounts, Distro};
use sandbox::helper::News;
use store::{ScanAnswer, ScanRequest, TreeEditor, in_scratch, make_directories, scan};

/// Who made the image.
const OS_RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];
/// Bytes of a text file that is looked at, at most.
pub(crate) const TEXT_LIMIT: u64 = 1 << 20;
/// Bytes of all layers at most once they are decompressed; of one layer, whatever its size, and for each byte of it: compressors make
/// much of the zeros in /var/log/lastlog.
const MOST: LayerSize = LayerSize { bytes: 64 << 30, entries: 5_000_000 };
const LAYER_BYTES: (u64, u64) = (4 << 30, 1000);

/// What marks a container: a node is not one. One reason a line.
const OF_CONTAINERS: [&str; 3] = [
    ".dockerenv",        // systemd and others take the machine for a container
    ".dockerinit",       // of old Dockers
    "run/.containerenv", // podman's
];

/// What engines make empty to mount their own over it. Nodes have theirs by DHCP, or by a list or script.
const MOUNT_POINTS: [&str; 3] = ["etc/resolv.conf", "etc/hostname", "etc/hosts"];

/// Names at the top that lead into /usr, without which no program starts.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// A refusal: why a container image cannot be the base, and what to do.
pub(crate) type Refused = (String, &'static str);

/// What a family's package manager knows of a tree that a container image was unpacked to.
pub(crate) trait ContainerFamily {
    /// Files that belong to containers alone, besides those of engines.
    fn of_containers(&self) -> &'static [&'static str];
    /// Files of the package manager that differ from run to run.
    fn normalised(&self) -> &'static [&'static str];
    /// Folders whose content it makes again, however deep it is.
    fn caches(&self) -> &'static [&'static str] {
        &[]
    }
    /// Whether the tree is of the release that is asked for.
    fn is_release(&self, request: &ContainerRequest, release: &OsRelease, tree: &Extractor) -> bool;
    /// Why no packages can be installed over the tree, whatever its database says.
    fn problem(&self, tree: &Extractor, editor: &TreeEditor) -> Option<Refused>;
    /// What is to be said of the tree.
    /// Errors: A text for a database that cannot be read.
    fn notes(&self, tree: &Extractor, editor: &TreeEditor) -> Result<Vec<String>, String>;
    /// Names of installed packages with the texts of those of their scripts that may make accounts.
    /// Errors: A text for a database that cannot be read.
    fn scripts(&self, path: &str) -> Result<Vec<(String, String)>, String>;
}

/// A layer of the container image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerLayer {
    /// Path relative to the store's directory.
    pub file: String,
    /// Digest of the archive once it is decompressed.
    pub diff: Sha256,
}

/// Asks for a root made of a container image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerRequest {
    /// Scratch directory, relative to the store's.
    pub scratch: String,
    /// The layers, lowest first.
    pub layers: Vec<ContainerLayer>,
    /// Distribution, and the names of its release: the archive's and the number.
    pub distro: Distro,
    pub release: String,
    pub number: Option<String>,
    /// No time is later than this.
    pub epoch: i64,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub enum ContainerMade {
    /// A committed layer, its users and groups, and what is to be said.
    Layer(ScanAnswer, Accounts, Vec<String>),
    /// It cannot be the base: why, and what to do.
    Refused(String, String),
}

/// What a tree says of itself. Source: os-release(5).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct OsRelease {
    /// `ID`.
    pub id: String,
    /// `VERSION_ID`.
    pub number: String,
    /// `VERSION_CODENAME`.
    pub codename: String,
    /// `REDHAT_SUPPORT_PRODUCT_VERSION`, by which Fedora's development version is known.
    pub product: String,
}

impl OsRelease {
    /// Reads the file's text; what it holds can be shown.
    pub(crate) fn read(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        let fields: BTreeMap<&str, &str> =
            pairs.map(|(name, value)| (name, value.trim().trim_matches(['"', '\'']))).collect();
        let of = |name: &str| fields.get(name).copied().unwrap_or_default().escape_default().to_string();
        Self {
            id: of("ID"),
            number: of("VERSION_ID"),
            codename: of("VERSION_CODENAME"),
            product: of("REDHAT_SUPPORT_PRODUCT_VERSION"),
        }
    }
}

/// Why a tree is not of a distribution and release: what it is instead.
fn other_release(family: &dyn ContainerFamily, request: &ContainerRequest, tree: &Extractor) -> Option<String> {
    let wanted = format!("{} {}", request.distro.name(), request.release);
    let Some(text) = OS_RELEASE.iter().find_map(|path| tree.text(path, TEXT_LIMIT)) else {
        return Some(format!("has no /etc/os-release, so it is not an image of {wanted} as [image] says"));
    };
    let found = OsRelease::read(&text);
    if family.is_release(request, &found, tree) {
        return None;
    }
    let release = if found.codename.is_empty() { found.number } else { found.codename };
    Some(format!("is {} {release}, but [image] says {wanted}", found.id))
}

/// Units that the image's maker masked, because no container has a use for them.
fn masked(extractor: &Extractor, editor: &TreeEditor) -> Option<String> {
    let folder = "etc/systemd/system";
    let is_masked = |name: &String| extractor.link(&format!("{folder}/{name}")).as_deref() == Some("/dev/null");
    let names: Vec<String> = editor.names(folder).into_iter().filter(is_masked).collect();
    let shown: Vec<String> = names.iter().take(8).map(|name| name.escape_default().to_string()).collect();
    let more = if names.len() > shown.len() { ", .." } else { "" };
    (!names.is_empty()).then(|| {
        format!(
            "the container image masks units, which do not start on nodes: {}{more}; `enable` in [services] starts them",
            shown.join(", ")
        )
    })
}

/// Levels of folders at most that a cache has.
const DEEPEST: usize = 32;

/// Removes what is in a folder.
fn empty(editor: &TreeEditor, folder: &str, depth: usize) -> Result<(), String> {
    for name in editor.names(folder).iter().filter(|name| !name.contains('*')) {
        let path = format!("{folder}/{name}");
        if depth < DEEPEST {
            empty(editor, &path, depth + 1)?;
        }
        editor.remove(&path)?;
    }
    Ok(())
}

/// Takes out what makes a container of a tree, and what differs from image to image by chance.
fn settle(
    family: &dyn ContainerFamily,
    request: &ContainerRequest,
    tree: &str,
    extractor: &Extractor,
) -> Result<Vec<String>, String> {
    let editor = TreeEditor::open(tree)?;
    for path in OF_CONTAINERS.iter().chain(family.of_containers()) {
        editor.remove(path)?;
    }
    for path in MOUNT_POINTS {
        let is_empty = |file: File| file.metadata().is_ok_and(|found| found.len() == 0);
        if editor.open_file(path).is_some_and(is_empty) {
            editor.remove(path)?;
        }
    }
    for folder in family.caches() {
        empty(&editor, folder, 0)?;
    }
    keystore::settle(&editor, request.epoch)?;
    normalise(tree, family.normalised())?;
    let mut notes = family.notes(extractor, &editor)?;
    notes.extend(masked(extractor, &editor));
    Ok(notes)
}

/// Makes the root.
/// Errors: A text for what is no matter of the image.
pub(crate) fn inside(
    family: &dyn ContainerFamily,
    request: ContainerRequest,
    progress: News<'_>,
) -> Result<ContainerMade, String> {
    in_scratch(&request.scratch, || {
        let tree = format!("{}/tree", request.scratch);
        make_directories(&tree, &[""])?;
        let mut extractor = Extractor::new(&tree)?;
        let refused = |problem: String, help: &str| Ok(ContainerMade::Refused(problem, help.to_owned()));
        let (mut devices, mut left) = (0, MOST);
        for (index, layer) in request.layers.iter().enumerate() {
            progress(&format!("unpacking layer {} of {}", index + 1, request.layers.len()));
            fault::point("container.layer");
            let open = || -> Result<(File, u64), String> {
                let file = File::open(&layer.file).map_err(|error| format!("{}: {error}", layer.file))?;
                let size = file.metadata().map_err(|error| error.to_string())?.len();
                Ok((file, size))
            };
            let links = MERGED.map(|name| extractor.link(name));
            let mut unpack = || -> Result<_, String> {
                let (file, size) = open()?;
                let bytes = left.bytes.min(size.saturating_mul(LAYER_BYTES.1).saturating_add(LAYER_BYTES.0));
                let most = LayerSize { bytes, ..left };
                let mut plain = plain_layer(file).map_err(|error| error.to_string())?;
                let look = look_at_layer(&mut plain, &layer.diff, most)?;
                let mut plain = plain_layer(open()?.0).map_err(|error| error.to_string())?;
                extractor.layer(&mut plain, &look)?;
                Ok(look)
            };
            match unpack() {
                Ok(look) => {
                    devices += look.devices.len();
                    // No more than was left, or it would have been refused.
                    left.bytes = left.bytes.saturating_sub(look.size.bytes);
                    left.entries = left.entries.saturating_sub(look.size.entries);
                }
                Err(problem) if Failure::of(&problem).is_some() => return Err(problem),
                Err(problem) => {
                    let place = format!("layer {} of the container image cannot be unpacked: {problem}", index + 1);
                    return refused(place, "name an image whose layers can be, or mend this one and push it again");
                }
            }
            // As engines do it; and no program starts afterwards.
            let gone = MERGED.iter().zip(links).find(|(name, link)| link.is_some() && extractor.link(name).is_none());
            if let Some((name, Some(link))) = gone {
                let (number, link) = (index + 1, link.escape_default());
                return refused(
                    format!("layer {number} of the container image replaces /{name}, a link to {link}, by a directory"),
                    "put its files below /usr there, and push it again",
                );
            }
        }
        if let Some(problem) = other_release(family, &request, &extractor) {
            return refused(
                format!("the container image {problem}"),
                "name an image of that distribution and release, or change `distro` and `release` in [image]",
            );
        }
        if let Some((problem, help)) = family.problem(&extractor, &TreeEditor::open(&tree)?) {
            return refused(problem, help);
        }
        let mut notes = settle(family, &request, &tree, &extractor)?;
        if devices > 0 {
            notes.push(format!("{devices} device nodes of the container image are left out: nodes make their own"));
        }
        let accounts = accounts::found(&tree, &[], &family.scripts(&tree)?)?;
        fault::point("container.done");
        let answer = scan(&ScanRequest { tree, base: Vec::new(), epoch: request.epoch, whole: false })?;
        Ok(ContainerMade::Layer(answer, accounts, notes))
    })
}

/// A package that a container image has installed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPackage {
    /// Version, as the package manager writes it.
    pub version: String,
    /// Architecture.
    pub architecture: String,
    /// Whether it came in only because another package needed it, where that is known.
    pub automatic: bool,
    /// Whether no system can do without it.
    pub essential: bool,
    /// What the solver is shown of it, where it is shown texts.
    pub text: String,
}

/// Packages of a container image by name.
pub type ContainerPackages = BTreeMap<String, ContainerPackage>;

/// Asks for the packages of a container image that was made a layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PackagesRequest {
    /// The layer.
    pub layer: Digest,
    /// The package manager's name of the image's architecture.
    pub architecture: String,
}
