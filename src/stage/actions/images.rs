//! Actions of what nodes load: the initrd and the packed image.

use super::{Reader, compression, initrd_compression, version};
use crate::archive::{Compression, FRAME_VERSION};
use crate::digest::Digest;
use crate::plan::{Action, ActionKind, Input, Origin, Stage, Upstream};
use crate::recipe::{ALL_UPDATES, PassRole, wanted_drivers};
use crate::recipe::{Firmware, Frames, Generator, ModulesFrom, Selinux};
use crate::stage::ids;
use crate::stage::results::file;
use crate::stage::tools::tools_identity;
use crate::stage::{StageError, dracut};

/// The library that compresses: another version of it may make other bytes.
fn encoder(compression: Compression) -> Input {
    Input::new("tools encoder", compression.encoder()).of(Origin::Imgbuild(format!("{} library", compression.name())))
}

impl Reader<'_> {
    pub(super) fn initrd(&mut self, init: &Digest, id: &str) -> Result<(), StageError> {
        let model = &self.recipe.model;
        let spans = &self.recipe.spans;
        let wanted = wanted_drivers(&model.kernel.drivers);
        let compression = initrd_compression(self.recipe, id);
        let firmware = match model.kernel.firmware {
            Firmware::Warn => "warn",
            Firmware::Require => "require",
        };
        let mut inputs = vec![
            Input::parameter("epoch", self.lock.epoch),
            Input::new("tools imgbuild-init", init.to_string()).of(Origin::Imgbuild("init program".to_owned())),
            self.form(
                id == ids::INITRD_GZIP,
                "initrd",
                self.setting("compress", compression.name(), "initrd.compress"),
            ),
            encoder(compression),
            self.setting("firmware", firmware, "kernel.firmware"),
        ];
        let edited = &model.kernel.drivers;
        for (names, how) in [(&wanted.named, "named"), (&wanted.default, "default")] {
            for name in names {
                let input = Input::new(format!("driver {name}"), how);
                let item = edited.iter().position(|item| item.trim_start_matches('+') == name);
                inputs.push(match item {
                    Some(index) => input.item(spans, "kernel.drivers", index),
                    None if spans.get("kernel.drivers").is_some() => {
                        input.of(Origin::Item("kernel.drivers".to_owned()))
                    }
                    None => input.of(Origin::Imgbuild("list of default drivers".to_owned())),
                });
            }
        }
        if wanted.all_updates {
            let input = Input::new(format!("driver {ALL_UPDATES}"), "named");
            let index = edited.iter().position(|item| item.trim_start_matches('+') == ALL_UPDATES);
            inputs.push(input.item(spans, "kernel.drivers", index.unwrap_or_default()));
        }
        for (index, (path, name)) in self.recipe.ca.iter().enumerate() {
            inputs.push(file(name, path, None)?.item(spans, "initrd.ca", index));
        }
        let mut upstream = match model.initrd.modules_from {
            ModulesFrom::Kernel => {
                vec![Upstream { action: ids::PAYLOAD.to_owned(), output: "value modules".to_owned() }]
            }
            ModulesFrom::Rootfs => self.below(),
        };
        upstream.push(Upstream { action: ids::PAYLOAD.to_owned(), output: "value release".to_owned() });
        if self.has_extra_drivers() {
            upstream.push(Upstream { action: ids::PAYLOAD.to_owned(), output: "value drivers".to_owned() });
        }
        let mut needs = vec![ids::PAYLOAD.to_owned()];
        let (kind, version) = match model.initrd.generator {
            Generator::Imgbuild => (ActionKind::Initrd, version::INITRD),
            Generator::Dracut => {
                let mut tools = self.locked("base");
                tools.extend(self.locked(PassRole::DRACUT_TOOLS));
                let identity = tools_identity(self.manager, &tools, &self.platform);
                let roots = Origin::Roots(vec![ids::BASE.to_owned(), ids::DRACUT_TOOLS.to_owned()]);
                inputs.extend(dracut::inputs(self.recipe, identity, roots)?);
                needs.extend([ids::BASE.to_owned(), ids::DRACUT_TOOLS.to_owned()]);
                (ActionKind::Dracut, version::DRACUT)
            }
        };
        self.actions.push(Action { id: id.to_owned(), stage: Stage::Initrd, kind, version, inputs, upstream, needs });
        Ok(())
    }

    pub(super) fn pack(&mut self, id: &str) {
        let compression = compression(self.recipe, id);
        let level = compression.level().to_string();
        let frames = if self.recipe.model.pack.frames == Frames::Single { "single" } else { "many" };
        let selinux = if self.recipe.model.system.selinux == Selinux::Auto { "auto" } else { "off" };
        let mut inputs = vec![
            self.setting("archive", "cpio", "pack.archive"),
            Input::new("tools frames", FRAME_VERSION.to_string()).of(Origin::Imgbuild("frame writer".to_owned())),
            self.form(id == ids::PACK_GZIP, "rootimg", self.setting("compress", compression.name(), "pack.compress")),
            encoder(compression),
            self.form(id == ids::PACK_GZIP, "rootimg", self.setting("level", &level, "pack.level")),
            self.setting("frames", frames, "pack.frames"),
            self.setting("selinux", selinux, "system.selinux"),
        ];
        let exclude = &self.recipe.exclude;
        for (kind, patterns) in [("exclude", &exclude.exclude), ("include", &exclude.include)] {
            for pattern in patterns {
                inputs.push(self.asked(Input::new(format!("{kind} {}", pattern.text), "yes"), Some(&pattern.span)));
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        inputs.retain(|input| seen.insert(input.name.clone()));
        let upstream = self.below();
        let needs = vec![ids::GATE.to_owned()];
        self.actions.push(Action {
            id: id.to_owned(),
            stage: Stage::Pack,
            kind: ActionKind::Pack,
            version: version::PACK,
            inputs,
            upstream,
            needs,
        });
    }
}
