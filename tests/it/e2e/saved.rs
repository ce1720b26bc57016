//! A store carried in one file: to another user, with another range of ids, and corrupt on the way.

use std::process::Command;

use super::offline::{SAME, build, fresh, run_through, warm};
use super::same_bytes::Ordinary;
use crate::support::Ran;

#[test]
fn a_saved_store_gives_another_user_what_was_built() {
    let space = warm();
    build(&space).good();
    let file = space.path().join("store.tar");
    let saved = |ran: Ran| ran.good().err;
    let text = saved(space.run(&["store", "save", file.to_str().unwrap()]));
    assert!(text.contains("saved 1 builds"), "{text}");
    let listed = Command::new("tar").arg("-tf").arg(&file).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.starts_with("about.json\n") && listed.contains("\nlayers.zst\nactions/"), "{listed}");
    // Again it is the same, byte for byte.
    let again = space.path().join("again.tar");
    saved(space.run(&["store", "save", again.to_str().unwrap()]));
    assert!(std::fs::read(&file).unwrap() == std::fs::read(&again).unwrap());
    let small = space.path().join("small.tar");
    saved(space.run(&["store", "save", "--without-packages", small.to_str().unwrap()]));
    let sizes = [&small, &file].map(|path| std::fs::metadata(path).unwrap().len());
    assert!(sizes[0] < sizes[1], "{sizes:?}");

    let user = Ordinary::new("imgbuild-u5", Some(500_000_000));
    let recipe = user.copy(&fresh());
    let carried = user.home.join("store.tar");
    // With its mode; the home may be another file system.
    std::fs::copy(&small, &carried).unwrap();
    // Images hold password hashes: nobody else may read the file.
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&carried).unwrap()) & 0o777;
    assert_eq!(mode, 0o600);
    assert!(Command::new("chown").arg(&user.name).arg(&carried).status().unwrap().success());
    let ran = user.run(&[], &recipe, &["store", "load", carried.to_str().unwrap()]).good();
    assert!(ran.err.contains("loaded 1 builds") && !ran.err.contains(" 0 layers"), "{}", ran.err);
    // No network: nothing is built, only published.
    let ran = user.run(&["unshare", "-rn"], &recipe, &["plan", "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&ran.good().out).unwrap();
    for stage in plan["images"][0]["stages"].as_array().unwrap() {
        assert_eq!(stage["action"], "keep", "{stage}");
    }
    let ran = user.run(&[], &recipe, &["build", "--locked"]).good();
    assert!(ran.err.contains("ran nothing"), "{}", ran.err);
    let same = |image: &str| {
        for name in SAME {
            let theirs = std::fs::read(recipe.join("out").join(image).join(name)).unwrap();
            assert!(theirs == std::fs::read(space.artefact(image, name)).unwrap(), "{name} differs");
        }
    };
    same("tiny");
    let ran = user.run(&[], &recipe, &["plan", "--thorough", "--detailed-exitcode"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    // What is built on loaded layers is what is built on the first ones: directories that a layer only passes through too.
    for directory in [&recipe, space.path()] {
        let script = directory.join("tiny.postinstall");
        let text = std::fs::read_to_string(&script).unwrap();
        let more = "\ncd \"$IMG_ROOTIMGDIR\"\nseen=$(stat -c '%n %a %u %g %Y' boot usr/share/* var/*/* boot/*)\n\
                    printf '%s\\n' \"$seen\" >etc/seen\n";
        std::fs::write(script, text + more).unwrap();
    }
    space.run(&["build", "--locked"]).good();
    user.run(&[], &recipe, &["build", "--locked"]).good();
    same("tiny");
}

#[test]
fn a_corrupt_or_foreign_file_is_refused_and_nothing_of_it_is_believed() {
    let space = fresh();
    build(&space).good();
    let file = space.path().join("store.tar");
    space.run(&["store", "save", "--without-packages", file.to_str().unwrap()]).good();
    let good = std::fs::read(&file).unwrap();
    let other = fresh();
    let load = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let ran = other.run(&["store", "load", file.to_str().unwrap()]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        let actions = std::fs::read_dir(other.store().join("v1/actions")).unwrap().count();
        assert_eq!(actions, 0, "{}", ran.err);
        // Paths are folded where they are too long for a line.
        ran.err.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
    };
    assert!(load(b"no archive").contains("store save"));
    assert!(load(b"").contains("is empty"));
    // Members start at multiples of 512 bytes, a header before each.
    let at =
        |name: &str| (0..good.len()).step_by(512).find(|at| good[*at..].starts_with(name.as_bytes())).unwrap() + 512;
    let (blob, layers, actions) = (at("blobs/"), at("layers.zst"), at("actions/"));
    for (place, said) in
        [(blob + 1000, "does not match the digest in its name"), (layers + (actions - layers) / 2, "damaged")]
    {
        let mut bytes = good.clone();
        bytes[place] ^= 0x20;
        let text = load(&bytes);
        assert!(text.contains(said), "{text}");
    }
    let text = load(&good[..layers + 4096]);
    assert!(text.contains("cannot be read") || text.contains("truncated"), "{text}");
    let newer = String::from_utf8_lossy(&good[..2048]).replace("\"format\":1", "\"format\":9").into_bytes();
    assert!(load(&newer).contains("format 9"));
    // The whole file is taken, and a second time nothing is new.
    std::fs::write(&file, &good).unwrap();
    other.run(&["store", "load", file.to_str().unwrap()]).good();
    let ran = other.run(&["store", "load", file.to_str().unwrap()]).good();
    assert!(ran.err.contains("0 actions, 0 layers, 0 frames"), "{}", ran.err);
    let ran = run_through(&["unshare", "-n"], &other, &["build", "--locked"]).good();
    assert!(ran.err.contains("ran nothing"), "{}", ran.err);
}
