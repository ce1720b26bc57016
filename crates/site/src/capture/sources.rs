//! The node's own sources of packages: its `.repo`, `.list` and `.sources` files with the keys that they name.

use std::collections::BTreeMap;

use recipe::Family;

use super::census::Census;

#[derive(Debug, Default)]
pub(super) struct Sources {
    pub names: Vec<String>,
    /// Those files and the keys: name in the image's directory, content.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Variables of addresses: dnf's and yum's own.
    pub variables: BTreeMap<String, String>,
    pub notes: Vec<String>,
}

/// A line without the user and the password of an address.
fn without_password(line: &str) -> Option<String> {
    let (before, rest) = line.split_once("://")?;
    let end = rest.find(['/', ' ', '\t']).unwrap_or(rest.len());
    let at = rest[..end].rfind('@')?;
    Some(format!("{before}://{}", &rest[at + 1..]))
}

/// A name that is not taken yet: the folder's name goes in front.
fn free(files: &BTreeMap<String, Vec<u8>>, folder: &str, path: &str) -> String {
    let parts: Vec<&str> = path.rsplit('/').collect();
    let mut name = parts[0].to_owned();
    for part in &parts[1..] {
        if !files.contains_key(&format!("{folder}/{name}")) && name != "root.pub" && name != "root.hash" {
            break;
        }
        name = format!("{part}-{name}");
    }
    format!("{folder}/{name}")
}

pub(super) fn sources(census: &Census, family: Family) -> Sources {
    let (folder, endings): (&str, &[&str]) = match family {
        Family::Debian => ("etc/apt/sources.list.d/", &[".list", ".sources"]),
        Family::RedHat => ("etc/yum.repos.d/", &[".repo"]),
        Family::Suse => ("etc/zypp/repos.d/", &[".repo"]),
    };
    let is_source = |path: &str| {
        let own = path.strip_prefix(folder).filter(|name| !name.contains('/'));
        family == Family::Debian && path == "etc/apt/sources.list"
            || own.is_some_and(|name| endings.iter().any(|end| name.ends_with(end)))
    };
    let mut found = Sources::default();
    let places = ["etc/apt/", "usr/share/keyrings/", "etc/pki/rpm-gpg/"];
    let is_key = |path: &&String| places.iter().any(|place| path.starts_with(place)) && !is_source(path);
    // Longer names first: one may begin as another one.
    let mut keys: Vec<&String> = census.texts.keys().filter(is_key).collect();
    keys.sort_by_key(|path| std::cmp::Reverse(path.len()));
    let mut written: BTreeMap<&String, String> = BTreeMap::new();
    for (path, bytes) in census.texts.iter().filter(|(path, _)| is_source(path)) {
        let mut text = String::new();
        let mut has_archive = false;
        for line in String::from_utf8_lossy(bytes).lines() {
            // Media of an installation no longer exist.
            if line.contains("cdrom:") && family == Family::Debian {
                continue;
            }
            let start = line.trim();
            has_archive |= ["deb ", "deb\t", "URIs:", "baseurl", "mirrorlist", "metalink"]
                .iter()
                .any(|word| start.starts_with(word));
            let plain = without_password(line);
            if plain.is_some() {
                found.notes.push(format!("an address of /{path} has a password, which is left out"));
            }
            text.push_str(plain.as_deref().filter(|_| !fault::planted("capture-address-password")).unwrap_or(line));
            text.push('\n');
        }
        if !has_archive {
            continue;
        }
        for key in &keys {
            let absolute = format!("/{key}");
            if !text.contains(&absolute) {
                continue;
            }
            let name = written.entry(key).or_insert_with(|| {
                let name = free(&found.files, "keys", key);
                found.files.insert(name.clone(), census.texts[*key].clone());
                name
            });
            let by_url = format!("file://{absolute}");
            text = text.replace(&by_url, &absolute).replace(&absolute, &format!("../{name}"));
        }
        let name = free(&found.files, "repos", path);
        found.files.insert(name.clone(), text.into_bytes());
        found.names.push(name);
    }
    if family != Family::Debian && !found.names.is_empty() {
        for (path, bytes) in &census.texts {
            let name = ["etc/dnf/vars/", "etc/yum/vars/"].iter().find_map(|place| path.strip_prefix(place));
            let Some(name) = name.filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')) else {
                continue;
            };
            let value = String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().trim().to_owned();
            if !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic()) {
                found.variables.entry(name.to_owned()).or_insert(value);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_apart_and_passwords_out() {
        let mut census = Census::default();
        let mut write = |path: &str, text: &str| {
            census.texts.insert(path.to_owned(), text.as_bytes().to_vec());
        };
        write(
            "etc/yum.repos.d/a.repo",
            "[a]\nbaseurl=https://user:secret@site.example/a?x\ngpgkey=file:///etc/pki/rpm-gpg/KEY-long\n",
        );
        write("etc/yum.repos.d/backup/a.repo", "[b]\nbaseurl=http://other.example\n");
        write("etc/pki/rpm-gpg/KEY", "one");
        write("etc/pki/rpm-gpg/KEY-long", "two");
        write("etc/dnf/vars/stream", "9-stream\n");
        let found = sources(&census, Family::RedHat);
        assert_eq!(found.names, ["repos/a.repo"]);
        let text = String::from_utf8_lossy(&found.files["repos/a.repo"]).into_owned();
        assert_eq!(text, "[a]\nbaseurl=https://site.example/a?x\ngpgkey=../keys/KEY-long\n");
        assert_eq!(found.files.keys().collect::<Vec<_>>(), ["keys/KEY-long", "repos/a.repo"]);
        assert_eq!((found.variables["stream"].as_str(), found.notes.len()), ("9-stream", 1));
        let mut files = BTreeMap::from([("keys/x.gpg".to_owned(), Vec::new())]);
        assert_eq!(free(&files, "keys", "usr/share/keyrings/x.gpg"), "keys/keyrings-x.gpg");
        files.insert("keys/keyrings-x.gpg".to_owned(), Vec::new());
        assert_eq!(free(&files, "keys", "usr/share/keyrings/x.gpg"), "keys/share-keyrings-x.gpg");
        assert_eq!(free(&files, "keys", "etc/apt/keyrings/root.pub"), "keys/keyrings-root.pub");
    }
}
