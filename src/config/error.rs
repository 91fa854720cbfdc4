//! What is wrong with a definition, shown where it is written.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::layer::Origin;
use super::source::Source;

/// The mistakes found in one file.
///
/// Shown one after the other, each with its line and a caret:
///
/// ```text
/// web.toml:2:1: unknown key `memroy`, did you mean `memory`?
///   2 | memroy = "1G"
///     | ^^^^^^
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    file: PathBuf,
    mistakes: Vec<Mistake>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where; `None` if it is something that is not there.
    pub at: Option<Position>,
    /// What is wrong, what was expected.
    pub message: String,
}

/// What someone else finds wrong with a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key that is to blame, a dotted path.
    pub key: String,
    /// Whether it is the key's name that is wrong, and not its value.
    pub in_name: bool,
    /// What is wrong.
    pub message: String,
}

/// A place in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which text; `None` if there is but one.
    pub origin: Option<Origin>,
    /// How many bytes of other texts come before it.
    base: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The text of that line.
    pub text: String,
    /// How many characters of the line are meant, at least 1.
    pub width: usize,
}

impl Error {
    /// There is at least one mistake. They are put in the order of the file.
    pub(super) fn new(file: &Path, mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort_by_key(|mistake| {
            let at = mistake.at.as_ref();
            at.map(|at| (at.base, at.line, at.column))
        });
        // What reads a text in several ways may find the same in each.
        mistakes.dedup();
        Self {
            file: file.to_owned(),
            mistakes,
        }
    }

    /// The same of a text that has another name for people.
    #[must_use]
    pub fn in_file(mut self, file: &Path) -> Self {
        for at in self.mistakes.iter_mut().filter_map(|it| it.at.as_mut()) {
            let is_it = matches!(&at.origin, Some(Origin::File(origin)) if *origin == self.file);
            if is_it {
                at.origin = Some(Origin::File(file.to_owned()));
            }
        }
        self.file = file.to_owned();
        self
    }

    /// Says of what is wrong where words of the command line have put something that it is
    /// these which are wrong. `text` was read; of each word, there is the key that it is about.
    #[must_use]
    pub fn typed(mut self, text: &str, words: &[(String, String)]) -> Self {
        let Ok(source) = Source::parse(text, &self.file) else {
            return self;
        };
        let mut places = Vec::new();
        for (key, word) in words {
            let of_word = source.spans(key).into_iter().map(|span| {
                let end = Position::new(text, span.end..span.end);
                (Position::new(text, span).start(), end.start(), word)
            });
            places.extend(of_word);
        }
        for at in self.mistakes.iter_mut().filter_map(|it| it.at.as_mut()) {
            let is_read = matches!(&at.origin, Some(Origin::File(file)) if *file == self.file);
            let mut within = places.iter().filter(|_| is_read);
            let within = within.find(|(start, end, _)| (start..end).contains(&&at.start()));
            if let Some((_, _, word)) = within {
                at.origin = Some(Origin::Option((*word).clone()));
            }
        }
        self
    }

    /// Whether all that is wrong was typed on the command line.
    pub fn is_usage(&self) -> bool {
        let is_option = |at: &Position| matches!(at.origin, Some(Origin::Option(_)));
        let mut mistakes = self.mistakes.iter();
        mistakes.all(|mistake| mistake.at.as_ref().is_some_and(is_option))
    }

    /// The file that was read.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What is wrong with it, in the order of its lines.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.mistakes.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            let origin = mistake.at.as_ref().and_then(|at| at.origin.as_ref());
            match origin {
                Some(origin) => write!(f, "{origin}:")?,
                None => write!(f, "{}:", self.file.display())?,
            }
            match (&mistake.at, origin) {
                // What was typed a moment ago stands before it.
                (None, _) | (_, Some(Origin::Option(_))) => write!(f, " {}", mistake.message)?,
                (Some(at), _) => {
                    writeln!(f, "{}:{}: {}", at.line, at.column, mistake.message)?;
                    write!(f, "{at}")?;
                }
            }
        }
        Ok(())
    }
}

impl Position {
    /// The place of the bytes `span` of `text`.
    pub(super) fn new(text: &str, span: Range<usize>) -> Self {
        let start = char_start(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line = text[line_start..].split('\n').next().unwrap_or_default();
        let line_end = line_start + line.len();
        let end = char_start(text, span.end.clamp(start, line_end.max(start)));
        Self {
            origin: None,
            base: 0,
            line: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            text: line.trim_end_matches('\r').to_owned(),
            width: text[start..end].chars().count().max(1),
        }
    }
}

impl Position {
    /// Line and column.
    fn start(&self) -> (usize, usize) {
        (self.line, self.column)
    }

    /// The same place in the text of `origin`, which comes after `base` bytes of others.
    pub(super) fn of(self, origin: &Origin, base: usize) -> Self {
        Self {
            origin: Some(origin.clone()),
            base,
            ..self
        }
    }
}

/// Where the character begins that byte `at` belongs to.
fn char_start(text: &str, at: usize) -> usize {
    let mut starts = (0..=at.min(text.len())).rev();
    starts
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or_default()
}

/// The line, and below it a caret for each character that is meant.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        // A broken file may hold anything, and this goes to a terminal.
        let shown = self
            .text
            .replace(|c: char| c.is_control() && c != '\t', "\u{fffd}");
        let indent: String = shown
            .chars()
            .take(self.column - 1)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        writeln!(f, "  {number} | {shown}")?;
        write!(
            f,
            "  {:number$} | {indent}{}",
            "",
            "^".repeat(self.width),
            number = number.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_a_line_and_a_column_in_characters() {
        let text = "a = 1\n\tä = \"é\"\r\nend";
        let place = |span| {
            let at = Position::new(text, span);
            (at.line, at.column, at.width, at.to_string())
        };
        assert_eq!(place(0..1), (1, 1, 1, "  1 | a = 1\n    | ^".to_owned()));
        assert_eq!(
            place(12..16),
            (2, 6, 3, "  2 | \tä = \"é\"\n    | \t    ^^^".to_owned())
        );
        assert_eq!(place(18..99).0, 3);
        assert_eq!(place(21..21), (3, 4, 1, "  3 | end\n    |    ^".to_owned()));
        assert_eq!(place(0..21).2, 5, "what spans lines is shown on its first");
    }
}
