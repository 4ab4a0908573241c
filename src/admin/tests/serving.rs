//! Over a real connection.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use super::*;

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, state_of(&Scripted::new(), None), async {
        let _: Result<(), _> = stopped.await;
    }));

    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok\n") {
        assert_ne!(idle.read_buf(&mut answer).await.unwrap(), 0);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));

    stop.send(()).unwrap();
    server.await.unwrap();
    assert_eq!(idle.read_buf(&mut answer).await.unwrap(), 0);
    assert!(TcpStream::connect(address).await.is_err());
}
