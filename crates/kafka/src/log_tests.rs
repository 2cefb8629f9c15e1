use foreshock_engine::Log;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::settings::{Cadence, ConnectionSettings, Topics};

const LONGEST: Duration = Duration::from_secs(60);
const SESSION: Duration = Duration::from_secs(6);
/// A quarter of the session.
const HEARTBEAT: Duration = Duration::from_millis(1_500);

fn settings(brokers: &str) -> LogSettings {
    let topic = |name: &str| name.to_owned();
    LogSettings {
        connection: ConnectionSettings::plain(brokers),
        group: "group".into(),
        instance: "a".into(),
        session_timeout: SESSION,
        topics: Topics {
            inputs: vec![topic("metrics")],
            signals: topic("signals"),
            anomalies: topic("anomalies"),
            failures: topic("failures"),
            ledger: topic("ledger"),
            dead_letters: topic("dead-letters"),
            state: topic("state"),
        },
        cadence: Cadence::default(),
        delivery: Delivery::ExactlyOnce,
    }
}

/// What the log tells first that is no quiet.
fn first_word(log: &mut KafkaLog) -> Result<Polled, LogError> {
    let until = Instant::now() + LONGEST;
    while Instant::now() < until {
        match log.poll(&mut |_| ()) {
            Ok(Polled::Idle | Polled::Tick(_) | Polled::Due { .. }) => {}
            word => return word,
        }
    }
    panic!("nothing came");
}

/// Partitions came and could not be taken up, and then the brokers gave the client's name to another, as they do when a coordinator dies.
/// A client that owes the group an answer never ends then.
#[test]
fn a_log_that_can_not_take_up_partitions_ends_at_once_and_the_next_takes_them_up() {
    let cluster = MockCluster::new(1).unwrap();
    let settings = settings(&cluster.bootstrap_servers());
    let topics = &settings.topics;
    for name in [&topics.inputs[0], &topics.signals, &topics.state] {
        cluster.create_topic(name, 2, 1).unwrap();
    }
    let join = || {
        let clock = Box::new(|| Timestamp::from_millis(0));
        KafkaLog::join(
            settings.clone(),
            clock,
            Arc::new(|| ()),
            Arc::default(),
            Tally::default(),
        )
        .unwrap()
    };
    let mut log = join();
    let fenced = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID; 100];
    cluster.request_errors(RDKafkaApiKey::Heartbeat, &fenced);
    let state_topic = |error| cluster.topic_error(&topics.state, error).unwrap();
    state_topic(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    let error = first_word(&mut log).unwrap_err();
    assert!(matches!(error, LogError::Broker { .. }), "{error}");
    std::thread::sleep(2 * HEARTBEAT);
    let began = Instant::now();
    drop(log);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    state_topic(RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR);
    cluster.clear_request_errors(RDKafkaApiKey::Heartbeat);
    match first_word(&mut join()).unwrap() {
        Polled::Assigned(came) => assert_eq!(came.len(), 4),
        other => panic!("{other:?}"),
    }
}
