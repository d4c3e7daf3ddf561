//! How auth-service is reached.

use std::time::Duration;

use base::tls::tls_for;
use http::Uri;
use tonic::transport::{Channel, Endpoint, Error};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A connection is asked this often whether it lives, so that one that was lost without a word is
/// noticed.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A channel to auth-service at this `http` or `https` address, that connects when it is first used
/// and again whenever the connection has ended. Who may serve `https` is what the machine trusts.
pub fn auth_channel(address: &Uri) -> Result<Channel, Error> {
    let mut endpoint = Endpoint::from(address.clone())
        .connect_timeout(CONNECT_WITHIN)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    if let Some(tls) = tls_for(address) {
        endpoint = endpoint.tls_config(tls)?;
    }
    Ok(endpoint.connect_lazy())
}
