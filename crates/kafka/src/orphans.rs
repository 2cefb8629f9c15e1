//! Partitions of the group that no member has.
//!
//! Partitions change hands in two steps: a first rebalance takes them from one member, and when that one has let go of them it asks for
//! a second, which gives them to another. Where it ends or begins anew between the two, the brokers give it its place back by its name,
//! without a rebalance, and nobody asks any more: the group looks well, and these partitions are read by nobody. So every member
//! looks now and then whether all is given out, and if it is not, has the group share out anew.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use crate::member::Member;
use crate::reader::{Quiet, partitions_of};
use crate::settings::LogSettings;

/// Between two looks. What two of them find is not on its way to somebody: that takes a few seconds.
const EVERY: Duration = Duration::from_secs(5);
const LOOK_MAX: Duration = Duration::from_secs(5);
/// All members look. The first in the order of names acts at the second look, the others where it does not.
const OTHERS_AFTER: u32 = 4;
/// For a rebalance, which waits for every member.
const KNOCK_MAX: Duration = Duration::from_secs(30);
/// What asking did not mend is not mended by asking more often.
const QUIET_AFTER: Duration = Duration::from_secs(60);

type Partition = (String, i32);

/// Looks on a thread of its own, until it is dropped.
pub(crate) struct Orphans {
    _stop: mpsc::Sender<()>,
}

/// What a look found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    orphans: BTreeSet<Partition>,
    members: BTreeSet<String>,
}

impl Orphans {
    /// `repairs` counts what it did about them.
    pub(crate) fn watch(
        settings: &LogSettings,
        consumer: &Arc<BaseConsumer<Member>>,
        repairs: Arc<AtomicU64>,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let (settings, consumer) = (settings.clone(), Arc::downgrade(consumer));
        thread::Builder::new()
            .name("orphans".into())
            .spawn(move || watch(&settings, &consumer, &stopped, &repairs))?;
        Ok(Self { _stop: stop })
    }
}

fn watch(
    settings: &LogSettings,
    consumer: &Weak<BaseConsumer<Member>>,
    stopped: &mpsc::Receiver<()>,
    repairs: &AtomicU64,
) {
    let (mut before, mut looks, mut pause) = (Found::default(), 0, EVERY);
    while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        pause = EVERY;
        let Some(consumer) = consumer.upgrade() else { return };
        let found = look(&consumer, settings);
        drop(consumer);
        let now = found.unwrap_or_else(|error| {
            tracing::debug!(%error, "the group can't be looked at");
            Found::default()
        });
        looks = if now == before { looks + 1 } else { 1 };
        before = now;
        if acts(&before, looks, &settings.instance) {
            tracing::warn!(
                partitions = ?before.orphans,
                advice = "nothing: a member ended while partitions changed hands, and the group is asked to share them out anew",
                "partitions that no member of the group has"
            );
            repairs.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = knock(settings) {
                tracing::warn!(%error, "the group can't be asked to share out anew");
            }
            (before, looks, pause) = (Found::default(), 0, QUIET_AFTER);
        }
    }
}

fn acts(found: &Found, looks: u32, instance: &str) -> bool {
    // Brokers begin the id of a member with its name.
    let is_first = found.members.first().is_some_and(|id| id.starts_with(instance));
    !found.orphans.is_empty() && looks >= if is_first { 2 } else { OTHERS_AFTER }
}

/// What the group has not given to anybody, if it is settled.
fn look(consumer: &BaseConsumer<Member>, settings: &LogSettings) -> Result<Found, KafkaError> {
    let list = consumer.fetch_group_list(Some(&settings.group), LOOK_MAX)?;
    let is_settled = |state: &str| state == "Stable";
    let Some(group) = list
        .groups()
        .iter()
        .find(|g| g.name() == settings.group && is_settled(g.state()))
    else {
        return Ok(Found::default());
    };
    let topics = &settings.topics;
    let mut found = Found::default();
    for topic in topics.inputs.iter().chain([&topics.signals]) {
        let partitions = partitions_of(consumer, topic)?;
        found.orphans.extend(partitions.into_iter().map(|p| (topic.clone(), p)));
    }
    for member in group.members() {
        found.members.insert(member.id().to_owned());
        // Whose words are not understood might have all there is.
        let Some(has) = member.assignment().and_then(assigned) else {
            return Ok(Found::default());
        };
        found.orphans.retain(|partition| !has.contains(partition));
    }
    Ok(found)
}

/// What a member was given, in the words of Kafka's consumers: a version, topics with their partitions, and what does not matter here.
fn assigned(bytes: &[u8]) -> Option<BTreeSet<Partition>> {
    let mut rest = bytes;
    let mut take = |n: usize| {
        let (taken, left) = rest.split_at_checked(n)?;
        rest = left;
        Some(taken)
    };
    let mut all = BTreeSet::new();
    take(2)?;
    let topics = i32::from_be_bytes(take(4)?.try_into().ok()?);
    for _ in 0..topics {
        let length = i16::from_be_bytes(take(2)?.try_into().ok()?);
        let topic = std::str::from_utf8(take(usize::try_from(length).ok()?)?).ok()?;
        let partitions = i32::from_be_bytes(take(4)?.try_into().ok()?);
        for _ in 0..partitions {
            all.insert((topic.to_owned(), i32::from_be_bytes(take(4)?.try_into().ok()?)));
        }
    }
    Some(all)
}

/// Joins the group under no name, and leaves it: the only thing that always makes it share out anew. It asks for the state topic, which
/// no member wants, so it takes nothing from them.
fn knock(settings: &LogSettings) -> Result<(), KafkaError> {
    let mut config = settings.connection.client();
    config
        .set("group.id", &settings.group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", settings.session_timeout.as_millis().to_string())
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "latest");
    let consumer: BaseConsumer<Quiet> = config.create_with_context(Quiet)?;
    consumer.subscribe(&[&settings.topics.state])?;
    let until = Instant::now() + KNOCK_MAX;
    while consumer.assignment()?.count() == 0 && Instant::now() < until {
        drop(consumer.poll(Duration::from_millis(100)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_member_has_is_read_and_nonsense_is_nothing() {
        let mut bytes = vec![0, 1, 0, 0, 0, 2, 0, 1, b'a', 0, 0, 0, 2];
        bytes.extend([0, 0, 0, 7, 0, 0, 0, 8]);
        bytes.extend([0, 2, b'b', b'c', 0, 0, 0, 0]);
        let expected = BTreeSet::from([("a".to_owned(), 7), ("a".to_owned(), 8)]);
        assert_eq!(assigned(&bytes), Some(expected.clone()));
        let with_words = [&bytes[..], &[0, 0, 0, 0]].concat();
        assert_eq!(assigned(&with_words), Some(expected));
        for end in 0..bytes.len() {
            assert_eq!(assigned(&bytes[..end]), None, "cut at {end}");
        }
        assert_eq!(assigned(&[0, 0, 0, 0, 0, 1, 0xff, 0xff]), None);
        assert_eq!(assigned(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn the_first_acts_at_the_second_look_and_the_others_where_it_does_not() {
        let found = |orphans: &[i32]| Found {
            orphans: orphans.iter().map(|p| ("t".to_owned(), *p)).collect(),
            members: ["a-1".to_owned(), "b-2".to_owned()].into(),
        };
        assert!(!acts(&found(&[3]), 1, "a"));
        assert!(acts(&found(&[3]), 2, "a"));
        assert!(!acts(&found(&[3]), 3, "b"));
        assert!(acts(&found(&[3]), 4, "b"));
        assert!(!acts(&found(&[]), 9, "a"));
    }
}
