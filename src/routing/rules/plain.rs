//! The usual forms of expressions, asked without CEL: no context, no allocation, some nanoseconds each.
//!
//! They mean what CEL means by them, to the letter; a test asks both. What fails in CEL (a header that isn't there)
//! fails here, and is overruled where CEL overrules it: `false && fails` is false, in either order.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators as op};
use cel::common::types::CelString;
use http::HeaderName;
use jiff::tz::TimeZone;

use super::Problem;
use super::facts::{Facts, header};
use super::language::{Pattern, identifier, text as literal};

/// A condition that needs no CEL.
#[derive(Debug)]
pub enum Test {
    Always(bool),
    Flag(Flag),
    Text(Text, Match),
    Number(Number, Compare, i64),
    /// `"x" in tags`
    Tagged(Box<str>),
    /// `"x" in headers`, `has(headers.x)`
    Sent(HeaderName),
    Not(Box<Test>),
    All(Vec<Test>),
    Any(Vec<Test>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    Stream,
    HasImages,
    HasTools,
}

#[derive(Debug)]
pub enum Text {
    Model,
    Endpoint,
    User,
    Key,
    Team,
    Session,
    Region,
    Weekday,
    Header(HeaderName),
}

#[derive(Debug)]
pub enum Match {
    Is(Box<str>),
    IsOneOf(Box<[Box<str>]>),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Contains(Box<str>),
    Matches(Pattern),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    Tokens,
    Hour,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    Is,
    Below,
    AtMost,
    Above,
    AtLeast,
}

impl Test {
    pub fn ask(&self, facts: &Facts<'_>, zone: &TimeZone) -> Result<bool, Problem> {
        match self {
            Test::Always(always) => Ok(*always),
            Test::Flag(flag) => Ok(match flag {
                Flag::Stream => facts
                    .request()
                    .said
                    .is_some_and(|said| said.envelope.stream),
                Flag::HasImages => facts.has_images(),
                Flag::HasTools => facts.has_tools(),
            }),
            Test::Text(text, how) => text.ask(how, facts, zone),
            Test::Number(number, compare, than) => {
                let number = match number {
                    Number::Tokens => facts.tokens(),
                    Number::Hour => facts.hour(zone),
                };
                Ok(match compare {
                    Compare::Is => number == *than,
                    Compare::Below => number < *than,
                    Compare::AtMost => number <= *than,
                    Compare::Above => number > *than,
                    Compare::AtLeast => number >= *than,
                })
            }
            Test::Tagged(tag) => Ok(facts.request().tags.iter().any(|each| **each == **tag)),
            Test::Sent(name) => Ok(header(facts.request().headers, name.as_str()).is_some()),
            Test::Not(test) => test.ask(facts, zone).map(|truth| !truth),
            Test::All(tests) => decided(tests, facts, zone, false),
            Test::Any(tests) => decided(tests, facts, zone, true),
        }
    }
}

/// Returns `by` when any of the tests is that, whatever fails beside it.
fn decided(tests: &[Test], facts: &Facts<'_>, zone: &TimeZone, by: bool) -> Result<bool, Problem> {
    let mut failed = None;
    for test in tests {
        match test.ask(facts, zone) {
            Ok(truth) if truth == by => return Ok(by),
            Ok(_) => {}
            Err(problem) => failed = failed.or(Some(problem)),
        }
    }
    failed.map_or(Ok(!by), Err)
}

impl Text {
    fn ask(&self, how: &Match, facts: &Facts<'_>, zone: &TimeZone) -> Result<bool, Problem> {
        let request = facts.request();
        let said = request.said.as_ref();
        let text = match self {
            Text::Model => said.map_or("", |said| &said.envelope.model),
            Text::User => said.map_or("", |said| said.user),
            Text::Endpoint => request.endpoint,
            Text::Key => request.key,
            Text::Team => request.team,
            Text::Session => request.session,
            Text::Region => request.region,
            Text::Weekday => facts.weekday(zone),
            Text::Header(name) => {
                let value: Option<CelString<'_>> = header(request.headers, name.as_str());
                let value = value.ok_or_else(|| Problem::no_key(name.as_str()))?;
                return Ok(how.fits(value.inner()));
            }
        };
        Ok(how.fits(text))
    }
}

impl Match {
    fn fits(&self, text: &str) -> bool {
        match self {
            Match::Is(other) => *text == **other,
            Match::IsOneOf(others) => others.iter().any(|other| *text == **other),
            Match::StartsWith(start) => text.starts_with(&**start),
            Match::EndsWith(end) => text.ends_with(&**end),
            Match::Contains(part) => text.contains(&**part),
            Match::Matches(pattern) => pattern.is_match(text),
        }
    }
}

/// Returns the test that means the same as an expression, if it has one of the usual forms.
pub fn lower(expr: &IdedExpr, patterns: &[Pattern]) -> Option<Test> {
    match &expr.expr {
        Expr::Literal(LiteralValue::Boolean(always)) => Some(Test::Always(*always.inner())),
        Expr::Ident(name) => flag(name).map(Test::Flag),
        Expr::Select(select) if select.test && is(&select.operand, "headers") => {
            Some(Test::Sent(header_name(&select.field)?))
        }
        Expr::Call(call) => match &call.target {
            Some(target) => method(call, target, patterns),
            None => operator(call, patterns),
        },
        Expr::Unspecified
        | Expr::Comprehension(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Select(_)
        | Expr::Struct(_) => None,
    }
}

fn operator(call: &CallExpr, patterns: &[Pattern]) -> Option<Test> {
    match (call.func_name.as_str(), &call.args[..]) {
        (op::LOGICAL_NOT, [of]) => Some(Test::Not(Box::new(lower(of, patterns)?))),
        (op::LOGICAL_AND, [one, other]) => {
            let mut tests = Vec::new();
            for test in [lower(one, patterns)?, lower(other, patterns)?] {
                if let Test::All(inner) = test {
                    tests.extend(inner);
                } else {
                    tests.push(test);
                }
            }
            Some(Test::All(tests))
        }
        (op::LOGICAL_OR, [one, other]) => {
            let mut tests = Vec::new();
            for test in [lower(one, patterns)?, lower(other, patterns)?] {
                if let Test::Any(inner) = test {
                    tests.extend(inner);
                } else {
                    tests.push(test);
                }
            }
            Some(Test::Any(tests))
        }
        (op::EQUALS, [one, other]) => same(one, other).or_else(|| same(other, one)),
        (op::NOT_EQUALS, [one, other]) => {
            let same = same(one, other).or_else(|| same(other, one))?;
            Some(Test::Not(Box::new(same)))
        }
        (op::IN, [one, all]) => contained(one, all),
        (name, [one, other]) => {
            let compare = compare(name)?;
            if let (Some(number), Some(than)) = (number(one), whole(other)) {
                return Some(Test::Number(number, compare, than));
            }
            let (than, number) = (whole(one)?, number(other)?);
            Some(Test::Number(number, turned(compare), than))
        }
        _ => None,
    }
}

fn same(variable: &IdedExpr, literal: &IdedExpr) -> Option<Test> {
    let Expr::Literal(literal) = &literal.expr else {
        return None;
    };
    match literal {
        LiteralValue::String(is) => Some(Test::Text(text(variable)?, Match::Is(is.inner().into()))),
        LiteralValue::Int(is) => Some(Test::Number(number(variable)?, Compare::Is, *is.inner())),
        LiteralValue::Boolean(is) => {
            let test = Test::Flag(flag(identifier(variable)?)?);
            Some(if *is.inner() {
                test
            } else {
                Test::Not(Box::new(test))
            })
        }
        LiteralValue::Bytes(_)
        | LiteralValue::Double(_)
        | LiteralValue::Null
        | LiteralValue::UInt(_) => None,
    }
}

fn contained(one: &IdedExpr, all: &IdedExpr) -> Option<Test> {
    if let Expr::List(list) = &all.expr {
        let elements = list
            .elements
            .iter()
            .filter(|_| list.optional_indices.is_empty());
        let words = elements.map(|word| literal(word).map(Into::into));
        let words: Vec<Box<str>> = words.collect::<Option<_>>()?;
        let is_whole = words.len() == list.elements.len();
        return Some(Test::Text(text(one)?, Match::IsOneOf(words.into()))).filter(|_| is_whole);
    }
    if is(all, "tags") {
        return Some(Test::Tagged(literal(one)?.into()));
    }
    if is(all, "headers") {
        return Some(Test::Sent(header_name(literal(one)?)?));
    }
    None
}

fn method(call: &CallExpr, target: &IdedExpr, patterns: &[Pattern]) -> Option<Test> {
    let [arg] = &call.args[..] else { return None };
    let how = match call.func_name.as_str() {
        "matches" => {
            let place = identifier(arg)?
                .strip_prefix(Pattern::PREFIX)?
                .parse::<usize>()
                .ok()?;
            Match::Matches(patterns.get(place)?.clone())
        }
        "startsWith" => Match::StartsWith(literal(arg)?.into()),
        "endsWith" => Match::EndsWith(literal(arg)?.into()),
        "contains" => Match::Contains(literal(arg)?.into()),
        _ => return None,
    };
    Some(Test::Text(text(target)?, how))
}

fn is(expr: &IdedExpr, variable: &str) -> bool {
    identifier(expr) == Some(variable)
}

fn whole(expr: &IdedExpr) -> Option<i64> {
    if let Expr::Literal(LiteralValue::Int(number)) = &expr.expr {
        Some(*number.inner())
    } else {
        None
    }
}

fn header_name(name: &str) -> Option<HeaderName> {
    // Others are told apart by case in CEL, and not by `HeaderName`.
    let lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
    HeaderName::from_bytes(name.as_bytes())
        .ok()
        .filter(|_| lower)
}

const FLAGS: [(&str, Flag); 3] = [
    ("stream", Flag::Stream),
    ("has_images", Flag::HasImages),
    ("has_tools", Flag::HasTools),
];

fn flag(name: &str) -> Option<Flag> {
    let found = FLAGS.into_iter().find(|(known, _)| *known == name);
    found.map(|(_, flag)| flag)
}

const NUMBERS: [(&str, Number); 2] = [("tokens", Number::Tokens), ("hour", Number::Hour)];

fn number(expr: &IdedExpr) -> Option<Number> {
    let name = identifier(expr)?;
    let found = NUMBERS.into_iter().find(|(known, _)| *known == name);
    found.map(|(_, number)| number)
}

const TEXTS: [(&str, Text); 8] = [
    ("model", Text::Model),
    ("endpoint", Text::Endpoint),
    ("user", Text::User),
    ("key", Text::Key),
    ("team", Text::Team),
    ("session", Text::Session),
    ("region", Text::Region),
    ("weekday", Text::Weekday),
];

fn text(expr: &IdedExpr) -> Option<Text> {
    if let Some(name) = identifier(expr) {
        let found = TEXTS.into_iter().find(|(known, _)| *known == name);
        return found.map(|(_, text)| text);
    }
    if let Expr::Select(select) = &expr.expr
        && !select.test
        && is(&select.operand, "headers")
    {
        return Some(Text::Header(header_name(&select.field)?));
    }
    if let Expr::Call(call) = &expr.expr
        && call.func_name == op::INDEX
        && let [map, key] = &call.args[..]
        && is(map, "headers")
    {
        return Some(Text::Header(header_name(literal(key)?)?));
    }
    None
}

fn compare(operator: &str) -> Option<Compare> {
    match operator {
        op::LESS => Some(Compare::Below),
        op::LESS_EQUALS => Some(Compare::AtMost),
        op::GREATER => Some(Compare::Above),
        op::GREATER_EQUALS => Some(Compare::AtLeast),
        _ => None,
    }
}

/// Returns the comparison with its sides exchanged.
fn turned(compare: Compare) -> Compare {
    match compare {
        Compare::Is => Compare::Is,
        Compare::Below => Compare::Above,
        Compare::AtMost => Compare::AtLeast,
        Compare::Above => Compare::Below,
        Compare::AtLeast => Compare::AtMost,
    }
}
