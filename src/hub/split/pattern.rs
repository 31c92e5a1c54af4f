//! Patterns of files as a dataset's card writes them: `data/train-*`, `**/*.jsonl`, `part-[0-9].csv`, `{a,b}/x.json`.

/// A pattern that is ready to be held against names.
pub struct Pattern(Vec<Vec<Piece>>);

enum Piece {
    Char(char),
    /// `?`
    One,
    /// `*`: within one folder.
    Some,
    /// `**`: across folders.
    Deep,
    /// `**/`: any folders, or none.
    Folders,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// Alternatives in braces at most: they multiply.
const ALTERNATIVES: usize = 256;
/// Characters of the longest pattern.
const LONGEST: usize = 1000;

impl Pattern {
    /// A text that is no pattern matches nothing.
    pub fn new(text: &str) -> Pattern {
        let text = text.strip_prefix("./").unwrap_or(text);
        if text.len() > LONGEST {
            return Pattern(Vec::new());
        }
        Pattern(alternatives(text).iter().map(|text| pieces(text)).collect())
    }

    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        self.0.iter().any(|pieces| matches(pieces, &name))
    }
}

fn alternatives(text: &str) -> Vec<String> {
    let mut done = Vec::new();
    let mut pending = vec![text.to_string()];
    while let Some(text) = pending.pop() {
        if done.len() + pending.len() >= ALTERNATIVES {
            break;
        }
        let inner = text.find('{').and_then(|open| Some((open, open + text[open..].find('}')?)));
        match inner {
            Some((open, close)) => {
                let each = text[open + 1..close].split(',');
                pending.extend(each.map(|one| format!("{}{one}{}", &text[..open], &text[close + 1..])));
            }
            None => done.push(text),
        }
    }
    done
}

fn pieces(text: &str) -> Vec<Piece> {
    let chars: Vec<char> = text.chars().collect();
    let (mut pieces, mut at) = (Vec::new(), 0);
    while at < chars.len() {
        let (piece, length) = match chars[at] {
            '*' if chars[at..].starts_with(&['*', '*', '/']) => (Piece::Folders, 3),
            '*' if chars[at..].starts_with(&['*', '*']) => (Piece::Deep, 2),
            '*' => (Piece::Some, 1),
            '?' => (Piece::One, 1),
            '[' => class(&chars[at..]).unwrap_or((Piece::Char('['), 1)),
            other => (Piece::Char(other), 1),
        };
        pieces.push(piece);
        at += length;
    }
    pieces
}

fn class(chars: &[char]) -> Option<(Piece, usize)> {
    let negated = matches!(chars.get(1)?, '!' | '^');
    let start = if negated { 2 } else { 1 };
    // A bracket that comes first is one of the characters.
    let end = start + 1 + chars.get(start + 1..)?.iter().position(|c| *c == ']')?;
    let inner = &chars[start..end];
    let (mut ranges, mut at) = (Vec::new(), 0);
    while at < inner.len() {
        match inner[at..] {
            [from, '-', to, ..] => {
                ranges.push((from, to));
                at += 3;
            }
            _ => {
                ranges.push((inner[at], inner[at]));
                at += 1;
            }
        }
    }
    Some((Piece::Class { negated, ranges }, end + 1))
}

/// In time that grows with both lengths, whatever the pattern.
fn matches(pieces: &[Piece], name: &[char]) -> bool {
    // Whether the pieces so far match the first so many characters.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for piece in pieces {
        let mut next = vec![false; name.len() + 1];
        let mut before = false;
        for end in 0..=name.len() {
            next[end] = match piece {
                Piece::Char(c) => end > 0 && reached[end - 1] && name[end - 1] == *c,
                Piece::One => end > 0 && reached[end - 1] && name[end - 1] != '/',
                Piece::Class { negated, ranges } => {
                    end > 0
                        && reached[end - 1]
                        && name[end - 1] != '/'
                        && ranges.iter().any(|(from, to)| (*from..=*to).contains(&name[end - 1])) != *negated
                }
                Piece::Some => reached[end] || (end > 0 && next[end - 1] && name[end - 1] != '/'),
                Piece::Deep => reached[end] || (end > 0 && next[end - 1]),
                Piece::Folders => reached[end] || (before && end > 0 && name[end - 1] == '/'),
            };
            before |= reached[end];
        }
        reached = next;
    }
    reached[name.len()]
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn patterns_match_as_those_of_datasets_do() {
        for (pattern, sound, unsound) in [
            ("data/train-*", "data/train-00000-of-00001.parquet", "data/x/train-0"),
            ("data/train-*", "data/train-", "data/test-0"),
            ("*.jsonl", "a.jsonl", "x/a.jsonl"),
            ("**/*.jsonl", "a.jsonl", "a.json"),
            ("**/*.jsonl", "x/y/a.jsonl", "x/y/a.jsonl.gz"),
            ("x/**", "x/y/z", "y/x"),
            ("./a?c.csv", "abc.csv", "a/c.csv"),
            ("part-[0-9].csv", "part-7.csv", "part-x.csv"),
            ("part-[!0-9].csv", "part-x.csv", "part-7.csv"),
            ("{a,b}/x.{json,csv}", "b/x.csv", "c/x.csv"),
            ("en[1]", "en1", "en[1]"),
            ("[", "[", "]"),
            ("**/train/**", "train/a.json", "training/a.json"),
        ] {
            assert!(Pattern::new(pattern).matches(sound), "{pattern} {sound}");
            assert!(!Pattern::new(pattern).matches(unsound), "{pattern} {unsound}");
        }
    }

    #[test]
    fn a_pattern_that_could_go_on_for_ever_does_not() {
        assert!(!Pattern::new(&"*a".repeat(400)).matches(&"a".repeat(900).replace("aaa", "aab")));
        assert!(!Pattern::new(&"{a,b}".repeat(100)).matches("c"));
        assert!(!Pattern::new(&"**/".repeat(300)).matches(&format!("{}y", "x/".repeat(400))));
    }
}
