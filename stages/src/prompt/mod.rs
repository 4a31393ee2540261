//! `prompt`: turns purchases into prompts, one a customer.

pub mod choice;
pub mod customer;
pub mod instructions;
pub mod length;
pub mod prose;
pub mod writer;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::fault::ParamFault;
use watershed_engine::port::RecordType::{self, Bytes, Interactions, Items, Prompts};
use watershed_engine::stage::NoRunKeys;
use watershed_engine::{Job, Ports, Stage, StageError};

use crate::record::{interaction, item, lines};
use prose::Template;
use writer::Sources;

/// Writes one prompt a customer: an instruction, and the customer's purchases as text. Uses the given interactions only.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Prompt {
    /// Form of the text: the paper's prose, or a numbered list that keeps features with their product.
    pub preset: Preset,
    /// Own form of the text (minijinja); variables: `name`, `user_id`, `instruction`, `products` (each with `title`,
    /// `brand`, `category`, `features`, `rating`, `comment`), `comment`, `commented`, `candidates`. Overrides `preset`.
    pub template: Option<String>,
    /// Instructions, assigned to customers by seed: the twelve built-in ones (the paper's own first), or a list.
    pub instructions: Instructions,
    /// How many customers: `all`, or a number. A larger number keeps the customers of a smaller one.
    pub customers: Customers,
    /// Fewest distinct products (with a title or brand) a customer must have bought.
    #[schemars(range(min = 1))]
    pub min_products: u32,
    /// Fewest distinct categories among them.
    pub min_categories: u32,
    /// What makes two categories different: the main category, the leaf, or the whole path.
    pub category_level: CategoryLevel,
    /// Most products shown, the last bought ones.
    #[schemars(range(min = 1))]
    pub max_items: u32,
    /// Order in which products are shown.
    pub order: Order,
    /// Which of the customer's comments on the products shown is quoted.
    pub comment: CommentPick,
    /// Features shown of each product; products without any show the variant bought.
    pub features_per_item: u32,
    /// Items to choose from, named in the prompt; none unless said.
    pub candidates: Option<Candidates>,
    /// Longest instruction and text together, in tokens of `tokenizer`; the oldest products are left out first.
    #[schemars(range(min = 1))]
    pub max_tokens: Option<u32>,
    /// Chooses customers, instructions, comments and candidates.
    pub seed: u64,
}

impl Default for Prompt {
    fn default() -> Prompt {
        Prompt {
            preset: Preset::Paper,
            template: None,
            instructions: Instructions::Named(Builtin::Builtin),
            customers: Customers::Named(All::All),
            min_products: 5,
            min_categories: 1,
            category_level: CategoryLevel::Path,
            max_items: 5,
            order: Order::RecentLast,
            comment: CommentPick::OneRandom,
            features_per_item: 1,
            candidates: None,
            max_tokens: None,
            seed: 0,
        }
    }
}

/// Form of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// The paper's first-person prose.
    Paper,
    /// A line for each product.
    Numbered,
}

/// Where instructions come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Instructions {
    /// Those of the program.
    Named(Builtin),
    /// The user's.
    Own(Vec<String>),
}

/// The word `builtin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Builtin {
    /// The instructions of the program.
    Builtin,
}

/// How many customers get a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Customers {
    /// All that qualify.
    Named(All),
    /// So many.
    Count(u32),
}

/// The word `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum All {
    /// Everyone.
    All,
}

/// Part of a category path that tells categories apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CategoryLevel {
    /// Its first name.
    Main,
    /// Its last name.
    Leaf,
    /// All of it.
    Path,
}

impl CategoryLevel {
    /// Returns the part of a path that counts.
    pub fn of(self, path: &[String]) -> &[String] {
        match self {
            CategoryLevel::Main => &path[..path.len().min(1)],
            CategoryLevel::Leaf => &path[path.len().saturating_sub(1)..],
            CategoryLevel::Path => path,
        }
    }
}

/// Order of the products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Oldest purchase first.
    RecentLast,
    /// Newest purchase first.
    RecentFirst,
}

/// Which comment is quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CommentPick {
    /// One drawn by seed and customer.
    OneRandom,
    /// That on the last purchase that has one.
    MostRecent,
    /// The one with the most characters.
    Longest,
    /// That on the product with the most stars.
    BestRated,
    /// No comment.
    None,
}

/// Items to choose from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Candidates {
    /// Which items are drawn.
    #[serde(default)]
    pub from: From,
    /// How many.
    #[schemars(range(min = 1))]
    pub n: u32,
    /// Whether the customer's first item of `truth` is among them.
    #[serde(default)]
    pub include_target: bool,
}

/// Where candidates come from; items that the customer owns never are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// Any items, drawn by seed and customer.
    #[default]
    Random,
    /// The items bought most.
    Popular,
}

impl Stage for Prompt {
    const KIND: &'static str = "prompt";
    const VERSION: u32 = 2;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        Ports::new()
            .reads("interactions", Interactions)
            .reads("items", Items)
            .may_read("truth", RecordType::Interactions)
            .may_read("tokenizer", Bytes)
            .writes("prompts", Prompts)
            .reports("report")
    }

    fn check(&self) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        if let Some(Err(fault)) = self.template.as_deref().map(Template::new) {
            faults.push(ParamFault::new(
                "template",
                format!("the template is faulty: {fault}"),
                "see the minijinja syntax",
            ));
        }
        if matches!(&self.instructions, Instructions::Own(texts) if texts.is_empty() || texts.iter().any(|t| t.trim().is_empty()))
        {
            faults.push(ParamFault::new(
                "instructions",
                "expected at least one instruction, none of them empty",
                "or `builtin`",
            ));
        }
        if self.candidates.as_ref().is_some_and(|candidates| candidates.n == 0) {
            faults.push(ParamFault::new(
                "candidates.n",
                "0 is no number of candidates",
                "leave `candidates` out for none",
            ));
        }
        faults
    }

    fn run(&self, _run: &NoRunKeys, job: &Job) -> Result<(), StageError> {
        let sources = Sources {
            interactions: interaction::read(job.input("interactions")?)?,
            items: item::read(job.input("items")?)?,
            truth: job.optional_input("truth").map(interaction::read).transpose()?,
            tokenizer: length::tokenizer(self.max_tokens, job.optional_input("tokenizer"))?,
        };
        let (prompts, report) = writer::write(self, &sources)?;
        job.count("prompts", prompts.len() as f64);
        lines::write(job.output("prompts"), prompts)?;
        lines::write(job.output("report"), [report])
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};
    use watershed_engine::{Kind, job::run_alone};

    use super::*;
    use crate::record::example::Example;
    use crate::record::interaction::Interaction;
    use crate::record::item::Item;

    /// Writes `users` customers; customer `i` bought `4 + i % 3` of ten items in five categories.
    fn shop(folder: &Path, users: usize) {
        let items = (0..10).map(|i| Item {
            item_id: format!("B{i}"),
            title: if i == 9 { String::new() } else { format!("Title {i}") },
            categories: vec![vec!["Home".into(), format!("Leaf {}", i % 5)]],
            features: if i % 2 == 0 { vec![format!("feature {i}"), "second".into()] } else { Vec::new() },
            ..Item::default()
        });
        item::write(&folder.join("items"), items.collect()).unwrap();
        let bought = |user: usize, n: usize| Interaction {
            user_id: format!("u{user:03}"),
            item_id: format!("B{}", (user + n) % 10),
            rating: 5.0,
            time_ms: n as i64,
            user_name: if user.is_multiple_of(7) { String::new() } else { format!("Name \"{user}\"") },
            text: format!("comment {user} {n}"),
            ..Interaction::default()
        };
        let rows = (0..users).flat_map(|user| (0..4 + user % 3).map(move |n| bought(user, n)));
        interaction::write(&folder.join("interactions"), rows.collect()).unwrap();
    }

    fn prompts(users: usize, params: Value, more: &[(&str, &Path)]) -> Result<(Vec<Example>, Value), StageError> {
        let folder = tempfile::tempdir().unwrap();
        shop(folder.path(), users);
        let (interactions, items) = (folder.path().join("interactions"), folder.path().join("items"));
        let mut inputs = vec![("interactions", "held", interactions.as_path()), ("items", "held", items.as_path())];
        inputs.extend(more.iter().map(|(port, path)| (*port, "x", *path)));
        run_alone(&Kind::of::<Prompt>(), params, &inputs, folder.path())?;
        Ok((lines::read(&folder.path().join("prompts"))?, lines::read(&folder.path().join("report"))?.remove(0)))
    }

    fn ids(rows: &[Example]) -> Vec<&str> {
        rows.iter().map(|row| row.id.as_str()).collect()
    }

    #[test]
    fn customers_with_too_few_named_products_get_no_prompt() {
        let (rows, report) = prompts(30, json!({}), &[]).unwrap();
        assert_eq!(rows.len() as u64 + report["too_few_products"].as_u64().unwrap(), 30);
        assert!(rows.iter().all(|row| row.history.len() == 5 && row.group == row.id && row.output.is_none()));
        assert!(rows.iter().all(|row| !row.history.contains(&"B9".to_string())));
        assert!(report["products_without_title"].as_u64().unwrap() > 0);
        assert_eq!(
            report["names_with_quotes"].as_u64().unwrap() + report["names_missing"].as_u64().unwrap(),
            rows.len() as u64
        );
        let message = prompts(30, json!({"min_categories": 6}), &[]).unwrap_err().to_string();
        assert!(message.contains("no customer of 30 meets `min_products: 5`, `min_categories: 6`"), "{message}");
    }

    #[test]
    fn a_new_customer_changes_no_other_row() {
        let params = json!({"seed": 3, "candidates": {"n": 2}});
        let (few, _) = prompts(20, params.clone(), &[]).unwrap();
        let (many, _) = prompts(23, params, &[]).unwrap();
        assert!(few.len() > 5 && many.len() > few.len());
        assert!(few.iter().all(|row| many.contains(row)));
    }

    #[test]
    fn fewer_customers_are_a_part_of_more() {
        let some = |n: u32| prompts(40, json!({"customers": n, "seed": 1}), &[]).unwrap().0;
        let (few, many) = (some(5), some(12));
        assert!(few.len() == 5 && many.len() == 12 && few.iter().all(|row| many.contains(row)));
        assert!(ids(&many).is_sorted());
        let message = prompts(40, json!({"customers": 400}), &[]).unwrap_err().to_string();
        assert!(message.contains("asks for 400 customers, but only"), "{message}");
    }

    #[test]
    fn presets_orders_and_templates_shape_the_text() {
        let first = |params: Value| prompts(3, params, &[]).unwrap().0.remove(0);
        let row = first(json!({"comment": "most_recent", "instructions": ["Go."]}));
        assert_eq!(row.instruction, "Go.");
        assert_eq!(
            row.input,
            "I am 'Name 1'. I bought the following products: Title 1, Title 2, Title 3, Title 4, Title 5. Here are some features of these products respectively: no listed features, feature 2, no listed features, feature 4, no listed features. For one of the products I bought, I wrote this comment: comment 1 4"
        );
        let row = first(
            json!({"preset": "numbered", "order": "recent_first", "max_items": 2, "features_per_item": 2, "comment": "none"}),
        );
        assert_eq!(row.input, "Customer: Name 1\nProducts bought:\n1. Title 5\n2. Title 4 (feature 4 second)");
        assert_eq!(row.history, ["B5", "B4"]);
        let row = first(json!({"template": "{% for p in products %}{{ p.title }};{% endfor %}", "max_items": 2}));
        assert_eq!(row.input, "Title 4;Title 5;");
    }

    #[test]
    fn the_target_is_a_candidate_only_when_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let truth = folder.path().join("truth");
        let target = Interaction { user_id: "u001".into(), item_id: "B7".into(), ..Interaction::default() };
        interaction::write(&truth, vec![target]).unwrap();
        let params = json!({"candidates": {"n": 2, "include_target": true}, "preset": "numbered"});
        let (rows, report) = prompts(3, params.clone(), &[("truth", &truth)]).unwrap();
        let row = rows.iter().find(|row| row.id == "u001").unwrap();
        assert!(row.candidates.as_ref().unwrap().contains(&"B7".to_string()) && row.input.contains("- Title 7"));
        assert!(!row.history.contains(&"B7".to_string()));
        assert_eq!(report["without_target"], json!(rows.len() - 1));
        assert!(prompts(3, params, &[]).unwrap_err().to_string().contains("needs the input `truth`"));
    }

    #[test]
    fn the_paper_s_own_instruction_stands_first_of_more_than_ten() {
        assert!(instructions::BUILTIN.len() > 10);
        assert_eq!(
            instructions::BUILTIN[0],
            "Given the products I bought and my comments below, recommend to me what I should buy next and provide a reason for your recommendation."
        );
        let used: std::collections::BTreeSet<String> =
            prompts(300, json!({}), &[]).unwrap().0.into_iter().map(|row| row.instruction).collect();
        assert_eq!(used.len(), instructions::BUILTIN.len());
    }

    #[test]
    fn long_prompts_lose_their_oldest_products_never_a_part_of_one() {
        let Some(model) = crate::text::fixture::tiny_llama("model") else { return };
        let tokenizer = crate::text::tokenizer::Tokenizer::open(&model).unwrap();
        let params = |most: Option<usize>| json!({"preset": "numbered", "comment": "none", "max_tokens": most});
        let more = [("tokenizer", model.as_path())];
        let (whole, _) = prompts(3, params(None), &more).unwrap();
        let length = |row: &Example| tokenizer.start(&format!("{}\n{}", row.instruction, row.input)).unwrap().len();
        let most = whole.iter().map(length).min().unwrap() - 1;
        let (short, report) = prompts(3, params(Some(most)), &more).unwrap();
        assert!(short.iter().all(|row| length(row) <= most && !row.history.is_empty() && row.history.len() < 5));
        assert!(short.iter().zip(&whole).all(|(short, whole)| whole.history.ends_with(&short.history)));
        assert_eq!(report["shortened"], json!(short.len()));
        let (none, report) = prompts(3, params(Some(1)), &more).unwrap();
        assert_eq!((none.len(), &report["too_long"]), (0, &json!(whole.len())));
    }

    #[test]
    fn faulty_parameters_are_named() {
        let faults =
            (Kind::of::<Prompt>().check)(&json!({"template": "{{ a", "instructions": [], "candidates": {"n": 0}}));
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["template", "instructions", "candidates.n"]);
    }
}
