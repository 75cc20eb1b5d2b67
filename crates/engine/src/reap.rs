//! An ended program keeps its pid until its parent has taken its exit status (wait(2)). A resume
//! that finds the pid in use gives the program a pid namespace of its own; so whoever has to be
//! waited for is waited for, a moment.

use std::time::{Duration, Instant};

use process::{Instance, LineIdentity};
use sys::proc::{ProcDir, Stat, parse_stat};

use crate::events::Observer;
use crate::phase::{Stopped, Watch};

/// How long a parent has. One that lets its children lie has done so for good reason, or for
/// none, and is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often is looked: the kernel tells nobody that a process was reaped before Linux 6.9.
const LOOK: Duration = Duration::from_millis(2);

/// Waits until the pid of the run that `instance` shows is free, if that run has ended, nothing
/// but its pid is left, and init is the one to free it: some inits only look now and then. Any
/// other parent had its time when the program was ended.
///
/// # Errors
/// When the verb is to end now.
pub(crate) fn before_a_resume(
    instance: &Instance,
    observer: &dyn Observer,
    watch: &Watch,
) -> Result<(), Stopped> {
    let line = &instance.line;
    // A pid inside of another namespace says nothing here.
    let is_ours = crate::host::own_pid_namespace() == Some(line.pid_namespace)
        && crate::host::boot_id().is_some_and(|boot| boot == line.boot_id)
        && instance.groups.iter().any(|group| group.pid == line.pid);
    if !is_ours || zombie(line).is_none_or(|zombie| zombie.ppid != INIT) {
        return Ok(());
    }
    after_the_end(line, observer, watch)
}

/// The first process of a pid namespace; every orphan is its child.
const INIT: i32 = 1;

/// Waits until the pid of `line`, which was just ended, is free: whoever started it has to take
/// its exit status.
///
/// # Errors
/// When the verb is to end now.
pub(crate) fn after_the_end(
    line: &LineIdentity,
    observer: &dyn Observer,
    watch: &Watch,
) -> Result<(), Stopped> {
    let begun = Instant::now();
    let mut told = false;
    while let Some(zombie) = zombie(line) {
        watch.check()?;
        let (pid, parent) = (line.pid, name(zombie.ppid));
        if begun.elapsed() > PATIENCE {
            observer.warn(&format!(
                "{parent} has not taken the exit status of process {pid}: while it does not, the \
                 pid is in use, and a resume gets a pid namespace of its own"
            ));
            return Ok(());
        }
        // Most do it at once.
        if !told && begun.elapsed() > SILENT {
            observer.warn(&format!(
                "process {pid} has ended, and {parent} has not taken its exit status yet: \
                 waiting {} s at most for the pid to be free",
                PATIENCE.as_secs()
            ));
            told = true;
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// How long nothing is said.
const SILENT: Duration = Duration::from_millis(100);

/// What is left of the run, when that is a zombie.
fn zombie(line: &LineIdentity) -> Option<Stat> {
    let dir = ProcDir::open(line.pid).ok()?;
    let stat = dir.parse("stat", &mut Vec::new(), parse_stat).ok()?;
    let is_the_run = stat.start_time_ticks == line.start_time_ticks;
    (is_the_run && sys::proc::running_since(line.pid).is_none()).then_some(stat)
}

fn name(pid: i32) -> String {
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("process {pid} ({})", comm.trim_end())
}
