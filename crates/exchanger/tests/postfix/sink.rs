//! A storage node as Postfix sees it, with doors that a test opens and closes.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

/// A storage node on loopback.
pub(crate) struct Sink {
    node: tidegate_rig::Sink,
    open: Arc<Mutex<BTreeSet<String>>>,
}

impl Sink {
    /// Starts one; everybody is held.
    pub(crate) fn start() -> Self {
        let open: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let doors = Arc::clone(&open);
        let node =
            tidegate_rig::Sink::start(move |it| doors.lock().unwrap().contains(it));
        Self { node, open }
    }

    pub(crate) fn open(&self, address: &str) {
        self.open.lock().unwrap().insert(address.to_owned());
    }

    pub(crate) fn hold(&self, address: &str) {
        self.open.lock().unwrap().remove(address);
    }
}

impl Deref for Sink {
    type Target = tidegate_rig::Sink;

    fn deref(&self) -> &tidegate_rig::Sink {
        &self.node
    }
}
