//! Commands that need neither network nor privilege.

use std::process::Stdio;

use crate::support::{Ran, Space, imgbuild};

#[test]
fn init_writes_a_recipe_that_is_good() {
    let space = Space::new();
    let ran = space.run(&["init", "compute"]).good();
    assert!(ran.err.contains("image.toml"), "{}", ran.err);
    space.run(&["check"]).good();
    let again = space.run(&["init", "compute"]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("nothing was written"), "{}", again.err);
}

#[test]
fn a_plan_of_a_new_recipe_runs_all_and_writes_nothing() {
    let space = Space::example("mini");
    let before: Vec<_> =
        walkdir::WalkDir::new(space.path()).into_iter().map(|entry| entry.unwrap().path().to_owned()).collect();
    let ran = space.run(&["plan"]).good();
    insta::assert_snapshot!(ran.out);
    let after: Vec<_> =
        walkdir::WalkDir::new(space.path()).into_iter().map(|entry| entry.unwrap().path().to_owned()).collect();
    assert_eq!(before, after);
    assert_eq!(space.run(&["plan", "--detailed-exitcode"]).code, 2);
}

#[test]
fn a_locked_build_without_a_lock_fails_and_says_why() {
    let space = Space::example("mini");
    let ran = space.run(&["build", "--locked"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("image.lock"), "{}", ran.err);
    assert!(!space.path().join("out").exists());
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    for arguments in
        [&["frobnicate"][..], &["build", "--until", "nothing"], &["check", "--as", "pkglist"], &["-j", "0", "plan"]]
    {
        assert_eq!(imgbuild().args(arguments).output().unwrap().status.code(), Some(64), "{arguments:?}");
    }
    assert_eq!(imgbuild().arg("--help").output().unwrap().status.code(), Some(0));
}

#[test]
fn a_layout_that_is_not_known_says_what_is() {
    let usage = |arguments: &[&str]| {
        let output = imgbuild().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for command in ["build", "plan"] {
        for (target, problem) in [
            ("kickstart:/srv", "there is no kind `kickstart`; the kinds are xcat, warewulf, "),
            ("xcat:install/x", "`install/x` is not an absolute path; write xcat:/install/netboot/"),
            ("/install/x", "it does not say who takes the image; write KIND:WHERE"),
        ] {
            let said = usage(&[command, "--publish", target]);
            assert!(said.contains(problem), "{said}");
        }
    }
    let said = usage(&["build", "--publish", "xcat:/install/x", "--until", "rootfs"]);
    assert!(said.contains("--publish needs all stages"), "{said}");
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = imgbuild().args(["completions", shell]).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("detailed-exitcode"), "{shell}");
    }
}

#[test]
fn names_of_images_complete_in_a_shell() {
    let space = Space::new();
    for name in ["compute", "compile", "login"] {
        space.write(
            &format!("images/{name}/image.toml"),
            &format!("[image]\nname = \"{name}\"\nrelease = \"bookworm\"\n"),
        );
    }
    space.write("imgbuild.toml", "images = [\"images/*\"]\n");
    let names = space.run(&["list", "--names"]).good().out;
    assert_eq!(names, "compile\ncompute\nlogin\n");
    let script = imgbuild().args(["completions", "bash"]).output().unwrap().stdout;
    let path = space.path().join("completion");
    std::fs::write(&path, script).unwrap();
    let complete = |words: &str| {
        let program = env!("CARGO_BIN_EXE_imgbuild");
        let line = format!(
            "set -- {words}\nsource {}\nCOMP_WORDS=({program} \"$@\")\nCOMP_CWORD=$#\n_imgbuild_images {program} \"${{@: -1}}\" x\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
            path.display()
        );
        let output = std::process::Command::new("bash").arg("-c").arg(line).current_dir(space.path()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(complete("plan comp"), "compile\ncompute\n");
    let text = complete("-C images/login show lo");
    assert!(text.contains("login\n"), "{text}");
    assert!(!complete("gc comp").contains("compute"), "no image there");
    for shell in ["zsh", "fish"] {
        let output = imgbuild().args(["completions", shell]).output().unwrap();
        let script = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(script.contains("list --names") && !script.contains("_users"), "{shell}");
    }
}

#[test]
fn a_new_recipe_names_its_schema_and_says_where_a_second_one_goes() {
    let space = Space::new();
    let ran = space.run(&["init", "compute"]).good();
    assert!(ran.err.contains("imgbuild init ./compute"), "{}", ran.err);
    let text = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    let schema = text.lines().next().unwrap().strip_prefix("#:schema ").unwrap().to_owned();
    let schema = std::fs::read_to_string(space.path().join(schema)).unwrap();
    assert_eq!(schema, space.run(&["schema", "image"]).good().out);
    let again = space.run(&["init", "login"]);
    assert!(again.code == 1 && again.err.contains("imgbuild init ./login"), "{}", again.err);
    let mut command = imgbuild();
    Ran::from(command.args(["init", "./login"]).current_dir(space.path()).output().unwrap()).good();
    assert!(space.path().join("login/image.toml").is_file());
    // One for all images of a workspace.
    let many = Space::new();
    many.write("imgbuild.toml", "images = [\"images/*\"]\n");
    many.run(&["init", "compute"]).good();
    let text = std::fs::read_to_string(many.path().join("images/compute/image.toml")).unwrap();
    assert!(text.starts_with("#:schema ../../.image.schema.json\n"), "{text}");
    assert!(many.path().join(".image.schema.json").is_file());
}

#[test]
fn nothing_built_is_said_plainly() {
    let space = Space::example("mini");
    assert!(space.run(&["list"]).good().out.contains("mini  not built"));
    let ran = space.run(&["boot"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("imgbuild build"), "{}", ran.err);
}

/// Runs a command whose standard output goes elsewhere.
fn run_to(space: &Space, arguments: &[&str], out: impl Into<Stdio>) -> Ran {
    let mut command = imgbuild();
    command.arg("-C").arg(space.path()).arg("--store").arg(space.store()).args(arguments);
    command.stdout(out).output().unwrap().into()
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let space = Space::example("mini");
    for arguments in [
        &["plan", "--json"][..],
        &["plan"],
        &["plan", "--detailed-exitcode"],
        &["list"],
        &["show", "."],
        &["show", ".", "--json"],
        &["graph"],
        &["convert", "-o", "-"],
        &["completions", "bash"],
        &["schema", "image"],
        &["check", "--json"],
        &["--help"],
        &["--version"],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let ran = run_to(&space, arguments, full);
        assert_eq!(ran.code, 3, "{arguments:?}: {}", ran.err);
        let told = "standard output cannot be written: No space left on device\n";
        assert!(ran.err.ends_with(told), "{arguments:?}: {}", ran.err);
    }
}

#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let space = Space::example("mini");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = run_to(&space, &["plan", "--json"], writer);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[test]
fn a_new_image_of_a_workspace_goes_where_its_patterns_look() {
    let space = Space::new();
    space.write("imgbuild.toml", "images = [\"images/*\"]\n");
    let init = |below: &str, name: &[&str]| {
        let mut command = imgbuild();
        command.arg("-C").arg(space.path().join(below)).arg("init").args(name);
        Ran::from(command.output().unwrap())
    };
    init("", &["compute"]).good();
    std::fs::create_dir_all(space.path().join("images")).unwrap();
    init("images", &["login"]).good();
    assert!(space.path().join("images/compute/image.toml").is_file());
    assert!(space.path().join("images/login/image.toml").is_file());
    assert!(!space.path().join("images/image.toml").exists());
    let nameless = init("images", &[]);
    assert!(nameless.code == 64 && nameless.err.contains("imgbuild init NAME"), "{}", nameless.err);
    // A directory of one's own below keeps its name.
    std::fs::create_dir_all(space.path().join("images/gpu")).unwrap();
    init("images/gpu", &[]).good();
    let listed = space.run(&["list"]).good().out;
    assert!(["compute", "gpu", "login"].iter().all(|name| listed.contains(name)), "{listed}");
}

#[test]
fn a_new_recipe_is_of_the_distribution_that_has_the_release() {
    for (format, file) in [("toml", "image.toml"), ("kdl", "image.kdl")] {
        let space = Space::new();
        space.run(&["init", "compute", "--release", "noble", "--format", format]).good();
        let text = std::fs::read_to_string(space.path().join(file)).unwrap();
        assert!(text.contains("linux-image-generic") && text.contains("ubuntu") && !text.contains("debian"), "{text}");
        space.run(&["check"]).good();
    }
}

#[test]
fn init_writes_where_one_expects_it_and_knows_releases_by_their_numbers() {
    let space = Space::new();
    space.write("README", "more than one image lives here\n");
    let ran = space.run(&["init", "compute", "--release", "24.04"]).good();
    assert!(ran.err.contains("in ") && ran.err.contains("next: cd "), "{}", ran.err);
    let text = std::fs::read_to_string(space.path().join("compute/image.toml")).unwrap();
    assert!(text.contains("distro = \"ubuntu\"\nrelease = \"noble\""), "{text}");
    assert!(!space.path().join("image.toml").exists());
    // A path says where; in its own directory it stays there.
    space.run(&["init", "images/gpu", "--release", "12"]).good();
    let text = std::fs::read_to_string(space.path().join("images/gpu/image.toml")).unwrap();
    assert!(text.contains("name = \"gpu\"") && text.contains("release = \"bookworm\""), "{text}");
    let own = space.path().join("login");
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("notes"), "").unwrap();
    let mut command = imgbuild();
    Ran::from(command.arg("-C").arg(&own).args(["init", "login"]).output().unwrap()).good();
    assert!(own.join("image.toml").is_file() && !own.join("login").exists());
    // What no build would take is refused before anything is written.
    let wrong = space.run(&["init", "other", "--distro", "ubuntu", "--release", "trixie"]);
    assert!(wrong.code == 64 && wrong.err.contains("is a release of Debian"), "{}", wrong.err);
    assert!(!space.path().join("other").exists());
}

#[test]
fn a_level_that_a_compressor_does_not_have_is_refused() {
    let space = Space::new();
    space.run(&["init", "compute"]).good();
    let text = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    let with = |pack: &str| {
        space.write("image.toml", &format!("{text}\n[pack]\n{pack}\n"));
        space.run(&["check"])
    };
    let ran = with("compress = \"gzip\"\nlevel = 12");
    assert_eq!(ran.code, 1, "{}", ran.err);
    let line = text.lines().count() + 4;
    assert!(ran.err.contains("gzip has no level 12: its highest is 9"), "{}", ran.err);
    assert!(ran.err.contains(&format!("image.toml:{line}:9")), "{}", ran.err);
    with("compress = \"gzip\"\nlevel = 9").good();
    with("level = 12").good();
}

#[test]
fn init_writes_a_recipe_of_each_distribution() {
    for (distro, release, repo) in [
        ("debian", "bookworm", "host"),
        ("ubuntu", "noble", "host"),
        ("rocky", "9", "distribution"),
        ("alma", "10", "distribution"),
        ("centos", "7", "distribution"),
        ("oracle", "8", "distribution"),
        ("fedora", "43", "distribution"),
        ("opensuse", "15.6", "distribution"),
        ("opensuse", "tumbleweed", "distribution"),
        ("rhel", "9", "host"),
        ("sles", "15.6", "host"),
    ] {
        for format in ["toml", "kdl"] {
            let space = Space::new();
            space.run(&["init", "c", "--distro", distro, "--release", release, "--format", format]).good();
            let text = std::fs::read_to_string(space.path().join(format!("image.{format}"))).unwrap();
            let source = if format == "kdl" { format!("source=\"{repo}\"") } else { format!("source = \"{repo}\"") };
            assert!(text.contains(&source), "{distro}: {text}");
            space.run(&["check"]).good();
        }
    }
    let space = Space::new();
    let newest = space.run(&["init", "c", "--distro", "rocky"]).good();
    assert!(newest.err.contains("wrote"), "{}", newest.err);
    assert!(std::fs::read_to_string(space.path().join("image.toml")).unwrap().contains("release = \"10\""));
    for (words, said) in [(["--distro", "slackware"], "one of debian"), (["--distro", "rhel"], "--release")] {
        let ran = Space::new().run(&[&["init", "c"], &words[..]].concat());
        assert!(ran.code != 0 && ran.err.contains(said), "{words:?}: {}", ran.err);
    }
}

#[test]
fn a_distribution_without_official_repositories_says_what_to_write() {
    let recipe = |distro: &str, release: &str, more: &str| {
        let space = Space::new();
        space.write(
            "image.toml",
            &format!("[image]\nname = \"x\"\ndistro = \"{distro}\"\nrelease = \"{release}\"\n[[repo]]\nsource = \"distribution\"\n{more}\n"),
        );
        let ran = space.run(&["check"]);
        ran.err.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
    };
    for (distro, release, more, said) in [
        ("rhel", "9", "", "source = \"host\" on a registered host"),
        ("sles", "15.6", "", "RMT"),
        ("opensuse", "15.4", "", "known releases: 15.6, 16.0, tumbleweed"),
        ("rocky", "9", "components = [\"+crbx\"]", "has no repository `crbx`"),
        ("debian", "bookworm", "", "`distribution` is for RPM distributions"),
        ("rocky", "9", "file = \"x.repo\"", "needs one of"),
    ] {
        let text = recipe(distro, release, more);
        assert!(text.contains(said), "{distro} {release}: {text}");
    }
}
