//! Chat templates for models that have none.

/// By name: what `chat_template` in pipeline.toml may be beside a file and another model's.
const TEMPLATES: &[(&str, &str)] = &[("alpaca", ALPACA), ("chatml", CHATML), ("plain", PLAIN)];

/// The turns of ChatML, which Qwen and many fine-tunes use.
const CHATML: &str = "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}";

/// Stanford Alpaca's prompt (`train.py`), the end of sequence after each response as there.
const ALPACA: &str = "{{ bos_token }}{% if messages and messages[0].role != 'system' %}\
Below is an instruction that describes a task. Write a response that appropriately completes the request.

{% endif %}{% for message in messages %}{% if message.role == 'system' %}{{ message.content }}

{% elif message.role == 'assistant' %}### Response:
{{ message.content }}{{ eos_token }}{% if not loop.last %}{{ '\n\n' }}{% endif %}{% else %}### Instruction:
{{ message.content }}

{% endif %}{% endfor %}{% if add_generation_prompt %}### Response:
{% endif %}";

/// The messages alone, an empty line between them.
const PLAIN: &str = "{{ bos_token }}{% for message in messages %}{{ message.content }}{% if not loop.last %}{{ '\n\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '\n\n' }}{% endif %}";

/// The source of a template by its name.
pub fn built_in(name: &str) -> Option<&'static str> {
    TEMPLATES.iter().find(|(known, _)| *known == name).map(|(_, source)| *source)
}

/// The names there are.
pub fn names() -> impl Iterator<Item = &'static str> {
    TEMPLATES.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::text::chat::{ChatTemplate, Date, Message};

    fn render(name: &str, roles: &[&str], prompt: bool) -> String {
        let tokens =
            [("bos_token", "<s>"), ("eos_token", "</s>")].map(|(name, token)| (name.to_string(), token.to_string()));
        let date = Date::parse("2024-07-26").unwrap();
        let template = ChatTemplate::new(built_in(name).unwrap(), BTreeMap::from(tokens), date).unwrap();
        let message = |role: &&str| Message::new(role, &format!("its {role}"));
        template.render(&roles.iter().map(message).collect::<Vec<_>>(), prompt).unwrap()
    }

    #[test]
    fn they_print_what_their_models_were_trained_on() {
        assert_eq!(
            render("chatml", &["system", "user", "assistant"], false),
            "<s><|im_start|>system\nits system<|im_end|>\n<|im_start|>user\nits user<|im_end|>\n\
             <|im_start|>assistant\nits assistant<|im_end|>\n"
        );
        assert_eq!(
            render("chatml", &["user"], true),
            "<s><|im_start|>user\nits user<|im_end|>\n<|im_start|>assistant\n"
        );
        let begin = "<s>Below is an instruction that describes a task. Write a response that appropriately completes the \
                     request.\n\n### Instruction:\nits user\n\n### Response:\n";
        assert_eq!(render("alpaca", &["user"], true), begin);
        assert_eq!(render("alpaca", &["user", "assistant"], false), format!("{begin}its assistant</s>"));
        let twice = render("alpaca", &["system", "user", "assistant", "user"], true);
        let expected = "<s>its system\n\n### Instruction:\nits user\n\n### Response:\nits assistant</s>\n\n\
                        ### Instruction:\nits user\n\n### Response:\n";
        assert_eq!(twice, expected);
        assert_eq!(render("plain", &["user", "assistant"], false), "<s>its user\n\nits assistant");
        assert_eq!(render("plain", &["user"], true), "<s>its user\n\n");
        assert!(names().all(|name| built_in(name).is_some()) && built_in("chatlm").is_none());
    }
}
