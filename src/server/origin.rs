//! Which web pages may use the server: those it serves itself, and those it is told of. Programs that are not browsers send
//! no `Origin` and are not concerned.

use std::net::IpAddr;

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue};

/// The pages of other servers that may use this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    any: bool,
    listed: Vec<String>,
}

/// Where a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Not from a web page, or one of this server.
    Here,
    /// From a page that is allowed; answers must name it.
    Allowed(HeaderValue),
    /// From any other page.
    Foreign,
}

impl Origins {
    /// These origins, such as `https://example.org`, or `*` for all.
    ///
    /// # Errors
    /// The text that is no origin.
    pub fn new(origins: &[String]) -> Result<Self, String> {
        let mut this = Self::default();
        for origin in origins {
            let host = origin.split_once("://").map_or("", |(_, host)| host);
            match origin.as_str() {
                "*" => this.any = true,
                _ if !host.is_empty() && !host.contains('/') && !origin.contains(char::is_whitespace) => {
                    this.listed.push(origin.to_ascii_lowercase());
                }
                _ => return Err(format!("{origin:?} is no origin such as https://example.org")),
            }
        }
        Ok(this)
    }

    /// Where a request with these headers comes from. `local`: it comes from this very machine, to a server that lets
    /// everybody in. Then a page is one of this server only under a name of this machine: any other name may have been
    /// pointed here by somebody who owns it, to use what listens here with a visitor's browser.
    pub(super) fn judge(&self, headers: &HeaderMap, local: bool) -> Source {
        let Some(origin) = headers.get(ORIGIN) else {
            // Media elements send none, but browsers say where they are.
            let is = |name, value| headers.get(name).is_some_and(|found: &HeaderValue| found == value);
            let embedded = is("sec-fetch-site", "cross-site") && !is("sec-fetch-mode", "navigate");
            return if embedded && !self.any { Source::Foreign } else { Source::Here };
        };
        let text = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
        match text.split_once("://") {
            Some((_, of)) if !host.is_empty() && of == host && (!local || is_local(&host)) => Source::Here,
            _ if self.any || self.listed.contains(&text) => Source::Allowed(origin.clone()),
            _ => Source::Foreign,
        }
    }
}

/// Whether this is how a machine calls itself; with or without a port.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.ends_with(".localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_was_pointed_here_is_not_this_server() {
        let none = Origins::default();
        for (host, here) in [
            ("localhost:3000", true),
            ("127.0.0.1:3000", true),
            ("[::1]:3000", true),
            ("app.localhost", true),
            ("evil.example:3000", false),
            ("localhost.evil.example", false),
            ("192.168.1.5:3000", false),
        ] {
            let mut request = HeaderMap::new();
            request.insert(HOST, HeaderValue::from_static(host));
            request.insert(ORIGIN, HeaderValue::from_str(&format!("http://{host}")).unwrap());
            assert_eq!(none.judge(&request, true), if here { Source::Here } else { Source::Foreign }, "{host}");
            assert_eq!(none.judge(&request, false), Source::Here, "{host}");
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|&(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn pages_are_known_by_their_origin() {
        let none = Origins::default();
        let some = Origins::new(&["https://Example.org".into()]).unwrap();
        let all = Origins::new(&["*".into()]).unwrap();
        let allowed = |origin| Source::Allowed(HeaderValue::from_static(origin));
        for (request, by_default, by_list, by_all) in [
            (headers(&[("host", "a:1")]), Source::Here, Source::Here, Source::Here),
            (headers(&[("host", "a:1"), ("origin", "http://a:1")]), Source::Here, Source::Here, Source::Here),
            (
                headers(&[("host", "a:1"), ("origin", "http://a:2")]),
                Source::Foreign,
                Source::Foreign,
                allowed("http://a:2"),
            ),
            (headers(&[("host", "a:1"), ("origin", "null")]), Source::Foreign, Source::Foreign, allowed("null")),
            (
                headers(&[("host", "a:1"), ("origin", "https://example.org")]),
                Source::Foreign,
                allowed("https://example.org"),
                allowed("https://example.org"),
            ),
            (
                headers(&[("host", "a:1"), ("origin", "https://example.org.evil")]),
                Source::Foreign,
                Source::Foreign,
                allowed("https://example.org.evil"),
            ),
            (headers(&[("origin", "http://")]), Source::Foreign, Source::Foreign, allowed("http://")),
            (
                headers(&[("host", "a:1"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]),
                Source::Foreign,
                Source::Foreign,
                Source::Here,
            ),
            (
                headers(&[("host", "a:1"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]),
                Source::Here,
                Source::Here,
                Source::Here,
            ),
        ] {
            assert_eq!(none.judge(&request, false), by_default, "{request:?}");
            assert_eq!(some.judge(&request, false), by_list, "{request:?}");
            assert_eq!(all.judge(&request, false), by_all, "{request:?}");
        }
        for wrong in ["example.org", "https://example.org/page", "https://", "https://a b"] {
            assert!(Origins::new(&[wrong.into()]).unwrap_err().contains(wrong));
        }
    }
}
