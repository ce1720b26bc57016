//! updateinfo.xml of RPM repositories. Source: createrepo_c's and libsolv's readers (repo_updateinfoxml.c), described, not copied.

use std::io::BufRead;

use base::xml::{Event, Reader};

use super::{MOST_KEPT, is_name, title, too_much, vulnerabilities, within_pairs};
use crate::model::{Advisory, Affected, Database, Names};
use crate::platform::Scope;
use crate::version::Versions;
use crate::{AdvisoryError, Platform, Severity};

/// An `<update>` that is being read.
#[derive(Default)]
struct Update {
    kind: String,
    id: String,
    title: String,
    severity: String,
    /// Vulnerabilities that its references name.
    cves: Vec<String>,
    /// The stream of the collection that is being read.
    module: Option<String>,
    packages: Vec<Affected>,
    /// What its packages take.
    weight: usize,
}

/// Most references of an update to vulnerabilities, the same ones counted each time.
const MOST_REFERENCES: usize = 100_000;

/// Adds the updates that mend vulnerabilities; gives how many all are.
pub(super) fn read(database: &mut Database, at: usize, file: &str, data: impl BufRead) -> Result<usize, AdvisoryError> {
    let scope = database.repository.as_ref().map_or(Scope::Anywhere, Platform::scope);
    let wrong = |problem: String| AdvisoryError::whole(file, problem);
    let mut reader = Reader::new(data).without_doctype();
    let (mut count, mut update, mut depth) = (0, None::<Update>, 0_usize);
    while let Some(event) = reader.event().map_err(wrong)? {
        match event {
            Event::Start { name, attributes } => {
                depth += 1;
                let get = |name: &str| attributes.get(name).unwrap_or_default().to_owned();
                match (name, update.as_mut()) {
                    ("update", None) => update = Some(Update { kind: get("type"), ..Update::default() }),
                    ("reference", Some(update)) => {
                        // SUSE writes the CVE into the title alone.
                        for text in [get("id"), get("title")] {
                            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
                            let words = text.split(|c| !is_word(c)).filter(|word| word.starts_with("CVE-"));
                            update.cves.extend(words.map(str::to_owned));
                        }
                        if update.cves.len() > MOST_REFERENCES {
                            return Err(wrong(format!(
                                "has more than {MOST_REFERENCES} references in the update `{}`: the limit",
                                update.id.escape_default()
                            )));
                        }
                    }
                    ("collection", Some(update)) => update.module = None,
                    ("module", Some(update)) => update.module = Some(format!("{}:{}", get("name"), get("stream"))),
                    ("package", Some(update)) if database.wants(&get("name")) => {
                        let epoch = get("epoch");
                        let epoch = if epoch.is_empty() { "0" } else { &epoch };
                        let version = format!("{epoch}:{}-{}", get("version"), get("release"));
                        if !is_name(&version) || get("version").is_empty() {
                            let package = get("name");
                            let problem = format!(
                                "has a package `{}` without a version in the update `{}`",
                                package.escape_default(),
                                update.id.escape_default()
                            );
                            return Err(wrong(problem));
                        }
                        update.packages.push(Affected {
                            name: get("name"),
                            names: Names::Binary,
                            scope: scope.clone(),
                            versions: Versions::before(version.strip_prefix("0:").unwrap_or(&version)),
                            severity: Severity::Unknown,
                            arch: Some(get("arch")).filter(|arch| !arch.is_empty()),
                            module: update.module.clone(),
                        });
                        update.weight += update.packages.last().map_or(0, Affected::weight);
                        if database.kept + update.weight > MOST_KEPT {
                            return Err(wrong(too_much()));
                        }
                    }
                    _ => {}
                }
            }
            Event::End { name, text } => {
                depth = depth.saturating_sub(1);
                match (name, update.as_mut()) {
                    ("update", Some(_)) => {
                        count += 1;
                        if let Some(update) = update.take() {
                            keep(database, at, update).map_err(wrong)?;
                        }
                    }
                    // Deeper ones are those of its packages.
                    ("id", Some(update)) if depth == 2 => text.trim().clone_into(&mut update.id),
                    ("title", Some(update)) if depth == 2 => update.title = title(text),
                    ("severity", Some(update)) if depth == 2 => text.trim().clone_into(&mut update.severity),
                    _ => {}
                }
            }
        }
    }
    reader.ended_within("updates").map_err(wrong)?;
    Ok(count)
}

/// Keeps an update of security: by its type, or by the vulnerabilities that it names.
fn keep(database: &mut Database, at: usize, update: Update) -> Result<(), String> {
    for name in std::iter::once(&update.id).chain(&update.cves) {
        database.meet(name);
    }
    let found = vulnerabilities(&update.id, update.cves)?;
    let is_security = update.kind == "security" || found.iter().any(|one| one.starts_with("CVE-"));
    if update.packages.is_empty() || !is_security || !is_name(&update.id) {
        return Ok(());
    }
    within_pairs(update.packages.len(), found.len())?;
    let severity = Severity::of_word(&update.severity)
        .or_else(|| Severity::of_word(update.title.split(':').next().unwrap_or_default()))
        .unwrap_or_default();
    let packages = update.packages.into_iter().map(|one| Affected { severity, ..one });
    database.keep(Advisory {
        id: update.id,
        vulnerabilities: found,
        title: update.title,
        affected: packages.collect(),
        database: at,
    });
    Ok(())
}
