//! The source of a connection, by which shares are counted: its network address.

use std::net::{IpAddr, Ipv6Addr};

/// The source of a connection or request: an IPv4 address, or the /64 network of an IPv6 address, because a host that
/// has one address of a /64 can usually have all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// The source that `address` belongs to.
    ///
    /// ```
    /// use agentwrit_server::Source;
    /// let source = |text: &str| Source::of(text.parse().unwrap());
    /// assert_eq!(source("2001:db8::1"), source("2001:db8::2"));
    /// assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    /// assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    /// ```
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => Self(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into()),
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }

    /// This address alone, for a peer that was verified: others may share its /64, but not its trust.
    pub fn exact(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }
}
