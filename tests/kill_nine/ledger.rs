//! The books of the backend: every execution, with what identified it.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::common::backend::{Act, Backend, Recorded, answer, reset_after_reading};
use forebay::cli::demo::workbook;

/// A request that was read whole and not refused: it may have been executed.
#[derive(Debug, Clone)]
pub(crate) struct Execution {
    /// Its target, which is its key.
    pub(crate) key: String,
    pub(crate) forebay_id: Option<String>,
    pub(crate) attempt: Option<u32>,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) body: (usize, u32),
    /// Whether the sender was told 200.
    pub(crate) confirmed: bool,
}

/// Every execution, in order.
pub(crate) struct Ledger {
    executions: Mutex<Vec<Execution>>,
    replayed: watch::Sender<u64>,
    random: Mutex<fastrand::Rng>,
    /// One request in so many is answered 500, one is reset after it was read, and one is refused with 503.
    trouble_one_in: u32,
}

impl Ledger {
    pub(crate) fn new(seed: u64, trouble_one_in: u32) -> Arc<Self> {
        let random = Mutex::new(fastrand::Rng::with_seed(seed));
        Arc::new(Self { executions: Mutex::default(), replayed: watch::Sender::new(0), random, trouble_one_in })
    }

    /// From now on this backend keeps this ledger.
    pub(crate) fn keep_at(self: &Arc<Self>, backend: &Backend) {
        let ledger = Arc::clone(self);
        backend.otherwise(move |request| ledger.execute(request));
    }

    pub(crate) fn executions(&self) -> Vec<Execution> {
        self.executions.lock().unwrap().clone()
    }

    /// Number of executions of what came from the queue.
    pub(crate) fn replayed(&self) -> watch::Receiver<u64> {
        self.replayed.subscribe()
    }

    fn execute(&self, request: &Recorded) -> Act {
        if request.method != "POST" {
            return answer(200, &[], "well");
        }
        let body = &request.body.content[..];
        if request.target.ends_with("/upload") {
            // What arrives is read as the spreadsheet that it is.
            workbook::read(body).unwrap();
        }
        let trouble = self.random.lock().unwrap().u32(0..self.trouble_one_in);
        if trouble == 0 {
            return answer(503, &["Retry-After: 0"], "not now");
        }
        let field = |name| request.field(name).map(str::to_owned);
        self.executions.lock().unwrap().push(Execution {
            key: request.target.clone(),
            forebay_id: field("forebay-id"),
            attempt: request.field("forebay-attempt").map(|attempt| attempt.parse().unwrap()),
            idempotency_key: field("idempotency-key"),
            body: (body.len(), crc32fast::hash(body)),
            confirmed: trouble > 2,
        });
        self.replayed.send_modify(|count| *count += u64::from(request.field("forebay-attempt").is_some()));
        match trouble {
            1 => answer(500, &[], "failed halfway"),
            2 => reset_after_reading(),
            _ => answer(200, &[], "done"),
        }
    }
}
