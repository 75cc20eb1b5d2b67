//! Does an instance fit this host? Every mismatch at once, before anything is started.
//!
//! Each part looks at one kind of thing and adds what does not fit. A part that cannot look
//! (a file of `/proc` that is not readable) says so as a mismatch: it never assumes.

mod clocks;
mod cpu;
mod files;
mod host;
mod rights;
mod running;
mod sockets;
mod state;

use mem::PageCount;
use process::{AddressSpace, Credentials, Instance, TaskGroup};

use crate::caller::Caller;
use crate::request::parts;
use crate::{Mismatch, MismatchKind, Options};

pub use host::vdso_hash;

/// What every part needs to know, and where it puts what it found.
struct Check<'a> {
    instance: &'a Instance,
    group: &'a TaskGroup,
    space: &'a AddressSpace,
    credentials: &'a Credentials,
    options: &'a Options,
    caller: Caller,
    /// Whether the instance was captured since this host was started.
    same_boot: bool,
    found: Vec<Mismatch>,
}

impl Check<'_> {
    /// Adds a mismatch.
    fn add(
        &mut self,
        kind: MismatchKind,
        object: impl Into<String>,
        cause: impl Into<String>,
        lift: impl Into<String>,
    ) {
        let (object, cause, lift) = (object.into(), cause.into(), lift.into());
        let mismatch = Mismatch { kind, object, cause, lift };
        if !self.found.contains(&mismatch) {
            self.found.push(mismatch);
        }
    }
}

/// Compares `instance`, whose pages with content are `memory` many, with this host. Starts and
/// changes nothing; every mismatch is listed, an empty list means [`build`](crate::build) may be
/// tried.
pub fn check(instance: &Instance, memory: PageCount, options: &Options) -> Vec<Mismatch> {
    let mismatch = |object: &str, cause: String| Mismatch {
        kind: MismatchKind::State,
        object: object.to_owned(),
        cause,
        lift: String::new(),
    };
    let Some((group, space, credentials)) = parts(instance) else {
        return vec![mismatch("the instance", "it has no complete process".to_owned())];
    };
    let caller = match Caller::read() {
        Ok(caller) => caller,
        Err(cause) => return vec![mismatch("this process", format!("cannot be read: {cause}"))],
    };
    let same_boot = sys::proc::boot_id().is_ok_and(|id| id == instance.host.boot_id);
    let mut check = Check {
        instance,
        group,
        space,
        credentials,
        options,
        caller,
        same_boot,
        found: Vec::new(),
    };
    check.state();
    check.cpu();
    check.host(memory);
    check.running();
    check.clocks();
    check.namespaces();
    check.files();
    check.sockets();
    check.rights();
    check.found
}
