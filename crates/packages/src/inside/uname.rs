//! `uname` as scripts find it: it answers for the image's kernel, whatever the build host runs.
//!
//! A transaction whose scripts ask depends on the kernel, and all others must not: which ones ask is found out when they run. The
//! stand-in leaves a mark where the key has no release; then what was made is thrown away, image.lock notes that the transaction
//! asks, and it runs again with the release in its key.

use serde::{Deserialize, Serialize};

use sandbox::NO_RELEASE;
use store::TreeEditor;

pub(crate) const NAME: &str = "uname";

/// File of the tree that the stand-in writes to.
const MARK: &str = ".imgbuild-uname";

/// What is known of the kernel while packages are installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uname {
    pub release: Option<String>,
    pub machine: String,
    /// Whether the image's kernel is meant; else anyone who asks gets an answer that means nothing.
    pub is_of_image: bool,
}

impl Uname {
    pub fn reported_release(&self) -> &str {
        self.release.as_deref().unwrap_or(NO_RELEASE)
    }

    pub fn stand_in(&self) -> (String, String) {
        let mark = if self.marks() { format!("echo >>/{MARK}\n") } else { String::new() };
        (NAME.to_owned(), script(self.reported_release(), &self.machine, &mark))
    }

    fn marks(&self) -> bool {
        self.release.is_none() && self.is_of_image && !fault::planted("release-not-noted")
    }

    /// Makes the tree ready to be marked, by anyone who asks.
    /// Errors: A text when the file cannot be written.
    pub fn prepare(&self, tree: &TreeEditor) -> Result<(), String> {
        if self.marks() { tree.write(MARK, b"", 0o666) } else { Ok(()) }
    }

    /// Whether the release was asked for and not known; takes the mark away.
    /// Errors: A text when the mark cannot be removed.
    pub fn was_asked(&self, tree: &TreeEditor) -> Result<bool, String> {
        if !self.marks() {
            return Ok(false);
        }
        let asked = tree.open_file(MARK).is_some_and(|file| file.metadata().is_ok_and(|found| found.len() > 0));
        tree.remove(MARK)?;
        Ok(asked)
    }
}

/// A shell script in place of uname; `asked` is what it does first where the release is asked for. Source: uname(1), options of
/// coreutils.
pub fn script(release: &str, machine: &str, asked: &str) -> String {
    format!(
        "#!/bin/sh\n\
         test $# -gt 0 || set -- -s\n\
         out=\n\
         add() {{ out=\"$out${{out:+ }}$1\"; }}\n\
         asked() {{ :\n{asked}}}\n\
         for word in \"$@\"; do case $word in\n\
         -a|--all) asked; add 'Linux imgbuild {release} #1 SMP {machine} GNU/Linux';;\n\
         --kernel-release) asked; add {release};; --machine|--processor|--hardware-platform) add {machine};;\n\
         --kernel-name) add Linux;; --nodename) add imgbuild;; --operating-system) add GNU/Linux;;\n\
         --kernel-version) add '#1 SMP';;\n\
         --help) echo 'Usage: uname [OPTION]...'; exit 0;; --version) echo 'uname (imgbuild)'; exit 0;;\n\
         -*) letters=${{word#-}}; while test -n \"$letters\"; do rest=${{letters#?}}; case ${{letters%\"$rest\"}} in\n\
         a) asked; add 'Linux imgbuild {release} #1 SMP {machine} GNU/Linux';;\n\
         s) add Linux;; n) add imgbuild;; r) asked; add {release};; v) add '#1 SMP';; m|p|i) add {machine};; o) add GNU/Linux;;\n\
         *) echo \"uname: invalid option -- '${{letters%\"$rest\"}}'\" >&2; exit 1;;\n\
         esac; letters=$rest; done;;\n\
         *) echo \"uname: extra operand '$word'\" >&2; exit 1;;\n\
         esac; done\n\
         echo \"$out\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::script;

    #[test]
    fn the_stand_in_answers_for_the_image_and_tells_when_the_release_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("uname");
        let mark = directory.path().join("mark");
        std::fs::write(&file, script("6.1.0-x", "x86_64", &format!("echo >>{}\n", mark.display()))).unwrap();
        let ask = |arguments: &[&str]| {
            let _ = std::fs::remove_file(&mark);
            let output = std::process::Command::new("/bin/sh").arg(&file).args(arguments).output().unwrap();
            (String::from_utf8(output.stdout).unwrap().trim().to_owned(), mark.exists())
        };
        assert_eq!(ask(&["-r"]), ("6.1.0-x".to_owned(), true));
        assert_eq!(ask(&["-rm"]), ("6.1.0-x x86_64".to_owned(), true));
        assert_eq!(ask(&[]), ("Linux".to_owned(), false));
        assert_eq!(ask(&["--machine"]), ("x86_64".to_owned(), false));
        assert_eq!(ask(&["-a"]), ("Linux imgbuild 6.1.0-x #1 SMP x86_64 GNU/Linux".to_owned(), true));
        assert_eq!(ask(&["-x"]), (String::new(), false));
    }
}
