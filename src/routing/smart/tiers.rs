//! The tiers of a `smart` model, from the cheapest to the most capable, and how a request finds its own.
//!
//! A request is asked of the tier that its difficulty falls into, then of the stronger ones, then of the weaker ones.
//! One whose text can't be read takes the strongest. A conversation stays with who answered it before, unless its new
//! turn is harder than that tier is for: it goes up, never down.

use std::sync::{Arc, LazyLock};

use super::model::{Classifier, tier};
use super::prompt::Prompt;
use crate::protocol::{self, Protocol};
use crate::routing::affinity::Pin;
use crate::routing::{Branch, Node, Route};

/// Fewer are no choice, and more are told apart by nothing.
pub const COUNT: std::ops::RangeInclusive<usize> = 2..=8;

/// What a `smart` model judges by.
#[derive(Debug, Clone, PartialEq)]
pub struct Tiers {
    /// From each of these scores on, the next tier is asked: they rise, and are one fewer than the tiers.
    pub thresholds: Vec<f32>,
    pub classifier: Arc<Classifier>,
}

impl Tiers {
    /// Returns thresholds that give each of `count` tiers the same share of the prompts: scores are shares.
    pub fn even(count: usize) -> Vec<f32> {
        (1..count)
            .map(|above| above as f32 / count as f32)
            .collect()
    }

    /// Returns the tier of a request among `count`, and its score where it has one.
    fn place(&self, difficulty: &Difficulty, count: usize) -> (usize, Option<f32>) {
        let score = difficulty.score(&self.classifier);
        let last = count.saturating_sub(1);
        let place = score.map_or(last, |score| tier(score, &self.thresholds).min(last));
        (place, score)
    }

    /// Returns the tiers in the order of asking, with the score of the request.
    pub fn order(&self, difficulty: &Difficulty, count: usize) -> Vec<(Option<f64>, usize)> {
        let (place, score) = self.place(difficulty, count);
        let order = (place..count).chain((0..place).rev());
        order.map(|index| (score.map(f64::from), index)).collect()
    }
}

/// The model that is built in.
pub fn built_in() -> Arc<Classifier> {
    static BUILT_IN: LazyLock<Arc<Classifier>> = LazyLock::new(|| {
        let classifier = Classifier::load(super::DEFAULT);
        Arc::new(classifier.expect("the built-in model is whole: a test reads it"))
    });
    BUILT_IN.clone()
}

/// How hard a request is, in the eyes of each classifier that its routes ask: once for each request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Difficulty(Vec<(Arc<Classifier>, f32)>);

impl Difficulty {
    /// Nothing was judged.
    pub const NONE: Self = Self(Vec::new());

    /// Judges a chat for `chain`. Nothing is known of one without text, or of a body that can't be read.
    ///
    /// The body is parsed only where a route of the chain has tiers.
    pub fn of(chain: &[Arc<Route>], protocol: Protocol, body: &[u8]) -> Self {
        if chain.iter().all(|route| route.tiers.is_empty()) {
            return Self::default();
        }
        let unfolded = match protocol {
            Protocol::Bedrock => protocol::bedrock::request::unfold(body),
            Protocol::OpenaiChat
            | Protocol::OpenaiResponses
            | Protocol::OpenaiCompletions
            | Protocol::Anthropic
            | Protocol::Gemini
            | Protocol::Cohere
            | Protocol::Ollama => None,
        };
        let Ok(request) = protocol::decode_request(protocol, unfolded.as_deref().unwrap_or(body))
        else {
            return Self::default();
        };
        let prompt = Prompt::of(&request);
        if prompt.text.is_empty() {
            return Self::default();
        }
        Self::judge(chain, &prompt)
    }

    /// Scores `prompt` by every classifier of the chain.
    pub fn judge(chain: &[Arc<Route>], prompt: &Prompt<'_>) -> Self {
        let mut known = Self::default();
        for tiers in chain.iter().flat_map(|route| &route.tiers) {
            if known.score(&tiers.classifier).is_none() {
                let score = tiers.classifier.score(prompt);
                known.0.push((tiers.classifier.clone(), score));
            }
        }
        known
    }

    /// Returns the score by a classifier, where there is one.
    pub fn score(&self, classifier: &Arc<Classifier>) -> Option<f32> {
        let known = |(one, _): &&(Arc<Classifier>, f32)| Arc::ptr_eq(one, classifier);
        self.0.iter().find(known).map(|(_, score)| *score)
    }

    /// Returns the first score: that of the outermost model.
    pub fn first(&self) -> Option<f32> {
        self.0.first().map(|(_, score)| *score)
    }
}

/// Returns whether the request is harder than the tier of `pin` is for.
pub fn outgrows(route: &Route, difficulty: &Difficulty, pin: &Pin) -> bool {
    !route.tiers.is_empty() && outgrown(route, &route.tree, difficulty, pin)
}

fn outgrown(route: &Route, tree: &Node, difficulty: &Difficulty, pin: &Pin) -> bool {
    let holds = |branch: &Branch| holds(route, branch, pin);
    let Some(place) = tree.children.iter().position(|child| holds(&child.branch)) else {
        return false;
    };
    if let Some(tiers) = &tree.smart
        && tiers.place(difficulty, tree.children.len()).0 > place
    {
        return true;
    }
    match &tree.children[place].branch {
        Branch::Target(_) => false,
        Branch::Model(tree) => outgrown(route, tree, difficulty, pin),
    }
}

fn holds(route: &Route, branch: &Branch, pin: &Pin) -> bool {
    match branch {
        Branch::Target(target) => pin.is_target(&route.targets[*target]),
        Branch::Model(tree) => tree
            .children
            .iter()
            .any(|child| holds(route, &child.branch, pin)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(score: f32) -> (Tiers, Difficulty) {
        let tiers = Tiers {
            thresholds: vec![0.35, 0.7],
            classifier: built_in(),
        };
        let known = Difficulty(vec![(tiers.classifier.clone(), score)]);
        (tiers, known)
    }

    #[test]
    fn the_own_tier_is_asked_first_then_stronger_ones_then_weaker_ones() {
        for (score, expected) in [
            (0.0, [0, 1, 2]),
            (0.34, [0, 1, 2]),
            (0.35, [1, 2, 0]),
            (0.69, [1, 2, 0]),
            (0.7, [2, 1, 0]),
            (1.0, [2, 1, 0]),
        ] {
            let (tiers, known) = scored(score);
            let order = tiers.order(&known, 3);
            let indexes: Vec<usize> = order.iter().map(|(_, index)| *index).collect();
            assert_eq!(indexes, expected, "of {score}");
            assert!(
                order
                    .iter()
                    .all(|(told, _)| *told == Some(f64::from(score))),
                "the score is told"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_takes_the_strongest_tier() {
        let (tiers, _) = scored(0.0);
        let order = tiers.order(&Difficulty::default(), 3);
        assert_eq!(order, [(None, 2), (None, 1), (None, 0)]);
    }

    #[test]
    fn even_thresholds_part_the_prompts_evenly() {
        assert_eq!(Tiers::even(2), [0.5]);
        assert_eq!(Tiers::even(4), [0.25, 0.5, 0.75]);
        assert_eq!(
            COUNT.map(|count| Tiers::even(count).len() + 1).max(),
            Some(8)
        );
    }
}
