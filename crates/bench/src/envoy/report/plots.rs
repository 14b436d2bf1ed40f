//! The results as plots.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::{Case, FilterKind, REFERENCE, Results, SERVICES, TOKEN_BYTES, variants};

/// Writes `envoy.svg`, `envoy-services.svg` and `envoy-token-bytes.svg`.
pub(super) fn write(report: &Results, folder: &Path) -> Result<()> {
    bars(report, &folder.join("envoy.svg"))?;
    let services = SERVICES.map(|services| (services, Case { services, ..REFERENCE }));
    lines(report, &folder.join("envoy-services.svg"), "services of the policy", &services)?;
    let token_bytes = TOKEN_BYTES.map(|token_bytes| (token_bytes, Case { token_bytes, ..REFERENCE }));
    lines(report, &folder.join("envoy-token-bytes.svg"), "bytes of the token", &token_bytes)
}

/// The CPU time that each row of the table adds, with its quartiles.
fn bars(report: &Results, file: &Path) -> Result<()> {
    // The naive Lua filter and signatures that are not in a cache cost many times as much, so the other bars would be too short.
    let left_out = [FilterKind::None, FilterKind::NaiveLua, FilterKind::JwtAuthn, FilterKind::Verified];
    let rows = variants::table().into_iter().filter(|case| !left_out.contains(&case.filter));
    let rows = rows.map(|case| Ok((case.label(), report.added(case)?))).collect::<Result<Vec<_>>>()?;
    let longest = rows.iter().map(|(_, added)| added.high).fold(0.0, f64::max);
    let root = SVGBackend::new(file, (900, 80 + 28 * u32::try_from(rows.len())?)).into_drawing_area();
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(TITLE, ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(25)
            .y_label_area_size(260)
            .build_cartesian_2d(0.0..longest * 1.05, (0..rows.len()).into_segmented())?;
        let label = |row: &SegmentValue<usize>| match row {
            SegmentValue::CenterOf(row) => {
                rows.iter().rev().nth(*row).map_or_else(String::new, |(label, _)| label.clone())
            }
            _ => String::new(),
        };
        chart.configure_mesh().disable_y_mesh().y_labels(rows.len()).y_label_formatter(&label).draw()?;
        for (row, (_, added)) in rows.iter().rev().enumerate() {
            let ends = [(0.0, SegmentValue::Exact(row)), (added.median, SegmentValue::Exact(row + 1))];
            let mut bar = Rectangle::new(ends, BLUE.mix(0.5).filled());
            bar.set_margin(4, 4, 0, 0);
            let middle = SegmentValue::CenterOf(row);
            let quartiles = PathElement::new([(added.low, middle.clone()), (added.high, middle)], BLACK);
            chart.draw_series([bar])?;
            chart.draw_series([quartiles])?;
        }
        Ok(root.present()?)
    };
    draw().map_err(|error| anyhow!("cannot draw {}: {error}", file.display()))
}

/// The CPU time that filters add as a quantity grows, on a logarithmic scale.
fn lines(report: &Results, file: &Path, what: &str, points: &[(usize, Case)]) -> Result<()> {
    let mut series = Vec::new();
    for row in variants::table() {
        let added = points.iter().map(|(x, point)| {
            let case = Case { filter: row.filter, tokens: row.tokens, ..*point };
            Ok((f64::from(u32::try_from(*x)?), report.added(case)?.median))
        });
        if row.filter != FilterKind::None
            && let Ok(added) = added.collect::<Result<Vec<_>>>()
        {
            series.push((row.label(), added));
        }
    }
    let ends = |of: fn(&(f64, f64)) -> f64| series.iter().flat_map(|(_, added)| added).map(of).fold(0.0, f64::max);
    // Leaves room for the legend above the lines.
    let top = ends(|point| point.1) * 50.0;
    let root = SVGBackend::new(file, (900, 500)).into_drawing_area();
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(TITLE, ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(50)
            .build_cartesian_2d(0.0..ends(|point| point.0), (1.0..top).log_scale())?;
        chart.configure_mesh().x_desc(what).draw()?;
        for (index, (label, added)) in series.iter().enumerate() {
            let color = Palette99::pick(index).to_rgba();
            chart
                .draw_series(LineSeries::new(added.iter().copied(), color.stroke_width(2)).point_size(3))?
                .label(label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE)
            .border_style(BLACK)
            .draw()?;
        Ok(root.present()?)
    };
    draw().map_err(|error| anyhow!("cannot draw {}: {error}", file.display()))
}

const TITLE: &str = "CPU time that a filter adds to a request (µs)";
