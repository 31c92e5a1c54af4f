//! Chat templates, rendered as transformers renders them (`utils/chat_template_utils.py`).

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, ValueKind};
use minijinja::{Environment, ErrorKind, Value, context};
use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::bounded::{self, Bounds, Exceeded};
use super::date::Date;
use crate::contract::pipeline::nearest;

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub role: String,
    pub content: String,
    /// What a call of a tool and its answer have beside that.
    #[serde(flatten)]
    pub fields: Map<String, serde_json::Value>,
}

impl Message {
    pub fn new(role: &str, content: &str) -> Message {
        Message { role: role.into(), content: content.into(), fields: Map::new() }
    }

    /// Bytes of its text, about.
    pub fn length(&self) -> usize {
        let fields = self.fields.iter().map(|(name, value)| name.len() + value.to_string().len());
        self.role.len() + self.content.len() + fields.sum::<usize>()
    }
}

/// A compiled template and the special tokens it may print.
#[derive(Clone)]
pub struct ChatTemplate(Arc<Compiled>);

struct Compiled {
    environment: Environment<'static>,
    special_tokens: BTreeMap<String, String>,
    limits: Limits,
    /// What stands for the source among those that were given up.
    hash: blake3::Hash,
}

const NAME: &str = "chat_template";

/// What a template may take for one conversation.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Instructions: real templates take some hundred for a message.
    pub fuel: u64,
    /// Bytes that it may print beside 64 for each byte of the conversation.
    pub output: usize,
    /// Bytes that it may hold beside 32 for each byte of the conversation.
    pub memory: usize,
    pub time: Duration,
}

impl Default for Limits {
    /// Far more than real templates take: seconds.
    fn default() -> Limits {
        Limits { fuel: 100_000_000, output: 1 << 24, memory: 256 << 20, time: Duration::from_secs(60) }
    }
}

impl ChatTemplate {
    /// `special_tokens` by their names in the template (`bos_token`, …); `date` is what `strftime_now` tells.
    ///
    /// # Errors
    /// When the template has a syntax error.
    pub fn new(source: &str, special_tokens: BTreeMap<String, String>, date: Date) -> Result<ChatTemplate> {
        ChatTemplate::limited(source, special_tokens, date, Limits::default())
    }

    /// As [`ChatTemplate::new`], with limits of its own.
    ///
    /// # Errors
    /// As for [`ChatTemplate::new`].
    pub fn limited(
        source: &str,
        special_tokens: BTreeMap<String, String>,
        date: Date,
        limits: Limits,
    ) -> Result<ChatTemplate> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(limits.fuel));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", tojson);
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", move |format: &str| date.format(format));
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|error| anyhow::anyhow!("the chat template cannot be parsed: {error:#}"))?;
        let hash = blake3::hash(source.as_bytes());
        Ok(ChatTemplate(Arc::new(Compiled { environment, special_tokens, limits, hash })))
    }

    /// What `compute` makes of the template, within the bounds of renderings of one conversation of `written` bytes. A template that
    /// once went beyond is not tried again.
    ///
    /// # Errors
    /// Those of `compute`, and when a bound is exceeded.
    pub fn bounded<T: Send + 'static>(
        &self,
        written: usize,
        compute: impl FnOnce(&ChatTemplate) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        static GIVEN_UP: Mutex<Vec<(blake3::Hash, Exceeded)>> = Mutex::new(Vec::new());
        let given_up = || GIVEN_UP.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let known = given_up().iter().find(|(hash, _)| *hash == self.0.hash).map(|(_, exceeded)| *exceeded);
        if let Some(exceeded) = known {
            bail!("the chat template {exceeded} for a conversation: it does not end");
        }
        let (template, limits) = (self.clone(), self.0.limits);
        let bytes = limits.memory.saturating_add(written.saturating_mul(32));
        let result = bounded::run(Bounds { bytes, time: limits.time }, move || compute(&template));
        match result {
            Ok(result) => result,
            Err(error) => match error.downcast::<Exceeded>() {
                Ok(exceeded) => {
                    given_up().push((self.0.hash, exceeded));
                    bail!("the chat template {exceeded} for a conversation: it does not end");
                }
                Err(error) => Err(error),
            },
        }
    }

    /// The conversation as text; with `add_generation_prompt` followed by what opens the assistant's turn.
    ///
    /// # Errors
    /// When the template fails on these messages or raises an exception of its own.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let template = self.0.environment.get_template(NAME)?;
        let written: usize = messages.iter().map(Message::length).sum();
        let mut out = Limited { bytes: Vec::new(), limit: self.0.limits.output + 64 * written, exceeded: false };
        let messages = Value::from(Serde(messages));
        let own = context! { messages, add_generation_prompt, tools => (), documents => () };
        let context = context! { ..own, ..Value::from(Serde(&self.0.special_tokens)) };
        let rendered = template.render_captured_to(context, &mut out).map(drop);
        if let Err(error) = rendered {
            let line = error.line().unwrap_or(0);
            if out.exceeded {
                bail!("the chat template prints more than {} bytes for this conversation: it does not end", out.limit);
            }
            if error.kind() == ErrorKind::OutOfFuel {
                let fuel = self.0.limits.fuel;
                bail!("the chat template ran {fuel} instructions on this conversation at line {line}: it does not end");
            }
            match error.detail() {
                Some(detail) => bail!("the chat template failed at line {line}: {detail}"),
                None => bail!("the chat template failed: {error:#}"),
            }
        }
        String::from_utf8(out.bytes).context("the chat template printed what is no UTF-8")
    }
}

/// What a template prints, up to a limit.
struct Limited {
    bytes: Vec<u8>,
    limit: usize,
    exceeded: bool,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            self.exceeded = true;
            return Err(std::io::Error::other("too much output"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// `{% generation %}` marks the assistant's tokens for training in transformers and prints nothing. As an
/// `if true` it keeps its body, its scope and its whitespace control.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::new();
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        // The tag's own beginning is not part of its end: `{%}` has none.
        let Some(length) = rest[start + 2..].find("%}").map(|length| length + 2) else { break };
        let tag = &rest[start + 2..start + length];
        let (before, tag) = split_control(tag);
        let (after, name) = split_control_end(tag);
        out.push_str(&rest[..start]);
        match name.trim() {
            "generation" => out.push_str(&format!("{{%{before} if true {after}%}}")),
            "endgeneration" => out.push_str(&format!("{{%{before} endif {after}%}}")),
            _ => out.push_str(&rest[start..start + length + 2]),
        }
        rest = &rest[start + length + 2..];
    }
    out + rest
}

fn split_control(tag: &str) -> (&str, &str) {
    if tag.starts_with(['-', '+']) { tag.split_at(1) } else { ("", tag) }
}

fn split_control_end(tag: &str) -> (&str, &str) {
    if tag.ends_with(['-', '+']) {
        let (name, control) = tag.split_at(tag.len() - 1);
        (control, name)
    } else {
        ("", tag)
    }
}

/// `json.dumps` with the arguments that transformers' filter takes; unlike minijinja's own, it escapes no HTML.
fn tojson(value: Value, options: Kwargs) -> Result<Value, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    let ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(other) => {
            let message = format!("tojson: separators has {} values, expected 2", other.len());
            return Err(minijinja::Error::new(ErrorKind::InvalidOperation, message));
        }
        None if indent.is_some() => (",".to_string(), ": ".to_string()),
        None => (", ".to_string(), ": ".to_string()),
    };
    let style = JsonStyle { indent, item, key, sort_keys: sort_keys.unwrap_or(false) };
    let mut out = String::new();
    style.dump(&value, &mut out, 0)?;
    if ensure_ascii.unwrap_or(false) {
        out = escape_non_ascii(&out);
    }
    Ok(Value::from_safe_string(out))
}

struct JsonStyle {
    indent: Option<usize>,
    item: String,
    key: String,
    sort_keys: bool,
}

impl JsonStyle {
    fn dump(&self, value: &Value, out: &mut String, depth: usize) -> Result<(), minijinja::Error> {
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.enclose(out, depth, ('[', ']'), &items, |out, item| self.dump(item, out, depth + 1))
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.enclose(out, depth, ('{', '}'), &keys, |out, key| {
                    out.push_str(&scalar(&Value::from(key.to_string()))?);
                    out.push_str(&self.key);
                    self.dump(&value.get_item(key)?, out, depth + 1)
                })
            }
            _ => {
                out.push_str(&scalar(value)?);
                Ok(())
            }
        }
    }

    fn enclose(
        &self,
        out: &mut String,
        depth: usize,
        (open, close): (char, char),
        items: &[Value],
        mut write: impl FnMut(&mut String, &Value) -> Result<(), minijinja::Error>,
    ) -> Result<(), minijinja::Error> {
        let indent = self.indent.filter(|_| !items.is_empty());
        let line = |out: &mut String, depth: usize| {
            indent.into_iter().for_each(|indent| {
                out.push('\n');
                out.push_str(&" ".repeat(indent * depth));
            });
        };
        out.push(open);
        for (i, item) in items.iter().enumerate() {
            out.push_str(if i > 0 { &self.item } else { "" });
            line(out, depth + 1);
            write(out, item)?;
        }
        line(out, depth);
        out.push(close);
        Ok(())
    }
}

fn scalar(value: &Value) -> Result<String, minijinja::Error> {
    serde_json::to_string(value).map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string()))
}

fn escape_non_ascii(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let mut units = [0u16; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out
}

/// The template of a tokenizer: chat_template.jinja where there is one, else tokenizer_config.json's
/// `chat_template`, which is a string or a list of named ones, of which `default` is taken.
///
/// # Errors
/// When there is none.
pub fn find_source(jinja: Option<String>, config: &serde_json::Value, place: &str) -> Result<String> {
    if let Some(source) = jinja {
        return Ok(source);
    }
    match config.get("chat_template") {
        Some(serde_json::Value::String(source)) => Ok(source.clone()),
        Some(serde_json::Value::Array(named)) => {
            let name = |entry: &serde_json::Value| entry.get("name").and_then(|name| name.as_str()).map(str::to_string);
            let default = named.iter().find(|entry| name(entry).as_deref() == Some("default"));
            let source = default.and_then(|entry| entry.get("template")).and_then(|source| source.as_str());
            let names: Vec<String> = named.iter().filter_map(name).collect();
            let context = || {
                format!(
                    "{place}: no chat template is named \"default\" among: {}; `chat_template = \"named:NAME\"` of the model \
                     takes one of them",
                    names.join(", ")
                )
            };
            Ok(source.with_context(context)?.to_string())
        }
        _ => bail!(
            "the tokenizer has no chat template: {place} has no \"chat_template\" and there is no \
             chat_template.jinja beside it. Give the model one with `chat_template = \"model:NAME\"` (another model's, for \
             example its instruction-tuned sibling's), a file, or one of: {}; or another tokenizer with \
             `tokenizer = \"DIR\"`",
            super::built_in::names().collect::<Vec<_>>().join(", ")
        ),
    }
}

/// The template of this name in tokenizer_config.json's list; `default` is the usual one.
///
/// # Errors
/// When there is none, with the nearest name.
pub fn find_named(name: &str, jinja: Option<&str>, config: &serde_json::Value, place: &str) -> Result<String> {
    if name == "default" {
        return find_source(jinja.map(str::to_string), config, place);
    }
    let list = config.get("chat_template").and_then(serde_json::Value::as_array).into_iter().flatten();
    let text = |entry: &serde_json::Value, key: &str| entry.get(key).and_then(|text| text.as_str()).map(str::to_string);
    let named: BTreeMap<String, String> =
        list.filter_map(|entry| Some((text(entry, "name")?, text(entry, "template")?))).collect();
    if let Some(source) = named.get(name) {
        return Ok(source.clone());
    }
    let names = named.keys().map(String::as_str);
    match nearest(name, names.clone()) {
        Some(near) => bail!("{place}: no chat template is named \"{name}\"; did you mean \"{near}\"?"),
        None if named.is_empty() => bail!("{place}: it has no chat templates by name, and \"{name}\" is asked for"),
        None => bail!("{place}: no chat template is named \"{name}\" among: {}", names.collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, messages: &[(&str, &str)]) -> Result<String> {
        let messages: Vec<Message> = messages.iter().map(|(role, content)| Message::new(role, content)).collect();
        let tokens = BTreeMap::from([("bos_token".to_string(), "<s>".to_string())]);
        ChatTemplate::new(source, tokens, Date::parse("2024-07-26")?)?.render(&messages, false)
    }

    #[test]
    fn blocks_are_trimmed_and_python_methods_work() {
        let source = "{{ bos_token }}\n{%- for m in messages %}\n    {% if m.content.startswith('x') %}\n[{{ m['content'].strip()[1:] }}]\n    {% endif %}\n{% endfor %}";
        assert_eq!(render(source, &[("user", "xab "), ("user", "no")]).unwrap(), "<s>[ab]\n");
    }

    /// The expected text is `json.dumps` of Python 3.
    #[test]
    fn tojson_is_pythons() {
        let source =
            r#"{{ {"b": "<é>", "a": [1, 2.5, none, true]} | tojson }}|{{ [1, {"k": []}] | tojson(indent=2) }}"#;
        let expected = "{\"b\": \"<é>\", \"a\": [1, 2.5, null, true]}|[\n  1,\n  {\n    \"k\": []\n  }\n]";
        assert_eq!(render(source, &[]).unwrap(), expected);
    }

    #[test]
    fn generation_tags_print_their_body() {
        let source =
            "{% for m in messages %}\n{%- generation -%}  {{ m.content }}  {%- endgeneration %}\n!{% endfor %}";
        assert_eq!(render(source, &[("user", "a")]).unwrap(), "a!");
    }

    #[test]
    fn an_exception_of_the_template_is_the_message() {
        let error = render("{{ raise_exception('roles must alternate') }}", &[]).unwrap_err();
        assert!(error.to_string().contains("roles must alternate"), "{error}");
        assert_eq!(render("{{ strftime_now('%d %b %Y') }}", &[]).unwrap(), "26 Jul 2024");
        let error = render("{%}{% x", &[]).unwrap_err();
        assert!(error.to_string().contains("parsed"), "{error}");
        let error = render("{% for %}", &[]).unwrap_err();
        assert!(error.to_string().contains("parsed"), "{error}");
    }

    #[test]
    fn a_template_that_does_not_end_is_stopped() {
        let messages = [("user", "a")];
        let nested = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
        let error = render(nested, &messages).unwrap_err().to_string();
        assert!(error.contains("100000000 instructions") && error.contains("line 1"), "{error}");
        let printing =
            "{% for a in range(100000) %}{% for b in range(100000) %}{{ 'x' * 1000 }}{% endfor %}{% endfor %}";
        let error = render(printing, &messages).unwrap_err().to_string();
        assert!(error.contains("prints more than 16777536 bytes"), "{error}");
        // A long conversation is none of these.
        let long = "{% for m in messages %}{% for c in m.content %}{{ c }}{% endfor %}{% endfor %}";
        let text = "word ".repeat(100_000);
        assert_eq!(render(long, &[("user", &text)]).unwrap(), text);
    }

    /// The text of a template over one short message, within bounds.
    fn bounded(source: &str) -> Result<String> {
        let limits = Limits { memory: 16 << 20, ..Limits::default() };
        let template = ChatTemplate::limited(source, BTreeMap::new(), Date::parse("2024-07-26")?, limits)?;
        let messages = vec![Message::new("user", "a")];
        template.bounded(1, move |template| template.render(&messages, false))
    }

    #[test]
    fn a_template_that_takes_all_memory_is_stopped() {
        let doubling = |by: &str| {
            format!("{{% set ns = namespace(x='ab') %}}{{% for i in range(60) %}}{{% set ns.x = {by} %}}{{% endfor %}}")
        };
        let growing = [
            doubling("ns.x ~ ns.x"),
            doubling("ns.x + ns.x"),
            doubling("ns.x|replace('b', 'b' * 1000)"),
            doubling("[ns.x, ns.x]|join"),
            doubling("(ns.x|list + ns.x|list)|join"),
            "{{ messages|tojson(indent=1000000000000) }}".to_string(),
        ];
        for source in &growing {
            for _ in 0..2 {
                let error = bounded(source).expect_err(source).to_string();
                assert!(error.contains("takes more than 16 MB of memory"), "{source}: {error}");
            }
        }
        assert_eq!(bounded("{{ messages[0].content }}").expect("short"), "a");
    }

    #[test]
    fn named_templates_and_their_absence() {
        let named = serde_json::json!({"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]});
        assert_eq!(find_source(None, &named, "t").unwrap(), "d");
        assert_eq!(find_source(Some("j".into()), &named, "t").unwrap(), "j");
        assert_eq!(find_named("rag", Some("j"), &named, "t").unwrap(), "r");
        assert_eq!(find_named("default", Some("j"), &named, "t").unwrap(), "j");
        let error = |name: &str, config| find_named(name, None, config, "t").unwrap_err().to_string();
        assert_eq!(error("rga", &named), "t: no chat template is named \"rga\"; did you mean \"rag\"?");
        assert_eq!(error("tool_use", &named), "t: no chat template is named \"tool_use\" among: default, rag");
        assert!(error("rag", &serde_json::json!({"chat_template": "d"})).contains("no chat templates by name"));
        let none = serde_json::json!({"chat_template": [{"name": "rag", "template": "r"}]});
        assert!(find_source(None, &none, "t").unwrap_err().to_string().contains("named:NAME"));
        let error = find_source(None, &serde_json::json!({}), "base/tokenizer_config.json").unwrap_err().to_string();
        assert!(error.contains("base/tokenizer_config.json") && error.contains("tokenizer = "), "{error}");
    }
}
