//! How long a client's connection may lie idle, where that is all that is configured: the rest has its defaults, among them ten seconds for a head.

mod common;

use common::{
    backend::Backend,
    client::{self, Client},
    h2::{Http2, get},
    program::Program,
    site::Site,
    within,
};
use tokio::net::TcpStream;

/// The program, and a connection on which nothing was ever sent: it ends when the time for a head is over.
async fn started() -> (Backend, Program, Client) {
    let backend = Backend::start().await;
    let program = Program::start(&Site::passing(backend.url()).clients("idle_timeout = \"500ms\"").to_string()).await;
    let silent = Client::connect(program.proxy()).await;
    (backend, program, silent)
}

/// Which of the two ends first is what tells the one time from the other.
async fn ends_before(idle: impl Future<Output = ()>, mut silent: Client) {
    let first = async {
        tokio::select! {
            () = idle => true,
            () = silent.closed() => false,
        }
    };
    assert!(within("the end of a connection", first).await, "the idle connection had the time of one whose head is due");
}

#[tokio::test]
async fn an_idle_connection_ends_by_its_own_time_also_where_a_head_has_more() {
    let (_backend, program, silent) = started().await;
    let mut idle = Client::connect(program.proxy()).await;
    for _ in 0..2 {
        assert_eq!(idle.exchange(client::get("/")).await.status, 200);
    }
    ends_before(idle.closed(), silent).await;
}

#[tokio::test]
async fn an_idle_connection_of_http2_ends_by_its_own_time_also_where_a_head_has_more() {
    let (_backend, program, silent) = started().await;
    let mut idle = Http2::over(TcpStream::connect(program.proxy()).await.unwrap()).await;
    for _ in 0..2 {
        assert_eq!(idle.exchange(get("/"), "").await.unwrap().status, 200);
    }
    let ended = async { idle.connection.await.unwrap().unwrap() };
    ends_before(ended, silent).await;
}
