//! What somebody probably meant to write.

/// Those of `known` that are most like `word`, the best first: at most three, and
/// none if none is like it at all.
pub fn nearest<T: AsRef<str>>(word: &str, known: impl IntoIterator<Item = T>) -> Vec<T> {
    let word = plain(word);
    let mut found: Vec<(f64, T)> = known
        .into_iter()
        .map(|known| (likeness(&word, &plain(known.as_ref())), known))
        .filter(|(likeness, _)| *likeness > LIKE)
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = found.first().map_or(0.0, |(likeness, _)| *likeness);
    found
        .into_iter()
        .take(3)
        .take_while(|(likeness, _)| best - likeness < AS_LIKE)
        .map(|(_, known)| known)
        .collect()
}

/// Words less like each other than this have nothing to do with each other; the same word is 1.
const LIKE: f64 = 0.8;

/// How much less like the word than the best one may be that is still worth telling.
const AS_LIKE: f64 = 0.03;

fn likeness(a: &str, b: &str) -> f64 {
    // A slip of one finger counts most, in a short word too.
    match strsim::damerau_levenshtein(a, b) {
        0 => 1.1,
        // Swapped letters sooner than a lost one.
        1 => 1.0 - 0.01 * a.len().abs_diff(b.len()) as f64,
        _ => strsim::jaro_winkler(a, b),
    }
}

/// Without the differences that nobody remembers.
fn plain(word: &str) -> String {
    word.to_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_comes_first() {
        let keys = [
            "name",
            "machine",
            "memory",
            "cpu",
            "cpus",
            "disk",
            "net",
            "read-only",
        ];
        let commands = [
            "query-block",
            "query-blockstats",
            "query-status",
            "query-stats",
            "device_add",
            "device_del",
            "blockdev-add",
        ];
        for (word, known, expected) in [
            ("memroy", &keys[..], &["memory"][..]),
            ("Memory", &keys, &["memory"]),
            ("mem", &keys, &["memory"]),
            ("disks", &keys, &["disk"]),
            ("network", &keys, &["net"]),
            ("read_only", &keys, &["read-only"]),
            ("nte", &keys, &["net"]),
            ("frobnicate", &keys, &[]),
            ("query-statsu", &commands, &["query-status", "query-stats"]),
            ("device-add", &commands, &["device_add"]),
            ("blockdev_ad", &commands, &["blockdev-add"]),
        ] {
            assert_eq!(nearest(word, known.iter().copied()), expected, "{word}");
        }
    }
}
