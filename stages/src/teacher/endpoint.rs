//! The teacher's address, and where it may lie.
//!
//! A pipeline is text that people pass on, so its endpoint must not reach into a network by surprise: https only, names are
//! resolved once and pinned, private ranges need `run.allow_private`. Loopback is free, plain http included: that is the
//! local model server.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use reqwest::Url;

/// An address that the teacher may be asked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    base: Url,
}

/// What is wrong with an endpoint, and the mend.
#[derive(Debug, PartialEq, Eq)]
pub struct EndpointFault {
    /// Lower case, no full stop.
    pub what: String,
    /// How to mend it.
    pub mend: &'static str,
}

impl Endpoint {
    /// Reads an endpoint; looks nothing up.
    ///
    /// # Errors
    /// When it is no http address, or carries a password or a query.
    pub fn parse(text: &str) -> Result<Endpoint, EndpointFault> {
        let fault = |what: String, mend| Err(EndpointFault { what, mend });
        let base = match Url::parse(text.trim_end_matches('/')) {
            Ok(url) => url,
            Err(e) => {
                return fault(format!("`endpoint` is no address: {e}"), "for example `https://api.openai.com/v1`");
            }
        };
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return fault("`endpoint` is no http address".into(), "for example `https://api.openai.com/v1`");
        }
        if !base.username().is_empty() || base.password().is_some() {
            return fault(
                "`endpoint` carries a user name or password".into(),
                "put the key into `run.api_key: {env: NAME}`",
            );
        }
        if base.query().is_some() || base.fragment().is_some() {
            return fault("`endpoint` carries a query".into(), "give the base address only");
        }
        let endpoint = Endpoint { base };
        match endpoint.literal() {
            Some(Place::Public) if endpoint.base.scheme() == "http" => {
                fault("`endpoint` would send the key over plain http".into(), "use https; http is for this machine")
            }
            _ => Ok(endpoint),
        }
    }

    /// Returns the address as it is shown in messages.
    pub fn shown(&self) -> &str {
        self.base.as_str()
    }

    /// Returns host and, where it is not the scheme's own, port: the default `provider`.
    pub fn provider(&self) -> String {
        let host = self.host();
        self.base.port().map_or(host.to_string(), |port| format!("{host}:{port}"))
    }

    /// Returns the host.
    pub fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// Says whether requests travel encrypted.
    pub fn is_https(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// Returns where chat completions are asked for.
    pub fn chat_url(&self) -> Url {
        let mut url = self.base.clone();
        if !url.path().ends_with("/chat/completions") {
            url.set_path(&format!("{}/chat/completions", self.base.path().trim_end_matches('/')));
        }
        url
    }

    /// Looks the host up and returns the addresses to pin, each of them allowed.
    ///
    /// # Errors
    /// When there are none, or one lies where it must not.
    pub fn resolve(&self, allow_private: bool) -> Result<Vec<SocketAddr>, String> {
        let port = self.base.port_or_known_default().unwrap_or(443);
        let host = self.host().trim_matches(['[', ']']);
        let found = (host, port).to_socket_addrs().map_err(|e| format!("cannot resolve `{host}`: {e}"))?;
        let addresses: Vec<SocketAddr> = found.collect();
        for address in &addresses {
            self.allow(address.ip(), allow_private)?;
        }
        if addresses.is_empty() { Err(format!("`{host}` has no address")) } else { Ok(addresses) }
    }

    fn allow(&self, ip: IpAddr, allow_private: bool) -> Result<(), String> {
        let own = self.literal() == Some(Place::Loopback);
        match place(ip) {
            Place::Loopback if own => Ok(()),
            Place::Loopback | Place::Private if allow_private => Ok(()),
            Place::Loopback | Place::Private => Err(format!(
                "`{}` is {ip}, inside a private network: set `run.allow_private: true` if that is meant",
                self.shown()
            )),
            Place::Public if self.is_https() => Ok(()),
            Place::Public => Err(format!("`{}` would send the key over plain http to {ip}: use https", self.shown())),
        }
    }

    /// Returns where the host lies if that can be said without looking it up.
    fn literal(&self) -> Option<Place> {
        let host = self.host().trim_matches(['[', ']']);
        if host.eq_ignore_ascii_case("localhost") {
            return Some(Place::Loopback);
        }
        host.parse().ok().map(place)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Loopback,
    Private,
    Public,
}

/// Sorts an address: link-local (a cloud's metadata service), shared, multicast and unspecified count as private.
fn place(ip: IpAddr) -> Place {
    match ip.to_canonical() {
        ip if ip.is_loopback() => Place::Loopback,
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let shared = a == 0 || (a == 100 && b & 0xC0 == 64) || a >= 224;
            if v4.is_private() || v4.is_link_local() || shared { Place::Private } else { Place::Public }
        }
        IpAddr::V6(v6) => {
            let local = v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_multicast() || v6.is_unspecified();
            if local { Place::Private } else { Place::Public }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_leak_or_lie_are_refused() {
        for bad in [
            "file:///etc/passwd",
            "https://me:key@api.example.com/v1",
            "http://8.8.8.8/v1",
            "api.openai.com",
            "https://a/v1?key=x",
        ] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
        for (private, why) in [
            ("http://10.0.0.7/v1", "private"),
            ("https://169.254.169.254/v1", "private"),
            ("https://[fe80::1]/v1", "private"),
        ] {
            let endpoint = Endpoint::parse(private).unwrap();
            assert!(endpoint.resolve(false).unwrap_err().contains(why), "{private}");
            assert!(endpoint.resolve(true).is_ok(), "{private}");
        }
    }

    #[test]
    fn this_machine_is_free() {
        let endpoint = Endpoint::parse("http://127.0.0.1:18480/v1/").unwrap();
        assert_eq!(endpoint.chat_url().as_str(), "http://127.0.0.1:18480/v1/chat/completions");
        assert_eq!(endpoint.provider(), "127.0.0.1:18480");
        assert!(endpoint.resolve(false).is_ok());
        assert_eq!(Endpoint::parse("https://api.openai.com/v1").unwrap().provider(), "api.openai.com");
    }
}
