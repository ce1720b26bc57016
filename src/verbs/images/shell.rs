//! `imgbuild shell`: opens a shell in a built image or in an action.

use crate::Exit;
use crate::output::render;
use crate::output::reporter::Reporter;
use crate::published::place;
use crate::setup::{PlacesArguments, Setup, published_image, recipe};
use base::digest::Digest;
use base::failure::Failure;
use build::{Again, Builder, Options, Reproduced, ShellRequest, ShellTree};
use build::{emulator_of_lock, namespace_for, reproduce};
use recipe::{Arch, Recipe};
use sandbox::Namespace;
use sandbox::SandboxError;
use sandbox::{CommandResult, Substitute};

/// Arguments of `shell`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The image, if the workspace has several; with a slash in it: any packed image (cpio, tar, squashfs, erofs)
    #[arg(value_name = "IMAGE|FILE")]
    pub image: Option<String>,
    /// Where artefacts are [default: `out` next to the recipe]
    #[arg(long, value_name = "DIR")]
    pub out: Option<std::path::PathBuf>,
    /// Use the environment of this action, for instance rootfs/postinstall: its root, files and variables;
    /// $IMGBUILD_COMMAND is what it would run
    #[arg(long, value_name = "ACTION")]
    pub action: Option<String>,
    /// With --action: fail if its inputs no longer match this key
    #[arg(long, value_name = "KEY", requires = "action", value_parser = parse_key)]
    pub key: Option<Digest>,
    /// With --action: run what the action runs, show what it prints, and compare the result with the store's
    #[arg(long, requires = "action", conflicts_with = "command")]
    pub run: bool,
    /// Where packages come from, if the store lacks some
    #[command(flatten)]
    pub places: PlacesArguments,
    /// What to run instead of a shell; its exit status becomes imgbuild's
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

fn parse_key(text: &str) -> Result<Digest, String> {
    Digest::parse(text).map_err(|_| "a key has 64 hexadecimal digits".to_owned())
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> std::process::ExitCode {
    match start(arguments, own) {
        Ok(status) => std::process::ExitCode::from(u8::try_from(status).unwrap_or(255)),
        Err(exit) => exit.into(),
    }
}

fn command(own: &Arguments) -> Vec<String> {
    if own.command.is_empty() { vec!["/bin/sh".to_owned(), "-i".to_owned()] } else { own.command.clone() }
}

fn terminal() -> String {
    std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned())
}

fn failed(text: String, exit: Exit) -> Exit {
    render::say(&text);
    exit
}

fn of_file(arguments: &crate::Arguments, own: &Arguments, file: &str) -> Result<i32, Exit> {
    if own.action.is_some() {
        return Err(failed(
            format!("--action needs an image built from a recipe, but `{file}` is a file"),
            Exit::Input,
        ));
    }
    let path = arguments.directory.join(file);
    let said = |error: std::io::Error| failed(format!("cannot read `{file}`: {error}"), Exit::Input);
    // Said before a store is made.
    let opened = std::fs::File::open(&path).map_err(said)?;
    let problem = match opened.metadata().map_err(said)?.is_dir() {
        true => Some("a directory"),
        false if !archive::is_packed(&opened).map_err(said)? => {
            Some("neither an archive in cpio or tar, nor squashfs or erofs")
        }
        false => None,
    };
    if let Some(problem) = problem {
        let help = "name a packed image, for instance out/compute/rootimg.sfs";
        return Err(failed(format!("cannot open a shell in `{file}`: it is {problem}; {help}"), Exit::Input));
    }
    let path = path.canonicalize().map_err(said)?;
    let setup = Setup::open(arguments)?;
    stand((&setup, &setup.namespace), own, file, ShellTree::Packed(path))
}

fn start(arguments: &crate::Arguments, own: &Arguments) -> Result<i32, Exit> {
    // No image's name has a slash.
    if let Some(file) = own.image.as_deref().filter(|image| image.contains('/')) {
        return of_file(arguments, own, file);
    }
    if let Some(action) = &own.action {
        let recipe = recipe(arguments, own.image.as_deref())?;
        return of_action(arguments, own, &recipe, &Setup::open(arguments)?, action);
    }
    let place = place(arguments, own.image.as_deref())?;
    let setup = Setup::open(arguments)?;
    let out = own.out.clone().unwrap_or_else(|| place.out.clone());
    let name = &place.name;
    let (_, info) = published_image(&out, name)?
        .ok_or_else(|| failed("nothing is built yet: run `imgbuild build` first".to_owned(), Exit::Input))?;
    let layers: Option<Vec<Digest>> = info.layers.iter().map(|(_, digest)| Digest::parse(digest).ok()).collect();
    let layers = layers.filter(|layers| layers.iter().all(|layer| setup.store.has_layer(layer))).ok_or_else(|| {
        failed("the layers of the last build are not in this store: run `imgbuild build`".to_owned(), Exit::Input)
    })?;
    let namespace = match &place.recipe {
        Some(recipe) => {
            let namespace = namespace_for(&setup.namespace, recipe);
            let lock = crate::setup::lock(recipe)?;
            emulator_of_lock(&namespace, &setup.store, recipe, lock.as_ref())
                .map_err(|error| failed(render::error(error), Exit::Machine))?;
            namespace
        }
        None => {
            let arch = Arch::named(info.target.rsplit(' ').next().unwrap_or_default());
            let namespace =
                arch.map_or_else(|| setup.namespace.clone(), |arch| setup.namespace.for_machine(arch.machine()));
            if let Some(machine) = namespace.lacks_emulator() {
                let problem = format!(
                    "programs of `{name}` are for {machine}, and its recipe, which has errors, says what emulates them: `imgbuild check` shows the errors"
                );
                return Err(failed(problem, Exit::Input));
            }
            namespace
        }
    };
    stand((&setup, &namespace), own, name, ShellTree::Layers(layers))
}

fn stand((setup, namespace): (&Setup, &Namespace), own: &Arguments, name: &str, tree: ShellTree) -> Result<i32, Exit> {
    let store_error = |error: store::StoreError| failed(render::error(error), Exit::Machine);
    let _held = setup.store.share_use().map_err(store_error)?;
    let scratch = setup.store.scratch().map_err(store_error)?;
    if own.command.is_empty() {
        render::say(&format!("a shell in `{name}`; changes are discarded"));
    }
    let is_packed = matches!(tree, ShellTree::Packed(_));
    let request = ShellRequest {
        log: format!("logs/{}-shell.log", std::process::id()),
        scratch: scratch.name.clone(),
        tree,
        arguments: command(own),
        terminal: terminal(),
    };
    let result = namespace.call_on_terminal("shell", &request);
    // As a shell has it: a command that is not there, or cannot be started, has no status of its own.
    if let Err(SandboxError::Operation { message, failure: Some(failure), .. }) = &result
        && matches!(failure, Failure::NoProgram | Failure::NotRun)
    {
        let status = if *failure == Failure::NoProgram { 127 } else { 126 };
        render::say(&format!("error: {message}"));
        return Ok(status);
    }
    let result: CommandResult = result.map_err(|error| {
        // A file that others made, and not this machine's disk or memory.
        let exit = match &error {
            SandboxError::Operation { failure: Some(Failure::NotUnpacked), .. } if is_packed => Exit::Input,
            error => Exit::from(error),
        };
        failed(render::error(error), exit)
    })?;
    Ok(result.status)
}

fn of_action(
    arguments: &crate::Arguments,
    own: &Arguments,
    recipe: &Recipe,
    setup: &Setup,
    action: &str,
) -> Result<i32, Exit> {
    let _held = setup.share()?;
    let reporter = Reporter::plain(arguments);
    let shared = setup.shared(false, None, std::slice::from_ref(recipe))?;
    let report = reporter.of(None);
    let namespace = namespace_for(&setup.namespace, recipe);
    let builder = Builder::new(
        recipe,
        (&setup.store, &namespace),
        Options { places: own.places.places(), ..Options::default() },
        &report,
        &shared,
    );
    let again = if own.run {
        Again::Run
    } else {
        if own.command.is_empty() {
            render::say(&format!(
                "the environment of {action} of `{}`; run its command: eval \"$IMGBUILD_COMMAND\"; changes are discarded",
                recipe.model.image.name
            ));
        }
        Again::Command(Substitute { arguments: command(own), terminal: terminal() })
    };
    let log_of = |name: &str| std::fs::read_to_string(setup.store.directory().join(name)).unwrap_or_default();
    let outcome = reproduce(&builder, action, own.key.as_ref(), &again).map_err(|error| {
        let exit = Exit::from(&error);
        failed(render::error(error), exit)
    })?;
    let (layer, recorded, differs, log) = match outcome {
        Reproduced::Stood(status) => return Ok(status),
        Reproduced::Ran { layer, recorded, differs, log } => (layer, recorded, differs, log),
    };
    render::print(&log_of(&log));
    let shown = layer.map_or_else(|| "no layer".to_owned(), |layer| format!("the layer {layer}"));
    match (recorded, differs) {
        (None, _) => render::say(&format!("{action} produced {shown}; the store has no result to compare it with")),
        (Some(_), None) => render::say(&format!("{action} produced {shown}, same as in the store")),
        (Some(was), Some(what)) => {
            let was = was.map_or_else(|| "no layer".to_owned(), |layer| layer.to_string());
            render::say(&format!("{action} produced {shown}, but the store has {was}: {what} differs"));
            return Ok(i32::from(Exit::Stage.code()));
        }
    }
    Ok(0)
}
