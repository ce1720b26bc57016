//! build.ninja. Source: the Ninja build system's manual, "Ninja file reference".

use std::fmt::Write;

use super::quote::target;
use super::{Emission, Engine};

/// How many steps run at once: each uses all processors where it can, and more would wait for the same disk.
const AT_ONCE: usize = 4;

fn value(text: &str) -> String {
    text.replace('$', "$$")
}

fn path(text: &str) -> String {
    value(&target(text)).replace(' ', "$ ").replace(':', "$:")
}

/// The file. Targets are no files, so that each run asks each step.
pub(super) fn text_of(emission: &Emission) -> String {
    let mut text = emission.head(Engine::Ninja);
    let _ = write!(
        text,
        "ninja_required_version = 1.5\npool imgbuild\n  depth = {AT_ONCE}\nrule step\n  command = $step_command\n  \
         description = $step_name\n  pool = imgbuild\nbuild +always: phony\n"
    );
    let mut last = String::new();
    for step in &emission.steps {
        let before: String = emission.before(step).map(|one| format!(" {}", path(one.name()))).collect();
        let (name, command) = (path(step.name()), value(&emission.command(step)));
        let _ = write!(
            text,
            "build {name}: step |{before} +always\n  step_command = {command}\n  step_name = {}\n",
            value(&step.actions.join(" "))
        );
        if let Some(image) = emission.published(step) {
            let _ = writeln!(text, "build {}: phony {name}", path(image));
            let _ = write!(last, " {name}");
        }
    }
    let _ = writeln!(text, "default{last}");
    text
}
