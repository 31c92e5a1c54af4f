//! A prompt cut into the pieces that are left out in turn.

use std::ops::Range;

/// A piece and what goes when it is left out (byte ranges of the prompt): the white space after it goes too, and
/// before the last piece, so that no gap is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub text: Range<usize>,
    pub removed: Range<usize>,
}

impl Piece {
    /// The prompt without this piece.
    pub fn ablated(&self, prompt: &str) -> String {
        format!("{}{}", &prompt[..self.removed.start], &prompt[self.removed.end..])
    }
}

/// Runs of characters that are no white space, joined to at most `most` groups of neighbours.
pub fn words(prompt: &str, most: usize) -> Vec<Piece> {
    let mut words: Vec<Range<usize>> = Vec::new();
    let mut start = None;
    for (at, c) in prompt.char_indices() {
        match (c.is_whitespace(), start) {
            (true, Some(from)) => {
                words.push(from..at);
                start = None;
            }
            (false, None) => start = Some(at),
            _ => {}
        }
    }
    words.extend(start.map(|from| from..prompt.len()));
    pieces(prompt, &words, most)
}

/// Lines that are not blank, joined to at most `most` groups of neighbours.
pub fn lines(prompt: &str, most: usize) -> Vec<Piece> {
    let mut lines = Vec::new();
    let mut start = 0;
    for line in prompt.split_inclusive('\n') {
        let text = line.trim_end();
        // The indentation belongs to the line.
        if !text.is_empty() {
            lines.push(start..start + text.len());
        }
        start += line.len();
    }
    pieces(prompt, &lines, most)
}

/// What stands in a template's slots, each where it stands.
pub fn slots(found: Vec<Range<usize>>) -> Vec<Piece> {
    found.into_iter().map(|slot| Piece { text: slot.clone(), removed: slot }).collect()
}

/// Groups of as equal sizes as can be, in order.
fn pieces(prompt: &str, units: &[Range<usize>], most: usize) -> Vec<Piece> {
    let count = units.len().min(most);
    let bound = |group: usize| group * units.len() / count.max(1);
    let mut pieces = Vec::new();
    for group in 0..count {
        let (first, end) = (bound(group), bound(group + 1));
        let text = units[first].start..units[end - 1].end;
        let removed = match (units.get(end), first.checked_sub(1)) {
            (Some(next), _) => text.start..next.start,
            (None, Some(before)) => units[before].end..prompt.len(),
            (None, None) => 0..prompt.len(),
        };
        pieces.push(Piece { text, removed });
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown<'a>(prompt: &'a str, pieces: &[Piece]) -> Vec<(&'a str, String)> {
        pieces.iter().map(|piece| (&prompt[piece.text.clone()], piece.ablated(prompt))).collect()
    }

    #[test]
    fn a_word_goes_with_the_space_that_parts_it_from_the_next() {
        let prompt = " Sort the\n\nlist\u{a0}é. ";
        let all = shown(prompt, &words(prompt, 9));
        assert_eq!(all[0], ("Sort", " the\n\nlist\u{a0}é. ".to_string()));
        assert_eq!(all[1], ("the", " Sort list\u{a0}é. ".to_string()));
        assert_eq!(all[2], ("list", " Sort the\n\né. ".to_string()));
        assert_eq!(all[3], ("é.", " Sort the\n\nlist".to_string()));
        assert_eq!(all.len(), 4);
        assert_eq!(shown("one", &words("one", 9)), [("one", String::new())]);
        assert!(words(" \n", 9).is_empty() && words("", 9).is_empty());
    }

    #[test]
    fn words_are_joined_to_groups_that_cover_them_all() {
        let prompt = "a b c d e f g";
        let texts: Vec<&str> = words(prompt, 3).iter().map(|piece| &prompt[piece.text.clone()]).collect();
        assert_eq!(texts, ["a b", "c d", "e f g"]);
        assert_eq!(words(prompt, 3)[2].ablated(prompt), "a b c d");
    }

    #[test]
    fn lines_keep_their_indentation_and_blank_ones_are_none() {
        let prompt = "def f():\n    x = 1\n\n    return x\n";
        let all = shown(prompt, &lines(prompt, 9));
        let texts: Vec<&str> = all.iter().map(|(text, _)| *text).collect();
        assert_eq!(texts, ["def f():", "    x = 1", "    return x"]);
        assert_eq!(all[1].1, "def f():\n    return x\n");
        assert_eq!(all[2].1, "def f():\n    x = 1");
    }
}
