//! What is normal of one template at one entity: how many lines a window with it holds, how many a stretch of
//! [`STRETCH_WINDOWS`] windows with it holds, and how long it stays away in between.
//!
//! Fails on templates whose habits follow the hour: they look irregular, so their silence is told late or never. Cost: two
//! incomplete beta functions and a histogram step per window with the template (1–2 µs), 16 additions per window without;
//! about 360 bytes. Counts are conditioned on presence, because logs come in bursts: "it came at all" is the business of
//! the gaps, and a nightly job is not news each night. Models: [`GammaPoisson`], [`LifeTable`], [`TailCalibrator`].

use foreshock_domain::{Channel, Direction, Level, Score, Timestamp, Verdict};
use foreshock_stats::{GammaPoisson, LifeTable, TailCalibrator, TailPrior};
use serde::{Deserialize, Serialize};

use crate::TemplateCount;

/// Windows of a stretch, the second scale at which counts are judged: what creeps shows there and not in a window.
pub(crate) const STRETCH_WINDOWS: u64 = 16;
/// Presences before counts are judged.
const PRESENCES_MIN: f64 = 12.0;
/// Gaps before silence is judged.
const GAPS_MIN: f32 = 16.0;
/// Windows with a template that count as its habit.
const SIZES_MEMORY: f64 = 512.0;
/// Returns of a template that count as its habit.
const GAPS_MEMORY: f32 = 2_048.0;
/// A silence of so many times the longest usual one is a template that is no longer written, and is let go.
const RETIRED: u64 = 64;
/// An oddness lasts while no window in between is below this surprise.
const ODD_SURPRISE: f64 = 1.0;

/// A model's surprise is Exp(1) in nats where the model is right.
pub(crate) const NATS: TailPrior = TailPrior {
    rate: 1.0,
    weight: 24.0,
    shape: 0.1,
    memory: 2_000,
};

/// One template's habits at one entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Occurrence {
    /// Learned windows at which the template was last seen, on the bank's clock.
    pub(crate) last_seen: u64,
    /// End of the window in which it was last seen.
    pub(crate) last_end: Timestamp,
    /// Lines so far, learned or not.
    pub(crate) lines: u64,
    /// Event time of the first of them.
    pub(crate) first_at: Timestamp,
    /// Level of its lines.
    pub(crate) level: Option<Level>,
    /// Windows it was learned from.
    pub(crate) windows: u32,
    /// Lines beyond the first of a window with the template.
    sizes: GammaPoisson,
    /// Repairs what is wrong with `sizes`.
    tail: TailCalibrator,
    /// Lines beyond the first of a stretch with the template.
    stretch_sizes: GammaPoisson,
    /// Lines in the running stretch.
    stretch_count: u32,
    gaps: LifeTable,
    odd_since: Option<Timestamp>,
}

impl Occurrence {
    /// Of a window with these lines, at `clock`; they are not learned yet.
    pub(crate) fn new(first: &TemplateCount, clock: u64, end: Timestamp) -> Self {
        Self {
            last_seen: clock,
            last_end: end,
            lines: u64::from(first.count),
            first_at: first.first_at,
            level: first.level,
            windows: 0,
            sizes: GammaPoisson::new(SIZES_MEMORY),
            tail: TailCalibrator::new(&NATS),
            stretch_sizes: GammaPoisson::new(SIZES_MEMORY),
            stretch_count: 0,
            gaps: LifeTable::new(GAPS_MEMORY),
            odd_since: None,
        }
    }

    /// Judges a window with `count` ≥ 1 lines; `None` while warming up.
    pub(crate) fn score_count(&self, count: u32) -> Option<Verdict> {
        if self.sizes.weight() < PRESENCES_MIN {
            return None;
        }
        let (nats, direction) = two_sided(&self.sizes, count);
        Some(rate_verdict(&self.sizes, count, self.tail.surprise(nats), direction))
    }

    /// Since when the template has been odd, given that it is odd now.
    pub(crate) fn onset(&self, start: Timestamp) -> Timestamp {
        self.odd_since.unwrap_or(start)
    }

    /// Notes how odd the window was that `start`s here, for the onset of what may go on.
    pub(crate) fn note(&mut self, surprise: f64, start: Timestamp) {
        self.odd_since = if surprise < ODD_SURPRISE {
            None
        } else {
            Some(self.odd_since.unwrap_or(start))
        };
    }

    /// Takes in a window with `count` ≥ 1 lines, at `clock`.
    pub(crate) fn learn(&mut self, count: u32, clock: u64, end: Timestamp) {
        if self.windows > 0 {
            self.gaps.learn(clock.saturating_sub(self.last_seen));
        }
        if self.sizes.weight() >= PRESENCES_MIN {
            self.tail.learn(two_sided(&self.sizes, count).0, 8);
        }
        self.sizes.learn(f64::from(count) - 1.0);
        self.stretch_count = self.stretch_count.saturating_add(count);
        self.windows = self.windows.saturating_add(1);
        self.last_seen = clock;
        self.last_end = end;
    }

    /// Ends the running stretch: judges and learns its count. `None` where the template stayed away or is warming up.
    pub(crate) fn close_stretch(&mut self, tail: &mut TailCalibrator) -> Option<(u32, Verdict)> {
        let count = std::mem::take(&mut self.stretch_count);
        if count == 0 {
            return None;
        }
        let verdict = (self.stretch_sizes.weight() >= PRESENCES_MIN).then(|| {
            let (nats, direction) = two_sided(&self.stretch_sizes, count);
            let verdict = rate_verdict(&self.stretch_sizes, count, tail.surprise(nats), direction);
            tail.learn(nats, 8);
            (count, verdict)
        });
        self.stretch_sizes.learn(f64::from(count) - 1.0);
        verdict
    }

    /// Judges a window without the template, at `clock`. `None` while warming up, and of what is no longer written.
    pub(crate) fn score_absence(&self, clock: u64) -> Option<Verdict> {
        let age = clock.saturating_sub(self.last_seen);
        if self.gaps.weight() < GAPS_MIN || age / RETIRED >= self.gaps.longest() {
            return None;
        }
        let surprise = -self.gaps.ln_age_tail(age) / std::f64::consts::LN_10;
        let (lower, upper) = if surprise >= ODD_SURPRISE {
            self.range()
        } else {
            (0.0, 0.0)
        };
        Some(Verdict {
            score: Score::from_surprise(surprise),
            channel: Channel::TemplateSilence,
            direction: Direction::Absence,
            actual: 0.0,
            expected: self.sizes.mean() + 1.0,
            lower,
            upper,
        })
    }

    /// Adds up the habits of two templates that turned out to be one.
    pub(crate) fn merge(&mut self, other: &Self) {
        if other.tail.seen() > self.tail.seen() {
            self.tail = other.tail.clone();
        }
        self.sizes.merge(&other.sizes);
        self.stretch_sizes.merge(&other.stretch_sizes);
        self.stretch_count = self.stretch_count.saturating_add(other.stretch_count);
        // Gaps of the union can't be known; those of the more frequent part are nearest to it.
        if other.gaps.weight() > self.gaps.weight() {
            self.gaps = other.gaps;
        }
        self.lines = self.lines.saturating_add(other.lines);
        self.first_at = self.first_at.min(other.first_at);
        self.level = self.level.max(other.level);
        self.windows = self.windows.saturating_add(other.windows);
        self.last_seen = self.last_seen.max(other.last_seen);
        self.last_end = self.last_end.max(other.last_end);
        self.odd_since = self.odd_since.max(other.odd_since);
    }

    fn range(&self) -> (f64, f64) {
        let (lower, upper) = self.sizes.range(0.01);
        (lower + 1.0, upper + 1.0)
    }
}

/// The stranger side of a count, −ln p in nats, both sides counted.
fn two_sided(sizes: &GammaPoisson, count: u32) -> (f64, Direction) {
    let beyond_first = f64::from(count) - 1.0;
    let (up, down) = (sizes.ln_upper_tail(beyond_first), sizes.ln_lower_tail(beyond_first));
    let (ln_p, direction) = if up < down {
        (up, Direction::Up)
    } else {
        (down, Direction::Down)
    };
    ((-ln_p - std::f64::consts::LN_2).max(0.0), direction)
}

fn rate_verdict(sizes: &GammaPoisson, count: u32, surprise: f64, direction: Direction) -> Verdict {
    let (lower, upper) = if surprise >= ODD_SURPRISE {
        sizes.range(0.01)
    } else {
        (0.0, 0.0)
    };
    Verdict {
        score: Score::from_surprise(surprise),
        channel: Channel::TemplateRate,
        direction,
        actual: f64::from(count),
        expected: sizes.mean() + 1.0,
        lower: lower + 1.0,
        upper: upper + 1.0,
    }
}
