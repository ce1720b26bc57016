//! Asks a server of http by way of a proxy: with the whole address in the request, as caches (squid, apt-cacher-ng) want it. They
//! refuse a tunnel (CONNECT) to anything but https. Source: RFC 9112, 3.2.2; squid's default `http_access deny CONNECT !SSL_ports`.

use base64ct::{Base64, Encoding};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport};

/// Whether an address is asked through a proxy in this way: both are http.
pub(crate) fn is_for(url: &str, proxy: &ureq::Proxy) -> bool {
    url.starts_with("http://") && proxy.uri().scheme_str() == Some("http")
}

pub(crate) fn agent(config: Config, proxy: &ureq::Proxy) -> ureq::Agent {
    let authorization = proxy.username().map(|user| {
        let words = format!("{user}:{}", proxy.password().unwrap_or_default());
        format!("proxy-authorization: Basic {}\r\n", Base64::encode_string(words.as_bytes()))
    });
    let connector = ().chain(TcpConnector::default()).chain(Whole { authorization });
    ureq::Agent::with_parts(config, connector, ToProxy(proxy.uri().clone()))
}

/// All names lead to the proxy, which looks them up itself.
#[derive(Debug)]
struct ToProxy(Uri);

impl Resolver for ToProxy {
    fn resolve(&self, _: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        DefaultResolver::default().resolve(&self.0, config, timeout)
    }
}

struct Whole {
    authorization: Option<String>,
}

impl std::fmt::Debug for Whole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Whole")
    }
}

impl<In: Transport> Connector<In> for Whole {
    type Out = ToServer<In>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        let authority = details.uri.authority().map(ToString::to_string).unwrap_or_default();
        let server = format!("http://{authority}");
        Ok(chained.map(|proxy| ToServer { proxy, server, authorization: self.authorization.clone() }))
    }
}

/// A connection to the proxy, for requests to one server.
struct ToServer<In> {
    proxy: In,
    server: String,
    authorization: Option<String>,
}

impl<In> std::fmt::Debug for ToServer<In> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ToServer({})", self.server)
    }
}

/// The head of a request with the whole address in its first line; nothing where it is no such head.
fn whole(head: &[u8], server: &str, authorization: Option<&str>) -> Option<Vec<u8>> {
    let method = [&b"GET "[..], b"HEAD "].into_iter().find(|method| head.starts_with(method))?;
    let rest = &head[method.len()..];
    let end = rest.windows(2).position(|two| two == b"\r\n")? + 2;
    let (line, rest) = rest.split_at(end);
    line.starts_with(b"/")
        .then(|| [method, server.as_bytes(), line, authorization.unwrap_or_default().as_bytes(), rest].concat())
}

impl<In: Transport> Transport for ToServer<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.proxy.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let output = self.proxy.buffers().output();
        let amount =
            match output.get(..amount).and_then(|head| whole(head, &self.server, self.authorization.as_deref())) {
                Some(head) => {
                    let too_long = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "the address is too long");
                    output.get_mut(..head.len()).ok_or_else(too_long)?.copy_from_slice(&head);
                    head.len()
                }
                None => amount,
            };
        self.proxy.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.proxy.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.proxy.is_open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_gets_the_whole_address() {
        let head = b"GET /debian/x?y HTTP/1.1\r\nhost: m\r\n\r\n";
        let expected = "GET http://m:80/debian/x?y HTTP/1.1\r\nproxy-authorization: Basic eA==\r\nhost: m\r\n\r\n";
        let found = whole(head, "http://m:80", Some("proxy-authorization: Basic eA==\r\n")).unwrap();
        assert_eq!(String::from_utf8(found).unwrap(), expected);
        assert!(whole(b"GET http://m/ HTTP/1.1\r\n\r\n", "http://m", None).is_none());
        assert!(whole(b"some body", "http://m", None).is_none());
    }

    #[test]
    fn only_http_by_http_is_asked_so() {
        let proxy = |text: &str| ureq::Proxy::new(text).unwrap();
        assert!(is_for("http://m/x", &proxy("http://p:3128")) && is_for("http://m/x", &proxy("p:3128")));
        assert!(!is_for("https://m/x", &proxy("http://p:3128")) && !is_for("http://m/x", &proxy("https://p:3128")));
    }
}
