//! Phrases that figures share.

/// A position in the sequence, as part of a sentence.
pub fn position_phrase(position: &str) -> String {
    match position {
        "last" => "the last token".into(),
        "response_mean" => "the mean over the response".into(),
        "response_first_k" => "the mean over the response's first tokens".into(),
        "token" => "a chosen token".into(),
        other => turn_phrase(other).unwrap_or_else(|| other.to_string()),
    }
}

/// Of a position in the assistant's turn.
fn turn_phrase(position: &str) -> Option<String> {
    let (first, rest) = position.split_once("_first_")?;
    let from = match first {
        "marker" => "the assistant's marker",
        "role" => "the assistant's role",
        _ => return None,
    };
    let (count, what) = rest.strip_suffix("_mean").map_or((rest, ""), |count| (count, "the mean of "));
    Some(format!("{what}{count} tokens from {from} on"))
}

/// `a`, `a and b`, `a, b and c`.
pub fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The text with its first letter in upper case.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

/// A token's text with its spaces and line breaks made visible.
pub fn token_label(text: &str) -> String {
    text.replace(' ', "␣").replace('\n', "⏎").replace('\t', "⇥")
}

/// At most `count` of the items, evenly spread, the first and the last among them.
pub fn spread<T: Clone>(items: &[T], count: usize) -> Vec<T> {
    if items.len() <= count {
        return items.to_vec();
    }
    (0..count).map(|i| items[i * (items.len() - 1) / (count - 1).max(1)].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_well() {
        assert_eq!(listed(&["a".into(), "b".into(), "c".into()]), "a, b and c");
        assert_eq!(capital("émile"), "Émile");
        assert_eq!(token_label(" a\n"), "␣a⏎");
    }

    #[test]
    fn a_spread_keeps_both_ends() {
        assert_eq!(spread(&[1, 2, 3], 5), [1, 2, 3]);
        let some = spread(&(0..65).collect::<Vec<_>>(), 9);
        assert_eq!((some.len(), some[0], some[8]), (9, 0, 64));
    }
}
