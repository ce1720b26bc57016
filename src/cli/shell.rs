//! `imgbuild shell`.

use super::setup::{Setup, recipe};
use super::{Exit, render};
use crate::digest::Digest;
use crate::sandbox::CommandResult;
use crate::stage::{ShellRequest, published};
use crate::store::FileLock;

/// Arguments of `shell`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The image, where the workspace has several
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
    /// Where artefacts are [default: `out` beside the recipe]
    #[arg(long, value_name = "DIR")]
    pub out: Option<std::path::PathBuf>,
    /// What to run instead of a shell; its exit status becomes imgbuild's
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Runs the command.
pub fn run(arguments: &super::Arguments, own: &Arguments) -> std::process::ExitCode {
    match start(arguments, own) {
        Ok(status) => std::process::ExitCode::from(u8::try_from(status).unwrap_or(255)),
        Err(exit) => exit.into(),
    }
}

fn start(arguments: &super::Arguments, own: &Arguments) -> Result<i32, Exit> {
    let recipe = recipe(arguments, own.image.as_deref())?;
    let setup = Setup::open(arguments)?;
    let failed = |text: String, exit: Exit| {
        render::say(&text);
        exit
    };
    let out = own.out.clone().unwrap_or_else(|| recipe.out.clone());
    let name = &recipe.model.image.name;
    let (_, info) = published(&out, name)
        .ok_or_else(|| failed("nothing is built yet: run `imgbuild build` first".to_owned(), Exit::Input))?;
    let layers: Option<Vec<Digest>> = info.layers.iter().map(|(_, digest)| Digest::parse(digest).ok()).collect();
    let layers = layers.filter(|layers| layers.iter().all(|layer| setup.store.has_layer(layer))).ok_or_else(|| {
        failed("the layers of the last build are not in this store: run `imgbuild build`".to_owned(), Exit::Input)
    })?;
    let store_error = |error: crate::store::StoreError| failed(render::error(error), Exit::Machine);
    let _held = FileLock::share(&setup.store.use_lock()).map_err(store_error)?;
    let scratch = setup.store.scratch().map_err(store_error)?;
    let command =
        if own.command.is_empty() { vec!["/bin/sh".to_owned(), "-i".to_owned()] } else { own.command.clone() };
    if own.command.is_empty() {
        render::say(&format!("a shell in `{name}`; nothing that you change here gets into the image"));
    }
    let request = ShellRequest {
        log: format!("logs/{}-shell.log", std::process::id()),
        scratch: scratch.name.clone(),
        layers,
        arguments: command,
        terminal: std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned()),
    };
    let result: CommandResult = setup.namespace.call_on_terminal("shell", &request).map_err(|error| {
        let exit = Exit::from(&error);
        failed(render::error(error), exit)
    })?;
    Ok(result.status)
}
