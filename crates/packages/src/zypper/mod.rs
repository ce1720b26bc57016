//! zypper: its settings, and the XML in which it says what it would do.

mod answer;

use super::inside::common::quoted_words;
use super::rpm_family::{Answer, Doing, Question, Refusal, Solver};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Zypper;

/// Stands before what the solver says.
const MARK: &str = "== solve";

/// Stands before the exit code, which says whether names are known.
const STATUS: &str = "== status ";

/// Source: zypp.conf(5). Signatures and digests were checked already.
const SETTINGS: &str =
    "[main]\nsolver.onlyRequires = true\nmultiversion = provides:multiversion(kernel)\ngpgcheck = off\n";

impl Solver for Zypper {
    fn seeds(&self) -> &'static [&'static str] {
        &["filesystem", "bash", "coreutils", "rpm", "zypper", "kmod|module-init-tools"]
    }

    fn base(&self) -> &'static [&'static str] {
        &["filesystem", "aaa_base|", "setup|", "bash", "coreutils", "glibc|"]
    }

    fn kernel(&self) -> &'static str {
        "kernel-default"
    }

    fn install_only(&self) -> &'static [&'static str] {
        // As its settings have it.
        &["multiversion(kernel)"]
    }

    fn has_globs(&self) -> bool {
        // Locks are globs of names alone, and there is nothing like `include`.
        false
    }

    fn finds_files(&self) -> bool {
        // Only those that some package requires.
        false
    }

    fn exactly(&self, name: &str, version: &str, _: &str) -> String {
        format!("{name}={version}")
    }

    fn files(&self, question: &Question<'_>) -> Vec<(String, String)> {
        let mut files = vec![("zypp.conf".to_owned(), SETTINGS.to_owned())];
        for one in question.repositories {
            let id = &one.id;
            let text = format!(
                "[{id}]\nname={id}\nenabled=1\nautorefresh=0\nbaseurl=dir:/repo/{id}\ntype=rpm-md\npriority={}\n\
                 gpgcheck=0\nrepo_gpgcheck=0\npkg_gpgcheck=0\nkeeppackages=0\n",
                one.priority
            );
            files.push((format!("repos.d/{id}.repo"), text));
        }
        files.push(("locks".to_owned(), answer::locks(question)));
        files
    }

    fn script(&self, question: &Question<'_>) -> String {
        let items: Vec<String> = question
            .items
            .iter()
            .map(|item| item.strip_prefix('@').map_or_else(|| item.clone(), |pattern| format!("pattern:{pattern}")))
            .collect();
        let doing = match (question.doing, question.erasing) {
            (Doing::Install, false) => "install --no-recommends --auto-agree-with-licenses --allow-downgrade",
            (Doing::Install, true) => {
                "install --no-recommends --auto-agree-with-licenses --allow-downgrade --force-resolution"
            }
            (Doing::Remove, _) => "remove",
        };
        // zypper looks for everything below its root.
        format!(
            "root={root}\n\
             mkdir -p $root/etc/zypp/repos.d $root/var/cache/zypp $root/var/lib/zypp $root/var/log\n\
             cp /imgbuild/zypp.conf /imgbuild/locks $root/etc/zypp/\n\
             cp /imgbuild/repos.d/*.repo $root/etc/zypp/repos.d/\n\
             export ZYPP_CONF=/imgbuild/zypp.conf\n\
             echo '{MARK}'\n\
             zypper --xmlout --non-interactive --no-gpg-checks --root $root {doing} --dry-run {items} 2>&1\n\
             echo '{STATUS}'$?\n",
            root = question.root,
            items = quoted_words(&items),
        )
    }

    fn read(&self, said: &str, _: i32) -> Result<Answer, Refusal> {
        let said = said.split_once(MARK).map_or(said, |(_, rest)| rest);
        let (said, status) = said.rsplit_once(STATUS).unwrap_or((said, ""));
        answer::read(said, status.trim().parse().unwrap_or(1))
    }

    fn module_files(&self, _: &[String]) -> Vec<(String, String)> {
        Vec::new()
    }
}
