//! Actions of the layers above the packages: settings, the postinstall script, services, synced files.

use super::{Reader, image_packages, roots_of, version};
use crate::plan::{Action, ActionKind, Input, Origin, Stage, Upstream};
use crate::recipe::SyncedKind;
use crate::recipe::{Clause, PassRole};
use crate::source::Span;
use crate::stage::globs::{self, Patterns};
use crate::stage::ids;
use crate::stage::results::file;
use crate::stage::tools::tools_identity;
use crate::stage::{StageError, node_support};

impl Reader<'_> {
    /// The sizes of [boot] tmpfs.
    pub(super) fn tmpfs(&self) -> Vec<Input> {
        let sizes = self.recipe.model.boot.tmpfs.iter();
        sizes.map(|(path, size)| self.setting(&format!("tmpfs {path}"), size, &format!("boot.tmpfs.{path}"))).collect()
    }

    /// Lines of fstab and exports; the recipe's order is part of what they say.
    pub(super) fn declared_lines(&self) -> Vec<Input> {
        let line =
            |file: &str, line: &str, span: &Span| self.asked(Input::new(format!("{file} {line}"), "yes"), Some(span));
        let mounts = self.recipe.mounts.iter().map(|mount| line("fstab", &mount.line, &mount.span));
        let exports = self.recipe.exports.iter().map(|export| line("exports", &export.line, &export.span));
        mounts.chain(exports).collect()
    }

    pub(super) fn system(&mut self) -> Result<(), StageError> {
        let system = &self.recipe.model.system;
        let spans = &self.recipe.spans;
        let setting = |name: &str, value: &Option<String>| {
            self.setting(name, value.as_deref().unwrap_or("unset"), &format!("system.{name}"))
        };
        let mut inputs = vec![
            Input::parameter("epoch", self.lock.epoch),
            setting("timezone", &system.timezone),
            setting("locale", &system.locale),
            setting("hostname", &system.hostname),
        ];
        inputs.extend(self.tmpfs());
        inputs.extend(self.declared_lines());
        for (index, (path, name)) in self.recipe.authorized_keys.iter().enumerate() {
            inputs.push(file(name, path, None)?.item(spans, "system.authorized_keys", index));
        }
        if let Some((path, name)) = &self.recipe.root_password_hash {
            inputs.push(file(name, path, None)?.field(spans, "system.root_password_hash_file"));
        }
        self.layer("system", ActionKind::System, version::SYSTEM, inputs, Vec::new());
        Ok(())
    }

    pub(super) fn postinstall(&mut self) -> Result<(), StageError> {
        let Some(script) = &self.recipe.postinstall else { return Ok(()) };
        let model = &self.recipe.model;
        let spans = &self.recipe.spans;
        let mut tools = self.locked("base");
        let more = self.locked(PassRole::POSTINSTALL_TOOLS);
        let tools_root = if more.is_empty() { ids::BASE.to_owned() } else { ids::POSTINSTALL_TOOLS.to_owned() };
        tools.extend(more);
        let mut inputs = vec![
            Input::parameter("platform", &self.platform),
            Input::parameter("epoch", self.lock.epoch),
            Input::new("tools postinstall", tools_identity(self.manager, &tools, &self.platform))
                .of(Origin::Roots(roots_of(&tools_root))),
            file(&script.name, &script.script, None)?.field(spans, "postinstall.script"),
        ];
        for (index, word) in model.postinstall.iter().flat_map(|table| &table.arguments).enumerate() {
            inputs.push(
                Input::parameter(&format!("argument {}", index + 1), word)
                    .field(spans, &format!("postinstall.arguments[{index}]")),
            );
        }
        // The kernel's release comes from upstream.
        for (name, value) in crate::stage::postinstall::variables(self.recipe, "") {
            let field = crate::stage::postinstall::field_of(self.recipe, &name);
            inputs.push(self.setting(&format!("environment {name}"), value, &field));
        }
        if model.postinstall.as_ref().is_some_and(|table| table.packages.is_some()) {
            inputs.extend(image_packages(self.lock).iter().map(Input::package));
        }
        let patterns = Patterns::new(model.postinstall.iter().flat_map(|table| &table.inputs));
        for (path, name) in &script.inputs {
            inputs.push(patterns.named(file(name, path, None)?, name, spans, "postinstall.inputs"));
        }
        self.layer("postinstall", ActionKind::Postinstall, version::POSTINSTALL, inputs, vec![tools_root]);
        if let Some(action) = self.actions.last_mut() {
            action.upstream.push(Upstream { action: ids::PAYLOAD.to_owned(), output: "value release".to_owned() });
        }
        Ok(())
    }

    /// After the script, so that its units count too.
    pub(super) fn services(&mut self) {
        let units = &self.recipe.units;
        if units.is_empty() {
            return;
        }
        let mut inputs = vec![Input::parameter("epoch", self.lock.epoch)];
        inputs.extend(units.iter().map(|unit| {
            self.asked(Input::new(format!("{} {}", unit.state.verb(), unit.name), "yes"), Some(&unit.span))
        }));
        self.layer("services", ActionKind::Services, version::SERVICES, inputs, Vec::new());
    }

    /// What the initrd is made of must be what the image has (D20), and declared mounts must still be there (D24).
    pub(super) fn gate(&mut self) {
        let mut upstream = self.below();
        upstream.push(Upstream { action: ids::PAYLOAD.to_owned(), output: "value modules".to_owned() });
        let mut inputs = vec![self.modules_from()];
        inputs.extend(self.tmpfs());
        inputs.extend(self.declared_lines());
        self.actions.push(Action {
            id: ids::GATE.to_owned(),
            stage: Stage::Rootfs,
            kind: ActionKind::Gate,
            version: version::GATE,
            inputs,
            upstream,
            needs: vec![ids::PAYLOAD.to_owned()],
        });
    }

    /// After the gate, as packimage does it after genimage: other postscripts run no postinstall script again.
    pub(super) fn node_support(&mut self) -> Result<(), StageError> {
        let Some(support) = &self.recipe.node_support else { return Ok(()) };
        let spans = &self.recipe.spans;
        let postscripts = self.recipe.model.xcat.postscripts.as_deref().unwrap_or_default();
        let mut inputs = node_support::inputs(support, self.lock.epoch, spans, postscripts)?;
        let mut seen = std::collections::BTreeSet::new();
        inputs.retain(|input| seen.insert((input.name.clone(), input.value.clone())));
        self.layer("xcat", ActionKind::NodeSupport, version::NODE_SUPPORT, inputs, Vec::new());
        Ok(())
    }

    pub(super) fn sync(&mut self) -> Result<(), StageError> {
        if self.recipe.sync.is_empty() {
            return Ok(());
        }
        let mut inputs = vec![Input::parameter("epoch", self.lock.epoch), self.modules_from()];
        for synced in &self.recipe.sync {
            let clause = match synced.clause {
                Clause::Copy => "copy",
                Clause::Append => "append",
                Clause::Merge => "merge",
            };
            let into = synced.name_in_folder.as_deref().unwrap_or("-");
            let by = |input: Input| globs::of_synclist(self.asked(input, Some(&synced.span)), &synced.span);
            inputs.push(by(Input::new(
                format!("synced {}", synced.destination),
                format!("{clause} {into} {}", synced.name),
            )));
            if synced.kind == SyncedKind::File {
                inputs.push(by(file(&synced.name, &synced.source, None)?));
            }
        }
        // One file may go to several places.
        let mut seen = std::collections::BTreeSet::new();
        inputs.retain(|input| seen.insert((input.name.clone(), input.value.clone())));
        self.layer("sync", ActionKind::Sync, version::SYNC, inputs, Vec::new());
        Ok(())
    }
}
