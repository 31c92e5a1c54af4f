//! Where a value stands in pipeline.toml.

use std::ops::Range;

use strata_stages::contract::toml_path::{Segment, TomlPath};
use toml_edit::{Document, Item};

/// What a path leads through: tables and arrays hold items at the top of a document, and values within values.
#[derive(Clone, Copy)]
enum Held<'a> {
    Item(&'a Item),
    Table(&'a toml_edit::Table),
    Value(&'a toml_edit::Value),
}

impl<'a> Held<'a> {
    /// The value one step further, with its bytes. A table with a header of its own is shown by its name.
    fn step(self, segment: &Segment) -> Option<(Held<'a>, Option<Range<usize>>)> {
        match segment {
            Segment::Key(name) => {
                let table: &dyn toml_edit::TableLike = match self {
                    Held::Item(item) => item.as_table_like()?,
                    Held::Table(table) => table,
                    Held::Value(value) => value.as_inline_table()?,
                };
                let (key, item) = table.get_key_value(name)?;
                let headed = item.is_table() || item.is_array_of_tables();
                Some((Held::Item(item), if headed { key.span() } else { item.span() }))
            }
            Segment::Index(index) => {
                let array = match self {
                    Held::Item(item) => match item.as_array_of_tables() {
                        Some(tables) => {
                            let table = tables.get(*index)?;
                            return Some((Held::Table(table), table.span()));
                        }
                        None => item.as_array()?,
                    },
                    Held::Table(_) => return None,
                    Held::Value(value) => value.as_array()?,
                };
                let value = array.get(*index)?;
                Some((Held::Value(value), value.span()))
            }
        }
    }
}

/// The bytes of the value at a path, or of the deepest value on the way that is there.
pub fn locate(document: &Document<String>, at: &TomlPath) -> Option<Range<usize>> {
    let mut held = Held::Item(document.as_item());
    let mut found = None;
    for segment in at.segments() {
        let Some((next, span)) = held.step(segment) else { break };
        held = next;
        found = span.or(found);
    }
    found
}
