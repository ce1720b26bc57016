//! Parts of packages, of whichever kind, unpacked inside.

use std::fs::File;
use std::io::{BufReader, Read, Seek};

use crate::rpm;
use archive::{DebError, Extractor, extract_tar, read_members};

/// How a package of the RPM family begins. Source: rpm, lib/rpmlead.c.
const RPM_MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];

struct Unpacking(String);

impl From<DebError> for Unpacking {
    fn from(error: DebError) -> Self {
        Self(error.to_string())
    }
}

/// Unpacks what of a package is wanted, by path without a slash in front; no script runs.
pub fn unpack_part(extractor: &mut Extractor, package: &str, wanted: &dyn Fn(&str) -> bool) -> Result<(), String> {
    let mut file = File::open(package).map_err(|error| error.to_string())?;
    let mut start = [0; 4];
    file.read_exact(&mut start).and_then(|()| file.rewind()).map_err(|error| error.to_string())?;
    if start == RPM_MAGIC {
        return rpm::unpack_part(extractor, BufReader::with_capacity(1 << 17, file), wanted);
    }
    let read = read_members::<Unpacking>(file, |member, content| {
        if member.starts_with("data.tar") {
            extract_tar(extractor, content, wanted).map_err(Unpacking)?;
        }
        Ok(())
    });
    read.map_err(|Unpacking(problem)| problem)
}
