//! S3: where a bucket is, who asks for it, and the signature of each request.
//!
//! What names them is what the AWS tools read: variables and `~/.aws`. Source: docs.aws.amazon.com, "AWS SDKs and Tools Reference Guide",
//! "Shared config and credentials files" and "Service-specific endpoints".

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};

use super::access::{Access, Tls, learn};

/// How long a signed address counts: a request is made at once, and clocks differ.
const COUNTS: Duration = Duration::from_secs(900);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Put,
    Delete,
}

pub(crate) struct Signer {
    bucket: Bucket,
    credentials: Credentials,
    base: String,
}

impl Signer {
    /// The address with the signature behind it; nothing for one outside the bucket.
    pub(crate) fn signed(&self, verb: Verb, url: &str) -> Option<String> {
        let key = url.strip_prefix(&self.base)?.strip_prefix('/')?;
        let credentials = Some(&self.credentials);
        let signed = match verb {
            Verb::Get => self.bucket.get_object(credentials, key).sign(COUNTS),
            Verb::Put => self.bucket.put_object(credentials, key).sign(COUNTS),
            Verb::Delete => self.bucket.delete_object(credentials, key).sign(COUNTS),
        };
        Some(signed.into())
    }

    /// The signed address of the list of what is below another one, from where a list before ended.
    pub(crate) fn listed(&self, url: &str, token: Option<&str>) -> Option<String> {
        let key = url.strip_prefix(&self.base)?.strip_prefix('/')?;
        // The bucket itself, asked with words.
        let mut list = self.bucket.get_object(Some(&self.credentials), "");
        let query = list.query_mut();
        query.insert("list-type", "2");
        query.insert("prefix", format!("{key}/"));
        if let Some(token) = token {
            query.insert("continuation-token", token.to_owned());
        }
        Some(list.sign(COUNTS).into())
    }
}

struct Settings<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    profile: BTreeMap<String, String>,
}

/// The sections of a file, by name. Lines of a section within a section are indented, and none of them is meant.
fn sections(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines() {
        let is_nested = line.starts_with([' ', '\t']);
        let line = line.trim();
        if is_nested || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let name = name.trim();
            section = name.strip_prefix("profile ").map_or(name, str::trim).to_owned();
        } else if let Some((name, value)) = line.split_once('=') {
            let of = all.entry(section.clone()).or_default();
            of.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    all
}

impl<'a> Settings<'a> {
    /// Those of a profile: credentials go before settings.
    fn of(variable: &'a dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let home = variable("HOME").map(PathBuf::from);
        let file = |name: &str, usual: &str| -> Result<BTreeMap<String, BTreeMap<String, String>>, String> {
            let named = variable(name).map(PathBuf::from);
            let Some(path) = named.clone().or_else(|| Some(home.as_ref()?.join(usual))) else {
                return Ok(BTreeMap::new());
            };
            match std::fs::read_to_string(&path) {
                Ok(text) => Ok(sections(&text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => Ok(BTreeMap::new()),
                Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
            }
        };
        let mut files =
            [file("AWS_CONFIG_FILE", ".aws/config")?, file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")?];
        let named = variable("AWS_PROFILE");
        let name = named.as_deref().unwrap_or("default");
        let mut profile = BTreeMap::new();
        let mut is_there = false;
        for of_file in files.iter_mut().filter_map(|sections| sections.remove(name)) {
            profile.extend(of_file);
            is_there = true;
        }
        match named {
            Some(name) if !is_there => Err(format!("there is no profile `{name}` (AWS_PROFILE) in ~/.aws")),
            _ => Ok(Self { variable, profile }),
        }
    }

    fn either(&self, variables: &[&str], key: &str) -> Option<String> {
        let found = variables.iter().find_map(|name| (self.variable)(name));
        found.or_else(|| self.profile.get(key).cloned()).filter(|value| !value.is_empty())
    }

    fn credentials(&self) -> Option<Credentials> {
        let named = |name: &str| (self.variable)(name).filter(|value| !value.is_empty());
        let (key, secret, token) = match (named("AWS_ACCESS_KEY_ID"), named("AWS_SECRET_ACCESS_KEY")) {
            (Some(key), Some(secret)) => (key, secret, named("AWS_SESSION_TOKEN")),
            _ => {
                let of = |name: &str| self.profile.get(name).cloned();
                (of("aws_access_key_id")?, of("aws_secret_access_key")?, of("aws_session_token"))
            }
        };
        Some(match token {
            Some(token) => Credentials::new_with_token(key, secret, token),
            None => Credentials::new(key, secret),
        })
    }
}

/// Bucket and prefix of an address.
fn parts(text: &str) -> Result<(&str, &str), String> {
    let rest = text.strip_prefix("s3://").unwrap_or(text);
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_matches('/');
    let is_plain = |letter: char, more: &str| letter.is_ascii_alphanumeric() || more.contains(letter);
    if bucket.len() < 3 || bucket.len() > 255 || !bucket.chars().all(|letter| is_plain(letter, ".-_")) {
        return Err("a bucket's name has letters, digits, `.` and `-`".to_owned());
    }
    let is_odd = |part: &str| part.is_empty() || part.chars().all(|letter| letter == '.');
    if !prefix.chars().all(|letter| is_plain(letter, "._-/")) || !prefix.is_empty() && prefix.split('/').any(is_odd) {
        return Err("what follows the bucket has letters, digits, `.`, `_`, `-` and `/`".to_owned());
    }
    Ok((bucket, prefix))
}

fn signer(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<(Signer, String), String> {
    let (bucket, prefix) = parts(text)?;
    let settings = Settings::of(variable)?;
    let credentials = settings.credentials().ok_or("no credentials are known")?;
    let endpoint = settings.either(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"], "endpoint_url");
    let region = settings.either(&["AWS_REGION", "AWS_DEFAULT_REGION"], "region");
    let (endpoint, region, style) = match (endpoint, region) {
        // Other servers rarely have names for their buckets, or look at the region.
        (Some(endpoint), region) => (endpoint, region.unwrap_or_else(|| "us-east-1".to_owned()), UrlStyle::Path),
        (None, None) => return Err("no region is known".to_owned()),
        (None, Some(region)) => {
            if !region.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-') {
                return Err(format!("`{region}` is not a region"));
            }
            let end = if region.starts_with("cn-") { "com.cn" } else { "com" };
            // A certificate is for one label before the service's name.
            let style = if bucket.contains('.') { UrlStyle::Path } else { UrlStyle::VirtualHost };
            (format!("https://s3.{region}.amazonaws.{end}"), region, style)
        }
    };
    let odd = |problem: &dyn std::fmt::Display| format!("the endpoint `{endpoint}`: {problem}");
    let is_web = endpoint.starts_with("http://") || endpoint.starts_with("https://");
    let parsed = endpoint.parse().map_err(|error| odd(&format!("{error}")));
    let parsed =
        parsed.and_then(|url| if is_web { Ok(url) } else { Err(odd(&"it is not an http or https address")) })?;
    let bucket = Bucket::new(parsed, style, bucket.to_owned(), region).map_err(|error| odd(&error))?;
    let base = bucket.base_url().as_str().trim_end_matches('/').to_owned();
    let whole = if prefix.is_empty() { base.clone() } else { format!("{base}/{prefix}") };
    Ok((Signer { bucket, credentials, base }, whole))
}

/// The http address of `s3://BUCKET/PREFIX`; requests below it are signed from now on.
/// Errors: What is wrong with it, or what is not known, in words.
pub fn s3_address(text: &str) -> Result<String, String> {
    let variable = |name: &str| std::env::var_os(name).map(OsString::into_string).and_then(Result::ok);
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let (signer, whole) = signer(text, &variable)?;
    let ca = variable("AWS_CA_BUNDLE").map(PathBuf::from);
    learn(&signer.base, Access { tls: Tls { ca, ..Tls::default() }, ..Access::default() });
    let mut all = signers();
    all.retain(|known| known.base != signer.base);
    all.push(signer);
    Ok(whole)
}

fn signers() -> MutexGuard<'static, Vec<Signer>> {
    static SIGNERS: Mutex<Vec<Signer>> = Mutex::new(Vec::new());
    SIGNERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is asked of the server for an address in a bucket; nothing for another. It must stand in no message.
pub(crate) fn signed(verb: Verb, url: &str) -> Option<String> {
    signers().iter().find_map(|signer| signer.signed(verb, url))
}

/// As [`Signer::listed`], for the bucket that an address is in; nothing for another.
pub(crate) fn listed(url: &str, token: Option<&str>) -> Option<String> {
    signers().iter().find_map(|signer| signer.listed(url, token))
}

/// What may help where a server of buckets refuses.
pub(crate) fn hint(url: &str, status: u16) -> Option<&'static str> {
    signed(Verb::Get, url)?;
    match status {
        301 | 307 | 400 => Some("; is the bucket in this region? AWS_REGION names it, or `region` in ~/.aws/config"),
        // Without the right to list, a server does not say that something is not there.
        401 | 403 => Some(
            "; do these credentials allow s3:GetObject and s3:PutObject below the prefix and s3:ListBucket, and is the clock right?",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, variables: &[(&str, &str)]) -> Result<(Signer, String), String> {
        let known: BTreeMap<&str, &str> = variables.iter().copied().collect();
        signer(text, &|name| known.get(name).map(|value| (*value).to_owned()))
    }

    const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "S")];

    #[test]
    fn a_bucket_is_where_region_and_endpoint_say() {
        let at = |text: &str, more: &[(&str, &str)]| of(text, &[&KEYS, more].concat()).map(|found| found.1);
        let region = [("AWS_REGION", "eu-central-1")];
        assert_eq!(at("s3://images/a/b/", &region).unwrap(), "https://images.s3.eu-central-1.amazonaws.com/a/b");
        assert_eq!(at("s3://my.images", &region).unwrap(), "https://s3.eu-central-1.amazonaws.com/my.images");
        let china = [("AWS_DEFAULT_REGION", "cn-north-1")];
        assert_eq!(at("s3://images", &china).unwrap(), "https://images.s3.cn-north-1.amazonaws.com.cn");
        let own = [("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")];
        assert_eq!(at("s3://images/x", &own).unwrap(), "http://127.0.0.1:9000/images/x");
        for (text, more, said) in [
            ("s3://images", &[] as &[(&str, &str)], "no region"),
            ("s3://images", &[("AWS_REGION", "a/b")], "not a region"),
            ("s3://images", &[("AWS_ENDPOINT_URL_S3", "ftp://x")], "not an http"),
            ("s3://images", &[("AWS_ENDPOINT_URL_S3", "nothing")], "the endpoint"),
            ("s3://a b", &region, "a bucket's name"),
            ("s3://", &region, "a bucket's name"),
            ("s3://images/../other", &region, "what follows"),
            ("s3://images/a?b", &region, "what follows"),
        ] {
            let problem = at(text, more).unwrap_err();
            assert!(problem.contains(said), "{text}: {problem}");
        }
        assert!(of("s3://images", &region).err().unwrap().contains("no credentials"));
    }

    #[test]
    fn the_files_of_the_aws_tools_are_read_and_variables_go_before_them() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(home.path().join(".aws").join(name), text).unwrap();
        write(
            "credentials",
            "# mine\n[default]\naws_access_key_id = D\naws_secret_access_key=DS\n[ci]\naws_access_key_id=C\naws_secret_access_key=CS\naws_session_token=T\n",
        );
        write(
            "config",
            "[default]\nregion = eu-west-1\n[profile ci]\nregion=eu-north-1\ns3 =\n  addressing_style = path\n  region = no\n",
        );
        let home = home.path().to_str().unwrap();
        let (signer, whole) = of("s3://images", &[("HOME", home)]).unwrap();
        assert_eq!((signer.credentials.key(), whole.contains("eu-west-1")), ("D", true));
        let (signer, whole) = of("s3://images", &[("HOME", home), ("AWS_PROFILE", "ci")]).unwrap();
        assert_eq!((signer.credentials.token(), whole.contains("eu-north-1")), (Some("T"), true));
        let both = [&KEYS[..], &[("HOME", home), ("AWS_REGION", "us-west-2")]].concat();
        let (signer, whole) = of("s3://images", &both).unwrap();
        assert_eq!((signer.credentials.key(), whole.contains("us-west-2")), ("A", true));
        let error = of("s3://images", &[("HOME", home), ("AWS_PROFILE", "no")]).err().unwrap();
        assert!(error.contains("no profile `no`"), "{error}");
        let error = of("s3://images", &[("AWS_CONFIG_FILE", "/nowhere/at/all")]).err().unwrap();
        assert!(error.contains("/nowhere/at/all"), "{error}");
    }

    #[test]
    fn what_is_signed_lies_in_the_bucket_and_names_no_secret() {
        let (signer, whole) = of("s3://images/x", &[&KEYS[..], &[("AWS_REGION", "eu-west-1")]].concat()).unwrap();
        let signed = signer.signed(Verb::Get, &format!("{whole}/v1/a.json")).unwrap();
        assert!(signed.starts_with("https://images.s3.eu-west-1.amazonaws.com/x/v1/a.json?"), "{signed}");
        assert!(signed.contains("X-Amz-Signature=") && signed.contains("X-Amz-Credential=A%2F"), "{signed}");
        assert_ne!(signer.signed(Verb::Put, &format!("{whole}/v1/a.json")).unwrap(), signed);
        assert_eq!(signer.signed(Verb::Get, "https://images.s3.eu-west-1.amazonaws.com.example.org/x"), None);
        assert_eq!(signer.signed(Verb::Get, "https://other.example.org/x"), None);
    }
}
