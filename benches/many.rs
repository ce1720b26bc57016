//! Makes many built images of one that was really built, for `benches/plan`: building a thousand takes an hour and 20 GB.
//!
//! `many WORKSPACE STORE COUNT FILES`: the workspace has the built image `images/i0000`. Each other image gets its own
//! directory with its own files, its own lock and its own published files (large ones are further names of the first's),
//! and the store's remembered build. That all of them are whole is checked by `plan --no-memo --detailed-exitcode`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base::digest::Sha256;
use store::{Root, Store};

fn stamp(path: &Path) -> Result<String, Box<dyn Error>> {
    let found = fs::metadata(path)?;
    let (time, change) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
    Ok(format!("{} {}.{:09} {}.{:09} {}", found.len(), time.0, time.1, change.0, change.1, found.ino()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let [workspace, store, count, files] = arguments.as_slice() else {
        // `cargo bench` calls every bench without arguments.
        return Ok(());
    };
    let (count, files): (usize, usize) = (count.parse()?, files.parse()?);
    let workspace = Path::new(workspace).canonicalize()?;
    let store = Store::existing(Path::new(store));
    let first = workspace.join("images/i0000");
    let root = store.root(&first, "i0000").ok_or("images/i0000 is not built")?;
    let published = first.join("out/i0000").canonicalize()?;
    let build = fs::read_to_string(published.join("build.json"))?;
    let mut made: Vec<(PathBuf, String, PathBuf)> = vec![(first.clone(), "i0000".to_owned(), published.clone())];
    for number in 1..count {
        let name = format!("i{number:04}");
        let directory = workspace.join("images").join(&name);
        fs::create_dir_all(directory.join("site"))?;
        fs::create_dir_all(directory.join("keys"))?;
        let recipe = fs::read_to_string(first.join("image.toml"))?;
        fs::write(directory.join("image.toml"), recipe.replace("\"i0000\"", &format!("{name:?}")))?;
        for file in ["image.lock", "files.synclist", "tiny.exlist", "tiny.postinstall", "keys/admin.pub"] {
            fs::copy(first.join(file), directory.join(file))?;
        }
        for file in 0..files {
            let file = format!("site/f{file:05}");
            fs::copy(first.join(&file), directory.join(&file))?;
        }
        let text = build.replace("\"name\": \"i0000\"", &format!("\"name\": {name:?}"));
        let digest = Sha256::of(text.as_bytes()).short();
        let place = directory.join("out/.builds").join(&name).join(&digest);
        fs::create_dir_all(&place)?;
        for entry in fs::read_dir(&published)? {
            let entry = entry?;
            if entry.file_name() == "build.json" {
                fs::write(place.join("build.json"), &text)?;
            } else if entry.metadata()?.len() > 1 << 16 {
                fs::hard_link(entry.path(), place.join(entry.file_name()))?;
            } else {
                fs::copy(entry.path(), place.join(entry.file_name()))?;
            }
        }
        std::os::unix::fs::symlink(format!(".builds/{name}/{digest}"), directory.join("out").join(&name))?;
        made.push((directory, name, place));
    }
    // At last, since a further name moves a file's ctime.
    for (recipe, image, published) in made {
        let names = root.stamps.keys();
        let stamps: BTreeMap<String, String> = names
            .map(|name| Ok::<_, Box<dyn Error>>((name.clone(), stamp(&published.join(name))?)))
            .collect::<Result<_, _>>()?;
        store.set_root(&Root { recipe, image, published, stamps, ..root.clone() })?;
    }
    Ok(())
}
