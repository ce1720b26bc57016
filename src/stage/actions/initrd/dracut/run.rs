//! Composes the initrd with dracut.

use crate::plan::Action;
use crate::stage::actions::Context;
use crate::stage::actions::initrd::request::{initrd_request, say_drivers};
use crate::stage::bench::Bench;
use crate::stage::bench::taken::take_text;
use std::collections::BTreeMap;

use crate::recipe::dracut_modules;
use crate::source::{Finding, Severity};
use crate::stage::StageError;
use crate::stage::actions::initrd::dracut::{DracutAnswer, DracutRequest};
use crate::stage::bench::ids;

use crate::store::Outputs;

/// Composes the initrd with dracut.
/// Errors: [`StageError::Script`] with dracut's words, [`StageError::Gate`] for drivers that the kernel lacks.
pub fn run(bench: &Bench<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let done = context.done;
    let mut conf = Vec::new();
    for (path, name) in &bench.recipe.dracut_conf {
        let text = take_text(action, name, path)?;
        conf.push((name.rsplit('/').next().unwrap_or(name).to_owned(), text));
    }
    let scratch = bench.store.scratch()?;
    let (add, omit) = dracut_modules(&bench.recipe.model.initrd);
    let request = DracutRequest {
        scratch: scratch.name.clone(),
        initrd: initrd_request(bench, action, context, &scratch.name)?,
        tools: vec![done.layer(ids::BASE)?, done.layer(ids::DRACUT_TOOLS)?],
        add,
        omit,
        conf,
        log: bench.log_name(action),
    };
    let _left = bench.handover(&request.initrd.handover);
    let answer: DracutAnswer = bench.namespace.call("dracut", &request, &mut |text| bench.report.progress(text))?;
    let (answer, not_installed) = match answer {
        DracutAnswer::Made(answer, not_installed) => (answer, not_installed),
        DracutAnswer::Failed(result) => {
            return Err(StageError::Script {
                what: "dracut".to_owned(),
                status: result.status,
                lines: result.last_lines.join("\n"),
                remedy: String::new(),
                log: bench.store.directory().join(bench.log_name(action)).display().to_string(),
            });
        }
    };
    // The same drivers in another form: said once.
    if action.id == ids::INITRD || !answer.missing.is_empty() {
        say_drivers(bench, &action.id, &answer, &request.initrd.release)?;
        say_not_installed(bench, &not_installed, &request.conf);
    }
    let initrd = bench.take(&request.initrd.handover)?;
    Ok(Outputs { blobs: BTreeMap::from([("initrd".to_owned(), initrd)]), ..Outputs::default() })
}

/// A warning for what the recipe's own files ask for, a note for what dracut's modules would have liked.
fn say_not_installed(bench: &Bench<'_>, names: &[String], conf: &[(String, String)]) {
    // imgbuild's module has something in its place.
    let names = names.iter().filter(|name| *name != "reboot");
    let asks = |name: &&String| conf.iter().any(|(_, text)| text.contains(name.as_str()));
    let (asked, other): (Vec<&String>, Vec<&String>) = names.partition(asks);
    let listed = |names: &[&String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if !asked.is_empty() {
        let text = format!("dracut's tools root has no {}, which ‹[initrd]› dracut_conf asks for", listed(&asked));
        let mut finding = Finding::nowhere(Severity::Warning, "initrd::dracut", text)
            .help("add the package that provides it: ‹[initrd] dracut_packages = [\"...\"]›");
        finding.span = bench.recipe.spans.nearest("initrd.dracut_conf").cloned();
        bench.report.finding(&finding);
    }
    if !other.is_empty() {
        let text = format!("dracut's modules work without {}, which its tools root lacks", listed(&other));
        bench.report.finding(&Finding::nowhere(Severity::Note, "initrd::dracut", text));
    }
}
