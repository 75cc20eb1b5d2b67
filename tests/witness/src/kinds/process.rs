//! What belongs to the process as a whole.

use crate::flaw::Outcome;
use crate::kind::{Context, Kind, Pass};
use crate::{ensure, no_variant, raw, same, sys};
use std::collections::BTreeMap;

/// A picture of attributes that must stay as it is; the sabotage changes one of them for real.
struct Picture {
    expected: Option<BTreeMap<String, String>>,
    take: fn() -> Outcome<BTreeMap<String, String>>,
    spoil: fn(&str) -> Outcome,
}

impl Picture {
    fn boxed(
        take: fn() -> Outcome<BTreeMap<String, String>>,
        spoil: fn(&str) -> Outcome,
    ) -> Outcome<Box<dyn Kind>> {
        // The picture is taken at the first check: kinds set up later may add to it.
        Ok(Box::new(Self { expected: None, take, spoil }))
    }
}

impl Kind for Picture {
    fn check(&mut self) -> Outcome<Pass> {
        let found = (self.take)()?;
        let expected = self.expected.get_or_insert_with(|| found.clone());
        for (name, value) in expected.iter() {
            same!(name, Some(value), found.get(name));
        }
        same!("number of attributes", expected.len(), found.len());
        Ok(Pass::Whole)
    }

    fn sabotage(&mut self, variant: &str) -> Outcome {
        (self.spoil)(variant)
    }
}

/// The umask, as /proc/self/status shows it: reading it by system call means setting it.
fn umask() -> Outcome<String> {
    let status = raw::read_text("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("Umask:"));
    Ok(line.unwrap_or("no umask in /proc/self/status").to_owned())
}

/// Working directory, root and umask.
pub fn directory(context: &Context) -> Outcome<Box<dyn Kind>> {
    let inside = context.dir.join("inside");
    std::fs::create_dir_all(&inside)?;
    std::env::set_current_dir(&inside)?;
    // SAFETY: takes no pointers.
    unsafe { libc::umask(0o137) };
    let take = || {
        Ok(BTreeMap::from([
            ("working directory".into(), raw::link("/proc/self/cwd")?),
            ("getcwd".into(), std::env::current_dir()?.display().to_string()),
            ("root".into(), raw::link("/proc/self/root")?),
            ("umask".into(), umask()?),
        ]))
    };
    let spoil = |variant: &str| {
        match variant {
            "directory" => std::env::set_current_dir("/")?,
            "umask" => {
                // SAFETY: takes no pointers.
                unsafe { libc::umask(0o022) };
            }
            _ => no_variant!(variant),
        }
        Ok(())
    };
    Picture::boxed(take, spoil)
}

const LIMITS: u32 = 16;

/// Resource limits, soft and hard.
pub fn limits(_context: &Context) -> Outcome<Box<dyn Kind>> {
    lower(libc::RLIMIT_NOFILE, 913)?;
    lower(libc::RLIMIT_CORE, 4096)?;
    lower(libc::RLIMIT_MSGQUEUE, 500_000)?;
    let take = || {
        let mut all = BTreeMap::new();
        for resource in 0..LIMITS {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            sys!(libc::getrlimit(resource, &mut limit))?;
            let value = format!("{} {}", limit.rlim_cur, limit.rlim_max);
            all.insert(format!("resource limit {resource}"), value);
        }
        Ok(all)
    };
    let spoil = |variant: &str| match variant {
        "soft" => lower(libc::RLIMIT_NOFILE, 912),
        "core" => lower(libc::RLIMIT_CORE, 0),
        _ => no_variant!(variant),
    };
    Picture::boxed(take, spoil)
}

fn lower(resource: u32, soft: u64) -> Outcome {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    sys!(libc::getrlimit(resource, &mut limit))?;
    limit.rlim_cur = soft.min(limit.rlim_max);
    sys!(libc::setrlimit(resource, &limit))?;
    Ok(())
}

const PERSONALITY: u64 = 0x0040000;
const SCORE: &str = "/proc/self/oom_score_adj";

/// Flags of the process: dumpable, no_new_privs, personality, subreaper and the like.
pub fn flags(_context: &Context) -> Outcome<Box<dyn Kind>> {
    sys!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
    sys!(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))?;
    sys!(libc::prctl(libc::PR_SET_THP_DISABLE, 0, 0, 0, 0))?;
    sys!(libc::personality(PERSONALITY))?;
    std::fs::write(SCORE, "123")?;
    let take = || {
        let mut all = BTreeMap::new();
        for (name, option) in [
            ("dumpable", libc::PR_GET_DUMPABLE),
            ("no_new_privs", libc::PR_GET_NO_NEW_PRIVS),
            ("keep capabilities", libc::PR_GET_KEEPCAPS),
            ("securebits", libc::PR_GET_SECUREBITS),
            ("huge pages off", libc::PR_GET_THP_DISABLE),
        ] {
            all.insert(name.to_owned(), sys!(libc::prctl(option, 0, 0, 0, 0))?.to_string());
        }
        let mut subreaper = 0i32;
        sys!(libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &mut subreaper))?;
        all.insert("child subreaper".into(), subreaper.to_string());
        let personality = sys!(libc::personality(0xffff_ffff))?;
        all.insert("personality".into(), format!("{personality:#x}"));
        all.insert("oom_score_adj".into(), raw::read_text(SCORE)?);
        Ok(all)
    };
    let spoil = |variant: &str| {
        match variant {
            "securebits" => drop(sys!(libc::prctl(libc::PR_SET_SECUREBITS, 1, 0, 0, 0))?),
            "dumpable" => drop(sys!(libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0))?),
            "subreaper" => drop(sys!(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0))?),
            "personality" => drop(sys!(libc::personality(0))?),
            "oom" => std::fs::write(SCORE, "124")?,
            "huge-pages" => drop(sys!(libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0))?),
            _ => no_variant!(variant),
        }
        Ok(())
    };
    Picture::boxed(take, spoil)
}

const FILTER: &str = "/proc/self/coredump_filter";

/// Which memory a core dump would hold: flags of the address space.
pub fn core_dump_filter(_context: &Context) -> Outcome<Box<dyn Kind>> {
    std::fs::write(FILTER, "0x73")?;
    let take = || Ok(BTreeMap::from([("core dump filter".to_owned(), raw::read_text(FILTER)?)]));
    let spoil = |variant: &str| {
        match variant {
            "changed" => std::fs::write(FILTER, "0x33")?,
            _ => no_variant!(variant),
        }
        Ok(())
    };
    Picture::boxed(take, spoil)
}

/// Ids, groups, capabilities of every thread, namespaces and cgroup.
pub fn credentials(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let take = || {
        let mut all = BTreeMap::new();
        let own = identity(&raw::read_text("/proc/self/status")?);
        for entry in std::fs::read_dir("/proc/self/task")?.flatten() {
            // A thread of `churn` may end meanwhile.
            if let Ok(text) = std::fs::read_to_string(entry.path().join("status")) {
                same!(format!("ids of {}", entry.path().display()), own, identity(&text));
            }
        }
        all.insert("ids and capabilities".to_owned(), own);
        // A pid that is taken needs pid and mount namespaces, another boot a time namespace: they
        // are reported by whoever resumes, the others must stay.
        for name in ["cgroup", "ipc", "net", "user", "uts"] {
            let link = raw::link(&format!("/proc/self/ns/{name}"))?;
            all.insert(format!("{name} namespace"), link);
        }
        all.insert("cgroup".into(), raw::read_text("/proc/self/cgroup")?);
        Ok(all)
    };
    let spoil = |variant: &str| {
        match variant {
            // Of the calling thread alone, by the system call itself.
            "thread-group" => {
                let group = 4242u32;
                sys!(libc::syscall(libc::SYS_setgroups, 1, &group))?;
            }
            "bounding" => drop(sys!(libc::prctl(libc::PR_CAPBSET_DROP, 25, 0, 0, 0))?),
            "namespace" => drop(sys!(libc::unshare(libc::CLONE_NEWUTS))?),
            _ => no_variant!(variant),
        }
        Ok(())
    };
    Picture::boxed(take, spoil)
}

const IDENTITY: [&str; 13] = [
    "Uid:",
    "Gid:",
    "Groups:",
    "CapInh:",
    "CapPrm:",
    "CapEff:",
    "CapBnd:",
    "CapAmb:",
    "NoNewPrivs:",
    "Seccomp:",
    "Seccomp_filters:",
    "Umask:",
    "THP_enabled:",
];

fn identity(status: &str) -> String {
    let wanted = |line: &&str| IDENTITY.iter().any(|name| line.starts_with(name));
    // The umask is another kind's.
    let lines = status.lines().filter(wanted).filter(|line| !line.starts_with("Umask"));
    lines.collect::<Vec<_>>().join("; ")
}

/// What /proc shows of the address space: program, arguments, environment, auxiliary vector.
pub fn image(_context: &Context) -> Outcome<Box<dyn Kind>> {
    let take = || {
        let mut all = BTreeMap::new();
        all.insert("program".to_owned(), raw::link("/proc/self/exe")?);
        for name in ["cmdline", "environ", "auxv"] {
            let bytes = raw::read_bytes(&format!("/proc/self/{name}"))?;
            all.insert(name.into(), format!("{bytes:x?}"));
        }
        let stat = raw::read_text("/proc/self/stat")?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
        // Fields 26-28 and 45-51 of proc(5): code, stack, data, break, arguments, environment.
        for field in [26, 27, 28, 45, 46, 47, 48, 49, 50, 51] {
            let value = fields.get(field - 3).copied().unwrap_or("missing");
            all.insert(format!("field {field} of stat"), value.to_owned());
        }
        Ok(all)
    };
    let spoil = |variant: &str| {
        match variant {
            "arguments" => {
                let stat = raw::read_text("/proc/self/stat")?;
                let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
                let start: usize = fields[48 - 3].parse().unwrap_or(0);
                ensure!(start != 0, "stat names no arguments");
                // SAFETY: the kernel named this address; it holds the first argument.
                unsafe { *(start as *mut u8) ^= 1 };
            }
            _ => no_variant!(variant),
        }
        Ok(())
    };
    Picture::boxed(take, spoil)
}
