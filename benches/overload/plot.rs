//! A run as a picture: small multiples over one axis of time, as SVG.

use std::{fmt::Write, path::Path};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 110.0;
const LEFT: f64 = 64.0;
const GAP: f64 = 34.0;
const COLOURS: [&str; 3] = ["#0b6e99", "#b5651d", "#8a8a8a"];

/// Points of one line: seconds and value.
pub type Line = Vec<(f64, f64)>;

/// One panel: what it shows, and a line for each policy.
pub struct Panel {
    pub title: String,
    pub lines: Vec<Line>,
}

/// Writes the panels below one another; `names` are those of the lines.
pub fn write(file: &Path, title: &str, names: &[&str], panels: &[Panel]) -> std::io::Result<()> {
    let height = 60.0 + panels.len() as f64 * (HEIGHT + GAP);
    let end = panels.iter().flat_map(|panel| panel.lines.iter().flatten()).map(|point| point.0).fold(1.0, f64::max);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\" font-family=\"sans-serif\" font-size=\"12\">\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/><text x=\"{LEFT}\" y=\"20\" font-size=\"15\">{title}</text>\n",
        LEFT + WIDTH + 20.0
    );
    for (at, name) in names.iter().enumerate() {
        let x = LEFT + 200.0 * at as f64;
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"40\" fill=\"{}\">{name}</text>", COLOURS[at % COLOURS.len()]);
    }
    for (at, panel) in panels.iter().enumerate() {
        let top = 66.0 + at as f64 * (HEIGHT + GAP);
        let most = panel.lines.iter().flatten().map(|point| point.1).fold(1.0, f64::max);
        let bottom = top + HEIGHT;
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{}\">{}</text><text x=\"{}\" y=\"{}\" text-anchor=\"end\">{most:.0}</text>\
             <path d=\"M{LEFT} {top}V{bottom}H{}\" fill=\"none\" stroke=\"#ccc\"/>",
            top - 6.0,
            panel.title,
            LEFT - 6.0,
            top + 10.0,
            LEFT + WIDTH
        );
        for (line, colour) in panel.lines.iter().zip(COLOURS).rev() {
            let points: Vec<String> =
                line.iter().map(|(x, y)| format!("{:.1},{:.1}", LEFT + x / end * WIDTH, bottom - y / most * HEIGHT)).collect();
            let _ = writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>", points.join(" "));
        }
    }
    let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{end:.0} s</text></svg>", LEFT + WIDTH, height - 14.0);
    std::fs::write(file, svg)
}
