//! What the node goes over to: what the caller names, and what the server says of it.

use serde::Deserialize;

use super::super::report;
use crate::cmdline::Parameters;
use crate::image::fetch::Client;
use crate::image::servers::Servers;

/// Largest answer of a server, in bytes.
const LONGEST: u64 = 256 << 10;

/// What the caller names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    image: String,
    build: String,
    /// SHA-256 of the image's index, hexadecimal.
    digest: Option<String>,
}

impl Target {
    /// `IMAGE@BUILD [sha256:DIGEST]`.
    ///
    /// # Errors
    /// How it is written.
    pub(super) fn read(words: &[String]) -> Result<Self, String> {
        let usage = || "write: soft-reboot IMAGE@BUILD [sha256:DIGEST]".to_owned();
        let (named, digest) = match words {
            [named] => (named, None),
            [named, digest] => (named, Some(digest.strip_prefix("sha256:").ok_or_else(usage)?)),
            _ => return Err(usage()),
        };
        let is_hex = |text: &&str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_bad = digest.is_some_and(|digest| !is_hex(&digest));
        match named.split_once('@').filter(|(image, build)| !image.is_empty() && !build.is_empty() && !is_bad) {
            Some((image, build)) => {
                Ok(Self { image: image.to_owned(), build: build.to_owned(), digest: digest.map(str::to_lowercase) })
            }
            None => Err(usage()),
        }
    }
}

/// What the server says. It is asked with the token of the build that runs.
#[derive(Debug, Clone, Deserialize)]
struct Answer {
    image: String,
    build: String,
    /// The address for reports of that build.
    report: String,
    /// The kernel's command line; servers of an earlier imgbuild give none.
    #[serde(default)]
    words: Vec<String>,
}

/// What the node goes over to.
pub(super) struct Next {
    /// `IMAGE@BUILD`.
    pub name: String,
    /// What a loader would have put on the kernel's command line.
    pub parameters: Parameters,
    /// Where the node reports from then on.
    pub reports: Vec<String>,
    /// SHA-256 of the image's index: the caller's, else the server's.
    pub digest: Option<String>,
}

/// Asks the server that this node reports to, or one that took its place.
///
/// # Errors
/// A text: it does not answer, or what it gives this node is something else.
pub(super) fn ask(target: &Target) -> Result<Next, String> {
    let client = Client::new();
    let mut problem =
        "this node reports to no server, which would know what it is to boot (imgbuild.report=)".to_owned();
    for address in report::addresses() {
        let Some((before, behind)) = address.split_once("/-/report/") else { continue };
        let url = format!("{before}/-/token/{behind}");
        let answer = client.read(&url, LONGEST).and_then(|bytes| {
            serde_json::from_slice::<Answer>(&bytes).map_err(|error| format!("its answer cannot be read: {error}"))
        });
        match answer {
            Ok(answer) => return next(target, &answer),
            // The address has the node's token.
            Err(error) => problem = format!("the server at {before}: {}", error.replace(&format!("{url}: "), "")),
        }
    }
    Err(problem)
}

fn next(target: &Target, answer: &Answer) -> Result<Next, String> {
    let Target { image, build, digest } = target;
    let is_other = (image, build) != (&answer.image, &answer.build);
    if is_other && !fault::planted("node-soft-reboot-any-build") {
        let (other, given) = (&answer.image, &answer.build);
        return Err(format!("the server gives this node another build: {other}@{given}, and not {image}@{build}"));
    }
    let mut parameters = Parameters::parse(&answer.words.join(" "));
    if parameters.url.is_none() {
        return Err("the server does not say where the image is: update imgbuild on it".to_owned());
    }
    if parameters.statelite.is_some() || parameters.state.is_some() || parameters.nfs_root.is_some() {
        return Err("the new build has statelite paths or its root over NFS: only the initrd mounts those".to_owned());
    }
    if parameters.root.is_lazy() {
        return Err("the new build's root is read over the network (imgbuild.root=lazy): only the initrd starts that"
            .to_owned());
    }
    if let (Some(asked), Some(given)) = (digest, &parameters.digest)
        && asked != given
    {
        return Err(format!("wrong digest: the server gives sha256:{given}, but the caller asks for sha256:{asked}"));
    }
    // The disk of imgcache= is the running image's: what lies there is read from its device, and nothing is put there.
    (parameters.cache, parameters.image_in_cache, parameters.writes_in_cache) = (None, false, false);
    parameters.report = Some(answer.report.clone());
    let digest = digest.clone().or_else(|| parameters.digest.clone());
    parameters.digest = digest.clone();
    let reports = Servers::of(&parameters).reports();
    Ok(Next { name: format!("{image}@{build}"), parameters, reports, digest })
}

/// Address and index's digest of the image that runs, by what the node booted and the address of the other one.
pub(super) fn of_running(booted: &str, url: &str) -> Option<(String, String)> {
    let value = |name: &str| booted.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let (image, build) = (value("image")?, value("build")?);
    let digest = value("digest")?.strip_prefix("sha256:")?;
    let (before, behind) = url.split_once("/.builds/")?;
    let file = behind.splitn(3, '/').nth(2)?;
    Some((format!("{before}/.builds/{image}/{build}/{file}"), digest.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(words: &[&str]) -> Result<Target, String> {
        Target::read(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_command_names_an_image_its_build_and_a_digest() {
        let digest = "AB".repeat(32);
        let found = target(&["com.pute@0123456789ab", &format!("sha256:{digest}")]).unwrap();
        assert_eq!((&*found.image, &*found.build), ("com.pute", "0123456789ab"));
        assert_eq!(found.digest, Some(digest.to_lowercase()));
        assert_eq!(target(&["a@b"]).unwrap().digest, None);
        for bad in [&[][..], &["a"], &["a@"], &["@b"], &["a@b", &digest], &["a@b", "sha256:ab"], &["a@b", "c", "d"]] {
            assert!(target(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_server_has_to_give_what_the_caller_names() {
        let answer = |words: &str| Answer {
            image: "compute".to_owned(),
            build: "b".to_owned(),
            report: "http://a/-/report/cn1/compute.b.00".to_owned(),
            words: words.split_whitespace().map(str::to_owned).collect(),
        };
        let url = "imgurl=http://a/.builds/compute/b/rootimg.erofs,http://z/.builds/compute/b/rootimg.erofs";
        let good = format!("{url} imgdigest=sha256:{} imgcache=LABEL=x imgbuild.image=cache", "ab".repeat(32));
        let of = |named: &str, words: &str| next(&target(&[named]).unwrap(), &answer(words));
        let found = of("compute@b", &good).unwrap();
        assert_eq!((&*found.name, found.digest), ("compute@b", Some("ab".repeat(32))));
        let reports = ["http://a/-/report/cn1/compute.b.00", "http://z/-/report/cn1/compute.b.00"];
        assert_eq!(found.reports, reports);
        assert!(found.parameters.cache.is_none() && !found.parameters.image_in_cache);
        let problem = |named: &str, words: &str| of(named, words).err().unwrap_or_default();
        assert!(problem("compute@a", &good).contains("another build: compute@b, and not compute@a"));
        assert!(problem("gpu@b", &good).contains("another build"));
        assert!(problem("compute@b", "").contains("update imgbuild"));
        assert!(problem("compute@b", &format!("{url} imgbuild.statelite=sha256:00")).contains("statelite"));
        assert!(problem("compute@b", &format!("{url} imgbuild.root=lazy")).contains("only the initrd starts that"));
        let asked = target(&["compute@b", &format!("sha256:{}", "cd".repeat(32))]).unwrap();
        assert!(next(&asked, &answer(&good)).err().unwrap().contains("wrong digest"));
    }

    #[test]
    fn the_running_image_is_beside_the_new_one() {
        let url = "http://a:8080/x/.builds/compute/b/rootimg.squashfs";
        let booted = "image=other\nbuild=a\ndigest=sha256:00\n";
        let expected = ("http://a:8080/x/.builds/other/a/rootimg.squashfs".to_owned(), "00".to_owned());
        assert_eq!(of_running(booted, url), Some(expected));
        assert_eq!(of_running("image=other\nbuild=a\n", url), None);
        assert_eq!(of_running(booted, "http://a/rootimg"), None);
    }
}
