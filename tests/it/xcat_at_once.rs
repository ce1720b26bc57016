//! `chdef` that is killed half way, and several at one time: the same command again gives what one run gives, and no edit is lost.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::Space;
use crate::xcat_defs::{COMPUTE, site, typed};

/// Words that change the recipe, its comments, and the definition next to it.
const WORDS: [&str; 6] = [
    "pkglist=/install/custom/outer.pkglist",
    "exlist=/install/custom/more.exlist",
    "addkcmdline=quiet console=ttyS1,115200",
    "postinstall=/install/custom/netboot/debian/compute.postinstall other",
    "groups=batch,gpu",
    "description=Another text",
];

fn workspace() -> Space {
    let space = site(&[]);
    space
        .write("install/custom/more/inner.pkglist", "vim-tiny\n")
        .write("install/custom/outer.pkglist", "#INCLUDE:more/inner.pkglist#\n")
        .write("install/custom/more.exlist", "./usr/share/doc*\n");
    space
}

/// Files of the image, by name.
fn files(space: &Space) -> Vec<(String, String)> {
    let directory = space.path().join("new/images").join(COMPUTE);
    let mut all: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .flatten()
        .map(|one| (one.file_name().into_string().unwrap(), std::fs::read_to_string(one.path()).unwrap_or_default()))
        .collect();
    all.sort();
    all
}

fn restore(space: &Space, start: &[(String, String)]) {
    let directory = space.path().join("new/images").join(COMPUTE);
    for (name, _) in files(space) {
        let _ = std::fs::remove_file(directory.join(name));
    }
    for (name, text) in start {
        std::fs::write(directory.join(name), text).unwrap();
    }
}

fn started(space: &Space, place: Option<&str>) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgbuild"));
    command.arg0(space.path().join("bin/chdef")).args(["-t", "osimage", "-o", COMPUTE]).args(WORDS);
    command.current_dir(space.path()).env("IMGBUILD_STORE", space.store()).env_remove("IMGBUILD_WORKSPACE");
    if let Some(place) = place {
        command.env("IMGBUILD_FAULT", place).env("IMGBUILD_FAULT_FILE", space.path().join("reached"));
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn again(space: &Space) {
    let words: Vec<String> = WORDS.iter().map(|word| format!("'{word}'")).collect();
    typed(space, &format!("chdef -t osimage -o {COMPUTE} {}", words.join(" ")), "", false).good();
}

#[test]
fn a_killed_chdef_is_repeated_whole() {
    let space = workspace();
    let start = files(&space);
    let began = Instant::now();
    again(&space);
    let took = began.elapsed();
    let expected = files(&space);
    assert_ne!(expected, start);
    let reached = space.path().join("reached");
    for place in ["import.writing", "chdef.comments", "chdef.set", "chdef.kept"] {
        restore(&space, &start);
        let mut child = started(&space, Some(place));
        while !reached.exists() {
            assert!(child.try_wait().unwrap().is_none(), "{place} was not reached");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_file(&reached).unwrap();
        again(&space);
        assert_eq!(files(&space), expected, "{place}");
    }
    for number in 0..10 {
        restore(&space, &start);
        let mut child = started(&space, None);
        std::thread::sleep(took * number / 10);
        child.kill().unwrap();
        child.wait().unwrap();
        again(&space);
        assert_eq!(files(&space), expected, "{number} of {took:?}");
    }
}

#[test]
fn what_several_chdefs_change_at_one_time_is_all_changed() {
    let space = workspace();
    let start = files(&space);
    again(&space);
    let expected = files(&space);
    for _ in 0..3 {
        restore(&space, &start);
        std::thread::scope(|scope| {
            for word in WORDS {
                let line = format!("chdef -t osimage -o {COMPUTE} '{word}'");
                let space = &space;
                scope.spawn(move || typed(space, &line, "", false).good());
            }
        });
        let now = files(&space);
        let names = |all: &[(String, String)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&now), names(&expected));
        let shown = typed(&space, &format!("lsdef -t osimage -l {COMPUTE}"), "", false).good().out;
        for word in WORDS {
            // Words for installed systems stay behind those of addkcmdline.
            assert!(shown.contains(&format!("    {word}")), "{word} is lost: {shown}");
        }
    }
    // One that cannot be made takes nothing of another one back.
    restore(&space, &start);
    std::thread::scope(|scope| {
        let run = |word: &str| {
            let line = format!("chdef -t osimage -o {COMPUTE} '{word}'");
            typed(&space, &line, "", false)
        };
        scope.spawn(move || run("netdrivers=ice,igb.ko").good());
        scope.spawn(move || assert_eq!(run("exlist=/install/custom/nothing").code, 1));
        scope.spawn(move || run("groups=batch").good());
    });
    let shown = typed(&space, &format!("lsdef -t osimage -l {COMPUTE}"), "", false).good().out;
    assert!(shown.contains("    netdrivers=ice,igb.ko\n") && shown.contains("    groups=batch\n"), "{shown}");
}
