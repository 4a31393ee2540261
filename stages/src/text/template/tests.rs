//! What each template writes, and which turns it asks, tells and learns.

use super::*;

fn row(instruction: &str, input: &str) -> Example {
    Example { instruction: instruction.into(), input: input.into(), output: Some("yes".into()), ..Example::default() }
}

fn conversation(turns: &[(&str, &str, Option<bool>)]) -> Example {
    let turn = |(role, content, train): &(&str, &str, Option<bool>)| Message {
        role: (*role).into(),
        content: (*content).into(),
        train: *train,
    };
    Example { messages: Some(turns.iter().map(turn).collect()), ..Example::default() }
}

fn named(name: TemplateName, system: Option<&str>) -> Template {
    Template::new(&TemplateChoice::Named(name), system, None).unwrap()
}

#[test]
fn alpaca_leaves_the_input_section_out_when_there_is_none() {
    let template = named(TemplateName::AlpacaShort, None);
    assert_eq!(template.prompt(&row("Do", "")).unwrap(), "### Instruction:\nDo\n\n### Response:\n");
    assert_eq!(
        template.prompt(&row("Do", "this")).unwrap(),
        "### Instruction:\nDo\n\n### Input:\nthis\n\n### Response:\n"
    );
}

#[test]
fn chatml_learns_the_end_of_each_answer_but_not_the_user() {
    let parts = named(TemplateName::Chatml, Some("Be brief.")).parts(&row("Do", "this")).unwrap();
    assert_eq!(
        parts[0].text,
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nDo\n\nthis<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(parts[1], Part { text: "yes<|im_end|>".into(), is_answer: true });
}

#[test]
fn inline_template_keeps_its_spaces() {
    let inline = InlineTemplate { prompt: "Q: {{ instruction }}\nA: ".into(), response: "{{ output }}!".into() };
    let template = Template::new(&TemplateChoice::Inline(inline), None, None).unwrap();
    let parts = template.parts(&row("why", "")).unwrap();
    assert_eq!((parts[0].text.as_str(), parts[1].text.as_str()), ("Q: why\nA: ", "yes!"));
}

#[test]
fn an_only_answer_marked_train_false_is_not_learned() {
    let learned = |train| {
        let row = conversation(&[("user", "a", None), ("assistant", "b", train)]);
        named(TemplateName::Alpaca, None).parts(&row).unwrap().iter().filter(|part| part.is_answer).count()
    };
    assert_eq!((learned(None), learned(Some(true)), learned(Some(false))), (1, 1, 0));
}

#[test]
fn turns_marked_train_false_are_read_and_not_learned() {
    let row = conversation(&[
        ("user", "a", None),
        ("assistant", "b", Some(false)),
        ("user", "c", None),
        ("assistant", "d", None),
    ]);
    let parts = named(TemplateName::Chatml, None).parts(&row).unwrap();
    assert_eq!(parts.len(), 2);
    assert!(parts[0].text.contains("b<|im_end|>") && parts[1].text == "d<|im_end|>");
    assert!(named(TemplateName::Alpaca, None).parts(&row).is_err());
}

#[test]
fn a_system_turn_is_told_as_the_rows_own_system_prompt_is() {
    let asked = |system: Option<&str>, turns: &[(&str, &str, Option<bool>)], choice: &TemplateChoice| {
        let row = Example { system: system.map(String::from), ..conversation(turns) };
        Template::new(choice, Some("Be kind."), None).unwrap().prompt(&row).unwrap()
    };
    let inline = InlineTemplate { prompt: "{{ system }}|{{ instruction }}|".into(), response: "{{ output }}".into() };
    let inline = TemplateChoice::Inline(inline);
    let [alpaca, short, chatml] =
        [TemplateName::Alpaca, TemplateName::AlpacaShort, TemplateName::Chatml].map(TemplateChoice::Named);
    let (plain, told) = ([("user", "Do", None)], [("system", "Be brief.", None), ("user", "Do", None)]);
    for choice in [&alpaca, &short, &chatml, &inline] {
        assert_eq!(asked(None, &told, choice), asked(Some("Be brief."), &plain, choice));
        // the turn goes before the row's own, as under `chatml`
        assert_eq!(asked(Some("Be long."), &told, choice), asked(None, &told, choice));
        assert_ne!(asked(None, &told, choice), asked(None, &plain, choice));
    }
    assert_eq!(asked(None, &told, &short), "Be brief.\n\n### Instruction:\nDo\n\n### Response:\n");
    assert_eq!(asked(None, &told, &inline), "Be brief.|Do|");
    assert_eq!(asked(None, &[("system", "", None), ("user", "Do", None)], &inline), "|Do|");
    let late = conversation(&[("user", "Do", None), ("system", "Be brief.", None), ("assistant", "Done", None)]);
    assert!(named(TemplateName::Alpaca, None).parts(&late).unwrap_err().contains("several turns"));
}

#[test]
fn the_last_question_is_asked_whether_its_answer_is_learned_or_not() {
    let source = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
    let chat = chat::ChatTemplate::new(source, std::collections::BTreeMap::new());
    let chat = Template::new(&TemplateChoice::Named(TemplateName::Chat), None, Some(chat)).unwrap();
    let asked = [("user", "FIRST", None), ("assistant", "first", None), ("user", "SECOND", None)];
    let answers: [&[(&str, &str, Option<bool>)]; 4] = [
        &[],
        &[("assistant", "second", None)],
        &[("assistant", "second", Some(false))],
        &[("assistant", "second", None), ("assistant", "third", Some(false))],
    ];
    for answers in answers {
        let row = conversation(&[&asked, answers].concat());
        assert_eq!(chat.prompt(&row).unwrap(), "<user>FIRST<assistant>first<user>SECOND<assistant>");
        assert_eq!(
            named(TemplateName::Chatml, None).prompt(&row).unwrap(),
            "<|im_start|>user\nFIRST<|im_end|>\n<|im_start|>assistant\nfirst<|im_end|>\n<|im_start|>user\nSECOND<|im_end|>\n\
             <|im_start|>assistant\n"
        );
    }
    let single = conversation(&[("user", "ONLY", None), ("assistant", "one", Some(false))]);
    let wanted = "### Instruction:\nONLY\n\n### Response:\n";
    assert_eq!(named(TemplateName::AlpacaShort, None).prompt(&single).unwrap(), wanted);
}

#[test]
fn an_inline_template_with_a_misspelt_variable_is_refused_before_any_row() {
    let inline = InlineTemplate { prompt: "Q: {{ instructon }}".into(), response: "{{ output }}".into() };
    assert_eq!(
        Template::new(&TemplateChoice::Inline(inline), None, None).unwrap_err(),
        "`template.prompt`: unknown variable `instructon`; the variables here are `instruction`, `input`, `system`"
    );
}
