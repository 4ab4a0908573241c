//! The example at the top of the repository is a configuration that works, and says what is true.

use std::path::Path;

use forebay::config::Config;

#[test]
fn the_example_passes_the_check() {
    let config = Config::load(Path::new("config.toml")).unwrap_or_else(|error| panic!("{error}"));
    let backends: Vec<_> = config.backends.iter().map(|backend| (&*backend.name, backend.backend.servers[0].to_string())).collect();
    assert_eq!(backends, [("admin", "http://127.0.0.1:9001".into()), ("app", "http://127.0.0.1:9002".into())]);
}
