//! Bounded downloads of small JSON documents, such as sets of keys.

use std::{error::Error, net::SocketAddr};

use base::error::with_causes;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::public_address::is_public;

/// A download. Redirects are not followed, and no proxy is used.
#[derive(Clone, Copy, Debug)]
pub struct Download<'a> {
    /// An `http` or `https` URL.
    pub url: &'a Url,
    /// Value of the header `accept`.
    pub accept: &'static str,
    /// Maximum size of the document, in bytes. The rest of a larger one is not read.
    pub max_len: usize,
    /// Addresses to which a connection may be made.
    pub reach: Reach,
}

/// Addresses to which a download may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Any address.
    Anywhere,
    /// Only addresses on the public internet. The check is made on the address of the connection
    /// itself, so a name that resolves to another address the second time gains nothing.
    PublicInternet,
}

/// Reason why there is no document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownloadError {
    /// The server does not answer, or answers with an error.
    #[error("{0}")]
    Unreachable(String),
    /// The document is larger than allowed.
    #[error("the document is larger than {} KiB", .0 / 1024)]
    TooLarge(usize),
}

impl Download<'_> {
    /// Downloads the document. The caller limits the time.
    pub async fn get(&self) -> Result<Vec<u8>, DownloadError> {
        let mut client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        if self.url.scheme() == "http" {
            // Without redirects, TLS is never needed, so that this also works on a machine without
            // root certificates.
            client = client.tls_certs_only([]);
        }
        if self.reach == Reach::PublicInternet {
            self.ensure_public_literal()?;
            client = client.dns_resolver(PublicResolver);
        }
        let client = client.build().map_err(|error| unreachable(&error))?;
        let request = client
            .get(self.url.clone())
            .header(http::header::ACCEPT, self.accept);
        let mut response = request.send().await.map_err(|error| unreachable(&error.without_url()))?;
        if response.status() != http::StatusCode::OK {
            return Err(DownloadError::Unreachable(format!("it answered {}", response.status())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| unreachable(&error.without_url()))?
        {
            if body.len() + chunk.len() > self.max_len {
                return Err(DownloadError::TooLarge(self.max_len));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Refuses an address in the URL itself, for which no resolver is asked.
    fn ensure_public_literal(&self) -> Result<(), DownloadError> {
        let address = match self.url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        if is_public(address) {
            Ok(())
        } else {
            Err(DownloadError::Unreachable(NotPublic.to_string()))
        }
    }
}

fn unreachable(error: &dyn Error) -> DownloadError {
    DownloadError::Unreachable(with_causes(error))
}

/// The error for a host without an address on the public internet.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("its address is not on the public internet")]
struct NotPublic;

/// Resolver of names that finds only addresses on the public internet.
struct PublicResolver;

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(NotPublic.into());
            }
            let addresses: Addrs = Box::new(public.into_iter());
            Ok(addresses)
        })
    }
}
