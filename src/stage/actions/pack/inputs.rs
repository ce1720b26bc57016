//! Inputs of the `pack` action's key.

use crate::archive::{EROFS_VERSION, FRAME_VERSION, Form, SQUASHFS_VERSION, TAR_VERSION};
use crate::plan::{Action, ActionKind, Input, Origin, Stage};
use crate::recipe::Selinux;
use crate::stage::actions::reader::Reader;
use crate::stage::actions::reader::{archive, compression, encoder, packed_form};
use crate::stage::bench::ids;

pub fn add(reader: &mut Reader<'_>, id: &str) {
    let packed = packed_form(reader.recipe, id);
    let field = |name: &str| packed.field(name);
    let decided = |name: &str, value: &str| reader.setting(name, value, &packed.deciding(name));
    let compression = compression(&packed);
    let level = compression.level().to_string();
    let form = archive(&packed);
    let selinux = if reader.recipe.model.system.selinux == Selinux::Auto { "auto" } else { "off" };
    let is_gzip = id == ids::PACK_GZIP;
    let writer = |version: u32, name: &str| {
        let named = Origin::Imgbuild(format!("{name} writer"));
        let input = if name == "frame" { "tools frames".to_owned() } else { format!("tools {name}") };
        Input::new(input, version.to_string()).of(named)
    };
    let (version, own) = match form {
        Form::Cpio { single } => (
            writer(FRAME_VERSION, "frame"),
            reader.setting("frames", if single { "single" } else { "many" }, &field("frames")),
        ),
        Form::Tar => (writer(TAR_VERSION, "tar"), reader.setting("frames", "many", &field("frames"))),
        Form::Squashfs { block_size } => {
            (writer(SQUASHFS_VERSION, "squashfs"), decided("block_size", &block_size.to_string()))
        }
        Form::Erofs { chunk } => (writer(EROFS_VERSION, "erofs"), decided("block_size", &chunk.to_string())),
    };
    let mut inputs = vec![
        reader.form(is_gzip, "rootimg", reader.setting("archive", form.name(), &field("archive"))),
        version,
        reader.form(is_gzip, "rootimg", reader.setting("compress", compression.name(), &field("compress"))),
        encoder(compression),
        reader.form(is_gzip, "rootimg", decided("level", &level)),
        own,
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
    // What keeps nodes from starting the image is reported once, by the first form.
    let first = (id != ids::PACK).then(|| ids::PACK.to_owned());
    let needs = std::iter::once(ids::GATE.to_owned()).chain(first).collect();
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
