//! The client's address, behind proxies.

use std::net::IpAddr;

use http::HeaderMap;

use crate::config::Cidr;

/// The client's address: the rightmost hop that is no trusted proxy.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Cidr]) -> IpAddr {
    let trusts = |address: IpAddr| trusted.iter().any(|range| range.contains(address));
    let mut nearest = peer.to_canonical();
    // From the right, and no further than it is believed: the header may be long.
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    let hops = lines
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.rsplit(','));
    for hop in hops.map(str::trim) {
        if !trusts(nearest) {
            break;
        }
        match hop.parse::<IpAddr>() {
            Ok(address) => nearest = address.to_canonical(),
            Err(_) => break,
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_the_rightmost_untrusted_hop() {
        let trusted: Vec<Cidr> = ["10.0.0.0/8", "192.0.2.1"]
            .iter()
            .map(|range| range.parse().unwrap())
            .collect();
        let table = [
            ("203.0.113.5", "1.2.3.4", "203.0.113.5"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
            ("10.0.0.1", "6.6.6.6, 1.2.3.4, 192.0.2.1", "1.2.3.4"),
            ("10.0.0.1", "10.0.0.2", "10.0.0.2"),
            ("10.0.0.1", "1.2.3.4, rubbish", "10.0.0.1"),
            ("::ffff:10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ];
        for (peer, forwarded, wanted) in table {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", forwarded.parse().unwrap());
            let address = client(peer.parse().unwrap(), &headers, &trusted);
            assert_eq!(address, wanted.parse::<IpAddr>().unwrap(), "{peer} {forwarded}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "1.2.3.4".parse().unwrap());
        assert_eq!(client([9, 9, 9, 9].into(), &headers, &[]), IpAddr::from([9, 9, 9, 9]));
    }
}
