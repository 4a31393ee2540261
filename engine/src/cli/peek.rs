//! `peek`: one row as the model sees it, without a GPU and before anything is trained.

use clap::Args;
use serde_json::{Map, Value, json};

use super::{Choice, Common, Format, open, out};
use crate::code;
use crate::fault::StageError;
use crate::graph::NodeId;
use crate::peek::{Fate, Peek, PeekRow, Run};
use crate::plan;
use crate::reason;
use crate::session::Session;
use crate::stage::Kind;

/// Options of `peek`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    choice: Choice,
    /// Which row: a number from 1, or `worst`, which loses most of its answer.
    #[arg(long, value_name = "N|worst", default_value = "1", value_parser = row)]
    row: PeekRow,
}

pub fn peek(options: &Options, common: &Common, kinds: fn() -> Vec<Kind>) -> i32 {
    let found = open::session(&options.choice, common, kinds).and_then(|session| {
        let node = only_stage(&session, &options.choice, common)?;
        Ok((session, node))
    });
    let (session, node) = match found {
        Ok(found) => found,
        Err(code) => return code,
    };
    let seen = look(&session, node, options.row);
    session.save_index();
    match seen {
        Ok(peek) if common.format == Format::Json => out::json(&document(&peek)),
        Ok(peek) => out::say(text(&peek)),
        Err(error) => {
            out::complain(format!("error: {error}"));
            return 1;
        }
    }
    0
}

fn row(text: &str) -> Result<PeekRow, String> {
    match (text, text.parse::<usize>()) {
        ("worst", _) => Ok(PeekRow::Worst),
        (_, Ok(number)) if number > 0 => Ok(PeekRow::Number(number)),
        _ => Err("expected a number from 1, or `worst`".into()),
    }
}

fn only_stage(session: &Session, choice: &Choice, common: &Common) -> Result<NodeId, i32> {
    let nodes = open::targets(session, choice, common)?;
    match nodes.as_slice() {
        [node] => Ok(*node),
        [] => Err(open::refuse_word(code::UNKNOWN_STAGE, "name a stage whose rows to look at".into(), common)),
        _ => {
            let message = "there are several cases of the stage; write `STAGE@CASE`".to_string();
            Err(open::refuse_word(code::UNKNOWN_STAGE, message, common))
        }
    }
}

fn look(session: &Session, node: NodeId, row: PeekRow) -> Result<Peek, StageError> {
    let stage = &session.graph.nodes[node].stage;
    let inputs = plan::inputs_of(session, node)?;
    let seen = (stage.kind.peek)(&stage.params, &inputs, row)?;
    let title = session.graph.nodes[node].title();
    seen.ok_or_else(|| StageError::failed(format!("`{title}` ({}) reads no rows that a model sees", stage.kind.name)))
}

fn document(peek: &Peek) -> Value {
    let facts: Map<String, Value> = peek.facts.iter().cloned().collect();
    json!({"facts": facts, "runs": peek.runs})
}

fn text(peek: &Peek) -> String {
    let facts: Vec<String> =
        peek.facts.iter().map(|(name, value)| format!("{name} {}", reason::shown(value))).collect();
    let runs: Vec<String> = peek.runs.iter().map(run).collect();
    format!("{}\n\n{}", facts.join(", "), runs.join("\n"))
}

/// Returns a run with its fate before each line, and its ids below.
fn run(run: &Run) -> String {
    let style = match run.fate {
        Fate::Read => "0",
        Fate::Learned => "32",
        Fate::Cut => "31",
    };
    let ids: Vec<String> = run.ids.iter().map(u32::to_string).collect();
    let line = |text: &str| format!("{:8}| {}", run.fate.word(), out::styled(style, text));
    let lines: Vec<String> = run.text.split('\n').map(line).collect();
    format!("{}\n{:8}| {}", lines.join("\n"), "ids", out::styled("2", &ids.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbers_from_one_or_the_worst() {
        assert_eq!((row("3"), row("worst")), (Ok(PeekRow::Number(3)), Ok(PeekRow::Worst)));
        assert!(row("0").is_err() && row("best").is_err());
    }

    #[test]
    fn every_line_says_what_becomes_of_it() {
        let of = |fate, text: &str, ids: &[u32]| Run { fate, text: text.into(), ids: ids.to_vec() };
        let runs = vec![of(Fate::Read, "a\nb", &[1, 2]), of(Fate::Learned, "c", &[3]), of(Fate::Cut, "d", &[4])];
        let mut peek = Peek { runs, ..Peek::default() };
        peek.fact("row", 7).fact("tokens", 3);
        assert_eq!(
            text(&peek),
            "row 7, tokens 3\n\nread    | a\nread    | b\nids     | 1 2\nlearned | c\nids     | 3\ncut     | d\nids     | 4"
        );
    }
}
