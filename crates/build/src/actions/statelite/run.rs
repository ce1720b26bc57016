//! Writes the list, once all that it names of the image is there.

use std::collections::BTreeMap;

use super::inputs::Statelite;
use crate::StageError;
use crate::actions::reader::work::Above;
use crate::bench::Bench;
use crate::bench::report::refuse_at;
use base::source::{Finding, Span};
use node_words::statelite::Source;
use recipe::StateliteList;
use store::Outputs;

/// What the list names and the image lacks.
#[derive(Debug, PartialEq, Eq)]
enum Lack<'a> {
    Tree(&'a str, &'a Span),
    Path(&'a str, &'a Span),
    /// A folder without `/` at its end: entries below it are not its own.
    Folder(&'a str, &'a Span),
}

fn lacks<'a>(own: &'a StateliteList, paths: &BTreeMap<String, bool>) -> Vec<Lack<'a>> {
    let find = |path: &str| paths.get(path.trim_matches('/')).copied();
    let mut lacks = Vec::new();
    for (tree, span) in own.list.trees.iter().zip(&own.trees) {
        let is_lacking = match Source::parse(&tree.source, "") {
            // Where a variable is in it, each node has another.
            Some(Source::Image(path)) => {
                !path.contains('$') && find(&path) != Some(true) && !fault::planted("statelite-tree-is-file")
            }
            _ => false,
        };
        if is_lacking {
            lacks.push(Lack::Tree(&tree.source, span));
        }
    }
    for (entry, span) in own.list.entries.iter().zip(&own.entries) {
        match find(&entry.path) {
            None if entry.path != "/" && own.list.trees.is_empty() => lacks.push(Lack::Path(&entry.path, span)),
            Some(true) if !entry.path.ends_with('/') && !fault::planted("statelite-folder-as-file") => {
                lacks.push(Lack::Folder(&entry.path, span))
            }
            _ => {}
        }
    }
    lacks
}

impl Statelite {
    /// Gives the blob of the list.
    ///
    /// # Errors
    /// [`StageError::Refused`] for a tree that the image lacks.
    pub fn run(&self, bench: &Bench<'_>, above: &Above<'_>) -> Result<Outputs, StageError> {
        let own = &*self.0;
        let paths = bench.store.paths(&above.below()?)?;
        for lack in lacks(own, &paths) {
            let (span, text, help) = match lack {
                Lack::Tree(path, span) => {
                    let problem = format!("the tree `{path}` is not a directory of the image");
                    let help = "write SERVER:/DIRECTORY for one of a server, or bring it into the image: ‹[sync]›";
                    return Err(refuse_at(bench.report, Some(span.clone()), problem, help.to_owned()));
                }
                Lack::Path(path, span) => (
                    span,
                    format!("the image has no `{path}`, and there are no trees: nodes report it and do nothing"),
                    "correct the path, add the package that has it, or remove the entry".to_owned(),
                ),
                Lack::Folder(path, span) => (
                    span,
                    format!(
                        "`{path}` is a folder of the image: without `/` at its end, entries below it are applied separately"
                    ),
                    format!("write `{path}/`"),
                ),
            };
            bench.report.finding(&Finding::warning("statelite::image", span, text).label("here").help(help));
        }
        let list = bench.store.ensure_blob(&own.text())?;
        Ok(Outputs { blobs: BTreeMap::from([("list".to_owned(), list)]), ..Outputs::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::source::SourceFile;
    use node_words::statelite::{Entry, FORMAT, List, Tree, Way};

    #[test]
    fn what_the_image_lacks_is_found() {
        let span = Span::new(&SourceFile::new("l", "/l", "x"), 0..1);
        let list = |entries: &[&str], trees: &[&str]| StateliteList {
            entries: entries.iter().map(|_| span.clone()).collect(),
            trees: trees.iter().map(|_| span.clone()).collect(),
            states: vec![],
            list: List {
                format: FORMAT,
                image: "a".into(),
                entries: entries.iter().map(|path| Entry::new(path, Way::Tmpfs)).collect(),
                trees: trees.iter().map(|path| Tree { source: (*path).into(), options: String::new() }).collect(),
                states: vec![],
                local_disk: None,
                variables: BTreeMap::new(),
            },
        };
        let paths = [("etc", true), ("etc/hosts", false), ("opt/tree", true)];
        let paths = paths.map(|(path, is_folder)| (path.to_owned(), is_folder)).into();
        let one = list(&["/etc/hosts", "/etc", "/etc/", "/none"], &[]);
        assert_eq!(lacks(&one, &paths), [Lack::Folder("/etc", &span), Lack::Path("/none", &span)]);
        let two = list(&["/none"], &["/opt/tree", "/opt/other", "/etc/hosts", "nfs1:/x", "/t/$node"]);
        assert_eq!(lacks(&two, &paths), [Lack::Tree("/opt/other", &span), Lack::Tree("/etc/hosts", &span)]);
    }
}
