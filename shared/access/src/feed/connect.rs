//! Connection to auth-service.

use std::time::Duration;

use base::tls::tls_for;
use http::Uri;
use tonic::transport::{Channel, Endpoint, Error};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Interval of HTTP/2 keep-alive pings, which detect a connection that was lost silently.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Creates a channel to auth-service at this `http` or `https` address. It connects on first use,
/// and reconnects whenever the connection has ended. With `https`, it trusts the certificates that
/// the machine trusts.
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
