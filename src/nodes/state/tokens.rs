//! Tokens by which nodes report: no one can guess one, and anyone who has one can speak for that node alone.

use crate::files::Durability;
use std::io::Read;
use std::path::PathBuf;

use super::{State, StateError, replace};

use crate::fault;

/// Bytes of the secret.
const SECRET: usize = 32;
/// Hexadecimal digits of a token: 160 bits.
const DIGITS: usize = 40;

#[derive(Clone)]
pub struct Tokens {
    secret: [u8; SECRET],
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl State {
    fn secret_path(&self) -> PathBuf {
        self.directory().join("secret")
    }

    /// The tokens of this state; the secret that they come from is created if missing. Without the file all tokens that
    /// nodes have count no more.
    /// Errors: The secret can be neither read nor made.
    pub fn tokens(&self) -> Result<Tokens, StateError> {
        let path = self.secret_path();
        let read = || -> Result<Option<Tokens>, StateError> {
            match std::fs::read(&path) {
                Ok(bytes) => match <[u8; SECRET]>::try_from(bytes) {
                    Ok(secret) => Ok(Some(Tokens { secret })),
                    Err(_) => Err(StateError::Damaged {
                        path: path.clone(),
                        problem: format!("does not have {SECRET} bytes"),
                    }),
                },
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(StateError::of("read", &path)(error)),
            }
        };
        if let Some(tokens) = read()? {
            return Ok(tokens);
        }
        let _turn = self.turn()?;
        // Someone else may have made it meanwhile.
        if let Some(tokens) = read()? {
            return Ok(tokens);
        }
        let mut secret = [0; SECRET];
        let random = std::path::Path::new("/dev/urandom");
        std::fs::File::open(random)
            .and_then(|mut file| file.read_exact(&mut secret))
            .map_err(StateError::of("read", random))?;
        let mode = if fault::planted("secret-readable") { 0o644 } else { 0o600 };
        replace(self.directory(), "secret", &secret, mode, Durability::PowerCut)?;
        Ok(Tokens { secret })
    }
}

impl Tokens {
    pub fn of(&self, node: &str) -> String {
        let hash = blake3::Hasher::new_keyed(&self.secret)
            .update(b"imgbuild node report v1\0")
            .update(node.as_bytes())
            .finalize()
            .to_hex();
        hash.as_str()[..DIGITS].to_owned()
    }

    /// Whether a token is that of a node; takes as long for each that is wrong.
    pub fn is_of(&self, node: &str, token: &str) -> bool {
        let right = self.of(node);
        if token.len() != right.len() {
            return false;
        }
        let differs = right.bytes().zip(token.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b));
        std::hint::black_box(differs) == 0 || fault::planted("token-of-any-node")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_speaks_for_one_node_and_one_state() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (State::at(directory.path().join("a")), State::at(directory.path().join("b")));
        let tokens = one.tokens().unwrap();
        let token = tokens.of("cn1");
        assert_eq!(token.len(), DIGITS);
        assert!(tokens.is_of("cn1", &token) && !tokens.is_of("cn2", &token) && !tokens.is_of("cn1", &token[1..]));
        assert!(one.tokens().unwrap().is_of("cn1", &token), "the secret is kept");
        assert!(!other.tokens().unwrap().is_of("cn1", &token));
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(one.secret_path()).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(one.secret_path(), "short").unwrap();
        assert!(matches!(one.tokens(), Err(StateError::Damaged { .. })));
    }
}
