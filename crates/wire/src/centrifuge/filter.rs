//! Filters over the tags of publications: a tree of comparisons, checked once, then asked for each
//! publication.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::command::FilterNode;

/// A filter that makes sense.
#[derive(Clone, Debug, PartialEq)]
pub struct TagsFilter(Rule);

/// Why a filter makes no sense, or more of it than we want to ask for each publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// More nodes than [`TagsFilter::NODES_MAX`].
    #[error("the filter has too many nodes")]
    TooManyNodes,
    /// More values to compare with than [`TagsFilter::VALUES_MAX`].
    #[error("the filter has too many values")]
    TooManyValues,
    /// More text than [`TagsFilter::BYTES_MAX`].
    #[error("the filter has too much text")]
    TooLarge,
    /// Deeper than [`TagsFilter::DEPTH_MAX`].
    #[error("the filter nests too deep")]
    TooDeep,
    /// An operation that does not exist.
    #[error("the filter has an unknown operation")]
    UnknownOperation,
    /// A comparison that does not exist.
    #[error("the filter has an unknown comparison")]
    UnknownComparison,
    /// An operation without something to join, or a `not` of several things.
    #[error("an operation of the filter has a wrong number of parts")]
    WrongPartCount,
    /// A comparison without key or value, or a number that is none.
    #[error("a comparison of the filter is incomplete")]
    Incomplete,
}

#[derive(Clone, Debug, PartialEq)]
enum Rule {
    All(Vec<Rule>),
    Any(Vec<Rule>),
    Not(Box<Rule>),
    Tag { key: String, test: Test },
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Equal(String),
    Different(String),
    Among(Vec<String>),
    NotAmong(Vec<String>),
    Exists,
    Missing,
    StartsWith(String),
    EndsWith(String),
    Contains(String),
    Number { value: String, order: Order },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl TagsFilter {
    /// Nodes of a tree. Guessed: an interface for people has far fewer.
    pub const NODES_MAX: usize = 64;
    /// Values of all `in` and `nin` together. Guessed.
    pub const VALUES_MAX: usize = 256;
    /// Levels of a tree. Guessed.
    pub const DEPTH_MAX: usize = 8;

    /// Bytes of all keys and values together. Guessed; each subscription keeps them.
    pub const BYTES_MAX: usize = 8 * 1024;

    /// Checks a tree.
    pub fn parse(tree: &FilterNode) -> Result<TagsFilter, FilterError> {
        let mut budget =
            Budget { nodes: Self::NODES_MAX, values: Self::VALUES_MAX, bytes: Self::BYTES_MAX };
        rule(tree, Self::DEPTH_MAX, &mut budget).map(TagsFilter)
    }

    /// Whether a publication with these tags passes.
    #[must_use]
    pub fn matches(&self, tags: &BTreeMap<String, String>) -> bool {
        self.passes(|name| tags.get(name).map(String::as_str))
    }

    /// The same, where `tag` finds the value of a tag.
    #[must_use]
    pub fn passes<'t>(&self, tag: impl Fn(&str) -> Option<&'t str>) -> bool {
        self.0.passes(&tag)
    }
}

struct Budget {
    nodes: usize,
    values: usize,
    bytes: usize,
}

fn rule(node: &FilterNode, depth: usize, budget: &mut Budget) -> Result<Rule, FilterError> {
    let depth = depth.checked_sub(1).ok_or(FilterError::TooDeep)?;
    budget.nodes = budget.nodes.checked_sub(1).ok_or(FilterError::TooManyNodes)?;
    let values = budget.values.checked_sub(node.vals.len());
    budget.values = values.ok_or(FilterError::TooManyValues)?;
    let texts = [&node.key, &node.val].into_iter().chain(&node.vals);
    let bytes = budget.bytes.checked_sub(texts.map(String::len).sum());
    budget.bytes = bytes.ok_or(FilterError::TooLarge)?;
    if node.op.is_empty() {
        if node.key.is_empty() {
            return Err(FilterError::Incomplete);
        }
        return Ok(Rule::Tag { key: node.key.clone(), test: test(node)? });
    }
    let parts: Vec<Rule> =
        node.nodes.iter().map(|part| rule(part, depth, budget)).collect::<Result<_, _>>()?;
    match (node.op.as_str(), parts.len()) {
        ("and" | "or" | "not", 0) => Err(FilterError::WrongPartCount),
        ("and", _) => Ok(Rule::All(parts)),
        ("or", _) => Ok(Rule::Any(parts)),
        ("not", 1) => {
            let part = parts.into_iter().next().ok_or(FilterError::WrongPartCount)?;
            Ok(Rule::Not(Box::new(part)))
        }
        ("not", _) => Err(FilterError::WrongPartCount),
        _ => Err(FilterError::UnknownOperation),
    }
}

fn test(node: &FilterNode) -> Result<Test, FilterError> {
    let text = || node.val.clone();
    let text_of_some_length =
        || if node.val.is_empty() { Err(FilterError::Incomplete) } else { Ok(text()) };
    let list = || {
        if node.vals.is_empty() { Err(FilterError::Incomplete) } else { Ok(node.vals.clone()) }
    };
    let number = |order| {
        let value = Decimal::parse(&node.val).map(|_decimal| text());
        value.map(|value| Test::Number { value, order }).ok_or(FilterError::Incomplete)
    };
    Ok(match node.cmp.as_str() {
        "eq" => Test::Equal(text()),
        "neq" => Test::Different(text()),
        "in" => Test::Among(list()?),
        "nin" => Test::NotAmong(list()?),
        "ex" => Test::Exists,
        "nex" => Test::Missing,
        "sw" => Test::StartsWith(text_of_some_length()?),
        "ew" => Test::EndsWith(text_of_some_length()?),
        "ct" => Test::Contains(text_of_some_length()?),
        "gt" => number(Order::Greater)?,
        "gte" => number(Order::GreaterOrEqual)?,
        "lt" => number(Order::Less)?,
        "lte" => number(Order::LessOrEqual)?,
        _ => return Err(FilterError::UnknownComparison),
    })
}

impl Rule {
    fn passes<'t>(&self, tag: &impl Fn(&str) -> Option<&'t str>) -> bool {
        match self {
            Rule::All(parts) => parts.iter().all(|part| part.passes(tag)),
            Rule::Any(parts) => parts.iter().any(|part| part.passes(tag)),
            Rule::Not(part) => !part.passes(tag),
            Rule::Tag { key, test } => test.matches(tag(key)),
        }
    }
}

impl Test {
    fn matches(&self, tag: Option<&str>) -> bool {
        match (self, tag) {
            (Test::Different(_) | Test::NotAmong(_) | Test::Missing, None) => true,
            (_, None) | (Test::Missing, Some(_)) => false,
            (Test::Exists, Some(_)) => true,
            (Test::Equal(value), Some(tag)) => tag == value,
            (Test::Different(value), Some(tag)) => tag != value,
            (Test::Among(values), Some(tag)) => values.iter().any(|value| tag == value),
            (Test::NotAmong(values), Some(tag)) => values.iter().all(|value| tag != value),
            (Test::StartsWith(value), Some(tag)) => tag.starts_with(value.as_str()),
            (Test::EndsWith(value), Some(tag)) => tag.ends_with(value.as_str()),
            (Test::Contains(value), Some(tag)) => tag.contains(value.as_str()),
            (Test::Number { value, order }, Some(tag)) => order.holds(tag, value),
        }
    }
}

impl Order {
    fn holds(self, tag: &str, value: &str) -> bool {
        let (Some(tag), Some(value)) = (Decimal::parse(tag), Decimal::parse(value)) else {
            return false;
        };
        match (self, tag.cmp(&value)) {
            (Order::GreaterOrEqual | Order::LessOrEqual, Ordering::Equal) => true,
            (Order::Greater | Order::GreaterOrEqual, order) => order == Ordering::Greater,
            (Order::Less | Order::LessOrEqual, order) => order == Ordering::Less,
        }
    }
}

/// A decimal number of any length, compared exactly: prices and ids do not fit a float.
#[derive(Debug, PartialEq, Eq)]
struct Decimal<'a> {
    is_negative: bool,
    /// Without zeros in front.
    whole: &'a str,
    /// Without zeros at the end.
    fraction: &'a str,
}

impl<'a> Decimal<'a> {
    fn parse(text: &'a str) -> Option<Decimal<'a>> {
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (digits, ""),
        };
        let are_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !are_digits(whole) || !are_digits(fraction) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let is_zero = whole.is_empty() && fraction.is_empty();
        Some(Decimal { is_negative: is_negative && !is_zero, whole, fraction })
    }

    fn cmp(&self, other: &Decimal<'_>) -> Ordering {
        let size = |of: &Decimal<'_>| of.whole.len();
        match (self.is_negative, other.is_negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (is_negative, _) => {
                let order = size(self)
                    .cmp(&size(other))
                    .then_with(|| self.whole.cmp(other.whole))
                    .then_with(|| self.fraction.cmp(other.fraction));
                if is_negative { order.reverse() } else { order }
            }
        }
    }
}
