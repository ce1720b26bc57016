//! Makes a cache of many images for `benches/size`: entries as builds write them, and files of the right sizes that take no room
//! on the disk, because nothing is in them.
//!
//! `shelves DIRECTORY IMAGES`: twenty images each share what they were installed from; each has a script's layer, its synced files,
//! an initrd and a packed image of 300 frames of its own.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{File, create_dir_all};
use std::path::{Path, PathBuf};

use base::digest::{Digest, Sha256};
use cache::{Entry, Frame, Object, object_name};
use store::{ActionRecord, BlobRef, Outputs};

/// Images that are made of the same packages.
const GROUP: usize = 20;

/// Says what an action made.
type Made<'a> = &'a dyn Fn(&mut Entry, &mut Outputs) -> Result<(), Box<dyn Error>>;

struct Cache<'a>(&'a Path);

impl Cache<'_> {
    fn file(&self, name: &str, size: u64) -> Result<Object, Box<dyn Error>> {
        let object = Object { size, sha256: Sha256::of(name.as_bytes()) };
        let path: PathBuf = self.0.join(object_name(&object));
        if !path.exists() {
            create_dir_all(path.parent().ok_or("no folder")?)?;
            File::create(&path)?.set_len(size)?;
        }
        Ok(object)
    }

    fn action(&self, name: &str, made: Made<'_>) -> Result<(), Box<dyn Error>> {
        let key = Digest::of(name.as_bytes());
        let path = self.0.join(format!("v1/actions/{}/{key}.json", &key.to_string()[..2]));
        if path.exists() {
            return Ok(());
        }
        let mut outputs = Outputs::default();
        let mut record = ActionRecord {
            format: 1,
            key,
            action: name.rsplit(':').next().unwrap_or(name).to_owned(),
            inputs: Vec::new(),
            outputs: Outputs::default(),
            milliseconds: 1,
            differing: None,
            differs_in: None,
            digest: None,
        };
        let mut entry = Entry::of(&record).ok_or("no entry")?;
        made(&mut entry, &mut outputs)?;
        record.outputs = outputs;
        entry.record = record.to_text()?;
        create_dir_all(path.parent().ok_or("no folder")?)?;
        std::fs::write(path, entry.to_text(None)?)?;
        Ok(())
    }

    fn layer(&self, name: &str, size: u64, packages: usize) -> Result<(), Box<dyn Error>> {
        self.action(name, &|entry, outputs| {
            outputs.layer = Some(Digest::of(format!("{name} layer").as_bytes()));
            entry.layer = Some(self.file(&format!("{name} layer"), size)?);
            for number in 0..packages {
                entry.packages.push(self.file(&format!("{name} package {number}"), 900_000)?);
            }
            Ok(())
        })
    }

    fn blob(&self, name: &str, blob: &str, size: u64) -> Result<(), Box<dyn Error>> {
        self.action(name, &|entry, outputs| {
            let digest = Digest::of(format!("{name} {blob}").as_bytes());
            outputs.blobs.insert(blob.to_owned(), BlobRef { digest, size });
            entry.blobs = BTreeMap::from([(digest, self.file(&format!("{name} {blob}"), size)?)]);
            Ok(())
        })
    }

    fn image(&self, number: usize) -> Result<(), Box<dyn Error>> {
        let group = number / GROUP;
        self.layer(&format!("{group}:rootfs/base"), 60_000_000, 90)?;
        self.layer(&format!("{group}:rootfs/packages-000"), 180_000_000, 200)?;
        self.layer(&format!("{group}:rootfs/kernel"), 70_000_000, 2)?;
        self.blob(&format!("{group}:kernel/payload"), "kernel", 9_000_000)?;
        self.layer(&format!("{number}:rootfs/postinstall"), 300_000, 0)?;
        self.layer(&format!("{number}:rootfs/sync"), 60_000, 0)?;
        self.blob(&format!("{number}:initrd/stateless"), "initrd", 38_000_000)?;
        self.action(&format!("{number}:pack/cpio"), &|entry, outputs| {
            for frame in 0..300 {
                let name = format!("{number} frame {frame}");
                let digest = Digest::of(name.as_bytes());
                let object = self.file(&name, 3_100_000)?;
                entry.frames.insert(digest, Frame { object, info: "{}".to_owned() });
                outputs.frames.push(digest);
            }
            Ok(())
        })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let [directory, images] = arguments.as_slice() else {
        // `cargo bench` calls every bench without arguments.
        return Ok(());
    };
    (0..images.parse()?).try_for_each(|number| Cache(Path::new(directory)).image(number))
}
