use foreshock_domain::Timestamp;
use serde::{Deserialize, Serialize};

/// What kind of rule found it. The order decides which names a failure whose causes began at the same instant: what tells most
/// about the service goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Kind {
    Declared,
    Probe,
    SloBurn,
    Log,
    Process,
    Heartbeat,
}

impl Kind {
    /// The class in events; a declared incident has its declarer's own.
    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::Declared => "declared",
            Self::Probe => "probe",
            Self::SloBurn => "slo_burn",
            Self::Log => "log",
            Self::Process => "process",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// Which cause: a rule and what it is about, a series or a declared class; empty for the entity itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct CauseKey {
    pub(crate) kind: Kind,
    pub(crate) rule: Box<str>,
    pub(crate) subject: Box<str>,
}

impl CauseKey {
    pub(crate) fn new(kind: Kind, rule: &str, subject: &str) -> Self {
        Self {
            kind,
            rule: rule.into(),
            subject: subject.into(),
        }
    }

    /// Class of a failure that this cause names.
    pub(crate) fn class(&self) -> Box<str> {
        match self.kind {
            Kind::Declared => self.subject.clone(),
            kind => kind.class().into(),
        }
    }
}

/// What a rule has to say after a window, a tick or a declaration.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// A cause began at `onset`; it is over already where `ended` is set.
    Began {
        key: CauseKey,
        onset: Timestamp,
        ended: Option<Timestamp>,
        evidence: String,
    },
    /// A cause is over.
    Ended {
        key: CauseKey,
        ended: Timestamp,
        evidence: String,
    },
}
