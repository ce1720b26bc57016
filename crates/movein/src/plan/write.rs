//! Writing images: each whole or not at all, and never over one that exists.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use files::sweep::Swept;
use files::{Durability, Folders, beside};
use recipe::{RECIPE_FILE, WORKSPACE_FILE, plain};
use site::workspace::{Wanted, with_wanted, write_whole};

use super::{Content, MoveReport, MovedImage, Plan, REPORT_FORMAT, State};
use crate::MoveError;

const IMAGES: &str = "images";

const NEW: &str = "# The images of this site.\nimages = [\"images/*\"]\nout = \"out\"\n";

fn unwritable(path: &Path) -> impl FnOnce(std::io::Error) -> MoveError + use<> {
    let path = path.to_owned();
    move |error| MoveError::Unwritable { path, error }
}

/// Writes images into a workspace, which is made if it is missing.
/// Errors: [`MoveError`]; images that were written before are whole.
pub(crate) fn write(source: &str, plans: Vec<Plan>, into: &Path, dry_run: bool) -> Result<MoveReport, MoveError> {
    let into = std::path::absolute(into).unwrap_or_else(|_| into.to_owned());
    let into = plain(&into);
    let any = into.join(IMAGES).join("any");
    beside::check(&into, &any).map_err(unwritable(&any))?;
    let mut images: Vec<MovedImage> = Vec::new();
    for plan in plans {
        let directory = into.join(IMAGES).join(&plan.name);
        let texts = plan.texts();
        let mut names: Vec<String> =
            texts.iter().map(|(name, ..)| name.clone()).chain(plan.files.keys().cloned()).collect();
        names.sort();
        let recipe = format!("{IMAGES}/{}/{RECIPE_FILE}", plan.name);
        let is_twice = images.iter().any(|one| one.name == plan.name);
        let reason = match (is_twice, directory.symlink_metadata().is_ok()) {
            (true, _) => Some("another image of the input has this name: import it alone, with --name".to_owned()),
            (_, true) => Some(format!(
                "{IMAGES}/{} already exists, and is kept: pass --name for another name, or move it away",
                plan.name
            )),
            _ => None,
        };
        let image = MovedImage {
            name: plan.name.clone(),
            state: if reason.is_some() { State::Skipped } else { State::New },
            recipe: reason.is_none().then_some(recipe),
            files: if reason.is_some() { Vec::new() } else { names },
            reason,
            keys: plan.rows.clone(),
        };
        if image.state == State::New && !dry_run {
            workspace(&into)?;
            write_image(&into, &directory, &plan, &texts)?;
        }
        images.push(image);
    }
    Ok(MoveReport { format_version: REPORT_FORMAT.to_owned(), dry_run, source: source.to_owned(), images })
}

fn workspace(into: &Path) -> Result<(), MoveError> {
    let path = into.join(WORKSPACE_FILE);
    let made = Folders::make(into).map_err(unwritable(into))?;
    if path.symlink_metadata().is_err() {
        write_whole(&path, NEW.as_bytes()).map_err(unwritable(&path))?;
    }
    made.keep();
    with_wanted(into, &Wanted::default()).map_err(MoveError::Workspace)
}

fn write_image(into: &Path, directory: &Path, plan: &Plan, texts: &[(String, String, u32)]) -> Result<(), MoveError> {
    let made = Swept::below(into, ".import-").map_err(unwritable(into))?;
    let place = |name: &str| -> Result<std::path::PathBuf, MoveError> {
        let path = made.path().join(name);
        beside::make_folders(made.path(), &path).map_err(unwritable(&path))?;
        Ok(path)
    };
    for (name, text, mode) in texts {
        let path = place(name)?;
        files::create(&path, text.as_bytes(), *mode, Durability::PowerCut).map_err(unwritable(&path))?;
    }
    for (name, (content, mode)) in &plan.files {
        let path = place(name)?;
        match content {
            Content::Bytes(bytes) => {
                files::create(&path, bytes, *mode, Durability::PowerCut).map_err(unwritable(&path))?
            }
            Content::Beneath(root, from) => {
                let mut source = root.file(from).map_err(unwritable(&path))?;
                let mut file = std::fs::File::create_new(&path).map_err(unwritable(&path))?;
                std::io::copy(&mut source, &mut file).and_then(|_| file.flush()).map_err(unwritable(&path))?;
                file.set_permissions(PermissionsExt::from_mode(*mode)).map_err(unwritable(&path))?;
            }
        }
    }
    for folder in plan.empty_folders() {
        let path = made.path().join(folder);
        beside::make_folders(made.path(), &path.join("any")).map_err(unwritable(&path))?;
    }
    fault::point("movein.written");
    let parent = into.join(IMAGES);
    std::fs::create_dir_all(&parent).map_err(unwritable(&parent))?;
    std::fs::rename(made.path(), directory).map_err(unwritable(directory))?;
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).map_err(unwritable(directory))
}
