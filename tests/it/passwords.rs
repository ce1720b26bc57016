//! Passwords and tokens: no command prints one, and none stands in what it writes, but in the recipe itself and in files that are made of it.

use std::path::Path;

use crate::support::Space;

const SECRET: &str = "S3CRETPW";

/// A recipe with a secret in each place where one may stand.
fn recipe() -> String {
    format!(
        "[image]\nname = \"node\"\ndistro = \"debian\"\nrelease = \"bookworm\"\n\n[packages]\ninstall = [\"bash\"]\n\n\
         [boot]\ncmdline = [\"site.token={SECRET}\"]\n\n[[repo]]\nuri = \"http://bob:{SECRET}@127.0.0.1:9/debian\"\n\
         suites = [\"bookworm\"]\ncomponents = [\"main\"]\n"
    )
}

fn commands(url: &str) -> Vec<Vec<String>> {
    let of = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut all: Vec<Vec<String>> = [
        "check",
        "check --json",
        "plan",
        "plan -v",
        "plan --json",
        "plan --format markdown",
        "plan --format gitlab",
        "show",
        "show --json",
        "show repo",
        "show repo --json",
        "show boot.cmdline",
        "show --effective",
        "explain",
        "explain --json",
        "list",
        "list --json",
        "log",
        "log --json",
        "update",
        "build",
        "build --progress json",
        "vendor vendored",
        "graph",
        "size",
        "diff node node@previous",
        "boot",
        "gc",
        "gc --json",
        "store verify",
        "store save",
        "shell -- true",
        "set boot.cmdline+=x=1",
        "set repo=1",
        "set image.nonsense=1",
        "copy node other",
    ]
    .map(of)
    .into();
    for command in ["delta", "fetch"] {
        all.push(vec![
            command.to_owned(),
            url.to_owned(),
            if command == "delta" { url.to_owned() } else { "copy".to_owned() },
        ]);
    }
    all
}

/// Files below a folder that hold the secret.
fn written(folder: &Path) -> Vec<String> {
    let walk = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().flatten();
    walk.filter(|entry| entry.file_type().is_file())
        .filter(|entry| {
            let bytes = std::fs::read(entry.path()).unwrap_or_default();
            bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
        })
        .map(|entry| entry.path().strip_prefix(folder).unwrap().display().to_string())
        .collect()
}

#[test]
fn no_command_shows_or_keeps_a_password() {
    let url = format!("http://bob:{SECRET}@127.0.0.1:9/image");
    // As it is; with an unknown key, whose message shows lines around it; with a line that cannot be read, in either format.
    let good = recipe();
    let unknown = good.replace("suites =", "suite =");
    let broken = good.replace("components =", "components = [\ncomponents =");
    let kdl = format!(
        "image {{\n    name \"node\"\n    distro \"debian\"\n    release \"bookworm\"\n}}\nrepo {{\n    uri \"http://bob:{SECRET}@127.0.0.1:9/debian\"\n    suite \"x\"\n    password \"{SECRET}\"\n}}\n"
    );
    for (name, text) in [("image.toml", &good), ("image.toml", &unknown), ("image.toml", &broken), ("image.kdl", &kdl)]
    {
        let space = Space::new();
        for command in commands(&url) {
            // What asks the network and waits does so once.
            let waits = ["update", "build", "vendor", "delta", "fetch"].contains(&command[0].as_str());
            if waits && text != &good {
                continue;
            }
            space.write(name, text);
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            let ran = space.run(&words);
            for said in [&ran.out, &ran.err] {
                assert!(!said.contains(SECRET), "{words:?} of {name}: {said}");
            }
            let kept: Vec<String> =
                written(space.path()).into_iter().filter(|path| path != name && !path.starts_with("other/")).collect();
            assert!(kept.is_empty(), "{words:?} wrote {kept:?}");
        }
    }
}

#[test]
fn what_is_made_of_a_recipe_still_works() {
    let space = Space::new();
    space.write("image.toml", &recipe());
    // The other format of the recipe has what the recipe has.
    space.run(&["convert"]).good();
    let text = std::fs::read_to_string(space.path().join("image.kdl")).unwrap();
    assert!(text.contains(&format!("bob:{SECRET}@")), "{text}");
}
