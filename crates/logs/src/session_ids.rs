//! Which sessions a line belongs to: by labels of its envelope, or by a pattern over its message.
//!
//! Fails where an id is a part of something longer that the pattern does not tell apart. Cost: a look-up per label, one search of
//! the message per match of the pattern; no allocation.

use foreshock_domain::LabelPairs;
use regex::Regex;

use crate::pattern;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes that a compiled pattern may take.
const PROGRAM_BYTES_MAX: usize = 1 << 20;
/// Sessions that one line may name.
pub const LINE_SESSIONS_MAX: usize = 16;

/// How lines name their sessions; compiled once per source.
#[derive(Clone, Debug)]
pub struct SessionIds {
    labels: Vec<Box<str>>,
    pattern: Option<Regex>,
    end: Option<Regex>,
}

impl SessionIds {
    /// `labels`: the first that a line has names its session; of a `traceparent` only the trace counts. `pattern`: where
    /// there is none, each match in the message. `end`: a line that matches is the last of its sessions.
    ///
    /// # Errors
    /// A pattern that is none, is too large, or matches the empty string; what is wrong with it.
    pub fn new(labels: &[String], pattern: Option<&str>, end: Option<&str>) -> Result<Self, String> {
        Ok(Self {
            labels: labels.iter().map(|l| l.as_str().into()).collect(),
            pattern: pattern.map(compile).transpose()?,
            end: end.map(compile).transpose()?,
        })
    }

    /// Hands out the hash of each session that a line names, each once. Gives back whether the line is their last.
    pub fn each(&self, labels: &LabelPairs<'_>, message: &str, mut session: impl FnMut(u64)) -> bool {
        let message = pattern::searched(message);
        let label = |name: &str| labels.iter().find(|(k, v)| k == name && !v.is_empty());
        if let Some((name, id)) = self.labels.iter().find_map(|name| label(name)) {
            session(xxh3_64(trace_of(name, id).as_bytes()));
        } else if let Some(pattern) = &self.pattern {
            let mut seen = [0; LINE_SESSIONS_MAX];
            let mut n = 0;
            for found in pattern.find_iter(message) {
                let id = xxh3_64(found.as_str().as_bytes());
                if seen.iter().take(n).any(|s| *s == id) {
                    continue;
                }
                let Some(place) = seen.get_mut(n) else { break };
                *place = id;
                n += 1;
                session(id);
            }
        }
        self.end.as_ref().is_some_and(|end| end.is_match(message))
    }
}

/// A W3C trace context is version, trace, parent and flags; the parent differs from line to line.
fn trace_of<'a>(name: &str, id: &'a str) -> &'a str {
    if name == "traceparent" {
        id.split('-').nth(1).unwrap_or(id)
    } else {
        id
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    let regex = pattern::compile(pattern, PROGRAM_BYTES_MAX)?;
    if regex.is_match("") {
        return Err("it matches the empty string".to_owned());
    }
    Ok(regex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(rule: &SessionIds, labels: &LabelPairs<'_>, message: &str) -> (Vec<u64>, bool) {
        let mut out = Vec::new();
        let ends = rule.each(labels, message, |id| out.push(id));
        (out, ends)
    }

    #[test]
    fn a_line_may_name_several_sessions() {
        let rule = SessionIds::new(&[], Some(r"blk_-?\d+"), Some("^Deleting")).unwrap();
        let (found, ends) = ids(&rule, &[], "Deleting blk_-1, blk_2 and blk_-1");
        assert_eq!((found, ends), (vec![xxh3_64(b"blk_-1"), xxh3_64(b"blk_2")], true));
        assert_eq!(ids(&rule, &[], "nothing here"), (vec![], false));
        let many: String = (0..100).map(|i| format!("blk_{i} ")).collect();
        assert_eq!(ids(&rule, &[], &many).0.len(), LINE_SESSIONS_MAX);
    }

    #[test]
    fn labels_go_before_the_message() {
        let rule = SessionIds::new(&["traceparent".into(), "request_id".into()], Some(r"req-\d+"), None).unwrap();
        let parent = |span: &str| format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{span}-01");
        let [a, b] = ["00f067aa0ba902b7", "b9c7c989f97918e1"].map(|s| [("traceparent".into(), parent(s).into())]);
        assert_eq!(ids(&rule, &a, "req-1"), ids(&rule, &b, "x"));
        assert_eq!(ids(&rule, &a, "x").0, [xxh3_64(b"4bf92f3577b34da6a3ce929d0e0e4736")]);
        let request = [("request_id".into(), "17".into()), ("traceparent".into(), "".into())];
        assert_eq!(ids(&rule, &request, "req-1").0, [xxh3_64(b"17")]);
        assert_eq!(ids(&rule, &[], "req-1").0, [xxh3_64(b"req-1")]);
    }

    #[test]
    fn patterns_that_say_nothing_are_refused() {
        for wrong in ["", "x*", "(", r"\w{1,1000}{1,1000}"] {
            assert!(SessionIds::new(&[], Some(wrong), None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn long_lines_are_searched_up_to_a_bound() {
        let rule = SessionIds::new(&[], Some(r"blk_\d+"), None).unwrap();
        let line = format!("{} blk_1", "ñ".repeat(4_000));
        assert!(ids(&rule, &[], &line).0.is_empty());
    }
}
