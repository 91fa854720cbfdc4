//! How texts become one: SEVERAL FILES in maqet.toml(5), on the trees that are
//! checked, and on the text that is kept.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};
use toml_edit::{Array, InlineTable, Item, Key, TableLike};

use super::short;

/// The tables whose keys are names that the definition gives: such a default holds as a whole.
pub(super) const NAMED: &[&str] = &["device", "disk", "net", "pci", "port", "usb"];

/// Puts `above` on `below`: tables are merged, lists are added to, of other values the
/// upper one wins.
pub(super) fn merge<'a>(below: &mut DeTable<'a>, above: DeTable<'a>, replaces_lists: bool) {
    for (key, value) in above {
        match (below.get_mut(&**key.get_ref()), value) {
            (None, value) => {
                below.insert(key, value);
            }
            (Some(old), mut value) => {
                let word = short::word(key.get_ref());
                if old.get_ref().as_table().is_some() {
                    lengthen(&mut value, word);
                } else if value.get_ref().as_table().is_some() {
                    lengthen(old, word);
                }
                match (old.get_mut(), value.get_mut()) {
                    (DeValue::Table(old), DeValue::Table(table)) => {
                        merge(old, std::mem::take(table), replaces_lists);
                    }
                    (DeValue::Array(old), DeValue::Array(items)) if !replaces_lists => {
                        items.iter().for_each(|item| old.push(item.clone()));
                    }
                    _ => *old = value,
                }
            }
        }
    }
}

/// Makes a value that is short for a table, of which it is the value of `word`, that table.
fn lengthen(value: &mut Spanned<DeValue<'_>>, word: Option<&'static str>) {
    if let Some(word) = word
        && value.get_ref().as_table().is_none()
    {
        let span = value.span();
        let mut table = DeTable::new();
        table.insert(Spanned::new(span.clone(), word.into()), value.clone());
        *value = Spanned::new(span, DeValue::Table(table));
    }
}

/// Adds of `defaults` what `tree` does not say.
pub(super) fn fill<'a>(tree: &mut DeTable<'a>, defaults: DeTable<'a>) {
    for (key, value) in defaults {
        let is_named = NAMED.contains(&&**key.get_ref());
        match (tree.get_mut(&**key.get_ref()), value) {
            (None, value) => {
                tree.insert(key, value);
            }
            (Some(said), mut value) if !is_named => {
                let word = short::word(key.get_ref());
                if said.get_ref().as_table().is_some() {
                    lengthen(&mut value, word);
                } else if value.get_ref().as_table().is_some() {
                    lengthen(said, word);
                }
                if let (DeValue::Table(said), DeValue::Table(table)) =
                    (said.get_mut(), value.into_inner())
                {
                    fill(said, table);
                }
            }
            _ => {}
        }
    }
}

/// Takes a key out, and the tables that have nothing in them then. Whether it was there.
pub(super) fn remove(table: &mut DeTable<'_>, key: &str) -> bool {
    let Some((word, rest)) = key.split_once('.') else {
        return table.remove(key).is_some();
    };
    let Some(DeValue::Table(inner)) = table.get_mut(word).map(Spanned::get_mut) else {
        return false;
    };
    let found = remove(inner, rest);
    if found && inner.is_empty() {
        table.remove(word);
    }
    found
}

/// All keys, tables and what is in them.
pub(super) fn keys(table: &DeTable<'_>, outer: &str, found: &mut Vec<String>) {
    for (key, value) in table {
        let key = match outer {
            "" => key.get_ref().to_string(),
            outer => format!("{outer}.{}", key.get_ref()),
        };
        if let DeValue::Table(table) = value.get_ref() {
            keys(table, &key, found);
        }
        found.push(key);
    }
}

/// The same tree with all spans `base` bytes further on.
pub(super) fn shift(table: DeTable<'_>, base: usize) -> DeTable<'_> {
    if base == 0 {
        return table;
    }
    let mut shifted = DeTable::new();
    for (key, value) in table {
        let span = further(&key.span(), base);
        shifted.insert(
            Spanned::new(span, key.into_inner()),
            shift_value(value, base),
        );
    }
    shifted
}

fn shift_value(value: Spanned<DeValue<'_>>, base: usize) -> Spanned<DeValue<'_>> {
    let span = further(&value.span(), base);
    let value = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(shift(table, base)),
        DeValue::Array(items) => {
            let mut shifted = DeArray::new();
            for item in items {
                shifted.push(shift_value(item, base));
            }
            DeValue::Array(shifted)
        }
        other => other,
    };
    Spanned::new(span, value)
}

/// A span `base` bytes further on.
pub(super) fn further(span: &Range<usize>, base: usize) -> Range<usize> {
    span.start + base..span.end + base
}

/// As [`remove`], on texts.
pub(super) fn remove_text(table: &mut dyn TableLike, key: &str) -> bool {
    let Some((word, rest)) = key.split_once('.') else {
        return table.remove(key).is_some();
    };
    let Some(inner) = table.get_mut(word).and_then(Item::as_table_like_mut) else {
        return false;
    };
    let found = remove_text(inner, rest);
    if found && inner.is_empty() {
        table.remove(word);
    }
    found
}

/// As [`merge`], on texts: what is there keeps its place and its comments.
pub(super) fn merge_text(
    below: &mut dyn TableLike,
    above: &dyn TableLike,
    inline: bool,
    replaces_lists: bool,
) {
    for (name, item) in above.iter() {
        let old = match below.get_mut(name) {
            Some(old) if !old.is_none() => old,
            _ => {
                let key = above.key(name).cloned().unwrap_or_else(|| Key::new(name));
                insert(below, &key, item.clone(), inline);
                continue;
            }
        };
        let mut item = item.clone();
        if let Some(word) = short::word(name)
            && old.is_table_like() != item.is_table_like()
        {
            let short = if old.is_table_like() {
                &mut item
            } else {
                &mut *old
            };
            *short = Item::Value(lengthened(short, word).into());
        }
        let inline = inline || old.is_inline_table();
        if let (Some(_), Some(table)) = (old.as_table_like(), item.as_table_like()) {
            let old = old.as_table_like_mut().expect("it is one");
            merge_text(old, table, inline, replaces_lists);
            continue;
        }
        if !replaces_lists && let (Some(mut list), Some(items)) = (array(old), array(&item)) {
            for value in items {
                list.push(value);
            }
            *old = Item::Value(list.into());
            continue;
        }
        match (old.as_value(), item.clone().into_value()) {
            (Some(value), Ok(mut new)) => {
                *new.decor_mut() = value.decor().clone();
                *old = Item::Value(new);
            }
            _ => {
                let key = above.key(name).cloned().unwrap_or_else(|| Key::new(name));
                below.remove(name);
                insert(below, &key, item.clone(), inline);
            }
        }
    }
}

/// As [`lengthen`], of text.
fn lengthened(item: &Item, word: &str) -> InlineTable {
    let mut table = InlineTable::new();
    if let Some(value) = item.as_value() {
        *table.decor_mut() = value.decor().clone();
        table.insert(word, value.clone().decorated(" ", ""));
    }
    table
}

fn array(item: &Item) -> Option<Array> {
    match item.clone().into_value() {
        Ok(toml_edit::Value::Array(list)) => Some(list),
        _ => None,
    }
}

fn insert(table: &mut dyn TableLike, key: &Key, mut item: Item, inline: bool) {
    if inline {
        if let Ok(mut value) = item.into_value() {
            value.decor_mut().clear();
            table.insert(key.get(), Item::Value(value));
        }
        return;
    }
    // A value would come before the tables that are there.
    if let Item::Value(toml_edit::Value::InlineTable(inner)) = item {
        item = Item::Table(inner.into_table());
    }
    without_place(&mut item);
    if !table.is_dotted() {
        with_header(&mut item);
    }
    table.entry_format(key).or_insert(item);
}

/// Dotted keys cannot stand below the header of another table.
fn with_header(item: &mut Item) {
    if let Some(table) = item.as_table_mut()
        && table.is_dotted()
    {
        table.set_dotted(false);
        let has_values = table.iter().any(|(_, item)| item.is_value());
        table.set_implicit(!has_values);
        table.iter_mut().for_each(|(_, item)| with_header(item));
    }
}

/// A table goes where it is put, and not where it was in its own text.
fn without_place(item: &mut Item) {
    match item {
        Item::Table(table) => {
            table.set_position(None);
            // Nothing was before it in its own text.
            if table.decor().prefix().and_then(|it| it.as_str()) == Some("") {
                table.decor_mut().clear();
            }
            table.iter_mut().for_each(|(_, item)| without_place(item));
        }
        Item::ArrayOfTables(tables) => {
            for table in tables.iter_mut() {
                table.set_position(None);
                table.iter_mut().for_each(|(_, item)| without_place(item));
            }
        }
        _ => {}
    }
}
