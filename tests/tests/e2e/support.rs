//! Helpers that several tests use.

use std::sync::atomic::{AtomicBool, Ordering};

use secgroup_tests::Secgroup;

/// The state of the first attached interface, as `status` reports it.
pub(crate) fn interface_state(secgroup: &Secgroup<'_>) -> String {
    let status = secgroup.json("status");
    status["NetworkInterfaces"][0]["State"].as_str().unwrap().to_owned()
}

/// Stops the threads that poll a flag when it is dropped, so also when the test panics.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
