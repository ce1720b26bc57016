//! TLS: certificate and key from files, read again when they were replaced.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::error::ServeError;

#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, with those between it and the authority, in PEM.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Authorities of clients' certificates: then a client needs one.
    pub client_authorities: Option<PathBuf>,
}

/// What connections are accepted with: the files as they were read last.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files.
    /// Errors: One cannot be read, the key is not that of the certificate, or the certificate has expired.
    pub(crate) fn open(files: TlsFiles) -> Result<Self, ServeError> {
        let current = RwLock::new(Arc::new(configuration(&files)?));
        Ok(Self { files, current })
    }

    /// Reads the files again. Connections that are open go on with what they began with.
    /// Errors: As [`Tls::open`]; what was read before counts further.
    pub(crate) fn reload(&self) -> Result<(), ServeError> {
        let new = Arc::new(configuration(&self.files)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// What the next connection is accepted with.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn unusable(what: &'static str, path: &Path, problem: String, help: &str) -> ServeError {
    ServeError::Tls { what, path: path.to_owned(), problem, help: help.to_owned() }
}

const PEM: &str = "it must be a file in PEM form that the server's user can read, with a block `-----BEGIN ..-----`";

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ServeError> {
    let cannot = |problem: String| unusable(what, path, problem, PEM);
    let bytes = std::fs::read(path).map_err(|error| cannot(format!("cannot be read: {error}")))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let read = read.map_err(|error| cannot(format!("has a damaged block: {error}")))?;
    if read.is_empty() { Err(cannot("has no certificate".to_owned())) } else { Ok(read) }
}

fn configuration(files: &TlsFiles) -> Result<ServerConfig, ServeError> {
    let chain = certificates("the certificate", &files.certificate)?;
    check_validity(&chain[0], &files.certificate)?;
    let of_key = |problem: String| unusable("the key", &files.key, problem, PEM);
    let bytes = std::fs::read(&files.key).map_err(|error| of_key(format!("cannot be read: {error}")))?;
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| of_key(format!("has no private key: {error}")))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| of_key(format!("cannot be used: {error}")))?;
    let builder = match &files.client_authorities {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for one in certificates("the file of client authorities", path)? {
                let added = roots.add(one);
                added.map_err(|error| {
                    unusable("the file of client authorities", path, format!("cannot be used: {error}"), PEM)
                })?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            let verifier = verifier.map_err(|error| {
                unusable("the file of client authorities", path, format!("cannot be used: {error}"), PEM)
            })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut configuration = builder.with_single_cert(chain, key).map_err(|error| {
        let help = format!("is `{}` the key of that certificate?", files.key.display());
        unusable("the certificate", &files.certificate, format!("cannot be used: {error}"), &help)
    })?;
    configuration.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(configuration)
}

/// Refuses a certificate that no client would accept today.
fn check_validity(certificate: &CertificateDer<'_>, path: &Path) -> Result<(), ServeError> {
    use x509_cert::der::Decode;
    let cannot = |problem: String, help: &str| Err(unusable("the certificate", path, problem, help));
    let read = match x509_cert::Certificate::from_der(certificate) {
        Ok(read) => read,
        Err(error) => return cannot(format!("is damaged: {error}"), PEM),
    };
    let validity = read.tbs_certificate.validity;
    let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    if now > seconds(validity.not_after) {
        return cannot(
            format!("expired at {}", validity.not_after),
            "renew it; a running server takes the new one with SIGHUP (`systemctl reload`), and no download ends for it",
        );
    }
    if now < seconds(validity.not_before) {
        return cannot(format!("is valid from {} on", validity.not_before), "is the clock of this machine right?");
    }
    Ok(())
}
