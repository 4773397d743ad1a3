//! The header of the PROXY protocol, version 2, that tells a target who is at the other end (E102).

use std::net::{IpAddr, SocketAddr};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// The header for a connection from `source` to `destination`.
pub(super) fn header(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.push(PROXY);
    if let (IpAddr::V4(from), IpAddr::V4(to)) = (source.ip(), destination.ip()) {
        header.extend([TCP_OVER_IPV4, 0, 12]);
        header.extend(from.octets());
        header.extend(to.octets());
    } else {
        let long = |address: IpAddr| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        header.extend([TCP_OVER_IPV6, 0, 36]);
        header.extend(long(source.ip()).octets());
        header.extend(long(destination.ip()).octets());
    }
    header.extend(source.port().to_be_bytes());
    header.extend(destination.port().to_be_bytes());
    header
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    #[test]
    fn e102_the_header_is_that_of_the_specification() {
        let four = header("127.0.0.1:258".parse().unwrap(), "127.100.0.1:443".parse().unwrap());
        assert_eq!(&four[..16], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
        assert_eq!(four[16..], [127, 0, 0, 1, 127, 100, 0, 1, 1, 2, 1, 187]);
        let six = header("[::1]:1".parse().unwrap(), "[::2]:2".parse().unwrap());
        assert_eq!((six.len(), six[13], six[15], six[31], six[47]), (52, 0x21, 36, 1, 2));
    }
}
