//! Opening sockets, for both versions of IP where the machine has both.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::sockopt::set_ipv6_v6only;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted: when they are too many, the kernel drops further ones, and those come back
/// after a second. The system's limit (net.core.somaxconn) may be lower.
const BACKLOG: u32 = 4096;

/// Listens on `address`. `[::]` means both IPv6 and IPv4, and IPv4 alone where there is no IPv6.
///
/// # Errors
/// When the address can't be had.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match open(address) {
        Err(error) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && lacks_ipv6(&error) => {
            open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
        }
        opened => opened,
    }
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            // Whatever the system's default (net.ipv6.bindv6only).
            set_ipv6_v6only(&socket, false)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The kernel has no IPv6 (EAFNOSUPPORT), or it is switched off (EADDRNOTAVAIL).
fn lacks_ipv6(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [rustix::io::Errno::AFNOSUPPORT, rustix::io::Errno::ADDRNOTAVAIL]
        .iter()
        .any(|errno| code == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn the_unspecified_address_serves_both_versions() {
        let listener = bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut peers = vec![IpAddr::from(Ipv4Addr::LOCALHOST)];
        // Where the machine has no IPv6, the listener is the IPv4 one.
        if listener.local_addr().unwrap().is_ipv6() {
            peers.push(IpAddr::from(Ipv6Addr::LOCALHOST));
        }
        for peer in peers {
            let (connected, accepted) = tokio::join!(TcpStream::connect((peer, port)), listener.accept());
            connected.unwrap();
            assert_eq!(accepted.unwrap().1.ip().to_canonical(), peer);
        }
    }

    #[tokio::test]
    async fn other_addresses_are_what_they_say() {
        let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(address.ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
        assert_eq!(bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let elsewhere = bind(SocketAddr::from(([192, 0, 2, 1], 0))).unwrap_err();
        assert_eq!(elsewhere.kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn a_machine_without_ipv6_is_recognised() {
        for (code, lacks) in [(97, true), (99, true), (98, false), (13, false)] {
            assert_eq!(lacks_ipv6(&io::Error::from_raw_os_error(code)), lacks, "{code}");
        }
    }
}
