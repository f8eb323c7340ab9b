//! The language of rules: CEL, read and checked when the configuration is.
//!
//! Everything about an expression is bounded before it is asked: its length, its brackets, its depth, its loops (none
//! within another), the functions that it may call. What one evaluation may look at is bounded too (see `facts`), so
//! that no request can make a rule cost more than some milliseconds, and none of ordinary length more than some
//! microseconds. Patterns are compiled here, once, and are linear in what they search.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue};
use cel::common::types::{self, CelBool, CelString, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{Context, Env, ExecutionError, Value};
use jiff::tz::TimeZone;
use regex::{Regex, RegexBuilder};

use super::Problem;
use super::check;
use super::facts::{Facts, Scope, Variable};
use super::plain::{self, Test};

/// The longest expression, in bytes.
pub const MOST_LENGTH: usize = 2000;
/// The most brackets that an expression may open.
const MOST_BRACKETS: usize = 128;
/// How deep the parser may go, and then how deep what it read may be.
const MOST_PARSED: u16 = 32;
const MOST_DEPTH: usize = 48;
/// What a compiled pattern may take, in bytes.
const MOST_PATTERN: usize = 1 << 20;
/// The parser goes as deep as brackets do, and deeper where it isn't optimised.
const STACK: usize = 64 << 20;

/// What is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub message: String,
    pub meant: Meant,
}

/// What was probably meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meant {
    Unknown,
    This(String),
    /// The nearest of some names, in quotes or without.
    Nearest {
        name: String,
        of: Vec<&'static str>,
        quoted: bool,
    },
}

impl Fault {
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            meant: Meant::Unknown,
        }
    }

    pub fn meant(message: impl Into<String>, meant: Meant) -> Self {
        Self {
            message: message.into(),
            meant,
        }
    }
}

/// A checked expression.
#[derive(Debug)]
pub struct Expression {
    code: Code,
    uses: Vec<Variable>,
    /// Names of keys that the caller's is compared with: the configuration knows which there are.
    pub keys: Vec<String>,
}

#[derive(Debug)]
enum Code {
    Plain(Test),
    Cel(Box<IdedExpr>, Vec<Pattern>),
}

/// A compiled pattern, as a value that `matches` takes.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// No expression can be written with a name like this.
    pub const PREFIX: &'static str = "@pattern";

    fn compile(pattern: &str) -> Result<Self, Fault> {
        let built = RegexBuilder::new(pattern).size_limit(MOST_PATTERN).build();
        built.map(Self).map_err(|error| {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            let why = last.strip_prefix("error: ").unwrap_or(last);
            Fault::new(format!("the pattern {pattern:?} can't be read: {why}"))
        })
    }

    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

const PATTERN_TYPE: Type = Type::new_unspecified_type("pattern");
static PATTERN: Type = PATTERN_TYPE;

impl Val for Pattern {
    fn get_type(&self) -> &Type {
        &PATTERN
    }

    fn cel_type() -> &'static Type {
        &PATTERN
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}

/// CEL's own functions, and ours.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    env.add_member_overload(
        "matches",
        "string_matches_pattern",
        types::STRING_TYPE,
        vec![PATTERN_TYPE],
        matches,
    )
    .expect("the crate is built without its own `matches`");
    env.add_member_overload(
        "lowerAscii",
        "string_lower_ascii",
        types::STRING_TYPE,
        Vec::new(),
        lower_ascii,
    )
    .expect("the standard library has none");
    Arc::new(env)
});

fn matches<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let found = match &args[..] {
        [text, pattern] => text
            .downcast_ref::<CelString>()
            .zip(pattern.downcast_ref::<Pattern>())
            .map(|(text, pattern)| pattern.is_match(text.inner())),
        _ => None,
    };
    let found = found.ok_or_else(ExecutionError::missing_argument_or_target)?;
    Ok(CowVal::owned(CelBool::from(found)))
}

fn lower_ascii<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let text = args
        .first()
        .and_then(|text| text.downcast_ref::<CelString>());
    let text = text.ok_or_else(ExecutionError::missing_argument_or_target)?;
    let lower = text.inner().to_ascii_lowercase();
    Ok(CowVal::owned(CelString::from(lower)))
}

/// Reads and checks an expression.
pub fn compile(source: &str) -> Result<Expression, Fault> {
    let (expr, patterns, found) = checked(source)?;
    let code = match plain::lower(&expr, &patterns) {
        Some(test) => Code::Plain(test),
        None => Code::Cel(Box::new(expr), patterns),
    };
    Ok(Expression {
        code,
        uses: found.uses,
        keys: found.keys,
    })
}

/// Like [`compile`], without the fast matcher: what that must agree with.
#[cfg(test)]
pub fn compile_whole(source: &str) -> Result<Expression, Fault> {
    let (expr, patterns, found) = checked(source)?;
    Ok(Expression {
        code: Code::Cel(Box::new(expr), patterns),
        uses: found.uses,
        keys: found.keys,
    })
}

fn checked(source: &str) -> Result<(IdedExpr, Vec<Pattern>, check::Found), Fault> {
    if source.trim().is_empty() {
        return Err(Fault::new("must hold an expression"));
    }
    if source.len() > MOST_LENGTH {
        let message = format!("must be at most {MOST_LENGTH} bytes long: make two rules of it");
        return Err(Fault::new(message));
    }
    let opened = source.bytes().filter(|byte| b"([{".contains(byte)).count();
    if opened > MOST_BRACKETS {
        let message = format!("opens more than {MOST_BRACKETS} brackets: make two rules of it");
        return Err(Fault::new(message));
    }
    // On a stack of its own, of which there is enough for whatever fits those bounds; what panics ends there.
    let reading = std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(STACK);
        let thread = builder.spawn_scoped(scope, || read(source));
        thread.map(std::thread::ScopedJoinHandle::join)
    });
    match reading {
        Ok(Ok(read)) => read,
        Ok(Err(_)) | Err(_) => Err(Fault::new("can't be read")),
    }
}

fn read(source: &str) -> Result<(IdedExpr, Vec<Pattern>, check::Found), Fault> {
    let mut expr = parse(source)?;
    if depth(&expr) > MOST_DEPTH {
        return Err(Fault::new("is nested too deeply: make two rules of it"));
    }
    let found = check::names(&expr)?;
    let mut patterns = Vec::new();
    compile_patterns(&mut expr, &mut patterns)?;
    check::types(&expr, &patterns, &found)?;
    Ok((expr, patterns, found))
}

fn parse(source: &str) -> Result<IdedExpr, Fault> {
    let parser = || ENV.parser().max_recursion_depth(MOST_PARSED);
    parser().parse(source).map_err(|errors| {
        let first = errors.errors.first();
        let message = first.map_or("", |error| error.msg.as_str());
        // What was expected is a list of everything that CEL knows.
        let message = message.split(", expecting").next().unwrap_or_default();
        let message = message.split(" expecting").next().unwrap_or_default();
        let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
        let message: String = message.chars().take(160).collect();
        let column = first.map_or(0, |error| error.pos.1);
        let meant = respelt(source).filter(|meant| parser().parse(meant).is_ok());
        Fault::meant(
            format!("is no expression: {message} (at its character {column})"),
            meant.map_or(Meant::Unknown, |meant| Meant::This(literal(&meant))),
        )
    })
}

/// Returns what those who know other languages probably meant.
fn respelt(source: &str) -> Option<String> {
    let words = [(" and ", " && "), (" or ", " || "), ("not ", "!")];
    let mut meant = source.to_owned();
    for (word, ours) in words {
        meant = meant.replace(word, ours);
    }
    let bytes = meant.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        out.push(*byte);
        let before = at.checked_sub(1).map(|at| bytes[at]).unwrap_or_default();
        let alone = !b"=!<>".contains(&before) && bytes.get(at + 1) != Some(&b'=');
        if *byte == b'=' && alone {
            out.push(b'=');
        }
    }
    let meant = String::from_utf8(out).ok()?;
    (meant != source).then_some(meant)
}

/// Returns an expression as TOML writes a string.
fn literal(text: &str) -> String {
    if text.contains(['\'', '\n']) {
        format!("{text:?}")
    } else {
        format!("'{text}'")
    }
}

fn depth(expr: &IdedExpr) -> usize {
    let mut deepest = 0;
    each_part(expr, &mut |part| deepest = deepest.max(depth(part)));
    deepest + 1
}

/// Calls `each` with what an expression is made of.
pub fn each_part<'e>(expr: &'e IdedExpr, each: &mut dyn FnMut(&'e IdedExpr)) {
    match &expr.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
        Expr::Call(call) => {
            call.target.iter().for_each(|target| each(target));
            call.args.iter().for_each(each);
        }
        Expr::Comprehension(whole) => {
            each(&whole.iter_range);
            each(&whole.accu_init);
            each(&whole.loop_cond);
            each(&whole.loop_step);
            each(&whole.result);
        }
        Expr::List(list) => list.elements.iter().for_each(each),
        Expr::Map(map) => map
            .entries
            .iter()
            .for_each(|entry| each_of(&entry.expr, each)),
        Expr::Select(select) => each(&select.operand),
        Expr::Struct(whole) => whole
            .entries
            .iter()
            .for_each(|entry| each_of(&entry.expr, each)),
    }
}

fn each_of<'e>(entry: &'e EntryExpr, each: &mut dyn FnMut(&'e IdedExpr)) {
    match entry {
        EntryExpr::StructField(field) => each(&field.value),
        EntryExpr::MapEntry(entry) => {
            each(&entry.key);
            each(&entry.value);
        }
    }
}

/// Returns the text of a literal.
pub fn text(expr: &IdedExpr) -> Option<&str> {
    if let Expr::Literal(LiteralValue::String(text)) = &expr.expr {
        Some(text.inner())
    } else {
        None
    }
}

/// Returns the name that an expression is.
pub fn identifier(expr: &IdedExpr) -> Option<&str> {
    if let Expr::Ident(name) = &expr.expr {
        Some(name)
    } else {
        None
    }
}

/// Puts a compiled pattern in the place of each text that `matches` is given.
fn compile_patterns(expr: &mut IdedExpr, patterns: &mut Vec<Pattern>) -> Result<(), Fault> {
    let each = |part: &mut IdedExpr, patterns: &mut Vec<Pattern>| compile_patterns(part, patterns);
    match &mut expr.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Ok(()),
        Expr::Call(call) => {
            if call.func_name == "matches" {
                let [pattern] = &mut call.args[..] else {
                    return Err(Fault::new("`matches` takes one pattern"));
                };
                let Expr::Literal(LiteralValue::String(text)) = &pattern.expr else {
                    return Err(Fault::new("`matches` takes its pattern in quotes"));
                };
                let compiled = Pattern::compile(text.inner())?;
                pattern.expr = Expr::Ident(format!("{}{}", Pattern::PREFIX, patterns.len()));
                patterns.push(compiled);
            }
            if let Some(target) = &mut call.target {
                each(target, patterns)?;
            }
            call.args.iter_mut().try_for_each(|arg| each(arg, patterns))
        }
        Expr::Comprehension(whole) => {
            each(&mut whole.iter_range, patterns)?;
            each(&mut whole.accu_init, patterns)?;
            each(&mut whole.loop_cond, patterns)?;
            each(&mut whole.loop_step, patterns)?;
            each(&mut whole.result, patterns)
        }
        Expr::List(list) => list
            .elements
            .iter_mut()
            .try_for_each(|part| each(part, patterns)),
        Expr::Map(map) => map
            .entries
            .iter_mut()
            .try_for_each(|entry| match &mut entry.expr {
                EntryExpr::StructField(field) => each(&mut field.value, patterns),
                EntryExpr::MapEntry(entry) => {
                    each(&mut entry.key, patterns)?;
                    each(&mut entry.value, patterns)
                }
            }),
        Expr::Select(select) => each(&mut select.operand, patterns),
        Expr::Struct(_) => Ok(()),
    }
}

impl Expression {
    #[cfg(test)]
    pub fn is_plain(&self) -> bool {
        matches!(self.code, Code::Plain(_))
    }

    /// Returns whether it asks for what only the body tells.
    pub fn is_of_body(&self) -> bool {
        self.uses.iter().any(|variable| variable.is_said())
    }

    /// Returns what it always is, if it asks nothing of the request.
    pub fn constant(&self) -> Option<bool> {
        if !self.uses.is_empty() {
            return None;
        }
        check::with_sample(&[], |facts| self.ask(facts, &TimeZone::UTC).ok())
    }

    /// Returns whether the request is one of those that it is about.
    pub fn ask(&self, facts: &Facts<'_>, zone: &TimeZone) -> Result<bool, Problem> {
        match &self.code {
            Code::Plain(test) => test.ask(facts, zone),
            Code::Cel(expr, patterns) => {
                let scope = Scope::new(facts, zone, patterns);
                let asked = catch_unwind(AssertUnwindSafe(|| evaluate(expr, &scope, truth)));
                match asked {
                    Err(_) => Err(Problem::Broken),
                    Ok(_) if scope.is_spent() => Err(Problem::TooMuch),
                    Ok(Ok(Some(truth))) => Ok(truth),
                    Ok(Ok(None)) => Err(Problem::NotTruth),
                    Ok(Err(error)) => Err(error.into()),
                }
            }
        }
    }
}

fn truth(value: &dyn Val) -> Option<bool> {
    value.downcast_ref::<CelBool>().map(|truth| *truth.inner())
}

/// Evaluates an expression, and reads what came out.
pub fn evaluate<T>(
    expr: &IdedExpr,
    scope: &Scope<'_, '_>,
    read: impl Fn(&dyn Val) -> T,
) -> Result<T, ExecutionError> {
    let mut context = Context::with_env(ENV.clone());
    context.set_variable_resolver(scope);
    let value = Value::resolve_val(expr, &context)?;
    Ok(read(value.as_ref()))
}
