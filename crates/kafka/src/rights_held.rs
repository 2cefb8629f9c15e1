//! Which of the rights that are needed the brokers say this program has.
//!
//! Brokers tell a client what it may do with a topic or a group when asked to describe them (KIP-430). The client library
//! has the call and its Rust binding has not, so it is made here.

#![allow(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::null_mut;
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::bindings as ffi;
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::types::RDKafkaRespErr;

use crate::rights::{Operation, Resource, Rights};
use crate::settings::ConnectionSettings;

/// One question to the brokers.
const CALL_MAX: Duration = Duration::from_secs(8);

/// What may be done with each of what was asked for; `None` where the brokers do not say.
type Held = BTreeMap<Resource, Option<BTreeSet<Operation>>>;

/// Those of `needed` that the brokers deny. What is not there or what they do not tell about is not among them. Transactional
/// ids are tried under one of their own, `<prefix>check`, so that no worker is disturbed.
///
/// # Errors
/// When the brokers do not answer.
pub fn missing(connection: &ConnectionSettings, needed: &[Rights]) -> Result<Vec<Rights>, KafkaError> {
    let admin: AdminClient<DefaultClientContext> = connection.client().create()?;
    let rk = admin.inner().native_ptr();
    let names = |pick: fn(&Resource) -> Option<&String>| -> Vec<&str> {
        needed.iter().filter_map(|r| pick(&r.on)).map(String::as_str).collect()
    };
    let topics = names(|on| {
        if let Resource::Topic(name) = on {
            Some(name)
        } else {
            None
        }
    });
    let groups = names(|on| {
        if let Resource::Group(name) = on {
            Some(name)
        } else {
            None
        }
    });
    let mut held = Held::new();
    // SAFETY: `rk` lives as long as `admin`, which is dropped after both calls.
    unsafe {
        if !topics.is_empty() {
            held.extend(of_topics(rk, &topics)?);
        }
        // The group's coordinator may not be known to a cluster that has no group yet: then nothing is said of it.
        for group in groups {
            held.extend(of_group(rk, group)?);
        }
    }
    let mut denied = Vec::new();
    for right in needed {
        if let Resource::TransactionalIds(prefix) = &right.on {
            if is_id_denied(connection, prefix)? {
                denied.push(right.clone());
            }
        } else if let Some(Some(allowed)) = held.get(&right.on) {
            let operations: BTreeSet<Operation> = right.operations.difference(allowed).copied().collect();
            if !operations.is_empty() {
                denied.push(Rights {
                    on: right.on.clone(),
                    operations,
                });
            }
        }
    }
    Ok(denied)
}

/// Whether a transactional id that begins so may not be used.
fn is_id_denied(connection: &ConnectionSettings, prefix: &str) -> Result<bool, KafkaError> {
    let mut config = connection.client();
    config.set("transactional.id", format!("{prefix}check"));
    let producer: BaseProducer = config.create()?;
    match producer.init_transactions(CALL_MAX) {
        Ok(()) => Ok(false),
        Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::TransactionalIdAuthorizationFailed) => {
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

/// A question on its way: freed when dropped, whatever came of it.
struct Question {
    options: *mut ffi::rd_kafka_AdminOptions_t,
    queue: *mut ffi::rd_kafka_queue_t,
    event: *mut ffi::rd_kafka_event_t,
}

impl Question {
    /// # Safety
    /// `rk` is a client that outlives the question.
    unsafe fn new(rk: *mut ffi::rd_kafka_t, kind: ffi::rd_kafka_admin_op_t) -> Self {
        // SAFETY: the options and the queue are freed once, in `drop`; an error is freed where it is not null.
        unsafe {
            let options = ffi::rd_kafka_AdminOptions_new(rk, kind);
            let millis = c_int::try_from(CALL_MAX.as_millis()).unwrap_or(c_int::MAX);
            ffi::rd_kafka_AdminOptions_set_request_timeout(options, millis, null_mut(), 0);
            let error = ffi::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
            if !error.is_null() {
                ffi::rd_kafka_error_destroy(error);
            }
            Self {
                options,
                queue: ffi::rd_kafka_queue_new(rk),
                event: null_mut(),
            }
        }
    }

    /// Waits for the answer.
    ///
    /// # Safety
    /// A request of this kind was made into the queue, once.
    unsafe fn wait(&mut self) -> Result<(), KafkaError> {
        let millis = c_int::try_from(CALL_MAX.as_millis())
            .unwrap_or(c_int::MAX)
            .saturating_add(1_000);
        // SAFETY: the queue lives; the event is freed once, in `drop`.
        let code = unsafe {
            self.event = ffi::rd_kafka_queue_poll(self.queue, millis);
            if self.event.is_null() {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__TIMED_OUT
            } else {
                ffi::rd_kafka_event_error(self.event)
            }
        };
        match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            code => Err(KafkaError::Global(code.into())),
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        // SAFETY: made in `new` and `wait`, freed here alone; freeing a null event does nothing.
        unsafe {
            if !self.event.is_null() {
                ffi::rd_kafka_event_destroy(self.event);
            }
            ffi::rd_kafka_queue_destroy(self.queue);
            ffi::rd_kafka_AdminOptions_destroy(self.options);
        }
    }
}

/// # Safety
/// `rk` is a client that lives.
unsafe fn of_topics(rk: *mut ffi::rd_kafka_t, topics: &[&str]) -> Result<Held, KafkaError> {
    let names = c_names(topics)?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|n| n.as_ptr()).collect();
    let mut held = Held::new();
    // SAFETY: the names outlive the request, which copies them; what the result points to lives as long as its event, which
    // `question` holds to the end of this block.
    unsafe {
        let mut question = Question::new(rk, ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        let collection = ffi::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        ffi::rd_kafka_DescribeTopics(rk, collection, question.options, question.queue);
        ffi::rd_kafka_TopicCollection_destroy(collection);
        question.wait()?;
        let result = ffi::rd_kafka_event_DescribeTopics_result(question.event);
        let mut count = 0;
        let found = ffi::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        for i in 0..count {
            let topic = *found.add(i);
            let name = CStr::from_ptr(ffi::rd_kafka_TopicDescription_name(topic));
            let mut n = 0;
            let operations = ffi::rd_kafka_TopicDescription_authorized_operations(topic, &raw mut n);
            let allowed = allowed(ffi::rd_kafka_TopicDescription_error(topic), operations, n);
            held.insert(Resource::Topic(name.to_string_lossy().into_owned()), allowed);
        }
    }
    Ok(held)
}

/// # Safety
/// `rk` is a client that lives.
unsafe fn of_group(rk: *mut ffi::rd_kafka_t, group: &str) -> Result<Held, KafkaError> {
    let names = c_names(&[group])?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|n| n.as_ptr()).collect();
    let mut held = Held::new();
    // SAFETY: as in `of_topics`.
    unsafe {
        let mut question = Question::new(rk, ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS);
        ffi::rd_kafka_DescribeConsumerGroups(rk, pointers.as_mut_ptr(), 1, question.options, question.queue);
        question.wait()?;
        let result = ffi::rd_kafka_event_DescribeConsumerGroups_result(question.event);
        let mut count = 0;
        let found = ffi::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        for i in 0..count {
            let described = *found.add(i);
            let mut n = 0;
            let operations = ffi::rd_kafka_ConsumerGroupDescription_authorized_operations(described, &raw mut n);
            let allowed = allowed(ffi::rd_kafka_ConsumerGroupDescription_error(described), operations, n);
            held.insert(Resource::Group(group.to_owned()), allowed);
        }
    }
    Ok(held)
}

/// What an answer allows: nothing where the brokers refuse to describe it, `None` where they do not say.
///
/// # Safety
/// `error` is null or an error that lives, `operations` null or the first of `n`.
unsafe fn allowed(
    error: *const ffi::rd_kafka_error_t,
    operations: *const ffi::rd_kafka_AclOperation_t,
    n: usize,
) -> Option<BTreeSet<Operation>> {
    use ffi::rd_kafka_AclOperation_t as Acl;
    let code = if error.is_null() {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
    } else {
        // SAFETY: it lives.
        unsafe { ffi::rd_kafka_error_code(error) }
    };
    match code {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR if !operations.is_null() => {
            // SAFETY: there are `n` of them.
            let all = unsafe { std::slice::from_raw_parts(operations, n) };
            let known = all.iter().filter_map(|acl| match acl {
                Acl::RD_KAFKA_ACL_OPERATION_READ => Some(Operation::Read),
                Acl::RD_KAFKA_ACL_OPERATION_WRITE => Some(Operation::Write),
                Acl::RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS => Some(Operation::DescribeConfigs),
                _ => None,
            });
            Some(known.collect())
        }
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
        | RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED => Some(BTreeSet::new()),
        _ => None,
    }
}

fn c_names(names: &[&str]) -> Result<Vec<CString>, KafkaError> {
    names
        .iter()
        .map(|n| CString::new(*n).map_err(KafkaError::from))
        .collect()
}
