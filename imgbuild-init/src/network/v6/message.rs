//! Messages of DHCPv6, as far as this program asks and is answered. Source: RFC 8415, sections 7.3, 8 and 21; RFC 3646.

use std::net::Ipv6Addr;
use std::time::Duration;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Who has an address?
    Solicit = 1,
    /// I have this one.
    Advertise = 2,
    /// I take it.
    Request = 3,
    /// It is yours.
    Reply = 7,
    /// Whatever there is to know but an address.
    InformationRequest = 11,
}

const CLIENT: u16 = 1;
const SERVER: u16 = 2;
const ADDRESSES: u16 = 3;
const ADDRESS: u16 = 5;
const WANTED: u16 = 6;
const ELAPSED: u16 = 8;
const STATUS: u16 = 13;
const NAME_SERVERS: u16 = 23;
const SEARCH_LIST: u16 = 24;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// What it is.
    pub kind: Kind,
    /// Number of the conversation: 24 bits.
    pub transaction: u32,
    /// Identifier of the client.
    pub client: Vec<u8>,
    /// Identifier of the server.
    pub server: Option<Vec<u8>>,
    /// The address that is given or asked for.
    pub address: Option<Ipv6Addr>,
    /// Name servers.
    pub dns: Vec<Ipv6Addr>,
    /// Domain.
    pub domain: Option<String>,
    /// Why the server refuses.
    pub refusal: Option<String>,
}

/// An option: code, length, content.
fn add(bytes: &mut Vec<u8>, code: u16, content: &[u8]) {
    bytes.extend(code.to_be_bytes());
    bytes.extend((content.len() as u16).to_be_bytes());
    bytes.extend(content);
}

/// Options one behind the other; none of damaged ones.
fn options(mut bytes: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at_checked(4)?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let (content, behind) = rest.split_at_checked(length)?;
        found.push((u16::from_be_bytes([head[0], head[1]]), content));
        bytes = behind;
    }
    Some(found)
}

/// Addresses one behind the other.
pub(crate) fn addresses(bytes: &[u8]) -> impl Iterator<Item = Ipv6Addr> {
    bytes.chunks_exact(16).filter_map(|chunk| <[u8; 16]>::try_from(chunk).ok()).map(Ipv6Addr::from)
}

/// The first name of a list as in DNS (RFC 1035, section 3.1), if it can stand in resolv.conf.
pub(crate) fn domain(bytes: &[u8]) -> Option<String> {
    let mut labels: Vec<&str> = Vec::new();
    let mut rest = bytes;
    loop {
        let (&length, behind) = rest.split_first()?;
        if length == 0 {
            break;
        }
        let (label, behind) = behind.split_at_checked(usize::from(length))?;
        let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        labels.push(std::str::from_utf8(label).ok().filter(|text| text.as_bytes().iter().all(good))?);
        rest = behind;
    }
    let name = labels.join(".");
    (1..=253).contains(&name.len()).then_some(name)
}

/// Why a status is a refusal; none of success. Source: section 21.13.
fn refusal(content: &[u8]) -> Option<String> {
    let code = u16::from_be_bytes([*content.first()?, *content.get(1)?]);
    let text: String =
        String::from_utf8_lossy(&content[2..]).chars().filter(|one| !one.is_control()).take(100).collect();
    match code {
        0 => None,
        2 => Some(format!("it has no address to give ({text})")),
        code => Some(format!("status {code} ({text})")),
    }
}

impl Message {
    /// A question of a card.
    pub(crate) fn question(kind: Kind, mac: [u8; 6], transaction: u32) -> Self {
        // An identifier by the card's address: the same at each start. Source: section 11.4.
        let mut client = vec![0, 3, 0, 1];
        client.extend(mac);
        Self { kind, transaction, client, server: None, address: None, dns: Vec::new(), domain: None, refusal: None }
    }

    /// Its bytes, a time after the first try.
    pub(crate) fn encode(&self, elapsed: Duration) -> Vec<u8> {
        let mut bytes = (self.transaction & 0x00ff_ffff | (self.kind as u32) << 24).to_be_bytes().to_vec();
        add(&mut bytes, CLIENT, &self.client);
        if let Some(server) = &self.server {
            add(&mut bytes, SERVER, server);
        }
        let hundredths = u16::try_from(elapsed.as_millis() / 10).unwrap_or(u16::MAX);
        add(&mut bytes, ELAPSED, &hundredths.to_be_bytes());
        let wanted: Vec<u8> = [NAME_SERVERS, SEARCH_LIST].iter().flat_map(|code| code.to_be_bytes()).collect();
        add(&mut bytes, WANTED, &wanted);
        if self.kind != Kind::InformationRequest {
            // Number of the association: the last bytes of the card's address; times are the server's to say.
            let mut content = self.client.get(6..10).unwrap_or(&[0; 4]).to_vec();
            content.extend([0; 8]);
            if let Some(address) = self.address {
                let mut inner = address.octets().to_vec();
                inner.extend([0; 8]);
                add(&mut content, ADDRESS, &inner);
            }
            add(&mut bytes, ADDRESSES, &content);
        }
        bytes
    }

    /// Reads an answer; none of damaged bytes, or of another kind of message.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(4)?;
        let kind = match head[0] {
            2 => Kind::Advertise,
            7 => Kind::Reply,
            _ => return None,
        };
        let transaction = u32::from_be_bytes([0, head[1], head[2], head[3]]);
        let mut found = Self::question(kind, [0; 6], transaction);
        found.client.clear();
        for (code, content) in options(rest)? {
            match code {
                CLIENT => found.client = content.to_vec(),
                SERVER => found.server = Some(content.to_vec()),
                NAME_SERVERS => found.dns.extend(addresses(content)),
                SEARCH_LIST => found.domain = domain(content),
                STATUS => found.refusal = refusal(content).or(found.refusal),
                ADDRESSES => {
                    for (code, inner) in options(content.get(12..)?)? {
                        match code {
                            ADDRESS => {
                                let address = <[u8; 16]>::try_from(inner.get(..16)?).ok()?;
                                let lasts = inner.get(20..24)? != [0; 4];
                                found.address = found.address.or(lasts.then(|| Ipv6Addr::from(address)));
                            }
                            STATUS => found.refusal = refusal(inner).or(found.refusal),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: Kind, status: u16) -> Vec<u8> {
        let mut question = Message::question(kind, [0x52, 0x54, 0, 0, 0, 1], 7);
        question.server = Some(vec![0, 1, 9]);
        question.address = Some("fd00::5".parse().unwrap());
        let mut bytes = question.encode(Duration::from_millis(1230));
        // How long it may be used: the last four bytes, which a question leaves empty.
        let end = bytes.len();
        bytes[end - 1] = 60;
        add(&mut bytes, NAME_SERVERS, &"fd00::53".parse::<Ipv6Addr>().unwrap().octets());
        add(&mut bytes, SEARCH_LIST, b"\x07cluster\x04site\0");
        add(&mut bytes, STATUS, &[&status.to_be_bytes()[..], b"no more"].concat());
        bytes
    }

    #[test]
    fn an_answer_is_read_and_damage_is_none() {
        let bytes = answer(Kind::Reply, 0);
        let found = Message::decode(&bytes).unwrap();
        assert_eq!((found.transaction, found.kind, found.refusal), (7, Kind::Reply, None));
        assert_eq!(found.client, [0, 3, 0, 1, 0x52, 0x54, 0, 0, 0, 1]);
        assert_eq!((found.address, found.dns.len()), (Some("fd00::5".parse().unwrap()), 1));
        assert_eq!(found.domain.as_deref(), Some("cluster.site"));
        let refused = Message::decode(&answer(Kind::Advertise, 2)).unwrap();
        assert_eq!(refused.refusal.as_deref(), Some("it has no address to give (no more)"));
        // A question is no answer.
        assert_eq!(Message::decode(&answer(Kind::Solicit, 0)), None);
        for end in 0..bytes.len() {
            let _ = Message::decode(&bytes[..end]);
        }
    }

    #[test]
    fn a_question_says_who_asks_and_for_what() {
        let bytes = Message::question(Kind::InformationRequest, [1, 2, 3, 4, 5, 6], 0x00ab_cdef).encode(Duration::ZERO);
        assert_eq!(bytes[..4], [11, 0xab, 0xcd, 0xef]);
        let codes: Vec<u16> = options(&bytes[4..]).unwrap().into_iter().map(|(code, _)| code).collect();
        assert_eq!(codes, [CLIENT, ELAPSED, WANTED]);
    }
}
