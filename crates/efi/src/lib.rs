//! Programs of UEFI as Secure Boot looks at them: whether they are signed, whether the signature is for these bytes, and by whom. Whether that signer is trusted
//! is for the firmware and for shim to say: nothing is believed here. Sources: Microsoft, "Windows Authenticode Portable Executable
//! Signature Format"; UEFI 2.10, chapter 32; shim's README.

use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use authenticode::{
    AttributeCertificate, AttributeCertificateIterator, PeOffsetError, PeOffsets, PeTrait, authenticode_digest,
};
use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::SignedData;
use object::pe::{IMAGE_DIRECTORY_ENTRY_SECURITY, ImageNtHeaders64};
use object::read::pe::PeFile;
use object::{LittleEndian, Object, ObjectSection, SectionIndex};
use sha1::digest::Update;
use sha2::Digest;
use x509_cert::Certificate;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Encode, SliceReader};

/// Larger programs are not read. Kernels with an initrd in them have tens of megabytes.
const LONGEST: u64 = 256 << 20;
/// The algorithm of digests in signatures that is compared. Source: RFC 5754.
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
/// More signatures are not looked at.
const MOST_SIGNATURES: usize = 16;
/// Length of the headers of the optional header and of PE, in bytes. Source: Microsoft, "PE Format".
const BEFORE_OPTIONAL: usize = 24;
const CHECKSUM: usize = 64;
const DIRECTORIES: usize = 112;
const DIRECTORY: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Who signed, as the certificate names them.
    pub signer: String,
    pub issuer: String,
}

/// Why a program would not be started with Secure Boot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("cannot be read: {0}")]
    Io(String),
    /// Something else, or a program for 32 bits.
    #[error("is not a UEFI program: {0}")]
    NotAProgram(String),
    #[error("is not signed")]
    Unsigned,
    #[error("has a signature that cannot be parsed: {0}")]
    Unreadable(String),
    #[error("was changed after it was signed")]
    Changed,
}

struct Program<'a> {
    file: PeFile<'a, ImageNtHeaders64>,
    bytes: &'a [u8],
    optional: usize,
}

impl<'a> Program<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Problem> {
        let file = PeFile::<ImageNtHeaders64>::parse(bytes).map_err(|error| Problem::NotAProgram(error.to_string()))?;
        let at = file.dos_header().nt_headers_offset();
        let optional = usize::try_from(at).ok().and_then(|at| at.checked_add(BEFORE_OPTIONAL));
        let optional = optional.ok_or_else(|| Problem::NotAProgram("its headers are outside the file".to_owned()))?;
        Ok(Self { file, bytes, optional })
    }
}

impl PeTrait for Program<'_> {
    fn data(&self) -> &[u8] {
        self.bytes
    }

    fn num_sections(&self) -> usize {
        self.file.section_table().len()
    }

    fn section_data_range(&self, index: usize) -> Result<Range<usize>, PeOffsetError> {
        let section = self.file.section_table().section(SectionIndex(index)).map_err(|_| PeOffsetError)?;
        match section.size_of_raw_data.get(LittleEndian) {
            // Wherever an empty one is said to be, nothing of it is hashed.
            0 => Ok(0..0),
            size => range(section.pointer_to_raw_data.get(LittleEndian), size),
        }
    }

    fn certificate_table_range(&self) -> Result<Option<Range<usize>>, PeOffsetError> {
        let entry = self.file.data_directory(IMAGE_DIRECTORY_ENTRY_SECURITY);
        entry.map(|entry| range(entry.virtual_address.get(LittleEndian), entry.size.get(LittleEndian))).transpose()
    }

    fn offsets(&self) -> Result<PeOffsets, PeOffsetError> {
        let after = |more: usize| self.optional.checked_add(more).ok_or(PeOffsetError);
        let security = after(DIRECTORIES + DIRECTORY * IMAGE_DIRECTORY_ENTRY_SECURITY)?;
        let headers = self.file.nt_headers().optional_header.size_of_headers.get(LittleEndian);
        Ok(PeOffsets {
            check_sum: after(CHECKSUM)?,
            after_check_sum: after(CHECKSUM + 4)?,
            security_data_dir: security,
            after_security_data_dir: security.checked_add(DIRECTORY).ok_or(PeOffsetError)?,
            after_header: usize::try_from(headers).map_err(|_| PeOffsetError)?,
        })
    }
}

fn range(start: u32, length: u32) -> Result<Range<usize>, PeOffsetError> {
    let (start, length) = (usize::try_from(start), usize::try_from(length));
    let (Ok(start), Ok(length)) = (start, length) else { return Err(PeOffsetError) };
    Ok(start..start.checked_add(length).ok_or(PeOffsetError)?)
}

/// SHA-256 as the library's version of the trait wants it.
struct Hasher(sha2::Sha256);

impl Update for Hasher {
    fn update(&mut self, data: &[u8]) {
        Digest::update(&mut self.0, data);
    }
}

/// The signatures of a program that are for these bytes. As shim does, others beside them are passed over.
/// Errors: There is no such signature; the reason is the first one's.
pub fn signatures(bytes: &[u8]) -> Result<Vec<Signature>, Problem> {
    let program = Program::read(bytes)?;
    let is_there = program.certificate_table_range().map_err(|error| unreadable(&error))?;
    if is_there.is_none_or(|range| range.is_empty()) {
        return Err(Problem::Unsigned);
    }
    let table = AttributeCertificateIterator::new(&program).map_err(|error| unreadable(&error))?;
    let own = digest_of(&program)?;
    let (mut found, mut problem) = (Vec::new(), None);
    for entry in table.into_iter().flatten().take(MOST_SIGNATURES) {
        match entry.map_err(|error| unreadable(&error)).and_then(|entry| signature_of(&entry, &own)) {
            Ok(signature) => found.push(signature),
            Err(error) => drop(problem.get_or_insert(error)),
        }
    }
    match (found.is_empty(), problem) {
        (false, _) => Ok(found),
        (true, problem) => Err(problem.unwrap_or(Problem::Unsigned)),
    }
}

fn unreadable(error: &dyn std::fmt::Display) -> Problem {
    Problem::Unreadable(error.to_string())
}

fn digest_of(program: &Program<'_>) -> Result<Vec<u8>, Problem> {
    // Sections that lie over one another would be hashed many times.
    let sections = (1..=program.num_sections()).map(|index| program.section_data_range(index).map(|range| range.len()));
    let sizes: Vec<usize> = sections.collect::<Result<_, _>>().map_err(|error| unreadable(&error))?;
    if sizes.iter().try_fold(0_usize, |sum, size| sum.checked_add(*size)).is_none_or(|sum| sum > program.bytes.len()) {
        return Err(unreadable(&"its sections are larger than the file"));
    }
    let mut hasher = Hasher(sha2::Sha256::new());
    authenticode_digest(program, &mut hasher).map_err(|error| unreadable(&error))?;
    Ok(hasher.0.finalize().to_vec())
}

fn signature_of(entry: &AttributeCertificate<'_>, own: &[u8]) -> Result<Signature, Problem> {
    let signature = entry.get_authenticode_signature().map_err(|error| unreadable(&error))?;
    if signature.digest_algorithm().oid != SHA256 {
        return Err(unreadable(&"its digest is not SHA-256"));
    }
    if signature.digest() != own && !fault::planted("efi-other-bytes") {
        return Err(Problem::Changed);
    }
    // The signer is named by issuer and serial number, or in another way: then it is the first certificate.
    let id = signature.signer_info().sid.to_der().unwrap_or_default();
    let is_of = |certificate: &&Certificate| {
        let own = &certificate.tbs_certificate;
        let issuer = own.issuer.to_der().unwrap_or_default();
        let serial = own.serial_number.to_der().unwrap_or_default();
        !issuer.is_empty() && !serial.is_empty() && id.ends_with(&[issuer, serial].concat())
    };
    let all = certificates(entry.data);
    let certificate = all.iter().find(is_of).or(all.first());
    let own = &certificate.ok_or_else(|| unreadable(&"it contains no certificate"))?.tbs_certificate;
    Ok(Signature { signer: name(&own.subject.to_string()), issuer: name(&own.issuer.to_string()) })
}

/// The certificates of a signature. The library's own way to them panics where there are none, or one of another kind.
fn certificates(data: &[u8]) -> Vec<Certificate> {
    let read = || -> Option<Vec<Certificate>> {
        let info = ContentInfo::decode(&mut SliceReader::new(data).ok()?).ok()?;
        let signed = info.content.decode_as::<SignedData>().ok()?;
        let of = |one| match one {
            CertificateChoices::Certificate(certificate) => Some(certificate),
            CertificateChoices::Other(_) => None,
        };
        Some(signed.certificates?.0.into_vec().into_iter().filter_map(of).collect())
    };
    read().unwrap_or_default()
}

/// The bytes of a program, unless it is no file, or too large.
/// Errors: [`Problem::Io`], [`Problem::NotAProgram`].
pub fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    let said = |error: std::io::Error| Problem::Io(error.to_string());
    // A pipe is not waited for.
    let file = std::fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(said)?;
    if !file.metadata().map_err(said)?.is_file() {
        return Err(Problem::NotAProgram("it is not a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(said)?;
    if bytes.len() as u64 > LONGEST {
        return Err(Problem::NotAProgram("the limit is 256 MiB".to_owned()));
    }
    Ok(bytes)
}

/// The signatures of a file.
/// Errors: As [`signatures`] says, or it cannot be read.
pub fn signatures_of(path: &Path) -> Result<Vec<Signature>, Problem> {
    signatures(&read(path)?)
}

/// The authorities that a shim has built in, whose programs it starts: its section `.vendor_cert`. Empty, where it has none that can be read.
pub fn authorities_of_shim(bytes: &[u8]) -> Vec<String> {
    let read = || -> Option<String> {
        let program = Program::read(bytes).ok()?;
        let data = program.file.section_by_name(".vendor_cert")?.data().ok()?;
        // Four numbers: how long the certificate and the list of refused ones are, and where.
        let number = |at: usize| usize::try_from(u32::from_le_bytes(data.get(at..at + 4)?.try_into().ok()?)).ok();
        let (length, start) = (number(0)?, number(8)?);
        let certificate = Certificate::from_der(data.get(start..start.checked_add(length)?)?).ok()?;
        Some(name(&certificate.tbs_certificate.subject.to_string()))
    };
    read().into_iter().collect()
}

/// A certificate's name for a message: the common name alone, if it has one, without what would move a terminal's cursor.
fn name(subject: &str) -> String {
    let common = subject.split(',').find_map(|part| part.trim().strip_prefix("CN="));
    common
        .unwrap_or(subject)
        .chars()
        .filter(|letter| fault::planted("efi-names-move-cursor") || !letter.is_control())
        .take(120)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A program with one section of sixteen bytes, and a table of certificates behind it.
    fn program(certificates: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 528];
        let mut put = |at: usize, data: &[u8]| bytes[at..at + data.len()].copy_from_slice(data);
        put(0, b"MZ");
        put(0x3c, &0x40_u32.to_le_bytes());
        put(0x40, b"PE\0\0");
        // For x86-64, one section, 240 bytes of optional header.
        put(0x44, &[0x64, 0x86, 1, 0]);
        put(0x54, &[240, 0, 0x22, 0]);
        let optional = 0x58;
        put(optional, &[0x0b, 2]);
        put(optional + 60, &512_u32.to_le_bytes());
        put(optional + 108, &16_u32.to_le_bytes());
        if !certificates.is_empty() {
            put(optional + 144, &528_u32.to_le_bytes());
            put(optional + 148, &u32::try_from(certificates.len()).unwrap().to_le_bytes());
        }
        let section = optional + 240;
        put(section, b".text");
        put(section + 8, &16_u32.to_le_bytes());
        put(section + 16, &16_u32.to_le_bytes());
        put(section + 20, &512_u32.to_le_bytes());
        bytes.extend(certificates);
        bytes
    }

    fn entry(length: u32, data: &[u8]) -> Vec<u8> {
        [&length.to_le_bytes()[..], &0x200_u16.to_le_bytes(), &2_u16.to_le_bytes(), data].concat()
    }

    #[test]
    fn what_is_not_signed_is_told_from_what_cannot_be_read() {
        assert_eq!(signatures(&program(b"")), Err(Problem::Unsigned));
        for bytes in [&b""[..], b"#!/bin/sh\n", b"MZ", &program(b"")[..80]] {
            assert!(matches!(signatures(bytes), Err(Problem::NotAProgram(_))), "{bytes:?}");
        }
        // Bytes that are not a signature, one that is longer than its table, one that lies outside the file.
        let cut = program(&entry(16, &[0; 8]));
        for bytes in [
            &program(&entry(16, &[0x30; 8])),
            &program(&entry(4096, &[0; 8])),
            &program(&entry(2, &[0; 8])),
            &cut[..cut.len() - 8].to_vec(),
        ] {
            assert!(matches!(signatures(bytes), Err(Problem::Unreadable(_))), "{:?}", signatures(bytes));
        }
        assert_eq!(authorities_of_shim(&program(b"")), [""; 0]);
        assert!(matches!(signatures_of(Path::new("/nonexistent")), Err(Problem::Io(_))));
    }

    const SIGNED: &[u8] = include_bytes!("../../../tests/fixtures/efi/signed.efi");

    #[test]
    fn who_signed_is_named_and_what_was_changed_is_told() {
        let expected = Signature { signer: "Example Boot Signer".to_owned(), issuer: "Example Boot CA".to_owned() };
        assert_eq!(signatures(SIGNED), Ok(vec![expected]));
        // In the section, in the headers, behind the sections; not the checksum, which no signature is for.
        for at in [600, 0x58 + 16, 1020] {
            let mut bytes = SIGNED.to_vec();
            bytes[at] ^= 1;
            assert_eq!(signatures(&bytes), Err(Problem::Changed), "{at}");
        }
        let mut bytes = SIGNED.to_vec();
        bytes[0x58 + CHECKSUM] ^= 1;
        assert!(signatures(&bytes).is_ok());
        bytes[0x58 + DIRECTORIES + 4 * DIRECTORY..][..DIRECTORY].fill(0);
        assert_eq!(signatures(&bytes), Err(Problem::Unsigned));
    }

    /// The signed program with another table of certificates.
    fn with_table(table: &[u8]) -> Vec<u8> {
        let place = 0x58 + DIRECTORIES + 4 * DIRECTORY;
        let start = u32::from_le_bytes(SIGNED[place..place + 4].try_into().unwrap());
        let mut bytes = SIGNED[..start as usize].to_vec();
        bytes.extend(table);
        bytes[place + 4..place + 8].copy_from_slice(&u32::try_from(table.len()).unwrap().to_le_bytes());
        bytes
    }

    /// The signature of the signed program, and its table.
    fn own_signature() -> (Vec<u8>, Vec<u8>) {
        let place = 0x58 + DIRECTORIES + 4 * DIRECTORY;
        let start = u32::from_le_bytes(SIGNED[place..place + 4].try_into().unwrap()) as usize;
        (SIGNED[start + 8..].to_vec(), SIGNED[start..].to_vec())
    }

    /// An entry of a table, filled up to whole words of eight bytes.
    fn filled(data: &[u8]) -> Vec<u8> {
        let mut entry = entry(u32::try_from(data.len() + 8).unwrap(), data);
        entry.resize(entry.len().next_multiple_of(8), 0);
        entry
    }

    #[test]
    fn one_signature_that_is_for_the_bytes_is_enough_as_for_shim() {
        let (_, table) = own_signature();
        let other = filled(&[0x30; 24]);
        let both = signatures(&with_table(&[&other[..], &table].concat()));
        assert_eq!(both.map(|found| found.len()), Ok(1));
        assert!(matches!(signatures(&with_table(&other)), Err(Problem::Unreadable(_))));
        // Another kind than PKCS 7.
        let mut raw = filled(&[1; 24]);
        raw[6] = 1;
        assert_eq!(signatures(&with_table(&[raw, table].concat())).map(|found| found.len()), Ok(1));
    }

    #[test]
    fn a_signature_without_certificates_is_told_and_stops_nothing() {
        let (data, _) = own_signature();
        let mut info = ContentInfo::decode(&mut SliceReader::new(&data).unwrap()).unwrap();
        let mut signed = info.content.decode_as::<SignedData>().unwrap();
        signed.certificates = None;
        info.content = x509_cert::der::Any::encode_from(&signed).unwrap();
        let found = signatures(&with_table(&filled(&info.to_der().unwrap())));
        assert_eq!(found, Err(Problem::Unreadable("it contains no certificate".to_owned())));
    }

    #[test]
    fn sections_over_one_another_are_not_hashed_again_and_again() {
        let mut bytes = program(&entry(16, &[0x30; 8]));
        // Two that cover nearly all of it.
        bytes[0x46] = 2;
        for at in [0x58 + 240, 0x58 + 280] {
            bytes[at + 16..at + 20].copy_from_slice(&500_u32.to_le_bytes());
            bytes[at + 20..at + 24].copy_from_slice(&0_u32.to_le_bytes());
        }
        let said = "its sections are larger than the file".to_owned();
        assert_eq!(signatures(&bytes), Err(Problem::Unreadable(said)));
    }

    #[test]
    fn names_of_certificates_move_no_cursor() {
        assert_eq!(name("C=US,O=Example,CN=Example \u{1b}[2JSigner"), "Example [2JSigner");
        assert_eq!(name("O=Example"), "O=Example");
        assert_eq!(name(&"x".repeat(500)).len(), 120);
    }

    proptest! {
        #[test]
        fn damaged_programs_are_refused_and_never_stop_anything(
            certificates in proptest::collection::vec(any::<u8>(), 0..200),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
            cut in any::<prop::sample::Index>(),
            is_cut in any::<bool>(),
        ) {
            let mut bytes = program(&entry(u32::try_from(certificates.len() + 8).unwrap(), &certificates));
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if is_cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            prop_assert!(signatures(&bytes).is_err());
            prop_assert!(authorities_of_shim(&bytes).is_empty());
        }

        #[test]
        fn a_damaged_signature_never_stops_anything(
            changes in proptest::collection::vec((1024..SIGNED.len(), any::<u8>()), 1..12),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = SIGNED.to_vec();
            for (at, value) in changes {
                bytes[at] = value;
            }
            // The names may be others now.
            let _ = signatures(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            prop_assert!(signatures(&bytes).is_err());
        }
    }
}
