//! A log line on its way into its window: joined to its trace, masked, mined, counted, and handed to sessions and values.

use foreshock_domain::LogLine;
use foreshock_logs::{LinePlace, Miner, Showing, shows_trace, telling_line};

use super::grave::is_grave;
use super::partition::{Arrival, Context, DetectState, Scratch};
use super::window::{EXAMPLE_BYTES_MAX, TemplateTally, shorten};

/// What is mined of a line.
struct Told<'a> {
    text: &'a str,
    /// Place of its entity.
    owner: usize,
    /// The failure rule that it matched.
    rule: Option<&'a str>,
    /// It says by itself that something failed.
    grave: bool,
}

impl DetectState {
    pub(super) fn take_line(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        arrival: &Arrival<'_>,
        line: &LogLine<'_>,
    ) {
        let Some(owner) = self.owner(cx, scratch, arrival) else {
            return;
        };
        let rule = cx.config.rules.line_rule(line.level, line.message);
        let joiner = self.entities.get_mut(owner).map(|slot| &mut slot.trace);
        if joiner.is_some_and(|j| j.place(line.message, line.level, arrival.at) == LinePlace::Rest) {
            // The rest of a trace is no line of its own, but a rule may look for what it says.
            cx.counters.lines_joined += 1;
            if let (Some(tally), Some(rule)) = (self.tally(scratch, owner, arrival), rule) {
                tally.line_matched(rule, arrival.at, || cx.source.log.shown(line.message));
            }
            if shows_trace(line.message)
                && let Some(head) = self.entities.get(owner).map(|slot| slot.head)
            {
                self.note_grave(cx, arrival, owner, head);
            }
            return;
        }
        let (told, stands_for) = telling_line(line.message);
        let grave = is_grave(line, stands_for > 1);
        cx.counters.lines_joined += stands_for as u64 - 1;
        let mut masking = std::mem::take(&mut scratch.masking);
        let text = match &cx.source.log.masks {
            Some(masks) => masking.apply(masks, told),
            None => told,
        };
        self.take_told(
            cx,
            scratch,
            arrival,
            line,
            &Told {
                text,
                owner,
                rule,
                grave,
            },
        );
        scratch.masking = masking;
    }

    fn take_told(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        arrival: &Arrival<'_>,
        line: &LogLine<'_>,
        told: &Told<'_>,
    ) {
        let &Told {
            text,
            owner,
            rule,
            grave,
        } = told;
        let miner = self.miner.get_or_insert_with(|| {
            let mut miner = Box::new(Miner::new());
            cx.source.log.instruct(&mut miner);
            miner
        });
        let mined = miner.mine_from(owner as u64, text, line.level);
        // Matched lines are few, and what a template may show is told by the miner alone.
        let matched = rule.map(|rule| match cx.source.log.showing() {
            Showing::All => (rule, cx.source.log.shown(line.message)),
            Showing::Proven => (rule, miner.template(mined.id).unwrap_or_default()),
        });
        self.add_to_sessions(cx, line, arrival.at, mined.id, owner);
        cx.counters.lines += 1;
        let cap = cx.config.limits.templates_per_window;
        let Some(tally) = self.tally(scratch, owner, arrival) else {
            return;
        };
        tally.lines += 1;
        if let Some((rule, shown)) = matched {
            tally.line_matched(rule, arrival.at, || shown);
        }
        // Past the cap all further templates share one tally, so that counts still sum.
        let id = if tally.templates.len() < cap || tally.templates.contains_key(&mined.id.0) {
            mined.id.0
        } else {
            0
        };
        let template = tally.templates.entry(id).or_insert_with(|| TemplateTally {
            count: 0,
            first_seen: false,
            level: None,
            first_at: arrival.at,
            example: (cx.source.log.raw_text && id != 0).then(|| shorten(text, EXAMPLE_BYTES_MAX).into()),
            grave: false,
        });
        template.first_at = template.first_at.min(arrival.at);
        template.count = template.count.saturating_add(1);
        template.first_seen |= mined.first_seen && id != 0;
        template.level = template.level.max(line.level);
        if let Some(slot) = self.entities.get_mut(owner) {
            slot.head = id;
        }
        if grave {
            self.note_grave(cx, arrival, owner, id);
        }
        if id != 0 {
            self.take_values(cx, (arrival.start, arrival.window), owner, mined.id, text);
        }
    }
}
