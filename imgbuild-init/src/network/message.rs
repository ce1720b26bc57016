//! DHCP messages, as far as this program asks and is answered. Source: RFC 2131, section 2; RFC 2132; RFC 3396 for options that
//! stand in pieces.

use std::net::Ipv4Addr;

/// Bytes before the options, and what stands at their end.
const HEADER: usize = 240;
const MAGIC: [u8; 4] = [99, 130, 83, 99];

/// Relays drop what is shorter. Source: RFC 1542, section 2.1.
const SHORTEST: usize = 300;

/// `op` of a question and of an answer.
const REQUEST: u8 = 1;
const REPLY: u8 = 2;

/// The first bit of `flags`: the answer goes to all.
const BROADCAST: u16 = 1 << 15;

/// An option's code. Source: RFC 2132, with the section of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// 3.3
    SubnetMask = 1,
    /// 3.5
    Router = 3,
    /// 3.8
    NameServer = 6,
    /// 3.14
    HostName = 12,
    /// 3.17
    DomainName = 15,
    /// 5.1
    Mtu = 26,
    /// 9.1
    RequestedAddress = 50,
    /// 9.2
    LeaseTime = 51,
    /// 9.3
    Overload = 52,
    /// 9.6
    MessageType = 53,
    /// 9.7
    ServerIdentifier = 54,
    /// 9.8
    ParameterRequestList = 55,
    /// 9.10
    MaxMessageSize = 57,
    /// 9.14
    ClientIdentifier = 61,
}

const PAD: u8 = 0;
const END: u8 = 255;

/// What a message is. Source: RFC 2132, 9.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Who has an address?
    Discover,
    /// A server offers one.
    Offer,
    /// It is wanted, or wanted for longer.
    Request,
    /// It is the client's.
    Ack,
    /// It is not.
    Nak,
}

impl Kind {
    const ALL: [(u8, Self); 5] =
        [(1, Self::Discover), (2, Self::Offer), (3, Self::Request), (5, Self::Ack), (6, Self::Nak)];

    fn number(self) -> u8 {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or(0, |(number, _)| *number)
    }
}

/// A message; addresses that are none are 0.0.0.0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// `op`.
    operation: u8,
    /// Number of the conversation.
    pub transaction: u32,
    /// Seconds since the client began to ask.
    pub seconds: u16,
    /// The client's address, once it has one.
    pub client: Ipv4Addr,
    /// The address that it gets.
    pub yours: Ipv4Addr,
    /// The next server.
    pub server: Ipv4Addr,
    /// The card's address.
    pub card: [u8; 6],
    options: Vec<(u8, Vec<u8>)>,
}

impl Message {
    /// A question of a client without an address.
    pub(crate) fn question(kind: Kind, card: [u8; 6], transaction: u32, seconds: u16) -> Self {
        let unspecified = Ipv4Addr::UNSPECIFIED;
        let (client, yours, server, options) = (unspecified, unspecified, unspecified, Vec::new());
        let mut message = Self { operation: REQUEST, transaction, seconds, client, yours, server, card, options };
        message.add(Code::MessageType, &[kind.number()]);
        message
    }

    /// Adds an option of up to 255 bytes.
    pub(crate) fn add(&mut self, code: Code, value: &[u8]) {
        self.options.push((code as u8, value[..value.len().min(255)].to_vec()));
    }

    /// An option's bytes, if it is there.
    pub(crate) fn option(&self, code: Code) -> Option<&[u8]> {
        self.options.iter().find(|(known, _)| *known == code as u8).map(|(_, value)| value.as_slice())
    }

    /// What the message is.
    pub(crate) fn kind(&self) -> Option<Kind> {
        let number = *self.option(Code::MessageType)?.first()?;
        Kind::ALL.iter().find(|(known, _)| *known == number).map(|(_, kind)| *kind)
    }

    /// The first address of an option.
    pub(crate) fn address(&self, code: Code) -> Option<Ipv4Addr> {
        self.addresses(code).first().copied()
    }

    /// All addresses of an option.
    pub(crate) fn addresses(&self, code: Code) -> Vec<Ipv4Addr> {
        let value = self.option(code).unwrap_or_default();
        value.chunks_exact(4).map(|four| Ipv4Addr::new(four[0], four[1], four[2], four[3])).collect()
    }

    /// A number of four bytes.
    pub(crate) fn number(&self, code: Code) -> Option<u32> {
        Some(u32::from_be_bytes(self.option(code)?.try_into().ok()?))
    }

    /// A number of two bytes.
    pub(crate) fn short(&self, code: Code) -> Option<u16> {
        Some(u16::from_be_bytes(self.option(code)?.try_into().ok()?))
    }

    /// A text, without the zeros that some servers end it with.
    pub(crate) fn text(&self, code: Code) -> Option<String> {
        String::from_utf8(self.option(code)?.to_vec()).ok().map(|text| text.trim_end_matches('\0').to_owned())
    }

    /// As it is sent.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        // Ethernet, whose addresses have six bytes.
        bytes[..3].copy_from_slice(&[self.operation, 1, 6]);
        bytes[4..8].copy_from_slice(&self.transaction.to_be_bytes());
        bytes[8..10].copy_from_slice(&self.seconds.to_be_bytes());
        bytes[10..12].copy_from_slice(&BROADCAST.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.client.octets());
        bytes[16..20].copy_from_slice(&self.yours.octets());
        bytes[20..24].copy_from_slice(&self.server.octets());
        bytes[28..34].copy_from_slice(&self.card);
        bytes[HEADER - 4..].copy_from_slice(&MAGIC);
        for (code, value) in &self.options {
            bytes.extend([*code, value.len() as u8]);
            bytes.extend(value);
        }
        bytes.push(END);
        bytes.resize(bytes.len().max(SHORTEST), PAD);
        bytes
    }

    /// Reads an answer of a server; nothing if it is not one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let four = |at: usize| -> Option<[u8; 4]> { bytes.get(at..at + 4)?.try_into().ok() };
        if bytes.get(HEADER - 4..HEADER)? != MAGIC || bytes[0] != REPLY || bytes[1..3] != [1, 6] {
            return None;
        }
        let mut message = Self {
            operation: REPLY,
            transaction: u32::from_be_bytes(four(4)?),
            seconds: u16::from_be_bytes([bytes[8], bytes[9]]),
            client: four(12)?.into(),
            yours: four(16)?.into(),
            server: four(20)?.into(),
            card: bytes[28..34].try_into().ok()?,
            options: Vec::new(),
        };
        message.read_options(&bytes[HEADER..]);
        // Where there are more than fit, they go on in the fields of a file's and a server's name.
        match message.option(Code::Overload) {
            Some([1]) => message.read_options(&bytes[108..236]),
            Some([2]) => message.read_options(&bytes[44..108]),
            Some([3]) => {
                message.read_options(&bytes[108..236]);
                message.read_options(&bytes[44..108]);
            }
            _ => {}
        }
        Some(message)
    }

    /// Reads options until they end or are cut off; pieces of one belong together.
    fn read_options(&mut self, mut rest: &[u8]) {
        while let [code, after @ ..] = rest {
            match (*code, after) {
                (PAD, _) => rest = after,
                (END, _) => return,
                (_, [length, tail @ ..]) => {
                    let Some(value) = tail.get(..usize::from(*length)) else { return };
                    match self.options.iter_mut().find(|(known, _)| known == code) {
                        Some((_, known)) => known.extend(value),
                        None => self.options.push((*code, value.to_vec())),
                    }
                    rest = &tail[value.len()..];
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server's answer with these options.
    fn answer(options: &[u8]) -> Vec<u8> {
        let mut bytes = Message::question(Kind::Discover, [0x52, 0x54, 0, 0, 0, 2], 7, 0).encode();
        bytes.truncate(HEADER);
        bytes[0] = REPLY;
        bytes[16..20].copy_from_slice(&[10, 77, 0, 52]);
        bytes.extend(options);
        bytes
    }

    #[test]
    fn an_answer_is_read_whatever_stands_around_it() {
        let read = Message::decode(&answer(&[
            53, 1, 5, 54, 4, 10, 77, 0, 1, 51, 4, 0, 0, 14, 16, 0, 0, 1, 4, 255, 255, 254, 0, 6, 8, 10, 77, 0, 1, 10,
            77, 0, 2, 12, 6, b'n', b'o', b'd', b'e', b'2', 0, 26, 2, 5, 220, 224, 1, 9, 255, 99,
        ]))
        .unwrap();
        assert_eq!((read.kind(), read.transaction, read.card), (Some(Kind::Ack), 7, [0x52, 0x54, 0, 0, 0, 2]));
        assert_eq!(read.yours, Ipv4Addr::new(10, 77, 0, 52));
        assert_eq!(read.address(Code::ServerIdentifier), Some(Ipv4Addr::new(10, 77, 0, 1)));
        assert_eq!((read.number(Code::LeaseTime), read.short(Code::Mtu)), (Some(3600), Some(1500)));
        assert_eq!(read.addresses(Code::NameServer).len(), 2);
        assert_eq!((read.text(Code::HostName).as_deref(), read.text(Code::DomainName)), (Some("node2"), None));
        assert_eq!(read.address(Code::Router), None);
    }

    #[test]
    fn options_in_pieces_and_in_other_fields_belong_to_the_message() {
        let mut bytes = answer(&[15, 3, b'a', b'.', b'e', 53, 1, 2, 15, 2, b'x', b'.', 52, 1, 3, 255]);
        bytes[108..112].copy_from_slice(&[12, 2, b'n', b'1']);
        bytes[112] = END;
        bytes[44..50].copy_from_slice(&[51, 4, 0, 0, 0, 8]);
        let read = Message::decode(&bytes).unwrap();
        assert_eq!((read.kind(), read.text(Code::DomainName).as_deref()), (Some(Kind::Offer), Some("a.ex.")));
        assert_eq!((read.text(Code::HostName).as_deref(), read.number(Code::LeaseTime)), (Some("n1"), Some(8)));
    }

    #[test]
    fn what_is_cut_off_or_no_answer_is_none_and_never_a_panic() {
        let whole = answer(&[53, 1, 5, 51, 4, 0, 0, 14, 16, 12, 200, b'n', 255]);
        for end in 0..whole.len() {
            let read = Message::decode(&whole[..end]);
            assert_eq!(read.is_some(), end >= HEADER, "{end}");
        }
        assert_eq!(Message::decode(&whole).unwrap().option(Code::HostName), None);
        assert!(Message::decode(&Message::question(Kind::Discover, [1; 6], 7, 0).encode()).is_none());
        for at in 0..whole.len() {
            for value in [0, 1, 52, 254, 255] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = Message::decode(&bytes).map(|read| (read.kind(), read.number(Code::LeaseTime)));
            }
        }
    }
}
