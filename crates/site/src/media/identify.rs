//! What a medium is, by the files that its distribution puts on it.

/// Distributions whose media are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    RedHat,
    Suse,
    Debian,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium {
    pub family: Family,
    /// Its distribution and release in xCAT's word: `rocky9.4`.
    pub name: String,
    /// Its CPU, as `uname -m` prints it.
    pub arch: String,
    pub disc: Option<String>,
    /// Folder of the repository for this disc; SLES has one each.
    pub folder: Option<String>,
}

/// The files that are looked at; none of them is large.
pub(super) const LOOKED_AT: [&str; 7] =
    [".discinfo", ".treeinfo", "media.1/media", "media.2/media", "content", ".disk/info", "README.diskdefines"];

/// xCAT's word for a CPU.
fn arch_of(word: &str) -> String {
    match word {
        "amd64" | "x86_64" => "x86_64",
        "arm64" => "aarch64",
        "ppc64el" => "ppc64el",
        "ppc" => "ppc64",
        "i386" | "i486" | "i586" | "i686" => "x86",
        other => other,
    }
    .to_owned()
}

/// Says what a medium is; `text` has the texts of [`LOOKED_AT`].
/// Errors: What was looked for and not found.
pub fn identify(text: &dyn Fn(&str) -> Option<String>) -> Result<Medium, String> {
    if let Some(info) = text(".disk/info") {
        return debian(&info, text("README.diskdefines").as_deref());
    }
    if let Some(info) = text(".discinfo") {
        return red_hat(&info, text(".treeinfo").as_deref());
    }
    for number in ["1", "2"] {
        if let Some(media) = text(&format!("media.{number}/media")) {
            return suse(&media, text("content").as_deref(), number);
        }
    }
    match text(".treeinfo") {
        Some(tree) => by_tree(&tree),
        None => Err("it has neither .disk/info, nor .discinfo, .treeinfo, media.1/media".to_owned()),
    }
}

/// A value of .treeinfo, in any of its sections.
fn tree_value<'a>(tree: &'a str, key: &str) -> Option<&'a str> {
    let pairs = tree.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim(), value.trim())).find(|(name, _)| *name == key).map(|(_, value)| value)
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit()) && word.chars().all(|c| c.is_ascii_digit() || c == '.')
}

/// The word that xCAT has for a title and a number.
fn red_hat_name(title: &str, number: &str) -> Option<String> {
    let word = match title {
        title if title.starts_with("CentOS Stream") => "centos-stream",
        title if title.starts_with("CentOS") => "centos",
        title if title.starts_with("Rocky") => "rocky",
        title if title.starts_with("AlmaLinux") => "alma",
        title if title.starts_with("Oracle") => "ol",
        title if title.starts_with("Fedora") => "fedora",
        title if title.starts_with("Red Hat Enterprise Linux") => "rhels",
        _ => return None,
    };
    Some(format!("{word}{number}"))
}

fn red_hat(info: &str, tree: Option<&str>) -> Result<Medium, String> {
    let mut lines = info.lines().map(str::trim);
    let (_, title, arch, disc) = (lines.next(), lines.next(), lines.next(), lines.next());
    let title = title.unwrap_or_default();
    let arch = arch.filter(|arch| !arch.is_empty()).ok_or(".discinfo has no third line with the CPU")?;
    let words: Vec<&str> = title.split_whitespace().collect();
    let number = words.last().copied().filter(|word| is_number(word));
    let name = match number {
        // Old CentOS says its number alone.
        Some(number) if words.len() == 1 => {
            tree.and_then(|tree| tree_value(tree, "family")).and_then(|family| red_hat_name(family, number))
        }
        Some(number) => red_hat_name(title, number),
        None => None,
    };
    let name = name.or_else(|| {
        let tree = tree?;
        red_hat_name(tree_value(tree, "family")?, tree_value(tree, "version")?)
    });
    let mut name = name
        .ok_or_else(|| format!(".discinfo contains `{title}`, which is not a distribution that imgbuild supports"))?;
    // RHEL's other variants; xCAT cuts the alternate architectures' word.
    if name.starts_with("rhels")
        && !fault::planted("medium-without-variant")
        && words.len() > 5
        && !words[4].eq_ignore_ascii_case("alternate")
    {
        name = format!("{name}-{}", words[4].to_lowercase());
    }
    if tree.and_then(|tree| tree_value(tree, "variant")) == Some("ComputeNode") {
        name = name.replacen("rhels", "rhelhpc", 1);
    }
    let disc = disc.filter(|disc| !disc.is_empty() && *disc != "ALL").map(str::to_owned);
    Ok(Medium { family: Family::RedHat, name, arch: arch_of(arch), disc, folder: None })
}

fn by_tree(tree: &str) -> Result<Medium, String> {
    let (family, version) = (tree_value(tree, "family"), tree_value(tree, "version"));
    let arch = tree_value(tree, "arch").ok_or(".treeinfo has no arch")?;
    let (Some(family), Some(version)) = (family, version) else {
        return Err(".treeinfo has no family and version".to_owned());
    };
    if family.starts_with("openSUSE Leap") {
        let name = format!("leap{version}");
        return Ok(Medium {
            family: Family::Suse,
            name,
            arch: arch_of(arch),
            disc: None,
            folder: Some("1".to_owned()),
        });
    }
    let name = red_hat_name(family, version)
        .ok_or_else(|| format!(".treeinfo contains `{family}`, which imgbuild does not know"))?;
    Ok(Medium { family: Family::RedHat, name, arch: arch_of(arch), disc: None, folder: None })
}

fn suse(media: &str, content: Option<&str>, number: &str) -> Result<Medium, String> {
    let text = format!("{media}\n{}", content.unwrap_or_default());
    let arches = ["x86_64", "ppc64le", "aarch64", "s390x"];
    let arch =
        arches.into_iter().find(|arch| text.contains(arch)).ok_or("media.1/media names no CPU that imgbuild knows")?;
    let after = |word: &str| -> Option<&str> {
        let rest = &text[text.find(word)? + word.len()..];
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        (end > 0).then(|| rest[..end].trim_end_matches('.'))
    };
    let name = if let Some(pack) = after("SLE-15-SP") {
        format!("sle15.{pack}")
    } else if text.contains("SLE-15") {
        "sle15".to_owned()
    } else if let Some(number) = after("openSUSE-Leap-").or_else(|| after("openSUSE Leap ")) {
        format!("leap{number}")
    } else if let Some(version) =
        content.and_then(|content| line_after(content, "VERSION")).filter(|one| is_number(one))
    {
        format!("sles{version}")
    } else if let Some(number) = after("cpe:/o:suse:sles:") {
        match after(&format!("cpe:/o:suse:sles:{number}:sp")) {
            Some(pack) => format!("sles{number}.{pack}"),
            None => format!("sles{number}"),
        }
    } else {
        return Err("media.1/media and content name neither SLES nor Leap".to_owned());
    };
    let is_packages = ["-Packages-", "Packages"].iter().any(|word| media.contains(word));
    let disc = if is_packages { "2" } else { number };
    let folder = if media.contains("SDK") { format!("sdk{disc}") } else { disc.to_owned() };
    Ok(Medium { family: Family::Suse, name, arch: arch.to_owned(), disc: Some(disc.to_owned()), folder: Some(folder) })
}

/// The second word of the line that begins with a word.
fn line_after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next() == Some(word)).then(|| words.next())?)
}

fn debian(info: &str, defines: Option<&str>) -> Result<Medium, String> {
    let line = info.lines().next().unwrap_or_default();
    let words: Vec<&str> = line.split_whitespace().collect();
    let word = match () {
        () if line.starts_with("Ubuntu") => "ubuntu",
        () if line.starts_with("Debian") => "debian",
        () => return Err(format!(".disk/info contains `{line}`, which is neither Debian nor Ubuntu")),
    };
    let number = words.iter().copied().find(|word| is_number(word)).ok_or(".disk/info has no release number")?;
    let arches = ["amd64", "arm64", "ppc64el", "i386", "s390x"];
    let arch = words.iter().copied().find(|word| arches.contains(word)).ok_or(".disk/info names no CPU")?;
    let binary =
        words.iter().filter(|_| !fault::planted("medium-without-number")).find_map(|word| word.strip_prefix("Binary-"));
    let define = defines.and_then(|text| text.lines().find_map(|line| line.strip_prefix("#define DISKNUM")));
    // xCAT drops the point release of a zero that Debian writes and Ubuntu does not.
    let disc =
        binary.or(define.map(str::trim).filter(|disc| !disc.starts_with('1') || *disc == "1")).map(str::to_owned);
    Ok(Medium { family: Family::Debian, name: format!("{word}{number}"), arch: arch_of(arch), disc, folder: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(files: &[(&str, &str)]) -> Result<(String, String, Option<String>), String> {
        let text = |name: &str| files.iter().find(|(one, _)| *one == name).map(|(_, text)| (*text).to_owned());
        identify(&text).map(|one| (one.name, one.arch, one.disc))
    }

    /// Section 14.6, C1 to C4, and the forms of section 10.
    #[test]
    fn media_are_known() {
        let found = |files: &[(&str, &str)], name: &str, arch: &str| {
            let (is, cpu, _) = named(files).unwrap();
            assert_eq!((is.as_str(), cpu.as_str()), (name, arch));
        };
        let disc = |title: &str| format!("1714000000.1\n{title}\nx86_64\nALL\n");
        for (title, name) in [
            ("Rocky Linux 9.4", "rocky9.4"),
            ("Red Hat Enterprise Linux 9.4.0", "rhels9.4.0"),
            ("Red Hat Enterprise Linux Alternate 7.6", "rhels7.6"),
            ("Red Hat Enterprise Linux Server 6.10", "rhels6.10-server"),
            ("CentOS Linux 8.5", "centos8.5"),
            ("CentOS Stream 9", "centos-stream9"),
            ("AlmaLinux 9.4", "alma9.4"),
            ("Oracle Linux 8.9", "ol8.9"),
            ("Fedora 40", "fedora40"),
        ] {
            found(&[(".discinfo", &disc(title))], name, "x86_64");
        }
        found(
            &[(".discinfo", &disc("7.9")), (".treeinfo", "[general]\nfamily = CentOS\nversion = 7\n")],
            "centos7.9",
            "x86_64",
        );
        let sle = named(&[(
            "media.1/media",
            "SUSE - SLE-15-SP6-Full-x86_64-Build59.1-Media\nSLE-15-SP6-Full-x86_64-Build59.1\n1\n",
        )])
        .unwrap();
        assert_eq!(sle, ("sle15.6".to_owned(), "x86_64".to_owned(), Some("1".to_owned())));
        found(
            &[("media.1/media", "openSUSE - openSUSE-Leap-15.6-DVD-x86_64-Build710.3-Media\n")],
            "leap15.6",
            "x86_64",
        );
        found(
            &[
                ("media.1/media", "SUSE Linux Products GmbH\n2019\n1\n"),
                (
                    "content",
                    "CONTENTSTYLE 11\nDISTRO cpe:/o:suse:sles:12:sp5,SUSE Linux Enterprise Server 12 SP5\nBASEARCHS x86_64\n",
                ),
            ],
            "sles12.5",
            "x86_64",
        );
        found(
            &[(".disk/info", "Ubuntu-Server 24.04.1 LTS \"Noble Numbat\" - Release amd64 (20240827)")],
            "ubuntu24.04.1",
            "x86_64",
        );
        let debian = named(&[(
            ".disk/info",
            "Debian GNU/Linux 12.5.0 \"Bookworm\" - Official amd64 DVD Binary-2 with firmware 20240210-11:28",
        )])
        .unwrap();
        assert_eq!(debian, ("debian12.5.0".to_owned(), "x86_64".to_owned(), Some("2".to_owned())));
        assert!(
            named(&[]).is_err()
                && named(&[(".discinfo", "x\nHaiku 1\nx86_64\n")]).is_err()
                && named(&[(".disk/info", "")]).is_err()
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "([A-Za-z0-9 .\\n=-]|é|SLE-15-SP|cpe:/o:suse:sles:|Red Hat Enterprise Linux |x86_64|Binary-){0,30}") {
            for file in LOOKED_AT {
                let _ = named(&[(file, &text)]);
            }
        }
    }
}
