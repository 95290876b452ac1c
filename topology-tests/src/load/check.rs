//! One request to each of many targets, by protocol: who can reach what, and who answers.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::clock::monotonic_ns;
use crate::traffic::{Answer, Error, grpc, http, raw, udp};

const TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString, Serialize, Deserialize)]
#[strum(serialize_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Http,
    Grpc,
    Tcp,
    Udp,
}

/// `http://10.0.0.1:80`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    pub protocol: Protocol,
    pub address: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not of the form http|grpc|tcp|udp://address:port")]
pub struct BadQuestion(String);

impl FromStr for Question {
    type Err = BadQuestion;
    fn from_str(text: &str) -> Result<Self, BadQuestion> {
        let read = || Some(text.split_once("://")?).and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let (protocol, address) = read().ok_or_else(|| BadQuestion(text.to_owned()))?;
        Ok(Self { protocol, address })
    }
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.protocol, self.address)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Checked {
    pub question: String,
    pub micros: u64,
    pub error: Option<String>,
    #[serde(flatten)]
    pub answer: Answer,
}

/// Asks once, with a body of `bytes`.
pub async fn ask(question: Question, bytes: usize) -> Checked {
    let body = vec![b'x'; bytes];
    let start = monotonic_ns();
    let address = question.address;
    let exchange = async {
        match question.protocol {
            Protocol::Http => http::echo(address, &body).await,
            Protocol::Grpc => grpc::echo(address, &body).await,
            Protocol::Tcp => raw::echo(address, TIMEOUT).await,
            Protocol::Udp => udp::echo(address, &body, Duration::from_secs(1)).await,
        }
    };
    let outcome = timeout(TIMEOUT, exchange).await.unwrap_or(Err(Error::Timeout));
    let micros = monotonic_ns().saturating_sub(start) / 1000;
    let (answer, error) = match outcome {
        Ok(answer) => (answer, None),
        Err(error) => (Answer::default(), Some(error.to_string())),
    };
    Checked { question: question.to_string(), micros, error, answer }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_its_protocol() {
        let question: Question = "grpc://10.0.0.1:80".parse().unwrap();
        assert_eq!((question.protocol, question.to_string().as_str()), (Protocol::Grpc, "grpc://10.0.0.1:80"));
        assert!("10.0.0.1:80".parse::<Question>().unwrap_err().to_string().contains("not of the form"));
    }
}
