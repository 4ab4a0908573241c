//! A data directory that cannot be used is a clear error at the start, and harms nobody who uses it.

mod common;

use common::{backend::Backend, client, program::Program, site::Site};

#[tokio::test]
async fn a_second_forebay_on_the_same_queue_is_refused_and_the_first_goes_on() {
    let mut backend = Backend::start().await;
    let first = Program::start(&Site::spilling(backend.url(), "").to_string()).await;
    backend.stop().await;
    let write = client::request("POST", "/", &[], "x");
    let before = client::fetch(first.proxy(), &write).await.id();
    let path = format!("path = \"{}\"", first.path("queue.redb").display());
    let config = Site::spilling(backend.url(), "").to_string().replace("path = \"queue.redb\"", &path);
    let mut second = Program::prepare(&config, &["run", "-c", "config.toml"]);
    second.launch().await;
    assert_eq!(second.ended().await.code(), Some(78));
    assert!(second.stderr().contains("in use by another running forebay"), "{}", second.stderr());
    let after = client::fetch(first.proxy(), &write).await.id();
    backend.start_again().await;
    for id in [before, after] {
        first.becomes(&id, "delivered").await;
    }
}

#[tokio::test]
async fn a_queue_that_cannot_be_made_is_said_to_be_so() {
    let mut program = Program::prepare("", &["run", "-c", "config.toml"]);
    std::fs::write(program.path("file"), "not a folder").unwrap();
    std::fs::write(program.path("other.redb"), "this is no store, and must stay as it is").unwrap();
    for (path, what) in [("file/queue.redb", "the folder must exist on a writable disk"), ("other.redb", "cannot be read as a store")] {
        let site = Site::passing("http://127.0.0.1:9".into()).to_string();
        program.configure(&site.replace("path = \"queue.redb\"", &format!("path = \"{path}\"")));
        program.launch().await;
        assert_eq!(program.ended().await.code(), Some(78), "{path}");
        assert!(program.stderr().contains(what) && program.stderr().contains(path), "{path}: {}", program.stderr());
    }
    assert_eq!(std::fs::read(program.path("other.redb")).unwrap(), b"this is no store, and must stay as it is");
}
