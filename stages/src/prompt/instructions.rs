//! The built-in recommendation instructions.
//!
//! The paper used "more than ten" and prints one; that one stands first, verbatim (section III A). The others ask the same in
//! other words. Their order is part of the kind's behaviour: changing it means a higher `VERSION`.

/// What customers may ask, the paper's own words first.
pub const BUILTIN: [&str; 12] = [
    "Given the products I bought and my comments below, recommend to me what I should buy next and provide a reason for your recommendation.",
    "Based on my past purchases and the comment I wrote, suggest one product I should buy next and explain why.",
    "Here is what I have bought so far. Which product would you recommend to me next, and for what reason?",
    "Read my purchase history and my comment, then recommend a product that fits my taste and justify your choice.",
    "Considering the items I own and what I said about one of them, what should I purchase next? Give a reason.",
    "Recommend the next product for me, using the purchases and the comment below, and tell me why it suits me.",
    "Look at the products I bought and their features. Name one further product I would like and explain your reasoning.",
    "Act as a shopping assistant: from my purchases and my comment, propose one new product and say why it is a good match.",
    "What would be a useful next purchase for me, given the products and the comment below? Explain your recommendation.",
    "Use my purchase history to infer my preferences, then recommend one product that I do not own yet, with a reason.",
    "I would like a personal recommendation. Considering my purchases and comment, which product should I get next and why?",
    "Suggest a product that goes well with what I have already bought, and give the reason for your suggestion.",
];
