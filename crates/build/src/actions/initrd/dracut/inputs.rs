//! What the key of dracut's initrd has besides what imgbuild's own is made of.

use super::{COMPOSE, DETECT_VIRT, MODULE};
use crate::StageError;
use crate::actions::initrd::inputs::Initrd;
use crate::bench::keyed::{InputFile, Key, Keyed};
use base::digest::FieldHasher;
use plan::{Input, Origin};
use recipe::{Recipe, dracut_modules};

/// An initrd that dracut composes.
#[derive(Debug)]
pub struct Dracut {
    pub initrd: Initrd,
    /// Modules that are added to dracut's own choice, and those that are left out.
    pub added: Vec<Keyed<String>>,
    pub omitted: Vec<Keyed<String>>,
    /// Files of dracut.conf.d.
    pub conf: Vec<Keyed<InputFile>>,
}

impl Dracut {
    /// Describes it; `tools` says what the tools root is.
    ///
    /// # Errors
    /// [`StageError::Input`] for a file that vanished since the recipe was read.
    pub fn describe(recipe: &Recipe, initrd: Initrd, tools: Input, key: &mut Key) -> Result<Self, StageError> {
        let spans = &recipe.spans;
        let mut hasher = FieldHasher::new("imgbuild dracut module v1");
        hasher.text(COMPOSE).text(DETECT_VIRT);
        for (name, text) in MODULE {
            hasher.text(name).text(text);
        }
        key.also(Input::parameter("generator", "dracut").field(spans, "initrd.generator"));
        key.also(tools);
        let own = Input::new("tools imgbuild's dracut module", hasher.finish().to_string());
        key.also(own.of(Origin::Imgbuild("dracut module".to_owned())));
        let (added, omitted) = dracut_modules(&recipe.model.initrd);
        let listed = |key: &mut Key, names: Vec<String>, how: &str| {
            key.keep_each(names, |_, name| {
                let written = |item: &String| item.trim_start_matches(['+', '-']) == name;
                let index = recipe.model.initrd.dracut_modules.iter().position(written);
                let input = Input::new(format!("dracut module {name}"), how);
                input.item(spans, "initrd.dracut_modules", index.unwrap_or_default())
            })
        };
        let (added, omitted) = (listed(key, added, "added"), listed(key, omitted, "left out"));
        let conf = recipe.dracut_conf.iter().enumerate();
        let conf = conf
            .map(|(index, (path, name))| key.file(name, path, |input| input.item(spans, "initrd.dracut_conf", index)));
        let conf = conf.collect::<Result<_, _>>()?;
        Ok(Self { initrd, added, omitted, conf })
    }
}
