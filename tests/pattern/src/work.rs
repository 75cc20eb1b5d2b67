//! The work: round and round over the chosen pages.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::arena::{Arena, PAGE, REGION_PAGES, Random};
use crate::args::{Args, Pattern};
use crate::touch::{self, Kind};
use crate::truth::{self, Set};

/// Hot touches for one warm touch: a hot page is touched a hundred times as often.
const HOT_FOR_WARM: usize = 33;
/// Touches between two looks at clock and counter.
const BATCH: usize = 1 << 14;
/// How often the scanned pages are scanned.
const SCAN_EVERY: Duration = Duration::from_secs(1);

/// One thread's share.
struct Share {
    arena: Arena,
    hot: Vec<(u64, Kind)>,
    warm: Vec<(u64, Kind)>,
    scanned: Vec<(u64, Kind)>,
    random: Random,
}

/// Chooses pages, writes the truth and works for ever.
///
/// # Errors
/// When memory or files cannot be had.
pub fn run(args: &Args) -> io::Result<()> {
    let arena = Arena::new(args.mb)?;
    let mut random = Random(args.seed);
    let sets = match args.pattern {
        Pattern::Mixed => mixed(&arena, &mut random),
        Pattern::Model => model(&arena, &mut random),
        Pattern::Moving => moving(&arena, &mut random),
    };
    let counters = match &args.counter {
        Some(path) => counter(path)?,
        None => Box::leak(Box::default()),
    };
    if args.pattern == Pattern::Moving {
        truth::write(&args.truth, &arena, &sets)?;
        move_on(&arena, &sets, args.phase, random, counters);
    }
    let counter = &counters[0];
    let shares = shares(&arena, &sets, args.threads, &mut random);
    truth::write(&args.truth, &arena, &sets)?;
    drop(sets);
    let workers: Vec<_> =
        shares.into_iter().map(|share| std::thread::spawn(move || share.work(counter))).collect();
    for worker in workers {
        worker.join().map_err(|_| io::Error::other("a worker ended"))?;
    }
    Ok(())
}

fn mixed(arena: &Arena, random: &mut Random) -> Vec<Set> {
    let mut pages: Vec<u64> = (0..arena.pages).collect();
    random.shuffle(&mut pages);
    let share = |percent: u64| usize::try_from(arena.pages * percent / 100).unwrap_or_default();
    let (hot, rest) = pages.split_at(share(5));
    let third = hot.len().div_ceil(3);
    let mut sets: Vec<Set> = touch::written()
        .into_iter()
        .zip(hot.chunks(third))
        .map(|(kind, pages)| Set { kind, pages: pages.to_vec() })
        .collect();
    sets.push(Set { kind: touch::warm(), pages: rest[..share(15)].to_vec() });
    sets
}

fn moving(arena: &Arena, random: &mut Random) -> Vec<Set> {
    let mut pages: Vec<u64> = (0..arena.pages).collect();
    random.shuffle(&mut pages);
    let share = usize::try_from(arena.pages / 20).unwrap_or_default();
    let kind = touch::written()[0];
    pages.chunks(share).take(3).map(|pages| Set { kind, pages: pages.to_vec() }).collect()
}

/// Works on one set after the other, for ever.
fn move_on(
    arena: &Arena,
    sets: &[Set],
    phase: Duration,
    mut random: Random,
    counters: &[AtomicU64; 3],
) -> ! {
    let hot = |set: &Set| set.pages.iter().map(|page| (*page, set.kind)).collect();
    let share = |set: &Set| Share {
        arena: *arena,
        hot: hot(set),
        warm: Vec::new(),
        scanned: Vec::new(),
        random: Random(random.next()),
    };
    let mut shares: Vec<Share> = sets.iter().map(share).collect();
    let begun = Instant::now();
    loop {
        let number = match u64::try_from(phase.as_micros()) {
            // It is told which.
            Ok(0) | Err(_) => counters[2].load(Ordering::Relaxed),
            Ok(phase) => u64::try_from(begun.elapsed().as_micros()).unwrap_or_default() / phase,
        };
        counters[1].store(number, Ordering::Relaxed);
        let at = usize::try_from(number).unwrap_or_default() % shares.len();
        let share = &mut shares[at];
        for n in 0..share.hot.len() {
            share.touch(share.hot[n]);
        }
        counters[0].fetch_add(share.hot.len() as u64, Ordering::Relaxed);
    }
}

fn model(arena: &Arena, random: &mut Random) -> Vec<Set> {
    let mut regions: Vec<u64> = (0..arena.pages / REGION_PAGES).collect();
    random.shuffle(&mut regions);
    let share = |percent: usize| (regions.len() * percent).div_ceil(100);
    let mut half_of = |chosen: &[u64]| {
        let mut pages = Vec::new();
        for region in chosen {
            let mut inside: Vec<u64> =
                (0..REGION_PAGES).map(|page| region * REGION_PAGES + page).collect();
            random.shuffle(&mut inside);
            pages.extend_from_slice(&inside[..inside.len() / 2]);
        }
        pages
    };
    let hot = half_of(&regions[..share(10)]);
    let scanned = half_of(&regions[share(10)..share(40)]);
    vec![
        Set { kind: touch::hot_read(), pages: hot },
        Set { kind: touch::scanned(), pages: scanned },
    ]
}

fn shares(arena: &Arena, sets: &[Set], threads: usize, random: &mut Random) -> Vec<Share> {
    let mut shares: Vec<Share> = (0..threads)
        .map(|_| Share {
            arena: *arena,
            hot: Vec::new(),
            warm: Vec::new(),
            scanned: Vec::new(),
            random: Random(random.next()),
        })
        .collect();
    for set in sets {
        for (n, page) in set.pages.iter().enumerate() {
            let share = &mut shares[n % threads];
            let list = match set.kind.name {
                "warm" => &mut share.warm,
                "scanned" => &mut share.scanned,
                _ => &mut share.hot,
            };
            list.push((*page, set.kind));
        }
    }
    for share in &mut shares {
        let mut order: Vec<u64> = (0..share.hot.len() as u64).collect();
        share.random.shuffle(&mut order);
        let hot = &share.hot;
        share.hot = order.iter().map(|n| hot[usize::try_from(*n).unwrap_or_default()]).collect();
    }
    shares
}

/// Three numbers in a file, mapped.
fn counter(path: &Path) -> io::Result<&'static [AtomicU64; 3]> {
    use std::os::fd::AsRawFd;
    let file =
        std::fs::File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    file.set_len(PAGE)?;
    // SAFETY: a fresh shared mapping of a file that is long enough; it is never unmapped.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the page is mapped for good and used as these atomic numbers only.
    Ok(unsafe { &*at.cast::<[AtomicU64; 3]>() })
}

impl Share {
    fn work(mut self, counter: &AtomicU64) {
        let (mut hot, mut warm) = (0, 0);
        let mut scan_at = Instant::now();
        loop {
            for n in 0..BATCH {
                hot = if hot + 1 < self.hot.len() { hot + 1 } else { 0 };
                self.touch(self.hot[hot]);
                if n % HOT_FOR_WARM == 0 && !self.warm.is_empty() {
                    warm = if warm + 1 < self.warm.len() { warm + 1 } else { 0 };
                    self.touch(self.warm[warm]);
                }
            }
            counter.fetch_add(BATCH as u64, Ordering::Relaxed);
            if !self.scanned.is_empty() && Instant::now() >= scan_at {
                scan_at = Instant::now() + SCAN_EVERY;
                for (page, kind) in &self.scanned {
                    // SAFETY: a scan reads one whole page of the arena.
                    unsafe { (kind.touch)(self.arena.at(*page, 0)) };
                }
            }
        }
    }

    #[inline]
    fn touch(&mut self, (page, kind): (u64, Kind)) {
        let offset = self.random.next() % (PAGE / 64) * 64;
        // SAFETY: the 64 bytes lie inside one page of the arena that only this thread touches.
        unsafe { (kind.touch)(self.arena.at(page, offset)) };
    }
}
