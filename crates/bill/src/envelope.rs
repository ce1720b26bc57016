//! Signed statements: DSSE envelopes with Ed25519 signatures of the keys that caches have. Source:
//! <https://github.com/secure-systems-lab/dsse>, protocol 1.0.2 and envelope 1.0.0.

use base64ct::{Base64, Base64Unpadded, Base64Url, Base64UrlUnpadded, Encoding};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use cache::{parse_public, public};

/// What is signed here. Source: in-toto's attestation framework.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// More signatures are not looked at.
const MOST_SIGNATURES: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Signed {
    /// A hint, which is not signed: the public key as `imgbuild cache key` prints it.
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// A payload and who signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<Signed>,
}

/// What an envelope's signatures are worth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signatures {
    /// Keys whose signatures are valid, as people write them.
    pub valid: Vec<String>,
    /// Key ids of signatures that are not valid, or that no known key made.
    pub other: Vec<String>,
}

/// The bytes that are signed: type and body with their lengths.
fn encoded(kind: &str, body: &[u8]) -> Vec<u8> {
    [format!("DSSEv1 {} {kind} {} ", kind.len(), body.len()).as_bytes(), body].concat()
}

/// Either alphabet, with padding or without. Source: DSSE, "Parameters"; padding is what writers differ in.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    let all = [Base64::decode_vec, Base64Url::decode_vec, Base64Unpadded::decode_vec, Base64UrlUnpadded::decode_vec];
    all.into_iter().find_map(|decode| decode(text).ok())
}

impl Envelope {
    /// Signs a statement.
    pub fn sign(statement: &[u8], key: &SigningKey) -> Self {
        let signature = key.sign(&encoded(PAYLOAD_TYPE, statement));
        let signed = Signed { keyid: public(&key.verifying_key()), sig: Base64::encode_string(&signature.to_bytes()) };
        Self {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: Base64::encode_string(statement),
            signatures: vec![signed],
        }
    }

    /// The file's text: a line. Errors: None that an envelope can have.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self).map(|text| format!("{text}\n"))
    }

    /// Reads an envelope, alone or as the first line of a bundle.
    /// Errors: What is wrong with it.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let mut all = serde_json::Deserializer::from_slice(text).into_iter::<Self>();
        let envelope = all.next().ok_or("it is empty")?.map_err(|error| error.to_string())?;
        if envelope.payload_type != PAYLOAD_TYPE {
            let kind: String = envelope.payload_type.chars().filter(|one| !one.is_control()).take(100).collect();
            return Err(format!("its payload is `{kind}`, not `{PAYLOAD_TYPE}`"));
        }
        Ok(envelope)
    }

    /// What was signed.
    /// Errors: It is not Base64.
    pub fn payload(&self) -> Result<Vec<u8>, String> {
        decoded(&self.payload).ok_or_else(|| "its payload is not in Base64".to_owned())
    }

    /// Compares the signatures with keys: with those that are trusted, or where none is, with those that the signatures name themselves.
    pub fn signatures(&self, payload: &[u8], trusted: &[VerifyingKey]) -> Signatures {
        let message = encoded(&self.payload_type, payload);
        let mut found = Signatures::default();
        for one in self.signatures.iter().take(MOST_SIGNATURES) {
            let signature = decoded(&one.sig).and_then(|bytes| Signature::from_slice(&bytes).ok());
            let named = parse_public(&one.keyid).ok();
            let keys: Vec<VerifyingKey> =
                if trusted.is_empty() { named.into_iter().collect() } else { trusted.to_vec() };
            let is_by = |key: &&VerifyingKey| {
                signature.is_some_and(|signature| key.verify_strict(&message, &signature).is_ok())
                    || fault::planted("bill-any-signature")
            };
            match keys.iter().find(is_by) {
                Some(key) => found.valid.push(public(key)),
                None => found.other.push(one.keyid.chars().filter(|one| !one.is_control()).take(100).collect()),
            }
        }
        found
    }
}

/// Reads a key of `imgbuild cache key`.
pub fn secret_of(text: &str) -> Option<SigningKey> {
    let digits = text.trim().strip_prefix("imgbuild-cache-key ")?;
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?;
    Some(SigningKey::from_bytes(&bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"_type":"https://in-toto.io/Statement/v1"}"#;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&std::array::from_fn(|at| at as u8))
    }

    /// The signature that another implementation makes of this key and body.
    #[test]
    fn a_signature_is_that_of_another_implementation() {
        assert_eq!(BODY.len(), 43);
        assert_eq!(
            public(&key().verifying_key()),
            "ed25519:03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
        );
        let start = b"DSSEv1 28 application/vnd.in-toto+json 43 {";
        assert!(encoded(PAYLOAD_TYPE, BODY).starts_with(start));
        let envelope = Envelope::sign(BODY, &key());
        let signature = Base64::decode_vec(&envelope.signatures[0].sig).unwrap();
        assert_eq!(
            data_encoding::HEXLOWER.encode(&signature),
            "168ea33973fd830d72c4516a7314f739138683d30727d1b63ecdb2086e25add252f18962f71747efcaf3b0645d5fbbcdd01bd99ed78d18f83d17bf421b9d540d"
        );
        let read = Envelope::read(envelope.to_text().unwrap().as_bytes()).unwrap();
        assert_eq!((&read, read.payload().unwrap().as_slice()), (&envelope, BODY));
        assert_eq!(read.signatures(BODY, &[]).valid, [public(&key().verifying_key())]);
    }

    #[test]
    fn what_no_trusted_key_signed_is_not_valid() {
        let other = SigningKey::from_bytes(&[7; 32]);
        let envelope = Envelope::sign(BODY, &key());
        let own = [other.verifying_key(), key().verifying_key()];
        assert_eq!(envelope.signatures(BODY, &own).valid.len(), 1);
        for (envelope, body) in [
            (envelope.clone(), &b"{}"[..]),
            // Another key's id proves nothing.
            (
                Envelope {
                    signatures: vec![Signed {
                        keyid: public(&key().verifying_key()),
                        ..Envelope::sign(BODY, &other).signatures[0].clone()
                    }],
                    ..envelope.clone()
                },
                BODY,
            ),
            (Envelope { payload_type: "text/plain".to_owned(), ..envelope.clone() }, BODY),
            (Envelope { signatures: Vec::new(), ..envelope.clone() }, BODY),
            (
                Envelope {
                    signatures: vec![Signed { keyid: String::new(), sig: "AA==".to_owned() }],
                    ..envelope.clone()
                },
                BODY,
            ),
        ] {
            assert_eq!(envelope.signatures(body, &own[1..]).valid, Vec::<String>::new());
        }
        // Nor does a signature of a cache's entry.
        let entry = cache::public(&key().verifying_key());
        assert!(Envelope::read(entry.as_bytes()).is_err());
        assert!(Envelope::read(br#"{"payloadType":"x","payload":"","signatures":[]}"#).unwrap_err().contains("`x`"));
        assert!(Envelope::read(b"").is_err());
    }

    #[test]
    fn keys_are_read_as_the_cache_writes_them() {
        assert_eq!(secret_of(&cache::secret(&key())).unwrap().to_bytes(), key().to_bytes());
        assert!(secret_of("imgbuild-cache-key 00").is_none() && secret_of("x").is_none());
    }

    proptest::proptest! {
        #[test]
        fn no_text_ends_the_program(text: Vec<u8>, payload: String, sig: String) {
            let made = serde_json::json!({"payloadType": PAYLOAD_TYPE, "payload": payload, "signatures": [{"sig": sig}]});
            for text in [text, made.to_string().into_bytes()] {
                if let Ok(envelope) = Envelope::read(&text) {
                    let payload = envelope.payload().unwrap_or_default();
                    assert!(envelope.signatures(&payload, &[key().verifying_key()]).valid.is_empty());
                }
            }
        }
    }
}
