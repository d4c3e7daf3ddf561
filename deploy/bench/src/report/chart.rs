//! Chart of all figures relative to their goals.

use std::{error::Error, path::Path};

use plotters::{
    prelude::{IntoDrawingArea as _, PathElement, Rectangle, SVGBackend, Text},
    style::{
        Color as _, IntoFont as _, RGBColor, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{Goal, Report, Row, table};

const WIDTH: u32 = 960;
const LINE: i32 = 20;
const TOP: i32 = 56;
const LEFT: i32 = 400;
const RIGHT: i32 = 880;
/// Range of the logarithmic scale: from a sixteenth of the goal to sixteen times the goal.
const OCTAVES: f64 = 4.0;

const MET: RGBColor = RGBColor(46, 125, 80);
const MISSED: RGBColor = RGBColor(200, 90, 40);
const INK: RGBColor = RGBColor(60, 60, 60);
const PAPER: RGBColor = RGBColor(255, 255, 255);

/// Writes the chart as SVG.
pub(super) fn write(report: &Report, path: &Path) -> Result<(), Box<dyn Error>> {
    let lines = i32::try_from(report.rows.len())?;
    let bottom = TOP + lines * LINE + 8;
    let area = SVGBackend::new(path, (WIDTH, u32::try_from(bottom + 28)?)).into_drawing_area();
    area.fill(&PAPER)?;
    let font = |size: i32| ("sans-serif", size).into_font().color(&INK);
    let at = |style: TextStyle<'static>, side| style.pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(
        "Every figure beside its goal: shorter is better, the line is the goal",
        (LEFT - 380, 20),
        at(font(17), HPos::Left),
    ))?;
    for power in -4_i32..=4 {
        let x = place(2_f64.powi(power));
        let colour = if power == 0 { INK.mix(0.9) } else { INK.mix(0.15) };
        area.draw(&PathElement::new([(x, TOP - 6), (x, bottom)], colour))?;
        let label = if power < 0 {
            format!("1/{}", 1 << -power)
        } else {
            format!("{}", 1 << power)
        };
        area.draw(&Text::new(label, (x, bottom + 12), at(font(12), HPos::Center)))?;
    }
    for (row, y) in report.rows.iter().zip((TOP..).step_by(usize::try_from(LINE)?)) {
        let name = if row.database.is_empty() {
            row.scenario.clone()
        } else {
            format!("{}, {}", row.scenario, row.database)
        };
        area.draw(&Text::new(name, (LEFT - 8, y + 8), at(font(13), HPos::Right)))?;
        let x = place(share(row));
        let colour = if row.is_met { MET } else { MISSED };
        area.draw(&Rectangle::new(
            [(LEFT, y + 2), (x.max(LEFT + 2), y + 15)],
            colour.filled(),
        ))?;
        let figure = format!("{}{}", table::number(row.figure.median), row.unit.text());
        area.draw(&Text::new(
            figure,
            (x.max(LEFT + 2) + 5, y + 8),
            at(font(12), HPos::Left),
        ))?;
    }
    area.present()?;
    Ok(())
}

/// Returns the figure as a share of its goal, which is met up to 1.
fn share(row: &Row) -> f64 {
    match row.goal {
        Goal::AtMost(limit) => row.figure.median / limit,
        Goal::AtLeast(limit) => limit / row.figure.median,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a place on the picture")]
fn place(share: f64) -> i32 {
    let along = (share.log2().clamp(-OCTAVES, OCTAVES) + OCTAVES) / (2.0 * OCTAVES);
    LEFT + (along * f64::from(RIGHT - LEFT)) as i32
}
