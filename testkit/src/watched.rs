//! A broker as a child process, in which nothing may have panicked when the test lets it go.

use std::ops::Deref;

use rustix::process::Signal;

use crate::process::Process;

/// A running broker over plain HTTP; its panics are looked for when it is dropped.
pub struct Watched(Option<Process>);

impl Watched {
    pub fn new(process: Process) -> Self {
        Self(Some(process))
    }

    /// Ends it in good order: the rest of standard output, and standard error.
    pub fn end(mut self) -> (String, String) {
        self.finish().unwrap()
    }

    fn finish(&mut self) -> Option<(String, String)> {
        let process = self.0.take()?;
        let metrics = process.ask("GET /v1/metrics", "", "").text;
        assert!(
            metrics.contains("\nagentwrit_handler_panics_total 0\n"),
            "handlers panicked: {metrics}"
        );
        process.signal(Signal::TERM);
        let (code, out, err) = process.end();
        assert_eq!(code, Some(0), "{err}");
        // Panics outside of handlers are not counted, but the panic hook writes each of them.
        assert!(!err.contains("panicked"), "{err}");
        Some((out, err))
    }
}

impl Deref for Watched {
    type Target = Process;

    fn deref(&self) -> &Process {
        self.0.as_ref().unwrap()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // A test that fails already has its reason.
        if !std::thread::panicking() {
            self.finish();
        }
    }
}
