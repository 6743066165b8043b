//! TLS of the API: certificates from files, taken over when they change, and the services that show
//! certificates of their own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::STRICT_TRANSPORT_SECURITY;
use axum::response::Response;
use router::{Aside, FileFaults};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::config::{Tls, TlsVersion};
use crate::regular_file;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Largest file that is read, in bytes.
const BYTES_MAX: u64 = 16 << 20;
/// What is read aside.
const NAME: &str = "certificates";

/// The SPIFFE id of the verified certificate that the client of a connection showed; in every request's
/// extensions.
#[derive(Debug, Clone)]
pub struct ServiceId(pub(crate) Arc<str>);

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("{path}: {problem}")]
    File { path: PathBuf, problem: String },
    /// The certificate and the key do not make a server.
    #[error("tls: {0}")]
    Unusable(String),
}

/// The certificates in use, and the files that they are from.
pub struct Certificates {
    config: Tls,
    files: Files,
    in_use: InUse,
}

/// What handshakes are made with; changes while the server runs.
type InUse = Arc<RwLock<Arc<ServerConfig>>>;

#[derive(Clone, PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authorities: Option<Vec<u8>>,
}

/// Accepts TLS connections and remembers who was at the other end.
#[derive(Clone)]
pub struct TlsAcceptor(InUse);

/// Tells browsers to come by TLS only, for a year (RFC 6797).
pub(crate) async fn insist(mut response: Response) -> Response {
    let value = HeaderValue::from_static("max-age=31536000; includeSubDomains");
    response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, value);
    response
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// One is missing or not what it should be.
    pub fn load(config: &Tls) -> Result<Self, TlsError> {
        let files = Files::read(config)?;
        let in_use = Arc::new(RwLock::new(Arc::new(server_config(config, &files)?)));
        Ok(Self { config: config.clone(), files, in_use })
    }

    /// What accepts connections with them; follows changes.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor(Arc::clone(&self.in_use))
    }

    /// Takes over changed files until told to stop. What cannot be used, or is not read in time, is told, and
    /// the certificates in use stay.
    pub async fn follow(mut self, faults: FileFaults, stop: CancellationToken) {
        let mut aside = Aside::new(NAME, faults.clone());
        loop {
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(LOOK_EVERY) => {} }
            let config = self.config.clone();
            let Some(files) = aside.run(move || Files::read(&config)).await else { continue };
            let taken = files.and_then(|files| self.take(files));
            let fault = taken.as_ref().err().map(|error| format!("{error}; the old ones stay"));
            let is_new = faults.tell(NAME, fault);
            match taken {
                Ok(false) => {}
                Ok(true) => tracing::info!("new certificates are in use"),
                Err(error) if is_new => {
                    tracing::error!(%error, "changed certificates cannot be used; the old ones stay");
                }
                Err(_) => {}
            }
        }
    }

    /// Takes over files, if they changed.
    fn take(&mut self, files: Files) -> Result<bool, TlsError> {
        if files == self.files {
            return Ok(false);
        }
        let config = Arc::new(server_config(&self.config, &files)?);
        *self.in_use.write().unwrap_or_else(PoisonError::into_inner) = config;
        self.files = files;
        Ok(true)
    }
}

impl Files {
    /// Blocks.
    fn read(config: &Tls) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            let problem = |problem: String| TlsError::File { path: path.to_owned(), problem };
            let (bytes, _) =
                regular_file::read(path, BYTES_MAX).map_err(|error| problem(error.to_string()))?;
            if bytes.len() as u64 > BYTES_MAX {
                return Err(problem(format!("it has more than {BYTES_MAX} bytes")));
            }
            Ok(bytes)
        };
        Ok(Self {
            certificate: read(&config.certificate_file)?,
            key: read(&config.key_file)?,
            authorities: config.clients.as_ref().map(|clients| read(&clients.authority_file)).transpose()?,
        })
    }
}

fn server_config(config: &Tls, files: &Files) -> Result<ServerConfig, TlsError> {
    let unusable = |error: &dyn std::fmt::Display| TlsError::Unusable(error.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(config.version_min))
        .map_err(|error| unusable(&error))?;
    let builder = match (&config.clients, &files.authorities) {
        (Some(clients), Some(pem)) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(&clients.authority_file, pem)? {
                roots.add(certificate).map_err(|error| unusable(&error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if clients.are_required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| unusable(&error))?)
        }
        _ => builder.with_no_client_auth(),
    };
    let chain = certificates(&config.certificate_file, &files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|error| not_pem(&config.key_file, &error))?;
    let mut server = builder.with_single_cert(chain, key).map_err(|error| unusable(&error))?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(server)
}

fn versions(least: TlsVersion) -> Vec<&'static SupportedProtocolVersion> {
    match least {
        TlsVersion::V1_2 => vec![&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => vec![&rustls::version::TLS13],
    }
}

/// The certificates of a PEM file; at least one.
fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(not_pem(path, &"there is no certificate in it")),
        Err(error) => Err(not_pem(path, &error)),
    }
}

fn not_pem(path: &Path, problem: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), problem: problem.to_string() }
}

impl TlsAcceptor {
    /// Shakes hands, and finds out what service is at the other end. How long that may take is the caller's
    /// to say.
    pub(crate) async fn accept<S>(&self, stream: S) -> io::Result<(TlsStream<S>, Option<ServiceId>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let stream = tokio_rustls::TlsAcceptor::from(config).accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let service = shown.and_then(|certificate| spiffe_id(certificate)).map(ServiceId);
        Ok((stream, service))
    }
}

/// The SPIFFE id of a certificate: its one name that is a URI. A certificate with several has none
/// (X509-SVID, section 2).
fn spiffe_id(certificate: &[u8]) -> Option<Arc<str>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = &certificate.subject_alternative_name().ok()??.value.general_names;
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let uri = uris.next().filter(|uri| uri.starts_with("spiffe://"))?;
    uris.next().is_none().then(|| Arc::from(uri))
}
