//! The client of a test, in a pod: asks one address once, and prints the answer, or in one line why there is none.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::args::kubernetes::{Ask, Protocol};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;

const MOST: usize = 1024;
/// A datagram may be lost: it is sent again so often within the time.
const DATAGRAMS: u32 = 3;

pub(crate) async fn ask(args: &Ask) -> Result<Exit, Failure> {
    let within = Duration::from_millis(u64::from(args.within_ms));
    let answer = match args.protocol {
        Protocol::Tcp => timeout(within, tcp(args.address)).await,
        Protocol::Udp => timeout(within, udp(args.address, within / DATAGRAMS)).await,
    };
    let failed = |text: String| Failure::said(Exit::Failed, args.address.to_string(), text);
    let bytes = match answer {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_elapsed) => return Err(failed(format!("no answer within {} ms", within.as_millis()))),
    };
    output::line(&String::from_utf8_lossy(&bytes))?;
    Ok(Exit::Ok)
}

async fn tcp(address: SocketAddr) -> std::io::Result<Vec<u8>> {
    let stream = TcpStream::connect(address).await?;
    let mut answer = Vec::new();
    stream.take(MOST as u64).read_to_end(&mut answer).await?;
    Ok(answer)
}

async fn udp(address: SocketAddr, again: Duration) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(address).await?;
    let mut answer = vec![0; MOST];
    loop {
        socket.send(b"who?").await?;
        if let Ok(received) = timeout(again, socket.recv(&mut answer)).await {
            answer.truncate(received?);
            return Ok(answer);
        }
    }
}
