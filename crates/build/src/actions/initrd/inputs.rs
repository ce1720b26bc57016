//! Inputs of the `initrd` action's key.

use super::dracut::inputs::Dracut;
use super::kdump::Dump;
use super::request::is_with_disks;
use crate::StageError;
use crate::actions::Described;
use crate::actions::packages::tools::tools_identity;
use crate::actions::reader::{Reader, encoder, form_modules, initrd_compression};
use crate::bench::ids;
use crate::bench::keyed::{InputFile, Key, Keyed};
use archive::Compression;
use base::digest::Digest;
use plan::{Action, ActionKind, Input, Origin, Stage, Upstream};
use recipe::{ALL_UPDATES, Firmware, Generator, ModulesFrom, PassRole, Wanted, initrd_drivers};

/// What an initrd is made from, no matter who composes it.
#[derive(Debug)]
pub struct Initrd {
    pub epoch: Keyed<i64>,
    /// Its program.
    pub init: Keyed<Digest>,
    pub compression: Keyed<Compression>,
    pub firmware: Keyed<Firmware>,
    pub drivers: Keyed<Wanted>,
    /// Certificates for https.
    pub ca: Vec<Keyed<InputFile>>,
    /// What one has that writes a dump.
    pub dump: Option<Dump>,
}

/// Adds the action of the initrd.
/// Errors: [`StageError::Input`] for a file that vanished since the recipe was read.
pub(crate) fn add(reader: &mut Reader<'_>, init: &Digest, id: &str) -> Result<(), StageError> {
    let recipe = reader.recipe;
    let (model, spans) = (&recipe.model, &recipe.spans);
    let is_kdump = id == ids::INITRD_KDUMP;
    let mut key = Key::default();
    let epoch = key.epoch(reader.lock);
    let init = key.keep(*init, |init| {
        Input::new("tools imgbuild-init", init.to_string()).of(Origin::Imgbuild("init program".to_owned()))
    });
    let compression = key.keep_all(initrd_compression(recipe, id), |compression| {
        let setting = reader.setting("compress", compression.name(), "initrd.compress");
        vec![reader.form(id == ids::INITRD_GZIP, "initrd", setting), encoder(*compression)]
    });
    let firmware = key.keep(model.kernel.firmware, |firmware| {
        let firmware = match firmware {
            _ if fault::planted("initrd-key-forgets-firmware") => "",
            Firmware::Warn => "warn",
            Firmware::Require => "require",
        };
        reader.setting("firmware", firmware, "kernel.firmware")
    });
    let drivers = drivers(reader, id, &mut key);
    let ca = recipe.ca.iter().enumerate();
    let ca = ca.map(|(index, (path, name))| key.file(name, path, |input| input.item(spans, "initrd.ca", index)));
    let ca = ca.collect::<Result<_, _>>()?;
    let dump = if is_kdump { super::kdump::describe(reader, &mut key)? } else { None };
    let initrd = Initrd { epoch, init, compression, firmware, drivers, ca, dump };
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
    let (kind, version, described) = match model.initrd.generator {
        // What writes a dump is imgbuild's own in any case.
        Generator::Dracut if !is_kdump => {
            let mut tools = reader.locked("base");
            tools.extend(reader.locked(PassRole::DRACUT_TOOLS));
            let identity = tools_identity(reader.manager, &tools, &reader.platform);
            let roots = Origin::Roots(vec![ids::BASE.to_owned(), ids::DRACUT_TOOLS.to_owned()]);
            let dracut = Dracut::describe(recipe, initrd, Input::new("tools dracut", identity).of(roots), &mut key)?;
            needs.extend([ids::BASE.to_owned(), ids::DRACUT_TOOLS.to_owned()]);
            (ActionKind::Dracut, super::dracut::VERSION, Described::Dracut(dracut))
        }
        Generator::Imgbuild | Generator::Dracut => (ActionKind::Initrd, super::VERSION, Described::Initrd(initrd)),
    };
    let inputs = key.inputs();
    reader.actions.push(Action { id: id.to_owned(), stage: Stage::Initrd, kind, version, inputs, upstream, needs });
    reader.describe(id, described);
    Ok(())
}

/// The drivers that an initrd is to have.
fn drivers(reader: &Reader<'_>, id: &str, key: &mut Key) -> Keyed<Wanted> {
    let recipe = reader.recipe;
    let (model, spans) = (&recipe.model, &recipe.spans);
    let mut wanted = initrd_drivers(model, is_with_disks(recipe, id));
    let edited = &model.kernel.drivers;
    let mut inputs: Vec<Input> = Vec::new();
    for (names, how) in [(&wanted.named, "named"), (&wanted.default, "default")] {
        for name in names.iter().filter(|_| !fault::planted("initrd-key-forgets-drivers")) {
            let input = Input::new(format!("driver {name}"), how);
            let item = edited.iter().position(|item| item.trim_start_matches('+') == name);
            inputs.push(match item {
                Some(index) => input.item(spans, "kernel.drivers", index),
                None if spans.get("kernel.drivers").is_some() => input.of(Origin::Item("kernel.drivers".to_owned())),
                None => input.of(Origin::Imgbuild("list of default drivers".to_owned())),
            });
        }
    }
    for (name, field) in form_modules(recipe, id) {
        let input = Input::new(format!("driver {name}"), "named").field(spans, &field);
        if inputs.iter().all(|known| known.name != input.name) {
            inputs.push(input);
        }
        if wanted.named.iter().all(|known| known != name) {
            wanted.named.push(name.to_owned());
        }
    }
    if wanted.all_updates {
        let input = Input::new(format!("driver {ALL_UPDATES}"), "named");
        let index = edited.iter().position(|item| item.trim_start_matches('+') == ALL_UPDATES);
        inputs.push(input.item(spans, "kernel.drivers", index.unwrap_or_default()));
    }
    key.keep_all(wanted, |_| inputs)
}
