//! TLS of the gRPC ports.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

/// Protocol that clients must request (RFC 9113, section 3.2).
const HTTP2: &[u8] = b"h2";

/// Creates a configuration from PEM texts: a certificate chain, its private key, and optionally the
/// authorities of client certificates. With authorities, clients must present a certificate.
/// Returns `None` if one of the texts cannot be used.
pub(crate) fn server_config(cert: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Option<Arc<ServerConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .ok()?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(pem)? {
                roots.add(authority).ok()?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().ok()?)
        }
    };
    let key = PrivateKeyDer::from_pem_slice(key).ok()?;
    let mut config = builder.with_single_cert(certificates(cert)?, key).ok()?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Some(Arc::new(config))
}

fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!all.is_empty()).then_some(all)
}
