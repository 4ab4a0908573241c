//! Whatever becomes of a segment on disk, what is read of it is what was written, or nothing.

use std::time::Duration;

use super::{super::disk::FileDisk, *};
use crate::store::Settings;

#[test]
fn fuzz_a_damaged_segment_gives_what_was_written_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        path: folder.path().join("queue.redb"),
        max_requests: 1,
        max_bytes: 1,
        min_free_disk: 0,
        keep_delivered: Duration::ZERO,
        keep_dead: Duration::ZERO,
    };
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(&settings).unwrap());
    let file = super::super::disk::payload_folder(&settings.path).join(name(1));
    let ids = [RequestId::from_bytes([1; 16]), RequestId::from_bytes([2; 16])];
    let parts: [(&[u8], &[u8]); 2] = [(b"the head of one", b""), (b"head", b"and a body of the other")];
    let records = [Record::new(ids[0], parts[0].0, parts[0].1).unwrap(), Record::new(ids[1], parts[1].0, parts[1].1).unwrap()];
    let segment = [&records[0].bytes[..], &records[1].bytes].concat();
    let mut places = Vec::new();
    let mut offset = 0;
    for record in &records {
        places.push(Location { segment: 1, offset, head: record.head, body: record.body });
        offset += u32::try_from(record.bytes.len()).unwrap();
    }
    crate::fuzz::run(&[&segment], &[&records[0].bytes, b"\0\0\0\0", b"\xff\xff\xff\xff"], |bytes| {
        std::fs::write(&file, bytes).unwrap();
        let readers = Readers::new(Arc::clone(&disk));
        let mut readable = 0;
        for ((id, at), (head, body)) in ids.iter().zip(&places).zip(&parts) {
            if let Ok((read_head, read_body)) = readers.whole(*id, *at) {
                assert_eq!((&read_head[..], &read_body[..]), (*head, *body));
                readable += 1;
            }
            if let Ok(read_head) = readers.head(*id, *at) {
                assert_eq!(read_head, *head);
            }
        }
        let opened = disk.open_segment(&name(1)).unwrap();
        for offset in (0..bytes.len() as u64).step_by(11) {
            let _found = Record::peek(&*opened, 1, offset);
        }
        readable > 0
    });
}
