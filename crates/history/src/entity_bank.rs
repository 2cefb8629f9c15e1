//! The models of one entity whose metrics come row by row: each series' own, and the one that looks at all together.

use foreshock_domain::{Detector, Learning, SeriesId, Timestamp};
use foreshock_metrics::{EntityAnswer, EntityModel, Point, SeriesModel, SeriesValue};
use foreshock_stats::harmonic_mean_surprise;

/// One entity.
pub struct EntityBank {
    singles: Vec<SeriesModel>,
    model: EntityModel,
    row: Vec<SeriesValue>,
    answer: EntityAnswer,
    surprises: Vec<f64>,
    novelties: Vec<f64>,
}

/// What a row is worth, in surprise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowScore {
    /// How unusual or new it is.
    pub score: f64,
    /// How new it is: events open on this.
    pub novelty: f64,
}

impl EntityBank {
    /// An entity of this many series that has seen nothing.
    #[must_use]
    pub fn new(series: usize) -> Self {
        Self {
            singles: (0..series).map(|_| SeriesModel::new(None)).collect(),
            model: EntityModel::new(),
            row: Vec::with_capacity(series),
            answer: EntityAnswer::default(),
            surprises: vec![0.0; series],
            novelties: vec![0.0; series],
        }
    }

    /// Scores a row, then learns it; `values` in the order of the series, non-finite ones missing, and what lies beyond the
    /// series left out. The surprises of the series, and those of their relations, count half each in a harmonic mean; `None`
    /// while nothing could be scored.
    pub fn step(&mut self, at: Timestamp, values: &[f64]) -> Option<RowScore> {
        self.row.clear();
        let mut tested = 0u32;
        for (i, (&value, single)) in values.iter().zip(&mut self.singles).enumerate() {
            let verdict = single.score_learn(&Point { at, value }, Learning::Normal);
            tested += u32::from(verdict.is_some());
            self.surprises[i] = verdict.map_or(0.0, |v| v.score.surprise());
            self.novelties[i] = single.novelty().surprise();
            let series = SeriesId(i as u64);
            self.row.push(SeriesValue { series, value });
        }
        // One series has no relations, and knows its own levels.
        if self.singles.len() > 1 {
            self.model
                .score_learn(at, &self.row, Learning::Normal, &mut self.answer);
        }
        for explained in &self.answer.explained {
            let place = usize::try_from(explained.series.0).ok();
            let Some(place) = place.filter(|&i| i < self.singles.len()) else {
                continue;
            };
            let surprise = explained.verdict.score.surprise();
            self.surprises[place] = surprise;
            // What a known regime explains is no news.
            self.novelties[place] = self.novelties[place].min(surprise);
        }
        let correlation = self.answer.correlation.map(|s| s.surprise());
        (tested > 0).then(|| RowScore {
            score: combined(&self.surprises, tested, correlation),
            novelty: combined(&self.novelties, tested, correlation),
        })
    }

    /// Surprise of each series in the last row; against the baseline of the regime where that explains the series.
    #[must_use]
    pub fn surprises(&self) -> &[f64] {
        &self.surprises
    }

    /// What was said of relations and regimes in the last row.
    #[must_use]
    pub fn answer(&self) -> &EntityAnswer {
        &self.answer
    }

    /// Series.
    #[must_use]
    pub fn len(&self) -> usize {
        self.singles.len()
    }

    /// Whether there are no series.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.singles.is_empty()
    }
}

/// Two questions, half the weight each however many series there are: does any of the `tested` series look odd, and do
/// their relations hold?
fn combined(series: &[f64], tested: u32, relations: Option<f64>) -> f64 {
    let listed = series.iter().copied().filter(|&s| s > 0.0);
    if tested == 1 && relations.is_none() {
        return listed.fold(0.0, f64::max);
    }
    let together = harmonic_mean_surprise(listed, tested);
    relations.map_or(together, |relations| {
        harmonic_mean_surprise([together, relations].into_iter(), 2)
    })
}
