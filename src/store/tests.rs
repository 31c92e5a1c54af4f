//! Objects: published whole or not at all, and checked.

use super::*;

fn publish(store: &Store, bytes: &[u8]) -> OutputRecord {
    let extension = Some(Extension::try_from("bin".to_string()).expect("letters"));
    let written = store.write_object(extension.as_ref(), |out| Ok(out.write_all(bytes)?)).and_then(|object| {
        let (hash, bytes) = (object.hash, object.bytes);
        store.name_object(object).map(|()| (hash, bytes))
    });
    let (object, bytes) = written.expect("a writable store");
    OutputRecord { object, extension, name: None, rows: 0, bytes, columns: BTreeMap::new() }
}

#[test]
fn damage_and_absence_are_noticed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path());
    let output = publish(&store, b"some bytes");
    assert_eq!(store.check(&output), ObjectState::Sound);
    fs::write(store.layout.object(&output), b"same bytes").expect("write");
    assert_eq!(store.check(&output), ObjectState::Damaged);
    publish(&store, b"some bytes");
    assert_eq!(store.check(&output), ObjectState::Sound, "publishing again repairs");
    fs::remove_file(store.layout.object(&output)).expect("remove");
    assert_eq!(store.check(&output), ObjectState::Missing);
}

#[test]
fn a_failed_write_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path());
    let failed = store.write_object(None, |out| {
        out.write_all(b"half")?;
        anyhow::bail!("stop")
    });
    assert!(failed.is_err());
    let left = fs::read_dir(folder.path().join("objects")).expect("objects").count();
    assert_eq!(left, 0);
}
