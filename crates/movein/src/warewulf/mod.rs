//! Warewulf 4: the Containerfile that an image is made from, the image's own directory, and overlays. Sources: userdocs/images,
//! userdocs/overlays and `internal/pkg/overlay` of Warewulf 4.6; Containerfiles as buildah reads them.

mod containerfile;
mod copy;
mod instructions;
mod overlays;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use recipe::Arch;
use site::osimage::Release;

use crate::input::roots::{Root, Roots};
use crate::plan::release::of_os_release;
use crate::plan::{Key, Plan};
use crate::{MoveError, MoveRequest};

const TOOL: &str = "Warewulf";

/// Names of files that a container image is made from.
fn is_containerfile(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    ["containerfile", "dockerfile"].iter().any(|begin| lower.starts_with(begin))
        || lower.ends_with(".containerfile")
        || lower.ends_with(".dockerfile")
}

/// A Containerfile: the directory that it is read through, its name there, and what reports call it.
struct Containerfile {
    roots: Roots,
    name: String,
    shown: String,
    path: PathBuf,
}

impl Containerfile {
    /// One that the administrator names.
    fn of(request: &MoveRequest, path: &Path, shown: String) -> Result<Self, MoveError> {
        let (roots, name) = request.roots(path)?;
        Ok(Self { roots, name, shown, path: path.to_owned() })
    }
}

/// The tree of an image, and what reports call it.
struct Tree {
    root: Arc<Root>,
    file: String,
}

pub(super) fn plans(request: &MoveRequest) -> Result<Vec<Plan>, MoveError> {
    let (path, shown) = (&request.paths[0], &request.shown[0]);
    let read = |path: &Path| {
        let path = path.to_owned();
        move |error| MoveError::Read { path, error }
    };
    let (mut tree, mut file) = (None, None);
    if let Some(path) = &request.containerfile {
        file = Some(Containerfile::of(request, path, path.display().to_string())?);
    }
    if path.is_dir() {
        let root = Root::open(path).map_err(read(path))?;
        let rootfs = if root.is_folder("rootfs") { path.join("rootfs") } else { path.clone() };
        let root = Root::open(&rootfs).map_err(read(&rootfs))?;
        if root.is_file("etc/os-release") || root.is_file("usr/lib/os-release") {
            let below = if rootfs == *path { "" } else { "/rootfs" };
            tree = Some(Tree { root, file: format!("{}{below}", shown.trim_end_matches('/')) });
        } else if file.is_none() {
            let names = root.names("").map_err(read(path))?;
            let found: Vec<&String> = names.iter().filter(|name| is_containerfile(name)).collect();
            let name = match found[..] {
                [name] => name,
                [] => {
                    return Err(MoveError::input(
                        shown,
                        "contains no Containerfile and no root file system",
                        "name a Containerfile, or an image of Warewulf: /var/lib/warewulf/chroots/NAME",
                    ));
                }
                _ => found
                    .iter()
                    .find(|name| ["Containerfile", "Dockerfile"].contains(&name.as_str()))
                    .copied()
                    .ok_or_else(|| MoveError::input(shown, "contains several Containerfiles", "name one of them"))?,
            };
            // Read through its directory: a link does not lead out.
            let (roots, _) = request.roots(path)?;
            let shown = format!("{}/{name}", shown.trim_end_matches('/'));
            file = Some(Containerfile { roots, name: name.clone(), shown, path: path.join(name) });
        }
    } else if file.is_none() {
        file = Some(Containerfile::of(request, path, shown.clone())?);
    }
    let of_tree = tree.as_ref().and_then(|tree| {
        let text = tree.root.text("etc/os-release").or_else(|_| tree.root.text("usr/lib/os-release")).ok()?;
        of_os_release(&text)
    });
    let name = image_name(path, file.as_ref().map(|file| file.path.as_path()));
    let mut plan = match &file {
        Some(file) => containerfile::plan(request, (&file.roots, &file.name), &file.shown, &name, of_tree)?,
        None => of_image(request, shown, &name, of_tree)?,
    };
    if let Some(tree) = &tree {
        image(&mut plan, tree, file.is_some());
    }
    for (at, overlay) in request.overlays.iter().enumerate() {
        overlays::take(&mut plan, overlay, &overlay.display().to_string(), at)?;
    }
    // Those that belong to the image's own server.
    let real = path.canonicalize().unwrap_or_else(|_| path.clone());
    let above = real.parent().filter(|above| above.ends_with("chroots")).and_then(Path::parent);
    if let (true, Some(above)) = (request.overlays.is_empty(), above) {
        let overlays = above.join("overlays");
        if overlays.is_dir() {
            plan.decide(
                &Key::new(&overlays.display().to_string(), 0, "overlays", ""),
                "overlays of this server are not imported unless --overlay names them",
            );
        }
    }
    Ok(vec![plan])
}

/// The name of an image: its directory below `chroots`, or what the Containerfile's directory or its ending says.
fn image_name(path: &Path, file: Option<&Path>) -> String {
    let text = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if real.is_dir() && text(&real) != "rootfs" && !text(&real).is_empty() {
        return text(&real);
    }
    let above =
        |path: &Path| path.parent().map(text).filter(|name| !name.is_empty()).unwrap_or_else(|| "image".to_owned());
    match file.filter(|_| !real.is_dir()) {
        None => above(&real),
        Some(_) => match text(&real).split_once(['-', '.']) {
            Some((begin, end)) if is_containerfile(begin) && !end.is_empty() => format!("{}-{end}", above(&real)),
            _ => above(&real),
        },
    }
}

fn of_image(request: &MoveRequest, shown: &str, name: &str, of_tree: Option<Release>) -> Result<Plan, MoveError> {
    let release = request.release(shown, of_tree)?;
    let mut plan = request.plan(TOOL, shown, name, release, Arch::default());
    plan.usual_repositories(&Key::new(shown, 0, "repositories", ""));
    Ok(plan)
}

/// What an image's own tree says.
fn image(plan: &mut Plan, tree: &Tree, has_containerfile: bool) {
    let key = Key::new(&tree.file, 0, "image", "");
    if !has_containerfile {
        let reason = format!(
            "what is installed in it is not read here: `imgbuild capture {} --name {}` makes a recipe with its packages and its changed files; or pass --containerfile FILE",
            tree.file, plan.name
        );
        plan.decide(&key, reason);
    } else {
        plan.differs(
            &key,
            None,
            "made of its Containerfile: changes by `wwctl image shell` are not; `imgbuild capture` lists them",
        );
    }
    if let Ok(text) = tree.root.text("etc/warewulf/excludes") {
        copy::excludes(plan, &Key::new(&format!("{}/etc/warewulf/excludes", tree.file), 0, "excludes", ""), &text);
    }
}
