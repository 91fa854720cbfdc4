//! Keys by name, and the keys that give a text. What a keyboard is, not how it is reached.
//!
//! Keys have QEMU's names (`QKeyCode` in its QAPI schema), which are those of a
//! US keyboard: where a layout puts its characters is the guest's matter.

mod layout;

pub use layout::{Layout, NoLayout};

use crate::nearest::nearest;

/// Keys that are pressed one after another and released in reverse: `ctrl`, `alt`, `f2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chord(pub Vec<String>);

/// Why words are no keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The keyboard has no such key.
    #[error("`{key}` is no key{}", .nearest.as_ref().map_or_else(String::new, |near| format!(", did you mean `{near}`?")))]
    NoKey {
        /// As it was written.
        key: String,
        /// The name most like it.
        nearest: Option<String>,
    },
    /// Nothing before, between or after a `-`.
    #[error(
        "`{0}` lacks a key: write names with `-` between them, as in ctrl-alt-f2 (the key `-` is `minus`)"
    )]
    Incomplete(String),
    /// No key of the layout gives this character.
    #[error("character {position} of the text, `{}` (U+{:04X}), is on no key of the layout `{layout}`", .character.escape_debug(), u32::from(*.character))]
    NoCharacter {
        /// The character.
        character: char,
        /// Which it is, counted from 1.
        position: usize,
        /// The name of the layout.
        layout: String,
    },
}

/// What people call keys, and what QEMU calls them.
const ALIASES: &[(&str, &str)] = &[
    ("alt_gr", "alt_r"),
    ("altgr", "alt_r"),
    ("arrowdown", "down"),
    ("arrowleft", "left"),
    ("arrowright", "right"),
    ("arrowup", "up"),
    ("backquote", "grave_accent"),
    ("break", "pause"),
    ("bs", "backspace"),
    ("caps", "caps_lock"),
    ("capslock", "caps_lock"),
    ("cmd", "meta_l"),
    ("control", "ctrl"),
    ("ctl", "ctrl"),
    ("del", "delete"),
    ("enter", "ret"),
    ("equals", "equal"),
    ("escape", "esc"),
    ("grave", "grave_accent"),
    ("ins", "insert"),
    ("lalt", "alt"),
    ("lctrl", "ctrl"),
    ("leftbrace", "bracket_left"),
    ("lshift", "shift"),
    ("meta", "meta_l"),
    ("numlock", "num_lock"),
    ("option", "alt"),
    ("page_down", "pgdn"),
    ("page_up", "pgup"),
    ("pagedown", "pgdn"),
    ("pageup", "pgup"),
    ("period", "dot"),
    ("pgdown", "pgdn"),
    ("printscreen", "print"),
    ("prtsc", "print"),
    ("ralt", "alt_r"),
    ("rctrl", "ctrl_r"),
    ("return", "ret"),
    ("rightbrace", "bracket_right"),
    ("rshift", "shift_r"),
    ("scrolllock", "scroll_lock"),
    ("space", "spc"),
    ("super", "meta_l"),
    ("win", "meta_l"),
    ("windows", "meta_l"),
];

impl Chord {
    /// Reads `ctrl-alt-f2`, also with `+` between the keys. `known` are the keys that there are.
    ///
    /// A key is one of QEMU's names, a common other name, or what is printed on it
    /// (`/`); capitals do not matter.
    pub fn parse(text: &str, known: &[String]) -> Result<Self, Error> {
        let keys = text
            .split(['-', '+'])
            .map(|word| {
                if word.is_empty() {
                    return Err(Error::Incomplete(text.to_owned()));
                }
                key(word, known)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self(keys))
    }
}

fn key(word: &str, known: &[String]) -> Result<String, Error> {
    let name = word.to_lowercase();
    let is_known = |name: &str| known.iter().any(|key| key == name);
    if is_known(&name) {
        return Ok(name);
    }
    let mut characters = name.chars();
    if let (Some(character), None) = (characters.next(), characters.next())
        && let Some(Chord(keys)) = Layout::us().chord(character)
        && let [key] = &keys[..]
    {
        return Ok(key.clone());
    }
    if let Some((_, key)) = ALIASES.iter().find(|(alias, _)| *alias == name)
        && is_known(key)
    {
        return Ok((*key).to_owned());
    }
    let known = known.iter().map(String::as_str);
    let names = known.chain(ALIASES.iter().map(|(alias, _)| *alias));
    Err(Error::NoKey {
        key: word.to_owned(),
        nearest: nearest(&name, names).first().map(|key| (*key).to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<String> {
        let names = "ctrl alt shift ret esc f1 f2 f12 delete meta_l a minus pgup slash spc alt_r";
        names.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn keys_have_names_other_names_and_what_is_printed_on_them() {
        for (text, keys) in [
            ("a", &["a"][..]),
            ("ctrl-alt-f2", &["ctrl", "alt", "f2"]),
            ("Control+Alt+Del", &["ctrl", "alt", "delete"]),
            ("win-Enter", &["meta_l", "ret"]),
            ("ctrl-/", &["ctrl", "slash"]),
            ("AltGr-PageUp", &["alt_r", "pgup"]),
        ] {
            let chord = Chord::parse(text, &known()).unwrap();
            assert_eq!(chord.0, keys, "{text}");
        }
    }

    #[test]
    fn a_misspelt_key_gets_the_nearest() {
        for (text, nearest) in [
            ("crtl-c", Some("ctrl")),
            ("ctrl-dlete", Some("delete")),
            ("entre", Some("enter")),
            ("xylophone", None),
        ] {
            let Err(Error::NoKey { nearest: near, .. }) = Chord::parse(text, &known()) else {
                panic!("{text} is a key");
            };
            assert_eq!(near.as_deref(), nearest, "{text}");
        }
        for text in ["", "-", "ctrl-", "ctrl--"] {
            let error = Chord::parse(text, &known()).unwrap_err();
            assert!(matches!(error, Error::Incomplete(_)), "{text}: {error}");
        }
    }
}
