//! Which key of a structured line means what, and what has been found of a line so far. Shared by all formats whose lines are
//! keys and values: JSON, logfmt, OTLP.
//!
//! Keys are those of ECS and Filebeat, Fluent Bit, Docker, Vector, OpenTelemetry, journald, GELF, Google Cloud, and the usual
//! loggers. Where several are in a line, the lower rank counts; of equal ranks the later.
//!
//! Fails on loggers with names of their own: their lines have no message, or a message and no level.
//!
//! Cost: a few comparisons of lengths a key; only values that need it are copied.

use std::borrow::Cow;
use std::ops::Range;

use foreshock_domain::{Level, Timestamp};

use crate::json::{Scalar, recycle};
use crate::labels::Label;
use crate::limits::NAME_BYTES_MAX;
use crate::outlet::Outlet;
use crate::{level, time};

/// What the labels of a line are called, sorted.
pub(crate) const LABELS: [&str; 7] = ["container", "host", "namespace", "node", "pod", "service", "trace_id"];
const CONTAINER: Slot = Slot::Label(0);
const HOST: Slot = Slot::Label(1);
const NAMESPACE: Slot = Slot::Label(2);
const NODE: Slot = Slot::Label(3);
const POD: Slot = Slot::Label(4);
const SERVICE: Slot = Slot::Label(5);
pub(crate) const TRACE: Slot = Slot::Label(6);

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Message,
    Time,
    Level,
    /// Index into [`LABELS`].
    Label(usize),
}

/// What the key `leaf` inside the object `parent` is for (`""` is the line itself), and its rank: lower goes first.
pub(crate) fn place(parent: &str, leaf: &str) -> Option<(Slot, u8)> {
    Some(match parent {
        "" => return place_outer(leaf),
        "log" => match leaf {
            "level" => (Slot::Level, 1),
            _ => return None,
        },
        "event" => match leaf {
            "original" => (Slot::Message, 9),
            _ => return None,
        },
        "jsonPayload" => match leaf {
            "message" => (Slot::Message, 6),
            _ => return None,
        },
        "host" => match leaf {
            "name" => (HOST, 0),
            "hostname" => (HOST, 1),
            _ => return None,
        },
        "service" => match leaf {
            "name" => (SERVICE, 0),
            _ => return None,
        },
        "container" => match leaf {
            "name" => (CONTAINER, 2),
            _ => return None,
        },
        "trace" => match leaf {
            "id" => (TRACE, 0),
            _ => return None,
        },
        "dd" => match leaf {
            "trace_id" => (TRACE, 5),
            _ => return None,
        },
        "kubernetes" => match leaf {
            "pod_name" => (POD, 1),
            "container_name" => (CONTAINER, 1),
            "namespace" => (NAMESPACE, 0),
            "namespace_name" => (NAMESPACE, 1),
            "pod_namespace" => (NAMESPACE, 2),
            "host" => (NODE, 1),
            "pod_node_name" => (NODE, 2),
            _ => return None,
        },
        "kubernetes.labels" | "kubernetes.pod_labels" => match leaf {
            "app.kubernetes.io/name" | "app_kubernetes_io/name" => (SERVICE, 8),
            "app" => (SERVICE, 9),
            _ => return None,
        },
        "kubernetes.pod" | "k8s.pod" => match leaf {
            "name" => (POD, 0),
            _ => return None,
        },
        "kubernetes.container" | "k8s.container" => match leaf {
            "name" => (CONTAINER, 0),
            _ => return None,
        },
        "k8s.namespace" => match leaf {
            "name" => (NAMESPACE, 0),
            _ => return None,
        },
        "kubernetes.node" | "k8s.node" => match leaf {
            "name" => (NODE, 0),
            _ => return None,
        },
        _ => return None,
    })
}

/// The same of a key of the line itself.
fn place_outer(leaf: &str) -> Option<(Slot, u8)> {
    Some(match leaf {
        "message" => (Slot::Message, 0),
        "msg" => (Slot::Message, 1),
        "log" => (Slot::Message, 2),
        "body" => (Slot::Message, 3),
        "event" => (Slot::Message, 4),
        "MESSAGE" => (Slot::Message, 5),
        "textPayload" => (Slot::Message, 6),
        "short_message" => (Slot::Message, 7),
        "@m" => (Slot::Message, 8),
        "@mt" => (Slot::Message, 9),
        "@timestamp" => (Slot::Time, 0),
        "timestamp" => (Slot::Time, 1),
        "time" => (Slot::Time, 2),
        "ts" => (Slot::Time, 3),
        "date" => (Slot::Time, 4),
        "@t" => (Slot::Time, 5),
        "__REALTIME_TIMESTAMP" => (Slot::Time, 6),
        "level" => (Slot::Level, 0),
        "severity" => (Slot::Level, 2),
        "levelname" => (Slot::Level, 3),
        "severity_text" => (Slot::Level, 4),
        "lvl" => (Slot::Level, 5),
        "log_level" | "loglevel" => (Slot::Level, 6),
        "@l" => (Slot::Level, 7),
        "PRIORITY" => (Slot::Level, 8),
        "host" => (HOST, 2),
        "hostname" => (HOST, 3),
        "_HOSTNAME" => (HOST, 4),
        "pod" => (POD, 2),
        "pod_name" => (POD, 3),
        "service" => (SERVICE, 1),
        "service_name" => (SERVICE, 2),
        "app" => (SERVICE, 3),
        "application" => (SERVICE, 4),
        "appname" | "app_name" => (SERVICE, 5),
        "SYSLOG_IDENTIFIER" => (SERVICE, 6),
        "container" => (CONTAINER, 3),
        "container_name" => (CONTAINER, 4),
        "namespace" => (NAMESPACE, 3),
        "node" => (NODE, 3),
        "trace_id" => (TRACE, 1),
        "traceId" | "traceID" | "traceid" => (TRACE, 2),
        "otelTraceID" => (TRACE, 3),
        _ => return None,
    })
}

/// The full name of the object `leaf` inside `parent`, if anything of interest can be in it.
pub(crate) fn inside(parent: &str, leaf: &str) -> Option<&'static str> {
    Some(match (parent, leaf) {
        ("", "host") => "host",
        ("", "log") => "log",
        ("", "event") => "event",
        ("", "jsonPayload") => "jsonPayload",
        ("", "service") => "service",
        ("", "container") => "container",
        ("", "trace") => "trace",
        ("", "dd") => "dd",
        ("", "kubernetes") => "kubernetes",
        ("kubernetes", "pod") => "kubernetes.pod",
        ("kubernetes", "container") => "kubernetes.container",
        ("kubernetes", "node") => "kubernetes.node",
        ("kubernetes", "labels") => "kubernetes.labels",
        ("kubernetes", "pod_labels") => "kubernetes.pod_labels",
        ("", "k8s") => "k8s",
        ("k8s", "pod") => "k8s.pod",
        ("k8s", "container") => "k8s.container",
        ("k8s", "namespace") => "k8s.namespace",
        ("k8s", "node") => "k8s.node",
        _ => return None,
    })
}

/// What a key with dots in it is for.
pub(crate) fn place_dotted(key: &str) -> Option<(Slot, u8)> {
    let (parent, leaf) = key.rsplit_once('.').unwrap_or(("", key));
    place(parent, leaf)
}

/// What has been found of a line so far, each with the rank of the key it was found under.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found<'a> {
    pub(crate) message: Option<(u8, Cow<'a, str>)>,
    pub(crate) at: Option<(u8, Timestamp)>,
    pub(crate) level: Option<(u8, Level)>,
    pub(crate) labels: [Option<(u8, Cow<'a, str>)>; LABELS.len()],
    /// Times, levels and labels that can't be used.
    pub(crate) skipped: usize,
    /// A message was there and had nothing in it.
    pub(crate) is_blank: bool,
}

/// Keeps the value of the better rank; of equal ones, the later.
pub(crate) fn keep<T>(kept: &mut Option<(u8, T)>, rank: u8, value: T) {
    if kept.as_ref().is_none_or(|(best, _)| rank <= *best) {
        *kept = Some((rank, value));
    }
}

impl<'a> Found<'a> {
    /// Takes a value for what its key says it is.
    pub(crate) fn take(&mut self, slot: Slot, rank: u8, value: Scalar<'a>) {
        match (slot, value) {
            (_, Scalar::Null) => {}
            (Slot::Message, Scalar::Text(text)) => {
                if text.trim_ascii().is_empty() {
                    self.is_blank = true;
                } else {
                    keep(&mut self.message, rank, text);
                }
            }
            (Slot::Time, value) => match time::from_scalar(&value) {
                Some(at) => keep(&mut self.at, rank, at),
                None => self.skipped += 1,
            },
            (Slot::Level, value) => match level::from_scalar(&value) {
                Some(level) => keep(&mut self.level, rank, level),
                None => self.skipped += 1,
            },
            (Slot::Label(i), Scalar::Text(text)) if !text.is_empty() && text.len() <= NAME_BYTES_MAX => {
                if let Some(label) = self.labels.get_mut(i) {
                    keep(label, rank, text);
                }
            }
            // A number names a trace at Datadog, and nothing elsewhere.
            (Slot::Label(i), Scalar::Unsigned(n)) if TRACE == Slot::Label(i) => {
                if let Some(label) = self.labels.get_mut(i) {
                    keep(label, rank, Cow::Owned(n.to_string()));
                }
            }
            (Slot::Message | Slot::Label(_), _) => self.skipped += 1,
        }
    }

    /// Moves the labels to the end of `all`, sorted as they are.
    pub(crate) fn labels_into(&mut self, all: &mut Vec<Label<'a>>) {
        for (name, label) in LABELS.iter().zip(&mut self.labels) {
            if let Some((_, value)) = label.take() {
                all.push((Cow::Borrowed(name), value));
            }
        }
    }
}

/// A line that is whole.
#[derive(Debug)]
struct Line<'a> {
    at: Option<Timestamp>,
    level: Option<Level>,
    message: Cow<'a, str>,
    labels: Range<usize>,
}

/// The lines of a record before they are handed on: nothing leaves a record that is refused.
#[derive(Debug, Default)]
pub(crate) struct Lines<'a> {
    lines: Vec<Line<'a>>,
    labels: Vec<Label<'a>>,
    skipped: usize,
    blank: usize,
}

impl<'a> Lines<'a> {
    /// Takes a line. Says `false`, and takes nothing, where it has no message at all.
    pub(crate) fn push(&mut self, mut found: Found<'a>) -> bool {
        let Some((_, message)) = found.message.take() else {
            self.blank += usize::from(found.is_blank);
            return found.is_blank;
        };
        let start = self.labels.len();
        found.labels_into(&mut self.labels);
        self.skipped += found.skipped;
        self.lines.push(Line {
            at: found.at.map(|(_, at)| at),
            level: found.level.map(|(_, level)| level),
            message,
            labels: start..self.labels.len(),
        });
        true
    }

    /// Lines taken so far, empty ones too.
    pub(crate) fn len(&self) -> usize {
        self.lines.len() + self.blank
    }

    /// Hands all lines on.
    pub(crate) fn emit(&self, out: &mut Outlet<'_>) {
        out.decoded.skipped += self.skipped;
        out.decoded.empty += self.blank;
        for line in &self.lines {
            out.body(line.at, line.level, &line.message, &self.labels[line.labels.clone()]);
        }
    }

    /// Nothing but the memory, for the next record.
    pub(crate) fn recycle<'b>(self) -> Lines<'b> {
        Lines {
            lines: recycle(self.lines),
            labels: recycle(self.labels),
            skipped: 0,
            blank: 0,
        }
    }
}
