//! Strangers' words made harmless and short: names of players and lines of logs may hold markup, mentions,
//! links and direction marks. Pure.

/// How a receiver reads the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Markup {
    /// As it is.
    Plain,
    /// Discord's Markdown: a backslash takes the meaning from any punctuation.
    Discord,
    /// Slack's: three characters are entities.
    Slack,
}

/// Holds nothing visible, and breaks mentions and links apart.
const ZERO_WIDTH_SPACE: &str = "\u{200b}";

/// A text under construction that ends with an ellipsis rather than exceed its limit, and never in the
/// middle of an escape.
#[derive(Debug)]
pub(super) struct Line {
    out: String,
    markup: Markup,
    /// In UTF-16 units: at least as many as what Discord and Slack count.
    left: usize,
    is_full: bool,
}

impl Line {
    pub(super) fn new(markup: Markup, units_max: usize) -> Line {
        Line { out: String::new(), markup, left: units_max.saturating_sub(1), is_full: false }
    }

    /// Words of the operator or our own: markup in them is meant.
    pub(super) fn ours(&mut self, text: &str) {
        for c in text.chars().filter(|c| *c == '\n' || !c.is_control()) {
            self.piece(&[c.encode_utf8(&mut [0; 4])]);
        }
    }

    /// Words of anybody.
    pub(super) fn theirs(&mut self, text: &str) {
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            let mut buffer = [0; 4];
            let Some(shown) = harmless(c) else { continue };
            let shown = &*shown.encode_utf8(&mut buffer);
            let is_link = c == ':' && rest.as_str().starts_with("//");
            match (self.markup, c) {
                (Markup::Plain, _) => self.piece(&[shown]),
                (_, '@') => self.piece(&["@", ZERO_WIDTH_SPACE]),
                (_, ':') if is_link => self.piece(&[":", ZERO_WIDTH_SPACE]),
                (Markup::Discord, c) if c.is_ascii_punctuation() && !is_calm(c) => {
                    self.piece(&["\\", shown]);
                }
                (Markup::Slack, '&') => self.piece(&["&amp;"]),
                (Markup::Slack, '<') => self.piece(&["&lt;"]),
                (Markup::Slack, '>') => self.piece(&["&gt;"]),
                _ => self.piece(&[shown]),
            }
        }
    }

    pub(super) fn finish(self) -> String {
        self.out.trim().to_owned()
    }

    fn piece(&mut self, parts: &[&str]) {
        if self.is_full {
            return;
        }
        let units = parts.iter().map(|part| part.encode_utf16().count()).sum();
        if let Some(left) = self.left.checked_sub(units) {
            self.left = left;
            parts.iter().for_each(|part| self.out.push_str(part));
        } else {
            self.is_full = true;
            self.out.push('…');
        }
    }
}

/// Words of anybody, cut.
pub(super) fn theirs(text: &str, markup: Markup, units_max: usize) -> String {
    let mut line = Line::new(markup, units_max);
    line.theirs(text);
    line.finish()
}

/// Punctuation that begins no markup anywhere, so that common text stays readable in raw form.
fn is_calm(c: char) -> bool {
    matches!(c, '.' | ',' | ';' | ':' | '!' | '?' | '\'' | '"' | '%' | '/' | '=' | '$' | '&' | '@')
}

/// Controls become blanks; what turns the direction of text, or hides in it, leaves.
fn harmless(c: char) -> Option<char> {
    match c {
        '\n' | '\u{2028}' | '\u{2029}' => Some('\n'),
        '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' => None,
        c if c.is_control() => Some(' '),
        c => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Turns the direction of what follows.
    const TURNS: char = '\u{202e}';

    fn check(markup: Markup, text: &str, expected: &str) {
        assert_eq!(theirs(text, markup, 1_000), expected);
    }

    #[test]
    fn names_cannot_ping_link_or_format() {
        let nasty = "@everyone <@1> **x** [a](https://evil.example) `c` \u{202e}x\u{7}";
        check(
            Markup::Discord,
            nasty,
            "@\u{200b}everyone \\<@\u{200b}1\\> \\*\\*x\\*\\* \\[a\\]\\(https:\u{200b}//evil.example\\) \\`c\\` x",
        );
        check(
            Markup::Slack,
            "<!channel> & <https://evil.example|x>",
            "&lt;!channel&gt; &amp; &lt;https:\u{200b}//evil.example|x&gt;",
        );
        check(Markup::Plain, "a_b <c>\u{0}d\u{feff}", "a_b <c> d");
        check(Markup::Discord, "# x\n- y\n> z", "\\# x\n\\- y\n\\> z");
        check(Markup::Discord, "서버가 12.5% 느려짐: 왜?", "서버가 12.5% 느려짐: 왜?");
    }

    #[test]
    fn long_texts_end_with_an_ellipsis_and_never_inside_an_escape() {
        assert_eq!(theirs("abcdef", Markup::Plain, 4), "abc…");
        assert_eq!(theirs("abc", Markup::Plain, 4), "abc");
        assert_eq!(theirs("a**b", Markup::Discord, 5), "a\\*…");
        assert_eq!(theirs("<<<", Markup::Slack, 9), "&lt;&lt;…");
        assert_eq!(theirs("😀😀", Markup::Plain, 4), "😀…");
    }

    proptest! {
        #[test]
        fn no_text_is_longer_than_allowed_or_keeps_live_markup(text in ".{0,200}", max in 1_usize..300) {
            for markup in [Markup::Plain, Markup::Discord, Markup::Slack] {
                let shown = theirs(&text, markup, max);
                prop_assert!(shown.encode_utf16().count() <= max);
                prop_assert!(!shown.contains(TURNS), "it turns");
            }
            let slack = theirs(&text, Markup::Slack, max);
            prop_assert!(!slack.contains(['<', '>']));
            let discord = theirs(&text, Markup::Discord, max);
            let mut escaped = false;
            for c in discord.chars() {
                prop_assert!(escaped || !"*_~`|<>[]()#".contains(c), "{discord}");
                escaped = c == '\\' && !escaped;
            }
        }
    }
}
