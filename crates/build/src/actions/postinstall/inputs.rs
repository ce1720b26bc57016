//! Inputs of the `postinstall` action's key.

use crate::StageError;
use crate::actions::Described;
use crate::actions::packages::tools::tools_identity;
use crate::actions::reader::Reader;
use crate::actions::reader::globs::Patterns;
use crate::actions::reader::{image_packages, roots_of};
use crate::bench::ids;
use crate::bench::keyed::{InputFile, Key, Keyed};
use plan::{ActionKind, Input, Origin, Upstream};
use recipe::{Arch, InputKind, PassRole, PinnedPackage, ScriptInput};

/// Scripts, and what they see.
#[derive(Debug)]
pub struct Scripts {
    pub arch: Keyed<Arch>,
    pub epoch: Keyed<i64>,
    /// In order.
    pub scripts: Vec<(Keyed<InputFile>, Vec<Keyed<String>>)>,
    /// xCAT's and the recipe's, but for the kernel's release.
    pub variables: Vec<Keyed<(String, String)>>,
    /// The image's locked packages, where they are offered.
    pub packages: Option<Vec<Keyed<PinnedPackage>>>,
    pub inputs: Vec<Shown>,
    /// Patterns of paths that stay whatever they look like.
    pub keep: Vec<Keyed<String>>,
}

/// Something that scripts see, below the recipe's directory or at an absolute path.
#[derive(Debug)]
pub enum Shown {
    File(Keyed<InputFile>),
    /// A link, directory or pipe, by its path.
    Other(Keyed<(String, InputKind)>),
}

/// Adds the action of the postinstall scripts, if there are any.
/// Errors: [`StageError::Input`] for a file that vanished since the recipe was read.
pub(crate) fn add(reader: &mut Reader<'_>) -> Result<(), StageError> {
    let recipe = reader.recipe;
    let (Some(scripts), Some(table)) = (&recipe.postinstall, &recipe.model.postinstall) else { return Ok(()) };
    let spans = &recipe.spans;
    let mut tools = reader.locked("base");
    let more = reader.locked(PassRole::POSTINSTALL_TOOLS);
    let tools_root = if more.is_empty() { ids::BASE.to_owned() } else { ids::POSTINSTALL_TOOLS.to_owned() };
    tools.extend(more);
    let mut key = Key::default();
    let arch = key.keep(recipe.model.image.arch, |_| Input::parameter("platform", &reader.platform));
    let epoch = key.epoch(reader.lock);
    key.also(
        Input::new("tools postinstall", tools_identity(reader.manager, &tools, &reader.platform))
            .of(Origin::Roots(roots_of(&tools_root))),
    );
    let mut all = Vec::new();
    for (number, script) in scripts.scripts.iter().enumerate() {
        let file = key.file(&script.name, &script.path, |input| match number {
            0 if script.field == "postinstall.script" => input.field(spans, &script.field),
            _ => input.item(spans, "postinstall.scripts", index_of(&script.field)),
        })?;
        let words = key.keep_each(script.arguments.iter().cloned(), |index, word| {
            let (name, field) = match script.field.as_str() {
                "postinstall.script" => (format!("argument {}", index + 1), format!("postinstall.arguments[{index}]")),
                field => (format!("argument {} of script {}", index + 1, number + 1), field.to_owned()),
            };
            Input::parameter(&name, word).field(spans, &field)
        });
        all.push((file, words));
    }
    // The order is the key's, too; `script` is always the first.
    if table.scripts.len() > 1 {
        key.also(reader.setting("order of scripts", table.scripts.join(", "), "postinstall.scripts"));
    }
    let variables = key.keep_each(super::script::variables(recipe), |_, (name, value)| {
        let field = super::script::field_of(recipe, name);
        reader.setting(&format!("environment {name}"), value, &field)
    });
    let offered = table.packages.is_some().then(|| image_packages(reader.lock));
    let packages = offered.map(|packages| key.keep_each(packages, |_, package| Input::package(package)));
    let patterns = Patterns::new(table.inputs.iter());
    let mut inputs = Vec::new();
    for ScriptInput { path, name, kind } in &scripts.inputs {
        let said = |input: Input| patterns.named(input, name, spans, "postinstall.inputs");
        let other = |value: String| said(Input::new(format!("file {name}"), value));
        inputs.push(match kind {
            InputKind::File => Shown::File(key.file(name, path, said)?),
            kind => Shown::Other(key.keep((name.clone(), kind.clone()), |(_, kind)| match kind {
                InputKind::Link(target) => other(format!("link {target}")),
                InputKind::Directory(mode) => other(format!("directory {mode:04o}")),
                InputKind::Pipe(mode) => other(format!("pipe {mode:04o}")),
                InputKind::File => other("file".to_owned()),
            })),
        });
    }
    let keep = key.keep_each(recipe.model.image.keep.iter().cloned(), |index, pattern| {
        Input::new(format!("word {pattern}"), "").item(spans, "image.keep", index)
    });
    let described = Scripts { arch, epoch, scripts: all, variables, packages, inputs, keep };
    reader.layer("postinstall", ActionKind::Postinstall, super::VERSION, key.inputs(), vec![tools_root]);
    if let Some(action) = reader.actions.last_mut() {
        action.upstream.push(Upstream { action: ids::PAYLOAD.to_owned(), output: "value release".to_owned() });
    }
    reader.describe(ids::POSTINSTALL, Described::Postinstall(described));
    Ok(())
}

/// The place of an item in its list, by its field: 2 of `postinstall.scripts[2]`.
fn index_of(field: &str) -> usize {
    let number = field.rsplit_once('[').and_then(|(_, rest)| rest.strip_suffix(']'));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
