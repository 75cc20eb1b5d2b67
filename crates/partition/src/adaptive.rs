//! The default policy: thresholds by expected cost.

use plan::{Planned, Thresholds, Tier, Treatment};

use crate::builder::{Builder, Decision};
use crate::odds::{Odds, classes};
use crate::treat::hottest;
use crate::walk::{Faulted, Piece, Walker};
use crate::{Input, Kind, Policy};

/// Chooses the thresholds itself.
///
/// A page is critical when loading it before the start costs less than a fault times the
/// probability that it is touched before the first answer. It is warm when streaming it costs
/// less than a fault times the probability that it is touched in the first seconds, as long as
/// two thirds of the pages so loaded are expected to be used. The thresholds are then raised
/// until critical is the smallest tier and cold the largest, as far as heat tells pages apart.
/// A page keeps its tier of the previous plan unless its heat is clearly on the other side.
#[derive(Clone, Copy, Debug, Default)]
pub struct Adaptive;

/// Pages that come in the order in which they were missed. Those missed later come with others of
/// their tier: each would be an extent of its own for a little order, and what has to be done with
/// a plan while the program stands still grows with its extents.
const ORDERED_PAGES: u32 = 4096;
/// Streaming a page competes with faults for disk and processor: it counts this many times.
const INTERFERENCE: f64 = 4.0;
/// Share of the pages loaded ahead that should be used in the first seconds.
const USED_SHARE: f64 = 2.0 / 3.0;
/// A page more likely than this to be used in the first seconds is not made cold for order's
/// sake.
const SOON_KEPT: f64 = 0.5;
/// A page more likely than this to be used before the first answer stays critical.
const EARLY_KEPT: f64 = 0.9;
/// How far heat has to be on the other side of a threshold for a page to change its tier: about
/// a quarter.
const HYSTERESIS_CLASSES: usize = classes::PER_OCTAVE / 3;

impl Policy for Adaptive {
    fn name(&self) -> &'static str {
        "adaptive"
    }

    fn plan(&self, input: &Input<'_>) -> Planned {
        let walker = Walker::new(input);
        let odds = Odds::new(input, &walker);
        let mut builder = Builder::new(input);
        let cuts = choose(input, &walker, &odds);
        let mut reasons = Reasons::default();
        walker.walk(|piece| {
            let probability = odds.probability(piece);
            let class = classes::of(probability);
            let tier = cuts.tier(piece, class);
            let (class, missed) = match piece.faulted {
                Some(missed) if missed.order >= ORDERED_PAGES => {
                    let others = classes::of(odds.unless_missed(piece));
                    let is_alike = cuts.tier(piece, others) == tier;
                    if is_alike { (others, None) } else { (class, Some(missed)) }
                }
                missed => (class, missed),
            };
            let reason = reasons.of(piece, class, missed.is_some(), &mut builder);
            let priority = priority(class, tier, missed);
            builder.add(piece, Decision { tier, priority, reason, probability });
        });
        let thresholds = Thresholds {
            warm: odds.count(classes::floor(cuts.warm)),
            critical: odds.count(classes::floor(cuts.critical)),
        };
        builder.finish(self.name(), thresholds, &odds)
    }
}

/// The classes at which tiers begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cuts {
    critical: usize,
    warm: usize,
}

impl Cuts {
    fn tier(self, piece: &Piece<'_>, class: usize) -> Tier {
        let limit = hottest(piece);
        if piece.seed.is_some() && limit == Tier::Critical {
            return Tier::Critical;
        }
        let moved = |cut: usize, was_above: bool| match piece.previous {
            None => cut,
            Some(_) if was_above => cut.saturating_sub(HYSTERESIS_CLASSES),
            Some(_) => cut.saturating_add(HYSTERESIS_CLASSES).min(classes::COUNT - 1).max(cut),
        };
        let was_critical = piece.previous == Some(Tier::Critical);
        let was_kept = was_critical || piece.previous == Some(Tier::Warm);
        let tier = if class >= moved(self.critical, was_critical) {
            Tier::Critical
        } else if class >= moved(self.warm, was_kept) {
            Tier::Warm
        } else {
            Tier::Cold
        };
        tier.max(limit)
    }
}

/// Pages by class, apart by how hot they may be.
struct Histogram {
    /// Pages that may have any tier.
    free: Vec<u64>,
    /// Pages that may at most be warm.
    streamed: Vec<u64>,
    /// Pages that are cold in any case.
    cold: u64,
    /// Pages that are critical in any case.
    critical: u64,
}

impl Histogram {
    fn new(walker: &Walker<'_>, odds: &Odds) -> Self {
        let empty = || vec![0u64; classes::COUNT];
        let mut all = Self { free: empty(), streamed: empty(), cold: 0, critical: 0 };
        walker.walk(|piece| {
            let pages = piece.pages.count().0;
            let class = classes::of(odds.probability(piece));
            match hottest(piece) {
                Tier::Cold => all.cold += pages,
                Tier::Warm => all.streamed[class] += pages,
                Tier::Critical if piece.seed.is_some() => all.critical += pages,
                Tier::Critical => all.free[class] += pages,
            }
        });
        all
    }

    /// Pages in critical, warm and cold.
    fn sizes(&self, cuts: Cuts) -> [u64; 3] {
        let above =
            |counts: &[u64], cut: usize| counts[cut.min(counts.len())..].iter().sum::<u64>();
        let critical = self.critical + above(&self.free, cuts.critical);
        let kept = above(&self.free, cuts.warm) + above(&self.streamed, cuts.warm);
        let warm = kept + self.critical - critical;
        let all = self.cold + self.critical + above(&self.free, 0) + above(&self.streamed, 0);
        [critical, warm, all - critical - warm]
    }
}

fn choose(input: &Input<'_>, walker: &Walker<'_>, odds: &Odds) -> Cuts {
    let costs = input.costs;
    let histogram = Histogram::new(walker, odds);
    let page_us = |treatment| costs.load_us(treatment, 1 << 20) / 256.0;
    let soonest =
        page_us(Treatment::Raw).min(page_us(Treatment::Lz4)).min(page_us(Treatment::Zstd));
    let streamed_us = page_us(Treatment::Zstd) * INTERFERENCE;
    let fault_us = costs.stall_us(Treatment::Zstd).max(1.0);
    let critical = classes::of(odds.for_early((soonest / fault_us).min(EARLY_KEPT)));
    let warm = classes::of(odds.for_soon((streamed_us / fault_us).min(SOON_KEPT)));
    let warm = warm.max(useful(&histogram, odds)).max(affordable(input, &histogram));
    order(&histogram, odds, Cuts { critical: critical.max(warm), warm })
}

/// The lowest class down to which enough of the pages are expected to be used.
fn useful(histogram: &Histogram, odds: &Odds) -> usize {
    let (mut pages, mut used) = (histogram.critical as f64, histogram.critical as f64);
    let keep = classes::of(odds.for_soon(USED_SHARE));
    for class in (0..keep).rev() {
        let count = (histogram.free[class] + histogram.streamed[class]) as f64;
        if class + 1 == keep {
            // Above it every class is used often enough by itself.
            for above in keep..classes::COUNT {
                let count = (histogram.free[above] + histogram.streamed[above]) as f64;
                pages += count;
                used += count * odds.soon(classes::floor(above));
            }
        }
        pages += count;
        used += count * odds.soon(classes::floor(class));
        if count > 0.0 && used < pages * USED_SHARE {
            return class + 1;
        }
    }
    0
}

/// The lowest class down to which the pages fit into the budget of bytes.
fn affordable(input: &Input<'_>, histogram: &Histogram) -> usize {
    let Some(budget) = input.budget.stored_bytes else { return 0 };
    let stored = |pages: u64| input.costs.stored(Treatment::Zstd, pages.saturating_mul(4096));
    let mut pages = histogram.critical;
    for class in (0..classes::COUNT).rev() {
        pages += histogram.free[class];
        if stored(pages) > budget {
            return class + 1;
        }
    }
    0
}

/// Raises the cuts until critical is the smallest tier and cold the largest, or until that would
/// take pages out of a tier in which they clearly belong.
fn order(histogram: &Histogram, odds: &Odds, mut cuts: Cuts) -> Cuts {
    let warm_max = classes::of(odds.for_soon(SOON_KEPT));
    let critical_max = classes::of(odds.for_early(EARLY_KEPT));
    loop {
        let [critical, warm, cold] = histogram.sizes(cuts);
        if critical > warm && cuts.critical < critical_max {
            cuts.critical += 1;
        } else if warm > cold && cuts.warm < warm_max.min(cuts.critical) {
            cuts.warm += 1;
        } else {
            return cuts;
        }
    }
}

/// Missed pages come in the order in which they were missed, the others by heat.
fn priority(class: usize, tier: Tier, missed: Option<Faulted>) -> u32 {
    const FAULTS_TOGETHER: u32 = 64;
    const BEHIND_FAULTS: u32 = 1 << 24;
    let colder = u32::try_from(classes::COUNT - class).unwrap_or(u32::MAX);
    match (tier, missed) {
        (Tier::Cold, _) => colder / 64,
        (_, Some(missed)) => (missed.order / FAULTS_TOGETHER).min(BEHIND_FAULTS - 1),
        (_, None) => BEHIND_FAULTS + colder / 16,
    }
}

/// Reasons, each made once.
#[derive(Default)]
struct Reasons {
    by_heat: std::collections::HashMap<(Kind, usize, bool, bool), u32>,
    by_seed: std::collections::HashMap<usize, u32>,
    /// The newest one: neighbours mostly have the same.
    last: Option<((Kind, usize, bool, bool), u32)>,
}

impl Reasons {
    fn of(
        &mut self,
        piece: &Piece<'_>,
        class: usize,
        is_missed: bool,
        builder: &mut Builder<'_>,
    ) -> u32 {
        if let Some(seed) = piece.seed {
            // Seeds share few texts; the text's address tells them apart.
            let address = seed.as_ptr().addr();
            return *self
                .by_seed
                .entry(address)
                .or_insert_with(|| builder.reason(std::sync::Arc::clone(seed)));
        }
        let octave = class / classes::PER_OCTAVE;
        let known = piece.heat.access_count.is_some();
        let key = (piece.region.kind, octave, known, is_missed);
        if let Some((last, reason)) = self.last
            && last == key
        {
            return reason;
        }
        let reason = *self.by_heat.entry(key).or_insert_with(|| builder.reason(text(key)));
        self.last = Some((key, reason));
        reason
    }
}

fn text((kind, octave, known, faulted): (Kind, usize, bool, bool)) -> String {
    let odds = classes::floor((octave + 1) * classes::PER_OCTAVE);
    let one_in = crate::costs::whole(1.0 / odds.max(1e-9)).max(1);
    let kind = match kind {
        Kind::Stack => "stack",
        Kind::Tls => "thread-local storage",
        Kind::Heap => "heap",
        Kind::Anonymous => "small anonymous mapping",
        Kind::LargeAnonymous => "large anonymous mapping",
        Kind::FileData => "data of a program or library",
        Kind::Code => "code",
        Kind::File => "file mapping",
        Kind::Shared => "shared object",
        Kind::Other => "memory of no known kind",
    };
    let how = match (known, faulted) {
        (_, true) => "missed by an earlier resume",
        (true, false) => "seen",
        (false, false) => "never seen, judged by its like",
    };
    format!("{kind}, {how}: touched in about 1 of {one_in} intervals")
}
