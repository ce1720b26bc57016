//! Files of a publication in a directory that holds other things too: all of them are replaced, or none.
//!
//! ```text
//! .imgbuild-publish/lock            whose turn it is
//! .imgbuild-publish/NAME.json       what was written for the image NAME: each path with its digest
//! .imgbuild-publish/NAME/new/N      files that are made; their number is their place in the list
//! .imgbuild-publish/NAME/previous/N-FILE what they replaced, until the next publication
//! .imgbuild-publish/NAME.next.json  written when all new files are on the disk: from here on the publication is finished, by this
//!                                   run or by the next one
//! ```
//!
//! Each name gives its old file or its new one at any time. The names change one after the other, in the order of the list: a kind whose
//! nodes must not meet a mixture puts its files under names of their own and lists the one that leads to them last ([`OldNames::KeepOnce`]).

mod compare;
mod record;
mod settle;

use std::fs::File as OpenFile;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use base::digest::Sha256;
use files::Durability;
use files::shared::Shared;
use sha2::Digest as _;

use self::record::{Entry, Record};
use crate::facts::image::File;
use crate::{Change, Consent, Error, Report};

/// What a file is to hold.
pub(crate) enum Content<'a> {
    /// A file of the build, compared with its digest while it is copied.
    Copy(&'a File),
    Text(String),
    /// What is made of a file of the build, which is compared with its digest meanwhile; `of` names what it is made from, and how.
    Made {
        of: String,
        from: &'a File,
        fill: Fill<'a>,
    },
}

/// Makes the second of the first.
pub(crate) type Fill<'a> = &'a dyn Fn(&mut dyn Read, &mut dyn Write) -> io::Result<()>;

impl Content<'_> {
    /// What has the same name here is the same file.
    fn name(&self) -> String {
        match self {
            Self::Copy(file) => format!("sha256:{}", file.sha256),
            Self::Text(text) => format!("sha256:{}", Sha256::of(text.as_bytes())),
            Self::Made { of, .. } => of.clone(),
        }
    }

    /// The digest, where it is known before the file is made.
    fn digest(&self) -> Option<Sha256> {
        match self {
            Self::Copy(file) => Some(file.sha256),
            Self::Text(text) => Some(Sha256::of(text.as_bytes())),
            Self::Made { .. } => None,
        }
    }
}

/// One file of a publication.
pub(crate) struct Planned<'a> {
    /// Path below the directory.
    pub path: String,
    pub mode: u32,
    pub content: Content<'a>,
}

/// What becomes of paths that the publication before had and this one has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OldNames {
    Remove,
    /// They stay until one more publication has taken place: nodes read from them.
    KeepOnce,
}

/// All files of a publication, in the order in which their names change.
pub(crate) struct Layout<'a> {
    pub directory: &'a Path,
    /// The image: publications of different images into the same directory know nothing of one another.
    pub name: &'a str,
    /// The build, for the record.
    pub build: &'a str,
    /// The directory of the builds, for the record.
    pub source: Option<String>,
    /// Digest of the image's index, for the record.
    pub image: Sha256,
    pub files: Vec<Planned<'a>>,
    pub old_names: OldNames,
    /// Folders of builds before, with a slash at the end, whose files stay whatever `old_names` says: nodes are pinned to them.
    pub pinned: Vec<String>,
    pub consent: Consent,
}

const STATE: &str = ".imgbuild-publish";
/// Bytes of a record; one has a line or two for each path.
const LARGEST_RECORD: u64 = 64 << 20;

pub(crate) fn to(intent: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::Io { intent, path, source }
}

/// A directory in which it is this process's turn.
struct Place<'a> {
    shared: Shared,
    layout: &'a Layout<'a>,
}

impl Place<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.layout.directory.join(name)
    }

    fn state(&self, rest: &str) -> String {
        format!("{STATE}/{}{rest}", self.layout.name)
    }

    fn read(&self, rest: &str) -> Result<Option<Record>, Error> {
        self.record(&self.state(rest))
    }

    fn record(&self, name: &str) -> Result<Option<Record>, Error> {
        let bytes = self.shared.read(name, LARGEST_RECORD).map_err(to("read", self.path(name)))?;
        // One that cannot be read is as good as none: then each file there is the site's own, and is not replaced.
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).filter(Record::is_good))
    }

    fn write(&self, rest: &str, record: &Record) -> Result<(), Error> {
        let name = self.state(rest);
        let mut text = serde_json::to_vec_pretty(record).unwrap_or_default();
        text.push(b'\n');
        let mut fill = |file: &mut OpenFile| file.write_all(&text);
        let done = self.shared.write(&name, (0o755, 0o644), Durability::PowerCut, &mut fill);
        done.map_err(to("write", self.path(&name)))
    }

    /// Digest of a regular file, if there is one.
    fn digest(&self, name: &str) -> io::Result<Option<Sha256>> {
        let Some(mut file) = self.shared.file(name)? else { return Ok(None) };
        let mut hasher = sha2::Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Some(Sha256(hasher.finalize().into()))),
                read => hasher.update(&buffer[..read]),
            }
        }
    }

    /// Writes one file aside, and gives its digest.
    fn make(&self, number: usize, planned: &Planned<'_>) -> Result<Sha256, Error> {
        let name = self.state(&format!("/new/{number}"));
        let mut digest = None;
        let mut is_damaged = false;
        let mut fill = |file: &mut OpenFile| {
            let mut writer = Hashing { file: io::BufWriter::with_capacity(1 << 20, file), hasher: sha2::Sha256::new() };
            match &planned.content {
                Content::Copy(from) => {
                    read_whole(from, &mut is_damaged, &mut |reader| io::copy(reader, &mut writer).map(drop))?
                }
                Content::Text(text) => writer.write_all(text.as_bytes())?,
                Content::Made { from, fill, .. } => {
                    read_whole(from, &mut is_damaged, &mut |reader| fill(reader, &mut writer))?
                }
            }
            writer.flush()?;
            digest = Some(Sha256(writer.hasher.finalize().into()));
            Ok(())
        };
        let done = self.shared.write(&name, (0o755, planned.mode), Durability::PowerCut, &mut fill);
        if let Content::Copy(from) | Content::Made { from, .. } = &planned.content
            && is_damaged
        {
            let path = from.path.parent().unwrap_or(&from.path).to_owned();
            let problem = "is not what build.json says: its digest is different".to_owned();
            return Err(Error::Damaged { path, file: from.name.clone(), problem });
        }
        done.map_err(to("write", self.path(&planned.path)))?;
        digest.ok_or_else(|| to("write", self.path(&planned.path))(io::ErrorKind::Other.into()))
    }
}

/// Has a file of the build read, and compares all of it with its digest, also what the reader leaves.
/// Errors: Those of the operating system and of the reader; also of a file that is not as it was built, which `is_damaged` says.
fn read_whole(
    from: &File,
    is_damaged: &mut bool,
    work: &mut dyn FnMut(&mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    // One that grows has no end.
    let opened = OpenFile::open(&from.path)?.take(from.size.saturating_add(1));
    let mut reader = HashingReader { file: opened, hasher: sha2::Sha256::new() };
    let worked = work(&mut reader);
    io::copy(&mut reader, &mut io::sink())?;
    *is_damaged = Sha256(reader.hasher.finalize().into()) != from.sha256 && !fault::planted("publish-any-bytes");
    match worked {
        Ok(_) if *is_damaged => Err(io::ErrorKind::InvalidData.into()),
        worked => worked,
    }
}

/// As a record has it.
fn source_of(directory: &str) -> String {
    Sha256::of(directory.as_bytes()).short()
}

struct HashingReader<R> {
    file: R,
    hasher: sha2::Sha256,
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

struct Hashing<W> {
    file: W,
    hasher: sha2::Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Layout<'_> {
    /// What [`Layout::apply`] would change. Nothing is written, not even a lock.
    /// Errors: as [`Layout::apply`].
    pub(crate) fn plan(&self) -> Result<Report, Error> {
        let shared = match Shared::for_service(self.directory) {
            Ok(shared) => shared,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut report = Report::default();
                self.files.iter().for_each(|planned| report.add(&planned.path, Change::New));
                return Ok(report);
            }
            Err(error) => return Err(to("open", self.directory)(error)),
        };
        let place = Place { shared, layout: self };
        let next = place.read(".next.json")?;
        let is_interrupted = next.is_some();
        let record = next.map_or_else(|| place.read(".json"), |next| Ok(Some(next)))?.unwrap_or_default();
        let mut report = compare::report(&place.compare(&record, is_interrupted)?);
        report.warnings.extend(self.other_source(&record));
        if is_interrupted {
            report.warnings.push(INTERRUPTED.to_owned());
        }
        Ok(report)
    }

    /// What is said where an image of the same name came from elsewhere: there may be two workspaces that do not know of one another.
    fn other_source(&self, record: &Record) -> Option<String> {
        let (old, new) = (record.source.as_deref()?, self.source.as_deref()?);
        (old != source_of(new) && record.build != self.build).then(|| {
            format!(
                "the image `{}` was published there from another directory of builds than {new}, whose build replaces it",
                self.name
            )
        })
    }

    /// Puts the files there.
    /// Errors: [`Error::NotOurs`] for a name that the site uses itself; those of the operating system; a file of the build that is not as it
    /// was built. Nothing is changed then, or, after the moment of the change, the rest is changed by the next publication.
    pub(crate) fn apply(&self) -> Result<Report, Error> {
        make_directory(self.directory)?;
        let shared = Shared::for_service(self.directory).map_err(to("open", self.directory))?;
        let place = Place { shared, layout: self };
        let lock = format!("{STATE}/lock");
        place.shared.make_folder(STATE, 0o755).map_err(to("create the directory", place.path(STATE)))?;
        let held = place.shared.lock_file(&lock).map_err(to("open", place.path(&lock)))?;
        held.lock().map_err(to("lock", place.path(&lock)))?;
        let settled = place.settle()?;
        // What one left that was killed before it had decided.
        place.clear("/new")?;
        let record = place.read(".json")?.unwrap_or_default();
        let compared = place.compare(&record, false)?;
        let mut report = compare::report(&compared);
        report.warnings.extend(self.other_source(&record));
        if settled {
            report.warnings.push(INTERRUPTED.to_owned());
        }
        if !report.changes() && record.build == self.build {
            return Ok(report);
        }
        let mut entries = Vec::new();
        for (number, (planned, compared)) in self.files.iter().zip(&compared.files).enumerate() {
            let sha256 = match compared.digest {
                Some(digest) if compared.change == Change::Unchanged => digest,
                _ => place.make(number, planned)?,
            };
            entries.push(Entry { path: planned.path.clone(), of: planned.content.name(), sha256 });
        }
        fault::point("publish.kinds.made");
        let next = Record {
            version: record::VERSION,
            build: self.build.to_owned(),
            source: self.source.as_deref().map(source_of),
            image: Some(self.image),
            files: entries,
            kept: compared.kept.clone(),
            remove: compared.removed.clone(),
        };
        place.clear("/previous")?;
        place.write(".next.json", &next)?;
        fault::point("publish.kinds.decided");
        place.settle()?;
        Ok(report)
    }
}

/// Whether a folder below a directory has anything in it.
/// Errors: Those of the operating system; a link, or anything else that is not a folder.
pub(crate) fn has_any(directory: &Path, folder: &str) -> Result<bool, Error> {
    match Shared::for_service(directory).and_then(|shared| shared.list(folder)) {
        Ok(entries) => Ok(!entries.is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(to("read", directory.join(folder))(error)),
    }
}

/// A small text below a directory, if it is there.
/// Errors: Those of the operating system; a link, or anything else that is not a regular file of at most `most` bytes.
pub(crate) fn text_there(directory: &Path, name: &str, most: u64) -> Result<Option<String>, Error> {
    let shared = match Shared::for_service(directory) {
        Ok(shared) => shared,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(to("open", directory)(error)),
    };
    let bytes = shared.read(name, most).map_err(to("read", directory.join(name)))?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

const INTERRUPTED: &str = "the publication before was interrupted; it was completed first";

/// Makes a directory with its parents, open to servers whatever the umask is.
pub(crate) fn make_directory(directory: &Path) -> Result<(), Error> {
    files::beside::check_owners(Path::new("/"), &directory.join("file")).map_err(to("open", directory))?;
    let mut missing: Vec<&Path> = directory.ancestors().take_while(|path| path.symlink_metadata().is_err()).collect();
    missing.reverse();
    for path in missing {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            done => done.map_err(to("create the directory", path))?,
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, mode).map_err(to("set the mode of", path))?;
    }
    Ok(())
}
