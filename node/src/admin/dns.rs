//! `holdfast check dns`: the records and pages by which clients find this server, as text for a zone file.
//!
//! It only advises. The system's resolver tells addresses and nothing else, so what is published is for the operator to
//! compare; the commands for that are a part of the text, as comments.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use proto::jid::ascii_name;

use crate::config::Config;
use crate::listen::web::{HOST_META, HOST_META_JSON, host_meta, host_meta_json};

/// How long others keep a record, in seconds.
const TTL: u32 = 3600;

/// Writes what there should be for each domain to `out`. `target` is the name by which clients reach the nodes, or the
/// balancer in front of them; by default each domain itself.
pub fn run(config: &Config, target: Option<&str>, out: &mut (dyn Write + Send)) -> io::Result<()> {
    for (number, domain) in config.domains().iter().enumerate() {
        if number > 0 {
            writeln!(out)?;
        }
        match ascii_name(domain).filter(|name| name.parse::<IpAddr>().is_err()) {
            Some(name) => about(config, domain, &name, target, out)?,
            None => writeln!(out, "; {domain} is an address, and has no records.")?,
        }
    }
    Ok(())
}

fn about(
    config: &Config,
    domain: &str,
    name: &str,
    target: Option<&str>,
    out: &mut (dyn Write + Send),
) -> io::Result<()> {
    let host = target.unwrap_or(name).trim_end_matches('.');
    writeln!(
        out,
        "; {domain}: how clients find it (RFC 6120 §3.2, XEP-0368)."
    )?;
    let c2s = &config.c2s;
    let [plain, tls] = [&c2s.listen, &c2s.listen_tls].map(|listeners| ports(listeners));
    for (service, ports) in [("_xmpp-client", plain), ("_xmpps-client", tls)] {
        if ports.is_empty() {
            none(service, name, out)?;
        }
        for port in ports {
            record(service, name, &format!("0 5 {port} {host}."), out)?;
        }
    }
    writeln!(out, "; It does not talk to other servers; a dot says so.")?;
    for service in ["_xmpp-server", "_xmpps-server"] {
        none(service, name, out)?;
    }
    writeln!(
        out,
        "; If a balancer is in front of the nodes, the ports are those that it listens on, and the name is its own:\n\
         ; `holdfast check dns --target NAME`. The certificate is for {domain}, whatever the target is called."
    )?;
    let addresses = addresses(host);
    match addresses.is_empty() {
        true => writeln!(
            out,
            "; {host} has no address today, and needs one: A and AAAA."
        )?,
        false => writeln!(out, "; {host} has today: {}.", addresses.join(", "))?,
    }
    writeln!(
        out,
        "; What is published of the above cannot be asked for from here. Compare it:\n\
         ;   dig +short SRV _xmpp-client._tcp.{name} _xmpps-client._tcp.{name}"
    )?;
    web(config, name, out)
}

/// The ports that are listened on; one that the system chooses is none that could be published.
fn ports(listeners: &[SocketAddr]) -> BTreeSet<u16> {
    let ports = listeners.iter().map(SocketAddr::port);
    ports.filter(|port| *port != 0).collect()
}

fn record(service: &str, name: &str, what: &str, out: &mut (dyn Write + Send)) -> io::Result<()> {
    writeln!(out, "{service}._tcp.{name}. {TTL} IN SRV {what}")
}

/// Says that there is no such service (RFC 2782).
fn none(service: &str, name: &str, out: &mut (dyn Write + Send)) -> io::Result<()> {
    record(service, name, "0 0 0 .", out)
}

fn addresses(host: &str) -> Vec<String> {
    let found = (host, 0).to_socket_addrs();
    let found = found.into_iter().flatten().map(|address| address.ip());
    let found: BTreeSet<IpAddr> = found.collect();
    found.iter().map(IpAddr::to_string).collect()
}

/// The pages that the web host of the domain has to have, for clients in browsers (XEP-0156).
fn web(config: &Config, name: &str, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let links = config.web.links();
    if links.is_empty() {
        return writeln!(
            out,
            "; Clients in browsers are told nothing: neither `web.url` nor `web.bosh_url` is set."
        );
    }
    writeln!(
        out,
        "; Clients in browsers ask the web host of the domain, on port 443, for two pages, which the listeners of\n\
         ; `web.listen` have too. They need the header `Access-Control-Allow-Origin: *`. Compare them:"
    )?;
    for (path, text) in [
        (HOST_META, host_meta(&links)),
        (HOST_META_JSON, host_meta_json(&links)),
    ] {
        writeln!(out, ";   curl https://{name}{path}\n;     {text}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services;

    fn advice(sets: &[&str], target: Option<&str>) -> String {
        let sets: Vec<_> = sets.iter().map(|set| (*set).to_owned()).collect();
        let config = Config::load(&services::needs().tables, None, &sets, []).unwrap();
        let mut out = Vec::new();
        run(&config, target, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The lines that a zone file would take.
    fn records(text: &str) -> Vec<&str> {
        let lines = text.lines().filter(|line| !line.starts_with(';'));
        lines.filter(|line| !line.is_empty()).collect()
    }

    #[test]
    fn wd_2_each_domain_gets_its_records_and_what_is_not_there_a_dot() {
        let text = advice(&["domains=a.invalid,bücher.invalid"], None);
        let of = |name: &str| {
            [
                format!("_xmpp-client._tcp.{name}. 3600 IN SRV 0 5 5222 {name}."),
                format!("_xmpps-client._tcp.{name}. 3600 IN SRV 0 5 5223 {name}."),
                format!("_xmpp-server._tcp.{name}. 3600 IN SRV 0 0 0 ."),
                format!("_xmpps-server._tcp.{name}. 3600 IN SRV 0 0 0 ."),
            ]
        };
        let expect = [of("a.invalid"), of("xn--bcher-kva.invalid")].concat();
        assert_eq!(records(&text), expect);
        assert!(text.contains("a.invalid has no address today"), "{text}");
        assert!(text.contains("neither `web.url` nor"), "{text}");
    }

    #[test]
    fn wd_2_records_follow_the_listeners_and_name_the_target() {
        let sets = [
            "domain=a.invalid",
            "c2s.listen=127.0.0.1:15222,127.0.0.2:15222",
            "c2s.listen_tls=127.0.0.1:0",
        ];
        let text = advice(&sets, Some("localhost."));
        assert_eq!(
            records(&text)[..2],
            [
                "_xmpp-client._tcp.a.invalid. 3600 IN SRV 0 5 15222 localhost.",
                "_xmpps-client._tcp.a.invalid. 3600 IN SRV 0 0 0 .",
            ]
        );
        assert!(
            text.contains("localhost has today: ") && text.contains("127.0.0.1"),
            "{text}"
        );
        let text = advice(&["domain=192.0.2.1"], None);
        assert_eq!(records(&text), [""; 0], "{text}");
    }

    #[test]
    fn wd_1_the_pages_are_those_that_the_listener_has() {
        let sets = [
            "domain=a.invalid",
            "web.listen=127.0.0.1:0",
            "web.url=wss://x.invalid:5443/ws?a&b",
            "web.bosh_url=https://x.invalid:5443/http-bind",
        ];
        let text = advice(&sets, None);
        for part in [
            "curl https://a.invalid/.well-known/host-meta\n",
            "curl https://a.invalid/.well-known/host-meta.json\n",
            "<Link rel='urn:xmpp:alt-connections:websocket' href='wss://x.invalid:5443/ws?a&amp;b'/>",
            "<Link rel='urn:xmpp:alt-connections:xbosh' href='https://x.invalid:5443/http-bind'/>",
            "\"href\":\"wss://x.invalid:5443/ws?a&b\"",
        ] {
            assert!(text.contains(part), "{text} lacks {part}");
        }
    }
}
