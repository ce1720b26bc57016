//! `[services]`: units that a recipe enables, disables or masks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Services;
use base::source::{Finding, Span};

/// What a unit is to be; in the order in which it is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnitState {
    /// Not started at boot.
    Disable,
    Enable,
    /// Started by nothing.
    Mask,
}

impl UnitState {
    /// The list of the recipe, and systemctl's word.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::Mask => "mask",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Unit {
    /// Whole name, with its suffix.
    pub name: String,
    pub state: UnitState,
    pub span: Span,
}

/// Kinds of unit. Source: systemd.unit(5).
const SUFFIXES: [&str; 11] =
    ["service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope"];

/// How long a unit's name may be, in bytes. Source: systemd.unit(5).
const LONGEST_NAME: usize = 255;

/// The whole name of a unit as a person writes it: `dhcpd` is `dhcpd.service`, as systemctl(1) takes it.
/// Errors: What is wrong, and what to do about it.
pub(crate) fn unit_name(written: &str) -> Result<String, (String, &'static str)> {
    if written.contains(['*', '?', '[', ']']) {
        let problem = format!("`{written}` is a pattern, but ‹[services]› takes names");
        return Err((problem, "write each unit by its name"));
    }
    if written.contains('/') {
        let problem = format!("`{written}` is a path, but ‹[services]› takes names");
        return Err((problem, "write the name of the unit, for instance \"dhcpd\" or \"nfs-server.service\""));
    }
    let has_suffix = written.rsplit_once('.').is_some_and(|(_, suffix)| SUFFIXES.contains(&suffix));
    let name = if has_suffix { written.to_owned() } else { format!("{written}.service") };
    let stem = name.rsplit_once('.').map_or("", |(stem, _)| stem);
    let good = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if stem.is_empty() || stem.starts_with('@') || name.len() > LONGEST_NAME || !stem.chars().all(good) {
        let help = "a unit's name has letters, digits and `:-_.\\@` (systemd.unit(5)), at most 255 with its suffix";
        return Err((format!("`{written}` is not a valid unit name"), help));
    }
    Ok(name)
}

/// Reads the table; a unit in two lists is an error, and so is what cannot be a name.
///
/// The result is sorted, because the order within a list means nothing.
pub(crate) fn read_units(table: &Services, span: &dyn Fn(&str) -> Span, findings: &mut Vec<Finding>) -> Vec<Unit> {
    let mut known: BTreeMap<String, Unit> = BTreeMap::new();
    let lists =
        [(UnitState::Enable, &table.enable), (UnitState::Disable, &table.disable), (UnitState::Mask, &table.mask)];
    for (state, names) in lists {
        for (index, written) in names.iter().enumerate() {
            let span = span(&format!("services.{}[{index}]", state.verb()));
            let name = match unit_name(written) {
                Ok(name) => name,
                Err((problem, help)) => {
                    let finding = Finding::error("services::name", &span, problem).label("named here").help(help);
                    findings.push(finding);
                    continue;
                }
            };
            match known.get(&name) {
                None => {
                    known.insert(name.clone(), Unit { name, state, span });
                }
                Some(first) if first.state == state => findings.push(
                    Finding::warning("services::twice", &span, format!("`{name}` is in `{}` twice", state.verb()))
                        .label("here again")
                        .help(format!("it is also at {}", first.span)),
                ),
                Some(first) => findings.push(
                    Finding::error(
                        "services::two_lists",
                        &span,
                        format!("`{name}` is in `{}` and in `{}`", first.state.verb(), state.verb()),
                    )
                    .label(format!("`{}` here", state.verb()))
                    .help(format!(
                        "it is in `{}` at {}; remove one of the two",
                        first.state.verb(),
                        first.span
                    )),
                ),
            }
        }
    }
    let mut units: Vec<Unit> = known.into_values().collect();
    units.sort_by(|a, b| (a.state, &a.name).cmp(&(b.state, &b.name)));
    units
}

#[cfg(test)]
mod tests {
    use super::unit_name;

    #[test]
    fn a_name_without_a_suffix_is_a_service() {
        for (written, name) in [
            ("dhcpd", "dhcpd.service"),
            ("nfs-server.service", "nfs-server.service"),
            ("getty@tty1", "getty@tty1.service"),
            ("apt-daily.timer", "apt-daily.timer"),
            ("dbus-org.example.x", "dbus-org.example.x.service"),
            ("-.mount", "-.mount"),
            ("dev-disk-by\\x2dlabel-a.swap", "dev-disk-by\\x2dlabel-a.swap"),
        ] {
            assert_eq!(unit_name(written).as_deref(), Ok(name), "{written}");
        }
    }

    #[test]
    fn patterns_paths_and_what_is_no_name_are_refused() {
        for written in ["nfs*", "a?", "/usr/lib/systemd/system/a.service", "", ".service", "@tty1", "a b", "é", "a\n"]
        {
            assert!(unit_name(written).is_err(), "{written}");
        }
        assert!(unit_name(&"a".repeat(250)).is_err());
    }
}
