//! Names of files as addresses have them.

use std::fmt::Write;

/// What `%` and two digits mean in a name that an index gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escapes {
    /// These three characters: Debian's indexes have names of files, as `%3a` for an epoch. Source: apt, `pkgAcquire::URIEncode`.
    AreNames,
    /// The character that they stand for: RPM's metadata has addresses, which some servers write with escapes. Source: the XML
    /// format's `location href`, xs:anyURI.
    StandForOne,
}

/// What stands for `../` in front of the path that a lock has for a package beside its repository: such a path is one below a directory as
/// well, for copies of the repository.
pub(crate) const UP: &str = "%2e%2e/";

/// Goes up from an address as often as a name says; none where that leaves the server, or reaches the root directory.
fn upward<'n>(base: &str, name: &'n str) -> Option<(String, &'n str)> {
    let (mut base, mut name) = (base.to_owned(), name);
    while let Some(rest) = name.strip_prefix(UP) {
        let start = base.find("://").map_or_else(|| base.find('/').unwrap_or(0), |at| at + 3);
        let path = base.get(start..)?.trim_start_matches('/');
        let above = path.rsplit_once('/').filter(|(above, _)| !above.trim_matches('/').is_empty())?.0;
        let kept = base.len() - path.len() + above.len();
        base.truncate(kept);
        name = rest;
    }
    Some((base, name))
}

/// Where a file of a repository may be: below its address, or beside it where its name says so; of a copy also where that has it.
pub fn places(base: &str, name: &str, escapes: Escapes) -> Vec<String> {
    if escapes == Escapes::AreNames || !name.starts_with(UP) {
        return vec![below(base, name, escapes)];
    }
    let beside = upward(base, name).map(|(base, name)| below(&base, name, escapes));
    let is_copy = base.starts_with("file:") || base.starts_with('/');
    beside.into_iter().chain(is_copy.then(|| below(base, name, escapes))).collect()
}

/// The address of a file below another address; of `file:` the plain path, since no server reads it.
pub(crate) fn below(base: &str, name: &str, escapes: Escapes) -> String {
    if base.starts_with("file:") || base.starts_with('/') {
        return format!("{base}/{name}");
    }
    let mut address = format!("{base}/");
    let bytes = name.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let is_escape = || {
            let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
            escapes == Escapes::StandForOne && digit(at + 1) && digit(at + 2)
        };
        // `+` and `~` are legal, and some stores of objects take them for something else: apt escapes them, too.
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'/'
            | b'-'
            | b'.'
            | b'_'
            | b'!'
            | b'$'
            | b'&'
            | b'\''
            | b'('
            | b')' => {
                address.push(char::from(*byte));
            }
            b'*' | b',' | b';' | b'=' | b':' | b'@' => address.push(char::from(*byte)),
            b'%' if is_escape() => address.push('%'),
            other => {
                let _ = write!(address, "%{other:02x}");
            }
        }
    }
    address
}

/// An address with what no address may have escaped: servers redirect to such, and people write them.
pub(crate) fn legal(address: &str) -> String {
    let mut out = String::with_capacity(address.len());
    for byte in address.bytes() {
        match byte {
            0..=0x20 | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x7f.. => {
                let _ = write!(out, "%{byte:02x}");
            }
            other => out.push(char::from(other)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_beside_a_repository_is_on_the_same_server() {
        let of = |base: &str, name: &str| places(base, name, Escapes::StandForOne);
        assert_eq!(of("http://h/a/os", "%2e%2e/pool/x.rpm"), ["http://h/a/pool/x.rpm"]);
        assert_eq!(of("http://h/a/os", "pool/x.rpm"), ["http://h/a/os/pool/x.rpm"]);
        assert_eq!(of("http://h/os", "%2e%2e/%2e%2e/x.rpm"), Vec::<String>::new());
        assert_eq!(of("file:/srv/m/os", "%2e%2e/x.rpm"), ["file:/srv/m/x.rpm", "file:/srv/m/os/%2e%2e/x.rpm"]);
        assert_eq!(of("file:///srv/m/os", "%2e%2e/%2e%2e/x.rpm")[0], "file:///srv/x.rpm");
        // Not all that this machine has.
        assert_eq!(of("file:/srv/os", "%2e%2e/%2e%2e/etc/shadow"), ["file:/srv/os/%2e%2e/%2e%2e/etc/shadow"]);
        assert_eq!(places("http://h/a", "%2e%2e/x", Escapes::AreNames), ["http://h/a/%252e%252e/x"]);
    }

    #[test]
    fn names_are_escaped_as_apt_and_dnf_do() {
        let deb = |name: &str| below("http://h/d", name, Escapes::AreNames);
        assert_eq!(deb("pool/a_1%3a2.0+b~c_all.deb"), "http://h/d/pool/a_1%253a2.0%2bb%7ec_all.deb");
        assert_eq!(deb("pool/a b#c?d_\u{e9}.deb"), "http://h/d/pool/a%20b%23c%3fd_%c3%a9.deb");
        let rpm = |name: &str| below("http://h/d", name, Escapes::StandForOne);
        assert_eq!(rpm("Packages/a-1^git+x-1.rpm"), "http://h/d/Packages/a-1%5egit%2bx-1.rpm");
        assert_eq!(rpm("Packages/a%2Bb%zz.rpm"), "http://h/d/Packages/a%2Bb%25zz.rpm");
        assert_eq!(below("file:/srv/a b", "c+d%3a.deb", Escapes::AreNames), "file:/srv/a b/c+d%3a.deb");
    }

    #[test]
    fn addresses_become_legal_and_stay_what_they_are() {
        assert_eq!(legal("http://h/a b/\u{e9}?x=[1]%20"), "http://h/a%20b/%c3%a9?x=[1]%20");
    }
}
