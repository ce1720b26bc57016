//! Tokens by which nodes report: no one can guess one, and anyone who has one can speak for that node alone.

use std::io::Read;
use std::path::PathBuf;

use super::{State, StateError};
use files::Durability;

const FILE: &str = "secret";
/// Longest that is read of it: what is longer is no secret of ours.
const LONGEST: u64 = 1 << 10;
/// Bytes of the secret.
const SECRET: usize = 32;
/// Hexadecimal digits of a token: 160 bits.
pub const DIGITS: usize = 40;

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
        self.directory().join(FILE)
    }

    /// The tokens of this state; the secret that they come from is created if missing. Without the file all tokens that
    /// nodes have count no more.
    /// Errors: The secret can be neither read nor made.
    pub fn tokens(&self) -> Result<Tokens, StateError> {
        let read = || -> Result<Option<Tokens>, StateError> {
            let Some(bytes) = self.read_bytes(FILE, LONGEST)? else { return Ok(None) };
            let problem = || format!("does not have {SECRET} bytes");
            let secret = <[u8; SECRET]>::try_from(bytes);
            let secret = secret.map_err(|_| StateError::Damaged { path: self.secret_path(), problem: problem() })?;
            Ok(Some(Tokens { secret }))
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
        self.replace(FILE, &secret, mode, Durability::PowerCut)?;
        Ok(Tokens { secret })
    }
}

/// What a right token says of the node that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spoken {
    /// The build that its loader started: an image, and the build's name.
    Build(String, String),
    /// Nothing: a token from before builds were named, or of a node that boots its disk.
    NoBuild,
}

impl Spoken {
    pub fn image(&self) -> Option<&str> {
        match self {
            Self::Build(image, _) => Some(image),
            Self::NoBuild => None,
        }
    }

    pub fn build(&self) -> Option<&str> {
        match self {
            Self::Build(_, build) => Some(build),
            Self::NoBuild => None,
        }
    }
}

impl Tokens {
    /// The token of a node that names no build.
    pub fn of(&self, node: &str) -> String {
        self.digits(b"imgbuild node report v1\0", &[node])
    }

    /// The token of a node for a build: `IMAGE.BUILD.DIGITS`. What reports with it runs what its loader started with it.
    pub fn of_build(&self, node: &str, image: &str, build: &str) -> String {
        let digits = self.digits(b"imgbuild node report v2\0", &[node, "\0", image, "\0", build]);
        format!("{image}.{build}.{digits}")
    }

    fn digits(&self, purpose: &[u8], parts: &[&str]) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(purpose);
        for part in parts {
            hasher.update(part.as_bytes());
        }
        hasher.finalize().to_hex().as_str()[..DIGITS].to_owned()
    }

    /// What a token says, if it is one of this node; takes as long for each that is wrong.
    pub fn read(&self, node: &str, token: &str) -> Option<Spoken> {
        let named = token.rsplit_once('.').and_then(|(named, _)| named.rsplit_once('.'));
        let right = match named {
            Some((image, build)) => self.of_build(node, image, build),
            None => self.of(node),
        };
        if token.len() != right.len() {
            return None;
        }
        let differs = right.bytes().zip(token.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b));
        let is_right = std::hint::black_box(differs) == 0 || fault::planted("token-of-any-node");
        is_right.then(|| match named {
            Some((image, build)) => Spoken::Build(image.to_owned(), build.to_owned()),
            None => Spoken::NoBuild,
        })
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
        assert_eq!(
            tokens.read("cn1", &token),
            Some(Spoken::NoBuild),
            "tokens from before builds were named still count"
        );
        assert!(tokens.read("cn2", &token).is_none() && tokens.read("cn1", &token[1..]).is_none());
        assert!(one.tokens().unwrap().read("cn1", &token).is_some(), "the secret is kept");
        assert!(other.tokens().unwrap().read("cn1", &token).is_none());
        // One that names a build is of that build alone, whatever is written before its digits.
        let named = tokens.of_build("cn1", "com.pute", "0123456789ab");
        let spoken = Spoken::Build("com.pute".to_owned(), "0123456789ab".to_owned());
        assert_eq!(tokens.read("cn1", &named), Some(spoken));
        assert!(tokens.read("cn2", &named).is_none() && other.tokens().unwrap().read("cn1", &named).is_none());
        let digits = named.rsplit_once('.').unwrap().1;
        for other in [format!("com.pute.ba9876543210.{digits}"), digits.to_owned(), format!("com.pute.{digits}")] {
            assert!(tokens.read("cn1", &other).is_none(), "{other}");
        }
        assert!(tokens.read("cn1", &format!("com.pute.0123456789ab.{token}")).is_none());
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(one.secret_path()).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(one.secret_path(), "short").unwrap();
        assert!(matches!(one.tokens(), Err(StateError::Damaged { .. })));
    }
}
