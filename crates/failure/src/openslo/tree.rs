//! A YAML text as documents, and walks through them that know where they are.

use serde_json::Value;

use super::OpenSloError;

/// Bytes of a value that an error shows.
const SHOWN_BYTES_MAX: usize = 80;

/// Every object of a text with the number of its document, from 1. A document that is a list holds one object an element; an
/// empty one none.
pub(super) fn documents(text: &str) -> Result<Vec<(usize, Value)>, OpenSloError> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| {
        let line = error.location().map_or(0, |at| at.line());
        let what = error.without_snippet().to_string();
        OpenSloError {
            place: format!("line {line}"),
            what: what.lines().next().unwrap_or_default().to_owned(),
            expected: "documents in YAML".into(),
            help: None,
        }
    })?;
    let all = (1..).zip(all).flat_map(|(n, document)| match document {
        Value::Array(list) => list.into_iter().map(|value| (n, value)).collect(),
        Value::Null => Vec::new(),
        value => vec![(n, value)],
    });
    Ok(all.collect())
}

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Node<'a> {
    /// Document, kind and name.
    object: String,
    /// Below the object, such as `spec.objectives[0]`.
    path: String,
    pub(super) value: &'a Value,
}

impl<'a> Node<'a> {
    pub(super) fn root(document: usize, kind: &str, name: &str, value: &'a Value) -> Self {
        let called = [kind, name].join(" ");
        let called = called.trim();
        let object = if called.is_empty() {
            format!("document {document}")
        } else {
            format!("document {document} ({called})")
        };
        Self {
            object,
            path: String::new(),
            value,
        }
    }

    fn below(&self, step: &str, value: &'a Value) -> Self {
        let dot = if self.path.is_empty() || step.starts_with('[') {
            ""
        } else {
            "."
        };
        Self {
            object: self.object.clone(),
            path: format!("{}{dot}{step}", self.path),
            value,
        }
    }

    /// The value of a key; nothing and `null` are the same.
    pub(super) fn get(&self, key: &str) -> Option<Self> {
        let value = self.value.get(key).filter(|v| !v.is_null())?;
        Some(self.below(key, value))
    }

    pub(super) fn need(&self, key: &str, expected: &str) -> Result<Self, OpenSloError> {
        let missing = || self.below(key, &Value::Null).found("nothing", expected);
        self.get(key).ok_or_else(missing)
    }

    pub(super) fn list(&self, what: &str) -> Result<Vec<Self>, OpenSloError> {
        let list = self
            .value
            .as_array()
            .ok_or_else(|| self.wrong(format!("a list of {what}")))?;
        let nodes = list.iter().enumerate();
        Ok(nodes.map(|(i, value)| self.below(&format!("[{i}]"), value)).collect())
    }

    pub(super) fn number(&self) -> Option<f64> {
        self.value.as_f64()
    }

    /// It is not what it should be.
    pub(super) fn wrong(&self, expected: impl Into<String>) -> OpenSloError {
        let shown = match self.value {
            Value::Object(_) => "what is there".to_owned(),
            Value::Null => "nothing".to_owned(),
            value => crate::lines::prefix(&value.to_string(), SHOWN_BYTES_MAX).to_owned(),
        };
        self.found(shown, expected)
    }

    pub(super) fn found(&self, what: impl Into<String>, expected: impl Into<String>) -> OpenSloError {
        let place = if self.path.is_empty() {
            self.object.clone()
        } else {
            format!("{}, {}", self.object, self.path)
        };
        OpenSloError {
            place,
            what: what.into(),
            expected: expected.into(),
            help: None,
        }
    }
}
