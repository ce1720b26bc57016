//! xCAT's `rmdef` of osimages (reference 1.1) and `rmimage` (11.3): the recipe, and what packimage published.

use std::path::{Path, PathBuf};

use clap::Parser;

use super::lsdef::arguments_of;
use crate::names::Done;
use crate::names::shell::Shell;
use crate::recipe_lock::RecipeLock;
use crate::verbs::nodes::{checked, root_of};
use recipe::{Draft, Known};
use site::export::places_of;
use site::osimage::STANZA_FILE;

/// Removes definitions of images
#[derive(Debug, Parser)]
#[command(name = "rmdef", disable_version_flag = true)]
struct Arguments {
    /// Names of osimages
    #[arg(value_delimiter = ',')]
    names: Vec<String>,
    /// Kind of the objects
    #[arg(short = 't', value_name = "TYPE")]
    kind: Option<String>,
    /// Names, in xCAT's other form
    #[arg(short = 'o', value_name = "NAMES", value_delimiter = ',')]
    objects: Vec<String>,
    /// Ignored (accepted for xCAT scripts)
    #[arg(short = 'f', long)]
    force: bool,
    /// Show more
    #[arg(short = 'V', long)]
    verbose: bool,
}

/// Removes what packimage published of an image
#[derive(Debug, Parser)]
#[command(name = "rmimage", disable_version_flag = true)]
pub(crate) struct ImageArguments {
    /// The osimage
    image: Option<String>,
    /// Release, if no osimage is named
    #[arg(short = 'o', value_name = "OSVER")]
    osvers: Option<String>,
    /// CPU, if no osimage is named
    #[arg(short = 'a', value_name = "ARCH")]
    arch: Option<String>,
    /// Profile, if no osimage is named
    #[arg(short = 'p', value_name = "PROFILE")]
    profile: Option<String>,
    /// Remove the definition, too
    #[arg(long)]
    xcatdef: bool,
    /// Show more
    #[arg(short = 'V', long)]
    verbose: bool,
}

/// Files of a recipe's directory that imgbuild's commands write, besides the recipe and its locks.
const WRITTEN: [&str; 4] = [STANZA_FILE, "litefile.csv", "litetree.csv", "statelite.csv"];

pub(crate) fn rmdef(shell: &Shell) -> Done {
    let help = "imgbuild handles only `rmdef -t osimage`";
    let own: Arguments = arguments_of(shell, help, false)?;
    let names: Vec<&String> = own.names.iter().chain(&own.objects).filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return Err(shell.fail("name the osimage: -o NAME; `lsdef -t osimage` lists them"));
    }
    let real = shell.real();
    if let (Some(name), None) = (names.iter().find(|name| !shell.has(name)), &real) {
        return Err(shell.fail(&format!(
            "{name} is not an image of {}, and there is no `rmdef` of xCAT further down PATH; nothing was removed\n  help: `lsdef -t osimage` lists the images",
            shell.workspace.display()
        )));
    }
    for name in names.into_iter().filter(|name| shell.has(name)) {
        remove_recipe(shell, name)?;
    }
    match real {
        Some(path) => shell.run_real(&path, None),
        None => Ok(()),
    }
}

fn draft_of<'a>(known: &'a Known, image: &str) -> Option<&'a Draft> {
    known.images().find(|draft| draft.name().is_some_and(|(name, _)| name == image))
}

/// Removes a recipe with what imgbuild wrote beside it; what else is in its directory stays.
fn remove_recipe(shell: &Shell, image: &str) -> Done {
    let _turn = RecipeLock::take(&shell.workspace);
    let known = shell.known();
    let draft = known.as_ref().and_then(|known| draft_of(known, image));
    let (Some(known), Some(draft)) = (&known, draft) else {
        return Err(shell.fail(&format!("the recipe of {image} cannot be read: imgbuild check {image}")));
    };
    if draft.variant.is_some() {
        return Err(shell.fail(&format!("{image} is a variant: remove its table from {}", draft.directory.display())));
    }
    let is_of = |other: &&Draft| {
        let is_own = other.name().is_some_and(|(name, _)| name == image);
        !is_own && other.files.iter().any(|file| file.path.starts_with(&draft.directory))
    };
    let others: Vec<&str> = known.images().filter(is_of).filter_map(|other| Some(other.name()?.0)).collect();
    if !others.is_empty() && !fault::planted("rmdef-of-a-parent") {
        return Err(shell.fail(&format!("{image} was not removed: {} is made from its recipe", others.join(", "))));
    }
    let directory = draft.directory.as_path();
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let (mut gone, mut kept) = (Vec::new(), Vec::new());
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_lock = name.starts_with("image.") && name.ends_with(".lock");
        let is_recipe = draft.files.iter().any(|file| file.path == entry.path());
        match is_lock || is_recipe || WRITTEN.contains(&name.as_str()) {
            true => gone.push(entry.path()),
            false => kept.push(name),
        }
    }
    // The recipe goes last: a command that is ended before can be given again.
    gone.sort_by_key(|path| draft.files.iter().any(|file| file.path == *path));
    for path in gone {
        std::fs::remove_file(&path)
            .map_err(|error| shell.fail(&format!("`{}` cannot be removed: {error}", path.display())))?;
    }
    kept.sort();
    match std::fs::remove_dir(directory) {
        Ok(()) => shell.say(&format!("removed {}", directory.display())),
        Err(_) => shell.say(&format!(
            "removed the recipe in {}; not written by imgbuild, so kept: {}",
            directory.display(),
            kept.join(", ")
        )),
    }
    let nodes = checked(&root_of(&shell.workspace)).ok().flatten();
    let naming: Vec<String> = nodes
        .iter()
        .flat_map(|nodes| {
            let of_image = |name: &&str| nodes.get(name).is_some_and(|node| node.image() == Some(image));
            nodes.names().filter(of_image).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    if let Some(first) = naming.first() {
        let more = if naming.len() > 1 { format!(" and {} more", naming.len() - 1) } else { String::new() };
        shell.say(&format!("nodes.toml still names {image}: {first}{more}"));
    }
    Ok(())
}

pub(crate) fn rmimage(shell: &Shell, own: &ImageArguments) -> Done {
    let image = match (&own.image, &own.osvers, &own.arch, &own.profile) {
        (Some(image), None, None, None) => image.clone(),
        (Some(_), ..) => return Err(shell.fail("-o, -a and -p cannot be combined with an osimage name")),
        (None, Some(osvers), Some(arch), Some(profile)) => format!("{osvers}-{arch}-netboot-{profile}"),
        (None, ..) => {
            return Err(shell.fail("name the osimage: `rmimage IMAGE`; `lsdef -t osimage` lists them"));
        }
    };
    shell.hand_on_unknown(&image)?;
    shell.hand_on_unbuildable(&image)?;
    let recipe = shell.recipe(&image)?;
    let workspace = recipe::Workspace::above(&recipe.directory).ok().flatten();
    let rootimgdir = shell.attribute(&image, "rootimgdir")?;
    let directory = places_of(&recipe, workspace.as_ref()).here(&rootimgdir);
    match directory.canonicalize() {
        Ok(directory) => remove_published(shell, &directory)?,
        Err(_) if own.xcatdef => shell.say(&format!("nothing is published in {rootimgdir}")),
        Err(_) => {
            return Err(shell.fail(&format!("{rootimgdir} does not exist: nothing of {image} is published there")));
        }
    }
    shell.say("the build stays in out and in the store: `imgbuild gc` frees what no image needs");
    if own.xcatdef {
        remove_recipe(shell, &image)?;
    }
    match shell.real() {
        Some(path) => shell.run_real(&path, None),
        None => Ok(()),
    }
}

/// Names that genimage and packimage of xCAT give, and `--publish xcat:DIR`.
fn is_of_image(name: &str) -> bool {
    ["kernel", "initrd-stateless.gz", "initrd-statelite.gz"].contains(&name) || name.starts_with("rootimg.")
}

/// Removes the files of an image, and the tree that xCAT's genimage made. What is mounted in the tree is not the image's: xCAT removed
/// `/install` through such a mount (its issue 1936).
fn remove_published(shell: &Shell, directory: &Path) -> Done {
    let tree = directory.join("rootimg");
    if let Some(mount) = mounts().into_iter().find(|mount| mount.starts_with(&tree)) {
        return Err(shell.fail(&format!(
            "nothing was removed: a file system is mounted at {}\n  help: umount it, and try again",
            mount.display()
        )));
    }
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| is_of_image(name) || name == "rootimg");
    names.sort();
    for name in &names {
        let path = directory.join(name);
        let is_folder = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
        let removed = match (is_folder, name == "rootimg") {
            (true, true) => std::fs::remove_dir_all(&path),
            (true, false) => continue,
            (false, _) => std::fs::remove_file(&path),
        };
        removed.map_err(|error| shell.fail(&format!("`{}` cannot be removed: {error}", path.display())))?;
    }
    match names.is_empty() {
        true => shell.say(&format!("nothing is published in {}", directory.display())),
        false => shell.say(&format!("removed from {}: {}", directory.display(), names.join(", "))),
    }
    Ok(())
}

/// Where file systems are mounted. Source: proc(5), mountinfo; blanks and backslashes are octal there.
fn mounts() -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let place = |line: &str| {
        let field = line.split(' ').nth(4)?;
        let plain = field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
        Some(PathBuf::from(plain))
    };
    text.lines().filter_map(place).collect()
}
