use std::collections::BTreeMap;

use foreshock_domain::{EntityWindow, Learning, Score, SeriesId, Signal, Source, Timestamp};
use foreshock_metrics::{ENTITY_SERIES_MAX, EntityAnswer, EntityModel, SeriesValue};
use serde::{Deserialize, Serialize};

/// Culprits of a broken relation are named down to this share.
const LEAST_SHARE: f64 = 0.1;

/// The model of an entity's series together, fed by the vectors of all its input partitions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Joint {
    /// `None` until two series came in one window.
    model: Option<Box<EntityModel>>,
    /// Names of the series the model knows, as far as they came.
    names: BTreeMap<SeriesId, Box<str>>,
    /// End of the last window it took.
    taken: Timestamp,
}

/// What a window's signals come to in the light of the model.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// One test each: against the regime's baseline where that explains the series; a broken relation by its first culprit.
    pub(crate) signals: Vec<Signal>,
    /// Further culprits of the broken relation, whose surprise is counted already.
    pub(crate) culprits: Vec<Signal>,
    /// Tests that the model added.
    pub(crate) tested: u32,
}

impl Joint {
    /// Scores the windows of one end, then learns them. A window that comes after a later one is only passed on.
    pub(crate) fn judge(&mut self, windows: &[EntityWindow], signals: &[Signal], gate: f64) -> Judged {
        let mut judged = Judged {
            signals: signals.to_vec(),
            ..Judged::default()
        };
        let Some((start, end)) = windows.first().map(|w| (w.start, w.end)) else {
            return judged;
        };
        let values: Vec<SeriesValue> = windows
            .iter()
            .flat_map(|w| &w.vector)
            .map(|entry| SeriesValue {
                series: entry.series,
                value: f64::from(entry.value),
            })
            .collect();
        if end <= self.taken || values.is_empty() || (values.len() < 2 && self.model.is_none()) {
            return judged;
        }
        self.taken = end;
        let model = self.model.get_or_insert_default();
        let mut answer = EntityAnswer::default();
        model.score_learn(start, &values, Learning::Normal, &mut answer);
        let onset = model.onset().unwrap_or(start).min(start);
        self.learn_names(windows);
        self.replace_explained(&answer, &mut judged.signals, start, gate);
        if let Some(score) = answer.correlation {
            judged.tested = 1;
            if score.surprise() >= gate {
                self.name_culprits(&answer, &mut judged, onset);
            }
        }
        judged
    }

    fn learn_names(&mut self, windows: &[EntityWindow]) {
        for entry in windows.iter().flat_map(|w| &w.vector) {
            if let Some(name) = &entry.name
                && self.names.get(&entry.series) != Some(name)
            {
                self.names.insert(entry.series, name.clone());
            }
        }
        // Those of series that lost their slot go.
        if self.names.len() > ENTITY_SERIES_MAX
            && let Some(model) = &self.model
        {
            let known: Vec<SeriesId> = model.series().collect();
            self.names.retain(|id, _| known.contains(id));
        }
    }

    fn name(&self, series: SeriesId) -> Box<str> {
        let name = self.names.get(&series).cloned();
        name.unwrap_or_else(|| series.to_string().into())
    }

    fn signal(&self, series: SeriesId, verdict: foreshock_domain::Verdict, onset: Timestamp) -> Signal {
        Signal {
            source: Source::Metric,
            id: series.to_string().into(),
            name: self.name(series),
            unit: None,
            verdict,
            onset,
            log: None,
            share: None,
        }
    }

    /// A series whose level the regime explains is as odd as it is for that regime.
    fn replace_explained(&self, answer: &EntityAnswer, signals: &mut Vec<Signal>, start: Timestamp, gate: f64) {
        for explained in &answer.explained {
            let id = explained.series.to_string();
            let known = signals.iter().position(|s| s.source == Source::Metric && *s.id == *id);
            let is_odd = explained.verdict.score.surprise() >= gate;
            match known {
                Some(place) if is_odd => signals[place].verdict = explained.verdict,
                Some(place) => {
                    signals.remove(place);
                }
                None if is_odd => signals.push(self.signal(explained.series, explained.verdict, start)),
                None => {}
            }
        }
    }

    fn name_culprits(&self, answer: &EntityAnswer, judged: &mut Judged, onset: Timestamp) {
        let Some(most) = answer.shares.first().map(|s| s.share) else {
            return;
        };
        for share in answer
            .shares
            .iter()
            .filter(|s| s.share >= LEAST_SHARE || s.share >= most)
        {
            let mut signal = self.signal(share.series, share.verdict, onset);
            signal.share = Some(share.share);
            if judged.culprits.is_empty() && share.share >= most {
                judged.signals.push(signal.clone());
            }
            // In proportion, so that they stand in the order of their shares.
            let surprise = share.verdict.score.surprise() * share.share / most;
            signal.verdict.score = Score::from_surprise(surprise);
            judged.culprits.push(signal);
        }
        if !judged.culprits.is_empty() {
            judged.culprits.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use foreshock_domain::{Channel, Entity, SourcePosition, Upstream, VectorEntry};

    use super::*;

    /// Five series that follow one wave; series 2 leaves it where `broken`.
    fn window(i: i64, broken: bool) -> EntityWindow {
        let wave = |k: i64| ((k * 7_919) % 101) as f32 / 10.0;
        let entry = |s: u64| VectorEntry {
            series: SeriesId(s),
            value: 50.0
                + if broken && s == 2 { wave(i * 3 + 50) } else { wave(i) }
                + ((i * 31 + s as i64 * 17) % 13) as f32 / 20.0,
            name: (i == 0).then(|| format!("series_{s}").into()),
        };
        EntityWindow {
            entity: Entity::new("web-1"),
            start: Timestamp::from_secs(i * 10),
            end: Timestamp::from_secs(i * 10 + 10),
            position: SourcePosition {
                upstream: Upstream {
                    topic: "metrics".into(),
                    partition: 0,
                },
                offset_first: i,
                offset_last: i,
            },
            samples: 5,
            lines: 0,
            tested: 5,
            signals: vec![],
            facts: vec![],
            vector: (0..5).map(entry).collect(),
            templates: Vec::new(),
        }
    }

    #[test]
    fn a_broken_relation_names_its_culprit_and_share() {
        let mut joint = Joint::default();
        for i in 0..400 {
            let judged = joint.judge(&[window(i, false)], &[], 3.0);
            assert_eq!(judged.tested, u32::from(i >= 64), "row {i}");
        }
        let broken: Vec<Judged> = (400..430).map(|i| joint.judge(&[window(i, true)], &[], 3.0)).collect();
        let told = broken.iter().flat_map(|j| &j.signals).next().expect("it is found");
        assert_eq!(told.channel(), Channel::Correlation);
        assert_eq!(&*told.name, "series_2");
        assert!(told.share.is_some_and(|s| s > 0.3), "{:?}", told.share);
        assert!(
            broken
                .iter()
                .flat_map(|j| &j.culprits)
                .all(|c| c.score() <= told.score() || c.share < told.share)
        );
    }

    #[test]
    fn windows_by_case() {
        let mut joint = Joint::default();
        assert_eq!(joint.judge(&[], &[], 3.0).tested, 0);
        let mut without = window(0, false);
        without.vector.clear();
        joint.judge(&[without], &[], 3.0);
        assert!(joint.model.is_none(), "nothing came");
        for i in 0..100 {
            joint.judge(&[window(i, false)], &[], 3.0);
        }
        let rows = joint.model.as_ref().map(|m| m.rows());
        joint.judge(&[window(50, false)], &[], 3.0);
        assert_eq!(
            joint.model.as_ref().map(|m| m.rows()),
            rows,
            "late windows are not learned"
        );
    }
}
