//! `[services]`: the image's own systemctl, or update-rc.d, run in its tree.
//!
//! systemctl changes links in a tree without a running systemd, and hands init scripts to update-rc.d. What it does not
//! say with its status (that a unit has nothing to enable, that something else still starts it) is asked afterwards.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use base::digest::Digest;
use base::source::{Finding, nearest};
use recipe::{Recipe, UnitState};
use sandbox::helper::News;
use sandbox::{CommandRequest, CommandResult, TreeMount, run_command, upper_is_whole};
use store::scan;
use store::{Kind, LayerReader, Merged, ScanAnswer, ScanRequest, lower_directories, root_of};
use store::{in_scratch, make_directories};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServicesRequest {
    /// Scratch directory, relative to the store's.
    pub scratch: String,
    /// Layers below.
    pub base: Vec<Digest>,
    /// No time is later than this.
    pub epoch: i64,
    /// Whole names of units and what they are to be, in the order in which that is done.
    pub units: Vec<(UnitState, String)>,
    /// Log file, relative to the store's directory.
    pub log: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Remark {
    /// Its place in the request.
    pub unit: usize,
    pub text: String,
    pub help: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ServicesAnswer {
    Made(ScanAnswer, Vec<Remark>),
    Refused(Vec<Remark>),
    Failed(String, CommandResult),
}

pub(crate) fn warnings(recipe: &Recipe, remarks: &[Remark]) -> Vec<Finding> {
    let at = |remark: &Remark| recipe.units.get(remark.unit).map(|unit| unit.span.clone());
    remarks
        .iter()
        .filter_map(|remark| {
            Some(Finding::warning("services::unit", &at(remark)?, &remark.text).help(&remark.help).label("named here"))
        })
        .collect()
}

/// Errors at their places in the recipe. A unit that a synced file would bring comes too late, and that is said.
pub(crate) fn refusals(recipe: &Recipe, remarks: &[Remark]) -> Vec<Finding> {
    let is_synced = |name: &str| {
        recipe.sync.iter().any(|synced| {
            let file = synced.name_in_folder.as_deref().or(synced.destination.rsplit('/').next());
            file == Some(name) && synced.destination.contains("/systemd/")
        })
    };
    remarks
        .iter()
        .filter_map(|remark| {
            let unit = recipe.units.get(remark.unit)?;
            let help = if is_synced(&unit.name) {
                "it comes from a synced file, and those are copied last: let the postinstall script install the file"
                    .to_owned()
            } else {
                remark.help.clone()
            };
            Some(Finding::error("services::unit", &unit.span, &remark.text).label("named here").help(help))
        })
        .collect()
}

/// Where units lie; an earlier directory hides later ones. Source: systemd.unit(5), without those of /run.
pub(crate) const UNIT_DIRECTORIES: [&str; 4] =
    ["etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];

const SCRIPTS: &str = "etc/init.d";

/// Units that start another one of the same name. Source: systemd.socket(5), systemd.timer(5), systemd.path(5).
const STARTERS: [&str; 3] = ["socket", "timer", "path"];

struct Image<'a> {
    reader: &'a LayerReader,
    /// systemctl, else update-rc.d.
    program: String,
    has_systemd: bool,
    /// Whole names, those of init scripts too.
    units: BTreeSet<String>,
}

fn first_of(tree: &Merged, name: &str, folders: &[&str]) -> Option<String> {
    let path = folders.iter().map(|folder| format!("{folder}/{name}")).find(|path| tree.0.contains_key(path))?;
    Some(format!("/{path}"))
}

impl<'a> Image<'a> {
    /// None for an image that has neither systemd nor init scripts to manage.
    fn read(reader: &'a LayerReader) -> Option<Self> {
        let tree = &reader.tree;
        let systemctl = first_of(tree, "systemctl", &["usr/bin", "bin"]);
        let has_systemd = systemctl.is_some();
        let program = systemctl.or_else(|| first_of(tree, "update-rc.d", &["usr/sbin", "sbin"]))?;
        let mut units = BTreeSet::new();
        if has_systemd {
            for directory in UNIT_DIRECTORIES {
                let is_unit = |name: &String| {
                    tree.0.get(&format!("{directory}/{name}")).is_some_and(|found| !found.entry.is_directory())
                        && name.contains('.')
                };
                units.extend(reader.names_in(directory).into_iter().filter(is_unit));
            }
        }
        for name in reader.names_in(SCRIPTS) {
            let is_script = tree
                .0
                .get(&format!("{SCRIPTS}/{name}"))
                .is_some_and(|found| matches!(found.entry.kind, Kind::Symlink(_)) || found.entry.mode & 0o111 != 0);
            // systemd-sysv-generator(8) drops the ending that some scripts have.
            if is_script && has_systemd {
                units.insert(format!("{}.service", name.trim_end_matches(".sh")));
            } else if is_script {
                units.insert(format!("{name}.service"));
            }
        }
        Some(Self { reader, program, has_systemd, units })
    }

    /// Whether a unit is there: itself, or the template that it is an instance of.
    fn has(&self, name: &str) -> bool {
        let template = name.split_once('@').zip(name.rsplit_once('.'));
        self.units.contains(name)
            || template.is_some_and(|((stem, _), (_, suffix))| self.units.contains(&format!("{stem}@.{suffix}")))
    }

    /// The name behind an alias: links as they lie in the tree, then `Alias=` of units that are not enabled.
    fn real_name(&self, name: &str) -> String {
        let mut name = name.to_owned();
        // More links than this are a circle.
        for _ in 0..8 {
            let found = UNIT_DIRECTORIES.iter().find_map(|directory| {
                self.reader.tree.0.get(&format!("{directory}/{name}")).map(|found| &found.entry.kind)
            });
            let Some(Kind::Symlink(target)) = found else { break };
            match target.rsplit('/').next() {
                Some(next) if next != "null" && next != name && self.has(next) => name = next.to_owned(),
                _ => break,
            }
        }
        if self.has(&name) { name } else { self.unit_with_alias(&name).unwrap_or(name) }
    }

    fn unit_with_alias(&self, alias: &str) -> Option<String> {
        let suffix = alias.rsplit_once('.')?.1;
        self.units
            .iter()
            .filter(|name| name.rsplit_once('.').is_some_and(|(_, other)| other == suffix))
            .find(|name| {
                UNIT_DIRECTORIES.iter().any(|directory| {
                    let text = self.reader.read(&format!("{directory}/{name}")).ok().flatten().unwrap_or_default();
                    let text = String::from_utf8_lossy(&text).into_owned();
                    let mut aliases = text.lines().filter_map(|line| line.trim().strip_prefix("Alias="));
                    aliases.any(|names| names.split_whitespace().any(|other| other == alias))
                })
            })
            .cloned()
    }

    /// Names like the wanted one: as a whole, or one of their parts (`dhcpd`: `isc-dhcp-server`).
    fn near(&self, wanted: &str) -> Vec<String> {
        let Some((stem, suffix)) = wanted.rsplit_once('.') else { return Vec::new() };
        let stems: Vec<&str> =
            self.units.iter().filter_map(|name| name.strip_suffix(suffix)?.strip_suffix('.')).collect();
        let mut by_part: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for name in &stems {
            for part in name.split(['-', '@', '.']).filter(|part| part.len() > 2) {
                by_part.entry(part).or_default().push(name);
            }
        }
        let mut found = nearest(stem, stems.iter().copied());
        if found.is_empty() {
            found = nearest(stem, by_part.keys().copied()).into_iter().flat_map(|part| by_part[part].clone()).collect();
        }
        found.into_iter().take(3).map(|name| format!("{name}.{suffix}")).collect()
    }

    /// Why the image cannot do what is asked of a unit, and what to do.
    fn objection(&self, state: UnitState, name: &str) -> Option<(String, String)> {
        if !self.has(name) {
            let near: Vec<String> = self.near(name).iter().map(|name| format!("`{name}`")).collect();
            let help = match near.is_empty() {
                true => "correct the name, or add the package that provides the unit".to_owned(),
                false => format!("did you mean {}?", near.join(", ")),
            };
            return Some((format!("the image has no unit `{name}`"), help));
        }
        (state == UnitState::Mask && !self.has_systemd).then(|| {
            let help = "the image has init scripts and no systemd: use `disable`".to_owned();
            (format!("`{name}` cannot be masked"), help)
        })
    }

    fn commands(&self, state: UnitState, name: &str) -> Vec<Vec<String>> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        if self.has_systemd {
            return vec![words(&[&self.program, state.verb(), "--", name])];
        }
        // Links must be there before they can be turned round; as Debian's systemd-sysv-install does it.
        let script = name.trim_end_matches(".service");
        vec![words(&[&self.program, script, "defaults"]), words(&[&self.program, script, state.verb()])]
    }

    /// The command whose last line is the state of a unit, as systemctl(1) has it under `is-enabled`.
    fn question(&self, name: &str) -> Vec<String> {
        if self.has_systemd {
            return [&self.program, "is-enabled", "--", name].map(str::to_owned).to_vec();
        }
        let script =
            "if ls /etc/rc[S2345].d/S[0-9][0-9]\"$0\" >/dev/null 2>&1; then echo enabled; else echo disabled; fi";
        ["/bin/sh", "-c", script, name.trim_end_matches(".service")].map(str::to_owned).to_vec()
    }
}

/// Compares the state that a unit has with the wanted one: nothing, a warning (false), or an error (true).
fn judge(wanted: UnitState, state: &str, name: &str) -> Option<(bool, String, &'static str)> {
    match (wanted, state) {
        (UnitState::Enable, "enabled" | "indirect") | (UnitState::Mask, "masked") => None,
        (UnitState::Disable, "disabled" | "masked" | "indirect") => None,
        (UnitState::Enable, "static" | "generated" | "transient") => Some((
            false,
            format!("`{name}` cannot be enabled: it has no [Install] section, and starts when another unit wants it"),
            "remove it from `enable`, or enable the unit that starts it (often a .socket, .timer or .target)",
        )),
        (UnitState::Disable, "static" | "generated" | "transient") => Some((
            false,
            format!("`{name}` cannot be disabled: it has no [Install] section, and starts when another unit wants it"),
            "to keep it from starting, put it into `mask`",
        )),
        (UnitState::Disable, _) if fault::planted("disabled-unit-runs") => None,
        (UnitState::Disable, _) => Some((
            true,
            format!("`{name}` is `{state}` after `systemctl disable`: something else starts it"),
            "put it into `mask`, or remove what enables it",
        )),
        (UnitState::Enable | UnitState::Mask, _) => Some((
            true,
            format!("`{name}` is `{state}` after `systemctl {}`", wanted.verb()),
            "check whether the script or another line of ‹[services]› sets the opposite",
        )),
    }
}

pub(crate) fn inside(request: ServicesRequest, news: News<'_>) -> Result<ServicesAnswer, String> {
    let reader = LayerReader::open(&request.base)?;
    let every = |text: &str, help: &str| {
        let remark = |unit| Remark { unit, text: text.to_owned(), help: help.to_owned() };
        ServicesAnswer::Refused((0..request.units.len()).map(remark).collect())
    };
    let Some(image) = Image::read(&reader) else {
        return Ok(every("the image has neither systemctl nor update-rc.d", "add a package such as systemd-sysv"));
    };
    let units: Vec<(UnitState, String)> =
        request.units.iter().map(|(state, name)| (*state, image.real_name(name))).collect();
    let refused: Vec<Remark> = units
        .iter()
        .enumerate()
        .filter_map(|(unit, (state, name))| {
            let (text, help) = image.objection(*state, name)?;
            Some(Remark { unit, text, help })
        })
        .collect();
    if !refused.is_empty() {
        return Ok(ServicesAnswer::Refused(refused));
    }
    in_scratch(&request.scratch, || {
        news("setting services");
        let at = |name: &str| format!("{}/{name}", request.scratch);
        make_directories(&request.scratch, &["mount", "tree", "work"])?;
        let run = |arguments: Vec<String>| run_in(&request, &at, arguments);
        for (state, name) in &units {
            for command in image.commands(*state, name) {
                let result = run(command.clone())?;
                if result.status != 0 {
                    return Ok(ServicesAnswer::Failed(command.join(" "), result));
                }
            }
        }
        // `is-enabled` says no with its status, and more in front of its answer.
        let state_of = |name: &str| -> Result<String, String> {
            Ok(run(image.question(name))?.last_lines.pop().unwrap_or_default().trim().to_owned())
        };
        let (mut warned, mut refused) = (Vec::new(), Vec::new());
        for (unit, (wanted, name)) in units.iter().enumerate() {
            if let Some((is_error, text, help)) = judge(*wanted, &state_of(name)?, name) {
                let remark = Remark { unit, text, help: help.to_owned() };
                if is_error { refused.push(remark) } else { warned.push(remark) }
            }
            let stem = name.strip_suffix(".service").filter(|_| *wanted == UnitState::Disable);
            let starters = stem.into_iter().flat_map(|stem| STARTERS.map(|suffix| format!("{stem}.{suffix}")));
            for starter in starters.filter(|starter| image.units.contains(starter)) {
                if state_of(&starter)? == "enabled" {
                    let text = format!("`{name}` is disabled, but `{starter}` is enabled and starts it");
                    warned.push(Remark { unit, text, help: format!("disable `{starter}` as well") });
                }
            }
        }
        if !refused.is_empty() {
            return Ok(ServicesAnswer::Refused(refused));
        }
        let layer = scan(&ScanRequest {
            tree: at("tree"),
            base: request.base.clone(),
            epoch: request.epoch,
            whole: upper_is_whole(),
        })?;
        Ok(ServicesAnswer::Made(layer, warned))
    })
}

fn run_in(
    request: &ServicesRequest,
    at: &dyn Fn(&str) -> String,
    arguments: Vec<String>,
) -> Result<CommandResult, String> {
    run_command(&CommandRequest {
        root: TreeMount {
            lower: lower_directories(&request.base)?,
            upper: at("tree"),
            work: at("work"),
            root: root_of(&request.base)?,
        },
        arguments,
        environment: [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", "/root"),
            ("LC_ALL", "C.UTF-8"),
            // systemctl changes links and talks to no one. Source: systemd's docs/ENVIRONMENT.md.
            ("SYSTEMD_OFFLINE", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
        log: request.log.clone(),
        mount_point: at("mount"),
        ..CommandRequest::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_what_is_wanted_or_what_it_is_otherwise_is_said() {
        let said = |wanted, state: &str| judge(wanted, state, "x.service").map(|(is_error, ..)| is_error);
        for (wanted, state) in [
            (UnitState::Enable, "enabled"),
            (UnitState::Enable, "indirect"),
            (UnitState::Disable, "disabled"),
            (UnitState::Disable, "masked"),
            (UnitState::Mask, "masked"),
        ] {
            assert_eq!(said(wanted, state), None, "{state}");
        }
        // Nothing to enable or disable is worth a word, and what something else starts is not disabled.
        assert_eq!((said(UnitState::Enable, "static"), said(UnitState::Disable, "static")), (Some(false), Some(false)));
        for (wanted, state) in
            [(UnitState::Disable, "enabled"), (UnitState::Enable, "disabled"), (UnitState::Mask, "enabled")]
        {
            assert_eq!(said(wanted, state), Some(true), "{state}");
        }
    }
}
