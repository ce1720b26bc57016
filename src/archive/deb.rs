//! Debian binary packages: an `ar` archive of three members. Source: deb(5).

use std::io::{BufReader, Read};

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
    if &magic != b"!<arch>\n" {
        return Err(DebError::Format("no `ar` header").into());
    }
    let mut first = true;
    loop {
        let mut header = [0u8; 60];
        match input.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(io(error)),
        }
        let text = std::str::from_utf8(&header).map_err(|_| DebError::Format("bad member header"))?;
        if &text[58..] != "`\n" {
            return Err(DebError::Format("bad member header").into());
        }
        let name = text[..16].trim_end().trim_end_matches('/').to_owned();
        let size: u64 = text[48..58].trim_end().parse().map_err(|_| DebError::Format("bad member size"))?;
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
        if size % 2 == 1 {
            let mut padding = [0u8; 1];
            if input.read(&mut padding).map_err(io)? == 0 {
                return Ok(());
            }
        }
    }
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
