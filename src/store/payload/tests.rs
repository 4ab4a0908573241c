use super::*;

fn spooler(folder: &tempfile::TempDir, threshold: usize) -> Spooler {
    Spooler::new(folder.path(), threshold, 0)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

async fn spool(spooler: &Spooler, body: &[u8], piece: usize) -> Payload {
    let mut spool = spooler.begin(None);
    for piece in body.chunks(piece) {
        spool.push(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    assert_eq!(spool.len(), body.len() as u64);
    spool.finish().await.unwrap()
}

async fn read(payload: &Payload) -> Result<Vec<u8>, StoreError> {
    let mut reader = payload.reader();
    let mut body = Vec::new();
    while let Some(piece) = reader.next().await {
        let piece = piece?;
        assert!(payload.as_memory().is_some() || piece.len() <= PIECE);
        body.extend_from_slice(&piece);
        assert_eq!(reader.remaining(), payload.len() - body.len() as u64);
    }
    Ok(body)
}

#[tokio::test]
async fn a_body_of_any_size_in_any_pieces_reads_back_as_it_came_and_more_than_once() {
    let folder = tempfile::tempdir().unwrap();
    let spooler = spooler(&folder, 100);
    for (len, piece) in
        [(0, 1), (1, 1), (100, 7), (100, 100), (101, 7), (101, 101), (700_000, 4_000), (700_000, 700_000), (524_288, 262_144)]
    {
        let body = pattern(len);
        let payload = spool(&spooler, &body, piece).await;
        assert_eq!((payload.len(), payload.as_memory().is_some()), (len as u64, len <= 100));
        assert_eq!(read(&payload).await.unwrap(), body);
        assert_eq!(read(&payload.clone()).await.unwrap(), body);
    }
}

#[tokio::test]
async fn a_body_that_comes_as_one_piece_is_not_copied() {
    let folder = tempfile::tempdir().unwrap();
    let body = Bytes::from(pattern(80));
    let mut spool = spooler(&folder, 100).begin(None);
    spool.push(body.clone()).await.unwrap();
    assert_eq!(spool.finish().await.unwrap().as_memory().unwrap().as_ptr(), body.as_ptr());
}

#[tokio::test]
async fn a_spool_leaves_no_name_behind() {
    let folder = tempfile::tempdir().unwrap();
    let payload = spool(&spooler(&folder, 10), &pattern(1000), 100).await;
    assert!(payload.as_memory().is_none());
    drop(payload);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn bytes_that_changed_on_the_disk_are_reported_in_place_of_the_last_piece() {
    let folder = tempfile::tempdir().unwrap();
    let payload = spool(&spooler(&folder, 10), &pattern(600_000), 100_000).await;
    payload.as_file().unwrap().file.write_all_at(b"!", 300_000).unwrap();
    let mut reader = payload.reader();
    let mut whole = 0;
    let error = loop {
        match reader.next().await.unwrap() {
            Ok(piece) => whole += piece.len(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Failed(_)), "{error}");
    assert!(whole < 600_000);
    assert!(reader.next().await.is_none());
}

#[test]
fn a_body_file_gets_its_name_with_and_without_files_that_have_none() {
    let folder = tempfile::tempdir().unwrap();
    for (number, file) in [BodyFile::create(folder.path()), BodyFile::create_named(folder.path())].into_iter().enumerate() {
        let file = file.unwrap();
        file.write_all_at(b"body", 0).unwrap();
        let path = folder.path().join(number.to_string());
        file.persist(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"body");
        // It was let go; stored again it is copied, since a file cannot get a name twice.
        std::fs::remove_file(&path).unwrap();
        file.persist(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"body");
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[tokio::test]
async fn a_folder_that_is_gone_is_an_error_and_not_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let spooler = spooler(&folder, 10);
    drop(folder);
    let error = spooler.begin(None).push(Bytes::from(pattern(11))).await.unwrap_err();
    assert!(matches!(error, StoreError::Failed(_)), "{error}");
}

#[tokio::test]
async fn bodies_past_the_threshold_share_the_memory_that_is_set_aside_for_them_and_give_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let spooler = Spooler::new(folder.path(), 100, 256 * 1024);
    let body = pattern(200 * 1024);
    let first = spool(&spooler, &body, 4_000).await;
    assert!(first.as_memory().is_some(), "there is room for one");
    let second = spool(&spooler, &body, 4_000).await;
    assert!(second.as_memory().is_none(), "the other one lies in a file");
    assert_eq!((read(&first).await.unwrap(), read(&second).await.unwrap()), (body.clone(), body.clone()));
    let clone = first.clone();
    drop(first);
    assert!(spool(&spooler, &body, 4_000).await.as_memory().is_none(), "a clone still holds the room");
    drop(clone);
    assert!(spool(&spooler, &body, 4_000).await.as_memory().is_some(), "the room has come back");
}

#[tokio::test]
async fn a_body_that_is_known_to_be_large_takes_no_memory_from_others() {
    let folder = tempfile::tempdir().unwrap();
    let spooler = Spooler::new(folder.path(), 100, usize::MAX);
    let large = Spooler::LARGEST_IN_MEMORY + 1;
    let mut spool = spooler.begin(Some(large as u64));
    spool.push(Bytes::from(pattern(101))).await.unwrap();
    assert!(spool.file.is_some(), "it is on disk as soon as it is not small");
    let mut spool = spooler.begin(Some(Spooler::LARGEST_IN_MEMORY as u64));
    spool.push(Bytes::from(pattern(101))).await.unwrap();
    assert!(spool.file.is_none());
}

#[tokio::test]
async fn a_body_of_known_length_that_is_put_into_its_place_is_kept_there() {
    let folder = tempfile::tempdir().unwrap();
    let spooler = Spooler::new(folder.path(), 100, usize::MAX);
    let body = pattern(1000);
    // The first pieces pass the threshold one by one, or at once.
    for first in [&[60, 60][..], &[150]] {
        let mut spool = spooler.begin(Some(1000));
        let mut at = 0;
        for &piece in first {
            assert!(spool.place().is_none(), "what is small so far takes no room");
            spool.push(Bytes::copy_from_slice(&body[at..at + piece])).await.unwrap();
            at += piece;
        }
        let mut place = spool.place().unwrap().as_ptr();
        for end in [at + 1, 500, 1000] {
            let room = spool.place().unwrap();
            assert!(room.capacity() >= 1000);
            room.extend_from_slice(&body[at..end]);
            assert_eq!(std::mem::replace(&mut place, room.as_ptr()), room.as_ptr(), "it is not moved");
            spool.placed();
            assert_eq!(spool.len(), end as u64);
            at = end;
        }
        let payload = spool.finish().await.unwrap();
        assert_eq!((read(&payload).await.unwrap(), payload.as_memory().unwrap().as_ptr()), (body.clone(), place));
    }
}

#[tokio::test]
async fn there_is_no_place_for_a_body_whose_length_or_whose_memory_is_open() {
    let folder = tempfile::tempdir().unwrap();
    for (spooler, length) in [
        (Spooler::new(folder.path(), 100, usize::MAX), None),
        (Spooler::new(folder.path(), 100, 999), Some(1000)),
        (Spooler::new(folder.path(), 100, usize::MAX), Some(Spooler::LARGEST_IN_MEMORY as u64 + 1)),
    ] {
        let mut spool = spooler.begin(length);
        assert!(spool.place().is_none());
        spool.push(Bytes::from(pattern(101))).await.unwrap();
        assert!(spool.place().is_none(), "{length:?}");
    }
}
