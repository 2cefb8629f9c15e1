//! What the JSON formats share: a record is one or several documents, a document one object or an array of objects, and a
//! value is looked at without being kept.
//!
//! A key that comes twice in an object counts with its last value, as in most parsers. Nesting is bounded by the parser
//! (128). Numbers that no 64-bit float can hold are refused, not turned into infinity.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de::Unexpected};

use crate::error::DecodeError;
use crate::limits::ITEMS_MAX;

/// Takes the objects of a record, one by one.
pub(crate) trait Collect<'de> {
    /// Reads one object.
    fn object<A: MapAccess<'de>>(&mut self, map: A) -> Result<(), A::Error>;

    /// Items taken so far; a record with more than [`ITEMS_MAX`] is refused.
    fn items(&self) -> usize;
}

/// Reads every document of a record into `collect`.
pub(crate) fn documents<'de, C: Collect<'de>>(payload: &'de [u8], collect: &mut C) -> Result<(), DecodeError> {
    let payload = payload.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(payload);
    // Once for the whole record: the parser would check each string alone, which costs more.
    let payload = std::str::from_utf8(payload).map_err(|e| {
        let (line, column) = place(payload, e.valid_up_to());
        DecodeError::at("invalid bytes, expected UTF-8", line, column)
    })?;
    let mut rest = payload.trim_ascii();
    if rest.is_empty() {
        return Err(DecodeError::new("empty record, expected a JSON object"));
    }
    // A fresh parser for each document: what the parser does about trailing bytes is to compute a line number, which
    // would make a record of many small documents quadratic.
    while !rest.is_empty() {
        let mut document = serde_json::Deserializer::from_str(rest);
        if let Err(error) = OneOrMany(&mut *collect).deserialize(&mut document) {
            // The parser counts lines from where the document starts.
            let start = payload.trim_ascii_end().len() - rest.len();
            return Err(DecodeError::json(&error, place(payload.as_bytes(), start)));
        }
        let end = document.into_iter::<IgnoredAny>().byte_offset();
        rest = rest.get(end..).unwrap_or_default().trim_ascii_start();
    }
    Ok(())
}

/// Line and byte of that line, both from 1, of the byte at `offset`.
pub(crate) fn place(payload: &[u8], offset: usize) -> (usize, usize) {
    let before = &payload[..offset.min(payload.len())];
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    (
        before.iter().filter(|b| **b == b'\n').count() + 1,
        before.len() - line_start + 1,
    )
}

/// An object, or an array of objects.
struct OneOrMany<'s, C>(&'s mut C);

impl<'de, C: Collect<'de>> DeserializeSeed<'de> for OneOrMany<'_, C> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de, C: Collect<'de>> Visitor<'de> for OneOrMany<'_, C> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array of objects")
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        One(self.0).visit_map(map)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        Many(self.0).visit_seq(seq)
    }
}

/// An object.
struct One<'s, C>(&'s mut C);

impl<'de, C: Collect<'de>> DeserializeSeed<'de> for One<'_, C> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de, C: Collect<'de>> Visitor<'de> for One<'_, C> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.0.object(map)?;
        if self.0.items() > ITEMS_MAX {
            return Err(A::Error::custom(format_args!(
                "too many items, expected at most {ITEMS_MAX} a record"
            )));
        }
        Ok(())
    }
}

/// An array of objects.
pub(crate) struct Many<'s, C>(pub(crate) &'s mut C);

impl<'de, C: Collect<'de>> DeserializeSeed<'de> for Many<'_, C> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de, C: Collect<'de>> Visitor<'de> for Many<'_, C> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(One(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

/// A string, borrowed from the record unless it has escapes in it.
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        d.deserialize_str(Borrow)
    }
}

/// Any value; arrays and objects are read over.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar<'a> {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(Cow<'a, str>),
    Nested,
}

impl Scalar<'_> {
    /// As a number: booleans are 0 and 1, text and nested values are none.
    #[allow(clippy::cast_precision_loss)] // JSON has no integers of its own; what a double can't hold is rounded
    pub(crate) fn number(&self) -> Option<f64> {
        match *self {
            Self::Bool(b) => Some(f64::from(u8::from(b))),
            Self::Signed(n) => Some(n as f64),
            Self::Unsigned(n) => Some(n as f64),
            Self::Float(x) => Some(x),
            Self::Null | Self::Text(_) | Self::Nested => None,
        }
    }

    /// The error for a value of the wrong type.
    pub(crate) fn unexpected<E: de::Error>(&self, expected: &str) -> E {
        let found = match self {
            Self::Null => Unexpected::Unit,
            Self::Bool(b) => Unexpected::Bool(*b),
            Self::Signed(n) => Unexpected::Signed(*n),
            Self::Unsigned(n) => Unexpected::Unsigned(*n),
            Self::Float(x) => Unexpected::Float(*x),
            Self::Text(text) => Unexpected::Str(text),
            Self::Nested => Unexpected::Other("an array or object"),
        };
        E::invalid_value(found, &expected)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Look;
        impl<'de> Visitor<'de> for Look {
            type Value = Scalar<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Null)
            }
            fn visit_bool<E>(self, b: bool) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Bool(b))
            }
            fn visit_i64<E>(self, n: i64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Signed(n))
            }
            fn visit_u64<E>(self, n: u64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Unsigned(n))
            }
            fn visit_f64<E>(self, x: f64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Float(x))
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar<'de>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Nested)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Nested)
            }
        }
        d.deserialize_any(Look)
    }
}

/// An empty vector with the capacity of this one, for elements that live longer: the allocation survives the record.
pub(crate) fn recycle<T, U>(mut spent: Vec<T>) -> Vec<U> {
    spent.clear();
    // Collecting a vector's own iterator works in place where the elements have one layout, which is all that is asked
    // here; were that ever to change, this would cost an allocation and nothing else.
    spent.into_iter().filter_map(|_| None).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recycling_keeps_the_allocation() {
        let text = String::from("x");
        let mut scratch: Vec<Cow<'static, str>> = Vec::new();
        let mut borrowed: Vec<Cow<'_, str>> = std::mem::take(&mut scratch);
        borrowed.extend(std::iter::repeat_n(Cow::Borrowed(text.as_str()), 1_000));
        let capacity = borrowed.capacity();
        scratch = recycle(borrowed);
        assert!(scratch.is_empty());
        assert_eq!(scratch.capacity(), capacity);
    }
}
