//! The PROXY protocol, versions 1 and 2, by which a trusted balancer says for which client it connects.
//!
//! A header is read only from addresses that are configured as balancers, and it is required from them. From anybody
//! else it is just malformed XML (T-17). It has at most 536 bytes and must arrive within 3 seconds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const LONGEST_V1: usize = 107;
const LONGEST_V2: usize = 536;
const PATIENCE: Duration = Duration::from_secs(3);

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The client's address.
    Address(IpAddr),
    /// The balancer speaks for itself, or does not say.
    Balancer,
}

/// There is no usable header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Not a PROXY header.
    #[error("no PROXY header")]
    Missing,
    /// Nothing was sent, as when a monitor checks whether the port is open.
    #[error("nothing was said")]
    Silent,
    /// A header that is too long or contradicts itself.
    #[error("malformed PROXY header")]
    Malformed,
    /// It did not come in time, or the connection ended before it was complete.
    #[error("the PROXY header was cut short")]
    Cut,
}

/// Reads a header and not a byte more.
pub async fn read(socket: &mut (impl AsyncRead + Unpin)) -> Result<Origin, ProxyError> {
    let header = tokio::time::timeout(PATIENCE, header(socket));
    header.await.unwrap_or(Err(ProxyError::Cut))
}

async fn header(socket: &mut (impl AsyncRead + Unpin)) -> Result<Origin, ProxyError> {
    let mut start = [0; 12];
    match socket.read(&mut start).await {
        Ok(0) => return Err(ProxyError::Silent),
        Ok(read) => exact(socket, &mut start[read..]).await?,
        Err(_) => return Err(ProxyError::Cut),
    }
    if &start == SIGNATURE {
        return second(socket).await;
    }
    if !start.starts_with(b"PROXY ") {
        return Err(ProxyError::Missing);
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= LONGEST_V1 {
            return Err(ProxyError::Malformed);
        }
        let mut byte = [0];
        exact(socket, &mut byte).await?;
        line.extend_from_slice(&byte);
    }
    first(&line)
}

async fn exact(socket: &mut (impl AsyncRead + Unpin), buf: &mut [u8]) -> Result<(), ProxyError> {
    socket
        .read_exact(buf)
        .await
        .map(drop)
        .map_err(|_| ProxyError::Cut)
}

/// The header of version 2 with which a balancer speaks for this client.
pub fn header_for(client: SocketAddr, server: SocketAddr) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    let ports = [client.port().to_be_bytes(), server.port().to_be_bytes()].concat();
    let (family, addresses) = match (client.ip().to_canonical(), server.ip().to_canonical()) {
        (IpAddr::V4(client), IpAddr::V4(server)) => {
            (0x11, [client.octets(), server.octets()].concat())
        }
        (client, server) => (0x21, [v6(client).octets(), v6(server).octets()].concat()),
    };
    // The cast is safe: the length is twelve or thirty-six.
    let length = (addresses.len() + ports.len()) as u16;
    header.extend([0x21, family]);
    header.extend(length.to_be_bytes());
    header.extend(addresses);
    header.extend(ports);
    header
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// Version 1: a line of text.
fn first(line: &[u8]) -> Result<Origin, ProxyError> {
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::Malformed)?;
    let words: Vec<&str> = line.trim_end_matches("\r\n").split(' ').collect();
    match words[..] {
        ["PROXY", "UNKNOWN", ..] => Ok(Origin::Balancer),
        ["PROXY", family @ ("TCP4" | "TCP6"), source, _, _, _] => {
            let source: IpAddr = source.parse().map_err(|_| ProxyError::Malformed)?;
            let fits = source.is_ipv4() == (family == "TCP4");
            fits.then_some(Origin::Address(source))
                .ok_or(ProxyError::Malformed)
        }
        _ => Err(ProxyError::Malformed),
    }
}

/// Version 2: binary, with a length.
async fn second(socket: &mut (impl AsyncRead + Unpin)) -> Result<Origin, ProxyError> {
    let mut fixed = [0; 4];
    exact(socket, &mut fixed).await?;
    let length = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if length + 16 > LONGEST_V2 {
        return Err(ProxyError::Malformed);
    }
    let mut rest = vec![0; length];
    exact(socket, &mut rest).await?;
    decode(fixed[0], fixed[1], &rest)
}

fn decode(version: u8, family: u8, rest: &[u8]) -> Result<Origin, ProxyError> {
    match (version, family) {
        // LOCAL: the balancer's own health check.
        (0x20, _) => Ok(Origin::Balancer),
        (0x21, 0x11) => {
            let source: [u8; 4] = rest
                .get(..12)
                .and_then(|r| r[..4].try_into().ok())
                .ok_or(ProxyError::Malformed)?;
            Ok(Origin::Address(Ipv4Addr::from(source).into()))
        }
        (0x21, 0x21) => {
            let source: [u8; 16] = rest
                .get(..36)
                .and_then(|r| r[..16].try_into().ok())
                .ok_or(ProxyError::Malformed)?;
            Ok(Origin::Address(Ipv6Addr::from(source).into()))
        }
        (0x21, _) => Ok(Origin::Balancer),
        _ => Err(ProxyError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expect: Result<Origin, ProxyError>, left: &[u8]) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut rest = bytes;
        assert_eq!(runtime.block_on(read(&mut rest)), expect, "{bytes:?}");
        if expect.is_ok() {
            assert_eq!(rest, left);
        }
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    #[test]
    fn t_17_a_header_is_read_to_its_last_byte_and_no_further() {
        let address = Origin::Address("192.0.2.7".parse().unwrap());
        check(
            b"PROXY TCP4 192.0.2.7 192.0.2.1 5 6\r\n<stream",
            Ok(address),
            b"<stream",
        );
        check(b"PROXY UNKNOWN\r\n<", Ok(Origin::Balancer), b"<");
        let body = [192, 0, 2, 7, 192, 0, 2, 1, 0, 5, 0, 6, 9, 9];
        check(
            &[&v2(0x21, 0x11, &body)[..], b"<"].concat(),
            Ok(address),
            b"<",
        );
        check(&v2(0x20, 0, b""), Ok(Origin::Balancer), b"");
    }

    #[test]
    fn t_17_the_header_that_we_write_is_read_as_the_client_s_address() {
        for (client, server) in [
            ("192.0.2.7:5", "192.0.2.1:6"),
            ("[2001:db8::7]:5", "[2001:db8::1]:6"),
            ("[2001:db8::7]:5", "192.0.2.1:6"),
        ] {
            let client: SocketAddr = client.parse().unwrap();
            let mut sent = header_for(client, server.parse().unwrap());
            sent.push(b'<');
            check(&sent, Ok(Origin::Address(client.ip())), b"<");
        }
    }

    #[test]
    fn t_17_anything_else_is_refused() {
        check(b"<?xml version='1.0'?>", Err(ProxyError::Missing), b"");
        check(b"PROXY TCP4", Err(ProxyError::Cut), b"");
        check(
            b"PROXY TCP4 ::1 ::1 5 6\r\n",
            Err(ProxyError::Malformed),
            b"",
        );
        check(
            &[b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
            Err(ProxyError::Malformed),
            b"",
        );
        check(&v2(0x21, 0x11, b"short"), Err(ProxyError::Malformed), b"");
        check(&v2(0x31, 0x11, &[0; 12]), Err(ProxyError::Malformed), b"");
        check(&v2(0x21, 0x11, &[0; 600]), Err(ProxyError::Malformed), b"");
    }
}
