//! TLS of a server: a certificate and its private key in files, which are read again when the process is told to.

use std::borrow::Cow;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

use crate::explain::Explain;
use crate::ownership::{self, OwnershipError, access_hint};

/// Larger files are not of this kind.
const MAX_BYTES: u64 = 1 << 20;

/// Where certificate and key are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those that it was signed with.
    pub certificate: PathBuf,
    /// Its private key, which nobody else may read.
    pub key: PathBuf,
}

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could have read or replaced the key.
    #[error("private key")]
    Key(#[from] OwnershipError),
    /// It is not in PEM, or has none.
    #[error("{}: no {what} in PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
        /// Why.
        source: pem::Error,
    },
    /// They do not belong together, or are of a kind that is not supported.
    #[error("certificate {} with key {}", certificate.display(), key.display())]
    Pair {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

impl Explain for TlsError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Read { source, .. } => access_hint(source),
            Self::Key(error) => error.hint(),
            Self::Pem { what: "private key", .. } => Some(
                "the file has to have one that begins with -----BEGIN PRIVATE KEY-----, without a password"
                    .into(),
            ),
            Self::Pem { .. } => {
                Some("the file has to have one that begins with -----BEGIN CERTIFICATE-----".into())
            }
            Self::Pair { .. } => Some(
                "the key has to be the one that the first certificate of the file was made for".into(),
            ),
        }
    }
}

/// What new connections are encrypted with.
pub(crate) struct Tls {
    files: TlsFiles,
    current: Mutex<TlsAcceptor>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be used.
    pub(crate) fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let current = Mutex::new(read(&files)?);
        Ok(Self { files, current })
    }

    /// Reads the files again, for connections from now on.
    ///
    /// # Errors
    /// One cannot be used; the earlier ones stay in use.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let new = read(&self.files)?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn read(files: &TlsFiles) -> Result<TlsAcceptor, TlsError> {
    let TlsFiles { certificate, key } = files;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Read { path, source }
    };
    let in_pem = |path: &Path, what| {
        let path = path.to_owned();
        move |source| TlsError::Pem { path, what, source }
    };
    let file = std::fs::File::open(certificate).map_err(failed(certificate))?;
    let chain = content(file).map_err(failed(certificate))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
    let chain = chain
        .and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) })
        .map_err(in_pem(certificate, "certificate"))?;
    let secret = content(ownership::open_private(key)?).map_err(failed(key))?;
    let secret = PrivateKeyDer::from_pem_slice(&secret).map_err(in_pem(key, "private key"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret));
    let mut config = config.map_err(|source| TlsError::Pair {
        certificate: certificate.clone(),
        key: key.clone(),
        source,
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn content(file: std::fs::File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut content)?;
    Ok(content)
}
