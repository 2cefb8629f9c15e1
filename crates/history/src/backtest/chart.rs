//! Pictures as SVG text inside the page: sizes in pixels, colours by class so that the page's theme decides them.

use maud::{Markup, html};

use crate::train::judge::Reliability;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 40.0;
const BOTTOM: f64 = 26.0;
const TOP: f64 = 10.0;
const RIGHT: f64 = 24.0;

/// From values to pixels of a plot.
struct Frame {
    x: (f64, f64),
    y: (f64, f64),
    width: f64,
    height: f64,
}

impl Frame {
    fn new(x: (f64, f64), y: (f64, f64)) -> Self {
        Self {
            x,
            y,
            width: WIDTH,
            height: HEIGHT,
        }
    }

    fn px(&self, x: f64) -> f64 {
        let share = (x - self.x.0) / (self.x.1 - self.x.0).max(f64::MIN_POSITIVE);
        LEFT + share.clamp(0.0, 1.0) * (self.width - LEFT - RIGHT)
    }

    fn py(&self, y: f64) -> f64 {
        let share = (y - self.y.0) / (self.y.1 - self.y.0).max(f64::MIN_POSITIVE);
        self.height - BOTTOM - share.clamp(0.0, 1.0) * (self.height - BOTTOM - TOP)
    }

    fn path(&self, points: impl Iterator<Item = (f64, f64)>) -> String {
        let mut d = String::new();
        for (x, y) in points.filter(|p| !p.1.is_nan()) {
            let step = if d.is_empty() { 'M' } else { 'L' };
            d += &format!("{step}{:.1} {:.1}", self.px(x), self.py(y));
        }
        d
    }

    /// Axes with ticks and the plot inside.
    fn draw(&self, title: &str, x_ticks: &[(f64, String)], y_ticks: &[(f64, String)], inside: &Markup) -> Markup {
        let (base, right) = (self.height - BOTTOM, self.width - RIGHT);
        html! {
            svg viewBox=(format!("0 0 {} {}", self.width, self.height)) role="img" aria-label=(title) {
                @for (y, text) in y_ticks {
                    line.grid x1=(LEFT) x2=(right) y1=(round(self.py(*y))) y2=(round(self.py(*y))) {}
                    text.tick x=(LEFT - 5.0) y=(round(self.py(*y) + 3.5)) text-anchor="end" { (text) }
                }
                line.axis x1=(LEFT) x2=(right) y1=(base) y2=(base) {}
                @for (x, text) in x_ticks {
                    text.tick x=(round(self.px(*x))) y=(base + 14.0) text-anchor="middle" { (text) }
                }
                (inside)
            }
        }
    }
}

fn round(x: f64) -> f64 {
    (x * 10.0).round() / 10.0
}

fn percent_ticks() -> Vec<(f64, String)> {
    [0.0, 0.25, 0.5, 0.75, 1.0]
        .map(|y| (y, format!("{:.0} %", y * 100.0)))
        .into()
}

/// The time before one failure: surprise by window, the warnings, the failure at 0.
pub(super) struct Timeline<'a> {
    /// Milliseconds from the onset, surprise.
    pub(super) points: &'a [(i64, f64)],
    /// Milliseconds from the onset, probability of a failure; empty without a model.
    pub(super) probabilities: &'a [(i64, f64)],
    /// Spans of precursors, milliseconds from the onset.
    pub(super) episodes: &'a [(i64, i64)],
    pub(super) horizon_ms: i64,
    pub(super) end_ms: Option<i64>,
    pub(super) title: &'a str,
}

/// Draws it.
pub(super) fn timeline(of: &Timeline<'_>) -> Markup {
    let from = -(of.horizon_ms as f64);
    let to = of.horizon_ms as f64 * 0.1;
    let top = of.points.iter().map(|p| p.1).fold(6.0, f64::max).min(12.0);
    let frame = Frame {
        height: 110.0,
        ..Frame::new((from, to), (0.0, top))
    };
    let x_ticks: Vec<(f64, String)> = [1.0, 0.75, 0.5, 0.25, 0.0]
        .map(|share| {
            (
                from * share,
                if share > 0.0 {
                    format!("−{}", span(-from * share / 1e3))
                } else {
                    "failure".into()
                },
            )
        })
        .into();
    let y_ticks = [(0.0, "0".to_owned()), (4.0, "4".to_owned()), (8.0, "8".to_owned())];
    let y_ticks: Vec<_> = y_ticks.into_iter().filter(|t| t.0 <= top).collect();
    let (base, fell) = (frame.py(0.0), frame.px(0.0));
    let inside = html! {
        @let end = of.end_ms.map_or(to, |ms| ms as f64);
        rect.down x=(round(fell)) y=(TOP) width=(round((frame.px(end) - fell).max(2.0))) height=(round(base - TOP)) {}
        @for (open, end) in of.episodes {
            @let (a, b) = (frame.px(*open as f64), frame.px(*end as f64));
            rect.warned x=(round(a)) y=(TOP) width=(round((b - a).max(2.0))) height=(round(base - TOP)) {}
            path.flag d=(format!("M{0:.1} {TOP}v7l6 -3.5z", a)) {}
        }
        path.line d=(frame.path(of.points.iter().map(|p| (p.0 as f64, p.1)))) {}
        @if !of.probabilities.is_empty() {
            path.likely d=(frame.path(of.probabilities.iter().map(|p| (p.0 as f64, p.1 * top)))) {}
            text.tick x=(round(frame.px(to) + 3.0)) y=(TOP + 4.0) { "1" }
        }
        line.fell x1=(round(fell)) x2=(round(fell)) y1=(TOP) y2=(base) {}
    };
    frame.draw(of.title, &x_ticks, &y_ticks, &inside)
}

/// Counts of values in bins of equal width from 0 to `most`.
pub(super) fn histogram(title: &str, values: &[f64], most: f64) -> Markup {
    const BINS: usize = 20;
    let mut counts = [0_u32; BINS];
    for value in values {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a bin
        let bin = ((value / most * BINS as f64) as usize).min(BINS - 1);
        counts[bin] += 1;
    }
    let top = f64::from(*counts.iter().max().unwrap_or(&1)).max(1.0);
    let frame = Frame::new((0.0, most), (0.0, top));
    let x_ticks: Vec<(f64, String)> = [0.0, 0.25, 0.5, 0.75, 1.0].map(|s| (most * s, span(most * s))).into();
    let y_ticks = [(0.0, "0".to_owned()), (top, format!("{top}"))];
    let width = (frame.px(most) - frame.px(0.0)) / BINS as f64;
    let inside = html! {
        @for (bin, count) in counts.iter().enumerate().filter(|(_, c)| **c > 0) {
            @let (x, y) = (frame.px(most * bin as f64 / BINS as f64), frame.py(f64::from(*count)));
            rect.bar x=(round(x + 1.0)) y=(round(y)) width=(round(width - 2.0)) height=(round(frame.py(0.0) - y)) {
                title { (count) " failures" }
            }
        }
    };
    frame.draw(title, &x_ticks, &y_ticks, &inside)
}

/// Recall against precision by threshold; each point carries its own label.
pub(super) fn curve(title: &str, points: &[(f64, f64, String)]) -> Markup {
    let frame = Frame::new((0.0, 1.0), (0.0, 1.0));
    let inside = html! {
        path.line d=(frame.path(points.iter().map(|p| (p.0, p.1)))) {}
        @for (x, y, text) in points {
            circle.dot cx=(round(frame.px(*x))) cy=(round(frame.py(*y))) r="3" { title { (text) } }
        }
    };
    frame.draw(title, &percent_ticks(), &percent_ticks(), &inside)
}

/// What came true of what was said, beside the diagonal; the larger a dot, the more windows.
pub(super) fn reliability(title: &str, of: &[Reliability]) -> Markup {
    let frame = Frame::new((0.0, 1.0), (0.0, 1.0));
    let most = of.iter().map(|b| b.rows).fold(1.0, f64::max);
    let inside = html! {
        path.grid d=(frame.path([(0.0, 0.0), (1.0, 1.0)].into_iter())) {}
        path.line d=(frame.path(of.iter().map(|b| (b.said, b.came)))) {}
        @for b in of {
            circle.dot cx=(round(frame.px(b.said))) cy=(round(frame.py(b.came))) r=(round(2.0 + 5.0 * (b.rows / most).sqrt())) {
                title { (format!("said {:.0} %, came {:.0} %, {:.0} windows", b.said * 100.0, b.came * 100.0, b.rows)) }
            }
        }
    };
    frame.draw(title, &percent_ticks(), &percent_ticks(), &inside)
}

/// A length of time, short: `45 s`, `12 min`, `3 h`, `2 d`.
pub(super) fn span(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        let cases = [
            (0.0, "0 s"),
            (119.0, "119 s"),
            (120.0, "2 min"),
            (7_200.0, "2 h"),
            (172_800.0, "2 d"),
        ];
        for (s, expected) in cases {
            assert_eq!(span(s), expected);
        }
    }

    #[test]
    fn pictures_stay_inside_their_frame() {
        let points = [(-3_600_000, 0.0), (-10, 40.0), (0, f64::INFINITY), (900_000, 2.0)];
        let drawn = timeline(&Timeline {
            points: &points,
            probabilities: &[(-60_000, 0.5), (0, f64::NAN)],
            episodes: &[(-7_200_000, 0)],
            horizon_ms: 3_600_000,
            end_ms: None,
            title: "a <b>",
        });
        let drawn = drawn.into_string();
        assert!(
            drawn.contains("a &lt;b&gt;") && !drawn.contains("NaN") && !drawn.contains("inf"),
            "{drawn}"
        );
        assert!(
            histogram("h", &[0.0, 5.0, 1e9], 10.0)
                .into_string()
                .matches("<rect")
                .count()
                == 3
        );
    }
}
