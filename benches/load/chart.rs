//! The measurements as a chart: latency and insert rate by number of rows, cts solid and the baseline
//! faint.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::Result;
use crate::figures::Line;

const SIZE: (u32, u32) = (1200, 560);
const LOOKUPS: [&str; 6] = [
    "H01 indications_direction",
    "H02 indications_direction",
    "H03 indications_direction",
    "H08 pseudo_positions",
    "H16 pseudo_positions",
    "H25 site_logs",
];
const INSERTS: [&str; 3] = [
    "insert indications_direction, by 100, own settings",
    "insert pseudo_positions, by 100, own settings",
    "insert site_logs, by 100, own settings",
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Point = (f64, f64);

/// A measurement of both sides at each size.
struct Curve {
    what: &'static str,
    ours: Vec<Point>,
    baseline: Vec<Point>,
}

pub fn draw(file: &Path, lines: &[Line]) -> Result<()> {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(SIZE.0 / 2);
    plot(
        &left,
        "p50 of a lookup, in microseconds, against rows (dashed: baseline)",
        &curves(lines, &LOOKUPS),
    )?;
    plot(
        &right,
        "rows inserted a second, 100 a transaction (dashed: baseline)",
        &curves(lines, &INSERTS),
    )?;
    root.present()?;
    Ok(())
}

fn curves(lines: &[Line], titles: &[&'static str]) -> Vec<Curve> {
    let curve = |&what: &&'static str| {
        let of = || lines.iter().filter(move |line| line.what == what);
        Curve {
            what,
            ours: of().map(|line| (line.rows as f64, line.ours.p50)).collect(),
            baseline: of()
                .filter_map(|line| Some((line.rows as f64, line.baseline?.p50)))
                .collect(),
        }
    };
    titles.iter().map(curve).collect()
}

fn plot(area: &Area, title: &str, curves: &[Curve]) -> Result<()> {
    let points = || curves.iter().flat_map(|curve| curve.ours.iter().chain(&curve.baseline));
    let range = |axis: fn(&Point) -> f64| {
        let (low, high) = points()
            .map(axis)
            .fold((f64::MAX, 0.0_f64), |(low, high), at| (low.min(at), high.max(at)));
        (low / 1.5..high * 1.5).log_scale()
    };
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 17))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(70)
        .build_cartesian_2d(range(|point| point.0), range(|point| point.1))?;
    let figure = |figure: &f64| {
        if *figure < 10_000.0 { figure.to_string() } else { format!("{figure:.0e}") }
    };
    chart.configure_mesh().x_label_formatter(&figure).y_label_formatter(&figure).draw()?;
    for (number, curve) in curves.iter().enumerate() {
        let color = Palette99::pick(number);
        let (solid, faint) = (color.stroke_width(2), color.mix(0.4).stroke_width(1));
        let points = curve.ours.iter().map(|&point| Circle::new(point, 3, solid.filled()));
        chart.draw_series(points)?;
        chart
            .draw_series(LineSeries::new(curve.ours.clone(), solid))?
            .label(curve.what)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], solid));
        chart.draw_series(DashedLineSeries::new(curve.baseline.clone(), 5, 4, faint))?;
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(("sans-serif", 12))
        .draw()?;
    Ok(())
}
