//! How a recipe is written moves no key.

use base::source::SourceFile;
use recipe::{Format, convert};
use serde_json::Value;

use super::{Keys, difference, keys_of, lock_of, read, recipe_document, write_files, write_toml};
use crate::support::{Space, imgbuild};

fn space() -> Space {
    let space = Space::new();
    write_files(&space);
    write_toml(&space, &recipe_document());
    space
}

fn keys(space: &Space) -> Keys {
    let recipe = read(space.path());
    keys_of(&recipe, &lock_of(&recipe))
}

fn text(space: &Space) -> String {
    std::fs::read_to_string(space.path().join("image.toml")).unwrap()
}

/// The same with all keys of all tables the other way round.
fn reversed(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().rev().map(|(key, value)| (key.clone(), reversed(value))).collect(),
        other => other.clone(),
    }
}

type Edit = fn(&Space);

#[test]
fn presentation_moves_no_key() {
    let wanted = keys(&space());
    let edits: &[(&str, Edit)] = &[
        ("comments and blank lines", |space| {
            let text = text(space).replace('\n', "\n\n# a comment\n");
            space.write("image.toml", &text);
            for list in ["a.pkglist", "a.exlist", "a.synclist"] {
                let old = std::fs::read_to_string(space.path().join(list)).unwrap();
                space.write(list, &format!("# a comment\n\n{old}"));
            }
        }),
        ("the order of keys and tables", |space| write_toml(space, &reversed(&recipe_document()))),
        ("white space", |space| {
            let text = text(space).replace(" = ", "   =\t").replace("[\"", "[\n    \"").replace("\"]", "\",\n]");
            space.write("image.toml", &text);
        }),
        ("quotes", |space| {
            let text = text(space).replace('"', "'");
            space.write("image.toml", &text);
        }),
        ("inline tables", |space| {
            let text: String = recipe_document()
                .as_object()
                .unwrap()
                .iter()
                .map(|(key, value)| format!("{key} = {}\n", toml::Value::try_from(value).unwrap()))
                .collect();
            space.write("image.toml", &text);
        }),
        ("KDL", |space| {
            let source = SourceFile::new("image.toml", "image.toml", text(space));
            space.write("image.kdl", &convert(&source, Format::Kdl).unwrap().text);
            std::fs::remove_file(space.path().join("image.toml")).unwrap();
        }),
        ("KDL, written otherwise", |space| {
            let source = SourceFile::new("image.toml", "image.toml", text(space));
            let kdl = convert(&source, Format::Kdl).unwrap().text;
            let kdl = kdl.replace("\"chrony\"", "#\"chrony\"#").replace("image name=\"node\"", "image node");
            space.write("image.kdl", &kdl.replace('\n', "\n/* a comment */ "));
            std::fs::remove_file(space.path().join("image.toml")).unwrap();
        }),
        ("a mirror's address", |space| {
            space.edit("image.toml", "https://one.example", "https://two.example");
        }),
        ("defaults that are written out", |space| {
            space.edit(
                "image.toml",
                "release = \"bookworm\"",
                "release = \"bookworm\"\ndistro = \"debian\"\narch = \"x86_64\"",
            );
            let more = "\n[pack]\narchive = \"cpio\"\ncompress = \"zstd\"\nlevel = 3\n\n[xcat]\nnode_support = false\n";
            space.write("image.toml", &(text(space) + more));
        }),
        ("an unused key of the workspace", |space| {
            space.write("image.toml", &(text(space) + "\n[workspace]\nallow = [\"/srv/site\"]\n"));
        }),
        ("times of files", |space| {
            for name in ["site/motd", "a.postinstall", "driver/Makefile", "image.toml"] {
                let file = std::fs::File::options().append(true).open(space.path().join(name)).unwrap();
                file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            }
        }),
        ("files that nothing names", |space| {
            space.write("README", "about this image\n");
        }),
    ];
    for (name, edit) in edits {
        let space = space();
        edit(&space);
        assert_eq!(difference(&wanted, &keys(&space)), Vec::<String>::new(), "{name}");
    }
}

/// Without a postinstall script, which is told the names of the lists (xCAT: IMG_PKGLIST).
#[test]
fn which_files_packages_are_listed_in_moves_no_key() {
    let space = || {
        let space = space();
        let mut document = recipe_document();
        document.as_object_mut().unwrap().remove("postinstall");
        write_toml(&space, &document);
        space
    };
    let wanted = keys(&space());
    let edits: &[(&str, Edit)] = &[
        ("a list in two files", |space| {
            space.write("a.pkglist", "systemd-sysv\n").write("rest.pkglist", "udev\n");
            space.edit("image.toml", "\"a.pkglist\"", "\"a.pkglist\", \"rest.pkglist\"");
        }),
        ("a list that includes another", |space| {
            space.write("a.pkglist", "systemd-sysv\n#INCLUDE:rest.pkglist#\n").write("rest.pkglist", "udev\n");
        }),
        ("the name of a list", |space| {
            space.write("moved/a.pkglist", "systemd-sysv\nudev\n");
            space.edit("image.toml", "\"a.pkglist\"", "\"moved/a.pkglist\"");
        }),
        ("packages in a list or in the recipe", |space| {
            space.write("a.pkglist", "systemd-sysv\nudev\nchrony\n");
            space.edit("image.toml", "install = [\"chrony\"]", "install = []");
        }),
    ];
    for (name, edit) in edits {
        let space = space();
        edit(&space);
        assert_eq!(difference(&wanted, &keys(&space)), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn keys_are_the_same_each_time_they_are_made() {
    let space = space();
    let wanted = keys(&space);
    // Each hash map has a seed of its own, and threads finish in any order.
    let all: Vec<Keys> = std::thread::scope(|scope| {
        let path = space.path();
        let runs: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(move || {
                    let recipe = read(path);
                    keys_of(&recipe, &lock_of(&recipe))
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert!(all.iter().all(|keys| *keys == wanted));
}

#[test]
fn keys_do_not_depend_on_where_and_how_imgbuild_runs() {
    let space = space();
    let recipe = read(space.path());
    space.write("image.lock", &lock_of(&recipe).to_text());
    let explain = |directory: &std::path::Path, jobs: &str, vars: &[(&str, &str)], umask: &str| {
        let program = imgbuild();
        let mut command = std::process::Command::new("sh");
        command.arg("-c").arg(format!("umask {umask}; exec \"$@\"")).arg("sh").arg(program.get_program());
        command.args(["-j", jobs, "--store"]).arg(space.store()).args(["-C"]).arg(space.path()).args(["explain", "-v"]);
        command.current_dir(directory).env("NO_COLOR", "1").envs(vars.iter().copied());
        let ran = command.output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    };
    let wanted = explain(space.path(), "1", &[], "022");
    assert!(wanted.contains("rootfs/tools") && wanted.contains("key "), "{wanted}");
    let root = std::path::Path::new("/");
    assert_eq!(
        explain(root, "8", &[("LC_ALL", "tr_TR.UTF-8"), ("LANG", "de_DE"), ("TZ", "Asia/Kolkata")], "077"),
        wanted
    );
    assert_eq!(explain(root, "2", &[("HOME", "/nonexistent"), ("USER", "x"), ("TMPDIR", "/var/tmp")], "000"), wanted);
    let planted = [("IMGBUILD_PLANTED", "none"), ("IMGBUILD_PLANTED_REACHED", "/nonexistent")];
    assert_eq!(explain(root, "2", &planted, "022"), wanted);
    // Another place of the same recipe.
    let elsewhere = Space::new();
    crate::support::copy_tree(space.path(), elsewhere.path());
    elsewhere.write("image.lock", &lock_of(&recipe).to_text());
    assert_eq!(elsewhere.run(&["explain", "-v"]).good().out, wanted);
}
