use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// A flag that Ctrl-C raises, so that a command ends cleanly with what it has done. A second Ctrl-C ends at once.
#[must_use]
pub fn flag() -> Arc<AtomicBool> {
    let raised = Arc::new(AtomicBool::new(false));
    let raise = Arc::clone(&raised);
    thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            return;
        };
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            raise.store(true, Ordering::Relaxed);
        }
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            // As a shell reports a process that SIGINT ended.
            std::process::exit(130);
        }
    });
    raised
}
