//! Sessions that are over at a window's end: judged, learned, and told once per entity.
//!
//! An entity has one p-value a window, whatever number of its sessions ended in it: Simes' (Biometrika 73, 1986), the smallest
//! over k of n times the k-th smallest p over k, which holds also where sessions are odd together, as they are. It is said of
//! the kind of oddity that most of the sessions behind it have. Fails where one odd session ends among thousands: its p is
//! then paid for by the others'.

use foreshock_domain::{Learning, Millis, Timestamp};
use foreshock_logs::{OpenSession, SessionCount, SessionModel, SessionVerdict, Sessions, TemplateId};

use super::close::{counts_of, push_tally};
use super::evidence::{evidence, session_signal};
use super::partition::{Context, DetectState};
use super::window::OpenWindow;
use crate::slots::place_u32;

/// One session of an entity that is over.
struct Over {
    entity: u32,
    first_at: Timestamp,
    verdict: SessionVerdict,
}

/// A window's sessions of one entity, reduced to one p-value.
#[derive(Debug, PartialEq)]
struct Told {
    surprise: f64,
    verdict: SessionVerdict,
    onset: Timestamp,
    /// Sessions that are odd in the same way.
    alike: u32,
}

impl DetectState {
    /// A line's part in the sessions that it names.
    pub(super) fn add_to_sessions(
        &mut self,
        cx: &Context<'_>,
        line: &foreshock_domain::LogLine<'_>,
        at: Timestamp,
        template: TemplateId,
        entity: usize,
    ) {
        let Some(rule) = &cx.source.sessions else { return };
        let open = &mut self.sessions.get_or_insert_with(Box::default).open;
        open.tick(at);
        let mut named = [0; foreshock_logs::LINE_SESSIONS_MAX];
        let mut count = 0;
        let ends = rule.ids.each(line.labels, line.message, |id| {
            if let Some(place) = named.get_mut(count) {
                *place = id;
                count += 1;
            }
        });
        for id in named.iter().take(count) {
            open.add(*id, template, at, place_u32(entity), ends);
        }
    }

    /// Judges the sessions that were over by `end`.
    pub(super) fn close_sessions(
        &mut self,
        cx: &mut Context<'_>,
        window: &mut OpenWindow,
        start: Timestamp,
        end: Timestamp,
    ) {
        let (Some(rule), Some(mut sessions), Some(miner)) = (&cx.source.sessions, self.sessions.take(), &self.miner)
        else {
            return;
        };
        let mut over = judge(&mut sessions, rule.idle_ms, self, miner, end);
        let cut = sessions.open.cut();
        cx.counters.sessions_cut += cut - std::mem::replace(&mut self.sessions_cut, cut);
        cx.counters.sessions_judged += over.len() as u64;
        self.sessions = Some(sessions);
        over.sort_by_key(|o| o.entity);
        for of_entity in over.chunk_by(|a, b| a.entity == b.entity) {
            let Some(told) = simes(of_entity) else { continue };
            let entity = of_entity.first().map_or(u32::MAX, |o| o.entity);
            self.tell_session(cx, window, entity as usize, &told, start);
        }
    }

    /// Judges what an entity wrote in one window as one session, where lines name none.
    pub(super) fn close_window_session(
        model: &mut SessionModel,
        counts: &[foreshock_logs::TemplateCount],
        learning: Learning,
        session: &mut Vec<SessionCount>,
    ) -> Option<SessionVerdict> {
        session.clear();
        session.extend(counts.iter().map(|c| SessionCount {
            id: c.id,
            count: c.count,
        }));
        model.score_learn(session, learning)
    }

    fn tell_session(
        &mut self,
        cx: &Context<'_>,
        window: &mut OpenWindow,
        entity: usize,
        told: &Told,
        start: Timestamp,
    ) {
        let index = start.as_millis().div_euclid(cx.config.windows.width_ms);
        let Some(slot) = self.entities.get(entity) else { return };
        // One that wrote nothing in the window may have been given a tally for a silence.
        let tallied = || window.entities.iter().position(|t| t.entity == place_u32(entity));
        let cell = window.entity_cell(&self.entity_cells, entity, index).or_else(tallied);
        let is_odd = told.surprise >= cx.config.alarms.gate;
        if cell.is_none() && !is_odd {
            return;
        }
        let cell = cell.unwrap_or_else(|| push_tally(window, entity, self.last_offset));
        let Some(tally) = window.entities.get_mut(cell) else {
            return;
        };
        tally.tested += 1;
        if is_odd {
            let mut verdict = told.verdict;
            verdict.verdict.score = foreshock_domain::Score::from_surprise(told.surprise);
            let Some(miner) = &self.miner else { return };
            let mut counts = counts_of(tally).collect();
            miner.canonicalise(&mut counts);
            let past = slot.templates.as_ref().map(|bank| bank.past(verdict.id, &counts));
            let past = past.unwrap_or_default();
            let log = evidence(miner, verdict.id, told.alike, past, Some(tally));
            tally.signals.push(session_signal(&verdict, log, told.onset.min(start)));
        }
    }
}

/// Sessions that were over by `end`, as far as there is a verdict on them.
fn judge(
    sessions: &mut Sessions,
    idle: Millis,
    state: &DetectState,
    miner: &foreshock_logs::Miner,
    end: Timestamp,
) -> Vec<Over> {
    let mut over = Vec::new();
    // Inside a failure of anyone who wrote a line of it nothing is learned.
    let fails = |source: u32, since: Timestamp| {
        let slot = state.entities.get(source as usize);
        slot.is_some_and(|slot| since < slot.paused_until)
    };
    let learning = |session: &OpenSession| {
        let is_paused = session.counts.iter().any(|c| fails(c.source, session.first_at));
        if is_paused { Learning::Paused } else { Learning::Normal }
    };
    sessions.close(end, idle, miner, learning, |session, verdict| {
        let Some(verdict) = verdict else { return };
        over.push(Over {
            entity: session.source_of(verdict.id, |id| miner.canonical(id)),
            first_at: session.first_at,
            verdict,
        });
    });
    over
}

fn simes(over: &[Over]) -> Option<Told> {
    let mut by_surprise: Vec<&Over> = over.iter().collect();
    by_surprise.sort_by(|a, b| {
        let (a, b) = (a.verdict.score().surprise(), b.verdict.score().surprise());
        b.total_cmp(&a)
    });
    let n = by_surprise.len() as f64;
    let paid = |(k, over): (usize, &&Over)| over.verdict.score().surprise() + ((k + 1) as f64 / n).log10();
    let surprises = by_surprise.iter().enumerate().map(paid);
    let (behind, surprise) = surprises
        .enumerate()
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(k, surprise)| (k + 1, surprise.max(0.0)))?;
    let behind = by_surprise.get(..behind)?;
    let kind = |over: &Over| (over.verdict.oddity, over.verdict.id);
    let alike = |one: &Over| behind.iter().filter(|other| kind(other) == kind(one)).count();
    // Of kinds equally frequent, the one with the strangest session; at most some hundred are counted.
    let named = behind.iter().take(256).rev().max_by_key(|over| alike(over))?;
    let onset = behind
        .iter()
        .filter(|o| kind(o) == kind(named))
        .map(|o| o.first_at)
        .min()?;
    Some(Told {
        surprise,
        verdict: named.verdict,
        onset,
        alike: u32::try_from(alike(named)).unwrap_or(u32::MAX),
    })
}

#[cfg(test)]
mod tests {
    use foreshock_domain::{Channel, Direction, Score, Verdict};
    use foreshock_logs::SessionOddity;

    use super::*;

    fn over(surprise: f64, id: u64) -> Over {
        Over {
            entity: 0,
            first_at: Timestamp::from_secs(id as i64),
            verdict: SessionVerdict {
                oddity: SessionOddity::Rare,
                id: TemplateId(id),
                rejected: false,
                verdict: Verdict {
                    score: Score::from_surprise(surprise),
                    channel: Channel::Session,
                    direction: Direction::Pattern,
                    actual: 1.0,
                    expected: 0.0,
                    lower: 0.0,
                    upper: 0.0,
                },
            },
        }
    }

    #[test]
    fn one_session_is_what_it_is() {
        let told = simes(&[over(3.5, 1)]).unwrap();
        assert!((told.surprise - 3.5).abs() < 1e-12 && told.alike == 1);
        assert_eq!(simes(&[]), None);
    }

    #[test]
    fn one_odd_session_of_a_thousand_is_none_and_fifty_are() {
        let quiet = || (0..950).map(|_| over(0.1, 9));
        let one: Vec<Over> = quiet().chain([over(3.0, 1)]).collect();
        assert!(simes(&one).unwrap().surprise < 0.2);
        let fifty: Vec<Over> = quiet()
            .chain((0..50).map(|i| over(4.0, 1 + u64::from(i % 3 == 0))))
            .collect();
        let told = simes(&fifty).unwrap();
        assert!((told.surprise - (4.0 - 20_f64.log10())).abs() < 1e-9, "{told:?}");
        assert_eq!((told.verdict.id.0, told.alike), (1, 33));
    }
}
