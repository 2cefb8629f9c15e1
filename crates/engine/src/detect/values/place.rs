//! One variable place of a template at one entity: on trial, an amount with a model, or a set of values.

use foreshock_domain::{Learning, Timestamp, Verdict};
use foreshock_logs::{TemplateId, Unit, ValueKind, ValueSet, ValueTally, ValueTrial, part_of, position_of};
use foreshock_metrics::{Point, SeriesModel};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// One place of a template.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) place: u16,
    /// Of its signals; stays when the template merges into another.
    pub(super) id: u64,
    key: Option<Box<str>>,
    pub(super) unit: Option<Unit>,
    pub(super) role: Role,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Role {
    Trial(Box<ValueTrial>),
    Amount(Box<SeriesModel>),
    Set(ValueSet),
}

/// What a place says of a window.
pub(super) struct Told {
    pub(super) verdict: Option<(Verdict, Timestamp)>,
    pub(super) is_tested: bool,
    pub(super) is_set: bool,
    /// It was on trial and is followed from now on, or the other way round.
    pub(super) ripened: bool,
    pub(super) unripened: bool,
    /// It is of use, or may be.
    pub(super) stays: bool,
}

impl Place {
    pub(super) fn new(template: TemplateId, place: u16, first: &ValueTally) -> Self {
        Self {
            place,
            id: xxh3_64(format!("value {template} {place}").as_bytes()),
            key: first.key.clone(),
            unit: (first.numbers > 0).then_some(first.unit),
            role: Role::Trial(Box::default()),
        }
    }

    pub(super) fn is_trial(&self) -> bool {
        matches!(self.role, Role::Trial(_))
    }

    /// Judges a window, then learns it.
    pub(super) fn step(&mut self, value: &ValueTally, learning: Learning, start: Timestamp) -> Told {
        let mut told = Told {
            verdict: None,
            is_tested: false,
            is_set: matches!(self.role, Role::Set(_)),
            ripened: false,
            unripened: false,
            stays: true,
        };
        match &mut self.role {
            Role::Trial(trial) => match trial.learn(value, learning) {
                None => {}
                Some(ValueKind::Nothing) => told.stays = false,
                Some(ValueKind::Amount) => {
                    self.role = Role::Amount(Box::new(SeriesModel::new(None)));
                    told.ripened = true;
                }
                Some(ValueKind::Set) => {
                    self.role = Role::Set(std::mem::take(trial).into_set());
                    told.ripened = true;
                }
            },
            Role::Amount(model) if value.numbers > 0 => {
                let point = Point {
                    at: start,
                    value: value.mean(),
                };
                let verdict = model.score_learn_sparse(&point, learning);
                told.is_tested = verdict.is_some();
                told.verdict = verdict.map(|v| (v, model.onset().unwrap_or(start).min(start)));
            }
            Role::Amount(_) => {}
            Role::Set(set) => {
                told.is_tested = true;
                told.verdict = set.judge(&value.values).map(|v| (v, start));
                if !set.learn(&value.values, learning) {
                    self.role = Role::Trial(Box::default());
                    told.unripened = true;
                }
            }
        }
        told
    }

    /// `took (ms)`, or `value 2 (ms)` where the key may not be shown; `status=503` for a new value of a set, or `status=<?>`. The
    /// template's text says what may be shown.
    pub(super) fn name(&self, template: &str, new_value: Option<Option<&str>>) -> Box<str> {
        let position = position_of(self.place);
        let mut words = template.split(' ').skip(position.saturating_sub(1));
        let before = words.next().filter(|_| position > 0).unwrap_or_default();
        let own = if position > 0 {
            words.next()
        } else {
            template.split(' ').next()
        };
        let own = own.unwrap_or_default().strip_suffix("<*>").unwrap_or_default();
        let told = if own.is_empty() { before } else { own };
        let told = told.trim_matches(|c: char| !c.is_alphanumeric());
        let is_told =
            part_of(self.place) == 0 && !told.is_empty() && !is_hidden(if own.is_empty() { before } else { own });
        let key = match &self.key {
            _ if is_told => told.to_owned(),
            Some(key) => key.to_string(),
            None => {
                let nth = template
                    .split(' ')
                    .take(position + 1)
                    .filter(|w| w.contains("<*>"))
                    .count();
                match part_of(self.place) {
                    0 => format!("value {nth}"),
                    part => format!("value {nth}.{}", part + 1),
                }
            }
        };
        match (new_value, self.unit.map(Unit::symbol)) {
            (Some(value), _) => format!("{key}={}", value.unwrap_or("<?>")),
            (None, Some(unit)) if !unit.is_empty() => format!("{key} ({unit})"),
            (None, _) => key,
        }
        .into()
    }
}

/// Whether a word is a variable, or may not be shown.
fn is_hidden(word: &str) -> bool {
    word.contains("<*>") || word.contains("<?>")
}
