//! How a server is asked, where an address or a package manager's own file on this host says so.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::address::split_user;

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Tls {
    /// What the server's certificate is checked with, instead of the host's own.
    pub ca: Option<PathBuf>,
    pub client_certificate: Option<PathBuf>,
    /// Its key; none: it is in the same file, as entitlements have it.
    pub client_key: Option<PathBuf>,
    /// Whether the server's certificate is not looked at; none: nothing is said of it, and it is.
    pub unverified: Option<bool>,
}

#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub enum Proxy {
    /// That of the environment, if there is one.
    #[default]
    Environment,
    Nothing,
    /// This one; user and password may stand in it.
    At(String),
}

/// How requests below an address are made. Nothing of it is shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Access {
    pub user: Option<(String, String)>,
    /// What follows `?` in each request.
    pub query: Option<String>,
    pub tls: Tls,
    pub proxy: Proxy,
    /// Whether a file says so that came with a recipe: such a one does not lead this host's passwords elsewhere.
    pub is_of_recipe: bool,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proxy")
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Access")
    }
}

impl Access {
    /// What of it is for the mirrors that a list names: a certificate shows who asks and gives nothing away; a password and a
    /// token are for the one address, and so is that its certificate is not looked at.
    pub fn of_mirrors(&self) -> Self {
        let tls = Tls { unverified: None, ..self.tls.clone() };
        Self { user: None, query: None, tls, ..self.clone() }
    }

    /// Whether someone else than the address's own server may read what is sent, because a recipe's file says so.
    pub fn may_divert(&self) -> bool {
        let is_diverted =
            self.proxy != Proxy::Environment || self.tls.ca.is_some() || self.tls.unverified == Some(true);
        self.is_of_recipe && is_diverted
    }

    /// The same where this says nothing.
    pub fn or(self, other: &Self) -> Self {
        Self {
            user: self.user.or_else(|| other.user.clone()),
            query: self.query.or_else(|| other.query.clone()),
            tls: self.tls.or(&other.tls),
            proxy: if self.proxy == Proxy::Environment { other.proxy.clone() } else { self.proxy },
            is_of_recipe: self.is_of_recipe,
        }
    }
}

/// Where it counts, and how it is asked there.
fn learned() -> MutexGuard<'static, Vec<(String, Access)>> {
    static LEARNED: Mutex<Vec<(String, Access)>> = Mutex::new(Vec::new());
    LEARNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers how an address and all below it is asked; that nothing is said of it is remembered too, so that what counts above does
/// not count for it.
pub(super) fn learn(place: &str, access: Access) {
    let place = place.trim_end_matches('/').to_owned();
    let mut all = learned();
    if !has_host(&place) || access == Access::default() && all.iter().any(|(known, _)| *known == place) {
        return;
    }
    all.retain(|(known, _)| *known != place);
    all.push((place, access));
}

/// The same of a mirror that a list names; what is known of it otherwise stays.
pub(crate) fn learn_mirror(place: &str, access: &Access) {
    let place = place.trim_end_matches('/');
    let mut all = learned();
    if has_host(place) && access_at(&all, place).is_none() {
        all.push((place.to_owned(), access.of_mirrors()));
    }
}

/// Whether an address names a server: otherwise it would count for all.
fn has_host(place: &str) -> bool {
    place.split_once("://").is_some_and(|(_, rest)| !rest.is_empty() && !rest.starts_with('/'))
}

/// How an address is asked; none where nothing is known of it.
pub(crate) fn access_of(url: &str) -> Option<Access> {
    access_at(&learned(), url)
}

fn access_at(all: &[(String, Access)], url: &str) -> Option<Access> {
    let is_below = |place: &str| url.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    // The longest place is the nearest.
    all.iter().filter(|(place, _)| is_below(place)).max_by_key(|(place, _)| place.len()).map(|one| one.1.clone())
}

/// An address without the user and the password that stand in it: these are kept apart for requests below it, so that they
/// get into no message, lock or record.
pub fn without_password(url: &str) -> String {
    let (plain, user) = split_user(url);
    if user.is_some() {
        learn(&plain, Access { user, ..Access::default() });
    }
    plain
}

/// Address of a directory without what stands in it for each request: user and password, and what follows `?`, which
/// SUSE's registered hosts have as a token. These, and what else is known of how it is asked, are kept apart.
pub fn of_directory(url: &str, access: &Access) -> String {
    let (plain, user) = split_user(url);
    let (plain, query) = match plain.split_once('?') {
        Some((plain, query)) => (plain.to_owned(), (!query.is_empty()).then(|| query.to_owned())),
        None => (plain, None),
    };
    let plain = plain.trim_end_matches('/').to_owned();
    let access = access.clone();
    learn(&plain, Access { user: user.or(access.user), query: query.or(access.query), ..access });
    plain
}

/// The same of a file, a list of mirrors: what follows `?` asks for what is wanted and stays.
pub fn of_list(url: &str, access: &Access) -> String {
    let (plain, user) = split_user(url);
    let access = access.clone();
    learn(&plain, Access { user: user.or(access.user), query: None, ..access });
    plain
}

impl Tls {
    /// The same where this says nothing; a certificate and its key go together.
    fn or(self, other: &Self) -> Self {
        let own = self.client_certificate.is_some();
        let (certificate, key) = if own {
            (self.client_certificate, self.client_key)
        } else {
            (other.client_certificate.clone(), other.client_key.clone())
        };
        Self {
            ca: self.ca.or_else(|| other.ca.clone()),
            client_certificate: certificate,
            client_key: key,
            unverified: self.unverified.or(other.unverified),
        }
    }

    /// For the client; none where there is nothing of its own. `whose` stands in messages.
    /// Errors: A text without secrets, where files cannot be used.
    pub fn config(&self, whose: &str) -> Result<Option<TlsConfig>, String> {
        if *self == Self::default() {
            return Ok(None);
        }
        let read = |path: &Path| {
            std::fs::read(path)
                .map_err(|error| format!("credentials for {whose}: {} cannot be read: {error}", path.display()))
        };
        let certificates = |path: &Path| -> Result<Vec<Certificate<'static>>, String> {
            let bytes = read(path)?;
            let items = parse_pem(&bytes).filter_map(Result::ok).filter_map(|item| match item {
                PemItem::Certificate(one) => Some(one),
                _ => None,
            });
            let all: Vec<_> = items.collect();
            if all.is_empty() {
                return Err(format!("credentials for {whose}: {} contains no certificate", path.display()));
            }
            Ok(all)
        };
        let mut config = TlsConfig::builder().disable_verification(self.unverified.unwrap_or(false));
        if let Some(path) = &self.client_certificate {
            let key = self.client_key.as_ref().unwrap_or(path);
            let private = PrivateKey::from_pem(&read(key)?)
                .map_err(|_| format!("credentials for {whose}: {} contains no private key", key.display()))?;
            config = config.client_cert(Some(ClientCert::new_with_certs(&certificates(path)?, private)));
        }
        config = config.root_certs(match &self.ca {
            Some(path) => RootCerts::new_with_certs(&certificates(path)?),
            None => authorities(),
        });
        Ok(Some(config.build()))
    }
}

/// Who vouches for a server that has no authority of its own: the authorities of this host, or, where it has none as a bare
/// Debian, those that browsers know. They are looked for once, when the first server is asked by https.
fn authorities() -> RootCerts {
    static FOUND: OnceLock<bool> = OnceLock::new();
    match FOUND.get_or_init(|| !rustls_native_certs::load_native_certs().certs.is_empty()) {
        true => RootCerts::PlatformVerifier,
        false => RootCerts::WebPki,
    }
}

/// Settings for a server about which nothing is said.
pub(crate) fn usual() -> TlsConfig {
    TlsConfig::builder().root_certs(authorities()).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_counts_at_the_nearest_place_and_below() {
        let host = "https://access.test";
        let certificate = Tls { client_certificate: Some("/a.pem".into()), ..Tls::default() };
        let access = Access { tls: certificate.clone(), ..Access::default() };
        assert_eq!(of_directory(&format!("{host}/a/?token&b"), &access), format!("{host}/a"));
        assert_eq!(without_password("https://u:p@access.test/a/b/"), format!("{host}/a/b/"));
        let list = of_list("https://u:p@access.test/list?arch=x", &access);
        assert_eq!(list, format!("{host}/list?arch=x"));
        let known = access_of(&format!("{host}/a/repodata/repomd.xml")).unwrap();
        assert!(known.query.as_deref() == Some("token&b") && known.tls == certificate && known.user.is_none());
        assert_eq!(access_of(&format!("{host}/a/b/x")).unwrap().user.unwrap().0, "u");
        assert_eq!(access_of(&list).unwrap().user.unwrap().1, "p");
        assert!(access_of(&format!("{host}/ab")).is_none() && access_of(host).is_none());
        assert_eq!(format!("{known:?}"), "Access");
        assert!(known.of_mirrors().query.is_none() && known.of_mirrors().tls == certificate);
        // A place of which nothing is said has nothing of the one above it.
        of_directory(&format!("{host}/a/plain"), &Access::default());
        assert_eq!(access_of(&format!("{host}/a/plain/x")), Some(Access::default()));
        // A list of mirrors changes nothing that is known, and nothing of all servers.
        let blind = Tls { unverified: Some(true), ..certificate.clone() };
        let blind = Access { tls: blind, ..Access::default() };
        for place in ["https:", "https://", "https:///x", &format!("{host}/a"), &format!("{host}/a/b/c")] {
            learn_mirror(place, &blind);
        }
        assert_eq!(access_of(&format!("{host}/a/repodata/repomd.xml")), Some(known.clone()));
        assert_eq!(access_of(&format!("{host}/a/b/c")).unwrap().user.unwrap().0, "u");
        assert!(access_of("https://other.test/x").is_none());
        learn_mirror("https://mirror.access.test/x", &blind);
        assert_eq!(access_of("https://mirror.access.test/x/y").unwrap().tls, certificate);
        // A recipe's own file leads passwords of the host nowhere.
        let of_recipe = Access { is_of_recipe: true, ..Access::default() };
        let at = |proxy: &str| Access { proxy: Proxy::At(proxy.to_owned()), ..of_recipe.clone() };
        assert!(
            !of_recipe.may_divert()
                && at("http://p").may_divert()
                && !Access { is_of_recipe: false, ..at("p") }.may_divert()
        );
        // Each option of the whole file counts where the repository says nothing of it.
        let main = Tls { ca: Some("/ca".into()), unverified: Some(true), ..certificate.clone() };
        let own = Tls { ca: Some("/own".into()), unverified: Some(false), ..Tls::default() }.or(&main);
        assert_eq!((own.ca, own.unverified), (Some("/own".into()), Some(false)));
        assert_eq!(own.client_certificate, certificate.client_certificate);
    }
}
