//! Inputs of the `initrd` action's key.

use crate::digest::Digest;
use crate::plan::{Action, ActionKind, Input, Origin, Stage, Upstream};
use crate::recipe::{ALL_UPDATES, PassRole, initrd_drivers};
use crate::recipe::{Firmware, Generator, ModulesFrom};
use crate::stage::StageError;
use crate::stage::actions::initrd::dracut;
use crate::stage::actions::initrd::request::is_with_disks;
use crate::stage::actions::packages::tools::tools_identity;
use crate::stage::actions::reader::Reader;
use crate::stage::actions::reader::initrd_compression;
use crate::stage::actions::reader::{encoder, form_modules};
use crate::stage::bench::ids;
use crate::stage::bench::results::file;

/// Adds the action of the initrd.
/// Errors: [`StageError::Input`] for a file that vanished since the recipe was read.
pub fn add(reader: &mut Reader<'_>, init: &Digest, id: &str) -> Result<(), StageError> {
    let model = &reader.recipe.model;
    let spans = &reader.recipe.spans;
    let wanted = initrd_drivers(model, is_with_disks(reader.recipe, id));
    let compression = initrd_compression(reader.recipe, id);
    let firmware = match model.kernel.firmware {
        Firmware::Warn => "warn",
        Firmware::Require => "require",
    };
    let mut inputs = vec![
        Input::parameter("epoch", reader.lock.epoch),
        Input::new("tools imgbuild-init", init.to_string()).of(Origin::Imgbuild("init program".to_owned())),
        reader.form(
            id == ids::INITRD_GZIP,
            "initrd",
            reader.setting("compress", compression.name(), "initrd.compress"),
        ),
        encoder(compression),
        reader.setting("firmware", firmware, "kernel.firmware"),
    ];
    let edited = &model.kernel.drivers;
    for (names, how) in [(&wanted.named, "named"), (&wanted.default, "default")] {
        for name in names {
            let input = Input::new(format!("driver {name}"), how);
            let item = edited.iter().position(|item| item.trim_start_matches('+') == name);
            inputs.push(match item {
                Some(index) => input.item(spans, "kernel.drivers", index),
                None if spans.get("kernel.drivers").is_some() => input.of(Origin::Item("kernel.drivers".to_owned())),
                None => input.of(Origin::Imgbuild("list of default drivers".to_owned())),
            });
        }
    }
    for (name, field) in form_modules(reader.recipe, id) {
        let input = Input::new(format!("driver {name}"), "named").field(spans, &field);
        if inputs.iter().all(|known| known.name != input.name) {
            inputs.push(input);
        }
    }
    if wanted.all_updates {
        let input = Input::new(format!("driver {ALL_UPDATES}"), "named");
        let index = edited.iter().position(|item| item.trim_start_matches('+') == ALL_UPDATES);
        inputs.push(input.item(spans, "kernel.drivers", index.unwrap_or_default()));
    }
    for (index, (path, name)) in reader.recipe.ca.iter().enumerate() {
        inputs.push(file(name, path, None)?.item(spans, "initrd.ca", index));
    }
    let is_kdump = id == ids::INITRD_KDUMP;
    if is_kdump {
        inputs.extend(super::kdump::inputs(reader)?);
    }
    let mut upstream = match model.initrd.modules_from {
        ModulesFrom::Kernel => {
            vec![Upstream { action: ids::PAYLOAD.to_owned(), output: "value modules".to_owned() }]
        }
        ModulesFrom::Rootfs => reader.below(),
    };
    if is_kdump && model.initrd.modules_from == ModulesFrom::Kernel {
        // Programs of the image.
        upstream.extend(reader.below());
    }
    upstream.push(Upstream { action: ids::PAYLOAD.to_owned(), output: "value release".to_owned() });
    if reader.has_extra_drivers() {
        upstream.push(Upstream { action: ids::PAYLOAD.to_owned(), output: "value drivers".to_owned() });
    }
    let mut needs = vec![ids::PAYLOAD.to_owned()];
    let (kind, version) = match model.initrd.generator {
        // What writes a dump is imgbuild's own in any case.
        Generator::Dracut if !is_kdump => {
            let mut tools = reader.locked("base");
            tools.extend(reader.locked(PassRole::DRACUT_TOOLS));
            let identity = tools_identity(reader.manager, &tools, &reader.platform);
            let roots = Origin::Roots(vec![ids::BASE.to_owned(), ids::DRACUT_TOOLS.to_owned()]);
            inputs.extend(dracut::inputs::inputs(reader.recipe, identity, roots)?);
            needs.extend([ids::BASE.to_owned(), ids::DRACUT_TOOLS.to_owned()]);
            (ActionKind::Dracut, super::dracut::VERSION)
        }
        Generator::Imgbuild | Generator::Dracut => (ActionKind::Initrd, super::VERSION),
    };
    reader.actions.push(Action { id: id.to_owned(), stage: Stage::Initrd, kind, version, inputs, upstream, needs });
    Ok(())
}
