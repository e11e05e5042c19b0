//! The results as plots, each an SVG file of its own.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use crate::measure::{LONG, SIZES};
use crate::results::Results;
use crate::rivals::TOOLPOOL;

const WIDTH: f64 = 860.0;
const COLOURS: [&str; 13] = [
    "#d62728", "#ff9896", "#7f7f7f", "#1f77b4", "#2ca02c", "#98df8a", "#9467bd", "#8c564b",
    "#c49c94", "#e377c2", "#bcbd22", "#17becf", "#393b79",
];

pub fn write(results: &Results, folder: &Path) -> std::io::Result<()> {
    for (work, title, file) in [
        ("no_op", "Overhead a call, tools that do nothing", "overhead-no-op.svg"),
        ("nap", "Overhead a call, tools that sleep 5 ms", "overhead-sleeping.svg"),
    ] {
        std::fs::write(folder.join(file), lines(results, work, title))?;
    }
    std::fs::write(folder.join("long.svg"), bars(results))
}

struct Svg(String);

impl Svg {
    fn new(title: &str, height: f64) -> Self {
        let mut svg = Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        ));
        svg.text(20.0, 26.0, "start", &format!("<tspan font-size=\"16\">{title}</tspan>"));
        svg
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), style: &str) {
        let _ = writeln!(
            self.0,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>"
        );
    }

    fn end(self) -> String {
        self.0 + "</svg>\n"
    }
}

/// The rivals of a work in the order of the tables, each with its colour.
fn rivals<'a>(results: &'a Results, work: &str) -> Vec<(&'a str, &'static str)> {
    let mut seen = BTreeSet::new();
    let rows = results.rows.iter().filter(|row| row.work == work);
    let names = rows.map(|row| row.rival.as_str()).filter(|rival| seen.insert(*rival));
    names.zip(COLOURS.into_iter().cycle()).collect()
}

/// The powers of ten around these values.
fn decades(values: &[f64]) -> (i32, i32) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min).max(1e-3);
    let most = values.iter().copied().fold(least, f64::max);
    let (low, high) = (least.log10().floor() as i32, most.log10().ceil() as i32);
    (low, high.max(low + 1))
}

fn power(decade: i32) -> String {
    if decade < 0 {
        format!("{}", 10_f64.powi(decade))
    } else {
        format!("{}", 10_i64.pow(decade as u32))
    }
}

fn lines(results: &Results, work: &str, title: &str) -> String {
    const HEIGHT: f64 = 460.0;
    const LEFT: f64 = 70.0;
    const RIGHT: f64 = 600.0;
    const TOP: f64 = 50.0;
    const BOTTOM: f64 = 410.0;
    let rivals = rivals(results, work);
    let value = |rival: &str, n: usize| Some(results.row(rival, work, n)?.micros / n as f64);
    let values: Vec<f64> =
        rivals.iter().flat_map(|(rival, _)| SIZES.map(|n| value(rival, n))).flatten().collect();
    let (low, high) = decades(&values);
    let y = |value: f64| {
        let part = (value.max(1e-3).log10() - f64::from(low)) / f64::from(high - low);
        BOTTOM - part * (BOTTOM - TOP)
    };
    let x = |at: usize| LEFT + (RIGHT - LEFT) * at as f64 / (SIZES.len() - 1) as f64;
    let mut svg = Svg::new(title, HEIGHT);
    for decade in low..=high {
        let at = y(10_f64.powi(decade));
        svg.line((LEFT, at), (RIGHT, at), "stroke=\"#ddd\"");
        svg.text(LEFT - 8.0, at + 4.0, "end", &format!("{} µs", power(decade)));
    }
    for (at, n) in SIZES.into_iter().enumerate() {
        svg.text(x(at), BOTTOM + 20.0, "middle", &format!("n = {n}"));
    }
    for (at, (rival, colour)) in rivals.iter().enumerate() {
        let points = SIZES.into_iter().enumerate();
        let points = points.filter_map(|(at, n)| Some((x(at), y(value(rival, n)?))));
        let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let width = if *rival == TOOLPOOL { 4 } else { 2 };
        let _ = writeln!(
            svg.0,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
            points.join(" ")
        );
        let row = TOP + 24.0 * at as f64;
        let style = format!("stroke=\"{colour}\" stroke-width=\"{width}\"");
        svg.line((RIGHT + 20.0, row), (RIGHT + 44.0, row), &style);
        svg.text(RIGHT + 52.0, row + 4.0, "start", rival);
    }
    svg.end()
}

fn bars(results: &Results) -> String {
    const LEFT: f64 = 240.0;
    const RIGHT: f64 = 760.0;
    const TOP: f64 = 60.0;
    const ROW: f64 = 40.0;
    let rivals = rivals(results, "long_nap");
    let value = |rival: &str, work: &str| Some(results.row(rival, work, LONG)?.micros / 1e3);
    let works = [("long_nap", "warm", 1.0), ("long_nap_cold", "cold", 0.45)];
    let values: Vec<f64> = rivals
        .iter()
        .flat_map(|(rival, _)| works.map(|(work, ..)| value(rival, work)))
        .flatten()
        .collect();
    let (low, high) = decades(&values);
    let x = |value: f64| {
        let part = (value.max(1e-3).log10() - f64::from(low)) / f64::from(high - low);
        LEFT + part * (RIGHT - LEFT)
    };
    let bottom = TOP + ROW * rivals.len() as f64;
    let title = format!("{LONG} calls of 20 ms: milliseconds over the longest call");
    let mut svg = Svg::new(&title, bottom + 40.0);
    for decade in low..=high {
        let at = x(10_f64.powi(decade));
        svg.line((at, TOP), (at, bottom), "stroke=\"#ddd\"");
        svg.text(at, bottom + 20.0, "middle", &format!("{} ms", power(decade)));
    }
    for (at, (rival, colour)) in rivals.iter().enumerate() {
        let top = TOP + ROW * at as f64;
        svg.text(LEFT - 10.0, top + 22.0, "end", rival);
        for (nth, (work, name, opacity)) in works.into_iter().enumerate() {
            let Some(value) = value(rival, work) else { continue };
            let (top, width) = (top + 4.0 + 16.0 * nth as f64, x(value) - LEFT);
            let _ = writeln!(
                svg.0,
                "<rect x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"14\" fill=\"{colour}\" \
                 fill-opacity=\"{opacity}\"/>",
                width.max(1.0)
            );
            svg.text(x(value) + 6.0, top + 11.0, "start", &format!("{value:.1} {name}"));
        }
    }
    svg.end()
}
