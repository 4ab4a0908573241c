//! A connection within TLS ends with the word that it does (`close_notify`), so that its end is not taken for one that somebody else has made (RFC 9112 section 9.8).

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod common;

use std::{io, net::SocketAddr, sync::Arc};

use common::{
    backend::Backend,
    client,
    frames::{END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, SETTINGS, block, frame},
    program::Program,
    read_head,
    secure::Certificate,
    site::Site,
    within,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

/// A server that answers one request on each connection with these bytes, and tells how the connection ended: cut off is an error.
async fn server(certificate: &Certificate, answer: &'static str) -> (SocketAddr, mpsc::Receiver<io::Result<usize>>) {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions().unwrap();
    let chain = vec![CertificateDer::from_pem_slice(certificate.pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).unwrap();
    let config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (told, ends) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = acceptor.accept(stream).await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            told.send(stream.read(&mut [0; 1]).await).await.unwrap();
        }
    });
    (address, ends)
}

#[tokio::test]
async fn a_server_is_told_that_its_connection_ends() {
    for answer in ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"]
    {
        let certificate = Certificate::of(&["localhost"]);
        let (address, mut ends) = server(&certificate, answer).await;
        let mut program = Program::prepare("", &["run", "-c", "config.toml"]);
        certificate.write(program.directory(), "backend");
        let url = format!("https://localhost:{}", address.port());
        program.configure(&Site::passing(url).backend("idle_timeout = \"1s\"\ntls = { ca_file = \"backend.crt\" }").to_string());
        program.run().await;
        assert_eq!(client::fetch(program.proxy(), client::get("/")).await.text(), "ok");
        assert_eq!(within("the end of the connection", ends.recv()).await.unwrap().unwrap(), 0, "{answer:?}");
    }
}

/// The program with a listener that speaks TLS.
async fn started(backend: &Backend, certificate: &Certificate) -> Program {
    let site = Site::passing(backend.url()).clients("idle_timeout = \"500ms\"");
    let site = site.listening("tls = { cert_file = \"a.crt\", key_file = \"a.key\" }");
    let mut program = Program::prepare(&site.to_string(), &["run", "-c", "config.toml"]);
    certificate.write(program.directory(), "a");
    program.run().await;
    program
}

#[tokio::test]
async fn a_client_is_told_that_its_connection_ends() {
    let (backend, certificate) = (Backend::start().await, Certificate::of(&["a.test"]));
    let program = started(&backend, &certificate).await;
    for request in
        ["GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", "garbage\r\n\r\n"]
    {
        let mut stream = certificate.connect(program.proxy(), "a.test", &["http/1.1"]).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        within("the end of the connection", stream.read_to_end(&mut all)).await.expect(request);
        assert!(all.starts_with(b"HTTP/1.1 "), "{request:?}");
    }
    // One that does not answer our farewell is waited for only so long.
    let head = block(&[(":method", "GET"), (":scheme", "https"), (":authority", "a.test"), (":path", "/")]);
    let begun = [&PREFACE[..], &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, END_STREAM | END_HEADERS, 1, &head)].concat();
    let mut stream = certificate.connect(program.proxy(), "a.test", &["h2"]).await.unwrap();
    stream.write_all(&begun).await.unwrap();
    let mut all = Vec::new();
    within("the end of the connection", stream.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all[all.len() - 17..][..9], frame(GOAWAY, 0, 0, &[0; 8])[..9], "its last frame");
}
