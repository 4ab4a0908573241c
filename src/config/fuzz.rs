//! Mutated configurations.

use super::Config;

#[test]
fn fuzz_a_configuration_is_taken_or_every_fault_has_its_place() {
    let small = "[clients]\nrate = \"5/s\"\n[backends.a]\nservers = [\"http://127.0.0.1:1\"]\n[[routes]]\nname = \"a\"\npath = \"/\"\nbackend = \"a\"\n[routes.spill]\n";
    let words: [&[u8]; 10] = [
        b"[[listeners]]\n",
        b"proxy_protocol = true\n",
        b"tls = { cert_file = \"/\", key_file = \"\" }\n",
        b"min_body_rate = \"1KiB/s\"\n",
        b"rate_by = [\"client-ip\", \"path\"]\n",
        b"\"\"\"",
        b" = {",
        b"\xff",
        b"\xc3\xbc",
        b"99999999999999999999",
    ];
    crate::fuzz::run(&[small.as_bytes()], &words, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        match Config::parse("fuzz.toml", &text) {
            Ok(_) => true,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                false
            }
        }
    });
}
