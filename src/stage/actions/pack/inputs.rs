//! What its key is made of.

use crate::archive::FRAME_VERSION;
use crate::plan::{Action, ActionKind, Input, Origin, Stage};
use crate::recipe::{Frames, Selinux};
use crate::stage::actions::graph::Reader;
use crate::stage::actions::graph::compression;
use crate::stage::actions::graph::encoder;
use crate::stage::ids;

/// Adds the action of the packed image.
pub fn add(reader: &mut Reader<'_>, id: &str) {
    let compression = compression(reader.recipe, id);
    let level = compression.level().to_string();
    let frames = if reader.recipe.model.pack.frames == Frames::Single { "single" } else { "many" };
    let selinux = if reader.recipe.model.system.selinux == Selinux::Auto { "auto" } else { "off" };
    let mut inputs = vec![
        reader.setting("archive", "cpio", "pack.archive"),
        Input::new("tools frames", FRAME_VERSION.to_string()).of(Origin::Imgbuild("frame writer".to_owned())),
        reader.form(id == ids::PACK_GZIP, "rootimg", reader.setting("compress", compression.name(), "pack.compress")),
        encoder(compression),
        reader.form(id == ids::PACK_GZIP, "rootimg", reader.setting("level", &level, "pack.level")),
        reader.setting("frames", frames, "pack.frames"),
        reader.setting("selinux", selinux, "system.selinux"),
    ];
    let exclude = &reader.recipe.exclude;
    for (kind, patterns) in [("exclude", &exclude.exclude), ("include", &exclude.include)] {
        for pattern in patterns {
            inputs.push(reader.asked(Input::new(format!("{kind} {}", pattern.text), "yes"), Some(&pattern.span)));
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    inputs.retain(|input| seen.insert(input.name.clone()));
    let upstream = reader.below();
    let needs = vec![ids::GATE.to_owned()];
    reader.actions.push(Action {
        id: id.to_owned(),
        stage: Stage::Pack,
        kind: ActionKind::Pack,
        version: super::VERSION,
        inputs,
        upstream,
        needs,
    });
}
