//! What a route changes in a request before the backend sees it, and in the answer before the client does.
//!
//! The changes are worked out from the request as the client sent it, and made when it is sent or frozen: order keys, wishes and our own answers go by what
//! the client said. What is frozen into the queue is changed already, so that a replay sends what a live request would have sent, whatever a reload did since.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header::HOST, request::Parts, uri::PathAndQuery};

use crate::proxy::{
    inspect::looks_like,
    settings::{FieldChanges, Rewrite},
};

use super::{
    location::Exchanged,
    path,
    template::{Scene, Template},
};

/// A route's changes, ready for requests.
#[derive(Debug)]
pub(in crate::proxy) struct Rewriter {
    settings: Rewrite,
    /// What is put back in answers; none where nothing is.
    exchanged: Option<Exchanged>,
}

/// The changes of one request and of its answer.
#[derive(Debug)]
pub(in crate::proxy) struct Changes {
    rewriter: Arc<Rewriter>,
    target: Option<PathAndQuery>,
    host: Option<HeaderValue>,
    request: Fields,
    response: Fields,
    client_host: Option<HeaderValue>,
}

/// The values of fields, worked out.
#[derive(Debug, Default)]
struct Fields {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
}

impl Rewriter {
    /// `servers` are the names of the backend's servers as they stand in `Host`.
    pub(super) fn new(settings: &Rewrite, servers: impl Iterator<Item = String>) -> Arc<Self> {
        let changes_place = settings.strip_prefix.is_some() || settings.add_prefix.is_some() || settings.host.is_some();
        let exchanged = (changes_place && settings.put_back).then(|| {
            let host = settings.host.as_ref().filter(|host| host.is_constant()).map(ToString::to_string);
            let plain = |name: String| {
                let lower = name.to_ascii_lowercase();
                lower.strip_suffix(":80").or(lower.strip_suffix(":443")).map(str::to_owned).unwrap_or(lower)
            };
            Exchanged {
                outer: settings.strip_prefix.clone().unwrap_or_default(),
                inner: settings.add_prefix.clone().unwrap_or_default(),
                own: servers.chain(host).map(plain).collect(),
            }
        });
        Arc::new(Self { settings: settings.clone(), exchanged })
    }

    /// The changes of a request that was prepared for the backend; none when its target cannot be rewritten.
    pub(in crate::proxy) fn changes(self: &Arc<Self>, scene: Scene<'_>) -> Option<Changes> {
        let settings = &self.settings;
        let moves = settings.strip_prefix.is_some() || settings.add_prefix.is_some();
        let target = if moves { Some(self.target(scene.uri)?) } else { None };
        let host = settings.host.as_ref().and_then(|host| host.fill(scene));
        let request = Fields::fill(&settings.request, scene);
        Some(Changes { target, host, request, ..self.changes_of_answer(scene) })
    }

    /// The changes of an answer alone, where the request is long gone: `scene` is that which asks for the answer.
    pub(in crate::proxy) fn changes_of_answer(self: &Arc<Self>, scene: Scene<'_>) -> Changes {
        Changes {
            rewriter: Arc::clone(self),
            target: None,
            host: None,
            request: Fields::default(),
            response: Fields::fill(&self.settings.response, scene),
            client_host: scene.headers.get(HOST).cloned(),
        }
    }

    /// The target with the one prefix in place of the other. What follows goes out as it came, unless it has segments that do not count: then
    /// in its normal form, so that nothing behind the prefix can lead out of it.
    fn target(&self, uri: &Uri) -> Option<PathAndQuery> {
        let strip = self.settings.strip_prefix.as_deref().unwrap_or_default();
        let add = self.settings.add_prefix.as_deref().unwrap_or_default();
        let normal = path::normal(uri.path())?;
        if !uri.path().starts_with('/') {
            // `OPTIONS *` is for the server as a whole.
            return uri.path_and_query().cloned();
        }
        let as_it_came = uri.path().strip_prefix(strip).filter(|_| !normal.reduced);
        let rest = match as_it_came {
            Some(rest) => rest.to_owned(),
            None => path::encoded(normal.path.strip_prefix(&*path::decoded(strip))?),
        };
        let slash = if format!("{add}{rest}").starts_with('/') { "" } else { "/" };
        let (mark, query) = uri.query().map_or(("", ""), |query| ("?", query));
        PathAndQuery::try_from(format!("{slash}{add}{rest}{mark}{query}")).ok()
    }
}

impl Fields {
    fn fill(changes: &FieldChanges, scene: Scene<'_>) -> Self {
        let fill = |fields: &[(HeaderName, Template)]| {
            fields.iter().filter_map(|(name, value)| Some((name.clone(), value.fill(scene)?))).collect()
        };
        Self { set: fill(&changes.set), add: fill(&changes.add) }
    }

    /// As nginx: a field whose value comes out empty is not sent.
    fn make(&self, remove: &[HeaderName], headers: &mut HeaderMap) {
        for name in remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.remove(name);
            if !value.is_empty() {
                headers.insert(name, value.clone());
            }
        }
        for (name, value) in self.add.iter().filter(|(_, value)| !value.is_empty()) {
            headers.append(name, value.clone());
        }
    }
}

impl Changes {
    /// Makes the head of a request to the backend that which its route wants.
    pub(in crate::proxy) fn request(&self, uri: &mut Uri, headers: &mut HeaderMap) {
        if let Some(target) = &self.target {
            *uri = Uri::from(target.clone());
        }
        if let Some(host) = &self.host {
            headers.insert(HOST, host.clone());
        }
        self.remove_lookalikes(headers);
        self.request.make(&self.rewriter.settings.request.remove, headers);
    }

    /// What the route sets or removes must not come from the client under a name that a server without hyphens takes for it (`X_Auth_User`).
    fn remove_lookalikes(&self, headers: &mut HeaderMap) {
        let changed = || self.request.set.iter().map(|(name, _)| name).chain(&self.rewriter.settings.request.remove);
        let alike = headers.keys().filter(|name| changed().any(|own| own != *name && looks_like(name, own)));
        for name in alike.cloned().collect::<Vec<_>>() {
            headers.remove(name);
        }
    }

    /// As [`request`](Self::request), of a head that is not shared.
    pub(in crate::proxy) fn head(&self, head: &mut Parts) {
        self.request(&mut head.uri, &mut head.headers);
    }

    /// Makes the head of the backend's answer that which its route wants.
    pub(in crate::proxy) fn answer(&self, headers: &mut HeaderMap) {
        if let Some(exchanged) = &self.rewriter.exchanged {
            exchanged.put_back(headers, self.client_host.as_ref());
        }
        self.response.make(&self.rewriter.settings.response.remove, headers);
    }

    /// Adds to an answer of ours what the route adds to those of its backend (a browser wants its CORS fields on a 202 and a 503 too). What we say ourselves stands.
    pub(in crate::proxy) fn own_answer(&self, headers: &mut HeaderMap) {
        for (name, value) in self.response.set.iter().chain(&self.response.add) {
            if !value.is_empty() && !headers.contains_key(name) {
                headers.insert(name, value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    fn rewriter(strip: &str, add: &str) -> Arc<Rewriter> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let settings = Rewrite { strip_prefix: some(strip), add_prefix: some(add), ..Rewrite::default() };
        Rewriter::new(&settings, std::iter::empty())
    }

    #[test]
    fn one_prefix_takes_the_place_of_the_other_as_in_nginx() {
        for (strip, add, target, expected) in [
            // proxy_pass http://b/remote/ in location /name/, and so on.
            ("/name/", "/remote/", "/name/test?a=b", "/remote/test?a=b"),
            ("/name/", "/", "/name/test", "/test"),
            ("/name", "/remote", "/namely", "/remotely"),
            ("/api/", "/v2", "/api/x", "/v2x"),
            ("/api", "", "/api", "/"),
            ("/api", "", "/api?x=1", "/?x=1"),
            ("/api/", "", "/api/x", "/x"),
            ("", "/v2", "/x", "/v2/x"),
            // What follows the prefix goes out as it came.
            ("/api", "", "/api/group%2Fproject/a%20b?q=%2F", "/group%2Fproject/a%20b?q=%2F"),
            ("/a%20b/", "", "/a%20b/x", "/x"),
            ("/a%20b/", "", "/%61%20b/x%20y", "/x%20y"),
            // Nothing behind the prefix leads out of it.
            ("/app", "/inner", "/app/x/../y", "/inner/y"),
            ("/app", "", "/app//evil.example/", "/evil.example/"),
            ("/app", "/inner", "/x/%2e%2e/app/./y%20z", "/inner/y%20z"),
        ] {
            let rewritten = rewriter(strip, add).target(&target.parse().unwrap());
            assert_eq!(rewritten.as_ref().map(PathAndQuery::as_str), Some(expected), "{strip} {add} {target}");
        }
    }

    #[test]
    fn fields_are_removed_then_set_then_added() {
        let name = |name: &'static str| HeaderName::from_static(name);
        let value = |text: &str| Template::parse(text).unwrap();
        let request = FieldChanges {
            set: vec![(name("x-real-ip"), value("$remote_addr")), (name("x-gone"), value("$http_x_none"))],
            add: vec![(name("x-tag"), value("b"))],
            remove: vec![name("cookie")],
        };
        let settings = Rewrite { request, host: Some(value("app.internal")), ..Rewrite::default() };
        let fields =
            [("host", "www"), ("x-real-ip", "6.6.6.6"), ("x-real-ip", "7.7.7.7"), ("x-gone", "1"), ("x-tag", "a"), ("cookie", "c=1")];
        let mut headers = HeaderMap::new();
        for (field, value) in fields {
            headers.append(name(field), value.parse().unwrap());
        }
        let mut uri: Uri = "/a".parse().unwrap();
        let scene = Scene { client: [192, 0, 2, 7].into(), method: &Method::GET, uri: &uri, headers: &headers };
        let changes = Rewriter::new(&settings, std::iter::empty()).changes(scene).unwrap();
        changes.request(&mut uri, &mut headers);
        let mut left: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(left, ["host: app.internal", "x-real-ip: 192.0.2.7", "x-tag: a", "x-tag: b"]);
        assert_eq!(uri, "/a");
    }
}
