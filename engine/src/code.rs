//! The codes of diagnostics and of lints: two tables, from which `explain` is made.
//!
//! The examples of a code lie in `explain/CODE.yaml`, a bad one and a good one; `tests/it/explain.rs` executes them all. A code
//! is never given another meaning; a fault that disappears leaves its number unused.

/// What a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// The code.
    pub code: &'static str,
    /// What is wrong, in a few words.
    pub title: &'static str,
    /// Why it is a fault and how to mend it.
    pub text: &'static str,
    examples: &'static str,
}

/// A pipeline that shows a code, or its mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Example {
    /// The command line under which it shows.
    pub command: &'static str,
    /// The pipeline.
    pub text: &'static str,
}

impl Code {
    /// Returns a pipeline that has the fault.
    pub fn bad(&self) -> Example {
        self.halves().0
    }

    /// Returns the same pipeline mended.
    pub fn good(&self) -> Example {
        self.halves().1
    }

    fn halves(&self) -> (Example, Example) {
        let (bad, good) = self.examples.split_once("# good: ").expect("every page has a good example");
        let example = |half: &'static str| {
            let (command, text) = half.split_once('\n').expect("an example begins with its command");
            Example { command, text }
        };
        (example(bad.trim_start_matches("# bad: ")), example(good))
    }
}

macro_rules! codes {
    ($(#[$about:meta])* $all:ident: $($name:ident = $code:literal, $title:literal, $text:literal;)*) => {
        $(#[doc = $title] pub const $name: &str = $code;)*
        $(#[$about])*
        pub const $all: &[Code] = &[$(Code {
            code: $code,
            title: $title,
            text: $text,
            examples: include_str!(concat!("explain/", $code, ".yaml")),
        }),*];
    };
}

codes! {
    /// All codes of faults, in order.
    ALL:
    UNREADABLE = "E001", "the pipeline file cannot be read",
        "The file is missing, may not be read, or is not UTF-8 text. Without a FILE, `watershed.yaml` of the current folder is read.";
    NOT_YAML = "E002", "the text is not YAML",
        "Indent with spaces, close quotes and brackets, and quote text that begins with one of `{ [ * & ! % @`.";
    DUPLICATE_KEY = "E003", "a key stands twice in one map",
        "Names of stages, parameters and ports are unique within their map. Rename or remove one.";
    TOO_LARGE = "E004", "the text is larger, deeper or more repetitive than is read",
        "A pipeline has at most 4 MiB and 32 levels, and uses aliases at most 1000 times. Keep data in files of its own.";
    WRONG_SHAPE = "E005", "a part of the pipeline has the wrong form",
        "For example `stages:` is a map of names to stages, and a stage is a map with `use`, `in`, `with` and `run`.";
    UNKNOWN_KEY = "E006", "an unknown key",
        "The message lists the keys that are known there. `watershed kinds KIND` prints the parameters of a kind.";
    UNKNOWN_KIND = "E007", "an unknown kind of stage",
        "`watershed kinds` lists all kinds.";
    BAD_STAGE_NAME = "E008", "a stage may not be called so",
        "A name begins with a letter or `_` and holds letters, digits, `_` and `-`. `params`, `env`, `sweeps`, `stages` and `case` are taken, because override paths begin with them.";
    WRONG_TYPE = "E009", "a parameter has the wrong type",
        "Write `3.0e-4` for a number and `\"3\"` for text. Only finite numbers are numbers.";
    OUT_OF_RANGE = "E010", "a parameter is out of its range",
        "The message shows the range.";
    UNKNOWN_CHOICE = "E011", "a parameter names a choice that there is not",
        "The message lists the choices.";
    BAD_PARAMETERS = "E012", "parameters that do not go together",
        "Each is fine alone, but not with the others. The message says which one to change.";
    MISSING_PARAMETER = "E013", "a parameter without a default is missing",
        "Write it in the stage's `with`.";
    UNKNOWN_SOURCE = "E014", "an input that nothing writes",
        "An input is `STAGE`, `STAGE.port`, `STAGE.port/path`, a path that begins with `./`, `../` or `/`, `ROOT:path`, `hf:OWNER/NAME@COMMIT` or `https://ADDRESS#sha256=DIGEST`.";
    UNKNOWN_PORT = "E015", "a port that the kind does not have",
        "`watershed kinds KIND` prints the ports of a kind.";
    MISSING_INPUT = "E016", "a required input is missing",
        "Give it in the stage's `in`.";
    AMBIGUOUS_INPUT = "E017", "a short form that could mean several outputs, or none",
        "`in: S` and `port: S` take the output of the port's name, else the only one of its type. Otherwise name it: `S.port`.";
    WRONG_RECORD = "E018", "an input of the wrong record type",
        "`examples` stands in for `prompts`, both for `customers`, anything for `bytes`, and `bytes` for anything. Other types need a stage between.";
    REPORT_AS_INPUT = "E019", "a report used as an input",
        "Reports may hold clocks and hosts, so no stage may read them. Read a data output instead.";
    CYCLE = "E020", "stages that wait for each other",
        "Remove one of the inputs shown, so that the stages have an order.";
    MISSING_FILE = "E021", "a file that is not there",
        "Paths are relative to the file in which they stand; in `--set`, to the current folder.";
    OUTSIDE_ROOT = "E022", "a path outside the project",
        "Inputs lie inside the project: the nearest folder above with `watershed.root` or `.git`, else the pipeline's folder. Name other folders in `roots:` and write `NAME:path`.";
    NOT_A_FILE = "E023", "a path that is neither a file nor a folder",
        "Devices, pipes and sockets cannot be inputs.";
    NOT_AVAILABLE = "E024", "a form that this version does not have yet",
        "The language reserves it. What lies in a bucket or on a server of files is downloaded into the project first, or named by `https:`.";
    UNKNOWN_NAME = "E025", "an unknown name in `${}`",
        "`${params.x}` needs `x` in `params:`; `${env.X}` needs `X` in `env:`. Write `$${` for a plain `${`.";
    PARAMS_CYCLE = "E026", "parameters that are made of each other",
        "Remove one of the references shown.";
    TEXT_TOO_LONG = "E027", "`${}` makes a text that is too long",
        "A text may grow to 64 KiB, and all texts together to 4 MiB.";
    ENV_NOT_SET = "E028", "a declared environment variable is not set",
        "Set it, or give a default: `env: {NAME: default}`.";
    BAD_OVERRIDE = "E029", "an override of something that there is not",
        "Override paths are `params.NAME`, `STAGE.key`, `STAGE.in.PORT` and `STAGE.run.KEY`.";
    UNKNOWN_SWEEP = "E030", "an unknown sweep or case",
        "`sweeps:` of the pipeline names them.";
    BAD_SWEEP = "E031", "a sweep that cannot be expanded",
        "A sweep has `cases` (name to overrides), `grid` (path to values) or `random` (path to a distribution, with `n` and `seed`) or several of them, `set` for all cases, and `extends`.";
    BAD_EXPECTATION = "E032", "an expectation that cannot be compared",
        "Write `STAGE.METRIC: \"<= 0.05\"` with one of `<=`, `<`, `>=`, `>`, `==`; the stage has an output of type `metrics`.";
    BAD_RUN_KEY = "E033", "a `run` key with an unusable value",
        "Sizes are `8GB` or `512MiB`, times `90s`, `15m`, `6h` or `2d`.";
    UNPINNED = "E034", "an input from elsewhere that is not pinned",
        "What is named by a branch or an address alone may change from one day to the next. `hf:` takes a whole commit and reads the Hugging Face cache, `https:` takes `#sha256=DIGEST` and is fetched once. Addresses are kept in records, so they hold no secrets.";
    UNKNOWN_STAGE = "E035", "a stage that the pipeline does not have",
        "Stages on the command line are named as in `stages:`, in a sweep perhaps with their case: `STAGE@CASE`.";
}

codes! {
    /// All codes of lints, in order.
    LINTS:
    ANSWERS_CUT = "L001", "answers are cut off",
        "Rows longer than `max_len` lose tokens of their answer, and the model learns answers that stop in the middle. Raise `max_len`, or set `overflow: truncate_input`, which cuts the middle of the input instead.";
    NO_END = "L002", "answers without an end",
        "Rows that teach no end token leave a model that may never stop. Raise `max_len`, or set `overflow: truncate_input`, which keeps the end.";
    NEVER_WARM = "L003", "the learning rate never arrives",
        "There are no more updates than the warm-up takes, or none at all, so the learning rate in `lr` is never reached. Lower `warmup` or `batch_size`, or train for more `epochs`.";
    LEAK = "L004", "training and validation share rows",
        "Rows of `val` or `test` share their customer or their text with `train`, so the loss on them looks better than it is. Make both with one `split`, which keeps groups together, and leave rows with the same text in one of them.";
    ROWS_SHORTENED = "L005", "inputs are cut or rows left out",
        "`overflow` shortens or drops rows longer than `max_len`, as it was told. Raise `max_len` to keep them whole.";
    NO_ROWS = "L006", "no rows are left",
        "`train` has no row, or `val` or `test` has rows and none with a label: `overflow` left them out or cut every answer off, so there is nothing to learn or to measure. Raise `max_len`, or set `overflow: truncate_input`, which keeps answers whole.";
    NOT_TOGETHER = "L007", "settings or inputs that do not go together",
        "A setting has no effect beside the others, such as `early_stop` without `val`, the files of the base name different ends of a text, rows hold what the base reads as a mark, or training goes on from an adapter that was trained with another template, `system`, tokenizer or base. The message says which.";
    UNPINNED_TOOL = "L010", "a tool whose version is in no key",
        "The command calls an interpreter; another version of it may give other bytes, but would be served the old result. Name how it tells its version in `tools`.";
}

/// Returns what a code means.
pub fn find(code: &str) -> Option<&'static Code> {
    ALL.iter().chain(LINTS).find(|c| c.code.eq_ignore_ascii_case(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_order() {
        assert!(LINTS.windows(2).all(|pair| pair[0].code < pair[1].code));
        assert!(ALL.windows(2).all(|pair| pair[0].code < pair[1].code));
        assert_eq!(find("e014").map(|c| c.code), Some(UNKNOWN_SOURCE));
    }
}
