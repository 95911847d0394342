//! Text from anywhere as HTML that shows exactly this text.

use crate::system::visible::visible;

/// The text, with what HTML would read as markup and what a person would not see written as escapes.
pub fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => html += "&amp;",
            '<' => html += "&lt;",
            '>' => html += "&gt;",
            '"' => html += "&quot;",
            '\'' => html += "&#39;",
            c => html.push(c),
        }
    }
    html
}

/// The text in an element of its own, so that its direction does not change the order of what surrounds it.
pub fn isolated(text: &str) -> String {
    format!("<bdi>{}</bdi>", escaped(text))
}

/// The same, with what stands between backticks as something to type.
pub fn isolated_with_commands(text: &str) -> String {
    let pieces: Vec<&str> = text.split('`').collect();
    let html = pieces.iter().enumerate().map(|(at, piece)| {
        let piece = escaped(piece);
        match (at % 2 == 1, at + 1 < pieces.len()) {
            (false, _) => piece,
            (true, true) => format!("<code>{piece}</code>"),
            (true, false) => format!("`{piece}"),
        }
    });
    format!("<bdi>{}</bdi>", html.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_backticks_is_something_to_type() {
        for (text, html) in [
            (
                "a is missing; `cts repair` makes it",
                "a is missing; <code>cts repair</code> makes it",
            ),
            ("`<b>`", "<code>&lt;b&gt;</code>"),
            ("one ` only", "one ` only"),
            ("", ""),
        ] {
            assert_eq!(isolated_with_commands(text), format!("<bdi>{html}</bdi>"));
        }
    }

    #[test]
    fn markup_and_invisible_characters_are_shown() {
        assert_eq!(
            isolated("<img src=x onerror='a'>&\"\u{202e}\n"),
            r"<bdi>&lt;img src=x onerror=&#39;a&#39;&gt;&amp;&quot;\u{202e}\n</bdi>"
        );
    }
}
