//! Reading TOML so that every mistake is found in one go, and laying one table over another.

use std::fmt;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// One thing that is wrong or worth knowing, and the key it was said under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, such as `stop[0].wait`. Empty where the whole is meant.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Problem {
    /// A problem with a key.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem { key: key.into(), message: message.into() }
    }

    /// The same one step further out: `wait` becomes `stop[0].wait`.
    #[must_use]
    pub fn below(self, outer: &str) -> Problem {
        let key = match (outer, self.key.as_str()) {
            ("", _) => self.key,
            (_, "") => outer.to_owned(),
            (_, inner) => format!("{outer}.{inner}"),
        };
        Problem { key, ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => f.write_str(&self.message),
            key => write!(f, "{key}: {}", self.message),
        }
    }
}

/// Mistakes that are reported at most: whoever has more wrote another format.
const PROBLEMS_MAX: usize = 100;

/// Reads a table. A wrong value is noted and taken out, and reading starts again, so that all mistakes are found;
/// unknown keys are mistakes where the type denies them.
pub fn read<T: DeserializeOwned>(table: &Table) -> Result<T, Vec<Problem>> {
    let mut table = table.clone();
    let mut problems = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize::<_, T>(Value::Table(table.clone())) {
            Ok(read) if problems.is_empty() => return Ok(read),
            Ok(_) => return Err(problems),
            Err(error) => error,
        };
        let key = error.path().to_string();
        let message = error.inner().message().to_owned();
        let is_gone = remove(&mut table, &key);
        problems.push(Problem { key: if key == "." { String::new() } else { key }, message });
        if !is_gone || problems.len() >= PROBLEMS_MAX {
            return Err(problems);
        }
    }
}

/// Reads text as a table; the error has the line in it.
pub fn parse(text: &str) -> Result<Table, Problem> {
    text.parse::<Table>().map_err(|error| Problem::new("", error.to_string()))
}

/// Lays `upper` over `lower`: tables are merged, everything else is replaced, lists as a whole.
pub fn lay_over(lower: &mut Table, upper: &Table) {
    for (key, value) in upper {
        match (lower.get_mut(key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            _ => {
                lower.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Whether something stands at a key such as `stop[0].wait`, or at the part of it that is a table.
#[must_use]
pub fn stands(table: &Table, key: &str) -> bool {
    let (head, rest) = split(key);
    let (name, index) = indexed(head);
    match (table.get(name), rest) {
        (Some(Value::Table(inner)), Some(rest)) if index.is_none() => stands(inner, rest),
        (found, _) => found.is_some(),
    }
}

/// What stands at a key such as `stop[0].wait`.
#[must_use]
pub fn get<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let (head, rest) = split(key);
    let (name, index) = indexed(head);
    let value = match index {
        Some(index) => table.get(name)?.as_array()?.get(index)?,
        None => table.get(name)?,
    };
    match rest {
        Some(rest) => get(value.as_table()?, rest),
        None => Some(value),
    }
}

/// Takes out what stands at the key. A list keeps its length, so that the numbers of later mistakes are right:
/// an item that is wrong as a whole takes the list with it.
pub fn remove(table: &mut Table, key: &str) -> bool {
    let (head, rest) = split(key);
    let (name, index) = indexed(head);
    let inner = match (table.get_mut(name), index) {
        (Some(Value::Table(inner)), None) => Some(inner),
        (Some(Value::Array(items)), Some(index)) => {
            items.get_mut(index).and_then(Value::as_table_mut)
        }
        _ => None,
    };
    if let (Some(inner), Some(rest)) = (inner, rest)
        && remove(inner, rest)
    {
        return true;
    }
    table.remove(name).is_some()
}

fn split(key: &str) -> (&str, Option<&str>) {
    key.split_once('.').map_or((key, None), |(head, rest)| (head, Some(rest)))
}

/// `stop[0]` is `stop` and 0.
fn indexed(head: &str) -> (&str, Option<usize>) {
    match head.split_once('[') {
        Some((name, index)) => (name, index.trim_end_matches(']').parse().ok()),
        None => (head, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Outer {
        count: u8,
        names: Vec<String>,
        inner: Vec<Inner>,
    }

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        depth: u8,
    }

    fn problems(text: &str) -> Vec<String> {
        let found = read::<Outer>(&parse(text).unwrap()).unwrap_err();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_mistakes_are_found_with_their_keys() {
        let found = problems(
            "count = 300\nwhat = 1\nnames = [1]\n[[inner]]\ndepth = 1\n[[inner]]\ndepht = 1\ndepth = \"x\"",
        );
        for start in [
            "count: ",
            "what: unknown field",
            "names[0]: ",
            "inner[1].depht: unknown",
            "inner[1].depth: ",
        ] {
            assert!(found.iter().any(|line| line.starts_with(start)), "{start} in {found:?}");
        }
        assert_eq!(found.len(), 5, "{found:?}");
    }

    #[test]
    fn a_table_is_laid_over_another_key_by_key() {
        let mut lower = parse("a = 1\nlist = [1, 2]\n[t]\nx = 1\ny = 2").unwrap();
        lay_over(&mut lower, &parse("list = [3]\n[t]\ny = 5\n[u]\nz = 1").unwrap());
        assert_eq!(lower, parse("a = 1\nlist = [3]\n[t]\nx = 1\ny = 5\n[u]\nz = 1").unwrap());
        assert!(stands(&lower, "t.y") && stands(&lower, "list[0]") && !stands(&lower, "t.q"));
    }
}
