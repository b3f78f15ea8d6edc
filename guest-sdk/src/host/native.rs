//! The stand-in for the host in native tests: it writes down what the rule says.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::layout::{Flat, Node};
use crate::report::Level;

/// One `emit`, as it crossed.
#[derive(Debug)]
pub(crate) struct Emitted {
    pub(crate) route: u32,
    pub(crate) selection: Option<Vec<u32>>,
    pub(crate) rows: u32,
    pub(crate) nodes: Vec<Node>,
    pub(crate) buffers: Vec<Vec<u8>>,
}

/// One `reject`, as it crossed.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) rows: Vec<u32>,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) retryable: bool,
}

/// What a rule said since it was last asked.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) emitted: Vec<Emitted>,
    pub(crate) rejected: Vec<Rejected>,
    pub(crate) logs: Vec<(Level, String)>,
    pub(crate) counts: BTreeMap<String, u64>,
    pub(crate) observations: Vec<(String, f64)>,
}

thread_local! {
    static SAID: RefCell<Said> = RefCell::default();
    static ASSETS: RefCell<BTreeMap<String, Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Gives this thread's rule its assets, and forgets what it said.
pub(crate) fn begin(assets: BTreeMap<String, Vec<u8>>) {
    ASSETS.set(assets);
    SAID.take();
}

/// What this thread's rule said since the last time.
pub(crate) fn take() -> Said {
    SAID.take()
}

fn say(with: impl FnOnce(&mut Said)) {
    SAID.with_borrow_mut(with);
}

pub(crate) fn emit(route: u32, selection: Option<&[u32]>, rows: u32, flat: &Flat<'_>) {
    let emitted = Emitted {
        route,
        selection: selection.map(<[u32]>::to_vec),
        rows,
        nodes: flat.nodes.clone(),
        buffers: flat.buffers.iter().map(|buffer| buffer.to_vec()).collect(),
    };
    say(|said| said.emitted.push(emitted));
}

pub(crate) fn reject(rows: &[u32], code: &str, message: &str, retryable: bool) {
    let rejected = Rejected { rows: rows.to_vec(), code: code.to_owned(), message: message.to_owned(), retryable };
    say(|said| said.rejected.push(rejected));
}

pub(crate) fn log(level: Level, message: &str) {
    say(|said| said.logs.push((level, message.to_owned())));
}

pub(crate) fn count(name: &str, delta: u64) {
    say(|said| *said.counts.entry(name.to_owned()).or_default() += delta);
}

pub(crate) fn observe(name: &str, value: f64) {
    say(|said| said.observations.push((name.to_owned(), value)));
}

/// An asset of the test.
#[derive(Debug)]
pub(crate) struct Asset(Vec<u8>);

impl Asset {
    pub(crate) fn open(name: &str) -> Option<Self> {
        ASSETS.with_borrow(|assets| assets.get(name).cloned()).map(Self)
    }

    pub(crate) fn size(&self) -> u64 {
        self.0.len() as u64
    }

    pub(crate) fn digest(&self) -> String {
        use sha2::Digest as _;
        hex::encode(sha2::Sha256::digest(&self.0))
    }

    pub(crate) fn read(&self, offset: u64, length: u32) -> Vec<u8> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let end = from.saturating_add(length as usize).min(self.0.len());
        self.0[from..end].to_vec()
    }
}
