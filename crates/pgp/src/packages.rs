//! Signatures of RPM packages and repositories: the standard policy, and what the distributions' own tools have made.

use openpgp::cert::amalgamation::ValidAmalgamation;
use openpgp::parse::Parse;
use openpgp::policy::{AsymmetricAlgorithm, HashAlgoSecurity, Policy, StandardPolicy};
use openpgp::types::{HashAlgorithm, RevocationStatus};
use sequoia_openpgp as openpgp;

use super::{Keyring, verify_by};

/// What signatures of RPM packages and repositories are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strength {
    /// What RHEL 6 to 10, Fedora since 11 and SUSE since 11 sign with: hashes without known collisions, RSA and DSA of 2048 bits.
    Sound,
    /// Also SHA-1 and MD5 over packages, and keys of 1024 bits: RHEL 5 and before. Someone with means can forge them.
    Weak,
}

/// Checks a signature of an RPM package or of a repomd.xml.
///
/// Beyond the standard policy two things are sound here. Signature packets of version 3, which rpm's signing tools wrote until 2022
/// (rpm-sequoia takes them as well, its issue 26). And SHA-1 in what a key says of itself: no one but its owner chose that text, so
/// that only a second preimage would help, and none is known; the keys of RHEL 6 to 9 have it.
/// Errors: As [`verify_detached`]; of a weak signature that the keyring does not accept it says what would.
pub fn verify_package(data: &[u8], signature: &[u8], keyring: &Keyring) -> Result<Strength, String> {
    let verify = |strength: Strength| {
        let policy = package_policy(strength);
        match verify_by(data, signature, keyring, &policy) {
            Err(_) if is_by_prolonged_key(data, signature, keyring, &policy) => Ok(()),
            other => other,
        }
    };
    let problem = match verify(Strength::Sound) {
        Ok(()) => return Ok(Strength::Sound),
        Err(problem) => problem,
    };
    match (verify(Strength::Weak), keyring.strength) {
        (Ok(()), Strength::Weak) => Ok(Strength::Weak),
        (Ok(()), Strength::Sound) => Err(format!(
            "{problem}: anyone who can forge such a signature controls what is installed; `‹weak-signatures = true›` in the ‹[[repo]]› accepts it"
        )),
        (Err(_), _) => Err(problem),
    }
}

/// Whether one of the signatures is good by a key whose statements of that time are lost: GnuPG keeps the newest alone when
/// someone prolongs a key and exports it, as SUSE does every few years (rpm-sequoia, issue 50). The key must have been there
/// when it signed, be for signing, not revoked, and not have run out then by what it says now.
fn is_by_prolonged_key(data: &[u8], signature: &[u8], keyring: &Keyring, policy: &StandardPolicy<'_>) -> bool {
    let Ok(packets) = openpgp::PacketPile::from_bytes(signature) else { return false };
    let signatures = packets.children().filter_map(|packet| match packet {
        openpgp::Packet::Signature(signature) => Some(signature),
        _ => None,
    });
    let is_good = |signature: &openpgp::packet::Signature| {
        let Some(made) = signature.signature_creation_time() else { return false };
        // The caller's part, says the library: not expired, and not of the future.
        if signature.signature_alive(None, None).is_err() {
            return false;
        }
        let issuers = signature.get_issuers();
        let is_sound = policy.signature(signature, HashAlgoSecurity::CollisionResistance).is_ok();
        // A key that says what it was then is judged by that.
        let lost = keyring.certificates.iter().filter(|cert| cert.with_policy(policy, made).is_err());
        let candidates = lost.filter_map(|cert| cert.with_policy(policy, None).ok());
        is_sound
            && candidates.into_iter().any(|cert| {
                let is_revoked = |status: RevocationStatus<'_>| matches!(status, RevocationStatus::Revoked(_));
                let mut keys = cert.keys().for_signing();
                !is_revoked(cert.revocation_status())
                    && cert.primary_key().key_expiration_time().is_none_or(|end| made < end)
                    && keys.any(|key| {
                        issuers.iter().any(|id| id.aliases(key.key().key_handle()))
                            && !is_revoked(key.revocation_status())
                            && policy.key(&key).is_ok()
                            && key.key().creation_time() <= made
                            && key.key_expiration_time().is_none_or(|end| made < end)
                            && signature.verify_message(key.key(), data).is_ok()
                    })
            })
    };
    signatures.into_iter().any(is_good)
}

fn package_policy(strength: Strength) -> StandardPolicy<'static> {
    let mut policy = StandardPolicy::new();
    policy.accept_packet_tag_version(openpgp::packet::Tag::Signature, 3);
    policy.accept_hash_property(HashAlgorithm::SHA1, HashAlgoSecurity::SecondPreImageResistance);
    if strength == Strength::Weak {
        for hash in [HashAlgorithm::SHA1, HashAlgorithm::MD5, HashAlgorithm::RipeMD] {
            policy.accept_hash(hash);
        }
        for kind in [AsymmetricAlgorithm::RSA1024, AsymmetricAlgorithm::DSA1024] {
            policy.accept_asymmetric_algo(kind);
        }
    }
    policy
}
