//! What a file of Rust imports, read from its text: comments, literals and `#[cfg(test)]` items left out.

use std::collections::BTreeSet;

/// A path that a file names, in a `use` or where it is used.
#[derive(Clone)]
pub struct Import {
    /// As it is written, without the braces.
    pub path: Vec<String>,
    /// The name it has in the file.
    pub name: String,
    pub public: bool,
    /// How many modules within the file it stands in.
    pub inline: usize,
}

/// One file.
#[derive(Default)]
pub struct Source {
    /// Modules that it declares and that are files.
    pub modules: BTreeSet<String>,
    /// Its `use` declarations.
    pub imports: Vec<Import>,
    /// The other paths in its code.
    pub paths: Vec<Import>,
    /// Whether it has a `pub static STAGE`.
    pub stage: bool,
}

impl Source {
    pub fn parse(text: &str) -> Source {
        let tokens = without_tests(tokens(text));
        let at = |i: usize| tokens.get(i).map_or("", String::as_str);
        let mut source = Source::default();
        let (mut depth, mut inline) = (0, Vec::new());
        let mut i = 0;
        while i < tokens.len() {
            match at(i) {
                "use" => {
                    let public = i > 0 && matches!(at(i - 1), "pub" | ")");
                    i += 1;
                    use_tree(&tokens, &mut i, Vec::new(), public, inline.len(), &mut source.imports);
                }
                "mod" if at(i + 2) == ";" => drop(source.modules.insert(at(i + 1).to_string())),
                "mod" if at(i + 2) == "{" => inline.push(depth),
                "static" if at(i + 1) == "STAGE" && at(i - 1) == "pub" => source.stage = true,
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if inline.last() == Some(&depth) {
                        inline.pop();
                    }
                }
                name if is_name(name) && at(i + 1) == "::" => {
                    let mut path = vec![name.to_string()];
                    while at(i + 1) == "::" && is_name(at(i + 2)) {
                        path.push(at(i + 2).to_string());
                        i += 2;
                    }
                    source.paths.push(Import { path, name: String::new(), public: false, inline: inline.len() });
                }
                _ => {}
            }
            i += 1;
        }
        source
    }
}

/// Reads one tree of a `use` declaration; `i` is left at the `;`, `,` or `}` behind it.
fn use_tree(
    tokens: &[String],
    i: &mut usize,
    mut path: Vec<String>,
    public: bool,
    inline: usize,
    found: &mut Vec<Import>,
) {
    let mut name = None;
    while *i < tokens.len() {
        match tokens[*i].as_str() {
            "{" => {
                while tokens[*i] != "}" {
                    *i += 1;
                    if tokens[*i] != "}" {
                        use_tree(tokens, i, path.clone(), public, inline, found);
                    }
                }
                *i += 1;
                return;
            }
            ";" | "," | "}" => break,
            "as" => {
                *i += 1;
                name = Some(tokens[*i].clone());
            }
            "::" => {}
            "self" if !path.is_empty() => {}
            token => path.push(token.to_string()),
        }
        *i += 1;
    }
    if let Some(last) = path.last() {
        found.push(Import { name: name.unwrap_or_else(|| last.clone()), path, public, inline });
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::`, and every other sign by itself.
fn tokens(text: &str) -> Vec<String> {
    let text: Vec<char> = text.chars().collect();
    let at = |i: usize| text.get(i).copied().unwrap_or('\0');
    let mut found = Vec::new();
    let mut i = 0;
    while i < text.len() {
        let start = i;
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < text.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '"' => i = after_string(&text, i),
            '\'' if at(i + 1) == '\\' => {
                i += 3;
                while i < text.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            '\'' => i += if at(i + 2) == '\'' { 3 } else { 1 },
            ':' if at(i + 1) == ':' => {
                i += 2;
                found.push("::".to_string());
            }
            c if c.is_alphanumeric() || c == '_' => {
                while at(i).is_alphanumeric() || at(i) == '_' {
                    i += 1;
                }
                let word: String = text[start..i].iter().collect();
                let hashes = (i..).take_while(|j| at(*j) == '#').count();
                if matches!(word.as_str(), "r" | "br") && at(i + hashes) == '"' {
                    i = after_raw_string(&text, i + hashes + 1, hashes);
                } else {
                    found.push(word);
                }
            }
            c => {
                i += 1;
                if !c.is_whitespace() {
                    found.push(c.to_string());
                }
            }
        }
    }
    found
}

fn after_string(text: &[char], mut i: usize) -> usize {
    i += 1;
    while i < text.len() && text[i] != '"' {
        i += if text[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

fn after_raw_string(text: &[char], mut i: usize, hashes: usize) -> usize {
    while i < text.len() && !(text[i] == '"' && text[i + 1..].iter().take_while(|c| **c == '#').count() >= hashes) {
        i += 1;
    }
    i + 1 + hashes
}

/// The tokens without the items under `#[cfg(test)]`.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        if !tokens[i..].iter().map(String::as_str).take(TEST.len()).eq(TEST) {
            kept.push(tokens[i].clone());
            i += 1;
            continue;
        }
        // To the `;` or the closing brace of the item; a `use` has braces before its `;`.
        i += TEST.len();
        let (mut depth, mut declares) = (0, false);
        while i < tokens.len() {
            match tokens[i].as_str() {
                "use" if depth == 0 => declares = true,
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            i += 1;
            if depth == 0 && (tokens[i - 1] == ";" || tokens[i - 1] == "}" && !declares) {
                break;
            }
        }
    }
    kept
}
