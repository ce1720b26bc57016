//! A makefile for GNU make. Source: GNU make's manual, "Phony Targets", "Writing Recipes in Rules".

use std::fmt::Write;

use super::quote::target;
use super::{Emission, Engine};

fn recipe(command: &str) -> String {
    command.replace('$', "$$")
}

/// The file. Targets are no files, so that each run asks each step.
pub(super) fn text_of(emission: &Emission) -> String {
    let mut text = emission.head(Engine::Make);
    let published: String =
        emission.steps.iter().filter(|step| step.publishes).map(|step| format!(" {}", target(step.name()))).collect();
    let _ = write!(text, "MAKEFLAGS += --no-builtin-rules\n.PHONY: +images\n+images:{published}\n");
    for step in &emission.steps {
        let name = target(step.name());
        let before: String = emission.before(step).map(|one| format!(" {}", target(one.name()))).collect();
        let _ = write!(text, ".PHONY: {name}\n{name}:{before}\n\t{}\n", recipe(&emission.command(step)));
        if let Some(image) = emission.published(step) {
            let _ = write!(text, ".PHONY: {image}\n{image}: {name}\n");
        }
    }
    text
}
