//! Outcomes to learn from and to measure by: JSON lines of any of three forms, told apart by their fields.
//!
//! - a pair: `{"prompt", "weak", "strong"}`, the quality of both tiers' answers (true and false are 1 and 0),
//!   with `weak_cost` and `strong_cost` where known;
//! - one answer: `{"prompt", "tier" or "model", "quality", "cost"}`, joined by prompt to the other tier's. `tier` is
//!   `weak` or `strong`; of models there must be two, and the cheaper is the weak one;
//! - a label: `{"prompt", "label"}`, `weak` or `strong` (or `simple` or `complex`): the tier that it takes.
//!
//! `prompt` is text; `messages`, as OpenAI writes them, may stand in its place. `set` names the set of a row:
//! what stands before its `/` is measured apart.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::prompt::Prompt;
use crate::error::{Error, Kind, Result};
use crate::protocol::{self, Protocol};

/// One prompt, and how well each tier answers it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub set: String,
    pub prompt: Prompt<'static>,
    /// From 0 to 1.
    pub weak: f32,
    pub strong: f32,
    /// In any unit, where they are told.
    pub costs: Option<Costs>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    pub weak: f64,
    pub strong: f64,
}

impl Row {
    /// What the strong tier adds.
    pub fn gain(&self) -> f32 {
        self.strong - self.weak
    }
}

/// More lines than that are not read.
const MOST_ROWS: usize = 2_000_000;

/// Reads JSON lines. Errors name the line.
pub fn read(text: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut answers = Answers::default();
    for (index, line) in text.lines().enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let at =
            |what: String| Error::new(Kind::InvalidRequest, format!("line {}: {what}", index + 1));
        if index >= MOST_ROWS {
            return Err(at(format!("more than {MOST_ROWS} lines")));
        }
        let line: Line<'_> = serde_json::from_str(line).map_err(|error| at(error.to_string()))?;
        let prompt = prompt(&line).map_err(|error| at(error.message.into_owned()))?;
        let set = line.set.unwrap_or_default().into_owned();
        let (weak, strong) = (
            line.weak.map(Quality::value),
            line.strong.map(Quality::value),
        );
        match (weak, strong, line.label, line.quality) {
            (Some(weak), Some(strong), None, None) => rows.push(Row {
                set,
                prompt,
                weak: checked(weak).map_err(at)?,
                strong: checked(strong).map_err(at)?,
                costs: costs(line.weak_cost, line.strong_cost).map_err(at)?,
            }),
            (None, None, Some(label), None) => rows.push(Row {
                set,
                prompt,
                weak: label.weak(),
                strong: 1.0,
                costs: costs(line.weak_cost, line.strong_cost).map_err(at)?,
            }),
            (None, None, None, Some(quality)) => {
                let quality = checked(quality.value()).map_err(at)?;
                let cost = line.cost.map(cost).transpose().map_err(at)?;
                let by = line.tier.or(line.model);
                let by = by.ok_or_else(|| at("`quality` without `tier` or `model`".to_owned()))?;
                answers.add(set, prompt, &by, quality, cost);
            }
            _ => {
                return Err(at(
                    "either `weak` and `strong`, or `quality` with `tier` or `model`, or `label`"
                        .to_owned(),
                ));
            }
        }
    }
    rows.extend(answers.pairs()?);
    Ok(rows)
}

#[derive(Deserialize)]
struct Line<'l> {
    #[serde(borrow)]
    prompt: Option<Cow<'l, str>>,
    #[serde(borrow)]
    messages: Option<&'l RawValue>,
    set: Option<Cow<'l, str>>,
    weak: Option<Quality>,
    strong: Option<Quality>,
    weak_cost: Option<f64>,
    strong_cost: Option<f64>,
    label: Option<Label>,
    tier: Option<Cow<'l, str>>,
    model: Option<Cow<'l, str>>,
    quality: Option<Quality>,
    cost: Option<f64>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Quality {
    Right(bool),
    Grade(f32),
}

impl Quality {
    fn value(self) -> f32 {
        match self {
            Quality::Right(right) => f32::from(u8::from(right)),
            Quality::Grade(grade) => grade,
        }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Label {
    #[serde(alias = "simple", alias = "easy")]
    Weak,
    #[serde(alias = "complex", alias = "hard")]
    Strong,
}

impl Label {
    fn weak(self) -> f32 {
        match self {
            Label::Weak => 1.0,
            Label::Strong => 0.0,
        }
    }
}

fn prompt(line: &Line<'_>) -> Result<Prompt<'static>> {
    match (&line.prompt, line.messages) {
        (Some(text), None) => Ok(Prompt {
            text: Cow::Owned(text.clone().into_owned()),
            turns: 1,
            ..Prompt::default()
        }),
        (None, Some(messages)) => {
            let body = format!(r#"{{"model":"m","messages":{}}}"#, messages.get());
            let request = protocol::decode_request(Protocol::OpenaiChat, body.as_bytes())?;
            let prompt = Prompt::of(&request);
            let text = Cow::Owned(prompt.text.into_owned());
            Ok(Prompt { text, ..prompt })
        }
        (None, None) | (Some(_), Some(_)) => Err(Error::new(
            Kind::InvalidRequest,
            "either `prompt` or `messages`",
        )),
    }
}

fn checked(quality: f32) -> Result<f32, String> {
    if (0.0..=1.0).contains(&quality) {
        return Ok(quality);
    }
    Err(format!("a quality is from 0 to 1, not {quality}"))
}

fn cost(cost: f64) -> Result<f64, String> {
    if cost.is_finite() && cost >= 0.0 {
        return Ok(cost);
    }
    Err(format!("a cost is 0 or more, not {cost}"))
}

fn costs(weak: Option<f64>, strong: Option<f64>) -> Result<Option<Costs>, String> {
    match (weak, strong) {
        (Some(weak), Some(strong)) => Ok(Some(Costs {
            weak: cost(weak)?,
            strong: cost(strong)?,
        })),
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => Err("the cost of one tier alone".to_owned()),
    }
}

/// Answers of single tiers or models, by prompt in the order of the file.
#[derive(Default)]
struct Answers {
    prompts: Vec<(String, Prompt<'static>)>,
    /// From set and text to the index of the prompt.
    known: BTreeMap<(String, String), usize>,
    /// By tier or model: the answers by prompt.
    by: BTreeMap<String, ByPrompt>,
}

type ByPrompt = BTreeMap<usize, Mean>;

/// Several answers of one model to one prompt.
#[derive(Default)]
struct Mean {
    count: f64,
    quality: f64,
    cost: f64,
    priced: bool,
}

impl Answers {
    fn add(
        &mut self,
        set: String,
        prompt: Prompt<'static>,
        by: &str,
        quality: f32,
        cost: Option<f64>,
    ) {
        let key = (set, prompt.text.clone().into_owned());
        let next = self.prompts.len();
        let index = *self.known.entry(key.clone()).or_insert(next);
        if index == next {
            self.prompts.push((key.0, prompt));
        }
        let mean = self
            .by
            .entry(by.to_owned())
            .or_default()
            .entry(index)
            .or_default();
        mean.priced = cost.is_some() && (mean.priced || mean.count == 0.0);
        mean.count += 1.0;
        mean.quality += f64::from(quality);
        mean.cost += cost.unwrap_or(0.0);
    }

    fn pairs(self) -> Result<Vec<Row>> {
        if self.prompts.is_empty() {
            return Ok(Vec::new());
        }
        let (weak, strong) = self.tiers()?;
        let prompts = self.prompts.iter().enumerate();
        let pairs = prompts.filter_map(|(index, (set, prompt))| {
            let (weak, strong) = (weak.get(&index)?, strong.get(&index)?);
            Some(Row {
                set: set.clone(),
                prompt: prompt.clone(),
                weak: (weak.quality / weak.count) as f32,
                strong: (strong.quality / strong.count) as f32,
                costs: (weak.priced && strong.priced).then(|| Costs {
                    weak: weak.cost / weak.count,
                    strong: strong.cost / strong.count,
                }),
            })
        });
        Ok(pairs.collect())
    }

    fn tiers(&self) -> Result<(&ByPrompt, &ByPrompt)> {
        if let (Some(weak), Some(strong)) = (self.by.get("weak"), self.by.get("strong")) {
            return Ok((weak, strong));
        }
        let names: Vec<&String> = self.by.keys().collect();
        let [first, second] = names[..] else {
            return Err(Error::new(
                Kind::InvalidRequest,
                format!(
                    "answers of two models are needed, one weak and one strong; there are {names:?}"
                ),
            ));
        };
        let price = |name: &String| {
            let answers = self.by[name].values();
            let (cost, count) = answers.fold((0.0, 0.0), |sum, mean| {
                (sum.0 + mean.cost, sum.1 + mean.count)
            });
            cost / count
        };
        let (one, two) = (price(first), price(second));
        if one == two {
            return Err(Error::new(
                Kind::InvalidRequest,
                format!(
                    "which of {first} and {second} is the weak one? `cost` must tell, or `tier`"
                ),
            ));
        }
        let (weak, strong) = if one < two {
            (first, second)
        } else {
            (second, first)
        };
        Ok((&self.by[weak], &self.by[strong]))
    }
}
