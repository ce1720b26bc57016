//! The exit codes that docs/commands.md lists. 4 and the signals of builds are in `e2e::build_failures` and `e2e::faults`, signals of
//! other commands in `ended`, failed nodes in `nodes`.

use std::process::{Command, Stdio};

use crate::support::{Ran, Space, cluster, imgbuild};

#[test]
fn each_code_is_what_a_command_ends_with() {
    let space = cluster::cluster();
    let code = |words: &[&str]| space.run(words).code;
    assert_eq!(code(&["check"]), 0);
    assert_eq!(code(&["plan"]), 0);
    assert_eq!(code(&["plan", "--detailed-exitcode"]), 2);
    for words in [
        &["size", "no-such-image"][..],
        &["size", "./nothing"],
        &["diff", "./nothing", "./nothing"],
        &["capture", "./nothing", "--into", "new"],
        &["import", "xcat", "nothing", "--into", "new"],
        &["import", "bundle", "nothing", "--into", "new"],
        &["import", "media", "nothing", "--into", "new"],
        &["store", "load", "nothing"],
        &["shell", "./nothing", "--", "/bin/true"],
        &["shell", "./", "--", "/bin/true"],
        &["shell", "./image.toml", "--", "/bin/true"],
        &["show", "no.such.value"],
        &["set", "compute", "no.such.value=1"],
        &["log", "no-such-image"],
    ] {
        assert_eq!(code(words), 1, "{words:?}: {}", space.run(words).err);
    }
    for words in [&["--nonsense"][..], &["nonsense"], &["plan", "--against", ""], &["build", "--until", "nonsense"]] {
        assert_eq!(code(words), 64, "{words:?}");
    }
    // The standard output is full, and it is closed by who had enough.
    for (words, to) in [(&["list", "--json"], "/dev/full"), (&["schema", "image"], "/dev/full")] {
        let full = std::fs::File::options().write(true).open(to).unwrap();
        let status = imgbuild().arg("-C").arg(space.path()).args(words).stdout(full).stderr(Stdio::null()).status();
        assert_eq!(status.unwrap().code(), Some(3), "{words:?}");
    }
    let line = format!("\"{}\" schema image | true; exit ${{PIPESTATUS[0]}}", imgbuild().get_program().display());
    let status = Command::new("bash").args(["-c", &line]).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
#[cfg(feature = "e2e")]
fn damaged_stores_end_with_5_and_damaged_files_with_1() {
    let space = Space::new();
    space.run(&["gc"]).good();
    // A file whose name is not its digest.
    let name = "0".repeat(64);
    space.write(&format!(".store/v1/blobs/00/{name}"), "something else");
    assert_eq!(space.run(&["store", "verify"]).code, 5);
    // Archives that end too early, or are damaged in the middle.
    for name in NAMES {
        space.write(&format!("tree/{name}"), &name.repeat(3000));
    }
    let archive = space.path().join("a.tar.zst");
    let mut packed = Command::new("tar");
    packed.arg("--zstd").arg("-cf").arg(&archive).arg("-C").arg(space.path().join("tree"));
    assert!(packed.arg(".").status().unwrap().success());
    let bytes = std::fs::read(&archive).unwrap();
    let mut wrong = bytes.clone();
    let middle = wrong.len() / 2;
    wrong[middle..middle + 20].fill(0xff);
    for (name, bytes) in [("short", &bytes[..bytes.len() / 2]), ("damaged", &wrong), ("empty", &[]), ("text", b"text")]
    {
        let path = space.path().join(format!("{name}.tar.zst"));
        std::fs::write(&path, bytes).unwrap();
        let path = path.to_str().unwrap();
        for words in [&["shell", path, "--", "/bin/true"][..], &["size", path], &["diff", path, path]] {
            let ran: Ran = space.run(words);
            assert_eq!(ran.code, 1, "{words:?}: {}", ran.err);
        }
    }
}

#[cfg(feature = "e2e")]
const NAMES: [&str; 3] = ["one", "two", "three"];
