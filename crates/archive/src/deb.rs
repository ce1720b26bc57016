//! Debian binary packages: an `ar` archive of three members. Source: deb(5).

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};

use thiserror::Error;

/// Why a package file cannot be read.
#[derive(Debug, Error)]
pub enum DebError {
    #[error("is not a Debian package: {0}")]
    Format(&'static str),
    #[error("has a member `{0}` with an unknown compression")]
    Compression(String),
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

/// Start of an `ar` archive.
const MAGIC: &[u8; 8] = b"!<arch>\n";

/// Largest control member that is read: package scripts and checksums, never more than a few megabytes.
const CONTROL_LIMIT: u64 = 64 << 20;

/// Largest first member, in bytes: it has four.
const VERSION_LIMIT: u64 = 1024;

/// Memory that an xz stream may ask for, in bytes; `dpkg-deb -Zxz -z9` needs 65 MiB.
const XZ_MEMORY_LIMIT: u64 = 512 << 20;

/// Undoes a member's compression, by the ending of its name.
fn decompressed<'a>(name: &str, data: impl Read + 'a) -> Result<Box<dyn Read + 'a>, DebError> {
    use liblzma::stream::{CONCATENATED, Stream};
    let xz = |stream: Result<Stream, liblzma::stream::Error>| stream.map_err(std::io::Error::from);
    Ok(match name.rsplit_once(".tar").map(|(_, ending)| ending) {
        Some("") => Box::new(data),
        Some(".gz") => Box::new(flate2::read::MultiGzDecoder::new(data)),
        Some(".xz") => {
            let stream = xz(Stream::new_stream_decoder(XZ_MEMORY_LIMIT, CONCATENATED))?;
            Box::new(liblzma::read::XzDecoder::new_stream(data, stream))
        }
        Some(".lzma") => {
            let stream = xz(Stream::new_lzma_decoder(XZ_MEMORY_LIMIT))?;
            Box::new(liblzma::read::XzDecoder::new_stream(data, stream))
        }
        Some(".zst") => Box::new(zstd::Decoder::new(data)?),
        Some(".bz2") => Box::new(bzip2::read::MultiBzDecoder::new(data)),
        _ => return Err(DebError::Compression(name.to_owned())),
    })
}

/// A member as it stands in the file: exactly as many bytes as its header says.
struct Exact<'a, R> {
    inner: &'a mut R,
    left: u64,
}

impl<R: Read> Read for Exact<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            let problem = format!("it is truncated: {} bytes of a member are missing", self.left);
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, problem));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn drain(reader: &mut dyn Read) -> std::io::Result<u64> {
    std::io::copy(reader, &mut std::io::sink())
}

/// What comes next in a package. Source: deb(5): `debian-binary`, `control.tar`, `data.tar`; before the last of them only
/// members whose name begins with `_` may stand in between, after it any.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Version,
    Control,
    Data,
    Anything,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Version,
    Control,
    Data,
    Other,
}

impl Next {
    fn take(&mut self, name: &str) -> Result<Part, DebError> {
        let (part, next) = match *self {
            Self::Version if name == "debian-binary" => (Part::Version, Self::Control),
            Self::Version => return Err(DebError::Format("the first member is not `debian-binary`")),
            Self::Control if name.starts_with("control.tar") => (Part::Control, Self::Data),
            Self::Data if name.starts_with("data.tar") => (Part::Data, Self::Anything),
            Self::Anything => (Part::Other, Self::Anything),
            other if name.starts_with('_') => (Part::Other, other),
            Self::Control => return Err(DebError::Format("the second member is not `control.tar`")),
            Self::Data => return Err(DebError::Format("the third member is not `data.tar`")),
        };
        *self = next;
        Ok(part)
    }
}

/// Goes through the members of a package, each exactly as long as its header says.
fn each_member<E: From<DebError>>(
    package: impl Read,
    mut visit: impl FnMut(Part, &[u8; 60], &str, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let mut input = BufReader::with_capacity(1 << 17, package);
    let io = |error: std::io::Error| E::from(DebError::Io(error));
    let mut magic = Vec::with_capacity(8);
    input.by_ref().take(8).read_to_end(&mut magic).map_err(io)?;
    if magic != MAGIC {
        return Err(DebError::Format(if magic.is_empty() { "the file is empty" } else { "no `ar` header" }).into());
    }
    let mut next = Next::Version;
    while let Some(header) = next_header(&mut input)? {
        let (name, size) = name_and_size(&header)?;
        let part = next.take(&name)?;
        let mut data = Exact { inner: &mut input, left: size };
        if part == Part::Version {
            let version = version(&mut data)?;
            visit(part, &header, &name, &mut &version[..])?;
        } else {
            visit(part, &header, &name, &mut data)?;
        }
        drain(&mut data).map_err(io)?;
        skip_padding(&mut input, size)?;
    }
    match next {
        Next::Anything => Ok(()),
        _ => Err(DebError::Format("it is truncated: members are missing").into()),
    }
}

/// The first member: format 2 of any minor version. Source: deb(5).
fn version(data: &mut dyn Read) -> Result<Vec<u8>, DebError> {
    let mut text = Vec::new();
    data.take(VERSION_LIMIT).read_to_end(&mut text)?;
    if text.starts_with(b"2.") && text.contains(&b'\n') {
        Ok(text)
    } else {
        Err(DebError::Format("its format is not 2.x"))
    }
}

/// Calls `member` with the name and the decompressed content of `control.tar` and `data.tar`, in their order. What `member`
/// does not read is read after it, so that a package that is cut off or damaged is an error.
/// Errors: [`DebError`], or what `member` returns.
pub fn read_members<E: From<DebError>>(
    package: impl Read,
    mut member: impl FnMut(&str, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    each_member(package, |part, _, name, data| {
        if matches!(part, Part::Control | Part::Data) {
            let mut content = decompressed(name, data)?;
            member(name, &mut content)?;
            drain(&mut content).map_err(|error| E::from(DebError::Io(error)))?;
        }
        Ok(())
    })
}

/// Writes a package again with its `data.tar` uncompressed; every other member stays byte for byte.
///
/// Package managers undo compression with one thread for one package after another; so it is done once, by all
/// threads, before they start.
///
/// Gives whether that was slow: xz, lzma and bzip2 take ten times as long as the others.
/// Errors: [`DebError`] when the file is no package, is cut off or damaged, or cannot be written.
pub fn write_plain(package: impl Read, out: &mut (impl Write + Seek)) -> Result<bool, DebError> {
    out.write_all(MAGIC)?;
    let mut is_slow = false;
    each_member(package, |part, header, name, data| {
        let mut header = *header;
        let place = out.stream_position()?;
        if part == Part::Data {
            header[..16].copy_from_slice(b"data.tar        ");
            is_slow = [".xz", ".lzma", ".bz2"].iter().any(|ending| name.ends_with(ending));
        }
        out.write_all(&header)?;
        let written = match part {
            Part::Data => std::io::copy(&mut decompressed(name, data)?, out)?,
            Part::Control => {
                // As it is, but read through: dpkg would say it late.
                let mut bytes = Vec::new();
                data.take(CONTROL_LIMIT).read_to_end(&mut bytes)?;
                drain(&mut decompressed(name, &bytes[..])?)?;
                out.write_all(&bytes)?;
                bytes.len() as u64
            }
            Part::Version | Part::Other => std::io::copy(data, out)?,
        };
        if written % 2 == 1 {
            out.write_all(b"\n")?;
        }
        let end = out.stream_position()?;
        out.seek(SeekFrom::Start(place + 48))?;
        let size = format!("{written:<10}");
        let size: &[u8; 10] =
            size.as_bytes().try_into().map_err(|_| DebError::Format("a member is too large for `ar`"))?;
        out.write_all(size)?;
        out.seek(SeekFrom::Start(end))?;
        Ok::<(), DebError>(())
    })?;
    Ok(is_slow)
}

/// The next member's header; none at the end of the file.
fn next_header(input: &mut impl BufRead) -> Result<Option<[u8; 60]>, DebError> {
    if input.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let mut header = [0u8; 60];
    input.read_exact(&mut header).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => DebError::Format("it is truncated in a member's header"),
        _ => error.into(),
    })?;
    Ok(Some(header))
}

fn name_and_size(header: &[u8; 60]) -> Result<(String, u64), DebError> {
    let wrong = || DebError::Format("bad member header");
    if &header[58..] != b"`\n" {
        return Err(wrong());
    }
    let text = std::str::from_utf8(header).map_err(|_| wrong())?;
    let name = text.get(..16).ok_or_else(wrong)?.trim_end().trim_end_matches('/').to_owned();
    let size = text.get(48..58).ok_or_else(wrong)?.trim_end();
    // `parse` would take a plus.
    let digits = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit());
    let size = if digits { size.parse().ok() } else { None };
    Ok((name, size.ok_or(DebError::Format("bad member size"))?))
}

/// Members start at even offsets; the last one's padding may be missing.
fn skip_padding(input: &mut impl Read, size: u64) -> Result<(), DebError> {
    if size % 2 == 1 {
        input.read_exact(&mut [0u8; 1]).or_else(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Ok(()),
            _ => Err(error),
        })?;
    }
    Ok(())
}

/// The control stanza of a package, without the last newline.
///
/// The members are gone through as they stand, so a package that is cut off is an error; `data.tar` is not decompressed.
/// Errors: [`DebError`] when the file is no package or has none, or the stanza is not one.
pub fn control_stanza(package: impl Read) -> Result<String, DebError> {
    let mut stanza = None;
    each_member(package, |part, _, name, data| -> Result<(), DebError> {
        if part != Part::Control {
            return Ok(());
        }
        let mut content = decompressed(name, data)?.take(CONTROL_LIMIT);
        let mut archive = super::open_tar(&mut content);
        for entry in archive.entries()? {
            let mut entry = entry?;
            if entry.path_bytes().as_ref() == b"./control" || entry.path_bytes().as_ref() == b"control" {
                let mut text = String::new();
                entry.read_to_string(&mut text)?;
                stanza = Some(text.trim_end().to_owned());
            }
        }
        drain(&mut content)?;
        Ok(())
    })?;
    let stanza = stanza.ok_or(DebError::Format("no control file"))?;
    check_stanza(&stanza)?;
    Ok(stanza)
}

/// One stanza with a name that a package can have: what dpkg refuses, and what would be two packages in an index.
/// Source: deb-control(5), Debian Policy 5.6.1 and 5.6.7.
fn check_stanza(stanza: &str) -> Result<(), DebError> {
    if stanza.trim_start_matches(['\n', '\r']).lines().any(|line| line.trim().is_empty()) {
        return Err(DebError::Format("its control file contains an empty line, which would make it two packages"));
    }
    let field = |name: &str| {
        stanza.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let starts_well = |text: &str| text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let of = |text: &str, more: &[u8]| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte));
    match field("Package") {
        // dpkg takes an underscore too, though policy does not.
        Some(name) if starts_well(name) && of(name, b"+-._") => {}
        Some(_) => return Err(DebError::Format("its control file has an invalid Package name")),
        None => return Err(DebError::Format("its control file names no Package")),
    }
    match field("Version") {
        Some(version) if !version.is_empty() && of(version, b"+-.:~") => {}
        Some(_) => return Err(DebError::Format("its control file has an invalid Version")),
        None => return Err(DebError::Format("its control file names no Version")),
    }
    match field("Architecture") {
        Some(architecture) if !architecture.is_empty() && of(architecture, b"-") => Ok(()),
        _ => Err(DebError::Format("its control file names no Architecture")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_is_one_package_with_a_name() {
        let whole = "Package: munge\nVersion: 1:0.5-1~a\nArchitecture: amd64\nDescription: x\n .\n y";
        assert!(check_stanza(whole).is_ok());
        for wrong in [
            whole.replace("\nDescription", "\n\nPackage: evil\nDescription"),
            whole.replace("\nDescription", "\n \nDescription"),
            whole.replace("munge", "../munge"),
            whole.replace("munge", ""),
            whole.replace("Package: munge\n", ""),
            whole.replace("1:0.5-1~a", "1 2"),
            whole.replace("amd64", ""),
        ] {
            assert!(check_stanza(&wrong).is_err(), "{wrong}");
        }
    }
}
