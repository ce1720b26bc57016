//! What a package file calls itself, without a look at what it brings.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::file::{Package, check_header};
use super::header::{Headers, tag};
use crate::rpm::Evr;

/// Name and version of a package file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    pub version: Evr,
    pub arch: String,
    /// The file name of its source package: `openssl-3.0.7-27.el9.src.rpm`.
    pub source: Option<String>,
}

impl Package {
    /// Reads the headers of a package file, and nothing behind them: a package may have gigabytes, and a header some kilobytes.
    /// Errors: What is wrong with them, also that they do not match their own digest.
    pub fn named(mut input: impl Read) -> Result<Named, String> {
        let headers = Headers::read(&mut input)?;
        check_header(&headers)?;
        let header = &headers.main;
        let text = |tag: u32, what: &str| header.text(tag).map(str::to_owned).ok_or(format!("has no {what}"));
        let epoch = header.number(tag::EPOCH).unwrap_or(0);
        Ok(Named {
            name: text(tag::NAME, "name")?,
            version: Evr {
                epoch: u32::try_from(epoch).unwrap_or(u32::MAX),
                version: text(tag::VERSION, "version")?,
                release: text(tag::RELEASE, "release")?,
            },
            arch: text(tag::ARCH, "architecture")?,
            source: header.text(tag::SOURCE_RPM).map(str::to_owned),
        })
    }

    /// The same of a file. Headers are read as they come, without a buffer that would read on.
    /// Errors: As [`Package::named`], or that it cannot be opened.
    pub fn named_at(path: &Path) -> Result<Named, String> {
        Self::named(File::open(path).map_err(|error| format!("cannot be opened: {error}"))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpm::package::file::tests::write;

    /// Counts what is read of it.
    struct Counted<R>(R, usize);

    impl<R: Read> Read for Counted<R> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let read = self.0.read(buffer)?;
            self.1 += read;
            Ok(read)
        }
    }

    #[test]
    fn only_the_headers_of_a_package_are_read_for_its_name() {
        let place = tempfile::tempdir().unwrap();
        // What no compressor makes small.
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let content: Vec<u8> = std::iter::repeat_with(&mut next).take(1 << 20).collect();
        let path = write(place.path(), "sample", |builder| {
            builder.with_file_contents(content, rpm::FileOptions::new("/usr/lib/sample")).unwrap();
        });
        let mut counted = Counted(File::open(&path).unwrap(), 0);
        let named = Package::named(&mut counted).unwrap();
        assert_eq!(
            (named.name.as_str(), named.version.to_string().as_str(), named.arch.as_str()),
            ("sample", "1:1.5-2", "x86_64")
        );
        let whole = Package::read(&path).unwrap();
        assert_eq!((named.source, named.version), (whole.candidate.source, whole.candidate.evr));
        let size = std::fs::metadata(&path).unwrap().len() as usize;
        assert!(size > 1 << 19 && counted.1 < 64 << 10, "{} of {size} bytes", counted.1);
        // A header that was changed is not believed.
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(6).rposition(|window| window == b"x86_64").unwrap();
        bytes[at] = b'y';
        assert!(Package::named(&bytes[..]).is_err() || at > counted.1);
    }
}
