use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::contact::Unreached;
use crate::rights::Rights;
use crate::state::StateError;

/// Why the log ended before its time. What was committed stands; build a new one.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The brokers gave this member's or producer's name to a newer one. That may be another process of the same instance name;
    /// but they also say so when a transaction took too long, or when the coordinator died in the middle of a rebalance. Which it is
    /// shows when it comes again at once.
    #[error(
        "the brokers know a newer member of this name: another process runs as this instance, or this one stood still ({0})"
    )]
    Fenced(KafkaError),
    /// A setting that the client refuses.
    #[error("the Kafka client can't be set up: {0}")]
    Setup(KafkaError),
    /// No broker answers, or none lets this program in.
    #[error(transparent)]
    Unreached(Unreached),
    /// Rights are missing. Never empty.
    #[error("the brokers deny {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Denied(Vec<Rights>),
    /// Brokers, rights or topics.
    #[error("{what}: {error}")]
    Broker {
        /// What was tried.
        what: &'static str,
        /// What the client says.
        error: KafkaError,
    },
    /// A snapshot could not be packed.
    #[error("a snapshot can't be written: {0}")]
    Snapshot(std::io::Error),
    /// The system gives no thread.
    #[error("no thread can be started: {0}")]
    Thread(std::io::Error),
    /// Stored state that this program must not touch.
    #[error("{0}")]
    State(StateError),
}

impl LogError {
    /// Whether the brokers deny a right.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        match self {
            Self::Denied(_) => true,
            Self::Broker { error, .. } => is_denied(error),
            _ => false,
        }
    }

    /// What whoever runs the service can do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        use RDKafkaErrorCode as Code;
        let code = match self {
            Self::Fenced(_) => return "nothing, if it is rare; otherwise give each process its own `instance` name",
            Self::Setup(_) => return "see `foreshock check`",
            Self::Thread(_) => return "raise the limits of processes and memory",
            Self::Snapshot(_) => return "nothing; if it comes again, report it",
            Self::Unreached(unreached) => return unreached.cause.help(),
            Self::Denied(_) => return "give this user its rights; `foreshock check --acls` prints the commands",
            Self::State(_) => return "upgrade this instance, or delete the records that are named",
            Self::Broker { error, .. } => error.rdkafka_error_code(),
        };
        match code {
            Some(
                Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::MessageTimedOut
                | Code::RequestTimedOut
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::LeaderNotAvailable
                | Code::NotEnoughReplicas
                | Code::NotEnoughReplicasAfterAppend,
            ) => {
                "look whether the brokers run and can be reached at `[kafka] brokers`; it is tried again until they can"
            }
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition) => {
                "create the topic; `foreshock check` prints the command"
            }
            Some(
                Code::Authentication
                | Code::SaslAuthenticationFailed
                | Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::TransactionalIdAuthorizationFailed,
            ) => "give this user its rights; `foreshock check` says which are missing",
            _ => "nothing, if it is rare: it is mended by beginning again",
        }
    }
}

impl From<StateError> for LogError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Kafka(error) => broker("partitions can't be taken up")(error),
            newer @ StateError::Newer { .. } => Self::State(newer),
        }
    }
}

/// Whether an error says that a right is missing: waiting does not mend it.
pub(crate) fn is_denied(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
        )
    )
}

/// Whether an error tells of a batch that can't be read. It comes again twice a second for as long as its partition stands before the
/// batch, which is found and told of by the standstill.
pub(crate) fn is_unreadable(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::BadCompression | RDKafkaErrorCode::BadMessage)
    )
}

/// Of a call that failed.
pub(crate) fn broker(what: &'static str) -> impl Fn(KafkaError) -> LogError {
    move |error| fatal(what, error, None)
}

/// As [`broker`]. `cause` is what the client has against all that is asked of it: of calls after that it says no more than that it is
/// over. Who does not count that it was fenced would outlast whoever came later under its name.
pub(crate) fn fatal(what: &'static str, error: KafkaError, cause: Option<RDKafkaErrorCode>) -> LogError {
    let is_fenced = |code| {
        use RDKafkaErrorCode::{Fenced, FencedInstanceId, ProducerFenced};
        matches!(code, Fenced | FencedInstanceId | ProducerFenced)
    };
    if error.rdkafka_error_code().into_iter().chain(cause).any(is_fenced) {
        LogError::Fenced(error)
    } else {
        LogError::Broker { what, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_fenced_knows_it_whichever_call_says_so() {
        use RDKafkaErrorCode::{Fatal, Fenced, QueueFull};
        let failed = |code, cause| fatal("a record can't be written", KafkaError::MessageProduction(code), cause);
        assert!(matches!(failed(Fenced, None), LogError::Fenced(_)));
        assert!(matches!(failed(Fatal, Some(Fenced)), LogError::Fenced(_)));
        assert!(matches!(failed(Fatal, None), LogError::Broker { .. }));
        assert!(matches!(failed(QueueFull, None), LogError::Broker { .. }));
    }
}
