//! HTTP/1.1, one request per connection, written out by hand: small enough for hundreds of requests a second beside
//! everything else on two cores.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{Answer, Error, connect};

/// What came before a response's body.
struct Head {
    status: u16,
    length: usize,
    answer: Answer,
}

/// GET, answers the status.
pub async fn get(target: SocketAddr, path: &str, headers: &[(String, String)]) -> Result<u16, Error> {
    let mut stream = connect(target).await?;
    let mut lines = vec![format!("GET {path} HTTP/1.1\r\nhost: {target}\r\nconnection: close\r\n")];
    lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")));
    stream.write_all((lines.concat() + "\r\n").as_bytes()).await?;
    Ok(read_head(&mut BufReader::new(stream)).await?.status)
}

/// POST /echo: the same bytes must come back.
pub async fn echo(target: SocketAddr, body: &[u8]) -> Result<Answer, Error> {
    let mut stream = connect(target).await?;
    let length = body.len();
    let head =
        format!("POST /echo HTTP/1.1\r\nhost: {target}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    let head = read_head(&mut reader).await?;
    if head.status != 200 {
        return Err(Error::Protocol(format!("status {}", head.status)));
    }
    if head.length != length {
        return Err(Error::Mismatch);
    }
    let mut echoed = vec![0; length];
    reader.read_exact(&mut echoed).await.map_err(early_end)?;
    if echoed == body { Ok(head.answer) } else { Err(Error::Mismatch) }
}

async fn read_head(reader: &mut BufReader<TcpStream>) -> Result<Head, Error> {
    let mut line = String::new();
    let mut head = Head { status: 0, length: 0, answer: Answer::default() };
    if reader.read_line(&mut line).await? == 0 {
        return Err(Error::Closed);
    }
    let status = line.split(' ').nth(1).and_then(|word| word.trim().parse().ok());
    head.status = status.ok_or_else(|| Error::Protocol(format!("not HTTP: {:?}", line.trim())))?;
    loop {
        line.clear();
        if reader.read_line(&mut line).await? == 0 {
            return Err(Error::Closed);
        }
        let Some((name, value)) = line.trim_end().split_once(": ") else { return Ok(head) };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.length = value.parse().unwrap_or(0),
            "x-isthmus-cluster" => value.clone_into(&mut head.answer.cluster),
            "x-isthmus-node" => value.clone_into(&mut head.answer.node),
            "x-isthmus-pod" => value.clone_into(&mut head.answer.pod),
            "x-isthmus-peer" => value.clone_into(&mut head.answer.peer),
            _ => {}
        }
    }
}

fn early_end(error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::UnexpectedEof { Error::Closed } else { Error::Io(error) }
}
