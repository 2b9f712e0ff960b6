//! A TLS client's first words, byte by byte, for what no TLS library of today says any more.

use std::io::{Read, Write};
use std::net::TcpStream;

/// A `ClientHello` that offers one version and one suite.
pub struct Hello {
    version: u16,
    suite: u16,
    tls13: bool,
}

/// How the server takes it.
#[derive(Debug, PartialEq, Eq)]
pub enum ServerSays {
    /// A `ServerHello` with this suite.
    Hello(u16),
    /// A fatal alert of this number.
    Alert(u8),
}

impl ServerSays {
    pub const HANDSHAKE_FAILURE: Self = Self::Alert(40);
    pub const PROTOCOL_VERSION: Self = Self::Alert(70);
}

/// A list in front of which its length is told, in so many bytes.
fn counted(width: usize, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length[4 - width..], content].concat()
}

fn extension(number: u16, content: &[u8]) -> Vec<u8> {
    [&number.to_be_bytes()[..], &counted(2, content)].concat()
}

impl Hello {
    pub fn tls12(suite: u16) -> Self {
        Self::older(0x0303, suite)
    }

    pub fn tls13(suite: u16) -> Self {
        Self {
            tls13: true,
            ..Self::tls12(suite)
        }
    }

    /// One whose version is in its legacy field.
    pub fn older(version: u16, suite: u16) -> Self {
        Self {
            version,
            suite,
            tls13: false,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut extensions = [
            // server_name
            extension(0, &counted(2, &[&[0][..], &counted(2, b"broker.test")].concat())),
            // supported_groups: x25519, secp256r1, secp384r1
            extension(10, &counted(2, &[0, 29, 0, 23, 0, 24])),
            // ec_point_formats: uncompressed
            extension(11, &counted(1, &[0])),
            // signature_algorithms: ECDSA P-256, RSA-PSS, RSA PKCS#1 with SHA-256, RSA PKCS#1 with SHA-1
            extension(13, &counted(2, &[4, 3, 8, 4, 4, 1, 2, 1])),
            // extended_master_secret
            extension(23, &[]),
        ]
        .concat();
        if self.tls13 {
            // supported_versions: 1.3; key_share: none, so the server asks for one in a HelloRetryRequest.
            extensions.extend(extension(43, &counted(1, &[3, 4])));
            extensions.extend(extension(51, &counted(2, &[])));
        }
        let body = [
            &self.version.to_be_bytes()[..],
            &[7; 32],
            &counted(1, &[]),
            &counted(2, &self.suite.to_be_bytes()),
            &counted(1, &[0]),
            &counted(2, &extensions),
        ]
        .concat();
        let handshake = [&[1][..], &counted(3, &body)].concat();
        [&[22, 3, 1][..], &counted(2, &handshake)].concat()
    }

    /// Says it and listens to the first record of the answer.
    pub fn say(&self, mut stream: TcpStream) -> ServerSays {
        stream.write_all(&self.bytes()).unwrap();
        let mut head = [0; 5];
        stream.read_exact(&mut head).unwrap();
        let mut record = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        stream.read_exact(&mut record).unwrap();
        match (head[0], record.as_slice()) {
            (21, [2, alert]) => ServerSays::Alert(*alert),
            (22, [2, rest @ ..]) => {
                // Length, version and random; then the session id, then the suite.
                let after = 3 + 2 + 32;
                let suite = after + 1 + usize::from(rest[after]);
                ServerSays::Hello(u16::from_be_bytes([rest[suite], rest[suite + 1]]))
            }
            other => panic!("{other:?}"),
        }
    }
}
