//! Answers that a route gives by itself: a redirect, or a fixed one.

use bytes::Bytes;
use http::{Response, header::LOCATION};

use crate::proxy::{answer, body::ClientBody, inspect::Malformed, settings::Target};

use super::{Own, Scene};

impl Own {
    /// The answer to one request.
    pub(in crate::proxy) fn answer(&self, scene: Scene<'_>) -> Response<ClientBody> {
        let mut response = match &self.settings.target {
            Target::Redirect { status, to } => {
                let Some(location) = to.fill(scene) else { return answer::malformed(Malformed::Target, scene.headers) };
                if is_nowhere(location.as_bytes()) {
                    // An old client that names no host, which `to` wants to be told.
                    return answer::malformed(Malformed::Host, scene.headers);
                }
                let mut response = answer::fixed(*status, None, Bytes::new());
                response.headers_mut().insert(LOCATION, location);
                response
            }
            Target::Respond(fixed) => answer::fixed(fixed.status, Some(&fixed.content_type), fixed.body.clone()),
            // An `Own` is made of the other two alone.
            Target::Backend(_) => answer::no_route(scene.headers),
        };
        if let Some(changes) = self.rewriter.as_ref().and_then(|rewriter| rewriter.changes(scene)) {
            changes.own_answer(response.headers_mut());
        }
        response
    }
}

/// Whether a URL has a scheme and no host.
fn is_nowhere(url: &[u8]) -> bool {
    let scheme = url.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(url.len());
    url[scheme..].strip_prefix(b"://").is_some_and(|rest| matches!(rest.first(), None | Some(b'/' | b'?' | b':')))
}
