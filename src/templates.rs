//! The projects that `watershed init --template NAME` writes: each runs as it stands.

use watershed_engine::cli::Template;

const IGNORED: (&str, &str) = (".gitignore", "/.watershed\n/report.html\n");
const TOKENIZER: (&str, &str) = ("tokenizer.json", include_str!("../templates/tokenizer.json"));

/// All templates; the first is the default.
pub const ALL: &[Template] = &[
    Template {
        name: "quickstart",
        about: "reviews made up on the spot, a tiny LoRA-tuned model, two recommenders on the same customers",
        files: &[("watershed.yaml", include_str!("../templates/quickstart.yaml")), TOKENIZER, IGNORED],
    },
    Template {
        name: "finetune",
        about: "my JSONL and my model folder",
        files: &[
            ("watershed.yaml", include_str!("../templates/finetune.yaml")),
            ("data.jsonl", include_str!("../templates/data.jsonl")),
            TOKENIZER,
            IGNORED,
        ],
    },
    Template {
        name: "paper",
        about: "the study's five configurations as a sweep, on made-up reviews and a tiny model",
        files: &[("watershed.yaml", include_str!("../templates/paper.yaml")), TOKENIZER, IGNORED],
    },
    Template {
        name: "sweep",
        about: "a grid of ranks and learning rates over one data set",
        files: &[
            ("watershed.yaml", include_str!("../templates/sweep.yaml")),
            ("data.jsonl", include_str!("../templates/data.jsonl")),
            TOKENIZER,
            IGNORED,
        ],
    },
];
