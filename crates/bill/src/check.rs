//! Whether the files of a directory are those that build.json describes, and which frame of a packed image is not.

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use base::digest::Sha256;
use node_words::name::shown;

use crate::directory::Directory;
use crate::image::{Artefact, BUILD, Image, SUMS};

/// A frame of a packed image: its number from 0, its first byte and its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    pub frame: usize,
    pub offset: u64,
    pub size: u64,
}

/// A file, or a frame of one, that is not as it was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wrong {
    pub file: String,
    #[serde(flatten)]
    pub place: Option<Place>,
    pub problem: String,
    /// Whether this machine failed to read it: what it contains is unknown.
    pub unread: bool,
}

impl Wrong {
    pub fn new(file: &str, problem: impl Into<String>) -> Self {
        Self { file: shown(file).into_owned(), place: None, problem: problem.into(), unread: false }
    }

    /// A file that was not read. One that is missing, too long, or no regular file is not as published; of others nothing is known.
    pub fn of_error(file: &str, error: &io::Error) -> Self {
        use io::ErrorKind::{InvalidData, InvalidInput, NotFound};
        match error.kind() {
            NotFound => Self::new(file, "is missing"),
            kind => {
                let unread = ![InvalidData, InvalidInput].contains(&kind);
                Self { unread, ..Self::new(file, format!("cannot be read: {error}")) }
            }
        }
    }
}

/// What was compared.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    pub files: usize,
    pub frames: usize,
    pub bytes: u64,
    pub wrong: Vec<Wrong>,
}

#[derive(Debug, Deserialize)]
struct Index {
    size: u64,
    frames: Vec<Frame>,
}

#[derive(Debug, Deserialize)]
struct Frame {
    offset: u64,
    size: u64,
    sha256: Sha256,
}

impl Index {
    /// Reads the index of a packed image: its frames follow one another, and end where the image ends.
    fn read(text: &[u8], image: &Artefact) -> Result<Self, String> {
        let index: Self = serde_json::from_slice(text).map_err(|error| format!("cannot be read: {error}"))?;
        let mut end = 0u64;
        for frame in &index.frames {
            if frame.offset != end {
                return Err(format!("has a gap before byte {}", frame.offset));
            }
            end = end.checked_add(frame.size).ok_or("has frames of an invalid size")?;
        }
        if end != index.size || index.size != image.size {
            let (said, size) = (index.size, image.size);
            return Err(format!("describes {said} bytes and frames of {end}, but {BUILD} gives the image {size}"));
        }
        Ok(index)
    }
}

/// The text of SHA256SUMS, as sha256sum(1) reads it.
fn sums(image: &Image) -> String {
    image.artefacts.iter().map(|one| format!("{}  {}\n", one.sha256, one.name)).collect()
}

/// Compares all files of a directory with build.json; each is read once.
pub fn check(directory: &Directory, image: &Image) -> Checked {
    let mut checked = Checked::default();
    checked.wrong.extend(image.wrong_words().into_iter().map(|problem| Wrong::new(BUILD, problem)));
    match directory.text(SUMS) {
        Ok(text) if text == sums(image).as_bytes() => checked.files += 1,
        Ok(_) => checked.wrong.push(Wrong::new(SUMS, format!("does not list the digests of {BUILD}"))),
        Err(error) => checked.wrong.push(Wrong::of_error(SUMS, &error)),
    }
    let indices: BTreeMap<&str, &Artefact> =
        image.packed().into_iter().map(|(one, index)| (one.name.as_str(), index)).collect();
    for artefact in &image.artefacts {
        let index = indices.get(artefact.name.as_str());
        // What the index says counts only if it is the one that was published; it is compared by itself.
        let text = index.and_then(|index| Some((index, directory.text(&index.name).ok()?)));
        let frames = match text.filter(|(index, text)| Sha256::of(text) == index.sha256) {
            Some((index, text)) => match Index::read(&text, artefact) {
                Ok(index) => index.frames,
                Err(problem) => {
                    checked.wrong.push(Wrong::new(&index.name, problem));
                    Vec::new()
                }
            },
            None => Vec::new(),
        };
        match of_file(directory, artefact, &frames) {
            Ok(wrong) if wrong.is_empty() => {
                checked.files += 1;
                checked.frames += frames.len();
                checked.bytes += artefact.size;
            }
            Ok(wrong) => checked.wrong.extend(wrong),
            Err(error) => checked.wrong.push(Wrong::of_error(&artefact.name, &error)),
        }
    }
    checked
}

/// Compares a file with its digest, and its frames with theirs.
fn of_file(directory: &Directory, artefact: &Artefact, frames: &[Frame]) -> io::Result<Vec<Wrong>> {
    let file = directory.file(&artefact.name)?;
    let size = file.metadata()?.len();
    compare(file, size, artefact, frames)
}

/// The same of what is read from a file of this size. No more of it is read than was published.
fn compare(mut file: impl Read, size: u64, artefact: &Artefact, frames: &[Frame]) -> io::Result<Vec<Wrong>> {
    let mut wrong = Vec::new();
    if size != artefact.size {
        let problem = format!("has {size} bytes, but {} were published", artefact.size);
        wrong.push(Wrong::new(&artefact.name, problem));
    }
    let mut whole: sha2::Sha256 = sha2::Digest::new();
    // What no frame covers: all of a file without an index.
    let end = frames.last().map_or(0, |last| last.offset.saturating_add(last.size));
    let rest = Frame { offset: end, size: artefact.size.saturating_sub(end), sha256: artefact.sha256 };
    let mut buffer = vec![0; 1 << 20];
    for (number, frame) in frames.iter().chain([&rest]).enumerate() {
        let is_frame = number < frames.len();
        let mut own: sha2::Sha256 = sha2::Digest::new();
        let mut left = frame.size;
        while left > 0 {
            let wanted = usize::try_from(left.min(buffer.len() as u64)).unwrap_or(buffer.len());
            let piece = match file.read(&mut buffer[..wanted]) {
                Ok(0) => break,
                Ok(count) => &buffer[..count],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            left -= piece.len() as u64;
            sha2::Digest::update(&mut whole, piece);
            if is_frame {
                sha2::Digest::update(&mut own, piece);
            }
        }
        let is_same = Sha256(sha2::Digest::finalize(own).into()) == frame.sha256;
        if is_frame && !is_same && !fault::planted("bill-frames-unread") {
            let place = Some(Place { frame: number, offset: frame.offset, size: frame.size });
            let problem = if left > 0 { "is cut off" } else { "differs from what was published" };
            wrong.push(Wrong { place, ..Wrong::new(&artefact.name, problem) });
        }
    }
    let found = Sha256(sha2::Digest::finalize(whole).into());
    if wrong.is_empty() && found != artefact.sha256 {
        let problem = format!("has the SHA-256 {found}, but {} was published", artefact.sha256);
        wrong.push(Wrong::new(&artefact.name, problem));
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A directory with a packed image of three frames, as it is published.
    fn published() -> (tempfile::TempDir, Image) {
        let directory = tempfile::tempdir().unwrap();
        let frames: Vec<Vec<u8>> = vec![vec![1; 100], vec![2; 50], vec![1; 100]];
        let mut offset = 0;
        let listed: Vec<serde_json::Value> = frames
            .iter()
            .map(|frame| {
                let at = offset;
                offset += frame.len();
                serde_json::json!({"offset": at, "size": frame.len(), "sha256": Sha256::of(frame)})
            })
            .collect();
        let index = serde_json::json!({"size": offset, "frames": listed}).to_string();
        let files = [
            ("kernel", b"kernel".to_vec()),
            ("rootimg.sfs", frames.concat()),
            ("rootimg.sfs.index", index.into_bytes()),
        ];
        let artefacts: Vec<serde_json::Value> = files
            .iter()
            .map(|(name, bytes)| {
                std::fs::write(directory.path().join(name), bytes).unwrap();
                serde_json::json!({"name": name, "size": bytes.len(), "sha256": Sha256::of(bytes)})
            })
            .collect();
        let build = serde_json::json!({
            "format_version": "1.0", "name": "x", "target": "debian 12 x86_64", "epoch": 1, "kernel_release": "6.1",
            "cmdline": [], "memory": 1, "artefacts": artefacts, "layers": [], "not_reproducible": [],
        });
        let image = Image::read(build.to_string().as_bytes()).unwrap();
        std::fs::write(directory.path().join(SUMS), sums(&image)).unwrap();
        (directory, image)
    }

    fn wrong(directory: &Path, image: &Image) -> Vec<(String, Option<usize>)> {
        let checked = check(&Directory::open(directory).unwrap(), image);
        checked.wrong.into_iter().map(|one| (one.file, one.place.map(|place| place.frame))).collect()
    }

    #[test]
    fn each_byte_that_differs_is_named_by_file_and_frame() {
        let (directory, image) = published();
        let whole = check(&Directory::open(directory.path()).unwrap(), &image);
        assert_eq!((whole.wrong.len(), whole.files, whole.frames), (0, 4, 3));
        let spoil = |name: &str, at: usize| {
            let path = directory.path().join(name);
            let whole = std::fs::read(&path).unwrap();
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let found = wrong(directory.path(), &image);
            std::fs::write(&path, whole).unwrap();
            found
        };
        let named = |name: &str, frame: Option<usize>| vec![(name.to_owned(), frame)];
        assert_eq!(spoil("kernel", 3), named("kernel", None));
        assert_eq!(spoil(SUMS, 3), named(SUMS, None));
        // The first and the last have the same bytes.
        for (at, frame) in [(0, 0), (99, 0), (100, 1), (150, 2), (249, 2)] {
            assert_eq!(spoil("rootimg.sfs", at), named("rootimg.sfs", Some(frame)), "{at}");
        }
        assert_eq!(spoil("rootimg.sfs.index", 3), named("rootimg.sfs.index", None));
        assert!(wrong(directory.path(), &image).is_empty());
    }

    #[test]
    fn what_is_missing_cut_or_a_link_is_named() {
        let (directory, image) = published();
        let image_path = directory.path().join("rootimg.sfs");
        let whole = std::fs::read(&image_path).unwrap();
        std::fs::write(&image_path, &whole[..120]).unwrap();
        let found = wrong(directory.path(), &image);
        assert_eq!(found.iter().map(|(_, frame)| *frame).collect::<Vec<_>>(), [None, Some(1), Some(2)]);
        std::fs::write(&image_path, [&whole[..], b"more"].concat()).unwrap();
        assert_eq!(wrong(directory.path(), &image), [("rootimg.sfs".to_owned(), None)]);
        std::fs::rename(directory.path().join("kernel"), directory.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", directory.path().join("kernel")).unwrap();
        let found = check(&Directory::open(directory.path()).unwrap(), &image).wrong;
        assert!(
            found.iter().any(|one| one.file == "kernel" && one.problem.contains("not a regular file")),
            "{found:?}"
        );
        std::fs::remove_file(directory.path().join("kernel")).unwrap();
        let found = check(&Directory::open(directory.path()).unwrap(), &image).wrong;
        assert!(found.iter().any(|one| one.file == "kernel" && one.problem == "is missing"), "{found:?}");
    }

    #[test]
    fn no_more_is_read_than_was_published() {
        let artefact = Artefact { name: "kernel".to_owned(), size: 6, sha256: Sha256::of(b"kernel") };
        let found = compare(io::Cursor::new(b"kernel").chain(Failing), 1 << 40, &artefact, &[]).unwrap();
        assert!(found.len() == 1 && found[0].problem.contains("1099511627776 bytes"), "{found:?}");
        assert!(compare(Failing, 6, &artefact, &[]).is_err());
    }

    struct Failing;

    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("read past the end"))
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_from_what_is_not_as_published() {
        let (directory, mut image) = published();
        let of = |image: &Image| check(&Directory::open(directory.path()).unwrap(), image).wrong;
        let kernel = directory.path().join("kernel");
        std::fs::remove_file(&kernel).unwrap();
        assert_eq!(of(&image).iter().map(|one| one.unread).collect::<Vec<_>>(), [false]);
        let _socket = std::os::unix::net::UnixListener::bind(&kernel).unwrap();
        let found = of(&image);
        assert!(found.len() == 1 && !found[0].unread && found[0].problem.contains("not a regular file"), "{found:?}");
        // No file system has such a name: an error of the machine, for root too.
        image.artefacts[0].name = "x".repeat(300);
        assert!(of(&image).iter().any(|one| one.unread && one.file.starts_with("xxx")));
    }

    #[test]
    fn an_index_that_is_not_of_its_image_is_named() {
        let (directory, image) = published();
        for (text, problem) in [
            (r#"{"size": 250, "frames": [{"offset": 1, "size": 249, "sha256": "$"}]}"#, "gap before byte 1"),
            (
                r#"{"size": 250, "frames": [{"offset": 0, "size": 249, "sha256": "$"}]}"#,
                "describes 250 bytes and frames of 249",
            ),
            (
                r#"{"size": 250, "frames": [{"offset": 0, "size": 18446744073709551615, "sha256": "$"}, {"offset": 18446744073709551615, "size": 1, "sha256": "$"}]}"#,
                "invalid size",
            ),
            ("{}", "cannot be read"),
        ] {
            let text = text.replace('$', &"0".repeat(64));
            let mut image = image.clone();
            image.artefacts[2] = Artefact {
                name: "rootimg.sfs.index".to_owned(),
                size: text.len() as u64,
                sha256: Sha256::of(text.as_bytes()),
            };
            std::fs::write(directory.path().join("rootimg.sfs.index"), &text).unwrap();
            std::fs::write(directory.path().join(SUMS), sums(&image)).unwrap();
            let found = check(&Directory::open(directory.path()).unwrap(), &image).wrong;
            assert!(found.len() == 1 && found[0].problem.contains(problem), "{found:?}");
        }
    }
}
