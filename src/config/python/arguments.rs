//! `args` and the five forms of `arguments` into options of QEMU.

use super::option::Opt;
use super::{Converter, scalar};
use crate::config::yaml::{Map, Node, Value};

impl<'a> Converter<'_, 'a> {
    /// Words of a command line.
    pub(super) fn args(&mut self, items: &[Node<'a>], options: &mut Vec<Opt>) {
        for item in items {
            let Some(word) = scalar(item.get_ref()) else {
                self.mistake(item.span(), "expected a text");
                continue;
            };
            match (word.strip_prefix('-'), options.last_mut()) {
                (Some(name), _) => options.push(Opt {
                    takes_next: true,
                    ..Opt::new(name, None, item.span())
                }),
                (None, Some(last)) if last.takes_next => {
                    last.value = Some(word);
                    last.takes_next = false;
                }
                (None, _) => {
                    self.mistake(item.span(), "belongs to no option: those begin with `-`")
                }
            }
        }
        options
            .iter_mut()
            .for_each(|option| option.takes_next = false);
    }

    /// A name alone, a name with its value, or a table of names and values.
    pub(super) fn arguments(&mut self, items: &[Node<'a>], options: &mut Vec<Opt>) {
        for item in items {
            let option = match item.get_ref() {
                Value::Map(map) => self.argument(map),
                value => match scalar(value) {
                    Some(word) if !word.contains(char::is_whitespace) => Some((word, None)),
                    Some(word) => {
                        let message = match word.split_once(char::is_whitespace) {
                            Some((name, rest)) => format!(
                                "an option with a value is written `{}: {}`",
                                name.trim_start_matches('-').escape_debug(),
                                rest.escape_debug()
                            ),
                            None => "expected an option".to_owned(),
                        };
                        self.mistake(item.span(), message);
                        None
                    }
                    None => {
                        self.mistake(item.span(), "expected an option, or a table of one");
                        None
                    }
                },
            };
            if let Some((name, value)) = option {
                // Some wrote the dash.
                let name = name.strip_prefix('-').unwrap_or(&name);
                options.push(Opt::new(name, value, item.span()));
            }
        }
    }

    /// The first key is the option; what follows it belongs to its value.
    fn argument(&mut self, map: &Map<'a>) -> Option<(String, Option<String>)> {
        let ((key, first), rest) = map.split_first()?;
        let mut parts = Vec::new();
        match first.get_ref() {
            // `{display: {gtk: , zoom-to-fit: on}}` is `gtk,zoom-to-fit=on`: see `pairs`.
            Value::Map(inner) => self.pairs(inner, "", &mut parts),
            Value::List(items) => self.items(items, "", &mut parts),
            Value::Null => {}
            value => parts.extend(scalar(value)),
        }
        self.pairs(rest, "", &mut parts);
        let value = (!parts.is_empty()).then(|| parts.join(","));
        Some((key.get_ref().clone().into_owned(), value))
    }

    /// `key=value` each, with the names of outer tables before it.
    fn pairs(
        &mut self,
        map: &[(toml::Spanned<std::borrow::Cow<'a, str>>, Node<'a>)],
        outer: &str,
        parts: &mut Vec<String>,
    ) {
        for (key, value) in map {
            let name = match outer {
                "" => key.get_ref().clone().into_owned(),
                outer => format!("{outer}.{}", key.get_ref()),
            };
            match value.get_ref() {
                Value::Null => parts.push(name),
                Value::Map(inner) if inner.is_empty() => parts.push(name),
                Value::Map(inner) => self.pairs(inner, &name, parts),
                Value::List(items) => self.items(items, &name, parts),
                value => parts.extend(scalar(value).map(|value| format!("{name}={value}"))),
            }
        }
    }

    fn items(&mut self, items: &[Node<'a>], outer: &str, parts: &mut Vec<String>) {
        for item in items {
            match item.get_ref() {
                Value::Map(inner) => self.pairs(inner, outer, parts),
                Value::List(items) => self.items(items, outer, parts),
                Value::Null => self.mistake(item.span(), "has no value"),
                value => parts.extend(scalar(value).map(|word| match outer {
                    "" => word,
                    outer => format!("{outer}.{word}"),
                })),
            }
        }
    }
}
