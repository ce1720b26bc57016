//! Host side of a role: builds the request, stores the answer, says what came of it.

use std::path::Path;

use super::inputs::Role;
use super::inside::{Made, RoleAnswer, RoleRequest};
use super::remedy::remedy;
use super::report::{self, Kind, Record};
use crate::StageError;
use crate::actions::postinstall::inputs::Shown;
use crate::actions::postinstall::recipe_tree::{Shown as InTree, ShownAs};
use crate::actions::postinstall::script::RECIPE_DIRECTORY;
use crate::actions::reader::work::{Above, Desk, Place, Work};
use crate::bench::ids;
use crate::bench::report::refuse;
use crate::bench::results::{layer_outputs, missing};
use base::source::{Finding, Severity};
use recipe::{InputKind, Recipe, RoleFiles};
use sandbox::{CommandResult, shown};
use store::Outputs;

impl Work for Role {
    const OPERATION: &'static str = "role";
    type Request = RoleRequest;
    type Answer = RoleAnswer;

    fn request(&self, above: &Above<'_>, place: &Place) -> Result<RoleRequest, StageError> {
        let mut all = Vec::new();
        for input in &self.inputs {
            all.push(match input {
                Shown::File(file) => {
                    InTree { place: file.name.clone(), what: ShownAs::File(above.content(file)?, file.mode) }
                }
                Shown::Other(other) => match &other.1 {
                    InputKind::Link(target) => InTree { place: other.0.clone(), what: ShownAs::Link(target.clone()) },
                    _ => return Err(missing(above.id())),
                },
            });
        }
        let vars: serde_json::Map<String, serde_json::Value> =
            self.vars.iter().map(|variable| (**variable).clone()).collect();
        Ok(RoleRequest {
            scratch: place.scratch.clone(),
            shown: all,
            tools: vec![above.layer(ids::BASE)?, above.layer(ids::ROLE_TOOLS)?],
            base: above.below()?,
            playbook: self.playbook.clone(),
            groups: self.groups.iter().map(|group| (**group).clone()).collect(),
            vars: serde_json::Value::Object(vars).to_string(),
            vars_files: self.vars_files.iter().map(|name| (**name).clone()).collect(),
            settings: self.settings.iter().map(|setting| (**setting).clone()).collect(),
            keep: self.keep.iter().map(|pattern| (**pattern).clone()).collect(),
            uname: (above.value(ids::PAYLOAD, "release")?, self.arch.machine().to_owned()),
            epoch: *self.epoch,
            log: place.log.clone(),
        })
    }

    fn finish(&self, desk: &Desk<'_>, answer: RoleAnswer) -> Result<Outputs, StageError> {
        let (bench, log) = (desk.bench, desk.log());
        let role = bench.recipe.roles.iter().find(|role| role.index == self.index.0);
        let role = role.ok_or_else(|| missing(desk.id()))?;
        let field = role.field();
        match answer {
            RoleAnswer::Made(made) => {
                bench.report.printed(desk.id(), &log);
                for finding in findings(bench.recipe, role, &made) {
                    bench.report.finding(&finding);
                }
                Ok(layer_outputs(&made.layer))
            }
            RoleAnswer::NoPython => {
                let problem = format!("`{}` needs Python in the image, which has none", role.playbook);
                let help = "add it to the image's packages: ‹[packages] install = [\"python3\"]›; Ansible's modules run with the image's own".to_owned();
                Err(refuse(bench.report, bench.recipe, &field, problem, help))
            }
            RoleAnswer::NoAnsible => {
                let problem = format!("the tools of `{}` bring no ansible-playbook", role.playbook);
                let help = "name the package of the release that has it: ‹[[role]] tools = [\"ansible\"]›".to_owned();
                Err(refuse(bench.report, bench.recipe, &field, problem, help))
            }
            RoleAnswer::Failed(records, result) => {
                if let Some(hosts) = report::unmatched(&records) {
                    let problem =
                        format!("no play of `{}` is for the image: `{}` matches no host", role.playbook, shown(&hosts));
                    let help =
                        "name a group that the image is in: ‹[[role]] groups = [\"compute\"]›, or write `hosts: all`"
                            .to_owned();
                    return Err(refuse(bench.report, bench.recipe, &field, problem, help));
                }
                Err(failed(role, &records, &result, &log))
            }
        }
    }
}

/// The error of a run that failed: the task with its file and line, where one did.
fn failed(role: &RoleFiles, records: &[Record], result: &CommandResult, log: &Path) -> StageError {
    let log = log.display().to_string();
    let Some(last) = report::failure(records) else {
        let lines = result.last_lines.join("\n");
        let what = format!("Ansible with the role `{}`", role.playbook);
        return StageError::Script { what, status: result.status, remedy: remedy("", &lines), lines, log };
    };
    let message: Vec<String> = last.message.lines().map(shown).collect();
    let place = last.place.strip_prefix(RECIPE_DIRECTORY).unwrap_or(&last.place).trim_start_matches('/');
    let what = match (last.kind, place) {
        (Kind::Error, _) => format!("the role `{}` cannot be run", role.playbook),
        (_, "") => format!("`{}` of the role `{}` failed", shown(&last.task), role.playbook),
        (_, place) => {
            format!("{}: the task `{}` of the role `{}` failed", shown(place), shown(&last.task), role.playbook)
        }
    };
    StageError::Task { what, lines: message.join("\n"), remedy: remedy(&last.module, &last.message), log }
}

/// What a person would want to know of a run that succeeded.
fn findings(recipe: &Recipe, role: &RoleFiles, made: &Made) -> Vec<Finding> {
    let name = &role.playbook;
    let mut all = Vec::new();
    let mut say = |severity, code, text: String, help: String| {
        let mut finding = Finding::nowhere(severity, code, text).help(help);
        finding.span = recipe.spans.nearest(&role.field()).cloned();
        all.push(finding);
    };
    let states = report::states(&made.records);
    let of = |wanted: &str| -> Vec<String> {
        let names = states.iter().filter(|(_, state)| (state == "started") == (wanted == "started"));
        names.map(|(name, _)| format!("`{name}`")).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    };
    let (started, others) = (of("started"), of("others"));
    if !started.is_empty() {
        let text = format!("`{name}` starts {}: no service runs in an image, so nodes start it", started.join(", "));
        let help = "it is enabled unless the task says `enabled: false`; ‹[services]› has the last word".to_owned();
        say(Severity::Note, "role::services", text, help);
    }
    if !others.is_empty() {
        let text = format!("`{name}` restarts or stops {}: nothing runs in an image", others.join(", "));
        say(Severity::Note, "role::services", text, "nodes start with what the image has".to_owned());
    }
    let ignored: Vec<String> = made
        .records
        .iter()
        .filter(|one| one.kind == Kind::Ignored)
        .map(|one| format!("`{}`", shown(&one.task)))
        .collect();
    if !ignored.is_empty() {
        let text = format!("tasks of `{name}` failed, and the playbook ignores that: {}", ignored.join(", "));
        say(Severity::Note, "role::ignored", text, "the log has what they printed: imgbuild log".to_owned());
    }
    if let Some(first) = made.thrown_away.first() {
        let text = format!("`{name}` wrote outside the image, which is discarded: {first}{}", more(&made.thrown_away));
        let help = "tasks with `delegate_to: localhost` or `connection: local` run where Ansible runs, not in the image: remove that, and they write to the image".to_owned();
        say(Severity::Warning, "role::thrown_away", text, help);
    }
    if let Some(first) = made.nobodys.first() {
        let text =
            format!("`{name}` leaves files that belong to `nobody` (65534:65534): /{first}{}", more(&made.nobodys));
        say(Severity::Warning, "role::nobody", text, "if that is not intended, set `owner` and `group`".to_owned());
    }
    if let Some(first) = made.identities.first() {
        let text = format!(
            "`{name}` created what each node creates for itself, and it was removed: /{first}{}",
            more(&made.identities)
        );
        let help = format!("copy the site's own, or keep it: ‹[image] keep = [\"{first}\"]›");
        say(Severity::Warning, "role::identities", text, help);
    }
    if let Some(first) = made.secrets.first() {
        let text = format!("`{name}` created what looks like a secret: /{first}{}", more(&made.secrets));
        let help = format!(
            "it differs per build, all nodes share it, and anyone who can fetch the image can read it: copy the site's own; if it is intended: ‹[image] keep = [\"{first}\"]›"
        );
        say(Severity::Warning, "secrets::made", text, help);
    }
    all
}

fn more(paths: &[String]) -> String {
    if paths.len() > 1 { format!(" and {} more", paths.len() - 1) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role() -> RoleFiles {
        RoleFiles {
            name: "site".to_owned(),
            playbook: "site.yml".to_owned(),
            vars_files: Vec::new(),
            files: Vec::new(),
            settings: Vec::new(),
            index: 0,
        }
    }

    #[test]
    fn a_failed_task_is_named_with_its_file_and_line() {
        let record = Record {
            kind: Kind::Failed,
            task: "web : install".to_owned(),
            module: "apt".to_owned(),
            place: "/recipe/roles/web/tasks/main.yml:3".to_owned(),
            message: "No package matching 'x' is available".to_owned(),
        };
        let result = CommandResult { status: 2, last_lines: Vec::new(), began_at: 0 };
        let error = failed(&role(), &[record], &result, Path::new("/log"));
        let text = error.to_string();
        assert!(
            text.starts_with("roles/web/tasks/main.yml:3: the task `web : install` of the role `site.yml` failed"),
            "{text}"
        );
        assert!(text.contains("No package matching"), "{text}");
        let error = failed(&role(), &[], &result, Path::new("/log"));
        assert!(error.to_string().contains("status 2"), "{error}");
    }
}
