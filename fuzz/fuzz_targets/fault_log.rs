//! The fault log: what is read can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rekindle_partition::FaultLog;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(log) = FaultLog::from_text(bytes) {
        assert_eq!(FaultLog::from_text(log.to_text().as_bytes()).ok(), Some(log));
    }
});
