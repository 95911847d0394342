//! Numbers of things, for a sentence.

/// The numbers that are not zero, with their words: `2 tables, 1 index`. Empty where all are zero.
pub fn counts(parts: &[(usize, &str, &str)]) -> String {
    let shown = parts.iter().filter(|(count, ..)| *count > 0);
    let text = |(count, one, many): &(usize, &str, &str)| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    };
    shown.map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_none_of_is_not_counted() {
        let parts =
            |tables, indexes| counts(&[(tables, "table", "tables"), (indexes, "index", "indexes")]);
        assert_eq!(parts(22, 1), "22 tables, 1 index");
        assert_eq!(parts(0, 2), "2 indexes");
        assert_eq!(parts(0, 0), "");
    }
}
