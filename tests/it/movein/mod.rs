//! `import kiwi`, `openchami`, `warewulf`, `confluent`: inputs after the shapes of public ones, and hostile ones.

mod confluent;
mod kiwi;
mod openchami;
mod public;
mod warewulf;
mod whole;

use serde_json::Value;

use crate::support::{Ran, Space, imgbuild};

/// Imports, and fails the test unless `imgbuild check` finds no error in what was written.
#[track_caller]
fn imported(space: &Space, arguments: &[&str]) -> Value {
    let ran = space.run(&[arguments, &["--into", "new", "--json"]].concat()).good();
    let is_good = ran.err.contains("imgbuild check finds no error");
    assert!(is_good, "{}\n{}\n{}", ran.err, recipes(space), inside(space, &["check"]).err);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    crate::schemas::assert_valid("movein", &report);
    inside(space, &["check"]).good();
    report
}

/// Runs the program in the workspace that was written.
fn inside(space: &Space, arguments: &[&str]) -> Ran {
    imgbuild().arg("-C").arg(space.path().join("new")).args(arguments).output().unwrap().into()
}

/// A file of an image.
#[track_caller]
fn text(space: &Space, image: &str, name: &str) -> String {
    let path = space.path().join("new/images").join(image).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All recipes, for messages.
fn recipes(space: &Space) -> String {
    let walk = walkdir::WalkDir::new(space.path().join("new")).into_iter().flatten();
    let all = walk.filter(|entry| entry.file_name() == "image.toml");
    all.map(|entry| std::fs::read_to_string(entry.path()).unwrap()).collect::<Vec<_>>().join("\n---\n")
}

/// Everything that was written, in one text.
fn all_files(space: &Space) -> String {
    let walk = walkdir::WalkDir::new(space.path().join("new")).into_iter().flatten();
    let files = walk.filter(|entry| entry.file_type().is_file());
    files.map(|entry| String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into_owned()).collect()
}

/// The rows of the first image whose key begins so: verdict, line, reason.
fn rows<'a>(report: &'a Value, key: &str) -> Vec<(&'a str, u64, &'a str)> {
    let keys = report["images"][0]["keys"].as_array().unwrap();
    let of_key = keys.iter().filter(|row| row["key"].as_str().unwrap().starts_with(key));
    of_key
        .map(|row| {
            (
                row["verdict"].as_str().unwrap(),
                row["line"].as_u64().unwrap(),
                row["reason"].as_str().unwrap_or_default(),
            )
        })
        .collect()
}

/// Rows of a verdict that say a word.
#[track_caller]
fn assert_row(report: &Value, key: &str, verdict: &str, word: &str) {
    let found = rows(report, key);
    assert!(found.iter().any(|row| row.0 == verdict && row.2.contains(word)), "{key} {verdict} {word}: {found:#?}");
}

/// Whether the report names something, in a key or a value.
fn names(report: &Value, word: &str) -> bool {
    let rows = report["images"].as_array().unwrap().iter().flat_map(|image| image["keys"].as_array().unwrap());
    rows.into_iter()
        .any(|row| [&row["key"], &row["value"], &row["file"]].iter().any(|text| text.as_str().unwrap().contains(word)))
}

#[test]
fn what_exists_is_kept_and_a_dry_run_writes_nothing() {
    let space = Space::new();
    space.write("config.xml", kiwi::DEBIAN);
    let arguments = ["import", "kiwi", "config.xml", "--into", "new"];
    let ran = space.run(&[&arguments[..], &["--dry-run"]].concat()).good();
    assert!(ran.out.contains("would write images/appliance/image.toml"), "{}", ran.out);
    assert!(!space.path().join("new").exists());
    space.run(&arguments).good();
    std::fs::write(space.path().join("new/images/appliance/image.toml"), "# mine\n").unwrap();
    let ran = space.run(&arguments);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(
        ran.out.contains("already exists, and is kept") && ran.err.contains("no recipe was made"),
        "{}{}",
        ran.out,
        ran.err
    );
    assert_eq!(text(&space, "appliance", "image.toml"), "# mine\n");
    let ran = space.run(&[&arguments[..], &["--name", "other"]].concat()).good();
    assert!(ran.out.contains("other: wrote images/other/image.toml"), "{}", ran.out);
    // A workspace of its own keeps its file.
    let own = Space::new();
    own.write("config.xml", kiwi::DEBIAN).write("new/imgbuild.toml", "# mine\nimages = [\"images/*\"]\n");
    own.run(&arguments).good();
    assert!(std::fs::read_to_string(own.path().join("new/imgbuild.toml")).unwrap().starts_with("# mine\n"));
}

#[test]
fn input_that_is_wrong_is_an_error_with_its_line() {
    let space = Space::new();
    space
        .write("a.xml", "<image name=\"a\">\n<oops>\n</image>\n")
        .write("b.xml", "<html/>")
        .write("c.yaml", "options:\n  name: [\n");
    space
        .write("d.yaml", "x: 1\n")
        .write("e.yaml", "options:\n  name: e\n  parent: scratch\npackages: [vim]\n")
        .write("Containerfile", "RUN x\n");
    for (arguments, words) in [
        (&["kiwi", "a.xml"][..], "a.xml:3"),
        (&["kiwi", "b.xml"], "`html`, not `image`"),
        (&["openchami", "c.yaml"], "c.yaml:"),
        (&["openchami", "d.yaml"], "neither `options` nor `meta`"),
        (&["openchami", "e.yaml"], "--distro NAME --release RELEASE"),
        (&["warewulf", "Containerfile"], "it has no FROM"),
        (&["confluent", "d.yaml"], "not a directory"),
        (&["kiwi", "none.xml"], "none.xml"),
    ] {
        let ran = space.run(&[&["import"], arguments, &["--into", "new"]].concat());
        assert_eq!(ran.code, 1, "{arguments:?}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains(words), "{arguments:?}: {}", ran.err);
    }
    assert!(!space.path().join("new").exists());
    space.run(&["import", "openchami", "e.yaml", "--into", "new", "--distro", "debian", "--release", "12"]).good();
    assert!(text(&space, "e", "image.toml").contains("release = \"bookworm\""));
}

#[test]
fn hostile_inputs_get_nothing_of_this_host_and_write_nothing_outside() {
    let space = Space::new();
    space.write("secret", "made-up secret of this host\n");
    space.write("in/config.xml", "<image name=\"../../out\"><packages type=\"image\"><file name=\"../secret\" target=\"/x\"/><file name=\"/etc/passwd\" target=\"/y\"/>\
        <file name=\"link\" target=\"/z\"/><package name=\"a&#10;[image]\"/></packages><repository type=\"apt-deb\" distribution=\"bookworm\"><source path=\"http://x.example/a&quot;b\"/></repository></image>");
    std::os::unix::fs::symlink("../secret", space.path().join("in/link")).unwrap();
    let report = imported(&space, &["import", "kiwi", "in"]);
    let written = all_files(&space);
    assert!(!written.contains("made-up secret") && !written.contains("root:x:0"), "{written}");
    assert!(!space.path().join("out").exists());
    // Parts of a key have its verdict, and no reason of their own.
    let is_whole = |row: &&(&str, u64, &str)| row.0 == "decide" && !row.2.is_empty();
    assert_eq!(rows(&report, "packages/file").iter().filter(is_whole).count(), 3, "{report:#}");
    assert_row(&report, "packages/package", "decide", "not a valid name");
    // The words of an input cannot end a comment of the recipe, or a quoted word of a script.
    let space = Space::new();
    space.write("a.yaml", "options:\n  name: \"a\\nb\"\n  parent: registry.example/rocky:9\n  \"k\\nrelease = \\\"8\\\"\": 1\npackages: [vim]\ncmds:\n  - cmd: \"touch '/x'; echo \\\"$(id)\\\"\"\n");
    let report = imported(&space, &["import", "openchami", "a.yaml"]);
    let recipe: toml::Table = text(&space, "a-b", "image.toml").parse().unwrap();
    assert_eq!(recipe["image"]["release"].as_str(), Some("9"));
    let script = space.path().join("new/images/a-b/a-b.d/run.sh");
    let checked = std::process::Command::new("bash").arg("-n").arg(&script).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    assert!(names(&report, "release = "));
}

/// Whatever key of an input gets a name that the other tool does not have, the report has it: nothing is lost in silence.
#[track_caller]
fn assert_unknown_is_named(
    space: &Space,
    file: &str,
    arguments: &[&str],
    text: &str,
    keys: impl Iterator<Item = std::ops::Range<usize>>,
) {
    let mut count = 0;
    for range in keys {
        let changed = format!("{}xunknown{}", &text[..range.start], &text[range.end..]);
        space.write(file, &changed);
        let ran = space.run(&[arguments, &["--into", "new", "--dry-run", "--json"]].concat());
        count += 1;
        if ran.code != 0 {
            // What it needs is missing then, and named.
            assert!(ran.err.contains("help:") || ran.err.contains("xunknown"), "{changed}\n{}", ran.err);
            continue;
        }
        let report: Value = serde_json::from_str(&ran.out).unwrap();
        assert!(names(&report, "xunknown"), "{changed}\n{report:#}");
    }
    assert!(count > 10, "{count}");
}

/// The keys of YAML: words before a colon.
fn yaml_keys(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let begin = line.len() - line.trim_start_matches([' ', '-']).len();
        let word = line[begin..].find(':').map(|end| begin..begin + end);
        let is_key = |range: &std::ops::Range<usize>| {
            !range.is_empty() && line[range.clone()].chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        };
        // Its value ends the line, or a space follows.
        found.extend(
            word.filter(|range| is_key(range) && line[range.end + 1..].starts_with([' ', '\n']))
                .map(|range| start + range.start..start + range.end),
        );
        start += line.len();
    }
    found
}

#[test]
fn what_is_written_is_written_whole_or_not_at_all() {
    let space = Space::new();
    space
        .write("kiwi/config.xml", kiwi::DEBIAN)
        .write("layer.yaml", openchami::BASE)
        .write("ctx/Containerfile", "FROM docker.io/library/rockylinux:9\nRUN dnf install -y vim\n")
        .write("el9/profile.yaml", "label: Rocky Linux 9.4 (Blue Onyx) (Diskless Boot)\nkernelargs: quiet\n")
        .write("el9/pkglist", "chrony\n");
    for (tool, path) in
        [("kiwi", "./kiwi/config.xml"), ("openchami", "./layer.yaml"), ("warewulf", "./ctx"), ("confluent", "./el9")]
    {
        whole::nothing_or_all(&space, &[tool, path, "--name", tool]);
    }
}
