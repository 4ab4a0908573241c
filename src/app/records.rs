//! For how long the DNS lets a name stand for its addresses.
//!
//! The system's resolver says what a name stands for, also by `/etc/hosts` and whatever else `nsswitch.conf` names, and does not say for how long. The records that it
//! has asked for do: their time to live (RFC 1035 section 3.2.1), of which whoever has them in a cache tells what is left.

use std::{net::SocketAddr, time::Duration};

use domain::{
    base::{Message, Name, Rtype, ToName, name::UncertainName},
    rdata::{A, Aaaa},
    resolv::{StubResolver, resolver::SearchNames, stub::conf::ResolvConf},
};
use futures_util::future::join;

/// For how long these addresses are what the DNS says of this name, if it says so at all.
pub(super) async fn time_to_live(host: &str, addresses: &[SocketAddr]) -> Option<Duration> {
    ask(ResolvConf::default(), host, addresses).await
}

async fn ask(conf: ResolvConf, host: &str, addresses: &[SocketAddr]) -> Option<Duration> {
    let resolver = StubResolver::from_conf(conf);
    for name in meant(&resolver, host) {
        if let Some(found) = ask_for(&resolver, &name, addresses).await {
            return Some(found);
        }
    }
    None
}

/// The names that a host may be meant by, in the order in which the system asks for them: as it is where it has dots enough, and with what `search` names behind it.
fn meant(resolver: &StubResolver, host: &str) -> Vec<Name<Vec<u8>>> {
    let name: UncertainName<Vec<u8>> = match host.parse() {
        Ok(UncertainName::Absolute(name)) => return vec![name],
        Ok(name) => name,
        Err(_) => return Vec::new(),
    };
    let dots = host.bytes().filter(|byte| *byte == b'.').count();
    let as_it_is = (dots >= resolver.options().ndots).then(Name::root);
    let suffixes =
        as_it_is.into_iter().map(|root: Name<Vec<u8>>| root.to_bytes()).chain(resolver.search_iter().map(|suffix| suffix.to_bytes()));
    suffixes.filter_map(|suffix| Some(name.clone().chain(suffix).ok()?.to_vec())).collect()
}

/// The least time to live of all that led to an address that is among these.
async fn ask_for(resolver: &StubResolver, name: &Name<Vec<u8>>, addresses: &[SocketAddr]) -> Option<Duration> {
    let (four, six) = join(resolver.query((name, Rtype::A)), resolver.query((name, Rtype::AAAA))).await;
    [four, six].into_iter().flatten().filter_map(|answer| least(&answer, addresses)).min()
}

fn least(answer: &Message<bytes::Bytes>, addresses: &[SocketAddr]) -> Option<Duration> {
    let mut least: Option<Duration> = None;
    let mut is_meant = false;
    for record in answer.answer().ok()? {
        let record = record.ok()?;
        let address = match record.rtype() {
            Rtype::A => record.to_record::<A>().ok()?.map(|record| record.data().addr().into()),
            Rtype::AAAA => record.to_record::<Aaaa>().ok()?.map(|record| record.data().addr().into()),
            _ => None,
        };
        is_meant |= address.is_some_and(|address: std::net::IpAddr| addresses.iter().any(|known| known.ip() == address));
        let time = record.ttl().into_duration();
        least = Some(least.map_or(time, |least| least.min(time)));
    }
    least.filter(|_| is_meant)
}

#[cfg(test)]
mod tests {
    use domain::resolv::stub::conf::{ServerConf, Transport};
    use tokio::net::UdpSocket;

    use super::*;

    /// One record of a zone.
    struct Has(&'static str, u16, u32, &'static [u8]);

    const CNAME: u16 = 5;
    const APP: &[Has] = &[
        Has("app.internal", CNAME, 60, b"\x05group\x08internal\x00"),
        Has("group.internal", 1, 7, &[10, 0, 0, 1]),
        Has("group.internal", 1, 9, &[10, 0, 0, 2]),
    ];

    /// A name as it stands in a message (RFC 1035 section 3.1).
    fn wire(name: &str) -> Vec<u8> {
        let labels = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
        labels.chain([0]).collect()
    }

    /// Answers for this zone, and says that there is nothing else.
    async fn serve(socket: UdpSocket, zone: &'static [Has]) {
        let mut buffer = [0; 512];
        while let Ok((read, client)) = socket.recv_from(&mut buffer).await {
            let end = 12 + buffer[12..read].iter().position(|byte| *byte == 0).unwrap() + 1;
            let (name, kind) = (&buffer[12..end], buffer[end + 1]);
            let is_known = zone.first().is_some_and(|first| wire(first.0) == name);
            let records: Vec<&Has> = zone.iter().filter(|record| is_known && (record.1 == CNAME || record.1 == u16::from(kind))).collect();
            let rcode = if is_known { 0 } else { 3 };
            let mut answer = [&buffer[..2], &[0x81, 0x80 | rcode, 0, 1, 0, records.len() as u8, 0, 0, 0, 0], &buffer[12..end + 4]].concat();
            for Has(name, kind, seconds, data) in records {
                answer.extend(wire(name));
                answer.extend(kind.to_be_bytes());
                answer.extend([0, 1]);
                answer.extend(seconds.to_be_bytes());
                answer.extend((data.len() as u16).to_be_bytes());
                answer.extend(*data);
            }
            socket.send_to(&answer, client).await.unwrap();
        }
    }

    /// What is said of a host with this address, by a server of this zone, where names end in `internal` too.
    async fn of(host: &str, address: [u8; 4], zone: &'static [Has]) -> Option<u64> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut conf = ResolvConf::new();
        conf.servers.push(ServerConf::new(socket.local_addr().unwrap(), Transport::UdpTcp));
        conf.parse(&mut "search elsewhere internal".as_bytes()).unwrap();
        conf.finalize();
        tokio::spawn(serve(socket, zone));
        ask(conf, host, &[SocketAddr::from((address, 80))]).await.map(|time| time.as_secs())
    }

    #[tokio::test]
    async fn it_is_the_least_of_all_records_that_led_to_an_address_that_is_meant() {
        assert_eq!(of("app.internal", [10, 0, 0, 2], APP).await, Some(7));
        assert_eq!(of("app.internal.", [10, 0, 0, 2], APP).await, Some(7));
        assert_eq!(of("app", [10, 0, 0, 1], APP).await, Some(7), "by the search list");
    }

    #[tokio::test]
    async fn nothing_is_known_of_a_name_that_stands_for_something_else_than_the_dns_says() {
        assert_eq!(of("app.internal", [127, 0, 0, 1], APP).await, None, "as by /etc/hosts");
        assert_eq!(of("other.internal", [10, 0, 0, 1], APP).await, None);
        assert_eq!(of("..", [10, 0, 0, 1], APP).await, None);
    }

    #[tokio::test]
    async fn asking_leaves_no_task_behind() {
        let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let before = alive();
        for _ in 0..20 {
            of("app.internal", [10, 0, 0, 1], APP).await;
        }
        // One server for each time is ours.
        while alive() > before + 20 {
            tokio::task::yield_now().await;
        }
    }
}
