//! The network of a client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

/// Bits of the network that one household or machine has (RFC 6177).
const IPV6_NETWORK_BITS: u8 = 64;

/// What counts as one client: an IPv4 address, also the one inside of an address that a NAT64
/// gateway made, or the /64 network of any other IPv6 address.
pub(super) fn network_of(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(_) => IpNet::from(address),
        IpAddr::V6(address) => translated(address).map_or_else(
            || {
                Ipv6Net::new(address, IPV6_NETWORK_BITS)
                    .map_or(IpNet::from(IpAddr::V6(address)), |net| net.trunc().into())
            },
            |inside| IpNet::from(IpAddr::V4(inside)),
        ),
    }
}

/// The IPv4 address inside of an address with the well-known prefix of NAT64, 64:ff9b::/96 (RFC
/// 6052).
///
/// It says who counts as one client, and never who is trusted.
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() else {
        return None;
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}
