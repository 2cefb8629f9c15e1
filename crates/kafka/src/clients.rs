use rdkafka::consumer::BaseConsumer;
use rdkafka::producer::{DefaultProducerContext, ThreadedProducer};

use crate::error::LogError;
use crate::member::{Hooks, Member};
use crate::settings::{Delivery, LogSettings};
use crate::tally::Lag;

/// A transaction that a killed process left is aborted by the brokers after this long, and its readers wait so long.
const TRANSACTION_TIMEOUT_MS: &str = "15000";

pub(crate) type Writer = ThreadedProducer<DefaultProducerContext>;

pub(crate) fn producer(settings: &LogSettings) -> Result<Writer, LogError> {
    let mut config = settings.connection.client();
    config
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("compression.type", "lz4")
        .set("message.max.bytes", "4194304");
    if settings.delivery == Delivery::ExactlyOnce {
        config
            .set("transactional.id", format!("{}-{}", settings.group, settings.instance))
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS);
    }
    config.create().map_err(LogError::Setup)
}

pub(crate) fn consumer(settings: &LogSettings, lag: Lag, hooks: Hooks) -> Result<BaseConsumer<Member>, LogError> {
    let mut config = settings.connection.client();
    let session_ms = settings.session_timeout.as_millis();
    config
        .set("group.id", &settings.group)
        .set("group.instance.id", &settings.instance)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("session.timeout.ms", session_ms.to_string())
        .set("heartbeat.interval.ms", (session_ms / 4).max(1).to_string())
        // Restoring a large partition happens inside one poll.
        .set("max.poll.interval.ms", session_ms.max(1_800_000).to_string())
        .set("fetch.wait.max.ms", "100")
        .set("fetch.queue.backoff.ms", "20")
        .set("queued.max.messages.kbytes", "65536")
        .set("statistics.interval.ms", "5000");
    config
        .create_with_context(Member::new(settings.clone(), lag, hooks))
        .map_err(LogError::Setup)
}
