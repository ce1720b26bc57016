//! What a recipe says to dracut.

use crate::{Generator, Initrd, Model, Spans};
use base::source::{Finding, Span};

/// Modules for dracut: those to add, and those to leave out.
pub fn dracut_modules(initrd: &Initrd) -> (Vec<String>, Vec<String>) {
    let plain = |name: &String| name.trim_start_matches(['+', '-']).to_owned();
    let (omitted, added): (Vec<_>, Vec<_>) = initrd.dracut_modules.iter().partition(|name| name.starts_with('-'));
    (added.into_iter().map(plain).collect(), omitted.into_iter().map(plain).collect())
}

pub(crate) fn check(model: &Model, spans: &Spans, whole: &Span) -> Vec<Finding> {
    let initrd = &model.initrd;
    let span = |path: &str| spans.nearest(path).unwrap_or(whole).clone();
    let mut findings = Vec::new();
    if initrd.generator != Generator::Dracut {
        for (field, values) in [
            ("dracut_modules", &initrd.dracut_modules),
            ("dracut_conf", &initrd.dracut_conf),
            ("dracut_packages", &initrd.dracut_packages),
        ] {
            if !values.is_empty() {
                let text = format!("`{field}` is for dracut, but imgbuild composes this initrd itself");
                findings.push(
                    Finding::error("initrd::generator", &span(&format!("initrd.{field}")), text)
                        .label("named here")
                        .help("remove it, or write ‹[initrd] generator = \"dracut\"›"),
                );
            }
        }
        return findings;
    }
    let (added, omitted) = dracut_modules(initrd);
    for (index, name) in initrd.dracut_modules.iter().enumerate() {
        let plain = name.trim_start_matches(['+', '-']);
        let at = span(&format!("initrd.dracut_modules[{index}]"));
        let is_needed = ["imgbuild", "base", "kernel-modules", "udev-rules"].contains(&plain);
        if is_needed && name.starts_with('-') {
            let text = format!("without dracut's module `{plain}` no image can be fetched");
            findings.push(
                Finding::error("initrd::dracut_modules", &at, text).label("left out here").help("remove this entry"),
            );
        } else if added.iter().any(|one| one == plain) && omitted.iter().any(|one| one == plain) {
            let text = format!("dracut's module `{plain}` is added and left out");
            findings.push(
                Finding::error("initrd::dracut_modules", &at, text).label("one of the two").help("keep one of them"),
            );
        }
    }
    let base = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    for (index, name) in initrd.dracut_conf.iter().enumerate() {
        let at = span(&format!("initrd.dracut_conf[{index}]"));
        if !name.ends_with(".conf") {
            findings.push(
                Finding::error("initrd::dracut_conf", &at, format!("dracut does not read a file named `{name}`"))
                    .label("named here")
                    .help("its name must end in .conf"),
            );
        }
        if let Some(other) = initrd.dracut_conf[..index].iter().find(|other| base(other) == base(name)) {
            findings.push(
                Finding::error("initrd::dracut_conf", &at, format!("`{name}` and `{other}` have the same name"))
                    .label("the second one")
                    .help("all of them are copied into one directory: rename one"),
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minus_leaves_a_module_out_and_a_plus_changes_nothing() {
        let dracut_modules_of = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            dracut_modules(&Initrd { dracut_modules: names, ..Initrd::default() })
        };
        let (added, omitted) = dracut_modules_of(&["+lvm", "mdraid", "-i18n"]);
        assert_eq!((added, omitted), (vec!["lvm".to_owned(), "mdraid".to_owned()], vec!["i18n".to_owned()]));
    }
}
