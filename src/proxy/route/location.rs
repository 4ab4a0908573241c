//! Giving an answer's own URLs back the path and host under which the client knows them, where the route has changed these.
//!
//! As nginx's `proxy_redirect default`, and a little more: a path alone is put back too, since most backends write one, and one that is right already is left
//! alone, since some know where they are mounted.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_LOCATION, LOCATION, REFRESH},
};

/// What a route has put in place of what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Exchanged {
    /// How a path begins for the client.
    pub(super) outer: String,
    /// How the same path begins for the backend.
    pub(super) inner: String,
    /// `HOST` and `HOST:PORT` by which the backend may name itself, in lowercase, without a default port.
    pub(super) own: Vec<String>,
}

impl Exchanged {
    /// Puts back what the fields of an answer say. `host` is the client's `Host`.
    pub(super) fn put_back(&self, headers: &mut HeaderMap, host: Option<&HeaderValue>) {
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        for name in [LOCATION, CONTENT_LOCATION] {
            replace(headers, &name, |url| self.url(url, host));
        }
        // Not a standard, but older than most (`Refresh: 5; url=/next`).
        replace(headers, &REFRESH, |refresh| {
            let at = refresh.to_ascii_lowercase().find("url=")? + "url=".len();
            Some(format!("{}{}", &refresh[..at], self.url(&refresh[at..], host)?))
        });
    }

    /// The URL as the client must see it; none where it is right as it is.
    fn url(&self, url: &str, host: &str) -> Option<String> {
        if url.starts_with('/') && !url.starts_with("//") {
            return self.path(url);
        }
        let (scheme, rest) = url.split_once("://")?;
        let port = match scheme.to_ascii_lowercase().as_str() {
            "http" => ":80",
            "https" => ":443",
            _ => return None,
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let plain = |authority: &str| {
            let lower = authority.to_ascii_lowercase();
            lower.strip_suffix(port).map(str::to_owned).unwrap_or(lower)
        };
        let rooted = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if plain(authority) == plain(host) {
            return self.path(&rooted).map(|path| format!("{scheme}://{authority}{path}"));
        }
        // Seen from the client, what the backend calls itself is the place that was asked.
        self.own.contains(&plain(authority)).then(|| self.path(&rooted).unwrap_or(rooted))
    }

    fn path(&self, path: &str) -> Option<String> {
        if self.outer == self.inner {
            return None;
        }
        if self.inner.is_empty() {
            let bare = self.outer.trim_end_matches('/');
            let is_right = path.strip_prefix(bare).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
            return (!is_right).then(|| format!("{bare}{path}"));
        }
        let rest = path.strip_prefix(&self.inner)?;
        let slash = if self.outer.is_empty() && !rest.starts_with('/') { "/" } else { "" };
        Some(format!("{}{slash}{rest}", self.outer))
    }
}

fn replace(headers: &mut HeaderMap, name: &HeaderName, by: impl Fn(&str) -> Option<String>) {
    let replaced = headers.get(name).and_then(|value| by(value.to_str().ok()?)).and_then(|value| HeaderValue::try_from(value).ok());
    if let Some(value) = replaced {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(outer: &str, inner: &str, url: &str) -> String {
        let own = vec!["127.0.0.1:9001".into(), "app.internal".into()];
        let exchanged = Exchanged { outer: outer.into(), inner: inner.into(), own };
        let mut headers = HeaderMap::from_iter([(LOCATION, url.parse().unwrap())]);
        exchanged.put_back(&mut headers, Some(&HeaderValue::from_static("www.example.com")));
        headers[LOCATION].to_str().unwrap().to_owned()
    }

    #[test]
    fn a_redirect_of_the_backend_leads_to_where_the_client_knows_it() {
        for (outer, inner, url, expected) in [
            // `location /one/ { proxy_pass http://app.internal/two/; }`, the example of nginx's documentation.
            ("/one/", "/two/", "http://app.internal/two/some/uri/", "/one/some/uri/"),
            ("/one/", "/two/", "/two/some?x=/two/", "/one/some?x=/two/"),
            ("/one/", "/two/", "/three", "/three"),
            ("/app", "", "/login", "/app/login"),
            ("/app/", "", "/login", "/app/login"),
            ("/app/", "", "/", "/app/"),
            ("/app/", "", "/app/login", "/app/login"),
            ("/app", "", "/app?x", "/app?x"),
            ("/app", "", "/apple", "/app/apple"),
            ("/app", "", "http://127.0.0.1:9001/x", "/app/x"),
            ("/app", "", "http://127.0.0.1:9001", "/app/"),
            ("/app", "", "http://app.internal:80?q", "/app/?q"),
            ("/app", "", "https://WWW.example.com/x", "https://WWW.example.com/app/x"),
            ("/app", "", "https://elsewhere.example/x", "https://elsewhere.example/x"),
            ("/app", "", "//elsewhere.example/x", "//elsewhere.example/x"),
            ("/app", "", "next", "next"),
            ("/app", "", "mailto:a@b", "mailto:a@b"),
            ("", "/v2", "/v2/x", "/x"),
            ("", "/v2/", "/v2/x", "/x"),
            ("", "", "http://app.internal/x", "/x"),
            ("", "", "/x", "/x"),
        ] {
            assert_eq!(seen(outer, inner, url), expected, "{outer} {inner} {url}");
        }
    }

    #[test]
    fn a_refresh_is_put_back_too() {
        let exchanged = Exchanged { outer: "/app".into(), ..Exchanged::default() };
        let mut headers = HeaderMap::from_iter([(REFRESH, HeaderValue::from_static("5; URL=/next"))]);
        exchanged.put_back(&mut headers, None);
        assert_eq!(headers[REFRESH], "5; URL=/app/next");
    }
}
