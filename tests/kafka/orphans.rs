//! Partitions that nobody has: their owner had to give them back, and began anew before the group was asked to give them to another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use crate::broker::Broker;
use crate::deployment::Deployment;
use crate::topics::Topics;

const PATIENCE: Duration = Duration::from_secs(120);
const INPUTS: i32 = 4;
/// Of the input and of the signals.
const ALL: usize = 6;

/// A member that takes what it is given. The first time it is to give something back it stops in the middle of it, if it `stalls`.
struct Member {
    stalls: bool,
    stalled: AtomicBool,
}

impl ClientContext for Member {}

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            consumer.incremental_assign(list).unwrap();
        } else if self.stalls {
            self.stalled.store(true, Ordering::Relaxed);
        } else {
            consumer.incremental_unassign(list).unwrap();
        }
    }
}

#[test]
fn partitions_that_nobody_has_are_shared_out_anew() {
    let Some(broker) = Broker::shared() else { return };
    let topics = Topics::new(broker, "orphans");
    let input = topics.create("metrics", INPUTS, &[]);
    let source = format!("[[source]]\ntopic = \"{input}\"\nformat = \"plain_json\"\n");
    let deployment = Deployment::new(broker, &topics, "of", &source);
    let subscribed = [&*input, &*deployment.topic("signals")];
    let member = |stalls: bool| -> BaseConsumer<Member> {
        let mut config = broker.client();
        config
            .set("group.id", deployment.group())
            .set("group.instance.id", "other")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "1000")
            .set("enable.auto.commit", "false");
        let consumer: BaseConsumer<Member> = config
            .create_with_context(Member {
                stalls,
                stalled: AtomicBool::new(false),
            })
            .unwrap();
        consumer.subscribe(&subscribed).unwrap();
        consumer
    };
    let until = Instant::now() + PATIENCE;
    let poll_until = |consumer: &BaseConsumer<Member>, what: &str, is_so: &dyn Fn() -> bool| {
        while !is_so() {
            drop(consumer.poll(Duration::from_millis(50)));
            assert!(Instant::now() < until, "{what}");
        }
    };
    let count = |consumer: &BaseConsumer<Member>| consumer.assignment().unwrap().count();
    let first = member(true);
    poll_until(&first, "it has all", &|| count(&first) == ALL);
    let process = deployment.launch("one");
    poll_until(&first, "it is to give some back", &|| {
        first.context().stalled.load(Ordering::Relaxed)
    });
    // It stops before it has let go of them, and comes back by its name, as after a crash.
    let second = member(false);
    poll_until(&second, "its place waited for it", &|| count(&second) > 0);
    let kept = count(&second);
    assert!(kept < ALL, "{kept}");
    // It is not dropped: the client would wait for its answer to what it was to give back.
    std::mem::forget(first);
    let owned = || process.metric("foreshock_owned_partitions").unwrap_or(0.0) as usize;
    poll_until(&second, "the rest goes to the other", &|| owned() == ALL - kept);
    let log = process.stderr();
    assert!(log.contains("partitions that no member of the group has"), "{log}");
    assert!(process.metric("foreshock_group_repairs_total") >= Some(1.0));
    assert_eq!(count(&second), kept, "and nothing is taken from it");
    assert!(process.terminate(Duration::from_secs(30)).success());
}
