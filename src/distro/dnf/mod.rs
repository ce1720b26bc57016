//! dnf, dnf5 and yum: their settings, and the table in which they say what they would do.
//!
//! All three print the same table: headings without an indent, a line a package with name, architecture, version,
//! repository and size. Source: dnf, dnf/cli/output.py; dnf5, libdnf5-cli/output/transaction_table.cpp; yum, output.py.

mod settings;
mod table;

use super::rpm_family::{Answer, Doing, Question, Refusal, Solver, quoted_words};

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

    fn files(&self, question: &Question<'_>) -> Vec<(String, String)> {
        vec![("dnf.conf".to_owned(), settings::settings(question))]
    }

    fn script(&self, question: &Question<'_>) -> String {
        let doing = match question.doing {
            Doing::Install => "install",
            Doing::Remove => "remove",
        };
        // The exit status says little: a transaction that nobody confirmed is a failure of its own.
        format!(
            "for dnf in dnf dnf5 yum; do command -v $dnf >/dev/null 2>&1 && break; done\n\
             modular=\n\
             if test -r /etc/os-release; then . /etc/os-release; fi\n\
             case $dnf in yum) ;; *) modular=--setopt=module_platform_id=${{PLATFORM_ID:-{platform}}};; esac\n\
             echo '{MARK}'\n\
             $dnf -c /imgbuild/dnf.conf --installroot={root} --releasever={release} $modular --assumeno {doing} {items} 2>&1\n",
            platform = question.platform,
            root = question.root,
            release = question.release,
            items = quoted_words(question.items),
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
