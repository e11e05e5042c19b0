//! Arguments that come in pieces, each with the path of the value it belongs to: `$.city`,
//! `$.legs[0].from`, `$['a key']`.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::wire::fields::fields;
use crate::wire::raw;
use crate::wire::stream::Problem;

/// Most steps of a path.
const DEPTH_LIMIT: usize = 64;

fields! {
    /// One piece. Strings are continued by the next piece with the same path.
    pub(super) struct Piece<'a> {
        path "jsonPath": Cow<'a, str>,
        string "stringValue": Cow<'a, str>,
        number "numberValue": &'a RawValue,
        boolean "boolValue": bool,
    }
}

/// The arguments so far: an object, unless a path says otherwise.
#[derive(Debug, Default)]
pub(super) struct Arguments(Node);

#[derive(Debug, Default)]
enum Node {
    #[default]
    Null,
    Boolean(bool),
    /// A number, or a value that came whole.
    Whole(Box<RawValue>),
    Text(String),
    Array(Vec<Node>),
    Object(Object),
}

/// Keys in the order they came.
#[derive(Debug, Default)]
struct Object {
    members: Vec<(String, Node)>,
    places: HashMap<String, usize>,
}

/// A step of a path.
enum Step<'a> {
    Key(Cow<'a, str>),
    Index(usize),
}

impl Arguments {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.0, Node::Null)
    }

    /// Takes arguments that came whole, if they are an object.
    pub(super) fn give(&mut self, args: &RawValue) -> Result<(), Problem> {
        for (key, value) in raw::members(args.get()) {
            let value = serde_json::from_str(value).map_err(Problem::unreadable)?;
            if let Some(node) = self.0.at(Step::Key(key)) {
                *node = Node::Whole(value);
            }
        }
        Ok(())
    }

    pub(super) fn add(&mut self, piece: Piece<'_>) -> Result<(), Problem> {
        let path = piece.path.unwrap_or_default();
        let wrong = || Problem::unreadable(format_args!("an argument has the path {path:?}"));
        let mut node = &mut self.0;
        let mut rest = path.strip_prefix('$').ok_or_else(wrong)?;
        let mut depth = 0;
        while !rest.is_empty() {
            let (step, after) = step(rest).ok_or_else(wrong)?;
            depth += 1;
            if depth > DEPTH_LIMIT {
                return Err(wrong());
            }
            node = node.at(step).ok_or_else(wrong)?;
            rest = after;
        }
        match (piece.string, piece.number, piece.boolean) {
            (Some(more), _, _) => match node {
                Node::Text(text) => text.push_str(&more),
                node => *node = Node::Text(more.into_owned()),
            },
            (_, Some(number), _) => *node = Node::Whole(number.to_owned()),
            (_, _, Some(boolean)) => *node = Node::Boolean(boolean),
            // `null`, or the end of what came already.
            _ => {}
        }
        Ok(())
    }
}

impl Node {
    /// The value within this one, made if it isn't there. Arrays grow by one at a time.
    fn at(&mut self, step: Step<'_>) -> Option<&mut Self> {
        match step {
            Step::Key(key) => {
                if !matches!(self, Self::Object(_)) {
                    *self = Self::Object(Object::default());
                }
                let Self::Object(object) = self else { return None };
                let at = match object.places.get(&*key) {
                    Some(at) => *at,
                    None => {
                        let at = object.members.len();
                        object.members.push((key.to_string(), Self::Null));
                        object.places.insert(key.into_owned(), at);
                        at
                    }
                };
                object.members.get_mut(at).map(|(_, node)| node)
            }
            Step::Index(index) => {
                if !matches!(self, Self::Array(_)) {
                    *self = Self::Array(Vec::new());
                }
                let Self::Array(nodes) = self else { return None };
                if index == nodes.len() {
                    nodes.push(Self::Null);
                }
                nodes.get_mut(index)
            }
        }
    }
}

/// The first step of a path, and what is after it.
fn step(path: &str) -> Option<(Step<'_>, &str)> {
    if let Some(path) = path.strip_prefix('.') {
        let end = path.find(['.', '[']).unwrap_or(path.len());
        let (key, rest) = path.split_at(end);
        return (!key.is_empty()).then(|| (Step::Key(key.into()), rest));
    }
    let path = path.strip_prefix('[')?;
    let Some(quote @ ('\'' | '"')) = path.chars().next() else {
        let (index, rest) = path.split_once(']')?;
        return Some((Step::Index(index.parse().ok()?), rest));
    };
    let mut key = String::new();
    let mut chars = path.char_indices().skip(1);
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => key.push(chars.next()?.1),
            char if char == quote => {
                return Some((Step::Key(key.into()), path[at + 1..].strip_prefix(']')?));
            }
            char => key.push(char),
        }
    }
    None
}

impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Node::Null => Node::Object(Object::default()).serialize(serializer),
            node => node.serialize(serializer),
        }
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Boolean(boolean) => boolean.serialize(serializer),
            Self::Whole(value) => value.serialize(serializer),
            Self::Text(text) => text.serialize(serializer),
            Self::Array(nodes) => nodes.serialize(serializer),
            Self::Object(object) => {
                serializer.collect_map(object.members.iter().map(|(key, node)| (key, node)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fields;

    fn check(pieces: &[&str], expected: &str) {
        let mut arguments = Arguments::default();
        for piece in pieces {
            arguments.add(fields::parse(piece).unwrap().unwrap()).unwrap();
        }
        assert_eq!(serde_json::to_string(&arguments).unwrap(), expected);
    }

    #[test]
    fn pieces_find_their_places() {
        check(&[], "{}");
        check(
            &[
                r#"{"jsonPath":"$.b","stringValue":"a\n","willContinue":true}"#,
                r#"{"jsonPath":"$.b","stringValue":"é"}"#,
                r#"{"jsonPath":"$.b"}"#,
                r#"{"jsonPath":"$.a.x","numberValue":1.50}"#,
                r#"{"jsonPath":"$.a['k. \\'y']","boolValue":true}"#,
                r#"{"jsonPath":"$.l[0].z","nullValue":null}"#,
                r#"{"jsonPath":"$.l[1]","stringValue":""}"#,
            ],
            r#"{"b":"a\né","a":{"x":1.50,"k. 'y":true},"l":[{"z":null},""]}"#,
        );
    }

    #[test]
    fn paths_that_lead_nowhere_are_said_to() {
        let deep = format!("${}", ".a".repeat(65));
        for path in ["", "a", "$a", "$.", "$..a", "$[", "$[1]", "$[x]", "$['a'", "$[-1]", &deep] {
            let mut arguments = Arguments::default();
            let piece = Piece { path: Some(path.into()), ..Piece::default() };
            let problem = arguments.add(piece).unwrap_err();
            assert!(problem.text.contains("path"), "{path}");
        }
    }
}
