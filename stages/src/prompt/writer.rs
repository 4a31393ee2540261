//! From customers to prompts: who gets one, what it shows, how it reads, and what was missing.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use watershed_engine::StageError;

use super::choice::{self, Pool};
use super::customer::{self, Bought, Customer};
use super::prose::{self, Template, View};
use super::{Customers, Instructions, Order, Preset, Prompt, instructions};
use crate::record::example::Example;
use crate::record::interaction::Interaction;
use crate::record::item::Item;
use crate::seeded::draw;
use crate::text::tokenizer::Tokenizer;

/// What prompts are made from.
pub struct Sources {
    /// Purchases that may be shown.
    pub interactions: Vec<Interaction>,
    /// The catalogue.
    pub items: Vec<Item>,
    /// Held-out purchases, for `include_target` alone.
    pub truth: Option<Vec<Interaction>>,
    /// Measures prompts, under `max_tokens`.
    pub tokenizer: Option<Tokenizer>,
}

/// How often something happened, for the report.
type Tally = BTreeMap<&'static str, u64>;

/// Writes the prompts, sorted by customer, and the report.
///
/// # Errors
/// When too few customers qualify, a template fails, or a target is asked for without truth.
pub fn write(params: &Prompt, sources: &Sources) -> Result<(Vec<Example>, Value), StageError> {
    let items: HashMap<&str, &Item> = sources.items.iter().map(|item| (item.item_id.as_str(), item)).collect();
    let customers = customer::gather(&sources.interactions, &items, params.features_per_item as usize);
    let mut tally = unnamed(&customers, &items);
    let chosen = choose(params, &customers, &mut tally)?;
    let writer = Writer::new(params, sources, &items)?;
    let mut prompts = Vec::with_capacity(chosen.len());
    for customer in chosen {
        prompts.extend(writer.prompt(customer, &mut tally)?);
    }
    tally.insert("prompts", prompts.len() as u64);
    let mut used: BTreeMap<&str, u64> = BTreeMap::new();
    prompts.iter().for_each(|prompt| *used.entry(&prompt.instruction).or_default() += 1);
    let mut report = json!(tally);
    report["instructions"] = json!(used);
    Ok((prompts, report))
}

/// Starts the tally with what no prompt can show.
fn unnamed(customers: &[Customer], items: &HashMap<&str, &Item>) -> Tally {
    let owned = || customers.iter().flat_map(|customer| &customer.owned);
    let known = |id: &&String| items.contains_key(id.as_str());
    let untitled = |id: &&String| items.get(id.as_str()).is_some_and(|item| customer::title(item).is_none());
    Tally::from([
        ("customers", customers.len() as u64),
        ("products_not_in_items", owned().filter(|id| !known(id)).count() as u64),
        ("products_without_title", owned().filter(untitled).count() as u64),
    ])
}

/// Returns the customers who get a prompt, sorted by id.
fn choose<'a>(params: &Prompt, customers: &'a [Customer], tally: &mut Tally) -> Result<Vec<&'a Customer>, StageError> {
    let (enough, few): (Vec<&Customer>, Vec<&Customer>) =
        customers.iter().partition(|customer| customer.products.len() >= params.min_products as usize);
    let (mut fit, narrow): (Vec<&Customer>, Vec<&Customer>) = enough
        .into_iter()
        .partition(|customer| customer.categories(params.category_level) >= params.min_categories as usize);
    tally.insert("too_few_products", few.len() as u64);
    tally.insert("too_few_categories", narrow.len() as u64);
    tally.insert("qualified", fit.len() as u64);
    let minima = format!("`min_products: {}`, `min_categories: {}`", params.min_products, params.min_categories);
    if fit.is_empty() {
        return Err(StageError::failed(format!("no customer of {} meets {minima}: lower them", customers.len())));
    }
    if let Customers::Count(count) = params.customers {
        if count as usize > fit.len() {
            let (found, all) = (fit.len(), customers.len());
            return Err(StageError::failed(format!(
                "`customers` asks for {count} customers, but only {found} of {all} meet {minima}: lower one of them"
            )));
        }
        fit.sort_by_key(|customer| (draw(params.seed, &customer.user_id), &customer.user_id));
        fit.truncate(count as usize);
        fit.sort_by_key(|customer| &customer.user_id);
    }
    Ok(fit)
}

/// What stays the same from prompt to prompt.
struct Writer<'a> {
    params: &'a Prompt,
    template: Option<Template<'a>>,
    instructions: Vec<&'a str>,
    pool: Pool<'a>,
    targets: HashMap<&'a str, &'a Item>,
    tokenizer: Option<&'a Tokenizer>,
}

impl<'a> Writer<'a> {
    fn new(
        params: &'a Prompt,
        sources: &'a Sources,
        items: &HashMap<&'a str, &'a Item>,
    ) -> Result<Writer<'a>, StageError> {
        let instructions = match &params.instructions {
            Instructions::Named(_) => instructions::BUILTIN.to_vec(),
            Instructions::Own(texts) => texts.iter().map(String::as_str).collect(),
        };
        Ok(Writer {
            params,
            template: params.template.as_deref().map(Template::new).transpose().map_err(template_fault)?,
            instructions,
            pool: Pool::new(&sources.items, &sources.interactions),
            targets: targets(params, sources, items)?,
            tokenizer: sources.tokenizer.as_ref(),
        })
    }

    /// Writes one prompt; `None` when even one product is too long.
    fn prompt(&self, customer: &Customer, tally: &mut Tally) -> Result<Option<Example>, StageError> {
        let instruction = choice::instruction(self.params.seed, &customer.user_id, &self.instructions);
        let candidates = self.candidates(customer, tally);
        let products: Vec<&Bought> = customer.products.iter().collect();
        let most = products.len().min(self.params.max_items as usize);
        for shown in (1..=most).rev() {
            let view = self.view(customer, instruction, &products[products.len() - shown..], &candidates);
            let input = self.text(&view)?;
            if self.fits(instruction, &input)? {
                note(&view, customer, tally);
                *tally.entry("shortened").or_default() += u64::from(shown < most);
                return Ok(Some(example(&view, input, &candidates)));
            }
        }
        *tally.entry("too_long").or_default() += 1;
        Ok(None)
    }

    fn candidates(&self, customer: &Customer, tally: &mut Tally) -> Vec<&'a Item> {
        let Some(wanted) = &self.params.candidates else { return Vec::new() };
        let target = self.targets.get(customer.user_id.as_str()).copied();
        *tally.entry("without_target").or_default() += u64::from(wanted.include_target && target.is_none());
        self.pool.draw(wanted, self.params.seed, customer, target)
    }

    /// Returns what the prompt shows of the products given oldest first.
    fn view<'v>(
        &self,
        customer: &'v Customer,
        instruction: &'v str,
        shown: &[&'v Bought],
        candidates: &[&'v Item],
    ) -> View<'v> {
        let spoken = choice::comment(self.params.comment, self.params.seed, &customer.user_id, shown);
        let comment = spoken.map_or("", |place| shown[place].comment.as_str());
        let (mut products, mut commented) = (shown.to_vec(), spoken.map_or(0, |place| place + 1));
        if self.params.order == Order::RecentFirst {
            products.reverse();
            commented = spoken.map_or(0, |place| shown.len() - place);
        }
        let name = prose::quotable(&customer.name);
        let candidates = candidates.iter().filter_map(|item| customer::title(item)).collect();
        View { user_id: &customer.user_id, name, instruction, products, comment, commented, candidates }
    }

    fn text(&self, view: &View) -> Result<String, StageError> {
        match (&self.template, self.params.preset) {
            (Some(template), _) => template.render(view).map_err(template_fault),
            (None, Preset::Paper) => Ok(prose::paper(view)),
            (None, Preset::Numbered) => Ok(prose::numbered(view)),
        }
    }

    fn fits(&self, instruction: &str, input: &str) -> Result<bool, StageError> {
        let (Some(tokenizer), Some(most)) = (self.tokenizer, self.params.max_tokens) else { return Ok(true) };
        Ok(tokenizer.start(&format!("{instruction}\n{input}"))?.len() <= most as usize)
    }
}

fn template_fault(fault: String) -> StageError {
    StageError::failed(format!("the `template` cannot be rendered: {fault}"))
}

/// Returns the first held-out item of each customer, under `include_target`.
fn targets<'a>(
    params: &Prompt,
    sources: &'a Sources,
    items: &HashMap<&'a str, &'a Item>,
) -> Result<HashMap<&'a str, &'a Item>, StageError> {
    if !params.candidates.as_ref().is_some_and(|candidates| candidates.include_target) {
        return Ok(HashMap::new());
    }
    let Some(truth) = &sources.truth else {
        return Err(StageError::failed(
            "`candidates.include_target` needs the input `truth`, for example `truth: held.test`",
        ));
    };
    let mut targets = HashMap::new();
    for row in truth {
        if let Some(item) = items.get(row.item_id.as_str()).filter(|item| customer::title(item).is_some()) {
            targets.entry(row.user_id.as_str()).or_insert(*item);
        }
    }
    Ok(targets)
}

fn note(view: &View, customer: &Customer, tally: &mut Tally) {
    let mut add = |what: &'static str, count: usize| *tally.entry(what).or_default() += count as u64;
    add("names_missing", usize::from(view.name.is_empty()));
    add("names_with_quotes", usize::from(customer.name.contains(['"', '\''])));
    add("products_without_features", view.products.iter().filter(|product| product.features.is_empty()).count());
    add("without_comment", usize::from(view.comment.is_empty()));
}

fn example(view: &View, input: String, candidates: &[&Item]) -> Example {
    let listed: Vec<String> = candidates.iter().map(|item| item.item_id.clone()).collect();
    Example {
        id: view.user_id.to_string(),
        group: view.user_id.to_string(),
        instruction: view.instruction.to_string(),
        input,
        history: view.products.iter().map(|product| product.item_id.clone()).collect(),
        candidates: Some(listed).filter(|listed| !listed.is_empty()),
        ..Example::default()
    }
}
