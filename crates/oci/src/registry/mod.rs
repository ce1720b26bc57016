//! A repository of a registry. Source: opencontainers/distribution-spec 1.1.

mod keeping;
mod manifests;
mod referrers;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use ureq::Body;
use ureq::http::{Method, Response};

use super::client::{Access, Ask, Client, Payload, Trouble, authority};
use super::document::{Descriptor, Manifest};
use super::error::OciError;
use super::reference::Reference;
use super::send::{Content, Counted, Destination, Kept, Moved, Source};
use base::digest::Sha256;
use packages::{Paced, pause};

pub struct Registry(Client);

/// Hashes what is written to a file's place, and begins again where it has to.
struct Piece<'a> {
    file: Option<(&'a File, u64)>,
    bytes: Vec<u8>,
    hasher: sha2::Sha256,
    size: u64,
}

impl<'a> Piece<'a> {
    fn new(file: Option<(&'a File, u64)>) -> Self {
        Self { file, bytes: Vec::new(), hasher: sha2::Digest::new(), size: 0 }
    }
}

impl Write for Piece<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.file {
            Some((file, from)) => file.write_all_at(bytes, from + self.size)?,
            None => self.bytes.extend_from_slice(bytes),
        }
        sha2::Digest::update(&mut self.hasher, bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn header<'r>(response: &'r Response<Body>, name: &str) -> Option<&'r str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

impl Registry {
    /// Opens a repository; it is not asked yet.
    /// Errors: [`OciError::Credentials`], [`OciError::Usage`].
    pub fn new(reference: &Reference, access: Access) -> Result<Self, OciError> {
        if access.plain_http && access.ca.is_some() {
            let problem = "--plain-http and --ca exclude each other".to_owned();
            return Err(OciError::Usage {
                problem,
                help: "a certificate is checked where there is TLS: leave out one of them",
            });
        }
        Client::new(reference, access).map(Self)
    }

    fn blob_url(&self, digest: &Sha256) -> String {
        format!("{}/blobs/sha256:{digest}", self.0.base())
    }

    pub fn has(&self, blob: &Descriptor) -> Result<bool, OciError> {
        let url = self.blob_url(&blob.digest);
        let doing = "look for a blob";
        let ask = Ask { method: &Method::HEAD, url: &url, headers: &[], payload: Payload::None, doing };
        let response = self.0.ask(ask, &[404])?;
        Ok(response.status().as_u16() != 404)
    }

    /// Begins an upload; none where another repository had the blob.
    fn begin(&self, blob: &Descriptor, from: Option<&str>) -> Result<Option<String>, OciError> {
        let mut url = format!("{}/blobs/uploads/", self.0.base());
        if let Some(from) = from {
            url.push_str(&format!("?mount=sha256:{}&from={from}", blob.digest));
        }
        let doing = "begin an upload";
        let ask = Ask { method: &Method::POST, url: &url, headers: &[], payload: Payload::Bytes(&[]), doing };
        let response = self.0.ask(ask, &[])?;
        if response.status().as_u16() == 201 && from.is_some() {
            return Ok(None);
        }
        let to = header(&response, "location").unwrap_or_default();
        self.upload_target(to, &blob.digest).map(Some)
    }

    /// Where an upload goes: to the registry itself and nowhere else. One behind a proxy that ends TLS may not know that it has TLS.
    fn upload_target(&self, to: &str, digest: &Sha256) -> Result<String, OciError> {
        let base = self.0.base();
        let absolute = match to.contains("://") {
            true => to.to_owned(),
            false => packages::redirected(&base, to)
                .map_err(|_| self.0.astray(to, "for an upload, which is not an address"))?,
        };
        let own = authority(&base);
        let theirs = authority(&absolute);
        let same_host = own.as_ref().zip(theirs.as_ref()).is_some_and(|(own, theirs)| own.1 == theirs.1);
        let is_downgrade = same_host && base.starts_with("https://") && absolute.starts_with("http://");
        let url = if own == theirs || fault::planted("upload-elsewhere") {
            absolute
        } else if is_downgrade {
            let path = absolute.splitn(4, '/').nth(3).unwrap_or_default();
            let root = base.split('/').take(3).collect::<Vec<_>>().join("/");
            format!("{root}/{path}")
        } else {
            return Err(self.0.astray(&absolute, "for an upload, which is on another host"));
        };
        let joint = if url.contains('?') { '&' } else { '?' };
        Ok(format!("{url}{joint}digest=sha256:{digest}"))
    }

    /// Sends a blob in one piece. What fails begins again: a session that was left half way takes no more.
    fn upload(&self, blob: &Descriptor, content: &Content, first: String, moved: Moved<'_>) -> Result<(), OciError> {
        let doing = "send a blob";
        let mut url = Some(first);
        let mut last = String::new();
        for attempt in 0..self.0.tries() {
            pause(attempt);
            let to = match url.take() {
                Some(to) => to,
                None => match self.begin(blob, None)? {
                    Some(to) => to,
                    None => return Ok(()),
                },
            };
            let open = || -> std::io::Result<Box<dyn Read + '_>> {
                Ok(Box::new(Counted { reader: content.open(blob.size)?, moved }))
            };
            let ask = Ask {
                method: &Method::PUT,
                url: &to,
                headers: &[("content-type", "application/octet-stream")],
                payload: Payload::Reader(blob.size, &open),
                doing,
            };
            fault::point("oci.upload");
            match self.0.once(ask, &[]) {
                Ok(_) => return Ok(()),
                Err(Trouble::Last(error)) => return Err(error),
                Err(Trouble::Again(problem)) => last = problem,
            }
        }
        Err(self.0.unreached(doing, last))
    }

    /// Writes a blob to a file, and gives up after some time.
    /// Errors: As [`Source::write`].
    pub fn write_within(&self, blob: &Descriptor, what: &str, to: &File, within: Duration) -> Result<(), OciError> {
        self.bring(blob, what, Some((to, 0)), Some(Instant::now() + within)).map(|_| ())
    }

    /// Brings a blob; goes on where a connection ended.
    fn bring(
        &self,
        blob: &Descriptor,
        what: &str,
        file: Option<(&File, u64)>,
        until: Option<Instant>,
    ) -> Result<Vec<u8>, OciError> {
        let url = self.blob_url(&blob.digest);
        let doing = format!("get {what}");
        let mut piece = Piece::new(file);
        let mut last = String::new();
        for attempt in 0..self.0.tries() {
            pause(attempt);
            let range = format!("bytes={}-", piece.size);
            let headers: &[(&str, &str)] = if piece.size > 0 { &[("range", &range)] } else { &[] };
            let ask = Ask { method: &Method::GET, url: &url, headers, payload: Payload::None, doing: &doing };
            let response = match self.0.once(ask, &[404, 416]) {
                Ok(response) => response,
                Err(Trouble::Last(error)) => return Err(error),
                Err(Trouble::Again(problem)) => {
                    last = problem;
                    continue;
                }
            };
            match response.status().as_u16() {
                404 => {
                    let answer = format!("the registry lacks {what} (404)");
                    let help = "push the image again: the registry lost a part of it".to_owned();
                    return Err(OciError::NotThere { place: self.0.place(), answer, help });
                }
                206 if header(&response, "content-range")
                    .is_none_or(|range| range.starts_with(&format!("bytes {}-", piece.size))) => {}
                // From the start.
                _ => piece = Piece::new(file),
            }
            if response.status().as_u16() == 416 {
                "the server refuses to go on".clone_into(&mut last);
                continue;
            }
            let mut body = Paced::new(response.into_body().into_reader(), self.0.patience());
            match copy(&mut body, &mut piece, blob.size, until) {
                Ok(()) if piece.size == blob.size => return self.checked(blob, what, piece),
                Ok(()) => last = format!("it ended after {} of {} bytes", piece.size, blob.size),
                Err(Broken::Theirs(problem)) => last = problem,
                Err(Broken::Longer) => last = format!("it is longer than {} bytes", blob.size),
                Err(Broken::Ours(source)) => {
                    return Err(OciError::Keep { intent: "keep", path: what.into(), source });
                }
            }
            if piece.size > blob.size {
                piece = Piece::new(file);
            }
        }
        Err(self.0.unreached(&doing, last))
    }

    fn checked(&self, blob: &Descriptor, what: &str, piece: Piece<'_>) -> Result<Vec<u8>, OciError> {
        let found = Sha256(sha2::Digest::finalize(piece.hasher).into());
        match found == blob.digest {
            true => Ok(piece.bytes),
            false => {
                let place = self.0.place();
                Err(OciError::Digest { what: what.to_owned(), place, expected: blob.digest, found })
            }
        }
    }
}

enum Broken {
    Theirs(String),
    Longer,
    Ours(std::io::Error),
}

fn copy(body: &mut dyn Read, piece: &mut Piece<'_>, size: u64, until: Option<Instant>) -> Result<(), Broken> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        if until.is_some_and(|until| Instant::now() > until) {
            return Err(Broken::Theirs(format!("it sent {} of {size} bytes in that time", piece.size)));
        }
        let read = match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Broken::Theirs(error.to_string())),
        };
        if piece.size + read as u64 > size {
            piece.size = size + 1;
            return Err(Broken::Longer);
        }
        piece.write_all(&buffer[..read]).map_err(Broken::Ours)?;
    }
}

impl Destination for Registry {
    fn take(&self, blob: &Descriptor, content: &Content, moved: Moved<'_>) -> Result<Kept, OciError> {
        if self.has(blob)? {
            return Ok(Kept::There);
        }
        content.check(blob)?;
        // A repository that lacks it has a session begun instead: what is sent there is the same.
        let mut session = None;
        for from in &self.0.access.mounts {
            match self.begin(blob, Some(from))? {
                None => return Ok(Kept::Mounted),
                begun => session = begun,
            }
        }
        if session.is_none() {
            session = self.begin(blob, None)?;
        }
        if let Some(to) = session {
            self.upload(blob, content, to, moved)?;
        }
        Ok(Kept::Sent)
    }

    fn attach(&self, about: &Manifest) -> Result<(), OciError> {
        self.refer(about)
    }

    fn finish(&self, manifest: &[u8], digest: Sha256) -> Result<(), OciError> {
        self.name(manifest, digest, &self.0.reference.version())
    }
}

impl Source for Registry {
    fn place(&self) -> String {
        self.0.place()
    }

    fn manifest(&self) -> Result<Vec<u8>, OciError> {
        self.named(&self.0.reference.version())?.ok_or_else(|| self.no_such_tag())
    }

    fn attached(&self, subject: &Sha256, kinds: &[&str]) -> Result<Vec<Manifest>, OciError> {
        self.referrers(subject, kinds)
    }

    fn read(&self, blob: &Descriptor, what: &str) -> Result<Vec<u8>, OciError> {
        self.bring(blob, what, None, None)
    }

    fn write(&self, blob: &Descriptor, what: &str, to: &File, from: u64) -> Result<(), OciError> {
        self.bring(blob, what, Some((to, from)), None).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_go_to_the_registry_alone() {
        let digest = Sha256::of(b"x");
        let target = |registry: &str, to: &str| {
            let registry = Registry::new(&registry.parse().unwrap(), Access::default()).unwrap();
            registry.upload_target(to, &digest).map_err(|error| error.to_string())
        };
        let end = format!("digest=sha256:{digest}");
        for (to, expected) in [
            ("/v2/x/blobs/uploads/1", "https://r.test:8443/v2/x/blobs/uploads/1?"),
            ("/v2/x/blobs/uploads/1?_state=a", "https://r.test:8443/v2/x/blobs/uploads/1?_state=a&"),
            ("https://r.test:8443/u", "https://r.test:8443/u?"),
            // Behind a proxy that ends TLS.
            ("http://r.test/u?a", "https://r.test:8443/u?a&"),
            ("http://R.test:8443/u", "https://r.test:8443/u?"),
        ] {
            assert_eq!(target("r.test:8443/x", to), Ok(format!("{expected}{end}")), "{to}");
        }
        for to in [
            "https://other.test/u",
            "http://other.test/u",
            "https://r.test:8443@evil.test/u",
            "https://r.test/u",
            "ftp://r.test/u",
            "",
        ] {
            assert!(target("r.test:8443/x", to).is_err(), "{to}");
        }
        assert!(target("localhost:5/x", "http://localhost:5/u").is_ok());
    }
}
