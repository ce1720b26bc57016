//! Users and passwords of registries, where podman, skopeo and docker keep them.
//!
//! The first of these files that knows the registry: `$REGISTRY_AUTH_FILE`; `containers/auth.json` below `$XDG_RUNTIME_DIR`, then below
//! `$XDG_CONFIG_HOME` or `~/.config`; `config.json` in `$DOCKER_CONFIG` or `~/.docker`. A file may leave the answer to a program.
//! Source: containers-auth.json(5); docker/cli, "Credential stores"; docker/docker-credential-helpers.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::error::OciError;
use super::reference::Reference;
use packages::basic;

/// Largest file that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// What a program answers where it knows nothing. Source: docker-credential-helpers, credentials/error.go.
const NOT_FOUND: &str = "credentials not found in native keychain";

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Login {
    /// A header, made of user and password.
    Basic(String),
    /// A token that gives tokens.
    Identity(String),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    identitytoken: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: String,
}

impl Login {
    /// The host's for a repository.
    /// Errors: [`OciError::Credentials`] where a file or a program cannot be used.
    pub(crate) fn of_host(reference: &Reference) -> Result<Option<Self>, OciError> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self::of_files(&files(&variable), reference)
            .map_err(|problem| OciError::Credentials { registry: reference.registry.clone(), problem })
    }

    fn of_files(files: &[PathBuf], reference: &Reference) -> Result<Option<Self>, String> {
        for path in files {
            let Some(file) = read(path)? else { continue };
            if let Some(found) = file.login(reference, path)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

fn files(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    if let Some(named) = variable("REGISTRY_AUTH_FILE") {
        return vec![named];
    }
    let home = variable("HOME");
    let below_home = |folder: &str| home.as_ref().map(|home| home.join(folder));
    let containers = [variable("XDG_RUNTIME_DIR"), variable("XDG_CONFIG_HOME").or_else(|| below_home(".config"))];
    let docker = variable("DOCKER_CONFIG").or_else(|| below_home(".docker"));
    let containers = containers.into_iter().flatten().map(|folder| folder.join("containers/auth.json"));
    containers.chain(docker.map(|folder| folder.join("config.json"))).collect()
}

fn read(path: &Path) -> Result<Option<File>, String> {
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("`{}` cannot be read: {error}", path.display())),
    };
    if found.len() > LIMIT || !found.is_file() {
        return Err(format!("`{}` is not a file of at most 1 MiB", path.display()));
    }
    let bytes = std::fs::read(path).map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?;
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    // What the parser says may quote a password.
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        format!("`{}` is not JSON of such a file (line {}, column {})", path.display(), error.line(), error.column())
    })
}

/// What a key of a file stands for: schemes and the paths of old versions do not count.
fn normal(key: &str) -> &str {
    let key = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let key = ["/v1", "/v2"].iter().find_map(|version| key.strip_suffix(version)).unwrap_or(key);
    if matches!(key, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { key }
}

impl File {
    fn login(&self, reference: &Reference, path: &Path) -> Result<Option<Login>, String> {
        let Reference { registry, name, .. } = reference;
        let whole = format!("{registry}/{name}");
        // From the whole name to the registry alone.
        let mut at: &str = &whole;
        loop {
            if let Some(program) = self.helpers.iter().find(|(key, _)| normal(key) == at).map(|(_, program)| program) {
                return ask(program, at);
            }
            let entry = self.auths.iter().find(|(key, _)| normal(key) == at);
            if let Some(found) = entry.map(|(_, entry)| entry.login(path)).transpose()?.flatten() {
                return Ok(Some(found));
            }
            if at == registry {
                break;
            }
            at = at.rsplit_once('/').map_or(registry.as_str(), |(above, _)| above);
        }
        match &self.store {
            Some(program) if registry == "docker.io" => ask(program, "https://index.docker.io/v1/"),
            Some(program) => ask(program, registry),
            None => Ok(None),
        }
    }
}

impl Entry {
    fn login(&self, path: &Path) -> Result<Option<Login>, String> {
        if let Some(token) = self.identitytoken.as_ref().filter(|token| !token.is_empty()) {
            return Ok(Some(Login::Identity(token.clone())));
        }
        if let (Some(user), Some(password)) = (&self.username, &self.password) {
            return Ok(Some(Login::Basic(basic(user, password))));
        }
        let Some(auth) = self.auth.as_ref().filter(|auth| !auth.is_empty()) else { return Ok(None) };
        let wrong = || format!("`{}` has an `auth` that is not USER:PASSWORD in Base64", path.display());
        use base64ct::Encoding;
        let plain = base64ct::Base64::decode_vec(auth.trim()).map_err(|_| wrong())?;
        let plain = String::from_utf8(plain).map_err(|_| wrong())?;
        // Docker fills up with zeros.
        let (user, password) = plain.trim_end_matches('\0').split_once(':').ok_or_else(wrong)?;
        Ok(Some(Login::Basic(basic(user, password))))
    }
}

/// Asks a program of docker's protocol.
fn ask(program: &str, place: &str) -> Result<Option<Login>, String> {
    let is_plain = !program.is_empty() && program.chars().all(|one| one.is_ascii_alphanumeric() || "._-".contains(one));
    if !is_plain {
        return Err(format!("`{}` is not the name of a credential helper", program.escape_default()));
    }
    let program = format!("docker-credential-{program}");
    let failed = |problem: String| format!("`{program} get`: {problem}");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that needs no question is not the reason why it fails.
        let _ = writeln!(stdin, "{place}");
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        return match said == NOT_FOUND {
            true => Ok(None),
            false => Err(failed(output.status.to_string())),
        };
    }
    let answer: Answer =
        serde_json::from_slice(&output.stdout).map_err(|_| failed("it did not answer as such a program".to_owned()))?;
    Ok(Some(match answer.user.as_str() {
        "<token>" => Login::Identity(answer.secret),
        user => Login::Basic(basic(user, &answer.secret)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(text: &str, reference: &str) -> Result<Option<Login>, String> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("auth.json");
        std::fs::write(&path, text).unwrap();
        Login::of_files(&[place.path().join("none"), path], &reference.parse().unwrap())
    }

    #[test]
    fn the_nearest_entry_counts() {
        // a:1, b:2 and c:3:4.
        let text = r#"{"auths": {
            "https://r.test/v1/": {"auth": "YTox"},
            "r.test/team": {"auth": "Yjoy"},
            "r.test/team/deep/x": {"username": "c", "password": "3:4"},
            "https://index.docker.io/v1/": {"auth": "YTox"},
            "token.test": {"auth": "YTox", "identitytoken": "t"},
            "empty.test": {}}}"#;
        let of = |reference: &str| login(text, reference).unwrap();
        let basic = |user: &str, password: &str| Some(Login::Basic(basic(user, password)));
        assert_eq!(of("r.test/x"), basic("a", "1"));
        assert_eq!(of("r.test/team/y"), basic("b", "2"));
        assert_eq!(of("r.test/team/deep/x:1"), basic("c", "3:4"));
        assert_eq!(of("r.test/teams/y"), basic("a", "1"));
        assert_eq!(of("docker.io/debian"), basic("a", "1"));
        assert_eq!(of("token.test/x"), Some(Login::Identity("t".to_owned())));
        assert_eq!(of("empty.test/x"), None);
        assert_eq!(of("other.test/x"), None);
        assert_eq!(format!("{:?}", of("r.test/x")), "Some(Login)");
    }

    #[test]
    fn files_that_cannot_be_used_are_named_without_what_is_in_them() {
        for (text, said) in [
            ("{\"auths\": {\"r.test\": {\"auth\": \"secret!\"}}}", "not USER:PASSWORD"),
            ("{\"auths\": {\"r.test\": {\"auth\": \"YQ==\"}}}", "not USER:PASSWORD"),
            ("{\"auths\": \"secret\"}", "line 1"),
            ("{\"credHelpers\": {\"r.test\": \"../secret\"}}", "credential helper"),
            ("{\"credsStore\": \"no-such-helper-here\"}", "docker-credential-no-such-helper-here get"),
        ] {
            let problem = login(text, "r.test/x").unwrap_err();
            assert!(problem.contains(said), "{text}: {problem}");
            assert!(!problem.contains("secret!") && !problem.contains("\"secret\""), "{problem}");
        }
        assert_eq!(login("  \n", "r.test/x"), Ok(None));
    }

    #[test]
    fn files_are_looked_for_in_order() {
        let of = |variables: &[(&str, &str)]| -> Vec<String> {
            let found = files(&|name| variables.iter().find(|one| one.0 == name).map(|one| one.1.into()));
            found.iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(of(&[("REGISTRY_AUTH_FILE", "/a"), ("HOME", "/h")]), ["/a"]);
        assert_eq!(
            of(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")]),
            ["/r/containers/auth.json", "/h/.config/containers/auth.json", "/h/.docker/config.json"]
        );
        assert_eq!(
            of(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/c"), ("DOCKER_CONFIG", "/d")]),
            ["/c/containers/auth.json", "/d/config.json"]
        );
        assert!(of(&[]).is_empty());
    }
}
