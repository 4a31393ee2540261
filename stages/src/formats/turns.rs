//! Turns that teach nothing: those after a conversation's last answer, and answers before its first question.
//!
//! People end a talk with thanks, and dumps of ShareGPT often begin with a greeting of the assistant. Chat templates refuse the
//! one, and nobody asks for the other, so both are cut off where examples are read and counted, and not where a training stops.

use serde::Serialize;

use crate::record::example::{Example, Message};

/// What was cut off the conversations of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TurnsCut {
    /// Conversations that lost a turn.
    pub rows: usize,
    /// Turns after the last turn of the assistant.
    pub trailing: usize,
    /// Turns of the assistant before the first turn of a user.
    pub leading: usize,
}

impl TurnsCut {
    /// Returns the number of turns.
    pub fn turns(&self) -> usize {
        self.trailing + self.leading
    }

    /// Cuts a row's conversation and counts what it loses; the system's turns stay, and a conversation without a user is only cut
    /// at its end.
    ///
    /// # Errors
    /// When no answer is left.
    pub fn cut(&mut self, mut row: Example) -> Result<Example, String> {
        let Some(turns) = &mut row.messages else { return Ok(row) };
        let (leading, trailing) = (drop_leading(turns), drop_trailing(turns));
        if !turns.iter().any(|turn| is_answer(turn) && !turn.content.trim().is_empty()) {
            return Err("no assistant turn answers a user".into());
        }
        self.rows += usize::from(leading + trailing > 0);
        self.leading += leading;
        self.trailing += trailing;
        Ok(row)
    }
}

fn is_answer(turn: &Message) -> bool {
    turn.role == "assistant"
}

fn drop_leading(turns: &mut Vec<Message>) -> usize {
    let asked = turns.iter().position(|turn| turn.role == "user").unwrap_or(0);
    let kept: Vec<Message> = turns.drain(..asked).filter(|turn| !is_answer(turn)).collect();
    let dropped = asked - kept.len();
    turns.splice(..0, kept);
    dropped
}

fn drop_trailing(turns: &mut Vec<Message>) -> usize {
    let (all, end) = (turns.len(), turns.iter().rposition(is_answer).map_or(0, |last| last + 1));
    turns.truncate(end);
    all - end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(roles: &[&str]) -> Example {
        let turn = |role: &&str| Message { role: role.to_string(), content: "x".into(), train: None };
        Example { messages: Some(roles.iter().map(turn).collect()), ..Example::default() }
    }

    /// What is left of a conversation, and the turns that it lost at its end and at its beginning.
    fn left(roles: &[&str]) -> Result<(Vec<String>, usize, usize), String> {
        let mut cut = TurnsCut::default();
        let turns = cut.cut(row(roles))?.messages.unwrap();
        assert_eq!(cut.rows, usize::from(cut.turns() > 0));
        Ok((turns.into_iter().map(|turn| turn.role).collect(), cut.trailing, cut.leading))
    }

    #[test]
    fn turns_that_nothing_answers_and_answers_that_nobody_asked_for_are_cut() {
        let whole = ["system", "user", "assistant"];
        for (roles, trailing, leading) in [
            (&["system", "user", "assistant"][..], 0, 0),
            (&["system", "user", "assistant", "user", "tool"], 2, 0),
            (&["system", "assistant", "user", "assistant"], 0, 1),
            (&["assistant", "system", "assistant", "user", "assistant", "user"], 1, 2),
        ] {
            assert_eq!(left(roles).unwrap(), (whole.map(String::from).to_vec(), trailing, leading), "{roles:?}");
        }
        assert_eq!(left(&["system", "assistant"]).unwrap().0, ["system", "assistant"], "nobody asks");
    }

    #[test]
    fn a_conversation_that_keeps_no_answer_is_none() {
        for roles in [&["user"][..], &["assistant", "user"], &["system", "assistant", "user"], &[]] {
            assert_eq!(left(roles), Err("no assistant turn answers a user".into()), "{roles:?}");
        }
        assert_eq!(TurnsCut::default().cut(Example::default()), Ok(Example::default()));
    }
}
