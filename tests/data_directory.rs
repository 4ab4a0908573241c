//! What lies where the queue should be, and is none, is refused at the start and left as it is. (Who else may hold it: see `stopping.rs`.)

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
