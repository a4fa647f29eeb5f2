//! Templates: an operator's words with places for a notice's. Pure, and no language: nothing is computed.

use super::Notice;
use super::text::Line;

/// Why a template was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A place that does not exist.
    #[error(
        "there is no {{{name}}}; there are {{ward}}, {{kind}}, {{severity}}, {{title}}, {{text}}, \
         {{time}}, {{repeated}} and {{facts.NAME}}, and {{{{ for a brace"
    )]
    Unknown {
        /// What stands between the braces, cut.
        name: String,
    },
    /// A brace without its partner.
    #[error("a brace has no partner; write {{{{ or }}}} for one that is meant")]
    Brace,
    /// Too long.
    #[error("a template has at most {} bytes", Template::LEN_BYTES_MAX)]
    TooLong,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Words(String),
    Ward,
    Kind,
    Severity,
    Title,
    Text,
    Time,
    Repeated,
    Fact(String),
}

/// A template that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl Template {
    /// The longest template.
    pub const LEN_BYTES_MAX: usize = 4_000;

    /// Reads `Server {ward}: {facts.reason}`.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        if text.len() > Template::LEN_BYTES_MAX {
            return Err(TemplateError::TooLong);
        }
        let (mut parts, mut words, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            words.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                words.push_str(brace);
                rest = after;
                continue;
            }
            let (name, after) = rest.split_once('}').ok_or(TemplateError::Brace)?;
            if brace == "}" {
                return Err(TemplateError::Brace);
            }
            if !words.is_empty() {
                parts.push(Part::Words(std::mem::take(&mut words)));
            }
            parts.push(part(name)?);
            rest = after;
        }
        words.push_str(rest);
        if !words.is_empty() {
            parts.push(Part::Words(words));
        }
        Ok(Template(parts))
    }

    /// Writes it for a notice. A fact that the notice lacks is nothing.
    pub(super) fn write(&self, notice: &Notice, repeated: u32, line: &mut Line) {
        for part in &self.0 {
            match part {
                Part::Words(words) => line.ours(words),
                Part::Ward => line.theirs(notice.ward.as_ref().map_or("", |ward| ward.as_str())),
                Part::Kind => line.theirs(&notice.kind),
                Part::Severity => line.theirs(super::shape::severity(notice.severity)),
                Part::Title => line.theirs(&notice.title),
                Part::Text => line.theirs(&notice.text),
                Part::Time => line.theirs(&super::shape::rfc3339(notice.at)),
                Part::Repeated => line.theirs(&repeated.to_string()),
                Part::Fact(name) => {
                    let fact = notice.facts.iter().find(|(key, _)| key == name);
                    line.theirs(fact.map_or("", |(_, value)| value));
                }
            }
        }
    }
}

fn part(name: &str) -> Result<Part, TemplateError> {
    Ok(match name {
        "ward" => Part::Ward,
        "kind" => Part::Kind,
        "severity" => Part::Severity,
        "title" => Part::Title,
        "text" => Part::Text,
        "time" => Part::Time,
        "repeated" => Part::Repeated,
        _ => match name.strip_prefix("facts.").filter(|fact| !fact.is_empty()) {
            Some(fact) => Part::Fact(fact.to_owned()),
            None => {
                let name = name.chars().take(40).collect();
                return Err(TemplateError::Unknown { name });
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tell::tests::notice;
    use crate::tell::text::Markup;

    fn written(template: &str, markup: Markup) -> String {
        let mut line = Line::new(markup, 1_000);
        let mut notice = notice("crashed");
        notice.facts = vec![("player".into(), "*bob* {ward}".to_owned())];
        Template::parse(template).unwrap().write(&notice, 3, &mut line);
        line.finish()
    }

    #[test]
    fn places_are_filled_and_only_the_operators_markup_counts() {
        assert_eq!(
            written(
                "**{ward}** {{{kind}}} {severity} {repeated} {facts.player}{facts.none}",
                Markup::Discord
            ),
            "**palworld** {crashed} warning 3 \\*bob\\* \\{ward\\}"
        );
        assert_eq!(
            written("{title}: {text} {time}", Markup::Plain),
            "It crashed: code 1 1970-01-01T00:00:01.000Z"
        );
    }

    #[test]
    fn mistakes_are_named() {
        for text in ["{", "}", "a } b", "{ward", "{a{b}}", "{}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
        let unknown = Template::parse("{wart}");
        assert_eq!(unknown, Err(TemplateError::Unknown { name: "wart".to_owned() }));
        assert!(Template::parse("{facts.}").is_err());
        assert_eq!(Template::parse(&"x".repeat(4_001)), Err(TemplateError::TooLong));
    }

    proptest! {
        #[test]
        fn any_template_is_read_without_panic(text in "[{}a-z.\\PC]{0,60}") {
            if let Ok(template) = Template::parse(&text) {
                let mut line = Line::new(Markup::Discord, 100);
                template.write(&notice("x"), 0, &mut line);
                prop_assert!(line.finish().encode_utf16().count() <= 100);
            }
        }
    }
}
