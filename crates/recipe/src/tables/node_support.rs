//! xCAT's side of a node: the site's own postscripts, and those of them that start at boot.

use std::path::{Path, PathBuf};

use crate::load::paths::{PathProblem, Paths, unfetched};
use crate::{Model, SyncedKind};
use base::source::{Finding, Span};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupportFile {
    /// The file, links followed.
    pub source: PathBuf,
    pub name: String,
    pub destination: String,
    pub kind: SyncedKind,
    /// Permission bits, where they are not the file's own.
    pub mode: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSupport {
    /// In order.
    pub files: Vec<SupportFile>,
    pub osimage: String,
}

/// Where nodes have the site's postscripts.
const POSTSCRIPTS: &str = "/xcatpost";

/// Files among the postscripts that have a second place: name, place, mode. Source: xCAT 2.19, genimage's generic
/// step and packimage; the unit's own text starts /opt/xcat/xcatpostinit1.
const STARTED: [(&str, &str, u32); 3] = [
    ("xcatdsklspost", "/opt/xcat/xcatdsklspost", 0o755),
    ("xcatpostinit1.netboot", "/opt/xcat/xcatpostinit1", 0o755),
    ("xcatpostinit1.service", "/etc/systemd/system/xcatpostinit1.service", 0o644),
];

const WHERE: &str = "name the site's own directory of postscripts: ‹[xcat] postscripts = \"/install/postscripts\"› (`lsdef -t site -i installdir` prints the part before it); imgbuild ships none of xCAT's files";

/// Gathers the files; problems are added to `findings`.
pub(crate) fn node_support(
    model: &Model,
    span: &dyn Fn(&str) -> Span,
    paths: &Paths,
    findings: &mut Vec<Finding>,
) -> Option<NodeSupport> {
    let name = match (&model.xcat.postscripts, model.xcat.node_support) {
        (Some(name), true) => name,
        (None, true) => {
            let at = span("xcat.node_support");
            findings.push(
                Finding::error("xcat::no_postscripts", &at, "`node_support` needs the site's postscripts")
                    .label("requested here")
                    .help(WHERE),
            );
            return None;
        }
        (Some(_), false) => {
            let at = span("xcat.postscripts");
            findings.push(
                Finding::warning("xcat::unused", &at, "`postscripts` is used only with `‹node_support = true›`")
                    .help("add that, or remove the line"),
            );
            return None;
        }
        (None, false) => return None,
    };
    let at = span("xcat.postscripts");
    let real = match paths.resolve(name, &paths.recipe) {
        Ok(real) => real,
        Err(PathProblem::Missing(_, problem)) => {
            findings.push(
                Finding::error("recipe::no_file", &at, format!("`{name}` cannot be read: {problem}"))
                    .label("named here")
                    .help(WHERE),
            );
            return None;
        }
        Err(PathProblem::Unfetched(_, problem, help)) => {
            findings.push(unfetched(name, &at, &problem, help));
            return None;
        }
        Err(PathProblem::Outside(real, _)) => {
            findings.push(
                Finding::error("recipe::outside", &at, format!("`{name}` is outside the workspace"))
                    .label("named here")
                    .help(format!(
                        "copy it into the workspace, or add to the recipe: ‹[workspace] allow = [\"{}/**\"]›",
                        real.display()
                    )),
            );
            return None;
        }
    };
    let mut files = tree(name, &real, &at, paths, findings);
    for (file, destination, mode) in STARTED {
        match files.iter().find(|one| one.destination == format!("{POSTSCRIPTS}/{file}")).cloned() {
            Some(found) if found.kind == SyncedKind::File => {
                files.push(SupportFile { destination: destination.to_owned(), mode: Some(mode), ..found });
            }
            _ => findings.push(
                Finding::error(
                    "xcat::no_file",
                    &at,
                    format!("`{name}` has no `{file}`, which a node needs to run postscripts"),
                )
                .label("named here")
                .help(WHERE),
            ),
        }
    }
    let osimage = model.osimage().to_owned();
    Some(NodeSupport { files, osimage })
}

/// All files of the directory, as packimage copies them, links followed.
fn tree(name: &str, real: &Path, at: &Span, paths: &Paths, findings: &mut Vec<Finding>) -> Vec<SupportFile> {
    let mut files = Vec::new();
    for found in witness::walk().following().through(real) {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                findings.push(
                    Finding::error("xcat::unreadable", at, format!("`{name}` cannot be read: {error}"))
                        .label("named here")
                        .help("correct its permissions, or the link"),
                );
                continue;
            }
        };
        let kind = match found.kind {
            witness::Kind::Directory => SyncedKind::Directory,
            witness::Kind::File => SyncedKind::File,
            // Sockets and the like are nothing that a node runs.
            _ => continue,
        };
        let Some(below) = found.path.strip_prefix(real).ok().and_then(Path::to_str) else {
            let shown = found.path.display();
            findings.push(
                Finding::error("xcat::name", at, format!("the name of `{shown}` is not UTF-8")).label("named here"),
            );
            continue;
        };
        let Ok(source) = witness::canonicalize(&found.path) else { continue };
        if !source.starts_with(real)
            && let Err(PathProblem::Outside(_, help)) = paths.resolve(&source.to_string_lossy(), &paths.recipe)
        {
            let text = format!("`{name}/{below}` is a link to `{}`, outside the workspace", source.display());
            findings.push(Finding::error("recipe::outside", at, text).label("named here").help(help));
            continue;
        }
        if kind == SyncedKind::File && is_private_key(&source) {
            let text = format!("`{name}/{below}` is a private key: anyone who can fetch the image could read it");
            let help = "move it out of this directory, which the site's web server gives to every node as well";
            findings.push(Finding::error("xcat::private_key", at, text).label("named here").help(help));
        }
        let destination = if below.is_empty() { POSTSCRIPTS.to_owned() } else { format!("{POSTSCRIPTS}/{below}") };
        files.push(SupportFile { name: paths.name(&found.path), source, destination, kind, mode: None });
    }
    files
}

/// Whether a file starts as private keys do. Source: RFC 7468, and OpenSSH's PROTOCOL.key.
fn is_private_key(path: &Path) -> bool {
    let read = witness::read(path);
    let start = read.as_deref().unwrap_or_default();
    let start = start.get(..64).unwrap_or(start);
    let line = String::from_utf8_lossy(start.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
    read.is_ok() && line.starts_with("-----BEGIN ") && line.contains("PRIVATE KEY-----")
}
