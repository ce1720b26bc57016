//! An image as a bundle that xCAT's imgimport reads.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::export::{definition_of, places_of};
use recipe::{Recipe, Workspace};
use xcat::definitions::{Extra, FILE_ATTRIBUTES, Manifest, files, write_manifest};

use super::members::{MEMBERS_FORMAT, Member, Members, measure, member_mode, private};
use super::rename::{base, with_profile};
use super::{BundleError, MEMBERS, OWN, RECORDS};
use crate::definitions::Places;
use crate::workspace::included;
use files::sweep::Swept;

/// Packed images by xCAT's names, in the order in which imgexport looks for them.
const ROOTIMGS: [&str; 6] =
    ["rootimg.cpio.gz", "rootimg.cpio.xz", "rootimg.tar.gz", "rootimg.tar.xz", "rootimg.sfs", "rootimg.gz"];

#[derive(Debug, Clone, Default)]
pub struct BundleExport {
    /// The file to write; it appears whole.
    pub to: PathBuf,
    /// Directory with kernel, initrd and packed image by xCAT's names. None: the definition's rootimgdir, or what is published.
    pub from: Option<PathBuf>,
    pub published: Option<PathBuf>,
    /// Files and folders to add: a source, and the folder that it goes to.
    pub extras: Vec<(PathBuf, Option<String>)>,
    pub profile: Option<String>,
    /// Names of scripts for nodes: those at boot, and those after it.
    pub postscripts: Option<(String, String)>,
    /// A saved store with what the image's last build needs.
    pub records: Option<PathBuf>,
    /// Time of all members, in seconds since 1970.
    pub epoch: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub members: usize,
    /// Its bytes.
    pub bytes: u64,
    pub notes: Vec<String>,
}

/// Members in the making: name in the image's folder, and the file.
type Files = BTreeMap<String, PathBuf>;

/// Writes a recipe's image as a bundle.
/// Errors: [`BundleError`]; a file that was there stays then.
pub fn export_bundle(
    recipe: &Recipe,
    workspace: Option<&Workspace>,
    request: &BundleExport,
) -> Result<Written, BundleError> {
    let missing = |problem: String, help: &str| BundleError::Missing { problem, help: help.to_owned() };
    let exported = definition_of(recipe, workspace);
    let places = places_of(recipe, workspace);
    let definition = exported.definition;
    let mut notes = Vec::new();
    if !exported.lost.is_empty() {
        notes.push(format!("xCAT has no attribute for {}", exported.lost.join(", ")));
    }
    let rootimgdir = definition.get("rootimgdir").unwrap_or_default().trim_end_matches('/').to_owned();
    let artefacts = artefacts(recipe, request, &places.here(&rootimgdir)).ok_or_else(|| {
        let name = &recipe.model.image.name;
        missing(
            format!(
                "there is no kernel, initrd-stateless.gz and packed image of `{name}` under a name that xCAT knows"
            ),
            &format!("run `imgbuild build {name} --publish xcat:DIR`, and give that directory with --from DIR"),
        )
    })?;
    let mut members: Files = Files::new();
    let place = |name: &str| Some(format!("{rootimgdir}/{name}"));
    let rootimg = base(&artefacts.rootimg.display().to_string()).to_owned();
    let mut manifest = Manifest {
        kernel: place("kernel"),
        ramdisk: place("initrd-stateless.gz"),
        rootimg: place(&rootimg),
        rootimgtree: None,
        litefile: None,
        needs_media: false,
        extras: Vec::new(),
        postscripts: request.postscripts.as_ref().map(|(first, _)| first.clone()).filter(|text| !text.is_empty()),
        postbootscripts: request.postscripts.as_ref().map(|(_, later)| later.clone()).filter(|text| !text.is_empty()),
        definition,
    };
    members.insert("kernel".to_owned(), artefacts.kernel);
    members.insert("initrd-stateless.gz".to_owned(), artefacts.initrd);
    for side in [".index", ".sha256"] {
        let file = artefacts.rootimg.with_file_name(format!("{rootimg}{side}"));
        if file.is_file() {
            members.insert(format!("{rootimg}{side}"), file);
        }
    }
    members.insert(rootimg, artefacts.rootimg);
    let mut owners: BTreeMap<String, (String, String)> = BTreeMap::new();
    for attribute in FILE_ATTRIBUTES {
        for path in files(&manifest.definition, attribute) {
            let name = base(&path).to_owned();
            if let Some((other, first)) = owners.get(&name)
                && *first != path
            {
                return Err(missing(
                    format!(
                        "`{path}` of {attribute} and `{first}` of {other} have the same name, but a bundle has one folder"
                    ),
                    "rename one of them",
                ));
            }
            let here = places.here(&path);
            if !here.is_file() {
                return Err(missing(
                    format!("`{path}` of {attribute} does not exist"),
                    "correct the recipe, or create the file",
                ));
            }
            if members.contains_key(&name) && !owners.contains_key(&name) {
                return Err(missing(format!("a list in a bundle must not be named `{name}`"), "rename it"));
            }
            owners.insert(name.clone(), (attribute.to_owned(), path));
            members.insert(name, here);
        }
    }
    let included = included_lists(&manifest, recipe, &places);
    let asked = request.extras.iter().map(|(source, dest)| (source.clone(), dest.clone(), None));
    extras(included.into_iter().chain(asked), &mut manifest, &mut members)?;
    let mut paths = own_files(recipe, workspace, &places, &mut members, &mut notes);
    if let Some(saved) = &request.records {
        members.insert(format!("{OWN}/{RECORDS}"), saved.clone());
    }
    let folder = manifest.definition.name.replace(' ', "_");
    let folder = match &request.profile {
        Some(profile) => {
            for one in with_profile(&mut manifest, profile) {
                let new = base(&one.path).to_owned();
                if new != one.name
                    && let Some(file) = members.remove(&one.name)
                {
                    members.insert(new, file);
                }
            }
            members.retain(|name, _| !name.starts_with(OWN));
            paths.clear();
            manifest.definition.name.replace(' ', "_")
        }
        None => folder,
    };
    notes.extend(private(members.values()));
    let bytes = write(&folder, &manifest, &members, paths, request)?;
    Ok(Written { members: members.len() + 2, bytes, notes })
}

struct Artefacts {
    kernel: PathBuf,
    initrd: PathBuf,
    rootimg: PathBuf,
}

/// Finds kernel, initrd and packed image: the first of the recipe's forms; otherwise the index says which image is the newest one.
fn artefacts(recipe: &Recipe, request: &BundleExport, rootimgdir: &Path) -> Option<Artefacts> {
    let of = |directory: &Path| {
        let there = |name: &str| Some(directory.join(name)).filter(|path| path.is_file());
        let own = recipe.model.pack.forms();
        let names: Vec<&str> = own.iter().map(|form| form.rootimg()).filter(|name| ROOTIMGS.contains(name)).collect();
        let names = || names.iter().chain(&ROOTIMGS);
        let with_index = names().find(|name| there(&format!("{name}.index")).is_some() && there(name).is_some());
        let rootimg = with_index.or_else(|| names().find(|name| there(name).is_some()))?;
        let initrd = there("initrd-stateless.gz").or_else(|| {
            // What is published has no ending: gzip is known by its first bytes.
            let plain = there("initrd-stateless")?;
            let mut begin = [0; 2];
            std::io::Read::read_exact(&mut std::fs::File::open(&plain).ok()?, &mut begin).ok()?;
            (begin == [0x1f, 0x8b]).then_some(plain)
        })?;
        Some(Artefacts { kernel: there("kernel")?, initrd, rootimg: there(rootimg)? })
    };
    match &request.from {
        Some(from) => of(from),
        None => of(rootimgdir).or_else(|| of(request.published.as_deref()?)),
    }
}

/// A file or a folder that goes along, the folder that it goes to, and its path on the management node, where these are not its own.
type Along = (PathBuf, Option<String>, Option<String>);

/// Lists that the image's lists include: the manifest has no other place for them.
fn included_lists(manifest: &Manifest, recipe: &Recipe, places: &Places) -> Vec<Along> {
    let lists: Vec<String> = ["pkglist", "otherpkglist", "exlist"]
        .iter()
        .flat_map(|attribute| files(&manifest.definition, attribute))
        .collect();
    let all = included(&lists, &recipe.model.environment, places);
    // What is a list of another attribute as well already exists.
    let named: BTreeSet<String> = FILE_ATTRIBUTES.iter().flat_map(|one| files(&manifest.definition, one)).collect();
    let folder = |path: &str| path.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_owned());
    let along = |path: &String| (places.here(path), Some(folder(path)), Some(path.clone()));
    all.iter().filter(|path| !named.contains(*path)).map(along).collect()
}

fn extras(all: impl Iterator<Item = Along>, manifest: &mut Manifest, members: &mut Files) -> Result<(), BundleError> {
    for (source, dest, there) in all {
        let source = &source;
        let real = source.canonicalize().map_err(|error| BundleError::Io { path: source.clone(), error })?;
        let own = || recipe::plain(&std::path::absolute(source).unwrap_or(real.clone())).display().to_string();
        let full = there.unwrap_or_else(own);
        let is_folder = real.is_dir();
        let folder = match is_folder {
            true => full.clone(),
            false => full.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_owned()),
        };
        let extra = Extra { src: full.clone(), dest: dest.unwrap_or(folder) };
        // What a list includes may be asked for besides.
        if manifest.extras.contains(&extra) {
            continue;
        }
        manifest.extras.push(extra);
        if !is_folder {
            let name = format!("extra/{}", base(&full));
            if members.get(&name).is_some_and(|first| *first != real) {
                return Err(BundleError::Missing {
                    problem: format!(
                        "two extra files are named `{}`, but a bundle has one folder for them",
                        base(&full)
                    ),
                    help: "rename one, or give their folders".to_owned(),
                });
            }
            members.insert(name, real);
            continue;
        }
        for entry in walkdir::WalkDir::new(&real).follow_links(true).sort_by_file_name().into_iter().flatten() {
            if entry.file_type().is_file() {
                let below = entry.path().strip_prefix(&real).unwrap_or(entry.path());
                members.insert(
                    format!("extra/{}/{}", full.trim_start_matches('/'), below.display()),
                    entry.path().to_owned(),
                );
            }
        }
    }
    Ok(())
}

/// The recipe with its lock and all that it reads, unless a bundle has no place for some of that; the paths of the management
/// node among it.
fn own_files(
    recipe: &Recipe,
    workspace: Option<&Workspace>,
    places: &Places,
    members: &mut Files,
    notes: &mut Vec<String>,
) -> Vec<String> {
    let inherits = recipe.files.iter().any(|file| !file.path.starts_with(&recipe.directory) && is_recipe(&file.path));
    if inherits || recipe.variant.is_some() {
        notes.push(
            "the recipe inherits from other files, or is a variant: the bundle has its definition, but not the recipe"
                .to_owned(),
        );
        return Vec::new();
    }
    let read = recipe.files.iter().map(|file| file.path.clone()).chain(recipe.named.iter().cloned());
    let inputs = recipe.postinstall.iter().flat_map(|scripts| scripts.files());
    let stanza = recipe.directory.join(crate::osimage::STANZA_FILE);
    let mut own = Files::new();
    let mut paths: BTreeSet<String> = BTreeSet::new();
    for path in read.chain(inputs).chain([recipe.lock_path.clone(), stanza]).filter(|path| *path != recipe.directory) {
        if let Ok(below) = path.strip_prefix(&recipe.directory) {
            add_all(&path, &format!("{OWN}/recipe/{}", below.display()), &mut own);
            continue;
        }
        // What imgbuild reads of the host by itself is no part of the recipe.
        if !path.exists() || path.starts_with("/etc/apt") || path.starts_with("/usr/share/keyrings") {
            continue;
        }
        let Some(there) = places.there(&path) else {
            let is_inside = workspace.is_some_and(|workspace| path.starts_with(&workspace.root));
            if is_inside && recipe.directory.starts_with(&path) {
                continue;
            }
            if is_inside {
                notes.push(format!(
                    "the recipe reads `{}`, which is next to it in the workspace: the bundle has its definition, but not the recipe",
                    path.display()
                ));
                return Vec::new();
            }
            let there = path.display().to_string();
            add_all(&path, &format!("{OWN}/site{there}"), &mut own);
            paths.insert(folder_of(&path, there));
            continue;
        };
        add_all(&path, &format!("{OWN}/site{there}"), &mut own);
        paths.insert(folder_of(&path, there));
    }
    members.extend(own);
    // What lies in a folder that is there whole needs no place of its own.
    let all: Vec<String> = paths.iter().cloned().collect();
    let is_below =
        |path: &String, folder: &String| path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/'));
    all.iter().filter(|path| !all.iter().any(|folder| is_below(path, folder))).cloned().collect()
}

/// A folder, or that of a file: wildcards of synclists look there.
fn folder_of(path: &Path, there: String) -> String {
    let folder = there.rsplit_once('/').map(|(folder, _)| folder.to_owned()).filter(|folder| !folder.is_empty());
    if path.is_dir() { there } else { folder.unwrap_or(there) }
}

fn is_recipe(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "toml" || ending == "kdl")
}

fn add_all(path: &Path, name: &str, members: &mut Files) {
    if !path.is_dir() {
        if path.is_file() {
            members.insert(name.to_owned(), path.to_owned());
        }
        return;
    }
    for entry in walkdir::WalkDir::new(path).follow_links(true).sort_by_file_name().into_iter().flatten() {
        if entry.file_type().is_file() {
            let below = entry.path().strip_prefix(path).unwrap_or(entry.path());
            members.insert(format!("{name}/{}", below.display()), entry.path().to_owned());
        }
    }
}

/// Writes the archive beside its place and renames it there: members sorted, owned by root, of one time.
fn write(
    folder: &str,
    manifest: &Manifest,
    members: &Files,
    paths: Vec<String>,
    request: &BundleExport,
) -> Result<u64, BundleError> {
    let io = |path: &Path, error: std::io::Error| BundleError::Io { path: path.to_owned(), error };
    let to = std::path::absolute(&request.to).unwrap_or_else(|_| request.to.clone());
    let parent = to.parent().unwrap_or(Path::new("/")).to_owned();
    let aside = Swept::below(&parent, ".imgbuild-bundle.").map_err(|error| io(&parent, error))?;
    let path = aside.path().join("bundle");
    let mut file = std::fs::File::create_new(&path).map_err(|error| io(&parent, error))?;
    let mut all = Members { format_version: MEMBERS_FORMAT.to_owned(), members: Vec::new(), paths };
    for (name, path) in members {
        let (size, sha256) = measure(path).map_err(|error| io(path, error))?;
        all.members.push(Member { name: name.clone(), size, sha256 });
    }
    let text = format!("{:#}\n", serde_json::json!(all));
    {
        let buffered = std::io::BufWriter::with_capacity(1 << 18, &mut file);
        // What takes space is compressed already.
        let gzip = flate2::GzBuilder::new().write(buffered, flate2::Compression::fast());
        let mut builder = tar::Builder::new(gzip);
        let written = |error: std::io::Error| io(&request.to, error);
        let header = |size: u64, mode: u32| {
            let mut header = tar::Header::new_gnu();
            header.set_size(size);
            header.set_mode(mode);
            header.set_mtime(request.epoch);
            header.set_uid(0);
            header.set_gid(0);
            header
        };
        let mut top = header(0, 0o755);
        top.set_entry_type(tar::EntryType::Directory);
        builder.append_data(&mut top, format!("./{folder}/"), std::io::empty()).map_err(written)?;
        for (name, content) in [("manifest.xml", write_manifest(manifest)), (MEMBERS, text)] {
            let mut header = header(content.len() as u64, 0o644);
            builder.append_data(&mut header, format!("./{folder}/{name}"), content.as_bytes()).map_err(written)?;
        }
        for (member, path) in all.members.iter().zip(members.values()) {
            let source = std::fs::File::open(path).map_err(|error| io(path, error))?;
            let metadata = source.metadata().map_err(|error| io(path, error))?;
            let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
            let mut header = header(member.size, member_mode(mode));
            builder
                .append_data(
                    &mut header,
                    format!("./{folder}/{}", member.name),
                    std::io::Read::take(source, member.size),
                )
                .map_err(written)?;
        }
        let gzip = builder.into_inner().map_err(written)?;
        gzip.finish().and_then(|mut inner| inner.flush()).map_err(written)?;
    }
    file.sync_all().map_err(|error| io(&to, error))?;
    // Accounts, keys and scripts of nodes are in it.
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
    file.set_permissions(mode).map_err(|error| io(&to, error))?;
    let bytes = file.metadata().map_err(|error| io(&to, error))?.len();
    std::fs::rename(&path, &to).map_err(|error| io(&to, error))?;
    Ok(bytes)
}
