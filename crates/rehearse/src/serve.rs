//! Faults of the clone are answered: the thread that does nothing else.

use std::sync::atomic::{AtomicBool, Ordering};

use sys::userfault::{Event, Message};

use crate::RehearseError;
use crate::pages::Pages;

/// How long it may take until the end is seen.
const LOOK_MS: i32 = 20;

/// Puts pages in place as the clone touches them, until `over`.
pub(crate) fn serve(pages: &Pages, over: &AtomicBool) -> Result<(), RehearseError> {
    let mut messages = [Message::default(); 16];
    while !over.load(Ordering::Relaxed) {
        if !pages.userfault.wait(LOOK_MS)? {
            continue;
        }
        let count = pages.userfault.read(&mut messages)?;
        for message in &messages[..count] {
            if let Event::Fault(fault) = message.event() {
                pages.fault(fault.address.page(), fault.write)?;
            }
        }
    }
    Ok(())
}
