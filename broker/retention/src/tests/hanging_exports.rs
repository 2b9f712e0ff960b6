//! Exports that hang.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentwrit_protocol::audit::DropRule;
use agentwrit_store::{Segment, WhenFull};

use super::{DAY, PLENTY, SCARCE, World, dropped_by, exported_to};

/// A file that blocks whoever opens it to write, in the place of the one that the next export writes.
fn blocking_file(world: &World, folder: &Path, segment: &Segment) -> PathBuf {
    let (epoch, first, last) = (world.store.epoch(), segment.first, segment.last);
    let path = folder.join(format!("audit-{epoch}-{first:06}-{last:06}.jsonl.part"));
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    path
}

/// Begins the exports, of which the first one hangs; the name of what ends that when it is opened to be read.
async fn hang(world: &Arc<World>, folder: &Path) -> (PathBuf, tokio::task::JoinHandle<()>) {
    let segment = world.store.query(|tx| tx.unexported_segment()).await.unwrap().unwrap();
    let path = blocking_file(world, folder, &segment);
    let exporter = Arc::clone(world);
    let task = tokio::spawn(async move { exporter.retention.export_due().await });
    while !world.retention.exporting.is_running() {
        tokio::task::yield_now().await;
    }
    (path, task)
}

#[tokio::test]
async fn an_export_that_hangs_holds_up_no_drop_of_what_is_exported() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::three_days(exported_to(folder.path(), WhenFull::Refuse)).await;
    world.retention.export_due().await;
    world.clock.advance(DAY);
    world.write(1).await;
    let segment = world.store.query(|tx| tx.unexported_segment()).await.unwrap().unwrap();
    let path = blocking_file(&world, folder.path(), &segment);
    let worker = Arc::clone(&world);
    let task = tokio::spawn(async move { worker.retention.run().await });
    while dropped_by(&world).await.is_empty() || !world.retention.exporting.is_running() {
        tokio::task::yield_now().await;
    }
    let gone = dropped_by(&world).await;
    assert!(gone.iter().all(|gone| *gone == (DropRule::Age, true)), "{gone:?}");
    task.abort();
    drop(std::fs::File::open(path).unwrap());
}

#[tokio::test]
async fn an_export_that_hangs_is_soon_taken_for_one_that_failed() {
    for (full, gone) in [
        (WhenFull::Drop, vec![(DropRule::Full, false); 3]),
        (WhenFull::Refuse, vec![]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let world = World::three_days(exported_to(folder.path(), full)).await;
        let (path, task) = hang(&world, folder.path()).await;
        world.set_free(SCARCE);
        world.retention.drop_due().await;
        assert_eq!(dropped_by(&world).await, [], "it may end in time");
        assert_eq!((world.store.refuses(), world.failed_exports()), (false, 0));
        world.clock.advance(20);
        world.retention.drop_due().await;
        assert_eq!(dropped_by(&world).await, gone, "{full:?}");
        assert_eq!((world.store.refuses(), world.failed_exports()), (gone.is_empty(), 1));
        world.set_free(PLENTY);
        world.retention.drop_due().await;
        assert!(!world.store.refuses(), "there is room again");
        drop(std::fs::File::open(path).unwrap());
        task.await.unwrap();
        // One that was dropped meanwhile is no failure.
        assert_eq!(world.failed_exports(), if gone.is_empty() { 2 } else { 1 }, "{full:?}");
    }
}
