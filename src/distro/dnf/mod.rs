//! dnf, dnf5 and yum: their settings, and the table in which they say what they would do.
//!
//! All three print the same table: headings without an indent, a line a package with name, architecture, version,
//! repository and size. Source: dnf, dnf/cli/output.py; dnf5, libdnf5-cli/output/transaction_table.cpp; yum, output.py.

mod settings;
mod table;

use super::inside::common::quoted_words;
use super::rpm_family::{Answer, Doing, Question, Refusal, Solver};

/// dnf, or what a release has in its place.
#[derive(Debug, Clone, Copy)]
pub struct Dnf;

/// Stands before what the solver says.
const MARK: &str = "== solve";

impl Solver for Dnf {
    fn seeds(&self) -> &'static [&'static str] {
        &["filesystem", "bash", "coreutils", "rpm", "dnf|dnf5|yum", "kmod|module-init-tools"]
    }

    fn base(&self) -> &'static [&'static str] {
        &["filesystem", "setup|", "bash", "coreutils", "glibc|"]
    }

    fn kernel(&self) -> &'static str {
        "kernel"
    }

    fn has_globs(&self) -> bool {
        true
    }

    fn exactly(&self, name: &str, version: &str, arch: &str) -> String {
        format!("{name}-{version}.{arch}")
    }

    fn files(&self, question: &Question<'_>) -> Vec<(String, String)> {
        vec![("dnf.conf".to_owned(), settings::settings(question))]
    }

    fn script(&self, question: &Question<'_>) -> String {
        let doing = match question.doing {
            Doing::Install => "install",
            Doing::Remove => "remove",
        };
        // yum alone wants the sign by which kickstart files mark environments.
        let plain: Vec<String> = question
            .items
            .iter()
            .map(|item| item.strip_prefix("@^").map_or_else(|| item.clone(), |id| format!("@{id}")))
            .collect();
        // The exit status says little: a transaction that nobody confirmed is a failure of its own.
        format!(
            "for dnf in dnf dnf5 yum; do command -v $dnf >/dev/null 2>&1 && break; done\n\
             case $dnf in\n\
             yum) modular=; set -- {items};;\n\
             *) modular=--setopt=module_platform_id={platform}; set -- {plain};;\n\
             esac\n\
             echo '{MARK}'\n\
             $dnf -c /imgbuild/dnf.conf --installroot={root} --releasever={release} $modular --assumeno {doing} \"$@\" 2>&1\n",
            platform = quoted_words(&[question.platform.to_owned()]),
            root = question.root,
            release = question.release,
            items = quoted_words(question.items),
            plain = quoted_words(&plain),
        )
    }

    fn read(&self, said: &str, _: i32) -> Result<Answer, Refusal> {
        let said = said.split_once(MARK).map_or(said, |(_, rest)| rest);
        table::read(said)
    }

    fn module_files(&self, modules: &[String]) -> Vec<(String, String)> {
        modules.iter().filter_map(|module| module.split_once(':')).map(settings::module_file).collect()
    }
}
