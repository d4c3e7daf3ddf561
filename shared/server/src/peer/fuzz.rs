//! Fuzz target for the parser of `x-forwarded-for`.

use std::net::{IpAddr, Ipv4Addr};

use base::testing::fuzz::Target;
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

use super::{FORWARDED_FOR, client, hop, plain};

const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

#[test]
fn fuzz_forwarded_headers() {
    let trusted = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().expect("a network"));
    Target {
        corpus: include_str!("fuzz/forwarded_for.txt"),
        genuine: &[
            b"192.0.2.7",
            b"6.6.6.6, 192.0.2.7",
            b"6.6.6.6,10.0.0.2 , 10.0.0.3",
            b"2001:db8::1",
            b"[2001:db8::1]:443, [fd00::2]",
            b"64:ff9b::192.0.2.7",
            b"::ffff:10.0.0.9",
            b"192.0.2.7:443",
        ],
        pieces: &[
            ",",
            ", ",
            ",,",
            " ",
            "\t",
            ":",
            "::",
            "[",
            "]",
            "%eth0",
            "/8",
            "10.0.0.1",
            "fd00::1",
            "255.255.255.255",
            "::ffff:",
            "unknown",
            "_hidden",
            "for=",
            "0x7f.1",
            "010.0.0.1",
            "65536",
        ],
    }
    .bytes(|bytes| {
        if let Ok(text) = str::from_utf8(bytes)
            && let Some(address) = hop(bytes)
        {
            assert_eq!(address, plain(address), "{text}");
            assert_eq!(hop(address.to_string().as_bytes()), Some(address), "{text}");
            assert_eq!(hop(format!(" {address}\t").as_bytes()), Some(address), "{text}");
        }
        let Ok(value) = HeaderValue::from_bytes(bytes) else {
            return;
        };
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED_FOR, value);
        // The header of an untrusted peer is ignored.
        assert_eq!(client(STRANGER, &headers, &trusted), STRANGER);
        assert_eq!(client(PROXY, &headers, &[]), PROXY);
        let derived = client(PROXY, &headers, &trusted);
        let named = bytes
            .split(|byte| *byte == b',')
            .filter_map(hop)
            .any(|address| address == derived);
        assert!(derived == PROXY || named, "{derived} is nobody in the header");
        let bucket = crate::network::network_of(derived);
        match derived {
            IpAddr::V6(address) if address.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0] => {
                let [.., a, b, c, d] = address.octets();
                assert_eq!(bucket, IpNet::from(IpAddr::V4(Ipv4Addr::new(a, b, c, d))));
            }
            IpAddr::V6(_) => assert!(bucket.contains(&derived) && bucket.prefix_len() == 64),
            IpAddr::V4(_) => assert_eq!(bucket, IpNet::from(derived)),
        }
        // The entry that a trusted proxy appends decides, whatever its client wrote before it.
        headers.append(FORWARDED_FOR, HeaderValue::from_static("192.0.2.7"));
        assert_eq!(client(PROXY, &headers, &trusted), STRANGER);
        headers.append(FORWARDED_FOR, HeaderValue::from_static("10.0.0.2, 10.0.0.3"));
        assert_eq!(client(PROXY, &headers, &trusted), STRANGER);
    });
}
