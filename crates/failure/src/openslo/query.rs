//! A query of PromQL as far as it says which counters to add up: a selector, alone or inside `sum`, `rate`, `irate` and
//! `increase`. An error budget adds up increases over windows of its own, so these say nothing more than the selector does;
//! everything else (arithmetic, grouping, offsets, subqueries) says something else, and is refused.

use crate::selector::Selector;

/// Longest query that is looked at, in bytes.
const QUERY_BYTES_MAX: usize = 4_096;
/// Functions around a selector that change nothing of what is counted.
const TRANSPARENT: [&str; 4] = ["sum", "rate", "irate", "increase"];

/// The selector that a query comes down to.
///
/// # Errors
/// What in it is more than a selector. Linear in the query for each function around it.
pub(super) fn selector_of(query: &str) -> Result<Selector, String> {
    if query.len() > QUERY_BYTES_MAX {
        return Err(format!("longer than {QUERY_BYTES_MAX} bytes"));
    }
    let mut rest = query.trim();
    while let Some((function, inner)) = called(rest) {
        if !function.is_empty() && !TRANSPARENT.contains(&function) {
            return Err(format!("`{function}` is more than a sum of increases"));
        }
        rest = inner.trim();
    }
    if let Some((before, range)) = rest.strip_suffix(']').and_then(|r| r.rsplit_once('[')) {
        if range.contains(':') {
            return Err(format!("[{range}] is a subquery"));
        }
        rest = before.trim_end();
    }
    let name_ends = rest.find(|c: char| c.is_whitespace() || c == '{').unwrap_or(rest.len());
    let (name, labels) = rest.split_at(name_ends);
    if let Some(c) = name.chars().find(|c| !is_of_name(*c)) {
        return Err(match c {
            '(' => "a call among other things".into(),
            _ => format!("`{c}` is no part of a metric's name"),
        });
    }
    if labels.trim_start().starts_with(|c: char| c != '{') {
        let word = labels.split_whitespace().next().unwrap_or_default();
        return Err(format!("`{word}` after the metric's name"));
    }
    Selector::parse(rest).map_err(|e| format!("{} at byte {} of `{rest}`", e.what, e.at))
}

/// What a name may be made of in PromQL.
const fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | ':')
}

/// Function and argument where the whole text is one call or stands in brackets. `sum by (code) (x)` is none.
fn called(text: &str) -> Option<(&str, &str)> {
    let (function, rest) = text.split_once('(')?;
    let inner = rest.strip_suffix(')')?;
    let function = function.trim_end();
    let is_whole = function.chars().all(is_of_name) && closes_last(inner);
    is_whole.then_some((function, inner))
}

/// Whether no bracket in it closes one that was opened before it. Brackets in quotes are text.
fn closes_last(inner: &str) -> bool {
    let (mut depth, mut quote, mut is_escaped) = (0_u32, None, false);
    for c in inner.chars() {
        match (quote, c) {
            (Some(_), _) if is_escaped => is_escaped = false,
            (Some(q), '\\') if q != '`' => is_escaped = true,
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') if depth == 0 => return false,
            (None, ')') => depth -= 1,
            _ => {}
        }
    }
    depth == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_query_comes_down_to() {
        let cases = [
            ("http_requests_total", Ok("http_requests_total")),
            (" errors{code=~\"5..\"} ", Ok("errors{code=~\"5..\"}")),
            ("sum(rate(errors{code=~\"5..\"}[5m]))", Ok("errors{code=~\"5..\"}")),
            ("sum ( increase( errors [ 5m ] ) )", Ok("errors")),
            (
                "sum(errors{host=\"*\",instance='127.0.0.1:9090'})",
                Ok("errors{host=\"*\",instance='127.0.0.1:9090'}"),
            ),
            ("sum(rate(errors[{{.window}}]))", Ok("errors")),
            ("((errors))", Ok("errors")),
            ("sum(rate(errors{path=\"a)(b\"}[5m]))", Ok("errors{path=\"a)(b\"}")),
            ("job:errors:rate5m", Ok("job:errors:rate5m")),
            ("sum(a) / sum(b)", Err("a call among other things")),
            ("(a) - (b)", Err("a call among other things")),
            ("a / b", Err("`/` after the metric's name")),
            ("a-b", Err("`-` is no part of a metric's name")),
            ("sum by (code) (rate(a[5m]))", Err("`by` after the metric's name")),
            ("sum(rate(a[5m])) by (code)", Err("a call among other things")),
            ("count(a)", Err("`count` is more than a sum of increases")),
            (
                "histogram_quantile(0.9, a)",
                Err("`histogram_quantile` is more than a sum of increases"),
            ),
            ("a offset 5m", Err("`offset` after the metric's name")),
            ("a[5m:1m]", Err("[5m:1m] is a subquery")),
            ("{code=\"5\"}", Err("no metric name at byte 0 of `{code=\"5\"}`")),
            ("", Err("no metric name at byte 0 of ``")),
            (
                "a{code=~\"(\"}",
                Err("invalid regular expression at byte 8 of `a{code=~\"(\"}`"),
            ),
        ];
        for (query, expected) in cases {
            let found = selector_of(query);
            let found = found.as_ref().map(Selector::as_str).map_err(String::as_str);
            assert_eq!(found, expected, "{query}");
        }
        assert!(selector_of(&"(".repeat(QUERY_BYTES_MAX + 1)).is_err());
        assert!(selector_of(&format!("{}a{}", "(".repeat(2_000), ")".repeat(2_000))).is_ok());
    }
}
