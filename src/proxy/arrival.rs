//! What comes before a connection is served: hearing from a trusted peer on whose behalf it comes.

use std::sync::Arc;

use tokio::time::timeout;

use crate::telemetry::Refusal;

use super::{
    connection::{Terms, serve, turn_away},
    listener::Shape,
    proxy_protocol::{self, Stance},
    stream::Stream,
    watch::in_place,
};

/// One connection on a listener with the PROXY protocol, to its end.
pub(super) async fn arrive(mut stream: Stream, shape: Arc<Shape>, mut terms: Terms) {
    let connections = terms.counted.0.clone();
    let refuse = |why: &dyn std::fmt::Display| connections.refusals.note(Refusal::ProxyProtocol, terms.peer, why);
    match shape.proxy_protocol.as_ref().map(|expected| expected.stance(terms.peer)) {
        None | Some(Stance::Plain) => {}
        Some(Stance::Refuse) => return refuse(&"its address may not speak the PROXY protocol on this listener"),
        Some(Stance::Believe) => match timeout(terms.limits.header_timeout, proxy_protocol::read(&mut stream)).await {
            Ok(Ok(said)) => {
                terms.peer = said.client.or(terms.peer);
                terms.secure = said.secure;
            }
            Ok(Err(fault)) => return refuse(&fault),
            Err(_) => return refuse(&"the head of the PROXY protocol did not come in time"),
        },
    }
    if !terms.counted.is_within(terms.peer, &terms.limits) {
        return turn_away(stream, shape, Refusal::Client, terms.counted).await;
    }
    // In a box of its own, so that what was needed until now is not kept.
    in_place(|| serve(stream, shape, terms)).await;
}
