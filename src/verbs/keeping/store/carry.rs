//! `imgbuild store save` and `load`.

use std::path::{Path, PathBuf};

use crate::output::render;
use crate::setup::Setup;
use crate::{Arguments, Exit};
use build::{StageError, remove_inside};
use files::sweep::Swept;
use sandbox::SandboxError;
use store::{Brought, Carried, LoadRequest, Loaded, Root, SaveRequest, StoreError};

/// Arguments of `store save`.
#[derive(Debug, clap::Args)]
pub struct SaveArguments {
    /// The file to write; an existing one is replaced once the new one is complete
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Leave out package files: smaller, but installing packages again means downloading them again
    #[arg(long)]
    pub without_packages: bool,
}

/// Arguments of `store load`.
#[derive(Debug, clap::Args)]
pub struct LoadArguments {
    /// A file written by `store save`. Anyone who can write it controls the images built from it
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

enum Failed {
    Store(StoreError),
    Inside(SandboxError),
    Stage(StageError),
}

impl From<StageError> for Failed {
    fn from(error: StageError) -> Self {
        Self::Stage(error)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<SandboxError> for Failed {
    fn from(error: SandboxError) -> Self {
        Self::Inside(error)
    }
}

impl Failed {
    /// Says what failed. A file that cannot be loaded is a wrong input, wherever that was found.
    fn tell(self, loading: Option<&PathBuf>) -> Exit {
        let error = match (self, loading) {
            // A full disk and the like are not the file's.
            (Self::Inside(SandboxError::Operation { message, .. }), Some(path)) => {
                let problem = message.trim_start_matches("the saved store ").to_owned();
                Self::Store(StoreError::NotSaved { path: path.clone(), problem })
            }
            (other, _) => other,
        };
        match error {
            Self::Store(error) => render::failed(error),
            Self::Inside(error) => render::failed(error),
            Self::Stage(error) => render::failed(error),
        }
    }
}

pub(crate) fn save(arguments: &Arguments, own: &SaveArguments) -> Result<Exit, Exit> {
    let setup = Setup::open(arguments)?;
    let _held = setup.share()?;
    Ok(match write(&setup, &own.file, !own.without_packages, &|_| true) {
        Ok((carried, bytes)) => {
            render::say(&format!(
                "saved {} builds: {} actions, {} layers, {} frames, {} packages; {} in {}",
                carried.roots.len(),
                carried.actions.len(),
                carried.layers.len(),
                carried.frames.len(),
                carried.packages.len(),
                render::bytes(bytes),
                own.file.display()
            ));
            Exit::Done
        }
        Err(error) => error.tell(None),
    })
}

/// Saves what the last builds of one image need, for a bundle.
pub(crate) fn save_image(arguments: &Arguments, file: &Path, recipe: &Path, image: &str) -> Result<(), Exit> {
    let setup = Setup::open(arguments)?;
    let _held = setup.share()?;
    let of_image = |root: &Root| root.image == image && root.recipe == recipe;
    match write(&setup, file, true, &of_image) {
        Ok((carried, _)) if carried.roots.is_empty() => {
            render::say(&format!(
                "error: no build of `{image}` is in the store: build it before its records can be included"
            ));
            Err(Exit::Input)
        }
        Ok(_) => Ok(()),
        Err(error) => Err(error.tell(None)),
    }
}

fn write(
    setup: &Setup,
    to_file: &Path,
    packages: bool,
    wanted: &dyn Fn(&Root) -> bool,
) -> Result<(Carried, u64), Failed> {
    let store = &setup.store;
    let mut roots = store.roots()?;
    // As gc sees it: a build whose recipe is gone is no one's.
    roots.retain(|root| root.recipe.is_dir() && wanted(root));
    let carried = Carried::of(store, roots, packages);
    let scratch = store.scratch()?;
    let to = format!("handover/{}-saved", scratch.name.replace('/', "-"));
    let request = SaveRequest {
        layers: carried.layers.iter().copied().collect(),
        frames: carried.frames.iter().copied().collect(),
        to: to.clone(),
    };
    let said = |source| StoreError::io("write", to_file, source);
    let parent = to_file.parent().filter(|parent| !parent.as_os_str().is_empty());
    // First of all: what is made inside then goes whatever happens.
    let aside = Swept::below(parent.unwrap_or(Path::new(".")), ".imgbuild-save-").map_err(said)?;
    let path = aside.path().join("saved");
    let mut file =
        std::os::unix::fs::OpenOptionsExt::mode(std::fs::File::options().write(true).create_new(true), 0o600)
            .open(&path)
            .map_err(said)?;
    let made = setup.namespace.call::<_, u64>("save-layers", &request, &mut |_| {});
    let written =
        made.map(|_| carried.write(store, &store.directory().join(&to), &mut std::io::BufWriter::new(&mut file)));
    let removed = remove_inside(store, &setup.namespace, vec![to]);
    written??;
    removed.map_err(Failed::from)?;
    file.sync_all().map_err(said)?;
    fault::point("save.written");
    let bytes = file.metadata().map_err(said)?.len();
    std::fs::rename(&path, to_file).map_err(said)?;
    Ok((carried, bytes))
}

pub(crate) fn load(arguments: &Arguments, own: &LoadArguments) -> Result<Exit, Exit> {
    let setup = Setup::open(arguments)?;
    let _held = setup.share()?;
    Ok(match read(&setup, own) {
        Ok(brought) => {
            render::say(&format!(
                "loaded {} builds: {} actions, {} layers, {} frames, {} packages were not here before",
                brought.builds, brought.actions, brought.layers, brought.frames, brought.packages
            ));
            Exit::Done
        }
        Err(error) => error.tell(Some(&own.file)),
    })
}

fn read(setup: &Setup, own: &LoadArguments) -> Result<Brought, Failed> {
    let no = |problem: String| StoreError::NotSaved { path: own.file.clone(), problem };
    if let Some(problem) = witness::not_a_file(&own.file) {
        return Err(no(format!("{problem}: pass a file written by `imgbuild store save`")).into());
    }
    let file = std::fs::File::open(&own.file).map_err(|error| no(format!("cannot be read: {error}")))?;
    let scratch = setup.store.scratch()?;
    let file = std::io::BufReader::with_capacity(1 << 18, file);
    setup.store.load(&own.file, file, &mut |from| {
        let request = LoadRequest { from: from.to_owned(), scratch: scratch.name.clone() };
        Ok(setup.namespace.call::<_, Loaded>("load-layers", &request, &mut |_| {})?)
    })
}
