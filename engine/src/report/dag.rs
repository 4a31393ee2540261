//! The graph of a run as a picture: layers from left to right, coloured by outcome.

use std::fmt::Write;

use super::escaped;
use super::style::outcome_colour;
use crate::archive::Run;
use crate::session::Session;

const BOX_WIDTH: usize = 132;
const BOX_HEIGHT: usize = 36;
const GAP_X: usize = 46;
const GAP_Y: usize = 12;

/// One box.
struct Cell {
    title: String,
    subtitle: String,
    colour: &'static str,
    hover: String,
    parents: Vec<usize>,
}

/// Draws a run.
pub fn of_run(run: &Run) -> String {
    let index = |title: &String| run.nodes.iter().position(|n| n.title() == *title);
    let cells = run.nodes.iter().map(|node| {
        let reasons: Vec<&str> = node.reasons.iter().map(|r| r.text.as_str()).collect();
        Cell {
            title: node.title(),
            subtitle: node.kind.clone(),
            colour: outcome_colour(&node.outcome),
            hover: format!("{} {}: {}", node.title(), node.outcome, reasons.join(", ")),
            parents: node.reads.iter().filter_map(index).collect(),
        }
    });
    draw(&cells.collect::<Vec<_>>())
}

/// Draws a pipeline that has not run.
pub fn of_session(session: &Session) -> String {
    let cells = session.graph.nodes.iter().enumerate().map(|(id, node)| Cell {
        title: node.title(),
        subtitle: node.stage.kind.name.into(),
        colour: outcome_colour("hit"),
        hover: node.title(),
        parents: session.graph.parents(id).collect(),
    });
    draw(&cells.collect::<Vec<_>>())
}

/// Returns the column of each box: one right of the last box that it reads.
fn columns(cells: &[Cell]) -> Vec<usize> {
    let mut columns: Vec<usize> = Vec::new();
    for cell in cells {
        let after = cell.parents.iter().filter_map(|&p| columns.get(p)).max().map_or(0, |c| c + 1);
        columns.push(after);
    }
    columns
}

fn draw(cells: &[Cell]) -> String {
    let columns = columns(cells);
    let mut filled = vec![0usize; columns.iter().max().map_or(1, |c| c + 1)];
    let mut places = Vec::new();
    for &column in &columns {
        places.push((column * (BOX_WIDTH + GAP_X) + 2, filled[column] * (BOX_HEIGHT + GAP_Y) + 2));
        filled[column] += 1;
    }
    let width = filled.len() * (BOX_WIDTH + GAP_X);
    let height = filled.iter().max().copied().unwrap_or(1) * (BOX_HEIGHT + GAP_Y) + 4;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" role=\"img\" aria-label=\"graph of stages\">"
    );
    for (id, cell) in cells.iter().enumerate() {
        cell.parents.iter().filter(|&&p| p < places.len()).for_each(|&p| edge(&mut svg, places[p], places[id]));
    }
    cells.iter().zip(&places).for_each(|(cell, place)| draw_cell(&mut svg, cell, *place));
    svg + "</svg>"
}

fn edge(svg: &mut String, from: (usize, usize), to: (usize, usize)) {
    let (x0, y0) = (from.0 + BOX_WIDTH, from.1 + BOX_HEIGHT / 2);
    let (x1, y1) = (to.0, to.1 + BOX_HEIGHT / 2);
    let middle = (x0 + x1) / 2;
    let _ = write!(
        svg,
        "<path class=\"grid\" d=\"M{x0} {y0}C{middle} {y0} {middle} {y1} {x1} {y1}\" fill=\"none\" stroke=\"#9aa3af\"/>"
    );
}

fn draw_cell(svg: &mut String, cell: &Cell, (x, y): (usize, usize)) {
    let _ = write!(svg, "<g><title>{}</title>", escaped(&cell.hover));
    let _ = write!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{BOX_WIDTH}\" height=\"{BOX_HEIGHT}\" rx=\"4\" fill=\"{0}22\" stroke=\"{0}\"/>",
        cell.colour
    );
    let line = |dy: usize, text: &str, weight: &str| {
        format!(
            "<text x=\"{}\" y=\"{}\" font-size=\"11\" font-weight=\"{weight}\">{}</text>",
            x + 7,
            y + dy,
            escaped(text)
        )
    };
    let short: String = cell.title.chars().take(20).collect();
    svg.push_str(&line(15, &short, "600"));
    svg.push_str(&line(29, &cell.subtitle, "400"));
    svg.push_str("</g>");
}
