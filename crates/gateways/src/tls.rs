//! Certificates for listeners: loaded from PEM files, loaded again when the files change, and swapped
//! for new connections without touching those that are open.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often the files' times are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);

/// Why a certificate could not be used. The text names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read or holds no PEM of that kind.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key do not fit together, or the key's kind is not supported.
    #[error("certificate {path} cannot be used: {reason}")]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// What the library said.
        reason: String,
    },
}

/// Where the two PEM files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, leaf first.
    pub certificate: PathBuf,
    /// The private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
}

/// The certificate in use. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    files: TlsFiles,
    current: Arc<ArcSwap<ServerConfig>>,
}

impl Tls {
    /// Loads the files.
    pub fn load(files: TlsFiles) -> Result<Tls, TlsError> {
        let config = read(&files)?;
        Ok(Tls { files, current: Arc::new(ArcSwap::new(config)) })
    }

    /// An acceptor with the certificate of this moment.
    #[must_use]
    pub fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        tokio_rustls::TlsAcceptor::from(self.current.load_full())
    }

    /// The configuration in use, for listeners of other crates; reloads change it in place.
    #[must_use]
    pub fn shared(&self) -> Arc<ArcSwap<ServerConfig>> {
        Arc::clone(&self.current)
    }

    /// Loads the files again; on failure the old certificate stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current.store(read(&self.files)?);
        Ok(())
    }

    /// Watches the files and reloads them when they change, until told to stop.
    pub async fn watch(self, stop: CancellationToken) {
        let mut seen = self.stamp();
        let mut ticks = tokio::time::interval(RELOAD_INTERVAL);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let stamp = self.stamp();
            if stamp == seen {
                continue;
            }
            seen = stamp;
            match self.reload() {
                Ok(()) => info!(target: "naru::serve", "certificate reloaded"),
                Err(error) => {
                    warn!(target: "naru::serve", %error, "certificate not reloaded, the old one stays");
                }
            }
        }
    }

    fn stamp(&self) -> [Option<SystemTime>; 2] {
        [modified(&self.files.certificate), modified(&self.files.key)]
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let broken = |path: &Path, reason: String| TlsError::File { path: path.to_owned(), reason };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| broken(&files.certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(broken(&files.certificate, "no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| broken(&files.key, error.to_string()))?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| TlsError::Unusable {
            path: files.certificate.clone(),
            reason: error.to_string(),
        })?;
    Ok(Arc::new(config))
}
