//! Mistakes that were made on purpose: each answer has the line, the near word and the remedy.

use crate::support::{Space, imgbuild};

const START: &str = "[image]\nname = \"a\"\nrelease = \"bookworm\"\n";

#[test]
fn each_mistake_in_a_recipe_has_its_line_and_its_remedy() {
    for (text, said) in [
        (
            "[image]\nname = \"a\"\ndistro = \"centos\"\nrelease = \"bookworm\"\n[[repo]]\nuri = \"http://m/$releasever\"\n".to_owned(),
            &["image.toml:4:11", "`bookworm` is a release of Debian", "distro = \"debian\""][..],
        ),
        (
            format!("{START}[kernel]\npackage = \"linux-image-amd64\"\ndrivers = [\"mlx5_core\"]\n"),
            &["image.toml:6:11", "replaces the default list of", "drivers = [\"+mlx5_core\"]"],
        ),
        (
            format!("{START}[system]\nhostname = \"x\"\n[boot]\n[system]\ntimezone = \"UTC\"\n"),
            &["image.toml:7:2", "duplicate key", "[system] begins on line 4 already: put both together there"],
        ),
        (
            format!("{START}[system]\nhostname = \"x\"\nhostname = \"y\"\n"),
            &["image.toml:6:1", "duplicate key", "`hostname` is set on line 5 already"],
        ),
        (
            format!("{START}[packages]\ninstall = [vim, htop]\n"),
            &["image.toml:5:12", "must be quoted", "write \"vim\"", "write \"htop\""],
        ),
        (
            format!("{START}[system]\nauthorized_keys = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 x@y\"]\n"),
            &["image.toml:5:20", "a key itself", "write it to a file next to the recipe, for instance keys/admin.pub"],
        ),
        (
            format!("{START}[users.x]\nuid = 1000\ngroups = [\"wheel\"]\n"),
            &["image.toml:6:1", "`groups` is not a key", "usermod -R \"$1\" -aG GROUP USER"],
        ),
        (
            format!("{START}[users.x]\nuid = 1000\nauthorized_keys = [\"k\"]\n"),
            &["image.toml:6:1", "`authorized_keys` is not a key", "keys/x.pub -> /home/x/.ssh/authorized_keys"],
        ),
    ] {
        let space = Space::new();
        space.write("image.toml", &text);
        let ran = space.run(&["check", "-v"]);
        assert!(said.iter().all(|said| ran.err.contains(said) || ran.out.contains(said)), "{text}\n{}\n{}", ran.err, ran.out);
    }
}

#[test]
fn a_flat_archive_that_no_one_signed_says_what_to_write() {
    let space = Space::new();
    space.write("a/Packages", "");
    let check = |suites: &str| {
        let repo = format!("[[repo]]\nuri = \"file:{}\"\n{suites}\n", space.path().join("a").display());
        space.write("image.toml", &format!("{START}{repo}"));
        space.run(&["check"])
    };
    let ran = check("suites = [\"./\"]");
    let is_told = ran.err.contains("no one signed it") && ran.err.contains("[[repo]] trusted = true");
    assert!(ran.code == 1 && is_told && !ran.err.contains("check `release`"), "{}", ran.err);
    let ran = check("suites = [\"bookworm\"]\ncomponents = [\"main\"]");
    assert!(ran.code == 1 && ran.err.contains("suites = [\"./\"], trusted = true"), "{}", ran.err);
    // Where there is no index, either, nothing is to be trusted.
    std::fs::remove_file(space.path().join("a/Packages")).unwrap();
    let ran = check("suites = [\"./\"]");
    assert!(ran.code == 1 && !ran.err.contains("trusted"), "{}", ran.err);
}

#[test]
fn each_mistake_on_the_command_line_has_its_remedy() {
    let space = Space::new();
    space.write("c/image.toml", START);
    for (words, said) in [
        (&["clean"][..], "'gc'"),
        (&["test"], "'check'"),
        (&["validate"], "'check'"),
        (&["chek"], "'check'"),
        (&[], "imgbuild help        all commands"),
        (&["-C", "c/image.toml", "check"], "-C c"),
        (&["build", "c"], "name it with `-C c`"),
        (&["show"], "Usage: imgbuild show <IMAGE> [PATH]"),
        (&["diff"], "Usage: imgbuild diff <A> [B]"),
    ] {
        let ran =
            imgbuild().args(words).current_dir(space.path()).env("IMGBUILD_STORE", space.store()).output().unwrap();
        let err = String::from_utf8(ran.stderr).unwrap();
        assert!(!ran.status.success() && err.contains(said) && err.lines().count() < 16, "{words:?}: {err}");
    }
}
