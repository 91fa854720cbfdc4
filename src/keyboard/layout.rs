//! Which keys give which character.

use std::collections::HashMap;

use kbvm::xkb::Context;
use kbvm::xkb::rmlvo::Group;
use kbvm::{GroupIndex, Keycode, ModifierMask};

use super::{Chord, Error};

/// Which keys give which character.
#[derive(Clone, Debug)]
pub struct Layout {
    name: String,
    chords: HashMap<char, Chord>,
}

/// A layout that this host knows nothing of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no keyboard layout `{0}` here")]
pub struct NoLayout(pub String);

/// Rows of keys that give characters: Linux's number for the first (the others
/// follow, see linux/input-event-codes.h), QEMU's names, and what is on them in
/// the US, plain and with shift.
const ROWS: &[(u32, &str, &str, &str)] = &[
    (
        2,
        "1 2 3 4 5 6 7 8 9 0 minus equal",
        "1234567890-=",
        "!@#$%^&*()_+",
    ),
    (
        16,
        "q w e r t y u i o p bracket_left bracket_right",
        "qwertyuiop[]",
        "QWERTYUIOP{}",
    ),
    (
        30,
        "a s d f g h j k l semicolon apostrophe grave_accent",
        "asdfghjkl;'`",
        "ASDFGHJKL:\"~",
    ),
    (
        43,
        "backslash z x c v b n m comma dot slash",
        "\\zxcvbnm,./",
        "|ZXCVBNM<>?",
    ),
    // Not on a US keyboard: beside the left shift in Europe, two more in Japan.
    (86, "less", "", ""),
    (89, "ro", "", ""),
    (124, "yen", "", ""),
];

/// The same keys everywhere.
const EVERYWHERE: &[(char, &str)] = &[('\n', "ret"), ('\r', "ret"), ('\t', "tab"), (' ', "spc")];

/// The levels of a key, those with fewer modifiers first: what XKB calls the
/// modifiers, and the keys for them.
const LEVELS: &[(ModifierMask, &[&str])] = &[
    (ModifierMask::NONE, &[]),
    (ModifierMask::SHIFT, &["shift"]),
    (ModifierMask::MOD5, &["alt_r"]),
    (
        ModifierMask(ModifierMask::SHIFT.0 | ModifierMask::MOD5.0),
        &["shift", "alt_r"],
    ),
];

impl Layout {
    /// The US layout, which needs nothing of the host.
    pub fn us() -> Self {
        let mut layout = Self::empty("us");
        for (_, keys, plain, shifted) in ROWS {
            for ((key, plain), shifted) in keys.split(' ').zip(plain.chars()).zip(shifted.chars()) {
                layout.add(plain, &[key]);
                layout.add(shifted, &["shift", key]);
            }
        }
        layout
    }

    /// The layout of that name; all but `us` are read from the host's XKB data,
    /// and may have a variant: `us:dvorak`.
    ///
    /// # Errors
    /// If the host has no such layout.
    pub fn named(name: &str) -> Result<Self, NoLayout> {
        if name == "us" {
            return Ok(Self::us());
        }
        let (layout, variant) = name.split_once(':').unwrap_or((name, ""));
        let groups = [Group { layout, variant }];
        // What is said of the data is for those who write it.
        let mut said = Vec::new();
        let keymap =
            Context::default().keymap_from_names(&mut said, None, None, Some(&groups), None);
        let table = keymap.to_builder().build_lookup_table();
        let mut found = Self::empty(name);
        for (modifiers, held) in LEVELS {
            for (code, key) in ROWS
                .iter()
                .flat_map(|(first, keys, ..)| (*first..).zip(keys.split(' ')))
            {
                let symbols = table.lookup(GroupIndex(0), *modifiers, Keycode::from_evdev(code));
                let mut characters = symbols.into_iter().filter_map(|symbol| symbol.char());
                if let (Some(character), None) = (characters.next(), characters.next()) {
                    let keys: Vec<&str> = held.iter().copied().chain([key]).collect();
                    found.add(character, &keys);
                }
            }
        }
        // Without a layout there is still what is the same everywhere.
        match found.chords.len() {
            0..40 => Err(NoLayout(name.to_owned())),
            _ => Ok(found),
        }
    }

    /// The chords that type `text`. A line may end with `\n`, `\r\n` or `\r`.
    ///
    /// # Errors
    /// [`Error::NoCharacter`] for the first character that no key gives.
    pub fn chords(&self, text: &str) -> Result<Vec<Chord>, Error> {
        let mut before = None;
        let mut chords = Vec::new();
        for (index, character) in text.chars().enumerate() {
            if (before, character) != (Some('\r'), '\n') {
                let chord = self.chord(character).ok_or_else(|| Error::NoCharacter {
                    character,
                    position: index + 1,
                    layout: self.name.clone(),
                })?;
                chords.push(chord);
            }
            before = Some(character);
        }
        Ok(chords)
    }

    pub(super) fn chord(&self, character: char) -> Option<Chord> {
        self.chords.get(&character).cloned()
    }

    fn empty(name: &str) -> Self {
        let mut layout = Self {
            name: name.to_owned(),
            chords: HashMap::new(),
        };
        for &(character, key) in EVERYWHERE {
            layout.add(character, &[key]);
        }
        layout
    }

    /// The first way to type a character is kept: those with fewer modifiers come first.
    fn add(&mut self, character: char, keys: &[&str]) {
        let keys = keys.iter().map(|&key| key.to_owned()).collect();
        self.chords.entry(character).or_insert(Chord(keys));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_us_layout_has_all_of_ascii_that_is_printed() {
        let all: String = (' '..='~').chain(['\t', '\n']).collect();
        let chords = Layout::us().chords(&all).unwrap();
        assert_eq!(chords.len(), 97);
        for (index, chord) in chords.iter().enumerate() {
            assert!(!chords[..index].contains(chord), "{chord:?} comes twice");
        }
    }

    #[test]
    fn a_line_break_is_one_key_however_it_is_written() {
        let chords = |text| Layout::us().chords(text).unwrap();
        assert_eq!(chords("a\r\nb"), chords("a\nb"));
        assert_eq!(chords("a\rb"), chords("a\nb"));
        assert_eq!(chords("\n\n").len(), 2);
    }

    #[test]
    fn a_character_that_no_key_gives_is_named_with_its_position() {
        let error = Layout::us().chords("naïve").unwrap_err();
        assert_eq!(
            error.to_string(),
            "character 3 of the text, `ï` (U+00EF), is on no key of the layout `us`"
        );
    }

    /// What the host's XKB data says: Debian's package xkb-data.
    #[test]
    fn other_layouts_have_their_characters_where_they_have_them() {
        for (layout, character, keys) in [
            ("de", 'z', &["y"][..]),
            ("de", 'ß', &["minus"]),
            ("de", 'Ü', &["shift", "bracket_left"]),
            ("de", '@', &["alt_r", "q"]),
            ("de", '|', &["alt_r", "less"]),
            ("de", '\n', &["ret"]),
            ("fr", 'é', &["2"]),
            ("fr", '1', &["shift", "1"]),
            ("gb", '£', &["shift", "3"]),
            ("us:dvorak", 'o', &["s"]),
            ("ru", 'ж', &["semicolon"]),
        ] {
            let chord = Layout::named(layout).unwrap().chord(character);
            let found = chord.map(|chord| chord.0).unwrap_or_default();
            assert_eq!(found, keys, "{layout} {character}");
        }
    }

    #[test]
    fn the_us_layout_is_what_the_data_says_it_is() {
        let ours = Layout::us();
        let theirs = Layout::named("us:basic").unwrap();
        // `<` is also on the key beside the left shift, which not all keyboards have.
        for character in (' '..='~').filter(|character| *character != '<') {
            assert_eq!(
                ours.chord(character),
                theirs.chord(character),
                "{character}"
            );
        }
    }

    #[test]
    fn a_layout_that_is_nowhere_is_an_error() {
        for name in ["nosuch", "de:nosuch"] {
            let found = Layout::named(name).map(|layout| layout.chords.len());
            assert_eq!(found, Err(NoLayout(name.to_owned())));
        }
    }
}
