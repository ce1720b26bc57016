//! What is known of a published image: its directory, build.json, what the packed image holds, and the lock beside it.

use std::path::{Path, PathBuf};

use bill::{BUILD, Bill, BillError, Contents, Directory, Image, Wrong, check, text_of};

use crate::Exit;
use crate::output::harmless::one_line;
use crate::output::render;
use crate::published::place;
use crate::setup::lock;
use base::digest::Sha256;
use build::LOCK_NAME;
use recipe::{Lock, LockError, Recipe, has_recipe, is_image_name};

/// Which image a command is for.
#[derive(Debug, Clone, clap::Args)]
pub struct Which {
    /// The image, if the workspace has several; or a directory of artefacts, with a slash in it: `./compute`
    #[arg(value_name = "IMAGE|DIR")]
    pub image: Option<String>,
    /// Where artefacts are [default: `out` next to the recipe]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// A published image.
pub struct Published {
    pub directory: Directory,
    /// Its recipe; none for a directory.
    pub recipe: Option<Recipe>,
    /// What the image is called by who asks for it, and by where it lies.
    names: Vec<String>,
}

pub(crate) fn refused(error: BillError) -> Exit {
    use std::io::ErrorKind::{InvalidData, InvalidInput, NotADirectory, NotFound};
    let exit = match &error {
        // Something else is there than what is read: that is no failure of this machine.
        BillError::Read { source, .. }
            if ![InvalidData, InvalidInput, NotADirectory, NotFound].contains(&source.kind()) =>
        {
            Exit::Machine
        }
        _ => Exit::Input,
    };
    render::refused(exit, error)
}

/// How a comparison ends: where all that is wrong is that files cannot be read, nothing is known of the image.
pub(crate) fn exit_of(wrong: &[Wrong]) -> Exit {
    match wrong {
        [] => Exit::Done,
        all if all.iter().all(|one| one.unread) => Exit::Machine,
        _ => Exit::Input,
    }
}

/// The directory of images, where a path is that of a build in it: `OUT/.builds/IMAGE/BUILD`.
fn out_of(path: &Path) -> Option<&Path> {
    path.ancestors().nth(2).filter(|builds| builds.file_name().is_some_and(|name| name == ".builds"))?.parent()
}

/// What an image is called: by who asks for it, by the link in the directory of images that was followed, and by the directory of its
/// builds.
fn names_of(asked: Option<&str>, given: &Path, real: &Path) -> Vec<String> {
    let name = |path: &Path| Some(path.file_name()?.to_string_lossy().into_owned());
    let mut names: Vec<String> = asked.map(str::to_owned).into_iter().collect();
    if let Some(out) = out_of(real) {
        let around = given.parent().and_then(|around| around.canonicalize().ok());
        names.extend(around.filter(|around| around == out).and_then(|_| name(given)));
        names.extend(real.parent().and_then(name));
    }
    names
}

pub(crate) fn unread(path: &Path) -> impl FnOnce(std::io::Error) -> Exit + use<> {
    let path = path.to_owned();
    move |source| refused(BillError::Read { path, source })
}

impl Which {
    /// The directory, where an image's name does not stand for it.
    fn path(&self, arguments: &crate::Arguments) -> Option<PathBuf> {
        let text = self.image.as_deref()?;
        let path = arguments.directory.join(text);
        let is_path = text.contains('/') || text.starts_with('.');
        (is_path || path.join(BUILD).is_file() && !has_recipe(&arguments.directory)).then_some(path)
    }

    /// Finds the image.
    /// Errors: [`Exit::Input`] where nothing is published.
    pub fn find(&self, arguments: &crate::Arguments) -> Result<Published, Exit> {
        if let Some(path) = self.path(arguments) {
            let real = path.canonicalize().map_err(unread(&path))?;
            return Published::open(None, &path, &real, None);
        }
        // Someone else's build, which has no recipe here.
        let named = self.image.as_deref().zip(self.out.as_deref());
        let named = named.filter(|(name, out)| is_image_name(name) && out.join(name).join(BUILD).is_file());
        let (name, out, recipe) = match named {
            Some((name, out)) => (name.to_owned(), out.to_owned(), None),
            None => {
                let place = place(arguments, self.image.as_deref())?;
                (place.name, self.out.clone().unwrap_or(place.out), place.recipe)
            }
        };
        let path = out.join(&name);
        let Ok(real) = path.canonicalize() else {
            render::say(&format!("nothing is published in {}: run `imgbuild build` first", path.display()));
            return Err(Exit::Input);
        };
        Published::open(Some(&name), &path, &real, recipe)
    }
}

impl Published {
    /// The directory of a build is called after it, whatever leads there: it is opened by its real path.
    fn open(asked: Option<&str>, given: &Path, real: &Path, recipe: Option<Recipe>) -> Result<Self, Exit> {
        let directory = Directory::open(real).map_err(unread(real))?;
        Ok(Self { directory, recipe, names: names_of(asked, given, real) })
    }

    /// A build that was just published.
    /// Errors: [`Exit`] for a directory that cannot be opened.
    pub fn of_build(recipe: &Recipe, directory: &Path) -> Result<Self, Exit> {
        let real = directory.canonicalize().map_err(unread(directory))?;
        Self::open(Some(&recipe.model.image.name), &real, &real, Some(recipe.clone()))
    }

    /// The lock beside an image, with the digest of its text: the one that is named, lies in its directory, or beside its recipe.
    /// Errors: [`Exit`] for one that cannot be read.
    pub fn lock(&self, arguments: &crate::Arguments, named: Option<&Path>) -> Result<Option<(Lock, Sha256)>, Exit> {
        let beside = self.directory.path().join(LOCK_NAME);
        let (place, text) = match (named, self.directory.text(LOCK_NAME), &self.recipe) {
            (Some(path), ..) => {
                let path = arguments.directory.join(path);
                let text = text_of(&path).map_err(unread(&path))?;
                (path, text)
            }
            (None, Ok(text), _) => (beside, text),
            (None, Err(error), _) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(unread(&beside)(error));
            }
            (None, Err(_), Some(recipe)) => {
                // Its errors are said as everywhere.
                if lock(recipe)?.is_none() {
                    return Ok(None);
                }
                let path = &recipe.lock_path;
                let text = path.canonicalize().and_then(|real| text_of(&real)).map_err(unread(path))?;
                (path.clone(), text)
            }
            (None, Err(_), None) => return Ok(None),
        };
        let digest = Sha256::of(&text);
        let lock = Lock::parse_bytes(&place.display().to_string(), text);
        let lock = lock.map_err(|error: LockError| render::refused(Exit::Input, error))?;
        Ok(Some((lock, digest)))
    }

    /// Where build.json is not the one that leads here: it is of another image, or of another build than its directory is called after.
    pub fn misplaced(&self, image: &Image, build: Sha256) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        if let Some(name) = self.names.iter().find(|name| **name != image.name) {
            let problem = format!("is of the image `{}`, not of `{}`", image.name, one_line(name));
            wrong.push(Wrong::new(BUILD, problem));
        }
        let path = self.directory.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if out_of(path).is_some() && name != build.short() && !fault::planted("verify-any-build-record") {
            let name = one_line(name);
            let problem = format!("has the SHA-256 {build}, which does not match the name of its directory, `{name}`");
            wrong.push(Wrong::new(BUILD, problem));
        }
        wrong
    }

    /// build.json and its digest.
    /// Errors: [`BillError`].
    pub fn image(&self) -> Result<(Image, Sha256), BillError> {
        let path = self.directory.path();
        let text = self.directory.text(BUILD).map_err(|source| BillError::Read { path: path.join(BUILD), source })?;
        let image = Image::read(&text).map_err(|problem| BillError::NotAnImage { path: path.to_owned(), problem })?;
        Ok((image, Sha256::of(&text)))
    }

    /// What the image holds; nothing of one without a packed image.
    /// Errors: [`BillError::Contents`].
    pub fn contents(&self, image: &Image) -> Result<Contents, BillError> {
        let Some((packed, _)) = image.packed().into_iter().next() else { return Ok(Contents::default()) };
        let path = self.directory.path().join(&packed.name);
        let said = |problem: String| BillError::Contents { path: path.clone(), problem };
        let file = self.directory.file(&packed.name).map_err(|error| said(error.to_string()))?;
        Contents::of_image(&file).map_err(said)
    }

    /// The bill with the lock that counts.
    /// Errors: [`Exit`], after what is wrong was said.
    pub fn bill(&self, lock: Option<&(Lock, Sha256)>) -> Result<(Bill, Sha256), Exit> {
        let (image, build) = self.image().map_err(refused)?;
        // What is said of an image is said of its bytes.
        let mut wrong = self.misplaced(&image, build);
        if wrong.is_empty() {
            wrong = check(&self.directory, &image).wrong;
        }
        if let Some(first) = wrong.iter().find(|one| !one.unread).or(wrong.first()).cloned() {
            let path = self.directory.path().to_owned();
            let error = BillError::Damaged { path, file: first.file, problem: first.problem };
            return Err(render::refused(exit_of(&wrong), error));
        }
        let contents = self.contents(&image).map_err(refused)?;
        let bill = Bill::of(image, contents, lock.map(|(lock, digest)| (lock, *digest)));
        if !bill.has_database {
            render::say(
                "note: the packed image has no package database: packages are those of image.lock, without their sources, and other files are not listed",
            );
        }
        match (lock, bill.has_lock()) {
            (_, true) => {}
            (Some(_), false) => render::say(
                "note: image.lock is not the one that the image was built by: it may have been updated since; digests of packages are left out where it differs",
            ),
            (None, false) => {
                render::say("note: there is no image.lock: packages are listed without the digests of their files")
            }
        }
        Ok((bill, build))
    }
}

/// Writes a document to a file, or prints it.
/// Errors: [`Exit::Machine`].
pub(crate) fn write(arguments: &crate::Arguments, output: Option<&Path>, text: &str) -> Result<Exit, Exit> {
    let Some(output) = output.filter(|path| *path != Path::new("-")) else {
        render::print_whole(text);
        return Ok(Exit::Done);
    };
    let path = arguments.directory.join(output);
    files::replace(&path, text.as_bytes(), 0o644, files::Durability::Kill).map_err(|error| {
        render::say(&format!("error: `{}` cannot be written: {error}", path.display()));
        Exit::Machine
    })?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_called_as_it_is_asked_for_and_as_it_lies() {
        let space = tempfile::tempdir().unwrap();
        let out = space.path().canonicalize().unwrap().join("out");
        let real = out.join(".builds/compute/0123");
        std::fs::create_dir_all(&real).unwrap();
        assert_eq!(names_of(Some("asked"), &out.join("asked"), &out.join("asked")), ["asked"]);
        assert_eq!(names_of(None, &out.join("x"), &out.join("x")), Vec::<String>::new());
        assert_eq!(names_of(Some("compute"), &out.join("compute"), &real), ["compute", "compute", "compute"]);
        // A link of someone else's may have any name; one of the directory of images has the image's.
        assert_eq!(names_of(None, &space.path().join("current"), &real), ["compute"]);
        assert_eq!(names_of(None, &out.join("swapped"), &real), ["swapped", "compute"]);
        assert_eq!(names_of(None, &real, &real), ["compute"]);
    }

    #[test]
    fn only_what_cannot_be_read_is_the_machine_s_fault() {
        let wrong = Wrong::new("kernel", "differs");
        let unread = Wrong { unread: true, ..wrong.clone() };
        assert_eq!(exit_of(&[]), Exit::Done);
        assert_eq!(exit_of(std::slice::from_ref(&unread)), Exit::Machine);
        assert_eq!(exit_of(&[unread, wrong]), Exit::Input);
    }
}
