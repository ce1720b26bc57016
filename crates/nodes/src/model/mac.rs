//! MAC addresses, in all the ways in which tools write them.

use std::fmt;
use std::str::FromStr;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = &'static str;

    /// `aa:bb:cc:00:00:01`, with `-`, in groups of four with dots, bare, or with the hardware type in front as loaders write it
    /// (`01-aa-bb-cc-00-00-01`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "six bytes in hexadecimal, for instance 52:54:00:12:34:56";
        let text = match text.as_bytes() {
            [b'0', b'1', b'-' | b':', rest @ ..] if rest.len() == 17 && !fault::planted("mac-hardware-type") => {
                &text[3..]
            }
            _ => text,
        };
        let parts: Vec<&str> = text.split([':', '-', '.']).collect();
        let width = match parts.len() {
            6 => 2,
            3 => 4,
            1 => 12,
            _ => return Err(FORM),
        };
        if parts.iter().any(|part| part.len() != width || !part.bytes().all(|one| one.is_ascii_hexdigit())) {
            return Err(FORM);
        }
        let digits = parts.concat();
        let mut bytes = [0; 6];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[at * 2..at * 2 + 2], 16).map_err(|_| FORM)?;
        }
        if bytes == [0; 6] || bytes[0] & 1 == 1 && !fault::planted("mac-group-address") {
            return Err("the address of one card: not all zero, and not a group address (the first byte is even)");
        }
        Ok(Self(bytes))
    }
}

impl Mac {
    fn joined(self, separator: &str) -> String {
        self.0.map(|byte| format!("{byte:02x}")).join(separator)
    }

    /// With hyphens, as loaders look for their files: `aa-bb-cc-00-00-01`.
    pub fn hyphens(self) -> String {
        self.joined("-")
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.joined(":"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_tools_write_them() {
        for text in ["aa:bb:cc:00:00:01", "AA-BB-CC-00-00-01", "aabb.cc00.0001", "aabbcc000001", "01-aa-bb-cc-00-00-01"]
        {
            assert_eq!(text.parse::<Mac>().unwrap().to_string(), "aa:bb:cc:00:00:01", "{text}");
        }
        assert_eq!("aa:bb:cc:00:00:01".parse::<Mac>().unwrap().hyphens(), "aa-bb-cc-00-00-01");
        for text in [
            "",
            "aa:bb:cc:00:00",
            "aa:bb:cc:00:00:0g",
            "aa:bb:cc:00:00:1",
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "01:00:5e:00:00:01",
            "aa:bb:cc:00:00:01:02",
            "äa:bb:cc:00:00:1",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }
}
