//! The pipelines of examples/ci: every command that stands in them, as a runner would run it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::offline::fresh;
use crate::support::{Ran, copy_locked, project};

/// The commands of a job, in order: lines `run:` of GitHub's form, and the list `script:` of GitLab's.
fn commands(file: &str, job: &str) -> Vec<String> {
    let text = std::fs::read_to_string(project().join("examples/ci").join(file)).unwrap();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = text.lines().skip_while(|line| line.trim() != format!("{job}:"));
    let depth = indent(lines.next().expect("the job is there"));
    let mut script = None;
    let mut found = Vec::new();
    for line in lines.take_while(|line| indent(line) > depth) {
        let here = indent(line);
        script = script.filter(|depth| here > *depth);
        if let Some(command) = line.trim().strip_prefix("run: ") {
            found.push(command.to_owned());
        } else if line.trim() == "script:" {
            script = Some(here);
        } else if let (Some(_), Some(command)) = (script, line.trim().strip_prefix("- ")) {
            found.push(command.to_owned());
        }
    }
    assert!(!found.is_empty(), "{file} has commands in {job}");
    found
}

/// A place like a runner's: a checkout, and a store beside it.
struct Runner {
    _directory: tempfile::TempDir,
    checkout: PathBuf,
}

fn git(directory: &Path, words: &[&str]) {
    let mut command = Command::new("git");
    for name in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{name}_NAME"), "a").env(format!("GIT_{name}_EMAIL"), "a@example.invalid");
    }
    let output = command.arg("-C").arg(directory).args(words).output().unwrap();
    assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Runner {
    /// Clones a branch; packages that the tests have are in the store already.
    fn new(origin: &Path, branch: &str) -> Self {
        // Where packages can have a second name.
        let directory = tempfile::tempdir_in(super::store().parent().unwrap()).unwrap();
        let checkout = directory.path().join("checkout");
        git(directory.path(), &["clone", "-q", "-b", branch, origin.to_str().unwrap(), "checkout"]);
        let packages = directory.path().join("imgbuild-store/v1/packages");
        std::fs::create_dir_all(packages.parent().unwrap()).unwrap();
        let linked = Command::new("cp").arg("-al").arg(super::store().join("v1/packages")).arg(&packages).status();
        assert!(linked.unwrap().success());
        let mut mode = std::fs::metadata(directory.path().join("imgbuild-store")).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o700);
        std::fs::set_permissions(directory.path().join("imgbuild-store"), mode).unwrap();
        Self { _directory: directory, checkout }
    }

    /// Runs a command as the services do, with their variables.
    fn run(&self, command: &str) -> Ran {
        let program = Path::new(env!("CARGO_BIN_EXE_imgbuild")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        let main =
            Command::new("git").arg("-C").arg(&self.checkout).args(["rev-parse", "origin/main"]).output().unwrap();
        let base = String::from_utf8_lossy(&main.stdout).trim().to_owned();
        let mut bash = Command::new("bash");
        bash.args(["-e", "-c", command]).current_dir(&self.checkout).env("PATH", path).env("NO_COLOR", "1");
        bash.env("IMGBUILD_STORE", self.checkout.join("../imgbuild-store")).env("CI", "true");
        bash.env("GITHUB_BASE_REF", "main").env("GITHUB_STEP_SUMMARY", self.checkout.join("../summary.md"));
        bash.env("CI_MERGE_REQUEST_DIFF_BASE_SHA", base).env("CI_PROJECT_DIR", &self.checkout);
        let ran: Ran = bash.output().unwrap().into();
        assert_eq!(ran.code, 0, "{command}\n{}\n{}", ran.out, ran.err);
        ran
    }

    /// Runs all commands of a job; gives what each printed.
    fn job(&self, file: &str, job: &str) -> Vec<Ran> {
        commands(file, job).iter().map(|command| self.run(command)).collect()
    }
}

#[test]
fn every_command_of_the_pipelines_works() {
    // A repository with a workspace of one image, and a merge request that changes its script.
    let directory = tempfile::tempdir().unwrap();
    let (origin, work) = (directory.path().join("origin.git"), directory.path().join("work"));
    let image = work.join("images/tiny");
    let space = fresh();
    copy_locked(space.path(), &image);
    std::fs::write(work.join("imgbuild.toml"), "images = [\"images/*\"]\n").unwrap();
    std::fs::write(work.join(".gitignore"), "out/\n/*.tar\n").unwrap();
    git(directory.path(), &["init", "-q", "--bare", "-b", "main", "origin.git"]);
    git(&work, &["init", "-q", "-b", "main"]);
    git(&work, &["add", "-A"]);
    git(&work, &["commit", "-q", "-m", "images"]);
    git(&work, &["push", "-q", origin.to_str().unwrap(), "main"]);
    let script = image.join("tiny.postinstall");
    let text = std::fs::read_to_string(&script).unwrap();
    std::fs::write(&script, text + "\n# another line\n").unwrap();
    git(&work, &["checkout", "-q", "-b", "change"]);
    git(&work, &["commit", "-q", "-a", "-m", "change"]);
    git(&work, &["push", "-q", origin.to_str().unwrap(), "change"]);

    let request = Runner::new(&origin, "change");
    let said = request.job("github.yml", "preview");
    assert!(said[1].out.contains("::notice file=images/tiny/tiny.postinstall"), "{}", said[1].out);
    let summary = std::fs::read_to_string(request.checkout.join("../summary.md")).unwrap();
    assert!(summary.contains("1 of 1 images to build") && summary.contains("tiny.postinstall"), "{summary}");
    let said = request.job("gitlab.yml", "preview");
    assert!(said[1].out.contains("tiny.postinstall"), "{}", said[1].out);
    let report = std::fs::read_to_string(request.checkout.join("codequality.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report[0]["location"]["path"], "images/tiny/tiny.postinstall", "{report}");

    // The first build on main makes everything, the second one on a new runner only takes it out of the saved store.
    let first = Runner::new(&origin, "main");
    let said = first.job("github.yml", "build");
    assert!(said[1].err.contains("ran rootfs/tools"), "{}", said[1].err);
    let second = Runner::new(&origin, "main");
    std::fs::copy(first.checkout.join("store.tar"), second.checkout.join("store.tar")).unwrap();
    let said = second.job("gitlab.yml", "build");
    assert!(said[1].err.contains("ran nothing"), "{}", said[1].err);
    for runner in [&first, &second] {
        let listed = runner.run("tar -tf images.tar");
        assert!(listed.out.contains("tiny/kernel\n"), "{}", listed.out);
        let unpacked =
            "mkdir ../unpacked && tar -xf images.tar -C ../unpacked && cd ../unpacked/tiny && sha256sum -c SHA256SUMS";
        runner.run(unpacked);
    }
    let kernel = |runner: &Runner| std::fs::read(runner.checkout.join("published/tiny/build.json")).unwrap();
    assert!(kernel(&first) == kernel(&second), "another runner, the same bytes");
}
