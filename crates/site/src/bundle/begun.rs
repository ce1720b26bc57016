//! What a bundle's import has begun: where it was killed, the next one begins its images again.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use files::beside;

const MARK: &str = ".imgbuild-bundle-begun";

/// Images that an import makes and that were not there before it. The file is locked while one runs.
pub(super) struct Begun {
    file: Option<File>,
    path: PathBuf,
    half: Vec<String>,
}

impl Begun {
    /// Reads what a killed import had begun; one that still runs is left alone.
    pub(super) fn read(into: &Path) -> Self {
        let path = into.join(MARK);
        let file = open(&path, false).ok().filter(|file| file.try_lock().is_ok());
        let mut text = String::new();
        if let Some(mut file) = file.as_ref() {
            let _ = file.read_to_string(&mut text);
        }
        let half = text.lines().filter(|name| recipe::is_image_name(name)).map(str::to_owned).collect();
        Self { file, path, half }
    }

    /// Whether an image is what a killed import left.
    pub(super) fn is_half(&self, name: &str) -> bool {
        self.half.iter().any(|half| half == name)
    }

    /// Removes what a killed import left of these images, and notes those that are not there.
    /// Errors: Those of the operating system; a mark that this user did not make, or of an import that runs.
    pub(super) fn begin<'a>(&mut self, into: &Path, names: impl Iterator<Item = &'a String>) -> Result<()> {
        std::fs::create_dir_all(into)?;
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let file = open(&self.path, true)?;
                file.try_lock().map_err(|_| Error::other("another import of a bundle is running there"))?;
                file
            }
        };
        let file = self.file.insert(file);
        let mut begun = Vec::new();
        for name in names {
            let directory = into.join("images").join(name);
            beside::check(into, &directory.join("any"))?;
            if self.half.contains(name) && directory.is_dir() {
                std::fs::remove_dir_all(&directory)?;
            }
            if directory.symlink_metadata().is_err() {
                begun.push(name.as_str());
            }
        }
        let text: String = begun.iter().map(|name| format!("{name}\n")).collect();
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }

    pub(super) fn end(self) {
        if self.file.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Opens the mark of this user; a link is not followed.
fn open(path: &Path, make: bool) -> Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let mut options = File::options();
    options.read(true).write(true).create(make).truncate(false);
    let file = options.custom_flags(flags.bits().cast_signed()).open(path)?;
    let found = file.metadata()?;
    match found.is_file() && found.uid() == rustix::process::geteuid().as_raw() {
        true => Ok(file),
        false => Err(Error::new(ErrorKind::InvalidInput, format!("{} is of another user", path.display()))),
    }
}
