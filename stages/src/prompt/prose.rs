//! The text of a prompt: the paper's prose, a numbered list, or the user's own template.
//!
//! The paper prints one example (section III A); `the_printed_example_is_met_byte_for_byte` pins its shape. Commas inside
//! titles and features blur its "respectively"; `numbered` is the form without that fault.

use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use super::customer::Bought;

/// Steps that one rendering of a template may take; the built-in forms would need a few hundred.
const FUEL: u64 = 1_000_000;

/// What stands for a product whose features nobody listed, so that the others keep their places.
const NO_FEATURES: &str = "no listed features";

/// Everything that a prompt may show; the variables of a template.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View<'a> {
    /// Customer.
    pub user_id: &'a str,
    /// Display name, safe between single quotes; empty when unknown.
    pub name: String,
    /// The instruction beside which the text will stand.
    pub instruction: &'a str,
    /// Products in the order shown.
    pub products: Vec<&'a Bought>,
    /// The comment chosen, empty without one.
    pub comment: &'a str,
    /// Place of the commented product among `products`, from 1; 0 without a comment.
    pub commented: usize,
    /// Titles to choose from; empty without candidates.
    pub candidates: Vec<&'a str>,
}

/// Writes the paper's prose.
pub fn paper(view: &View) -> String {
    let mut sentences = Vec::new();
    if !view.name.is_empty() {
        sentences.push(format!("I am '{}'.", view.name));
    }
    let titles: Vec<&str> = view.products.iter().map(|product| product.title.as_str()).collect();
    sentences.push(format!("I bought the following products: {}.", titles.join(", ")));
    if view.products.iter().any(|product| !product.features.is_empty()) {
        let features: Vec<&str> = view.products.iter().map(|product| features_or_none(product)).collect();
        sentences.push(format!("Here are some features of these products respectively: {}.", features.join(", ")));
    }
    if !view.candidates.is_empty() {
        sentences.push(format!("Choose from these products: {}.", view.candidates.join(", ")));
    }
    if !view.comment.is_empty() {
        sentences.push(format!("For one of the products I bought, I wrote this comment: {}", view.comment));
    }
    sentences.join(" ")
}

fn features_or_none(product: &Bought) -> &str {
    if product.features.is_empty() { NO_FEATURES } else { &product.features }
}

/// Writes a line for each product, which keeps features and comment beside what they belong to.
pub fn numbered(view: &View) -> String {
    let mut lines = Vec::new();
    if !view.name.is_empty() {
        lines.push(format!("Customer: {}", view.name));
    }
    lines.push("Products bought:".to_string());
    for (index, product) in view.products.iter().enumerate() {
        let features = if product.features.is_empty() { String::new() } else { format!(" ({})", product.features) };
        lines.push(format!("{}. {}{features}", index + 1, product.title));
    }
    if !view.comment.is_empty() {
        lines.push(format!("Comment on product {}: {}", view.commented, view.comment));
    }
    if !view.candidates.is_empty() {
        lines.push("Choose from:".to_string());
        lines.extend(view.candidates.iter().map(|title| format!("- {title}")));
    }
    lines.join("\n")
}

/// Returns a name that cannot break `I am '...'`: no double quotes, apostrophes for single ones, one line.
pub fn quotable(name: &str) -> String {
    let name: String = name.chars().filter(|c| *c != '"').map(|c| if c == '\'' { '\u{2019}' } else { c }).collect();
    name.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A user's template, compiled.
pub struct Template<'a>(Environment<'a>);

impl<'a> Template<'a> {
    /// Compiles a template (minijinja). Values are inserted as they are and never read as template text.
    ///
    /// # Errors
    /// Says what is wrong with it and in which of its lines.
    pub fn new(text: &'a str) -> Result<Template<'a>, String> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.add_template("template", text).map_err(|e| described(&e))?;
        Ok(Template(environment))
    }

    /// Renders the template for one customer.
    ///
    /// # Errors
    /// An unknown variable, a wrong operation, or a template that does not end.
    pub fn render(&self, view: &View) -> Result<String, String> {
        self.0.get_template("template").and_then(|template| template.render(Serde(view))).map_err(|e| described(&e))
    }
}

fn described(error: &minijinja::Error) -> String {
    let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{line}{}{detail}", error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bought(title: &str, features: &str) -> Bought {
        let (item_id, brand, category, comment) = (title.into(), String::new(), Vec::new(), String::new());
        Bought { item_id, title: title.into(), brand, category, features: features.into(), rating: 5.0, comment }
    }

    fn view<'a>(products: &'a [Bought], comment: &'a str) -> View<'a> {
        let (name, instruction) = ("Gordon Boone".to_string(), "Recommend.");
        View {
            user_id: "u",
            name,
            instruction,
            products: products.iter().collect(),
            comment,
            commented: 2,
            candidates: Vec::new(),
        }
    }

    #[test]
    fn the_printed_example_is_met_byte_for_byte() {
        let products = [
            bought(
                "Wilton Easy Pour Funnel",
                "Produced with the highest grade materials Manufactured to the highest quality available Manufactured in Hong Kong",
            ),
            bought(
                "Frieling Cilio C107005 Egg Cup Set",
                "Made of fire-proof hard porcelain Formed holder holds salt shaker and spoon Dishwasher safe",
            ),
            bought("Blue Q", "Color is Weed Money"),
            bought("Sylvania SCR1053 1.2", "Size is 1.2-Inch"),
            bought("AmazonBasics 6", "Size is 6 Feet Color is White"),
        ];
        let comment = "The bigger than normal BLUE LED numerals are easy to see and recognize. I keep one in the bedroom, one in the kitchen, and travel with one. Has am/fm capability. These were wise purchases for me!";
        let printed = "I am 'Gordon Boone'. I bought the following products: Wilton Easy Pour Funnel, Frieling Cilio C107005 Egg Cup Set, Blue Q, Sylvania SCR1053 1.2, AmazonBasics 6. Here are some features of these products respectively: Produced with the highest grade materials Manufactured to the highest quality available Manufactured in Hong Kong, Made of fire-proof hard porcelain Formed holder holds salt shaker and spoon Dishwasher safe, Color is Weed Money, Size is 1.2-Inch, Size is 6 Feet Color is White. For one of the products I bought, I wrote this comment: The bigger than normal BLUE LED numerals are easy to see and recognize. I keep one in the bedroom, one in the kitchen, and travel with one. Has am/fm capability. These were wise purchases for me!";
        assert_eq!(paper(&view(&products, comment)), printed);
    }

    #[test]
    fn what_is_missing_leaves_no_hole() {
        let products = [bought("A", ""), bought("B", "soft")];
        let mut view = view(&products, "");
        view.name.clear();
        let text = "I bought the following products: A, B. Here are some features of these products respectively: no listed features, soft.";
        assert_eq!(paper(&view), text);
        view.products.truncate(1);
        assert_eq!(paper(&view), "I bought the following products: A.");
    }

    #[test]
    fn numbered_keeps_features_and_comment_with_their_product() {
        let products = [bought("A", ""), bought("B", "soft")];
        let view = View { candidates: vec!["C"], ..view(&products, "nice") };
        assert_eq!(
            numbered(&view),
            "Customer: Gordon Boone\nProducts bought:\n1. A\n2. B (soft)\nComment on product 2: nice\nChoose from:\n- C"
        );
    }

    #[test]
    fn names_cannot_break_the_quotes() {
        assert_eq!(quotable("Amaranth \"music  fan\" O'Neil\n"), "Amaranth music fan O\u{2019}Neil");
    }

    #[test]
    fn values_of_a_template_are_never_rendered_again() {
        let products = [bought("{{ name }}", "")];
        let text = Template::new("{{ name }}: {{ products[0].title }} & {{ comment }}")
            .unwrap()
            .render(&view(&products, "<b>"))
            .unwrap();
        assert_eq!(text, "Gordon Boone: {{ name }} & <b>");
    }

    #[test]
    fn faulty_and_endless_templates_are_refused() {
        let products = [bought("A", "")];
        let render = |text: &str| Template::new(text).and_then(|template| template.render(&view(&products, "")));
        for (text, reason) in [
            ("{{ name", "line 1: syntax error"),
            ("\n{{ nmae }}", "line 2: undefined value"),
            ("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}", "fuel"),
        ] {
            let found = render(text).unwrap_err();
            assert!(found.contains(reason), "{found}");
        }
    }
}
