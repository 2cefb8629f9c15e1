use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;

use crate::contact::{Unreached, ask};
use crate::error::LogError;
use crate::settings::ConnectionSettings;

/// A topic as the brokers describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// Number of partitions, or why they can't be seen.
    pub partitions: Result<usize, String>,
    /// `cleanup.policy`, where it may be read.
    pub cleanup_policy: Option<String>,
    /// `retention.ms`, where it may be read; negative for ever.
    pub retention_ms: Option<i64>,
    /// `max.message.bytes`, where it may be read.
    pub max_message_bytes: Option<u64>,
}

/// What the brokers say of themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerView {
    /// `host:port` of each.
    pub brokers: Vec<String>,
    /// In the order asked for.
    pub topics: Vec<TopicView>,
}

/// Asks the brokers for these topics.
///
/// # Errors
/// When no broker answers within 15 s, with the cause where one is known.
pub async fn look(connection: &ConnectionSettings, topics: &[&str]) -> Result<BrokerView, Unreached> {
    let (_consumer, metadata) = ask(connection, None)?;
    let brokers = metadata
        .brokers()
        .iter()
        .map(|b| format!("{}:{}", b.host(), b.port()))
        .collect();
    let mut views = Vec::new();
    for name in topics {
        let partitions = match metadata.topics().iter().find(|t| t.name() == *name) {
            None => Err("there is no such topic, or it may not be seen".to_owned()),
            Some(t) => match t.error() {
                Some(error) => Err(RDKafkaErrorCode::from(error).to_string()),
                None => Ok(t.partitions().len()),
            },
        };
        views.push(TopicView {
            name: (*name).into(),
            partitions,
            cleanup_policy: None,
            retention_ms: None,
            max_message_bytes: None,
        });
    }
    describe(connection, &mut views).await;
    Ok(BrokerView { brokers, topics: views })
}

/// Fills in what may be read of the topics' settings; a right that is missing leaves them open.
async fn describe(connection: &ConnectionSettings, views: &mut [TopicView]) {
    let Ok(admin) = connection.client().create::<AdminClient<DefaultClientContext>>() else {
        return;
    };
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
    for view in views.iter_mut().filter(|v| v.partitions.is_ok()) {
        let Ok(found) = admin
            .describe_configs([&ResourceSpecifier::Topic(&view.name)], &options)
            .await
        else {
            continue;
        };
        let Some(Ok(resource)) = found.into_iter().next() else {
            continue;
        };
        let value = |key: &str| resource.get(key).and_then(|e| e.value.clone());
        view.cleanup_policy = value("cleanup.policy");
        view.retention_ms = value("retention.ms").and_then(|v| v.parse().ok());
        view.max_message_bytes = value("max.message.bytes").and_then(|v| v.parse().ok());
    }
}

/// Number of partitions of a topic.
///
/// # Errors
/// [`LogError::Unreached`] when no broker answers within 15 s, [`LogError::Broker`] when there is no such topic or it may not be seen.
pub fn partitions(connection: &ConnectionSettings, topic: &str) -> Result<u32, LogError> {
    let (consumer, _) = ask(connection, Some(topic)).map_err(LogError::Unreached)?;
    let found = crate::reader::partitions_of(&consumer, topic).map_err(|error| LogError::Broker {
        what: "the signals topic can't be seen",
        error,
    })?;
    Ok(u32::try_from(found.len()).unwrap_or(u32::MAX))
}
