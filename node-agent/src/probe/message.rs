//! The datagram: 16 bytes.

const MAGIC: [u8; 4] = *b"ISTP";
const VERSION: u8 = 1;
pub const LEN: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Request,
    Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    pub kind: Kind,
    pub sequence: u32,
    /// Given back as it came.
    pub nonce: u32,
}

impl Message {
    pub fn encode(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[..4].copy_from_slice(&MAGIC);
        out[4] = VERSION;
        out[5] = match self.kind {
            Kind::Request => 1,
            Kind::Answer => 2,
        };
        out[8..12].copy_from_slice(&self.sequence.to_be_bytes());
        out[12..].copy_from_slice(&self.nonce.to_be_bytes());
        out
    }

    /// `None` for what is not a probe of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LEN] = bytes.try_into().ok()?;
        if bytes[..4] != MAGIC || bytes[4] != VERSION {
            return None;
        }
        let kind = match bytes[5] {
            1 => Kind::Request,
            2 => Kind::Answer,
            _ => return None,
        };
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Some(Self { kind, sequence: word(8), nonce: word(12) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back_and_nothing_else_does() {
        let message = Message { kind: Kind::Answer, sequence: 7, nonce: 0xdead_beef };
        assert_eq!(Message::decode(&message.encode()), Some(message));
        assert_eq!(Message::decode(&message.encode()[..15]), None);
        assert_eq!(Message::decode(b"ISTP\x02\x01..........."), None);
    }
}
