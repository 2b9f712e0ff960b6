//! For tests of an implementation: surroundings that decide nothing and remember what they were told, and the suite that
//! every implementation has to pass.

pub mod suite;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use agentwrit_protocol::audit::{CheckpointKeys, SignatureCheck};
use agentwrit_protocol::clock::ManualClock;
use agentwrit_protocol::status_list::Bounds;
use agentwrit_protocol::{Clock, Entropy, EntropyError, JudgingClock, PodUid, UnixSeconds, lower_hex};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::{
    Asker, BoxError, CheckpointSigner, DenialGate, RevocationListener, RevocationLoad, SignedStatement, SigningKey,
    StoreObserver, Surroundings, ViewChange,
};

/// Unix second of the clock at the beginning.
pub const START: i64 = 1_800_000_000;

/// Characters of a signature, as those of Ed25519 have in base64url.
const SIGNATURE_LENGTH: usize = 86;

/// A signer whose signatures are hashes of key id and text.
#[derive(Debug, Clone, Copy)]
pub struct HashSigner(pub &'static str);

impl HashSigner {
    fn signature(self, message: &str) -> String {
        let hash = lower_hex(Sha256::digest(format!("{} {message}", self.0)));
        hash.chars().cycle().take(SIGNATURE_LENGTH).collect()
    }
}

impl CheckpointKeys for HashSigner {
    fn check(&self, kid: &str, message: &str, signature: &str) -> SignatureCheck {
        if kid != self.0 {
            SignatureCheck::UnknownKey
        } else if signature == self.signature(message) {
            SignatureCheck::Valid
        } else {
            SignatureCheck::Invalid
        }
    }
}

impl CheckpointSigner for HashSigner {
    fn sign(&self, message: &str) -> Result<SignedStatement, BoxError> {
        Ok(SignedStatement {
            kid: self.0.to_owned(),
            signature: self.signature(message),
        })
    }

    fn learn(&self, _: &[SigningKey]) {}

    fn can_sign_tokens(&self) -> bool {
        true
    }
}

/// What a store has told.
#[derive(Debug, Default)]
pub struct Recorder {
    free: AtomicU64,
    status_indexes: Mutex<(u32, u32)>,
    min_iat: AtomicI64,
    audited: Mutex<Vec<String>>,
    failed: Mutex<Vec<&'static str>>,
    changes: Mutex<Vec<ViewChange>>,
}

impl Recorder {
    /// The bytes that the disk had left at the last look.
    pub fn free_bytes(&self) -> u64 {
        self.free.load(Ordering::SeqCst)
    }

    /// Open status lists, and free indexes in them.
    pub fn status_indexes(&self) -> (u32, u32) {
        *self.status_indexes.lock()
    }

    /// As of the last load.
    pub fn min_iat(&self) -> i64 {
        self.min_iat.load(Ordering::SeqCst)
    }

    /// The types of the events that were committed since the last call.
    pub fn take_audited(&self) -> Vec<String> {
        std::mem::take(&mut *self.audited.lock())
    }

    /// The operations that failed since the last call.
    pub fn take_failed(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.failed.lock())
    }

    /// The changes of revocations since the last load or call.
    pub fn take_changes(&self) -> Vec<ViewChange> {
        std::mem::take(&mut *self.changes.lock())
    }
}

impl StoreObserver for Recorder {
    fn failed(&self, operation: &'static str) {
        self.failed.lock().push(operation);
    }

    fn audit_write_took(&self, _duration: Duration) {}

    fn audited(&self, event_types: &[&str]) {
        self.audited
            .lock()
            .extend(event_types.iter().map(|text| (*text).to_owned()));
    }

    fn trail_takes(&self, _bytes: i64, _segments: i64) {}

    fn restored(&self, _rule: &'static str) {}

    fn disk_free(&self, bytes: u64) {
        self.free.store(bytes, Ordering::SeqCst);
    }

    fn status_indexes(&self, lists: u32, free: u32) {
        *self.status_indexes.lock() = (lists, free);
    }
}

/// A load that hands all it has taken to `done`.
pub fn gathered<'a>(done: impl FnOnce(Vec<ViewChange>) + Send + 'a) -> Box<dyn RevocationLoad + 'a> {
    Box::new(Gathered {
        changes: Vec::new(),
        done,
    })
}

struct Gathered<F> {
    changes: Vec<ViewChange>,
    done: F,
}

impl<F: FnOnce(Vec<ViewChange>) + Send> RevocationLoad for Gathered<F> {
    fn take(&mut self, change: ViewChange) {
        self.changes.push(change);
    }

    fn done(self: Box<Self>) {
        (self.done)(self.changes);
    }
}

impl RevocationListener for Recorder {
    fn load(&self, min_iat: UnixSeconds) -> Box<dyn RevocationLoad + '_> {
        gathered(move |changes| {
            self.min_iat.store(min_iat.get(), Ordering::SeqCst);
            *self.changes.lock() = changes;
        })
    }

    fn changed(&self, changes: Vec<ViewChange>) {
        self.changes.lock().extend(changes);
    }
}

/// Lets every denial pass but those of the address 192.0.2.1.
#[derive(Debug, Clone, Copy)]
pub struct OpenGate;

impl DenialGate for OpenGate {
    fn admits(&self, asker: Asker<'_>) -> bool {
        !matches!(asker, Asker::Source(address) if address == std::net::IpAddr::from([192, 0, 2, 1]))
    }

    fn feeds(&self, _pod_uid: &PodUid) -> bool {
        true
    }
}

/// Counts up, for all stores of the process: no two of them get the same bytes.
#[derive(Debug, Clone, Copy)]
pub struct Counter;

impl Entropy for Counter {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let next = NEXT.fetch_add(1, Ordering::SeqCst).to_be_bytes();
        for (byte, from) in buffer
            .iter_mut()
            .rev()
            .zip(next.iter().rev().chain(std::iter::repeat(&0)))
        {
            *byte = *from;
        }
        Ok(())
    }
}

/// Surroundings whose clock stands at [`START`], with the clock and the recorder to look at.
pub fn surroundings() -> (Surroundings, Arc<ManualClock>, Arc<Recorder>) {
    let manual = Arc::new(ManualClock::at(START));
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&manual);
    let recorder = Arc::new(Recorder::default());
    let surroundings = Surroundings {
        judging: Arc::new(JudgingClock::new(Arc::clone(&clock))),
        clock,
        entropy: Arc::new(Counter),
        signer: Arc::new(HashSigner("test")),
        observer: Arc::<Recorder>::clone(&recorder),
        revocations: Arc::<Recorder>::clone(&recorder),
        gate: Arc::new(OpenGate),
        reference: None,
        status_lists: Bounds::default(),
    };
    (surroundings, manual, recorder)
}
