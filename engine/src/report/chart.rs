//! Line charts as inline SVG.

use std::fmt::Write;

use super::escaped;

/// One line of a chart.
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Colour.
    pub colour: String,
    /// Points in the order of x; a number that is not finite breaks the line.
    pub points: Vec<(f64, f64)>,
    /// Whether points are marked.
    pub marked: bool,
}

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 44.0;
const BOTTOM: f64 = 30.0;
const TOP: f64 = 24.0;
const RIGHT: f64 = 10.0;

/// Returns a chart with this title and name of the x axis; the y axis covers `range` if given, else the data.
pub fn line_chart(title: &str, x_name: &str, series: &[Series], range: Option<(f64, f64)>) -> String {
    let finite = || series.iter().flat_map(|s| &s.points).filter(|p| p.0.is_finite() && p.1.is_finite());
    let (x0, x1) = extent(finite().map(|p| p.0), 0.0);
    let (y0, y1) = range.unwrap_or_else(|| extent(finite().map(|p| p.1), 0.05));
    let x = |v: f64| LEFT + (v - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
    let y = |v: f64| HEIGHT - BOTTOM - (v - y0) / (y1 - y0) * (HEIGHT - BOTTOM - TOP);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escaped(title));
    let _ = write!(svg, "<text x=\"{LEFT}\" y=\"14\" font-weight=\"600\">{}</text>", escaped(title));
    for step in 0..=4 {
        let value = y0 + (y1 - y0) * f64::from(step) / 4.0;
        let at = y(value);
        let end = WIDTH - RIGHT;
        let _ = write!(svg, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>");
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 5.0,
            at + 4.0,
            number(value)
        );
    }
    for value in [x0, (x0 + x1) / 2.0, x1] {
        let anchor = if value == x1 { "end" } else { "middle" };
        let (at, below) = (x(value), HEIGHT - 14.0);
        let _ = write!(svg, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"{anchor}\">{}</text>", number(value));
    }
    let _ = write!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        (LEFT + WIDTH) / 2.0,
        HEIGHT - 2.0,
        escaped(x_name)
    );
    for (index, line) in series.iter().enumerate() {
        draw(&mut svg, line, &x, &y);
        let at = LEFT + 110.0 * index as f64 + 110.0;
        let _ = write!(svg, "<text x=\"{at}\" y=\"14\" style=\"fill:{}\">{}</text>", line.colour, escaped(&line.name));
    }
    svg + "</svg>"
}

fn draw(svg: &mut String, line: &Series, x: &dyn Fn(f64) -> f64, y: &dyn Fn(f64) -> f64) {
    let mut path = String::new();
    let mut pen_down = false;
    for &(px, py) in &line.points {
        if !py.is_finite() {
            pen_down = false;
            continue;
        }
        let _ = write!(path, "{}{:.1} {:.1}", if pen_down { "L" } else { "M" }, x(px), y(py));
        pen_down = true;
        if line.marked {
            let _ = write!(svg, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{}\"/>", x(px), y(py), line.colour);
        }
    }
    let _ = write!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\"/>", line.colour);
}

fn extent(values: impl Iterator<Item = f64>, margin: f64) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if !low.is_finite() {
        return (0.0, 1.0);
    }
    let room = if high > low { (high - low) * margin } else { 0.5 };
    (low - room, high + room)
}

fn number(value: f64) -> String {
    if value.abs() >= 100.0 || value == value.trunc() { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nan_breaks_the_line() {
        let points = vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)];
        let series = Series { name: "loss".into(), colour: "red".into(), points, marked: false };
        let svg = line_chart("t", "x", &[series], None);
        let path = svg.split("<path d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(path.matches('M').count(), 2);
    }
}
