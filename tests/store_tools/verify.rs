//! `store verify` finds whatever is wrong, calls nothing wrong that is not, and changes nothing.

use std::path::Path;

use forebay::{
    envelope::Timestamp,
    store::redb::{ClosedStore, Report, verify},
};
use redb::{Database, ReadableTable, TableDefinition};

use crate::{
    DATABASE, PAYLOADS,
    common::{backend::Backend, client, program::Program, site::Site},
    files, fixture, stderr, stdout, store,
};

const IDS: TableDefinition<'_, u128, u64> = TableDefinition::new("ids");
const REQUESTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("requests");
const ROUTES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("routes");

fn look(folder: &Path) -> Report {
    verify(&mut ClosedStore::open(&folder.join(DATABASE), Timestamp::from_millis(1_700_000_100_000)).unwrap()).unwrap()
}

fn wrong(report: &Report) -> Vec<&'static str> {
    report.checks.iter().filter(|check| check.wrong > 0).map(|check| check.what).collect()
}

#[test]
fn a_store_of_every_format_is_found_whole_and_left_as_it_was() {
    for format in [1, 2, 3] {
        let folder = fixture(format);
        let before = files(folder.path());
        let output = store(folder.path(), &["verify"], b"");
        assert!(output.status.success() && stdout(&output).contains("whole: nothing is wrong"), "{}{}", stdout(&output), stderr(&output));
        let json: serde_json::Value = serde_json::from_slice(&store(folder.path(), &["verify", "--output", "json"], b"").stdout).unwrap();
        assert_eq!((&json["format"], &json["whole"]), (&format.into(), &true.into()));
        let examined = |what: &str| json["checks"].as_array().unwrap().iter().find(|c| c["what"] == what).unwrap()["examined"].clone();
        assert_eq!([examined("heads"), examined("bodies"), examined("answers")], [11, 8, 3]);
        assert_eq!(files(folder.path()), before);
    }
}

#[test]
fn every_flipped_byte_that_somebody_needs_is_found() {
    let folder = fixture(2);
    for (path, bytes) in files(&folder.path().join(PAYLOADS)) {
        let is_segment = path.file_name().unwrap().to_str().unwrap().starts_with("segment-");
        let mut found = 0;
        for at in (0..bytes.len()).step_by(if is_segment { 29 } else { 371 }) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            std::fs::write(&path, flipped).unwrap();
            let report = look(folder.path());
            found += usize::from(!report.whole);
            assert!(is_segment || !report.whole, "{} byte {at}", path.display());
        }
        // Records that are no longer needed, and reserved room, may change.
        assert!(found >= if is_segment { 60 } else { 9 }, "{found} in {}", path.display());
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(look(folder.path()).whole);
}

#[test]
fn no_flipped_byte_hides_what_only_the_journal_has_and_a_part_of_it_that_is_missing_is_found() {
    let folder = fixture(3);
    let examined = |what: &str| look(folder.path()).checks.iter().find(|check| check.what == what).unwrap().examined;
    assert!(examined("journal") > 20);
    let mut segments = files(&folder.path().join(PAYLOADS));
    segments.retain(|path, _| path.to_str().unwrap().contains("segment-"));
    for (path, bytes) in &segments {
        for at in (0..bytes.len()).step_by(29) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            std::fs::write(path, flipped).unwrap();
            assert_eq!(examined("heads"), 11, "{} byte {at}", path.display());
        }
        std::fs::write(path, bytes).unwrap();
    }
    assert!(look(folder.path()).whole);
    std::fs::remove_file(segments.last_key_value().unwrap().0).unwrap();
    assert!(wrong(&look(folder.path())).contains(&"journal"));
}

#[test]
fn what_is_missing_or_too_much_is_found_and_named() {
    let change = |change: &dyn Fn(&Path)| {
        let folder = fixture(2);
        change(folder.path());
        look(folder.path())
    };
    let with_database = |act: &dyn Fn(&redb::WriteTransaction)| {
        change(&|folder| {
            let database = Database::open(folder.join(DATABASE)).unwrap();
            let write = database.begin_write().unwrap();
            act(&write);
            write.commit().unwrap();
        })
    };
    let id = 0x018b_cfe5_687b_7000_8000_0000_0000_000a_u128;
    let report = change(&|folder| {
        std::fs::remove_file(folder.join(PAYLOADS).join("018bcfe5-687b-7000-8000-00000000000a.body")).unwrap();
    });
    assert_eq!(wrong(&report), ["bodies"]);
    assert!(report.faults[0].contains("018bcfe5-687b-7000-8000-00000000000a is missing"), "{:?}", report.faults);
    let report = change(&|folder| std::fs::remove_file(folder.join(PAYLOADS).join("segment-00000001")).unwrap());
    assert_eq!(wrong(&report), ["heads", "answers"]);
    let report = with_database(&|write| drop(write.open_table(IDS).unwrap().remove(id).unwrap()));
    assert_eq!(wrong(&report), ["identities"]);
    let report = with_database(&|write| drop(write.open_table(IDS).unwrap().insert(id + 99, 4_711).unwrap()));
    assert_eq!(wrong(&report), ["identities"]);
    // A request that is gone with its identity is missed by its counter alone.
    let report = with_database(&|write| {
        let position = write.open_table(IDS).unwrap().remove(id).unwrap().unwrap().value();
        write.open_table(REQUESTS).unwrap().remove(position).unwrap();
    });
    assert_eq!(wrong(&report), ["counters"]);
    assert!(report.faults[0].contains("delivering says 2, and 1 are"), "{:?}", report.faults);
    let report = with_database(&|write| {
        let mut routes = write.open_table(ROUTES).unwrap();
        let other = routes.get(0).unwrap().unwrap().value().to_vec();
        routes.insert(1, &*other).unwrap();
    });
    assert_eq!(wrong(&report), ["heads", "counters", "hours"]);
}

#[tokio::test]
async fn a_store_that_a_forebay_runs_is_refused_and_one_that_a_kill_left_is_whole() {
    let mut backend = Backend::start().await;
    let spill = "[routes.spill]\nwhen = \"always\"\norder_by = \"none\"";
    let site = Site::of(&[backend.url()]).store("min_free_disk = \"1KiB\"").route("all", "/", spill).to_string();
    backend.stop().await;
    let mut program = Program::start(&site).await;
    for len in [10, 100_000, 2_000_000] {
        let answer = client::fetch(program.proxy(), client::request("POST", "/", &[], "x".repeat(len))).await;
        assert_eq!(answer.status, 202);
    }
    let verify = |program: &Program| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.args(["store", "verify", "-c", "config.toml"]).current_dir(program.directory()).output().unwrap()
    };
    let refused = verify(&program);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("is in use by another running forebay"), "{}", stderr(&refused));
    let none = store(Path::new("/nowhere"), &["verify"], b"");
    assert_eq!(none.status.code(), Some(1));
    assert!(stderr(&none).contains("does not exist"), "{}", stderr(&none));
    program.kill().await;
    let before = files(program.directory());
    let output = verify(&program);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    assert_eq!(files(program.directory()), before);
}
