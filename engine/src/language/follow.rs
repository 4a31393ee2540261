//! Outputs that keep the type of an input: `chosen` of a stage that chooses among adapters is an adapter.
//!
//! Such a type is known only when the inputs are, and these may come from another stage of the sort. So inputs of these
//! stages are bound on trial, as often as there are such stages, until no type changes; then everything is bound for good.

use crate::code;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::language::input::{Bound, Writer};
use crate::port::RecordType;

/// Settles the types of outputs that follow inputs. `bind` binds the inputs of the stage of a number.
pub fn settle(
    writers: &mut [Writer],
    bind: impl Fn(&[Writer], usize, &mut Diagnostics) -> Vec<Bound>,
    faults: &mut Diagnostics,
) {
    let following: Vec<usize> = (0..writers.len()).filter(|&index| follows(&writers[index])).collect();
    for _ in &following {
        for &index in &following {
            let bound = bind(writers, index, &mut Diagnostics::default());
            take(&mut writers[index], &bound);
        }
    }
    for &index in &following {
        let bound = bind(writers, index, &mut Diagnostics::default());
        faults.errors.extend(several_types(&writers[index], &bound));
    }
}

fn follows(writer: &Writer) -> bool {
    writer.ports.iter().flat_map(|ports| &ports.outputs).any(|out| out.follows.is_some())
}

fn take(writer: &mut Writer, bound: &[Bound]) {
    for out in writer.ports.iter_mut().flat_map(|ports| &mut ports.outputs) {
        if let Some(port) = out.follows {
            out.record = typed(bound, port).next().map_or(RecordType::Bytes, |(record, _)| record);
        }
    }
}

/// Returns the inputs of a port that have a type. `bytes` go with any.
fn typed<'b>(bound: &'b [Bound], port: &'b str) -> impl Iterator<Item = (RecordType, &'b Bound)> {
    bound.iter().map(|b| (b.0.record, b)).filter(move |(record, b)| b.0.port == port && *record != RecordType::Bytes)
}

/// Finds an input of another type than the first: one output cannot follow both.
fn several_types(writer: &Writer, bound: &[Bound]) -> Option<Diagnostic> {
    let mut ports = writer.ports.iter().flat_map(|ports| &ports.outputs).filter_map(|out| out.follows);
    ports.find_map(|port| {
        let (first, _) = typed(bound, port).next()?;
        let (other, (binding, span)) = typed(bound, port).find(|(record, _)| *record != first)?;
        let message = format!(
            "input `{port}` of stage `{}` takes inputs of one type, found `{first}` and, as `{}`, `{other}`",
            writer.name, binding.label
        );
        let help =
            "give it outputs of one type; `chosen` is of that type then".replace("chosen", follower(writer, port));
        Some(Diagnostic::at(code::WRONG_RECORD, *span, message).label(format!("`{other}`")).help(help))
    })
}

fn follower<'w>(writer: &'w Writer, port: &str) -> &'w str {
    let mut outputs = writer.ports.iter().flat_map(|ports| &ports.outputs);
    outputs.find(|out| out.follows == Some(port)).map_or("the output", |out| out.name.as_ref())
}
