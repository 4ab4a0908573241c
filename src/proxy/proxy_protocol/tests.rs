use proxy_header::{ProxiedAddress, SslInfo, Tlv};
use tokio::io::AsyncWriteExt;

use super::*;
use crate::proxy::sending::Sending;

const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";

/// A head of version 2.
fn binary(command_and_family: [u8; 2], rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &command_and_family, &length, rest].concat()
}

/// One as a balancer sends it, with these parts behind the addresses, and a checksum if wanted.
fn sent(source: &str, parts: &[Tlv<'_>], checksum: bool) -> Vec<u8> {
    let destination = if source.starts_with('[') { "[2001:db8::2]:443" } else { "192.0.2.2:443" };
    let mut header = ProxyHeader::with_address(ProxiedAddress::stream(source.parse().unwrap(), destination.parse().unwrap()));
    for part in parts {
        header.append_tlv(part.clone());
    }
    if checksum {
        header.append_tlv(Tlv::Crc32c(0));
    }
    let mut head = Vec::new();
    header.encode_v2(&mut head).unwrap();
    if checksum {
        let (sum, at) = (crc32c::crc32c(&head), head.len() - 4);
        head[at..].copy_from_slice(&sum.to_be_bytes());
    }
    head
}

/// One with a checksum that stands before `part`.
fn checked_before(source: &str, part: &[u8]) -> Vec<u8> {
    let mut head = sent(source, &[], true);
    let at = head.len() - 4;
    head[at..].fill(0);
    head.extend_from_slice(part);
    let length = u16::try_from(head.len() - FIXED).unwrap().to_be_bytes();
    head[FIXED - 2..FIXED].copy_from_slice(&length);
    let sum = crc32c::crc32c(&head);
    head[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    head
}

/// What is read of these bytes, and what is left behind them.
async fn heard(bytes: &[u8]) -> (Result<Said, Fault>, Vec<u8>) {
    let (mut theirs, ours) = tokio::net::UnixStream::pair().unwrap();
    theirs.write_all(bytes).await.unwrap();
    drop(theirs);
    let mut ours = Stream::Unix(Sending::new(ours));
    let said = read(&mut ours).await;
    let mut rest = Vec::new();
    ours.read_to_end(&mut rest).await.unwrap();
    (said, rest)
}

fn from(client: &str) -> Said {
    Said { client: Some(client.parse().unwrap()), secure: false }
}

#[tokio::test]
async fn a_head_of_either_version_names_the_client_and_what_follows_is_left() {
    let ssl = |client| Tlv::Ssl(SslInfo::new(client, false, false, 1));
    // What else a balancer says of TLS is not that the client came by it.
    let certificate = Tlv::Ssl(SslInfo::new(false, true, true, 1));
    let line = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_LINE - 16)).into_bytes();
    for (head, said) in [
        (line, Said::default()),
        (sent("192.0.2.1:9", &[Tlv::Noop(LONGEST - FIXED - 12 - 3)], false), from("192.0.2.1:9")),
        (checked_before("192.0.2.1:9", b"\x02\0\x01a"), from("192.0.2.1:9")),
        (sent("192.0.2.1:9", &[certificate], false), from("192.0.2.1:9")),
        (LINE.to_vec(), from("192.0.2.1:56324")),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n".to_vec(), from("[2001:db8::1]:1")),
        (b"PROXY UNKNOWN\r\n".to_vec(), Said::default()),
        (b"PROXY UNKNOWN ffff:f...f:ffff whatever 65535\r\n".to_vec(), Said::default()),
        (sent("192.0.2.1:9", &[], false), from("192.0.2.1:9")),
        (sent("[2001:db8::1]:9", &[Tlv::Authority("shop.example".into()), Tlv::Noop(700)], true), from("[2001:db8::1]:9")),
        (sent("192.0.2.1:9", &[ssl(true)], true), Said { secure: true, ..from("192.0.2.1:9") }),
        (sent("192.0.2.1:9", &[ssl(false)], false), from("192.0.2.1:9")),
        // A connection of the balancer's own; a client without an address; one of a unix socket.
        (binary([0x20, 0x00], &[]), Said::default()),
        (binary([0x20, 0xff], b"??"), Said::default()),
        (binary([0x21, 0x00], &[]), Said::default()),
        (binary([0x21, 0x31], &[0; 216]), Said::default()),
    ] {
        let follows = b"\x16\x03\x01\nGET";
        let (heard, rest) = heard(&[&head[..], follows].concat()).await;
        assert_eq!(heard.unwrap(), said, "{head:?}");
        assert_eq!(rest, follows, "{head:?}");
    }
}

#[tokio::test]
async fn what_is_not_wholly_right_is_refused() {
    let mut spoilt = sent("192.0.2.1:9", &[Tlv::UniqueId(b"a"[..].into())], true);
    spoilt[17] ^= 1;
    let mut spoilt_behind = checked_before("192.0.2.1:9", b"\x02\0\x01a");
    spoilt_behind.splice(spoilt_behind.len() - 1.., *b"b");
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_LINE - 15)).into_bytes();
    for (bytes, fault) in [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), "Missing"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03ab".to_vec(), "Missing"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\n".to_vec(), "Malformed"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 +443\r\n".to_vec(), "Malformed"),
        (b"PROXY TCP4 192.0.2.256 192.0.2.2 5 443\r\n".to_vec(), "Malformed"),
        (b"PROXY TCP4 2001:db8::1 2001:db8::2 5 443\r\n".to_vec(), "Malformed"),
        (b"PROXY TCP5 192.0.2.1 192.0.2.2 5 443\r\n".to_vec(), "Malformed"),
        (b"PROXY TCP4 192.0.2.1\r\n".to_vec(), "Malformed"),
        (long, "TooLong"),
        (binary([0x21, 0x11], &[0; 5000]), "TooLong"),
        (binary([0x21, 0x11], &[0; 11]), "Malformed"),
        (binary([0x21, 0x41], &[0; 40]), "Malformed"),
        (binary([0x22, 0x11], &[0; 12]), "Malformed"),
        (binary([0x31, 0x11], &[0; 12]), "Malformed"),
        (binary([0x21, 0x11], &[[0; 12].as_slice(), &[0x03, 0, 4, 1]].concat()), "Malformed"),
        (binary([0x21, 0x11], &[[0; 12].as_slice(), &[0x03, 0, 1, 1]].concat()), "Malformed"),
        (spoilt, "Checksum"),
        (spoilt_behind, "Checksum"),
        (sent("192.0.2.1:9", &[Tlv::Noop(LONGEST - FIXED - 12 - 2)], false), "TooLong"),
        (LINE[..20].to_vec(), "Broken"),
        (b"PROX".to_vec(), "Broken"),
        (binary([0x21, 0x11], &[0; 12])[..20].to_vec(), "Broken"),
    ] {
        let (heard, _) = heard(&bytes).await;
        let heard = format!("{:?}", heard.unwrap_err());
        assert!(heard.starts_with(fault), "{heard} for {:?}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn only_who_is_named_is_believed_and_others_are_refused_or_speak_for_themselves() {
    let stance = |others, peer: Option<&str>| {
        let settings = ProxyProtocol { from: vec!["10.0.0.0/8".parse().unwrap()], others };
        settings.stance(peer.map(|peer| peer.parse().unwrap()))
    };
    assert_eq!(stance(Strangers::Refuse, Some("10.1.2.3:4")), Stance::Believe);
    assert_eq!(stance(Strangers::Refuse, Some("[::ffff:10.1.2.3]:4")), Stance::Believe);
    assert_eq!(stance(Strangers::Refuse, None), Stance::Believe, "a unix socket");
    assert_eq!(stance(Strangers::Refuse, Some("192.0.2.1:4")), Stance::Refuse);
    assert_eq!(stance(Strangers::Plain, Some("192.0.2.1:4")), Stance::Plain);
}

#[test]
fn fuzz_a_head_of_the_proxy_protocol_is_read_to_its_end_or_refused() {
    let ssl = Tlv::Ssl(SslInfo::new(true, false, false, 0));
    let binary = sent("[2001:db8::1]:9", &[Tlv::Noop(3), ssl], true);
    let seeds: [&[u8]; 4] = [LINE, b"PROXY UNKNOWN\r\n", &binary, &sent("192.0.2.1:9", &[], false)];
    let words: [&[u8]; 6] = [b"\r\n", b" ", b"TCP6 ", b"65535", b"\x00\x00", b"\xff\xff"];
    crate::fuzz::run(&seeds, &words, |bytes| {
        let mut read = 0;
        loop {
            let head = &bytes[..read];
            let more = match next(head) {
                Err(_) => return false,
                Ok(Next::Nothing) => {
                    assert!(read <= LONGEST, "{read}");
                    return parse(head).is_ok();
                }
                Ok(Next::Bytes(count)) => count,
                Ok(Next::Line(longest)) => {
                    let line = bytes[read..].iter().take(longest).position(|byte| *byte == b'\n');
                    line.map_or(longest.min(bytes.len() - read), |end| end + 1)
                }
            };
            assert!(more > 0 || read == bytes.len(), "nothing is wanted, and yet it is not whole");
            read += more;
            if more == 0 || read > bytes.len() {
                return false;
            }
        }
    });
}
