//! What others put where imgbuild writes, or hand to it: nothing is written elsewhere, and each refusal says what it is.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::support::{Ran, Space, collected, imgbuild};

/// Paths of all files below a directory; links are not followed.
fn tree(directory: &Path) -> Vec<PathBuf> {
    let walk = walkdir::WalkDir::new(directory).sort_by_file_name().into_iter().flatten();
    walk.map(walkdir::DirEntry::into_path).collect()
}

#[test]
fn folders_of_a_workspace_that_are_links_lead_nothing_out_of_it() {
    let stanza = "rocky9-x86_64-netboot-compute:\n    objtype=osimage\n    imagetype=linux\n    osarch=x86_64\n    osname=Linux\n    osvers=debian12\n    profile=compute\n    provmethod=netboot\n";
    let disk = "Debian GNU/Linux 12.5.0 \"Bookworm\" - Official amd64 DVD Binary-1 with firmware 20240210-11:28";
    let cases: [(&str, &[&str]); 4] = [
        ("images", &["import", "xcat", "defs", "--into", "new"]),
        ("site", &["import", "xcat", "defs", "--into", "new"]),
        ("images", &["import", "media", "disc", "--into", "new"]),
        ("repository", &["import", "media", "disc", "--into", "new"]),
    ];
    for (folder, command) in cases {
        let space = Space::new();
        space
            .write("defs/all.stanza", stanza)
            .write("disc/.disk/info", disk)
            .write("disc/dists/bookworm/main/binary-amd64/Packages", "Package: a\n")
            .write("disc/dists/bookworm/Release", "Codename: bookworm\n")
            .write("outside/kept", "kept");
        std::fs::create_dir(space.path().join("new")).unwrap();
        symlink("../outside", space.path().join("new").join(folder)).unwrap();
        let before = tree(space.path());
        let ran = space.run(command);
        assert!(ran.code == 1 && ran.err.contains("link"), "{command:?} {folder}: {} {}", ran.code, ran.err);
        assert_eq!(tree(space.path()), before, "{command:?} {folder}");
        // Without the link it works.
        std::fs::remove_file(space.path().join("new").join(folder)).unwrap();
        let ran = space.run(command);
        assert!(ran.code == 0, "{command:?}: {} {}", ran.out, ran.err);
    }
}

#[test]
fn files_that_a_link_of_nothing_names_are_not_made() {
    let space = Space::new();
    std::fs::create_dir(space.path().join("node")).unwrap();
    symlink("../created", space.path().join("node/.gitignore")).unwrap();
    let ran: Ran = imgbuild().arg("-C").arg(space.path()).args(["init", "node"]).output().unwrap().into();
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(!space.path().join("created").exists());
}

/// Runs a command that may take little memory: one that takes it by the word of a file ends otherwise.
fn bounded(space: &Space, arguments: &[&str]) -> Ran {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -v 1200000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_imgbuild"), "-C"]);
    shell.arg(space.path()).args(arguments).env("IMGBUILD_STORE", space.path().join("store")).output().unwrap().into()
}

fn refused(space: &Space, arguments: &[&str], words: &str) {
    let ran = bounded(space, arguments);
    let text = ran.err.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(ran.code == 1 && text.contains(words), "{arguments:?}: {} {text}", ran.code);
}

/// A tar archive in zstd of one member of one kind, whose content is one byte repeated.
fn packed(space: &Space, name: &str, members: &[(tar::EntryType, &str, u64, &str)]) {
    use std::io::{Read, Write};
    let file = std::fs::File::create(space.path().join(name)).unwrap();
    let mut packer = zstd::Encoder::new(file, 1).unwrap();
    for (kind, path, size, text) in members {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_path(path).unwrap();
        header.set_size(*size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        packer.write_all(header.as_bytes()).unwrap();
        let repeated = text.repeat((1 << 20) / text.len() + 1);
        let mut left = *size;
        while left > 0 {
            let piece = left.min(repeated.len() as u64 / text.len() as u64 * text.len() as u64);
            packer.write_all(&repeated.as_bytes()[..piece as usize]).unwrap();
            left -= piece;
        }
        std::io::copy(&mut std::io::repeat(0).take(size.next_multiple_of(512) - size), &mut packer).unwrap();
    }
    packer.write_all(&[0; 1024]).unwrap();
    packer.finish().unwrap();
}

/// All commands that read a packed tree.
fn all_refuse(space: &Space, file: &str, words: &str) {
    let path = space.path().join(file);
    let path = path.to_str().unwrap();
    refused(space, &["size", path], words);
    refused(space, &["diff", path, path], words);
    refused(space, &["capture", path, "--into", "new", "--name", "node"], words);
    assert!(!space.path().join("new/images").exists());
    // It unpacks the file with the privileges of a build, and reads no database.
    if cfg!(feature = "e2e") && words != "bytes of package databases" {
        let ran = space.run(&["shell", path, "--", "/bin/true"]);
        let text = ran.err.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(ran.code == 1 && text.contains(words), "shell {file}: {} {text}", ran.code);
    }
}

#[test]
fn small_files_do_not_take_all_memory_and_say_which_limit_they_reach() {
    use tar::EntryType as Kind;
    let space = Space::new();
    packed(&space, "longname.tar.zst", &[(Kind::GNULongName, "x", 2 << 30, "n"), (Kind::Regular, "y", 0, "y")]);
    all_refuse(&space, "longname.tar.zst", "bytes of one name");
    packed(&space, "records.tar.zst", &[(Kind::XHeader, "x", 2 << 30, "99 a=b"), (Kind::Regular, "y", 0, "y")]);
    all_refuse(&space, "records.tar.zst", "bytes of records of one file");
    let stanza = "Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n";
    packed(&space, "status.tar.zst", &[(Kind::Regular, "var/lib/dpkg/status", 1 << 30, stanza)]);
    all_refuse(&space, "status.tar.zst", "bytes of package databases");
    let entries: Vec<_> = (0..250_000).map(|_| (Kind::Directory, "d", 0, "x")).collect();
    packed(&space, "entries.tar.zst", &entries);
    all_refuse(&space, "entries.tar.zst", "entries is reached");
    let attributes = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/hostile/xattr2.sfs");
    std::fs::copy(attributes, space.path().join("xattr2.sfs")).unwrap();
    all_refuse(&space, "xattr2.sfs", "bytes of attributes of one file");
}

#[test]
fn databases_that_compute_or_have_odd_names_are_refused() {
    let space = Space::new();
    let make = |name: &str, schema: &str| {
        let path = space.path().join(name);
        let database = rusqlite::Connection::open(&path).unwrap();
        database.execute_batch(schema).unwrap();
        drop(database);
        path
    };
    let import = |name: &str, words: &str| refused(&space, &["import", "xcat", name, "--into", "new"], words);
    make(
        "generated.sqlite",
        "create table osimage (imagename text, osvers text as (hex(zeroblob(400000000)))); insert into osimage values ('i');",
    );
    import("generated.sqlite", "is computed");
    make(
        "view.sqlite",
        "create table t (a); insert into t values ('i'); create view osimage as select a as imagename, hex(zeroblob(400000000)) as osvers from t;",
    );
    import("view.sqlite", "is a view");
    let path = make(
        "column.sqlite",
        "create table osimage (imagename text, qqqq text); insert into osimage values ('i', 'x');",
    );
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|window| window == b"qqqq").unwrap();
    bytes[at..at + 4].copy_from_slice(&[0xff, 0xfe, 0xc0, 0x80]);
    std::fs::write(&path, bytes).unwrap();
    import("column.sqlite", "not UTF-8");
    assert!(!space.path().join("new").exists());
}

#[test]
fn hostile_files_that_were_collected_are_refused_by_every_reader() {
    let Some(folder) = collected("corpus/hostile") else { return };
    let entries = std::fs::read_dir(&folder).unwrap();
    for path in entries.flatten().map(|entry| entry.path()) {
        let space = Space::new();
        let name = path.to_str().unwrap();
        if name.ends_with(".sqlite") {
            refused(&space, &["import", "xcat", name, "--into", "new"], "");
        } else {
            refused(&space, &["size", name], "the limit of");
            refused(&space, &["diff", name, name], "the limit of");
            refused(&space, &["capture", name, "--into", "new", "--name", "node"], "the limit of");
        }
    }
}

#[cfg(feature = "e2e")]
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs a command up to a place, ends it by a signal, and waits until its folder has nothing of it.
#[cfg(feature = "e2e")]
fn struck(space: &Space, command: &[&str], place: &str, signal: rustix::process::Signal, folder: &Path) {
    let before = names(folder);
    let reached = space.path().join("reached");
    let mut child = imgbuild()
        .arg("-C")
        .arg(space.path())
        .arg("--store")
        .arg(space.store())
        .args(command)
        .env("IMGBUILD_FAULT", place)
        .env("IMGBUILD_FAULT_FILE", &reached)
        .spawn()
        .unwrap();
    let began = std::time::Instant::now();
    let wait = |done: &dyn Fn() -> bool, what: &str| {
        while !done() {
            assert!(began.elapsed().as_secs() < 60, "{command:?}: {what}: {:?}", names(folder));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    wait(&|| reached.exists(), "the place is not reached");
    let own = names(folder).into_iter().filter(|name| !before.contains(name)).count();
    assert!(own > 0, "{command:?} has nothing beside");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
    child.wait().unwrap();
    wait(&|| names(folder).iter().all(|name| before.contains(name)), "something stays");
    std::fs::remove_file(reached).unwrap();
}

#[test]
#[cfg(feature = "e2e")]
fn whatever_ends_a_command_nothing_of_it_stays() {
    use rustix::process::Signal;
    let space = Space::new();
    let status = "Package: base-files\nStatus: install ok installed\nVersion: 12.4\nArchitecture: amd64\n";
    let release = "ID=debian\nVERSION_ID=12\nVERSION_CODENAME=bookworm\nPRETTY_NAME=\"Debian 12\"\n";
    space
        .write("node/var/lib/dpkg/status", status)
        .write("node/var/lib/dpkg/info/base-files.list", "/.\n/etc\n/etc/os-release\n")
        .write("node/etc/os-release", release)
        .write("into/kept", "");
    let folder = space.path().join("into");
    let saved = folder.join("saved");
    let saved = saved.to_str().unwrap();
    let capture = ["capture", "node", "--into", "into", "--name", "n"];
    for signal in [Signal::KILL, Signal::INT, Signal::TERM] {
        struck(&space, &capture, "capture.written", signal, &folder);
        struck(&space, &["store", "save", saved], "save.written", signal, &folder);
    }
    // What the dead left, who had nobody to remove it; what somebody still uses stays.
    for name in ["into/.capture-dead/x", "into/.imgbuild-save-dead/x", "into/.imgbuild-save-used/x"] {
        space.write(name, "half");
    }
    let used = std::fs::File::open(space.path().join("into/.imgbuild-save-used")).unwrap();
    used.lock().unwrap();
    space.run(&capture).good();
    space.run(&["store", "save", saved]).good();
    assert_eq!(names(&folder), [".gitignore", ".imgbuild-save-used", "images", "imgbuild.toml", "kept", "saved"]);
}

#[test]
#[cfg(feature = "e2e")]
fn a_full_disk_is_not_said_of_the_file_that_is_loaded() {
    let space = Space::new();
    let saved = space.path().join("saved");
    space.run(&["store", "save", saved.to_str().unwrap()]).good();
    // A member that the store keeps as it is, larger than a file may be.
    let bytes = vec![7u8; 4 << 20];
    let name = format!("packages/{}", base::digest::Sha256::of(&bytes));
    let mut builder = tar::Builder::new(std::fs::File::create(space.path().join("large")).unwrap());
    let mut saved = tar::Archive::new(std::fs::File::open(&saved).unwrap());
    for entry in saved.entries().unwrap().take(1) {
        let mut entry = entry.unwrap();
        let mut header = entry.header().clone();
        let path = entry.path().unwrap().into_owned();
        builder.append_data(&mut header, path, &mut entry).unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, &name, &bytes[..]).unwrap();
    builder.finish().unwrap();
    let load = |limit: &str| -> Ran {
        let mut shell = std::process::Command::new("sh");
        shell.args([
            "-c",
            &format!("trap '' XFSZ; ulimit -f {limit}; exec \"$0\" \"$@\""),
            env!("CARGO_BIN_EXE_imgbuild"),
        ]);
        shell.arg("--store").arg(space.store()).args(["store", "load"]).arg(space.path().join("large"));
        shell.output().unwrap().into()
    };
    let ran = load("2000");
    assert!(ran.code == 3 && !ran.err.contains("cannot be read"), "{} {}", ran.code, ran.err);
    load("unlimited").good();
}

#[test]
#[cfg(feature = "e2e")]
fn gc_gets_its_turn_beside_those_who_use_the_store() {
    let space = Space::new();
    space.run(&["gc"]).good();
    // Builds that follow one another, each begun before the one before it has ended.
    use store::FileLock;
    let locks = space.store().join("v1/locks");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let turn = FileLock::share(&locks.join("turn")).unwrap();
                    let _held = FileLock::share(&locks.join("use")).unwrap();
                    drop(turn);
                    std::thread::sleep(std::time::Duration::from_millis(300));
                }
            });
        }
        std::thread::sleep(std::time::Duration::from_millis(400));
        let ran = space.run(&["gc"]);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        ran.good();
    });
}

/// Each variant has all values of the recipe, and each list is read for each image: all of a command is counted together.
#[test]
fn variants_of_a_large_recipe_have_a_bound_together() {
    let space = Space::new();
    let words: String = (0..3000).map(|number| format!("    \"p{number}\",\n")).collect();
    let variants: String = (0..3000).map(|number| format!("[variant.v{number}]\n")).collect();
    let recipe = "[image]\nname = \"a\"\nrelease = \"bookworm\"\n";
    space.write("image.toml", &format!("{recipe}[packages]\ninstall = [\n{words}]\n{variants}"));
    refused(&space, &["check"], "the values of all variants together need more memory than a command may take");
    space.write("image.toml", &format!("{recipe}[packages]\ninstall = [{}\"a\"]\n", "\"a\",".repeat(2_500_000)));
    refused(&space, &["check"], "words: the limit is 2,000,000");
    // Keys take many times their size in memory.
    space.write("keys", &"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 x@y\n".repeat(120_000));
    let system = "[system]\nauthorized_keys = [\"keys\"]\n";
    space.write("image.toml", &format!("{recipe}{system}"));
    refused(&space, &["check"], "`keys` cannot be read: it is larger than 4 MiB");
    space.write(
        "image.toml",
        &format!(
            "{recipe}[[repo]]\nuri = \"http://m\"\nsuites = [\"a\"]\ncomponents = [\"b\"]\nsigned-by = \"keys\"\n"
        ),
    );
    refused(&space, &["check"], "`keys` contains no usable keys: it is larger than 4 MiB");
}
