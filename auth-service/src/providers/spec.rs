//! Description of an identity provider.

use access::token::Reach;
use aws_lc_rs::digest::{SHA256, digest};
use url::{Host, Url};

/// An identity provider, as the operator describes it.
#[derive(Clone, Debug)]
pub(crate) struct ProviderSpec {
    /// Name in requests: 1 to 32 of `a-z 0-9 -`.
    pub(crate) name: String,
    /// Name for people.
    pub(crate) display_name: String,
    /// Issuer of the ID tokens.
    pub(crate) issuer: String,
    /// Client ids for which the ID tokens may be issued; at least one.
    pub(crate) audiences: Vec<String>,
    /// Client id of web pages; one of `audiences`.
    pub(crate) web_client_id: Option<String>,
    /// Algorithms with which the ID tokens may be signed; at least one.
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) keys: KeysAt,
    pub(super) nonce_rule: NonceRule,
    /// Whether a verified address in an ID token is believed.
    pub(crate) trusts_email: bool,
    /// Addresses to which downloads may connect.
    pub(super) reach: Reach,
}

/// Place of a provider's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeysAt {
    /// Discovery document (OpenID Connect Discovery 1.0), which names the place of the keys.
    Discovery(Url),
    /// JSON Web Key Set.
    Jwks(Url),
}

/// Algorithm of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

/// Form in which a provider repeats the nonce in the ID token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NonceRule {
    /// The nonce itself.
    Raw,
    /// Its SHA-256, in hexadecimal digits. Applications of Apple send that to the provider.
    Sha256,
}

impl Algorithm {
    pub(super) const ALL: [Self; 3] = [Self::Rs256, Self::Es256, Self::EdDsa];

    /// Returns the name in the header of a token (RFC 7518, RFC 8037).
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Returns the algorithm with this name in the header of a token.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

impl NonceRule {
    /// Returns the value of the claim `nonce` in an ID token for this nonce. It is also what the
    /// client sends to the provider.
    pub(super) fn applied_to(self, nonce: &str) -> String {
        match self {
            Self::Raw => nonce.to_owned(),
            Self::Sha256 => {
                let hash = digest(&SHA256, nonce.as_bytes());
                hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
            }
        }
    }
}

/// Checks the URL of a document of a provider. Traffic without TLS must not leave this machine, and
/// only an operator may lead to this machine.
pub(super) fn check_url(url: &Url, reach: Reach) -> Result<(), &'static str> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user name or password");
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if !is_loopback(url) => Err("must begin with https:// unless it is on this machine"),
        "http" if reach == Reach::PublicInternet => {
            Err("is on this machine, which needs \"allow_private_addresses\": true")
        }
        "http" => Ok(()),
        _ => Err("must begin with https://"),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_repeated_as_it_is_or_hashed() {
        assert_eq!(NonceRule::Raw.applied_to("abc"), "abc");
        assert_eq!(
            NonceRule::Sha256.applied_to("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn only_documents_of_this_machine_come_without_tls() {
        for (url, is_public_good, is_anywhere_good) in [
            ("https://id.example.com/keys", true, true),
            ("https://10.0.0.1/keys", true, true),
            ("http://id.example.com/keys", false, false),
            ("http://10.0.0.1/keys", false, false),
            ("http://127.0.0.1:9000/keys", false, true),
            ("http://[::1]:9000/keys", false, true),
            ("http://localhost:9000/keys", false, true),
            ("https://ann:secret@id.example.com/keys", false, false),
            ("ftp://id.example.com/keys", false, false),
            ("file:///etc/passwd", false, false),
        ] {
            let parsed = url.parse().expect(url);
            assert_eq!(
                check_url(&parsed, Reach::PublicInternet).is_ok(),
                is_public_good,
                "{url}"
            );
            assert_eq!(check_url(&parsed, Reach::Anywhere).is_ok(), is_anywhere_good, "{url}");
        }
    }
}
