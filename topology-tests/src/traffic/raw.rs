//! Raw TCP: the workload answers the first bytes with a banner line that says who it is, then echoes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Answer, Error, connect};

/// Starts no HTTP method, so that the workload takes it for raw bytes.
const HELLO: &[u8] = b"~hello\n";

/// Whether the port accepts connections.
pub async fn connects(target: SocketAddr) -> bool {
    connect(target).await.is_ok()
}

/// A connection that lives on: pings go over it until it fails.
pub struct Conversation {
    stream: BufReader<TcpStream>,
    pub answer: Answer,
    sent: u64,
}

impl Conversation {
    /// Connects and hears who answers.
    pub async fn open(target: SocketAddr, answer_within: Duration) -> Result<Self, Error> {
        let mut stream = BufReader::new(connect(target).await?);
        let greeting = async {
            stream.write_all(HELLO).await?;
            let mut banner = String::new();
            if stream.read_line(&mut banner).await? == 0 {
                return Err(Error::Closed);
            }
            let mut hello = [0; HELLO.len()];
            stream.read_exact(&mut hello).await?;
            serde_json::from_str(&banner).map_err(|_not_json| Error::Protocol(format!("banner {banner:?}")))
        };
        let answer = timeout(answer_within, greeting).await.map_err(|_elapsed| Error::Timeout)??;
        Ok(Self { stream, answer, sent: 0 })
    }

    /// One message and its echo.
    pub async fn ping(&mut self, answer_within: Duration) -> Result<(), Error> {
        self.sent += 1;
        let message = format!("ping {:>12}\n", self.sent);
        let exchange = async {
            self.stream.write_all(message.as_bytes()).await?;
            let mut echo = vec![0; message.len()];
            self.stream.read_exact(&mut echo).await?;
            if echo == message.as_bytes() { Ok(()) } else { Err(Error::Mismatch) }
        };
        timeout(answer_within, exchange).await.map_err(|_elapsed| Error::Timeout)?
    }
}

/// Connects, exchanges one message, closes.
pub async fn echo(target: SocketAddr, answer_within: Duration) -> Result<Answer, Error> {
    let mut conversation = Conversation::open(target, answer_within).await?;
    conversation.ping(answer_within).await?;
    Ok(conversation.answer)
}
