//! The plan file: what is read is a plan that can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rekindle_plan::Planned;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(planned) = Planned::from_file(bytes) {
        let again = planned.to_file().map(|file| Planned::from_file(&file));
        assert!(matches!(again, Ok(Ok(again)) if again == planned));
    }
});
