//! What is wrong with an expression that can be read: names, functions and types.
//!
//! CEL has no types before it runs. So each part of an expression is run once, on a request made up for it: what can't
//! be compared or called says so there, also where a real request would rarely come.

use cel::ExecutionError;
use cel::common::ast::{CallExpr, Expr, IdedExpr, operators as op};
use cel::common::value::Val;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::facts::{DAYS, Facts, HIDDEN, Request, Said, Scope, Variable};
use super::language::{Fault, Meant, Pattern, each_part, evaluate, identifier, text};
use crate::protocol::Protocol;
use crate::protocol::envelope::Envelope;

/// What `endpoint` may be: the names in records, where rules are asked.
pub const ENDPOINTS: [&str; 16] = [
    "chat",
    "messages",
    "responses",
    "completions",
    "generate_content",
    "converse",
    "count_tokens",
    "embeddings",
    "rerank",
    "moderations",
    "images",
    "image_edits",
    "speech",
    "transcriptions",
    "translations",
    "raw",
];

/// The functions that expressions may call, beside operators.
const FUNCTIONS: [&str; 8] = [
    "size", "string", "int", "uint", "double", "bool", "dyn", "type",
];
/// The functions that expressions may call on a value.
const METHODS: [&str; 9] = [
    "size",
    "startsWith",
    "endsWith",
    "contains",
    "matches",
    "lowerAscii",
    "hasValue",
    "orValue",
    "value",
];
/// What CEL rewrites when it is called as it should be.
const MACROS: [&str; 6] = ["has", "all", "exists", "exists_one", "map", "filter"];
const OPERATORS: [&str; 19] = [
    op::CONDITIONAL,
    op::LOGICAL_AND,
    op::LOGICAL_OR,
    op::LOGICAL_NOT,
    op::SUBSTRACT,
    op::ADD,
    op::MULTIPLY,
    op::DIVIDE,
    op::MODULO,
    op::EQUALS,
    op::NOT_EQUALS,
    op::GREATER_EQUALS,
    op::LESS_EQUALS,
    op::GREATER,
    op::LESS,
    op::NEGATE,
    op::INDEX,
    op::OPT_INDEX,
    op::OPT_SELECT,
];

/// What an expression speaks of.
#[derive(Debug, Default)]
pub struct Found {
    pub uses: Vec<Variable>,
    pub keys: Vec<String>,
    /// Names of headers, as written.
    headers: Vec<HeaderName>,
}

/// Checks names: variables, functions, headers, and what only some words are compared with.
pub fn names(expr: &IdedExpr) -> Result<Found, Fault> {
    let mut walk = Walk::default();
    walk.part(expr)?;
    Ok(walk.found)
}

#[derive(Default)]
struct Walk<'e> {
    found: Found,
    /// Names that a loop around this part gives.
    bound: Vec<&'e str>,
    in_loop: bool,
}

impl<'e> Walk<'e> {
    fn part(&mut self, expr: &'e IdedExpr) -> Result<(), Fault> {
        match &expr.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => self.name(name)?,
            Expr::Call(call) => self.call(call)?,
            Expr::Select(select) => {
                if self.variable(&select.operand) == Some(Variable::Headers) {
                    self.header(&select.field)?;
                }
            }
            Expr::Struct(whole) => {
                let message = format!("there is no type `{}` to make a value of", whole.type_name);
                return Err(Fault::new(message));
            }
            Expr::Comprehension(whole) => {
                if self.in_loop {
                    let message =
                        "has a loop (all, exists, exists_one, map, filter) within another";
                    return Err(Fault::new(message));
                }
                self.part(&whole.iter_range)?;
                let names = [
                    Some(&whole.iter_var),
                    whole.iter_var2.as_ref(),
                    Some(&whole.accu_var),
                ];
                let before = self.bound.len();
                self.bound
                    .extend(names.into_iter().flatten().map(String::as_str));
                self.in_loop = true;
                for part in [
                    &whole.accu_init,
                    &whole.loop_cond,
                    &whole.loop_step,
                    &whole.result,
                ] {
                    self.part(part)?;
                }
                self.in_loop = false;
                self.bound.truncate(before);
                return Ok(());
            }
            Expr::List(_) | Expr::Map(_) => {}
        }
        let mut parts = Vec::new();
        each_part(expr, &mut |part| parts.push(part));
        parts.into_iter().try_for_each(|part| self.part(part))
    }

    fn variable(&self, expr: &IdedExpr) -> Option<Variable> {
        let name = identifier(expr)?;
        let is_free = !self.bound.contains(&name);
        Variable::of(name).filter(|_| is_free)
    }

    fn name(&mut self, name: &str) -> Result<(), Fault> {
        if self.bound.contains(&name) {
            return Ok(());
        }
        let Some(variable) = Variable::of(name) else {
            let known = Variable::ALL.map(|(known, _)| known);
            let message = format!(
                "there is no variable `{name}`: there are {}",
                known.join(", ")
            );
            let meant = Meant::Nearest {
                name: name.to_owned(),
                of: known.to_vec(),
                quoted: false,
            };
            return Err(Fault::meant(message, meant));
        };
        if !self.found.uses.contains(&variable) {
            self.found.uses.push(variable);
        }
        Ok(())
    }

    fn call(&mut self, call: &'e CallExpr) -> Result<(), Fault> {
        let name = call.func_name.as_str();
        match &call.target {
            Some(_) if METHODS.contains(&name) => {}
            None if FUNCTIONS.contains(&name) || OPERATORS.contains(&name) => {}
            None if name == op::IN || name == op::NOT_STRICTLY_FALSE => {}
            _ => return Err(unknown_function(call)),
        }
        if let [one, other] = &call.args[..]
            && call.target.is_none()
        {
            match name {
                op::INDEX | op::OPT_INDEX | op::OPT_SELECT => self.header_of(one, other)?,
                op::IN => {
                    self.header_of(other, one)?;
                    if let Expr::List(list) = &other.expr {
                        list.elements
                            .iter()
                            .try_for_each(|each| self.compared(one, each))?;
                    }
                }
                op::EQUALS | op::NOT_EQUALS => {
                    self.compared(one, other)?;
                    self.compared(other, one)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn header_of(&mut self, map: &IdedExpr, key: &IdedExpr) -> Result<(), Fault> {
        match text(key) {
            Some(name) if self.variable(map) == Some(Variable::Headers) => self.header(name),
            Some(_) | None => Ok(()),
        }
    }

    fn header(&mut self, name: &str) -> Result<(), Fault> {
        let lower = name.to_ascii_lowercase();
        if lower != name {
            let message = format!("headers have lower-case names here, unlike {name:?}");
            return Err(Fault::meant(message, Meant::This(format!("{lower:?}"))));
        }
        if HIDDEN.contains(&name) {
            let message = format!(
                "the header `{name}` holds credentials, which rules never see: ask for `key`"
            );
            return Err(Fault::new(message));
        }
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            return Err(Fault::new(format!("there can be no header {name:?}")));
        };
        self.found.headers.push(name);
        Ok(())
    }

    /// Checks a word that a variable of few words is compared with.
    fn compared(&mut self, variable: &IdedExpr, word: &IdedExpr) -> Result<(), Fault> {
        let (Some(variable), Some(word)) = (self.variable(variable), text(word)) else {
            return Ok(());
        };
        let known: &[&'static str] = match variable {
            Variable::Endpoint => &ENDPOINTS,
            Variable::Weekday => &DAYS,
            Variable::Key => {
                self.found.keys.push(word.to_owned());
                return Ok(());
            }
            Variable::Model
            | Variable::Stream
            | Variable::Headers
            | Variable::Metadata
            | Variable::Tags
            | Variable::User
            | Variable::Team
            | Variable::Session
            | Variable::Tokens
            | Variable::HasImages
            | Variable::HasTools
            | Variable::Hour
            | Variable::Region => return Ok(()),
        };
        if known.contains(&word) {
            return Ok(());
        }
        let full = |day: &&&str| word.to_ascii_lowercase().starts_with(**day);
        let (name, meant) = if variable == Variable::Weekday {
            let day = DAYS.iter().find(full);
            (
                "weekday",
                day.map_or(Meant::Unknown, |day| Meant::This(format!("{day:?}"))),
            )
        } else {
            // Whoever writes a path means the endpoint at its end.
            let meant = Meant::Nearest {
                name: word.rsplit('/').next().unwrap_or_default().to_owned(),
                of: known.to_vec(),
                quoted: true,
            };
            ("endpoint", meant)
        };
        let message = format!(
            "`{name}` is never {word:?}: it is one of {}",
            known.join(", ")
        );
        Err(Fault::meant(message, meant))
    }
}

fn unknown_function(call: &CallExpr) -> Fault {
    let name = call.func_name.as_str();
    if MACROS.contains(&name) {
        let how = match name {
            "has" => "has(headers.name)".to_owned(),
            name => format!("LIST.{name}(each, CONDITION)"),
        };
        return Fault::new(format!("`{name}` is written {how}"));
    }
    let (kind, known): (_, Vec<&'static str>) = match &call.target {
        Some(_) => (
            "a value",
            METHODS.iter().chain(&MACROS[1..]).copied().collect(),
        ),
        None => (
            "no value",
            FUNCTIONS.iter().chain(&MACROS[..1]).copied().collect(),
        ),
    };
    let elsewhere = match call.target {
        Some(_) => FUNCTIONS.contains(&name).then(|| format!("{name}(…)")),
        None => METHODS.contains(&name).then(|| format!("VALUE.{name}(…)")),
    };
    let message = format!(
        "there is no function `{name}` of {kind}: there are {}",
        known.join(", ")
    );
    let nearest = Meant::Nearest {
        name: name.to_owned(),
        of: known,
        quoted: false,
    };
    Fault::meant(message, elsewhere.map_or(nearest, Meant::This))
}

/// Runs each part of an expression on a request made up for it, and looks at what comes out.
pub fn types(expr: &IdedExpr, patterns: &[Pattern], found: &Found) -> Result<(), Fault> {
    with_sample(&found.headers, |facts| {
        let sample = Sample { facts, patterns };
        sample.part(expr)?;
        match sample.kind(expr) {
            Some(kind) if kind != "bool" => Err(Fault::new(format!(
                "must be true or false, but is {}",
                a(&kind)
            ))),
            Some(_) | None => Ok(()),
        }
    })
}

struct Sample<'s, 'r> {
    facts: &'s Facts<'r>,
    patterns: &'s [Pattern],
}

impl Sample<'_, '_> {
    fn run(&self, expr: &IdedExpr) -> Result<String, ExecutionError> {
        let zone = TimeZone::UTC;
        let scope = Scope::new(self.facts, &zone, self.patterns);
        evaluate(expr, &scope, |value: &dyn Val| {
            value.get_type().name().to_owned()
        })
    }

    /// Returns the type of a part; `None` where it depends on the request.
    fn kind(&self, expr: &IdedExpr) -> Option<String> {
        self.run(expr).ok()
    }

    fn part(&self, expr: &IdedExpr) -> Result<(), Fault> {
        if let Expr::Comprehension(whole) = &expr.expr {
            // What is inside has names that only the loop gives: it runs as a whole.
            self.part(&whole.iter_range)?;
        } else {
            let mut parts = Vec::new();
            each_part(expr, &mut |part| parts.push(part));
            parts.into_iter().try_for_each(|part| self.part(part))?;
        }
        if let Expr::Call(call) = &expr.expr {
            self.operands(call)?;
        }
        match self.run(expr) {
            Err(error) if is_of_types(&error) => Err(Fault::new(said(&error))),
            Err(_) | Ok(_) => Ok(()),
        }
    }

    /// Checks what CEL would not look at, or find unlike in silence.
    fn operands(&self, call: &CallExpr) -> Result<(), Fault> {
        let name = call.func_name.as_str();
        match (name, &call.args[..]) {
            (op::LOGICAL_AND | op::LOGICAL_OR | op::LOGICAL_NOT, args) => args
                .iter()
                .try_for_each(|arg| self.truth(arg, &spelt(name))),
            (op::CONDITIONAL, [condition, ..]) => self.truth(condition, "?"),
            (op::EQUALS | op::NOT_EQUALS, [one, other]) => self.alike(one, other),
            (op::IN, [one, all]) => {
                if let Expr::List(list) = &all.expr {
                    return list
                        .elements
                        .iter()
                        .try_for_each(|each| self.alike(one, each));
                }
                let kind = self.kind(one).filter(|kind| kind != "string");
                let is_of_strings =
                    matches!(identifier(all), Some("tags" | "headers" | "metadata"));
                match kind.filter(|_| is_of_strings) {
                    Some(kind) => Err(Fault::new(format!("looks for {} among strings", a(&kind)))),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn truth(&self, operand: &IdedExpr, operator: &str) -> Result<(), Fault> {
        match self.kind(operand) {
            Some(kind) if kind != "bool" => {
                let message = format!("`{operator}` takes true or false, not {}", a(&kind));
                Err(Fault::new(message))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn alike(&self, one: &IdedExpr, other: &IdedExpr) -> Result<(), Fault> {
        let is_number = |kind: &str| matches!(kind, "int" | "uint" | "double");
        let varies = |expr: &IdedExpr| matches!(&expr.expr, Expr::Call(call) if call.func_name == op::CONDITIONAL || call.func_name == "dyn");
        let (Some(one_kind), Some(kind)) = (self.kind(one), self.kind(other)) else {
            return Ok(());
        };
        let alike = one_kind == kind || (is_number(&one_kind) && is_number(&kind));
        if alike || varies(one) || varies(other) {
            return Ok(());
        }
        let (one, other) = (a(&one_kind), a(&kind));
        Err(Fault::new(format!(
            "compares {one} with {other}, which are never equal"
        )))
    }
}

fn a(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'e', 'i', 'o']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {kind}")
}

/// Returns an operator as it is written.
fn spelt(operator: &str) -> String {
    operator.trim_matches(['_', '@']).replace("[_]", "[…]")
}

/// Returns whether it would fail so for whatever request.
fn is_of_types(error: &ExecutionError) -> bool {
    matches!(
        error,
        ExecutionError::InvalidArgumentCount { .. }
            | ExecutionError::UnsupportedTargetType { .. }
            | ExecutionError::NotSupportedAsMethod { .. }
            | ExecutionError::UnsupportedKeyType(_)
            | ExecutionError::UnexpectedType { .. }
            | ExecutionError::NoSuchOverload(_)
            | ExecutionError::UndeclaredReference(_)
            | ExecutionError::MissingArgumentOrTarget
            | ExecutionError::ValuesNotComparable(..)
            | ExecutionError::UnsupportedBinaryOperator(..)
            | ExecutionError::UnsupportedIndex(..)
    )
}

fn said(error: &ExecutionError) -> String {
    if let ExecutionError::NoSuchOverload(overload) = error {
        let types: Vec<String> = overload
            .argument_types()
            .iter()
            .map(|kind| a(kind))
            .collect();
        return format!(
            "`{}` can't be used of {}",
            spelt(overload.function()),
            types.join(" and ")
        );
    }
    let text: String = error.to_string().chars().take(200).collect();
    format!("can't be: {text}")
}

/// Makes up a request: of every header named, of one tag, without metadata.
pub fn with_sample<T>(headers: &[HeaderName], run: impl FnOnce(&Facts<'_>) -> T) -> T {
    let body = br#"{"model":"sample","messages":[{"role":"user","content":"sample"}]}"#;
    let envelope = Envelope::read(body, Protocol::OpenaiChat, 8).ok();
    let sent = headers
        .iter()
        .map(|name| (name.clone(), HeaderValue::from_static("sample")));
    let sent: HeaderMap = sent.collect();
    let tags = ["sample".to_owned()];
    let request = Request {
        endpoint: "chat",
        headers: &sent,
        tags: &tags,
        key: "sample",
        team: "",
        session: "",
        region: "",
        at: Timestamp::UNIX_EPOCH,
        said: envelope.as_ref().map(|envelope| Said {
            protocol: Protocol::OpenaiChat,
            body,
            envelope,
            user: "",
        }),
    };
    run(&Facts::new(&request))
}
