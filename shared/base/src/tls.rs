//! TLS for clients.

use http::Uri;
use rustls::RootCertStore;
use tonic::transport::ClientTlsConfig;

/// Returns the TLS settings for a client of this address, or `None` if the scheme is not `https`.
pub fn tls_for(address: &Uri) -> Option<ClientTlsConfig> {
    let is_https = address.scheme_str() == Some("https");
    is_https.then(|| ClientTlsConfig::new().trust_anchors(system_roots()))
}

/// Returns the root certificates that the machine trusts. Without any, every server is rejected.
fn system_roots() -> Vec<rustls::pki_types::TrustAnchor<'static>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots.roots
}
