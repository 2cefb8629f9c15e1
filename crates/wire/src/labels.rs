use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};

use crate::json::{Scalar, Text};
use crate::limits::{LABELS_MAX, NAME_BYTES_MAX};

/// A label as it lies in the record.
pub(crate) type Label<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Reads an object of labels onto the end of a vector: text as it is, numbers and booleans as text, `null` and the empty
/// text as no label. `__name__` is left out, as it repeats the name. Nested values are read over and counted.
pub(crate) struct LabelsInto<'s, 'de> {
    pub(crate) labels: &'s mut Vec<Label<'de>>,
    pub(crate) skipped: &'s mut usize,
}

impl<'de> DeserializeSeed<'de> for LabelsInto<'_, 'de> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for LabelsInto<'_, 'de> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of labels")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let start = self.labels.len();
        while let Some(Text(key)) = map.next_key()? {
            let value = match map.next_value()? {
                Scalar::Text(text) => text,
                Scalar::Bool(b) => Cow::Borrowed(if b { "true" } else { "false" }),
                Scalar::Signed(n) => Cow::Owned(n.to_string()),
                Scalar::Unsigned(n) => Cow::Owned(n.to_string()),
                Scalar::Float(x) => Cow::Owned(x.to_string()),
                Scalar::Null => continue,
                Scalar::Nested => {
                    *self.skipped += 1;
                    continue;
                }
            };
            if value.is_empty() || key == "__name__" {
                continue;
            }
            bounded::<A::Error>(&key, "label name")?;
            bounded::<A::Error>(&value, "label value")?;
            self.labels.push((key, value));
            if self.labels.len() - start > LABELS_MAX {
                return Err(A::Error::custom(format_args!(
                    "too many labels, expected at most {LABELS_MAX}"
                )));
            }
        }
        Ok(())
    }
}

/// Refuses a name that is too long: cutting it could make two series one.
pub(crate) fn bounded<E: Error>(text: &str, what: &str) -> Result<(), E> {
    if text.len() > NAME_BYTES_MAX {
        let bytes = text.len();
        return Err(E::custom(format_args!(
            "{what} of {bytes} bytes, expected at most {NAME_BYTES_MAX}"
        )));
    }
    Ok(())
}

/// Sorts the pairs from `start` on by key and drops all but the last of those with the same key. Says where they are.
pub(crate) fn settle<V>(pairs: &mut Vec<(Cow<'_, str>, V)>, start: usize) -> Range<usize> {
    let tail = &mut pairs[start..];
    // Stable: among equal keys the last written stays last. Most producers write sorted keys already.
    if !tail.is_sorted_by(|a, b| a.0 < b.0) {
        tail.sort_by(|a, b| a.0.cmp(&b.0));
        let mut kept = start;
        for i in start..pairs.len() {
            if pairs.get(i + 1).is_some_and(|next| next.0 == pairs[i].0) {
                continue;
            }
            pairs.swap(kept, i);
            kept += 1;
        }
        pairs.truncate(kept);
    }
    start..pairs.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settling_sorts_and_keeps_the_last_of_each_key() {
        type Pairs<'a> = &'a [(&'a str, &'a str)];
        let cases: [(&str, Pairs<'_>, Pairs<'_>); 5] = [
            ("empty", &[], &[]),
            ("sorted", &[("a", "1"), ("b", "2")], &[("a", "1"), ("b", "2")]),
            ("unsorted", &[("b", "2"), ("a", "1")], &[("a", "1"), ("b", "2")]),
            ("all equal", &[("a", "1"), ("a", "2"), ("a", "3")], &[("a", "3")]),
            (
                "mixed",
                &[("c", "1"), ("a", "1"), ("c", "2"), ("b", "1"), ("a", "2")],
                &[("a", "2"), ("b", "1"), ("c", "2")],
            ),
        ];
        for (name, input, expected) in cases {
            let mut labels: Vec<Label<'_>> = vec![("z".into(), "kept".into())];
            labels.extend(input.iter().map(|(k, v)| ((*k).into(), (*v).into())));
            let range = settle(&mut labels, 1);
            assert_eq!(range, 1..labels.len(), "{name}");
            let got: Vec<(&str, &str)> = labels[range].iter().map(|(k, v)| (k.as_ref(), v.as_ref())).collect();
            assert_eq!(got, expected, "{name}");
            assert_eq!(labels[0].0, "z", "{name}: labels of other samples are untouched");
        }
    }
}
