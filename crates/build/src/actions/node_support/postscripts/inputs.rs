//! Inputs of the `postscripts` action's key.

use super::plan::variables;
use crate::StageError;
use crate::actions::Described;
use crate::actions::reader::Reader;
use crate::bench::ids;
use crate::bench::keyed::{InputFile, Key, Keyed, Said};
use base::digest::Digest;
use plan::{ActionKind, Input, Origin};
use recipe::{Arch, ScriptFailure};

/// Scripts that nodes run.
#[derive(Debug)]
pub struct Postscripts {
    pub epoch: Keyed<i64>,
    /// The program that runs them.
    pub init: Keyed<Digest>,
    /// Its CPU.
    pub arch: Said<Arch>,
    pub image: Keyed<String>,
    /// Seconds.
    pub timeout: Keyed<u32>,
    pub on_failure: Keyed<ScriptFailure>,
    /// Names and arguments, in order.
    pub postscripts: Vec<Keyed<String>>,
    pub postbootscripts: Vec<Keyed<String>>,
    pub environment: Vec<Keyed<(String, String)>>,
    /// By their names on the node.
    pub files: Vec<(String, Keyed<InputFile>)>,
}

/// Adds the action, where the recipe has `[node]`.
/// Errors: [`StageError::Input`] for a file that vanished since the recipe was read.
pub(crate) fn add(reader: &mut Reader<'_>, init: &Digest) -> Result<(), StageError> {
    let recipe = reader.recipe;
    let (Some(table), Some(scripts)) = (&recipe.model.node, &recipe.node_scripts) else { return Ok(()) };
    let mut key = Key::default();
    let listed = |key: &mut Key, list: &str, items: &[(String, String)]| {
        // Their order counts.
        key.keep_each(items.iter().map(|(text, _)| text.clone()), |at, text| {
            reader.setting(&format!("{list} {}", at + 1), text, &items[at].1)
        })
    };
    let described = Postscripts {
        epoch: key.epoch(reader.lock),
        init: key.keep(*init, |init| {
            Input::new("tools imgbuild-init", init.to_string()).of(Origin::Imgbuild("init program".to_owned()))
        }),
        arch: Said(recipe.model.image.arch),
        image: key.keep(recipe.model.image.name.clone(), |name| reader.setting("image", name, "image.name")),
        timeout: key.keep(table.timeout, |timeout| {
            reader.setting(
                "timeout",
                if fault::planted("postscripts-key-forgets-timeout") { &0 } else { timeout },
                "node.timeout",
            )
        }),
        on_failure: key
            .keep(table.on_failure, |failure| reader.setting("on_failure", failure.name(), "node.on_failure")),
        postscripts: listed(&mut key, "postscript", &scripts.postscripts),
        postbootscripts: listed(&mut key, "postbootscript", &scripts.postbootscripts),
        environment: {
            let all: Vec<_> = variables(recipe).into_iter().collect();
            let pairs = all.iter().map(|(name, (value, _))| (name.clone(), value.clone()));
            key.keep_each(pairs, |at, (name, value)| {
                reader.setting(&format!("environment {name}"), value, &all[at].1.1)
            })
        },
        files: (scripts.files.iter())
            .map(|(name, one)| {
                let file = key.file(&one.name, &one.path, |input| reader.asked(input, Some(&one.span)));
                Ok((name.clone(), file?))
            })
            .collect::<Result<_, StageError>>()?,
    };
    reader.layer("postscripts", ActionKind::Postscripts, super::VERSION, key.inputs(), Vec::new());
    reader.describe(&ids::layer("postscripts"), Described::Postscripts(described));
    Ok(())
}
