//! Debian binary packages: an `ar` archive of three members. Source: deb(5).

use std::io::{BufReader, Read, Seek, SeekFrom, Write};

use thiserror::Error;

/// Why a package file cannot be read.
#[derive(Debug, Error)]
pub enum DebError {
    /// It is no package of format 2.
    #[error("is no Debian package: {0}")]
    Format(&'static str),
    /// It uses a compressor that this program does not know.
    #[error("has a member `{0}` with an unknown compression")]
    Compression(String),
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

/// Start of an `ar` archive.
const MAGIC: &[u8; 8] = b"!<arch>\n";

/// Largest control member that is read: package scripts and checksums, never more than a few megabytes.
const CONTROL_LIMIT: u64 = 64 << 20;

/// Memory that an xz stream may ask for, in bytes; `dpkg-deb -Zxz -z9` needs 65 MiB.
const XZ_MEMORY_LIMIT: u64 = 512 << 20;

/// Undoes a member's compression, by the ending of its name.
fn decompressed<'a>(name: &str, data: impl Read + 'a) -> Result<Box<dyn Read + 'a>, DebError> {
    Ok(match name.rsplit_once(".tar").map(|(_, ending)| ending) {
        Some("") => Box::new(data),
        Some(".gz") => Box::new(flate2::read::MultiGzDecoder::new(data)),
        Some(".xz") => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_LIMIT, liblzma::stream::CONCATENATED)
                .map_err(std::io::Error::from)?;
            Box::new(liblzma::read::XzDecoder::new_stream(data, stream))
        }
        Some(".zst") => Box::new(zstd::Decoder::new(data)?),
        _ => return Err(DebError::Compression(name.to_owned())),
    })
}

/// Calls `member` with the name and the decompressed content of `control.tar` and `data.tar`, in their order.
///
/// # Errors
/// [`DebError`], or what `member` returns.
pub fn read_members<E: From<DebError>>(
    package: impl Read,
    mut member: impl FnMut(&str, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let mut input = BufReader::with_capacity(1 << 17, package);
    let io = |error: std::io::Error| E::from(DebError::Io(error));
    let mut magic = [0u8; 8];
    input.read_exact(&mut magic).map_err(io)?;
    if &magic != MAGIC {
        return Err(DebError::Format("no `ar` header").into());
    }
    let mut first = true;
    while let Some(header) = next_header(&mut input)? {
        let (name, size) = name_and_size(&header)?;
        if first && name != "debian-binary" {
            return Err(DebError::Format("the first member is not `debian-binary`").into());
        }
        first = false;
        let mut data = (&mut input).take(size);
        if name.starts_with("control.tar") || name.starts_with("data.tar") {
            let mut content = decompressed(&name, &mut data)?;
            member(&name, &mut content)?;
        }
        std::io::copy(&mut data, &mut std::io::sink()).map_err(io)?;
        skip_padding(&mut input, size)?;
    }
    Ok(())
}

/// Writes a package anew with its `data.tar` uncompressed; every other member stays byte for byte.
///
/// Package managers undo compression with one thread for one package after another; so it is done once, by all
/// threads, before they start.
///
/// # Errors
/// [`DebError`] when the file is no package, or cannot be written.
pub fn write_plain(package: impl Read, out: &mut (impl Write + Seek)) -> Result<(), DebError> {
    let mut input = BufReader::with_capacity(1 << 17, package);
    let mut magic = [0u8; 8];
    input.read_exact(&mut magic)?;
    if &magic != MAGIC {
        return Err(DebError::Format("no `ar` header"));
    }
    out.write_all(MAGIC)?;
    while let Some(mut header) = next_header(&mut input)? {
        let (name, size) = name_and_size(&header)?;
        let place = out.stream_position()?;
        let is_data = name.starts_with("data.tar");
        if is_data {
            header[..16].copy_from_slice(b"data.tar        ");
        }
        out.write_all(&header)?;
        let mut data = (&mut input).take(size);
        let written = if is_data {
            std::io::copy(&mut decompressed(&name, &mut data)?, out)?
        } else {
            std::io::copy(&mut data, out)?
        };
        if !is_data && written != size {
            return Err(DebError::Format("it is truncated"));
        }
        std::io::copy(&mut data, &mut std::io::sink())?;
        if written % 2 == 1 {
            out.write_all(b"\n")?;
        }
        if is_data {
            let end = out.stream_position()?;
            out.seek(SeekFrom::Start(place + 48))?;
            out.write_all(format!("{written:<10}").as_bytes().get(..10).unwrap_or(b"0         "))?;
            out.seek(SeekFrom::Start(end))?;
        }
        skip_padding(&mut input, size)?;
    }
    Ok(())
}

/// The next member's header; none at the end of the file.
fn next_header(input: &mut impl Read) -> Result<Option<[u8; 60]>, DebError> {
    let mut header = [0u8; 60];
    match input.read_exact(&mut header) {
        Ok(()) => Ok(Some(header)),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn name_and_size(header: &[u8; 60]) -> Result<(String, u64), DebError> {
    let wrong = || DebError::Format("bad member header");
    if &header[58..] != b"`\n" {
        return Err(wrong());
    }
    let text = std::str::from_utf8(header).map_err(|_| wrong())?;
    let name = text.get(..16).ok_or_else(wrong)?.trim_end().trim_end_matches('/').to_owned();
    let size = text.get(48..58).ok_or_else(wrong)?;
    Ok((name, size.trim_end().parse().map_err(|_| DebError::Format("bad member size"))?))
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
/// # Errors
/// [`DebError`] when the file is no package or has none.
pub fn control_stanza(package: impl Read) -> Result<String, DebError> {
    let mut stanza = None;
    read_members(package, |name, content| -> Result<(), DebError> {
        if !name.starts_with("control.tar") {
            return Ok(());
        }
        let mut archive = tar::Archive::new(content.take(CONTROL_LIMIT));
        for entry in archive.entries()? {
            let mut entry = entry?;
            if entry.path_bytes().as_ref() == b"./control" || entry.path_bytes().as_ref() == b"control" {
                let mut text = String::new();
                entry.read_to_string(&mut text)?;
                stanza = Some(text.trim_end().to_owned());
            }
        }
        Ok(())
    })?;
    stanza.ok_or(DebError::Format("no control file"))
}
