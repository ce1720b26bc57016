//! Signatures of clear-signed files, judged by Sequoia's standard policy (D38).

mod mistaken;
mod packages;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use openpgp::cert::prelude::*;
use openpgp::parse::Parse;
use openpgp::parse::stream::{
    DetachedVerifierBuilder, GoodChecksum, MessageLayer, MessageStructure, VerificationError, VerificationHelper,
    VerifierBuilder,
};
use openpgp::policy::StandardPolicy;
use openpgp::types::RevocationStatus;
use openpgp::{Cert, KeyHandle};
use sequoia_openpgp as openpgp;

pub use packages::{Strength, verify_package};

/// Archive keys of Debian 11 to 13: the certificates of debian-archive-keyring.gpg in the package
/// debian-archive-keyring 2025.1 of Debian 13. A test below has their fingerprints.
const DEBIAN_ARCHIVE_KEYS: &[u8] = include_bytes!("keys/debian-archive.asc");

/// Archive keys of Ubuntu since 2012: the certificates of the archive in ubuntu-archive-keyring.gpg, of the package
/// ubuntu-keyring 2023.11.28.1 of Debian 13. A test below has their fingerprints.
const UBUNTU_ARCHIVE_KEYS: &[u8] = include_bytes!("keys/ubuntu-archive.asc");

/// Keys of RPM distributions, as distribution-gpg-keys 1.110 has them.
const RPM_KEYS: [(&str, &[u8]); 7] = [
    ("alma", include_bytes!("keys/alma.asc")),
    ("centos", include_bytes!("keys/centos.asc")),
    ("epel", include_bytes!("keys/epel.asc")),
    ("fedora", include_bytes!("keys/fedora.asc")),
    ("opensuse", include_bytes!("keys/opensuse.asc")),
    ("oracle", include_bytes!("keys/oracle.asc")),
    ("rocky", include_bytes!("keys/rocky.asc")),
];

#[derive(Debug, Clone)]
pub struct Keyring {
    certificates: Vec<Cert>,
    /// What signatures of packages are accepted of them.
    strength: Strength,
}

fn chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl Keyring {
    /// The built-in keys of Debian's archive.
    /// Errors: A text, if the built-in data were damaged.
    pub fn debian() -> Result<Self, String> {
        Self::parse(DEBIAN_ARCHIVE_KEYS)
    }

    /// The built-in keys of Ubuntu's archive.
    /// Errors: A text, if the built-in data were damaged.
    pub fn ubuntu() -> Result<Self, String> {
        Self::parse(UBUNTU_ARCHIVE_KEYS)
    }

    /// Built-in keys of an RPM distribution: those of these fingerprints.
    /// Errors: A text, where one of them is not built in.
    pub fn built_in(distribution: &str, fingerprints: &[&str]) -> Result<Self, String> {
        let bytes = RPM_KEYS.iter().find(|(name, _)| *name == distribution).map(|(_, bytes)| *bytes);
        let mut all = Self::parse(bytes.ok_or_else(|| format!("no keys of {distribution} are built in"))?)?;
        all.certificates.retain(|cert| fingerprints.contains(&cert.fingerprint().to_hex().as_str()));
        match all.certificates.len() == fingerprints.len() {
            true => Ok(all),
            false => Err(format!("not all keys {} of {distribution} are built in", fingerprints.join(", "))),
        }
    }

    /// Reads certificates from a file.
    /// Errors: A text: the file cannot be read, holds none, or a part of it is damaged.
    pub fn read(path: &Path) -> Result<Self, String> {
        Self::parse(&std::fs::read(path).map_err(|error| error.to_string())?)
    }

    /// Reads certificates, binary, armored or several of them one after another.
    /// Errors: A text that says what is wrong. A damaged part is an error: it might have held a revocation.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if let Some(other) = mistaken::instead_of_certificates(bytes) {
            return Err(other.to_owned());
        }
        let mut certificates: BTreeMap<_, Cert> = BTreeMap::new();
        for certificate in CertParser::from_bytes(bytes).map_err(|error| chain(&error))? {
            let certificate = certificate.map_err(|error| chain(&error))?;
            // Copies of one certificate are merged: a stale copy must not hide a revocation.
            let merged = match certificates.remove(&certificate.fingerprint()) {
                Some(other) => other.merge_public(certificate).map_err(|error| chain(&error))?,
                None => certificate,
            };
            certificates.insert(merged.fingerprint(), merged);
        }
        if certificates.is_empty() {
            return Err("it contains no certificate".to_owned());
        }
        Ok(Self { certificates: certificates.into_values().collect(), strength: Strength::Sound })
    }

    /// The keyring, where weak signatures of packages count as well.
    #[must_use]
    pub fn accepting_weak(self) -> Self {
        Self { strength: Strength::Weak, ..self }
    }

    pub fn len(&self) -> usize {
        self.certificates.len()
    }

    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    pub fn extend(&mut self, other: Self) {
        self.certificates.extend(other.certificates);
    }
}

/// Exactly one clear-signed block and nothing else; the parser itself would pass over what stands around it.
fn check_framing(data: &[u8]) -> Result<(), &'static str> {
    enum At {
        Start,
        Headers,
        Text,
        Signature,
        End,
    }
    let mut at = At::Start;
    for line in data.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii_end();
        at = match (at, line) {
            (At::Start, b"-----BEGIN PGP SIGNED MESSAGE-----") => At::Headers,
            (At::Start, _) => return Err("it is not signed (no `BEGIN PGP SIGNED MESSAGE` line at its start)"),
            (At::Headers, b"") => At::Text,
            (At::Headers, header) if header.starts_with(b"Hash: ") => At::Headers,
            (At::Headers, _) => return Err("it has an unexpected armor header"),
            (At::Text, b"-----BEGIN PGP SIGNATURE-----") => At::Signature,
            (At::Text, text) if text.starts_with(b"-") && !text.starts_with(b"- ") => {
                return Err("its text has an unescaped dash line");
            }
            (At::Signature, b"-----END PGP SIGNATURE-----") => At::End,
            (At::Signature, text) if text.starts_with(b"-----") => return Err("its signature has a stray armor line"),
            (At::End, b"") => At::End,
            (At::End, _) => return Err("it has data after the signature"),
            (same, _) => same,
        };
    }
    match at {
        At::End => Ok(()),
        At::Start => Err("it is empty"),
        At::Headers | At::Text => Err("it has no signature"),
        At::Signature => Err("its signature is truncated"),
    }
}

struct Verdict<'a> {
    certificates: &'a [Cert],
    clear_signed: bool,
    good: Vec<String>,
    bad: Vec<String>,
}

impl VerificationHelper for &mut Verdict<'_> {
    fn get_certs(&mut self, ids: &[KeyHandle]) -> openpgp::Result<Vec<Cert>> {
        let wanted = |cert: &&Cert| cert.keys().any(|key| ids.iter().any(|id| id.aliases(key.key().key_handle())));
        Ok(self.certificates.iter().filter(wanted).cloned().collect())
    }

    // Never fails: the verdict is taken from what was collected.
    fn check(&mut self, structure: MessageStructure<'_>) -> openpgp::Result<()> {
        self.clear_signed = structure.processed_csf_message();
        for layer in structure {
            let MessageLayer::SignatureGroup { results } = layer else {
                self.bad.push("it is not plain signed text".to_owned());
                continue;
            };
            for result in results {
                match result {
                    Ok(GoodChecksum { ka, .. }) => self.good.push(ka.cert().fingerprint().to_hex()),
                    Err(error) => self.bad.push(explain(error)),
                }
            }
        }
        Ok(())
    }
}

fn issuers(signature: &openpgp::packet::Signature) -> String {
    let ids: Vec<String> = signature.get_issuers().iter().map(KeyHandle::to_hex).collect();
    // The fingerprint, which is the longest, says all.
    ids.into_iter().max_by_key(String::len).unwrap_or_else(|| "unknown".to_owned())
}

fn explain(error: VerificationError<'_>) -> String {
    use VerificationError as V;
    let reason = |error: &anyhow::Error| match error.downcast_ref::<openpgp::Error>() {
        Some(openpgp::Error::Expired(_)) => "has expired".to_owned(),
        Some(openpgp::Error::NotYetLive(_)) => "is from the future (is this machine's clock right?)".to_owned(),
        Some(openpgp::Error::PolicyViolation(..)) => format!("uses something too weak: {}", chain(error)),
        _ => format!("is not good: {}", chain(error)),
    };
    match error {
        V::MissingKey { sig } => format!("key {} is not in the keyring", issuers(sig)),
        V::UnboundKey { sig, error, .. } => format!("key {} {}", issuers(sig), reason(&error)),
        V::BadKey { sig, ka, error } => {
            let revoked = [ka.valid_cert().revocation_status(), ka.revocation_status()]
                .iter()
                .any(|status| matches!(status, RevocationStatus::Revoked(_)));
            let why = if revoked {
                "was revoked".to_owned()
            } else if !ka.for_signing() {
                "is not for signing".to_owned()
            } else {
                reason(&error)
            };
            format!("key {} {why}", issuers(sig))
        }
        V::BadSignature { sig, error, .. } => {
            let why = match error.downcast_ref::<openpgp::Error>() {
                Some(
                    openpgp::Error::Expired(_) | openpgp::Error::NotYetLive(_) | openpgp::Error::PolicyViolation(..),
                ) => reason(&error),
                _ => "does not match the text: the file was altered".to_owned(),
            };
            format!("the signature by {} {why}", issuers(sig))
        }
        other => other.to_string(),
    }
}

/// Checks a clear-signed file and gives exactly the text that was signed, with a final newline.
///
/// One good signature by a certificate of the keyring suffices; keys are judged at the time of the signature, so
/// that an archived release stays readable after its key has run out.
/// Errors: A text with each signature's problem.
pub fn verify_clear_signed(data: &[u8], keyring: &Keyring) -> Result<String, String> {
    if !fault::planted("pgp-text-around") {
        check_framing(data)?;
    }
    let policy = StandardPolicy::new();
    let mut verdict =
        Verdict { certificates: &keyring.certificates, clear_signed: false, good: Vec::new(), bad: Vec::new() };
    let mut payload = Vec::new();
    VerifierBuilder::from_bytes(data)
        .and_then(|builder| builder.with_policy(&policy, None, &mut verdict))
        .map_err(|error| chain(&error))?
        .read_to_end(&mut payload)
        .map_err(|error| error.to_string())?;
    if !verdict.clear_signed {
        return Err("it is not a clear-signed file".to_owned());
    }
    if verdict.good.is_empty() && !fault::planted("signature-unchecked") {
        return Err(if verdict.bad.is_empty() { "it has no signature".to_owned() } else { verdict.bad.join("; ") });
    }
    let mut text = String::from_utf8(payload).map_err(|_| "its text is not UTF-8".to_owned())?;
    text.push('\n');
    Ok(text)
}

/// The text of a clear-signed file, no matter who signed it: for what is trusted without a signature. None for what is no text.
/// Source: RFC 9580, section 7.
pub fn clear_text(data: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(data).ok()?;
    let Some((_, rest)) = text.split_once("-----BEGIN PGP SIGNED MESSAGE-----\n") else { return Some(text.to_owned()) };
    let (_, body) = rest.split_once("\n\n")?;
    let body = body.split("-----BEGIN PGP SIGNATURE-----").next().unwrap_or(body);
    Some(body.lines().map(|line| format!("{}\n", line.strip_prefix("- ").unwrap_or(line))).collect())
}

/// Checks a signature that stands apart from what it signs, binary or armored.
///
/// As with [`verify_clear_signed`], one good signature suffices, and keys are judged at its time.
/// Errors: A text with each signature's problem.
pub fn verify_detached(data: &[u8], signature: &[u8], keyring: &Keyring) -> Result<(), String> {
    verify_by(data, signature, keyring, &StandardPolicy::new())
}

fn verify_by(data: &[u8], signature: &[u8], keyring: &Keyring, policy: &StandardPolicy<'_>) -> Result<(), String> {
    let mut verdict =
        Verdict { certificates: &keyring.certificates, clear_signed: false, good: Vec::new(), bad: Vec::new() };
    DetachedVerifierBuilder::from_bytes(signature)
        .and_then(|builder| builder.with_policy(policy, None, &mut verdict))
        .and_then(|mut verifier| verifier.verify_bytes(data))
        .map_err(|error| format!("it is not a signature: {}", chain(&error)))?;
    match (verdict.good.is_empty(), verdict.bad.is_empty()) {
        (false, _) => Ok(()),
        (true, true) => Err("it has no signature".to_owned()),
        (true, false) => Err(verdict.bad.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use openpgp::Packet;
    use openpgp::packet::signature::SignatureBuilder;
    use openpgp::serialize::{Serialize, SerializeInto};
    use openpgp::types::{HashAlgorithm, SignatureType};

    use super::*;

    #[test]
    fn the_built_in_keys_are_those_that_debian_publishes() {
        // As https://ftp-master.debian.org/keys.html lists them: archive, security and release keys.
        let published = [
            // 11
            "1F89983E0081FDE018F3CC9673A4F27B8DD47936",
            "AC530D520F2F3269F5E98313A48449044AAD5C5D",
            "A4285295FC7B1A81600062A9605C66F00D6C9793",
            // 12
            "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8",
            "05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0",
            "4D64FEC119C2029067D6E791F8D2585B8783D481",
            // 13
            "04B54C3CDCA79751B16BC6B5225629DF75B188BD",
            "5E04A1E3223A19A20706E20F9904613D4CCE68C6",
            "41587F7DB8C774BCCF131416762F67A0B2C39DE4",
        ];
        let built_in = Keyring::debian().unwrap();
        let mut found: Vec<String> =
            built_in.certificates.iter().map(|certificate| certificate.fingerprint().to_hex()).collect();
        found.sort();
        let mut published = published.map(str::to_owned);
        published.sort();
        assert_eq!(found, published);
    }

    /// Source: <https://wiki.ubuntu.com/SecurityTeam/FAQ>, "GPG Keys used by Ubuntu".
    #[test]
    fn the_built_in_keys_are_those_that_ubuntu_publishes() {
        let built_in = Keyring::ubuntu().unwrap();
        let mut found: Vec<String> =
            built_in.certificates.iter().map(|certificate| certificate.fingerprint().to_hex()).collect();
        found.sort();
        assert_eq!(found, ["790BC7277767219C42C86F933B4FE6ACC0B21F32", "F6ECB3762474EDA9D21B7022871920D1991BC93C"]);
    }

    #[test]
    fn what_is_not_exactly_one_signed_block_is_refused() {
        for (text, said) in [
            ("", "not signed"),
            ("Origin: Debian\n", "not signed"),
            ("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nx\n", "no signature"),
            ("-----BEGIN PGP SIGNED MESSAGE-----\nEvil: yes\n\nx\n", "armor header"),
        ] {
            let error = verify_clear_signed(text.as_bytes(), &Keyring::debian().unwrap()).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    /// A key of a kind, with its self-signatures by a hash, and a signature over `data`.
    fn signed(suite: CipherSuite, hash: HashAlgorithm, data: &[u8]) -> (Cert, Vec<u8>) {
        let (cert, _) = CertBuilder::new().set_cipher_suite(suite).generate().unwrap();
        let mut primary = cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
        let user = openpgp::packet::UserID::from("site@example.invalid");
        let binding = SignatureBuilder::new(SignatureType::PositiveCertification)
            .set_hash_algo(hash)
            .set_key_flags(openpgp::types::KeyFlags::empty().set_certification().set_signing())
            .unwrap();
        let binding = user.bind(&mut primary, &cert, binding).unwrap();
        // The primary key alone, bound by the user id alone, as old vendor keys are.
        let key = Packet::from(cert.primary_key().key().clone().parts_into_public().role_into_primary());
        let bare = Cert::from_packets([key, Packet::from(user), Packet::from(binding)].into_iter()).unwrap();
        let signature = SignatureBuilder::new(SignatureType::Binary)
            .set_hash_algo(HashAlgorithm::SHA256)
            .sign_message(&mut primary, data)
            .unwrap();
        let mut bytes = Vec::new();
        Packet::from(signature).serialize(&mut bytes).unwrap();
        (bare, bytes)
    }

    fn armored(cert: &Cert) -> Vec<u8> {
        cert.armored().to_vec().unwrap()
    }

    #[test]
    fn detached_signatures_of_rsa_keys_count_and_alterations_show() {
        for suite in [CipherSuite::RSA2k, CipherSuite::Cv25519] {
            let (cert, signature) = signed(suite, HashAlgorithm::SHA256, b"header");
            let (other, _) = signed(CipherSuite::Cv25519, HashAlgorithm::SHA256, b"");
            // A file of several armored keys, as vendors publish them.
            let keys = [armored(&other), b"some words\n".to_vec(), armored(&cert)].concat();
            let keyring = Keyring::parse(&keys).unwrap();
            assert_eq!(keyring.certificates.len(), 2);
            verify_detached(b"header", &signature, &keyring).unwrap();
            let said = verify_detached(b"headez", &signature, &keyring).unwrap_err();
            assert!(said.contains("was altered"), "{said}");
            let said = verify_detached(b"header", &signature, &Keyring::parse(&armored(&other)).unwrap()).unwrap_err();
            assert!(said.contains(&cert.fingerprint().to_hex()) && said.contains("not in the keyring"), "{said}");
            assert!(verify_detached(b"header", b"", &keyring).is_err());
        }
    }

    #[test]
    fn a_key_that_is_bound_by_sha1_is_named() {
        let (cert, signature) = signed(CipherSuite::Cv25519, HashAlgorithm::SHA1, b"header");
        let keyring = Keyring::parse(&armored(&cert)).unwrap();
        let said = verify_detached(b"header", &signature, &keyring).unwrap_err();
        assert!(said.contains(&cert.fingerprint().to_hex()) && said.contains("SHA1"), "{said}");
    }
}
