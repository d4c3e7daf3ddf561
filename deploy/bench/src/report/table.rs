//! Text and tables for people.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use db::Backend;

use super::{Goal, Load, Report, Row, name};

/// Formats one row, to be printed as soon as it is available.
pub(super) fn line(row: &Row) -> String {
    let mut line = format!(
        "{} {}{}: {} ({}), goal {}: {}",
        if row.is_met { "met   " } else { "MISSED" },
        row.scenario,
        if row.database.is_empty() {
            String::new()
        } else {
            format!(", {}", row.database)
        },
        figure(row),
        row.what,
        goal(row),
        spread(row),
    );
    for load in &row.loads {
        let _ = write!(line, "\n         {}", describe(load));
    }
    line
}

fn describe(load: &Load) -> String {
    let cpu = load.cpu;
    let codes: Vec<String> = load
        .codes
        .iter()
        .map(|(code, calls)| format!("{code} {calls}"))
        .collect();
    format!(
        "{}: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, CPU us/call {:.1} service + {:.1} database ({:.1} \
        client), {:.0} MiB, peak {:.0} MiB; {}",
        load.name,
        load.calls_per_second,
        load.p50_ms,
        load.p99_ms,
        load.p999_ms,
        cpu.service,
        cpu.database,
        cpu.client,
        load.memory_mib,
        load.peak_memory_mib,
        codes.join(", "),
    )
}

/// Formats all rows as a Markdown table.
pub(super) fn table(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header([
        "scenario",
        "database",
        "figure",
        "min to max",
        "goal",
        "",
        "calls/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "service us",
        "database us",
        "client us",
    ]);
    for column in table.column_iter_mut().skip(6) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for row in &report.rows {
        let mut cells = vec![
            row.scenario.clone(),
            row.database.to_owned(),
            figure(row),
            spread(row),
            goal(row),
            if row.is_met { "met" } else { "missed" }.to_owned(),
        ];
        match row.loads.first() {
            Some(load) => cells.extend([
                format!("{:.0}", load.calls_per_second),
                format!("{:.2}", load.p50_ms),
                format!("{:.2}", load.p99_ms),
                format!("{:.2}", load.p999_ms),
                format!("{:.0}", load.cpu.service),
                format!("{:.0}", load.cpu.database),
                format!("{:.0}", load.cpu.client),
            ]),
            None => cells.extend(std::iter::repeat_n(String::new(), 7)),
        }
        table.add_row(cells);
    }
    let machine = &report.machine;
    let met = report.rows.iter().filter(|row| row.is_met).count();
    format!(
        "{table}\n{met} of {} goals met. {} cores ({}), {:.0} GiB, Linux {}; {}",
        report.rows.len(),
        machine.cores,
        machine.processor,
        machine.memory_gib,
        machine.kernel,
        machine.command,
    )
}

/// Formats only the figures as a Markdown table. Those that miss their goals are in bold.
pub(super) fn short(report: &Report) -> String {
    let mut table = Table::new();
    let [sqlite, postgres] = [Backend::Sqlite, Backend::Postgres].map(name);
    table
        .load_style(ASCII_MARKDOWN)
        .set_header(["what", sqlite, postgres, "goal"]);
    let mut scenarios: Vec<(&str, [Vec<String>; 2], String)> = Vec::new();
    for row in &report.rows {
        let place = usize::from(row.database == postgres);
        let figure = if row.is_met {
            figure(row)
        } else {
            format!("**{}**", figure(row))
        };
        if let Some((_, figures, _)) = scenarios.iter_mut().find(|(scenario, ..)| *scenario == row.scenario) {
            figures[place].push(figure);
        } else {
            let mut figures = [Vec::new(), Vec::new()];
            figures[place].push(figure);
            scenarios.push((&row.scenario, figures, goal(row)));
        }
    }
    for (scenario, figures, goal) in scenarios {
        let [sqlite, postgres] = figures.map(|figures| figures.join(", "));
        table.add_row([scenario.to_owned(), sqlite, postgres, goal]);
    }
    format!("{table}\n")
}

fn figure(row: &Row) -> String {
    format!("{}{}", number(row.figure.median), row.unit.text())
}

fn spread(row: &Row) -> String {
    let spread = row.figure;
    if spread.min.to_bits() == spread.max.to_bits() {
        return "once".to_owned();
    }
    format!("{} to {}", number(spread.min), number(spread.max))
}

fn goal(row: &Row) -> String {
    let sign = match row.goal {
        Goal::AtMost(_) => "<=",
        Goal::AtLeast(_) => ">=",
    };
    format!("{sign} {}{}", number(row.goal.limit()), row.unit.text())
}

/// Formats a number with as many digits as are meaningful.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        10.0.. => format!("{value:.0}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
