//! What is asked of the inside is whole: another program asks the same in another store, and gets the same layers.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::offline::{fresh, vendored};

/// Asks one operation: makes the helper process, writes its id maps, and takes the answer.
fn ask(store: &Path, asked: &Value) -> Result<Value, String> {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    // The channel is the helper's third descriptor, and its parent is this process.
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "exec \"$0\" \"$@\" 3<&0 </dev/null", env!("CARGO_BIN_EXE_imgbuild"), "__sandbox"])
        .args([asked["operation"].as_str().unwrap(), &std::process::id().to_string(), "quiet"])
        .arg(asked["assembly"].as_str().unwrap())
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir(store)
        .stdin(std::os::fd::OwnedFd::from(theirs))
        .stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut answer = Err("no answer".to_owned());
    for line in BufReader::new(ours.try_clone().unwrap()).lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line.unwrap()) else { continue };
        if message == "Unshared" {
            for (file, map) in [("uid_map", "uids"), ("gid_map", "gids")] {
                let line = |one: &Value| format!("{} {} {}\n", one[0], one[1], one[2]);
                let text: String = asked["map"][map].as_array().unwrap().iter().map(line).collect();
                std::fs::write(format!("/proc/{}/{file}", child.id()), text).unwrap();
            }
            ours.write_all(b"m").unwrap();
            ours.write_all(format!("{}\n", asked["request"]).as_bytes()).unwrap();
        } else if let Some(done) = message.get("Done") {
            answer = Ok(done.clone());
            break;
        } else if message.get("Progress").is_none() && message.get("Leaves").is_none() {
            answer = Err(message.to_string());
            break;
        }
    }
    child.wait().unwrap();
    answer
}

/// All digests of layers and frames that an answer names.
fn digests(answer: &Value, found: &mut Vec<String>) {
    match answer {
        Value::String(text) if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            found.push(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| digests(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| digests(field, found)),
        _ => {}
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// An empty store beside the other, with another path: what belongs to whom is the same, packages and files of the build host are
/// there, and no layer is.
fn another(store: &Path, other: &Path) {
    std::fs::create_dir_all(other).unwrap();
    for entry in std::fs::read_dir(store).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir()) {
        let (name, found) = (entry.file_name(), entry.metadata().unwrap());
        let place = other.join(&name);
        if ["packages", "blobs", "decompressed"].iter().any(|copied| name == *copied) {
            copy(&entry.path(), &place);
        } else {
            std::fs::create_dir(&place).unwrap();
            std::os::unix::fs::chown(&place, Some(found.uid()), Some(found.gid())).unwrap();
        }
    }
}

#[test]
fn privileged_what_is_asked_gives_the_same_in_another_store() {
    let space = fresh();
    space.write("site/motd", "welcome\n").write("files.synclist", "site/motd -> /etc/motd\n");
    space.edit("image.toml", "[exclude]", "[sync]\nlists = [\"files.synclist\"]\n\n[exclude]");
    let asked = space.path().join("asked");
    std::fs::create_dir(&asked).unwrap();
    let build = ["build", "--vendor", vendored().to_str().unwrap()];
    space.run_with(&build, &[("IMGBUILD_ASKED", asked.to_str().unwrap())]).good();
    let (store, other) = (space.store().join("v1"), space.path().join("elsewhere/store"));
    another(&store, &other);
    let blobs =
        || walkdir::WalkDir::new(store.join("blobs")).into_iter().flatten().filter(|entry| entry.path().is_file());
    let files = std::fs::read_dir(&asked).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.is_file()).collect();
    files.sort();
    let mut seen = Vec::new();
    for file in files {
        let conversation: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let operation = conversation["operation"].as_str().unwrap().to_owned();
        let text = conversation["request"].to_string();
        assert!(!text.contains(space.path().to_str().unwrap()), "{operation} is asked with a path: {text}");
        // Indices under the names that the solver wants: what makes a layer asks for contents alone.
        assert!(["apt-query"].contains(&operation.as_str()) || !text.contains("\"links/"), "{operation}: {text}");
        let links = file.with_extension("links");
        if links.is_dir() {
            std::fs::remove_dir_all(other.join("links")).unwrap();
            copy(&links, &other.join("links"));
        }
        let answer = ask(&other, &conversation).unwrap_or_else(|error| panic!("{operation}: {error}"));
        let (mut then, mut now) = (Vec::new(), Vec::new());
        digests(&conversation["answer"], &mut then);
        digests(&answer, &mut now);
        assert_eq!(then, now, "{operation}");
        // What is handed over is the same file.
        let handover = conversation["request"]["request"]["handover"].as_str();
        if let Some(made) = handover.map(|name| std::fs::read(other.join(name)).unwrap()) {
            assert!(blobs().any(|blob| std::fs::read(blob.path()).unwrap() == made), "{operation}: another file");
        }
        seen.push(operation);
    }
    for operation in ["apt-root", "apt-install", "kernel", "system", "postinstall", "sync", "initrd", "pack"] {
        assert!(seen.iter().any(|one| one == operation), "{operation} is not among {seen:?}");
    }
}
