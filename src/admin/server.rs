//! The listener of the admin room.

use std::{io, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time,
};

use super::AdminState;

/// Connections at once; one more waits until another closes.
const CONNECTIONS: usize = 256;

/// Time to receive all headers of a request, and for which an idle connection is kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Time that requests under way get to finish at the end.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves the admin API until `shutdown` resolves, then finishes what is under way, for five seconds at the most.
pub async fn serve(listener: TcpListener, state: Arc<AdminState>, shutdown: impl Future<Output = ()>) {
    let router = super::router(state);
    let (closing, closed) = watch::channel(());
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (listener.accept().await, permit)
        };
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (accepted, permit) = accepted => match accepted {
                Ok((stream, _peer)) => {
                    let connection = connection(stream, router.clone(), closed.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(permit);
                    });
                }
                Err(error) => refused(&error).await,
            },
        }
    }
    drop((listener, closing));
    let drained = async { while connections.join_next().await.is_some() {} };
    if time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("admin requests were still under way after {DRAIN:?}; their connections are closed");
    }
}

/// A peer that is gone already concerns nobody else; any other error (too many open files) stays for a while.
async fn refused(error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        tracing::error!(%error, "the admin listener cannot accept");
        time::sleep(Duration::from_millis(250)).await;
    }
}

async fn connection(stream: TcpStream, router: Router, mut closed: watch::Receiver<()>) {
    // Answers are small, and the next one waits for nothing.
    let _: io::Result<()> = stream.set_nodelay(true);
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = closed.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an admin connection ended early");
    }
}
