//! What the key of dracut's initrd has besides what imgbuild's own is made of.

use super::{COMPOSE, DETECT_VIRT, MODULE};
use crate::digest::FieldHasher;
use crate::plan::{Input, Origin};
use crate::recipe::{Recipe, dracut_modules};
use crate::stage::StageError;
use crate::stage::bench::results::file;

/// What is part of the key besides what imgbuild's own initrd is made of; `tools` is the tools root's identity.
/// Errors: [`StageError::Input`] for a file that vanished since the recipe was read.
pub fn inputs(recipe: &Recipe, tools: String, roots: Origin) -> Result<Vec<Input>, StageError> {
    let spans = &recipe.spans;
    let mut hasher = FieldHasher::new("imgbuild dracut module v1");
    hasher.text(COMPOSE).text(DETECT_VIRT);
    for (name, text) in MODULE {
        hasher.text(name).text(text);
    }
    let mut inputs = vec![
        Input::parameter("generator", "dracut").field(spans, "initrd.generator"),
        Input::new("tools dracut", tools).of(roots),
        Input::new("tools imgbuild's dracut module", hasher.finish().to_string())
            .of(Origin::Imgbuild("dracut module".to_owned())),
    ];
    let (added, omitted) = dracut_modules(&recipe.model.initrd);
    for (names, how) in [(&added, "added"), (&omitted, "left out")] {
        for name in names {
            let input = Input::new(format!("dracut module {name}"), how);
            let written = |item: &String| item.trim_start_matches(['+', '-']) == name;
            let index = recipe.model.initrd.dracut_modules.iter().position(written);
            inputs.push(input.item(spans, "initrd.dracut_modules", index.unwrap_or_default()));
        }
    }
    for (index, (path, name)) in recipe.dracut_conf.iter().enumerate() {
        inputs.push(file(name, path, None)?.item(spans, "initrd.dracut_conf", index));
    }
    Ok(inputs)
}
