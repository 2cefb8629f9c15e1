//! Small figures for the page, which can be read on light and on dark ground.

use std::fmt::Write;

const WIDTH: f64 = 640.0;
const LABELS: f64 = 150.0;
const ROW: f64 = 24.0;
const TOP: f64 = 40.0;
const STYLE: &str = "<style>text{font:13px sans-serif;fill:#333}.title{font-weight:bold}.grid{stroke:#8884}\
.ours{fill:#c8442d}.other{fill:#7a8ea3}@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>";

/// What is ours is drawn in another colour.
fn class(method: &str, ours: &str) -> &'static str {
    if method.starts_with(ours) { "ours" } else { "other" }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn frame(title: &str, height: f64, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" role=\"img\">{STYLE}\
         <title>{title}</title><text class=\"title\" x=\"8\" y=\"22\">{title}</text>{body}</svg>\n",
        title = escaped(title)
    )
}

/// Horizontal bars from 0, in the order given; what is below 0 has no bar.
#[must_use]
pub fn bars(title: &str, ours: &str, values: &[(String, f64)]) -> String {
    let most = values.iter().map(|v| v.1).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - LABELS - 70.0) / most;
    let mut body = String::new();
    for (i, (name, value)) in values.iter().enumerate() {
        let y = TOP + ROW * i as f64;
        let length = (value * scale).max(0.0);
        let digits = if most > 2.0 { 1 } else { 3 };
        // Writing to a string can't fail.
        let _ = write!(
            body,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{}\" x=\"{LABELS}\" y=\"{y}\" width=\"{length:.1}\" height=\"16\" rx=\"2\"/>\
             <text x=\"{:.1}\" y=\"{}\">{value:.digits$}</text>",
            LABELS - 8.0,
            y + 13.0,
            escaped(name),
            class(name, ours),
            LABELS + length + 6.0,
            y + 13.0,
        );
    }
    frame(title, TOP + ROW * values.len() as f64 + 8.0, &body)
}

/// A dot a method in each row, on a scale from 0 to 1.
#[must_use]
pub fn dots(title: &str, ours: &str, rows: &[(String, Vec<(String, f64)>)]) -> String {
    let x = |value: f64| LABELS + value.clamp(0.0, 1.0) * (WIDTH - LABELS - 20.0);
    let bottom = TOP + ROW * rows.len() as f64;
    let mut body = String::new();
    for tenth in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let at = x(tenth);
        let _ = write!(
            body,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{tenth}</text>",
            bottom + 16.0
        );
    }
    for (i, (name, values)) in rows.iter().enumerate() {
        let y = TOP + ROW * i as f64 + 12.0;
        let _ = write!(
            body,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LABELS - 8.0,
            y + 4.0,
            escaped(name)
        );
        // Ours last, on top.
        let mut ordered: Vec<&(String, f64)> = values.iter().filter(|v| v.1.is_finite()).collect();
        ordered.sort_by_key(|v| v.0.starts_with(ours));
        for (method, value) in ordered {
            let _ = write!(
                body,
                "<circle class=\"{}\" cx=\"{:.1}\" cy=\"{y}\" r=\"5\" opacity=\"0.85\"><title>{} {value:.3}</title></circle>",
                class(method, ours),
                x(*value),
                escaped(method)
            );
        }
    }
    frame(title, bottom + 26.0, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_hold_every_value_once_and_escape_names() {
        let values = vec![
            ("ours".to_owned(), 0.5),
            ("a < b & c".to_owned(), 0.25),
            ("below".to_owned(), -3.0),
        ];
        let drawn = bars("Score", "ours", &values);
        assert_eq!(drawn.matches("<rect").count(), 3);
        assert_eq!(drawn.matches("class=\"ours\"").count(), 1);
        assert!(drawn.contains("a &lt; b &amp; c") && !drawn.contains("width=\"-"));
        let drawn = dots("Score", "ours", &[("spike".to_owned(), values)]);
        assert_eq!(drawn.matches("<circle").count(), 3);
    }
}
