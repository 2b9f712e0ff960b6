//! One output stream, written by a thread of its own, so that nobody else waits for a pipe or a disk.
//!
//! The queue is a buffer of bytes: a line costs its caller a copy under a short lock. The thread gathers for some
//! milliseconds and writes what is there at once. A full buffer loses lines rather than time; they are counted and logged.

use std::io::Write;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use prometheus::IntCounter;

/// Bytes that wait at most.
const MOST: usize = 4 * 1_048_576;
/// How long lines are gathered before a write.
const GATHER: Duration = Duration::from_millis(10);
/// How long the end of the process waits for the last write.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// Whether a line may wait for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// It may.
    Gathered,
    /// It is written now.
    AtOnce,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<u8>,
    urgent: bool,
    lost: u64,
    closed: bool,
    done: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    most: usize,
}

/// The queue of one stream.
#[derive(Clone)]
pub(super) struct Output {
    shared: Arc<Shared>,
    lost: IntCounter,
}

/// The line that says how many lines were lost.
pub(super) type LostLine = Box<dyn Fn(u64) -> String + Send>;

impl Output {
    /// Starts the thread that writes to `stream`.
    pub(super) fn to(
        stream: impl Write + Send + 'static,
        lost: IntCounter,
        lost_line: LostLine,
    ) -> std::io::Result<Self> {
        Self::bounded(MOST, stream, lost, lost_line)
    }

    fn bounded(
        most: usize,
        stream: impl Write + Send + 'static,
        lost: IntCounter,
        lost_line: LostLine,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
            most,
        });
        let written = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(&written, stream, &lost_line))?;
        Ok(Self { shared, lost })
    }

    /// Queues a line, which ends with a line feed.
    pub(super) fn push(&self, line: &str, urgency: Urgency) {
        let mut queue = self.shared.queue.lock();
        if queue.closed || queue.waiting.len().saturating_add(line.len()) > self.shared.most {
            queue.lost += 1;
            self.lost.inc();
            return;
        }
        let wakes = queue.waiting.is_empty() || (urgency == Urgency::AtOnce && !queue.urgent);
        queue.waiting.extend_from_slice(line.as_bytes());
        queue.urgent |= urgency == Urgency::AtOnce;
        drop(queue);
        if wakes {
            self.shared.changed.notify_all();
        }
    }

    /// Writes what waits, and ends the thread. Gives up when nobody reads the stream.
    pub(super) fn close(&self) {
        let mut queue = self.shared.queue.lock();
        queue.closed = true;
        self.shared.changed.notify_all();
        let writing = |queue: &mut Queue| !queue.done;
        self.shared.changed.wait_while_for(&mut queue, writing, LAST_WRITE);
    }
}

/// The thread: until the queue is closed and empty.
fn write_all(shared: &Shared, mut stream: impl Write, lost_line: &LostLine) {
    let mut writing = Vec::new();
    loop {
        let mut queue = shared.queue.lock();
        while queue.waiting.is_empty() && queue.lost == 0 && !queue.closed {
            shared.changed.wait(&mut queue);
        }
        if !queue.urgent && !queue.closed {
            shared.changed.wait_for(&mut queue, GATHER);
        }
        mem::swap(&mut writing, &mut queue.waiting);
        let lost = mem::take(&mut queue.lost);
        queue.urgent = false;
        let closed = queue.closed;
        drop(queue);
        if lost > 0 {
            writing.extend_from_slice(lost_line(lost).as_bytes());
        }
        // Nowhere to complain when the stream is closed.
        let _ = stream.write_all(&writing).and_then(|()| stream.flush());
        writing.clear();
        if closed {
            shared.queue.lock().done = true;
            shared.changed.notify_all();
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A stream whose reader takes each write when it likes to.
    struct Pipe(mpsc::SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let gone = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
            self.0.send(bytes.to_vec()).map_err(gone)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn output(most: usize, writes_ahead: usize) -> (Output, IntCounter, mpsc::Receiver<Vec<u8>>) {
        let (sender, reader) = mpsc::sync_channel(writes_ahead);
        let lost = IntCounter::new("lost", "lost").unwrap();
        let lost_line = Box::new(|lost| format!("lost {lost}\n"));
        (
            Output::bounded(most, Pipe(sender), lost.clone(), lost_line).unwrap(),
            lost,
            reader,
        )
    }

    fn read(reader: &mpsc::Receiver<Vec<u8>>) -> String {
        reader.iter().map(|write| String::from_utf8(write).unwrap()).collect()
    }

    #[test]
    fn lines_queued_before_the_end_are_written_in_order() {
        let (output, lost, reader) = output(MOST, 1000);
        for n in 0..5000 {
            output.push(
                &format!("{n}\n"),
                if n % 500 == 0 {
                    Urgency::AtOnce
                } else {
                    Urgency::Gathered
                },
            );
        }
        output.close();
        let wanted: Vec<String> = (0..5000).map(|n| n.to_string()).collect();
        drop(output);
        assert_eq!(read(&reader).lines().collect::<Vec<_>>(), wanted);
        assert_eq!(lost.get(), 0);
    }

    #[test]
    fn an_unread_stream_loses_lines_and_blocks_no_caller() {
        let (output, lost, reader) = output(100, 0);
        for _ in 0..1000 {
            output.push("0123456789\n", Urgency::AtOnce);
        }
        let dropped = lost.get();
        assert!(
            (980..1000).contains(&dropped),
            "some were being written, nine fit: {dropped}"
        );
        let written = std::thread::spawn(move || read(&reader));
        output.close();
        drop(output);
        let written = written.join().unwrap();
        // In one line or two: that depends on when the thread first ran.
        let logged = written.lines().filter_map(|line| line.strip_prefix("lost "));
        assert_eq!(
            logged.map(|n| n.parse::<u64>().unwrap()).sum::<u64>(),
            dropped,
            "{written}"
        );
        assert_eq!(
            u64::try_from(written.matches("0123456789\n").count()).unwrap(),
            1000 - dropped
        );
    }
}
