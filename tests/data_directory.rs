//! What lies where the queue should be: what is none is refused at the start and left as it is, and a link is followed. (Who else may hold it: see `stopping.rs`.)

mod common;

use common::{program::Program, site::Site};

#[tokio::test]
async fn a_file_that_is_no_queue_is_refused_and_left_alone() {
    let theirs = "somebody's letters, and no store";
    let site = Site::passing("http://127.0.0.1:9".into()).store("path = \"letters.txt\"").to_string();
    let config = site.replacen("path = \"queue.redb\"\n", "", 1);
    let mut program = Program::prepare(&config, &["run", "-c", "config.toml"]);
    std::fs::write(program.path("letters.txt"), theirs).unwrap();
    program.launch().await;
    assert_eq!(program.ended().await.code(), Some(78));
    assert!(program.stderr().contains("letters.txt cannot be read as a store"), "{}", program.stderr());
    assert_eq!(std::fs::read_to_string(program.path("letters.txt")).unwrap(), theirs);
}

#[tokio::test]
async fn a_queue_is_made_where_a_link_leads_and_the_link_stays() {
    let mut program = Program::prepare(&Site::passing("http://127.0.0.1:9".into()).to_string(), &["run", "-c", "config.toml"]);
    std::fs::create_dir(program.path("disk")).unwrap();
    std::os::unix::fs::symlink("disk/queue.redb", program.path("queue.redb")).unwrap();
    program.run().await;
    assert!(program.path("disk/queue.redb").is_file());
    assert_eq!(std::fs::read_link(program.path("queue.redb")).unwrap(), std::path::Path::new("disk/queue.redb"));
}
