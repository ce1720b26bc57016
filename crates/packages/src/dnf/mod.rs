//! dnf, dnf5 and yum: their settings, and how they say what they would do.
//!
//! dnf and yum load a plugin of ours, which prints the transaction for programs ([`lines`]). dnf5 has plugins in C++ alone, and no option
//! that prints a transaction for programs before packages are downloaded: there the table for people is read ([`table`]).

mod lines;
mod settings;
mod table;

use super::inside::common::quoted_words;
use super::rpm_family::{Answer, Doing, Question, Refusal, Solver};

/// dnf, or what a release has in its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dnf;

/// Stands before what the solver says.
const MARK: &str = "== solve";

impl Solver for Dnf {
    fn seeds(&self) -> &'static [&'static str] {
        &["filesystem", "bash", "coreutils", "rpm", "dnf|dnf5|yum", "kmod|module-init-tools"]
    }

    fn makes_accounts(&self) -> Option<&'static str> {
        Some("systemd-standalone-sysusers")
    }

    fn base(&self) -> &'static [&'static str] {
        &["filesystem", "setup|", "bash", "coreutils", "glibc|"]
    }

    fn kernel(&self) -> &'static str {
        "kernel"
    }

    fn install_only(&self) -> &'static [&'static str] {
        &settings::INSTALL_ONLY
    }

    fn has_globs(&self) -> bool {
        true
    }

    fn finds_files(&self) -> bool {
        true
    }

    fn exactly(&self, name: &str, version: &str, arch: &str) -> String {
        format!("{name}-{version}.{arch}")
    }

    fn files(&self, question: &Question<'_>) -> Vec<(String, String)> {
        let plain = settings::settings(question, None);
        let mut files = vec![("dnf.conf".to_owned(), plain)];
        for (name, plugin) in [("dnf", include_str!("plugin_dnf.py")), ("yum", include_str!("plugin_yum.py"))] {
            let folder = format!("plugins-{name}");
            files.push((
                format!("with-{name}.conf"),
                settings::settings(question, Some(&format!("/imgbuild/{folder}"))),
            ));
            files.push((format!("{folder}/imgbuild.py"), plugin.to_owned()));
            files.push((format!("{folder}/imgbuild.conf"), "[main]\nenabled=1\n".to_owned()));
        }
        files
    }

    fn script(&self, question: &Question<'_>) -> String {
        let doing = match (question.doing, question.erasing) {
            (Doing::Install, false) => "install",
            (Doing::Install, true) => "install $erasing",
            (Doing::Remove, _) => "remove",
        };
        // yum alone wants the sign by which kickstart files mark environments.
        let plain: Vec<String> = question
            .items
            .iter()
            .map(|item| item.strip_prefix("@^").map_or_else(|| item.clone(), |id| format!("@{id}")))
            .collect();
        // The exit status says little: a transaction that no one confirmed is a failure of its own.
        format!(
            "for dnf in dnf dnf5 yum; do command -v $dnf >/dev/null 2>&1 && break; done\n\
             case $(readlink -f \"$(command -v $dnf)\") in\n\
             *dnf5) settings=dnf.conf;;\n\
             *yum) settings=with-yum.conf;;\n\
             *) settings=with-dnf.conf;;\n\
             esac\n\
             case $settings in\n\
             with-yum.conf) erasing=; set -- {items};;\n\
             *) erasing=--allowerasing; set -- {plain};;\n\
             esac\n\
             echo '{MARK}'\n\
             $dnf -c /imgbuild/$settings --installroot={root} --releasever={release} --assumeno {doing} \"$@\" 2>&1\n",
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
