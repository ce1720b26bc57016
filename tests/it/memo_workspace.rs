//! Plans of several images say the same with and without what earlier plans remembered.

use crate::support::{Ran, Space, imgbuild};

fn workspace() -> Space {
    let space = Space::new();
    space.write("imgbuild.toml", "images = [\"images/*\"]\n");
    let recipe = |name: &str| {
        format!(
            "extends = \"../../common.toml\"\n\n[image]\nname = \"{name}\"\n\n[packages]\nlists = [\"own.pkglist\"]\n"
        )
    };
    space.write("common.toml", "[image]\nrelease = \"bookworm\"\n\n[kernel]\npackage = \"linux-image-amd64\"\n");
    for name in ["compute", "login", "service"] {
        space.write(&format!("images/{name}/image.toml"), &recipe(name));
        space.write(&format!("images/{name}/own.pkglist"), "htop\n");
    }
    space.write(
        "images/login/image.toml",
        &format!("{}\n[variant.big]\npackages.install = [\"tmux\"]\n\n[variant.small]\n", recipe("login")),
    );
    // A store that is there; nothing was built.
    std::fs::create_dir_all(space.store().join("v1")).unwrap();
    space
}

fn plan(space: &Space, below: &str, arguments: &[&str]) -> Ran {
    let mut command = imgbuild();
    command.arg("-C").arg(space.path().join(below)).arg("--store").arg(space.store()).arg("plan").args(arguments);
    command.output().unwrap().into()
}

#[track_caller]
fn same(space: &Space, what: &str) {
    for below in ["", "images/login"] {
        for arguments in [&["--json"][..], &["-v"], &[], &["--json", "log*"], &["compute", "service"], &["nobody"]] {
            let anew = plan(space, below, &[arguments, &["--no-memo"]].concat());
            for time in ["first", "second"] {
                let told = plan(space, below, arguments);
                assert_eq!(
                    (told.code, &told.out, &told.err),
                    (anew.code, &anew.out, &anew.err),
                    "{what}: {below} {arguments:?}, {time} time"
                );
            }
        }
    }
}

#[test]
fn plans_of_a_workspace_are_the_same_from_memos_whatever_is_edited() {
    let space = workspace();
    same(&space, "as it is");
    let memos = walkdir::WalkDir::new(space.store().join("v1/memos")).into_iter().flatten();
    assert_eq!(
        memos.filter(|entry| entry.file_type().is_file()).count(),
        2 * 3,
        "one for each directory with a recipe, and its texts"
    );
    space.write("images/compute/own.pkglist", "htop\nlsof\n");
    same(&space, "a list");
    space.edit("common.toml", "bookworm", "trixie");
    same(&space, "what all inherit");
    space.edit("images/login/image.toml", "[variant.small]", "[variant.tiny]");
    same(&space, "another variant");
    space.write("images/service/own.pkglist", "htop\nhtop@\n");
    same(&space, "a list with something to say of it");
    space.edit("images/service/image.toml", "\"service\"", "\"compute\"");
    same(&space, "two images of one name");
    space.edit("images/service/image.toml", "\"compute\"", "\"service\"");
    space.edit("images/service/image.toml", "[packages]", "[package]");
    same(&space, "an error");
    space.edit("images/service/image.toml", "[package]", "[packages]");
    space.write("imgbuild.toml", "images = [\"images/*\", \"!images/service\"]\n");
    same(&space, "a recipe that is not an image");
    std::fs::remove_dir_all(space.path().join("images/compute")).unwrap();
    same(&space, "a directory gone");
}
