use std::{fs, path::Path};

use rcgen::{CertificateParams, KeyPair};

use super::*;

/// Writes a new certificate for these names into `folder/stem.crt` and `folder/stem.key`.
fn write(folder: &Path, stem: &str, names: &[&str]) -> CertificateFiles {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap().self_signed(&key).unwrap();
    let files = CertificateFiles { cert_file: folder.join(format!("{stem}.crt")), key_file: folder.join(format!("{stem}.key")) };
    fs::write(&files.cert_file, certificate.pem()).unwrap();
    fs::write(&files.key_file, key.serialize_pem()).unwrap();
    files
}

/// The number of the certificate that a client gets who asks for this name.
fn shown(tls: &Tls, name: Option<&str>) -> usize {
    let shown = tls.certificates.shown.load();
    let chosen = shown.choose(name, |_| true).unwrap();
    shown.all.iter().position(|key| Arc::ptr_eq(key, &chosen)).unwrap()
}

#[test]
fn a_client_gets_the_certificate_of_the_host_that_it_names_and_else_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let files = [write(folder.path(), "a", &["a.example"]), write(folder.path(), "b", &["b.example", "*.b.example"])];
    let tls = Tls::load(&files).unwrap();
    for (name, expected) in [
        (Some("a.example"), 0),
        (Some("B.Example"), 1),
        (Some("x.b.example"), 1),
        (Some("x.y.b.example"), 0),
        (Some("x.a.example"), 0),
        (Some("c.example"), 0),
        (None, 0),
    ] {
        assert_eq!(shown(&tls, name), expected, "{name:?}");
    }
}

#[test]
fn a_certificate_whose_key_the_client_cannot_verify_gives_way_to_another_of_the_same_name() {
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::load(&[write(folder.path(), "a", &["a.example"]), write(folder.path(), "b", &["a.example"])]).unwrap();
    let shown = tls.certificates.shown.load();
    let first = shown.all[0].clone();
    let chosen = shown.choose(Some("a.example"), |key| !std::ptr::eq(key, &*first)).unwrap();
    assert!(Arc::ptr_eq(&chosen, &shown.all[1]));
}

#[test]
fn what_cannot_be_used_is_named_by_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (write(folder.path(), "a", &["a"]), write(folder.path(), "b", &["b"]));
    let (cert, key) = (a.cert_file.clone(), a.key_file.clone());
    let pair = |cert_file: &Path, key_file: &Path| CertificateFiles { cert_file: cert_file.into(), key_file: key_file.into() };
    let encrypted = folder.path().join("encrypted.key");
    fs::write(&encrypted, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n").unwrap();
    let junk = folder.path().join("junk.crt");
    fs::write(&junk, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    for (files, of_key, what) in [
        (pair(&folder.path().join("none"), &key), false, "none cannot be read"),
        (pair(&cert, &folder.path().join("none")), true, "none cannot be read"),
        (pair(&key, &key), false, "holds no certificate"),
        (pair(&cert, &cert), true, "holds no private key"),
        (pair(&cert, &encrypted), true, "openssl pkey -in"),
        (pair(&junk, &key), false, "cannot be used"),
        (pair(&cert, &b.key_file), true, "is not the key of the certificate"),
    ] {
        let error = check(&files).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        assert!(error.is_of_key(&files) == of_key || files.cert_file == files.key_file, "{error}");
    }
    assert!(check(&a).is_ok());
}

#[test]
fn a_new_pair_is_taken_over_once_both_files_are_at_rest_and_a_bad_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let files = write(folder.path(), "a", &["a"]);
    let tls = Tls::load(std::slice::from_ref(&files)).unwrap();
    let first = tls.certificates.shown.load().all[0].clone();
    let in_force = || !Arc::ptr_eq(&tls.certificates.shown.load().all[0], &first);
    assert!(tls.refresh(false).is_empty() && tls.refresh(true).is_empty(), "nothing has changed");

    let other = write(folder.path(), "b", &["b"]);
    fs::rename(&other.cert_file, &files.cert_file).unwrap();
    assert!(tls.refresh(false).is_empty(), "the key may be about to follow");
    assert!(matches!(&tls.refresh(false)[..], [Refreshed::Kept(_, CertificateError::NotAPair(_))]));
    assert!(tls.refresh(false).is_empty(), "that is said once");
    assert!(!in_force() && !tls.states()[0].current);

    fs::rename(&other.key_file, &files.key_file).unwrap();
    assert!(tls.refresh(false).is_empty());
    assert!(matches!(&tls.refresh(false)[..], [Refreshed::Renewed(..)]));
    assert!(in_force() && tls.states()[0].current);

    fs::remove_file(&files.key_file).unwrap();
    assert!(matches!(&tls.refresh(true)[..], [Refreshed::Kept(..)]));
    assert!(matches!(&tls.refresh(true)[..], [Refreshed::Kept(..)]), "who asks again is told again");
    assert!(in_force(), "the last good one stays");
}

#[test]
fn the_end_of_a_certificate_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["a".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2031, 2, 3);
    let files = write(folder.path(), "a", &["a"]);
    fs::write(&files.cert_file, params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(&files.key_file, key.serialize_pem()).unwrap();
    // date -u -d 2031-02-03 +%s
    assert_eq!(Tls::load(&[files]).unwrap().states()[0].expires_at, Some(1_927_843_200));
}
