//! Files that cannot be read as what they are named for: each is an error that names it, with the place and the remedy.

use crate::support::cluster::{cluster, commit_all, git, write_cluster};
use crate::support::{Ran, Space, imgbuild, without_paths};

fn words(text: &str) -> String {
    text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

/// Two images in a workspace, each with a lock.
fn workspace() -> Space {
    let space = Space::new();
    space.write("imgbuild.toml", "images = [\"images/*\"]\n");
    write_cluster(&space, "images/compute");
    write_cluster(&space, "images/login");
    space.edit("images/login/image.toml", "\"compute\"", "\"login\"");
    commit_all(space.path());
    space
}

#[test]
fn a_lock_that_is_no_lock_is_an_error_in_each_command() {
    let bad: [fn(&Space); 3] = [
        |space| {
            let path = space.path().join("image.lock");
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.extend(b"# \xff\n");
            std::fs::write(&path, bytes).unwrap();
        },
        |space| {
            std::fs::remove_file(space.path().join("image.lock")).unwrap();
            std::fs::create_dir(space.path().join("image.lock")).unwrap();
        },
        |space| {
            space.edit("image.lock", "epoch = 1700000000", "epoch = -5");
        },
    ];
    for (index, spoil) in bad.into_iter().enumerate() {
        let space = cluster();
        spoil(&space);
        for command in [
            &["plan", "--against", "HEAD"][..],
            &["plan", "--against", "HEAD", "--format", "github"],
            &["plan"],
            &["build", "--locked"],
            &["check"],
            &["update"],
        ] {
            let ran = space.run(command);
            assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{index} {command:?}: {}", ran.err);
            assert!(ran.err.contains("lock::format"), "{index} {command:?}: {}", ran.err);
            assert!(words(&ran.err).contains("restore it from git"), "{index} {command:?}: {}", ran.err);
        }
    }
}

#[test]
fn a_broken_lock_of_a_workspace_is_named_from_where_one_stands() {
    let space = workspace();
    space.edit("images/login/image.lock", "epoch = 1700000000", "epoch = \"x\"");
    for command in [&["plan"][..], &["plan", "login"], &["plan", "--against", "HEAD"], &["check"]] {
        let ran = space.run(command);
        assert_eq!(ran.code, 1, "{command:?}");
        let line = 1 + std::fs::read_to_string(space.path().join("images/login/image.lock"))
            .unwrap()
            .lines()
            .position(|line| line.starts_with("epoch"))
            .unwrap();
        assert!(ran.err.contains(&format!("images/login/image.lock:{line}:9")), "{command:?}: {}", ran.err);
    }
    let ran = space.run(&["check"]);
    assert!(ran.err.contains("1 error: login cannot be built, compute can"), "{}", ran.err);
    let mut command = imgbuild();
    command.arg("-C").arg(space.path().join("images/login")).arg("--store").arg(space.store());
    let ran: Ran = command.arg("plan").output().unwrap().into();
    assert!(words(&ran.err).contains(" image.lock:"), "{}", ran.err);
}

#[test]
fn what_is_said_of_a_lock_that_is_gone_is_said_in_every_form() {
    let space = workspace();
    git(space.path(), &["rm", "-q", "images/login/image.lock"]);
    let note = "image.lock is missing here";
    for format in ["text", "markdown", "json"] {
        let out = space.run(&["plan", "--against", "HEAD", "--format", format]).good().out;
        assert_eq!(out.matches(note).count(), 1, "{format}: {out}");
    }
    let github = space.run(&["plan", "--against", "HEAD", "--format", "github"]).good().out;
    assert_eq!(github.lines().count(), 1, "{github}");
    assert!(github.starts_with("::notice file=images/login/image.toml,line=1,title=imgbuild on login::image.lock is"));
    let gitlab = space.run(&["plan", "--against", "HEAD", "--format", "gitlab"]).good().out;
    let report: Vec<serde_json::Value> = serde_json::from_str(&gitlab).unwrap();
    assert_eq!(report.len(), 1);
    assert_eq!(report[0]["location"]["path"], "images/login/image.toml");
    assert!(report[0]["description"].as_str().unwrap().starts_with(note), "{gitlab}");
}

#[test]
fn what_was_wrong_at_the_revision_is_told_by_paths_of_the_repository() {
    let space = workspace();
    space.edit("images/login/image.toml", "\"compute.pkglist\"", "\"no.pkglist\"");
    commit_all(space.path());
    space.edit("images/login/image.toml", "\"no.pkglist\"", "\"compute.pkglist\"");
    let report = || space.run(&["plan", "--against", "HEAD", "--format", "gitlab"]).good().out;
    let first = report();
    assert!(first.contains("images/login"), "{first}");
    assert!(!first.contains("imgbuild-revision-"), "{first}");
    assert_eq!(first, report());
    space.write("images/login/image.lock", "no lock\n");
    git(space.path(), &["commit", "-q", "-a", "-m", "lock"]);
    git(space.path(), &["checkout", "-q", "HEAD~1", "--", "images/login/image.lock"]);
    let out = space.run(&["plan", "--against", "HEAD"]).good().out;
    assert!(out.contains("at HEAD, image.lock:1:4 cannot be read"), "{out}");
    assert!(out.contains("note: both sides use the local image.lock"), "{out}");
    assert!(!out.contains("imgbuild-revision-"), "{out}");
}

#[test]
fn what_is_no_file_is_refused_by_its_name() {
    let space = cluster();
    let pipe = space.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let pipe = pipe.to_str().unwrap();
    for command in [
        &["build", "--plan", pipe][..],
        &["diff", pipe, "image.lock"],
        &["diff", "image.lock", pipe],
        &["convert", pipe],
        &["store", "load", pipe],
        &["check", "--as", "pkglist", pipe],
    ] {
        let mut timed = std::process::Command::new("timeout");
        let program = imgbuild();
        timed.arg("20").arg(program.get_program());
        timed.arg("-C").arg(space.path()).arg("--store").arg(space.store()).current_dir(space.path());
        let ran: Ran = timed.args(command).output().unwrap().into();
        assert_eq!(ran.code, 1, "{command:?}: {}", ran.err);
        let said = words(&without_paths(&ran.err, &space));
        assert!(
            ["is a FIFO, not a file", "is not a regular file"].iter().any(|words| said.contains(words))
                && said.contains("pipe"),
            "{command:?}: {said}"
        );
    }
}

#[test]
fn bytes_that_are_no_text_have_a_place_and_a_remedy() {
    for (name, before) in [("image.toml", "# é "), ("imgbuild.toml", "images = []\n# "), ("image.kdl", "// ")] {
        let space = Space::new();
        if name == "imgbuild.toml" {
            write_cluster(&space, "");
        }
        let mut bytes = before.as_bytes().to_vec();
        bytes.extend(b"\xe9\n");
        std::fs::write(space.path().join(name), bytes).unwrap();
        let ran = space.run(&["check"]);
        assert_eq!(ran.code, 1);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
        assert!(ran.err.contains(&format!("{name}:{line}:{column}")), "{}", ran.err);
        assert!(ran.err.contains("save it as UTF-8"), "{}", ran.err);
    }
}

#[test]
fn a_character_that_kdl_forbids_is_named_where_it_stands() {
    for (character, shown) in [('\u{202e}', "U+202E"), ('\u{feff}', "U+FEFF"), ('\u{2028}', "U+2028")] {
        let space = Space::new();
        space.write("image.toml", &format!("[image]\nname = \"x\"  # é{character}y\nrelease = \"bookworm\"\n"));
        let ran = space.run(&["convert"]);
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains(shown) && ran.err.contains("image.toml:2:16"), "{}", ran.err);
        assert!(words(&ran.err).contains("remove it from the comment"), "{}", ran.err);
        assert!(!space.path().join("image.kdl").exists());
    }
    let space = Space::new();
    space.write("image.toml", "[image]\nname = \"x\"\nrelease = \"bookworm\"\n\n[environment]\nSITE = \"a\u{202e}\"\n");
    space.run(&["convert"]).good();
}

#[test]
fn a_table_on_one_line_takes_another_key() {
    let space = Space::new();
    space.write("image.kdl", "image login release=bookworm\nusers { slurm uid=901 gid=901 }\n");
    space.run(&["set", "login", "users.munge.uid=5"]).good();
    let text = std::fs::read_to_string(space.path().join("image.kdl")).unwrap();
    assert!(text.ends_with("users { slurm uid=901 gid=901; munge uid=5 }\n"), "{text}");
}

#[test]
fn a_repository_in_the_reftable_format_is_told_as_such() {
    let space = Space::new();
    write_cluster(&space, "");
    let made = std::process::Command::new("git")
        .args(["init", "-q", "--ref-format=reftable"])
        .current_dir(space.path())
        .output()
        .unwrap();
    if !made.status.success() {
        // A git before 2.45 makes none: what such a repository says of itself is enough.
        git(space.path(), &["init", "-q"]);
        git(space.path(), &["config", "core.repositoryformatversion", "1"]);
        git(space.path(), &["config", "extensions.refstorage", "reftable"]);
    }
    let ran = space.run(&["plan", "--against", "HEAD"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    let said = words(&ran.err);
    assert!(said.contains("reftable") && said.contains("git refs migrate --ref-format=files"), "{said}");
}
