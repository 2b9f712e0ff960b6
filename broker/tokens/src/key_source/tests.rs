use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use agentwrit_protocol::clock::SequenceEntropy;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};

const MALFORMED: [&str; 3] = [
    "",
    "garbage",
    "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
];

fn kids(pairs: &[Arc<KeyPair>]) -> Vec<&str> {
    pairs.iter().map(|pair| pair.kid()).collect()
}

fn made(source: &KeySource) -> String {
    let held = source.load_or_create(false, &SequenceEntropy::default()).unwrap();
    assert!(held.made);
    held.pairs[0].kid().to_owned()
}

#[test]
fn a_new_key_is_read_back_in_pkcs8_versions_1_and_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/signing.key");
    let source = KeySource::at(&path);
    let kid = made(&source);
    let read = source.load_or_create(true, &SequenceEntropy::default()).unwrap();
    assert_eq!((kids(&read.pairs), read.made), (vec![kid.as_str()], false));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let key = SigningKey::from_pkcs8_pem(fs::read_to_string(&path).unwrap().trim()).unwrap();
    fs::write(&path, key.to_pkcs8_pem(LineEnding::LF).unwrap().as_bytes()).unwrap();
    assert_eq!(kids(&source.load(true).unwrap()), [kid.as_str()]);
}

#[test]
fn a_key_file_is_whole_or_absent_and_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signing.key");
    let source = KeySource::at(&path);
    let kid = made(&source);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
    let before = fs::read(&path).unwrap();
    let refused = write_new(&path, &[7; 32]).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    assert_eq!(kids(&source.load(true).unwrap()), [kid.as_str()]);
    let other = KeySource::at(&folder.path().join("other.key"));
    assert!(other.load(false).unwrap().is_empty());
    assert!(
        other.load(true).is_err() && !other.path().exists(),
        "looking makes nothing"
    );
    assert_eq!(
        source.add(&SequenceEntropy::default()).unwrap(),
        None,
        "a file holds one"
    );
}

#[test]
fn a_missing_required_key_and_foreign_content_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signing.key");
    let source = KeySource::at(&path);
    let missing = source.load_or_create(true, &SequenceEntropy::default()).unwrap_err();
    assert!(matches!(missing, KeyError::Missing { .. }));
    for content in MALFORMED {
        fs::write(&path, content).unwrap();
        let error = source.load_or_create(false, &SequenceEntropy::default()).unwrap_err();
        assert!(error.to_string().starts_with("signing key: "), "{error}");
    }
}

#[test]
fn a_folder_holds_every_key_but_hidden_and_other_files() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("keys");
    // By the slash, before it is there; by what is there afterwards.
    let source = KeySource::at(Path::new(&format!("{}/", folder.display())));
    assert_eq!(source, KeySource::Folder(folder.clone()));
    let entropy = SequenceEntropy::default();
    let first = source.load_or_create(false, &entropy).unwrap();
    assert!(first.made && first.pairs.len() == 1);
    assert_eq!(KeySource::at(&folder), source);
    let second = source.add(&entropy).unwrap().unwrap();
    let mut wanted = vec![first.pairs[0].kid(), &second];
    wanted.sort_unstable();
    for (name, content) in [(".hidden.key", "x"), ("README", "x"), ("a.key.bak", "x")] {
        fs::write(folder.join(name), content).unwrap();
    }
    assert_eq!(kids(&source.load(true).unwrap()), wanted);
    let same = folder.join(format!("signing-{second}.key"));
    assert_eq!(fs::metadata(&same).unwrap().permissions().mode() & 0o777, 0o600);
    fs::copy(&same, folder.join("copy.key")).unwrap();
    assert_eq!(kids(&source.load(true).unwrap()), wanted, "one key under two names");
    for kid in [second.as_str(), "unknown", "../../x", ""] {
        source.remove(kid).unwrap();
    }
    assert!(
        !same.exists() && folder.join("copy.key").exists(),
        "only what it has made"
    );
}

#[test]
fn a_mounted_secret_is_a_folder_of_links() {
    let root = tempfile::tempdir().unwrap();
    let made = KeySource::at(&root.path().join("signing.key"));
    let kid = self::made(&made);
    let volume = root.path().join("volume");
    fs::create_dir_all(volume.join("..2026_11_30_1")).unwrap();
    fs::rename(made.path(), volume.join("..2026_11_30_1/signing.key")).unwrap();
    symlink("..2026_11_30_1", volume.join("..data")).unwrap();
    symlink("..data/signing.key", volume.join("signing.key")).unwrap();
    assert_eq!(kids(&KeySource::at(&volume).load(true).unwrap()), [kid.as_str()]);
    // As for a moment when the kubelet swaps the versions.
    fs::remove_file(volume.join("..data")).unwrap();
    let error = KeySource::at(&volume).load(true).unwrap_err();
    assert!(matches!(error, KeyError::NoneInFolder { .. }));
}

#[test]
fn a_folder_is_bounded_and_names_the_file_that_is_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let source = KeySource::at(folder.path());
    let none = source.load(true).unwrap_err().to_string();
    assert!(none.contains("has no file that ends with .key"), "{none}");
    let entropy = SequenceEntropy::default();
    for _ in 0..MOST_HELD {
        source.add(&entropy).unwrap();
    }
    assert_eq!(source.load(true).unwrap().len(), MOST_HELD);
    let full = source.add(&entropy).unwrap_err().to_string();
    assert!(full.contains("has 17 files that end with .key"), "{full}");
    fs::write(folder.path().join("seventeenth.key"), "x").unwrap();
    assert!(matches!(source.load(true), Err(KeyError::TooMany { found: 17, .. })));
    let other = tempfile::tempdir().unwrap();
    for content in MALFORMED {
        fs::write(other.path().join("broken.key"), content).unwrap();
        let error = KeySource::at(other.path()).load(false).unwrap_err().to_string();
        assert!(error.contains("/broken.key must be a PEM block"), "{error}");
    }
}
