//! The client's request as the attempts need it: the original, from which each attempt is built anew.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::Core;
use super::continuation;
use super::endpoint::Coat;
use super::intake::Controls;
use crate::access::Key;
use crate::codec::json::{self, Member};
use crate::codec::splice::{Edits, Pieces};
use crate::error::{Error, Kind, Result};
use crate::limit::overload::Turn;
use crate::limit::{Amount, Limited};
use crate::protocol::api::{self, Api};
use crate::protocol::bedrock::invoke;
use crate::protocol::chat::Part;
use crate::protocol::continuation::{Prefill, Prefix};
use crate::protocol::envelope::Envelope;
use crate::protocol::{self, Protocol, Shape};
use crate::provider::{Platform, TimeoutOverrides, Timeouts, platform};
use crate::routing::affinity::Pin;
use crate::routing::choose::Asked;
use crate::routing::constraints::Demands;
use crate::routing::needs::{Bounds, Needs};
use crate::routing::screen::Screen;
use crate::routing::smart::Difficulty;
use crate::routing::{Candidate, Route};

#[derive(Clone)]
pub struct Ask<'a> {
    pub api: Api,
    pub protocol: Protocol,
    /// Of the body.
    pub content_type: HeaderValue,
    pub body: &'a Bytes,
    /// As the client sent it; `body` has the whole conversation where this goes on from a kept answer.
    pub sent: &'a Bytes,
    /// The kept answer whose conversation was put into `body`.
    pub previous: Option<&'a str>,
    pub envelope: &'a Envelope<'a>,
    pub controls: &'a Controls,
    /// The client's headers that may go to a provider of its own protocol.
    pub forwarded: &'a [(HeaderName, HeaderValue)],
    /// The client's query, for a provider of its own protocol.
    pub query: Option<&'a str>,
    pub coat: Coat,
    /// Mistral's own SDK asks.
    pub mistral: bool,
    pub request_id: &'a str,
    /// Seconds since 1970.
    pub created: u64,
    /// What names the conversation, where there is a choice of who answers it.
    pub conversation: Option<u64>,
    /// Who answered it before goes first.
    pub pinned: bool,
    /// The client said which session this is.
    pub in_session: bool,
    /// The answer is to be kept: translated streams carry the usage chunk until they reach the client.
    pub keep: bool,
    /// What a rule sets for this request.
    pub ruled: TimeoutOverrides,
    /// What breaks off is to be gone on with.
    pub watch: bool,
    /// What an answer that broke off had said: the rest is asked for.
    pub prefix: Option<Prefix<'a>>,
    /// In whose name it waits where too much is in flight.
    pub turn: Turn,
    /// What it is counted at until its usage is known.
    pub estimate: Amount,
    /// Limits for some models that do not hold for the one that it names, but may for who is asked.
    pub limited: Vec<&'a Limited>,
    /// A copy, whose answer nobody sees: it is asked once, and waits for nothing.
    pub shadow: bool,
}

/// A request body as one provider is to get it.
pub struct Outgoing {
    pub body: Pieces,
    /// What it takes in further requests, beside that one.
    pub further: Vec<Bytes>,
    pub dropped: Vec<String>,
    /// For translating the answer; `None` where it is passed on.
    pub shape: Option<Shape>,
    /// We asked for the usage chunk and the client did not.
    pub hide_usage: bool,
    /// How a prefix was said.
    pub prefill: Prefill,
}

impl Ask<'_> {
    /// Returns the timers for a target of this route: the request's over a rule's over the models' over the
    /// provider's. A request may have less time than a rule gives it, never more.
    pub fn timeouts_of(&self, route: &Route, target: Option<usize>) -> Timeouts {
        let base = target.map_or_else(Timeouts::default, |target| {
            route.targets[target].provider.timeouts
        });
        let within = target.map_or_else(TimeoutOverrides::default, |target| {
            route.leaves[target].timeouts
        });
        let own = TimeoutOverrides {
            total: match (self.controls.timeout, self.ruled.total) {
                (Some(own), Some(ruled)) => Some(own.min(ruled)),
                (own, _) => own,
            },
            ..TimeoutOverrides::default()
        };
        base.with(route.timeouts)
            .with(within)
            .with(self.ruled)
            .with(own)
    }

    /// Returns who answered this conversation before, where that matters.
    pub fn pin(&self, core: &Core) -> Option<Pin> {
        let conversation = self.conversation.filter(|_| self.pinned)?;
        core.routing.affinity.get(conversation)
    }

    /// Returns what choosing between the targets of `chain` needs to know.
    pub fn asked(&self, chain: &[Arc<Route>]) -> Asked {
        let difficulty = if self.api == Api::Chat {
            Difficulty::of(chain, self.protocol, self.body)
        } else {
            Difficulty::default()
        };
        Asked {
            stream: self.envelope.stream,
            input: self.envelope.estimate_input(),
            output: self.envelope.max_output,
            session: self.conversation.filter(|_| self.in_session),
            difficulty,
        }
    }

    /// Returns what is needed of whoever answers, and what the key and the request demand.
    pub fn screen<'s>(&'s self, chain: &[Arc<Route>], key: Option<&'s Key>) -> Screen<'s> {
        let mut screen = Screen {
            protocol: self.protocol,
            needs: Needs::default(),
            input: self.envelope.estimate_input(),
            // A copy goes where nobody asked for it to go.
            asked: if self.shadow {
                ""
            } else {
                &self.envelope.model
            },
            demands: self.demands(key),
            stream: self.envelope.stream,
        };
        if self.api == Api::Chat {
            let bounds = chain.iter().map(|route| route.bounds);
            let bounds = bounds.fold(Bounds::default(), Bounds::and);
            screen.needs = Needs::of(self.envelope, self.body, self.protocol, &bounds);
        }
        screen
    }

    /// Returns what is demanded beside what the models demand.
    pub fn demands<'s>(&'s self, key: Option<&'s Key>) -> Demands<'s> {
        Demands {
            key: key.map_or(&[], |key| &key.constraints),
            request: self.controls.constraints.as_ref(),
        }
    }

    /// Whether the client is to see the usage of a stream: it asked for it, or for its cost.
    pub fn wants_usage(&self) -> bool {
        // Mistral tells it without being asked.
        self.envelope.include_usage || self.envelope.include_cost || self.mistral
    }

    /// Whether a provider that is asked in `to` gets the client's own bytes, and the client its. What is to be gone on
    /// with is understood on the way, which a tap alone can do beside.
    fn passes(&self, to: Protocol) -> bool {
        to == self.protocol && self.prefix.is_none() && (to.is_tapped() || !self.watch)
    }

    /// Returns an estimate of the input, in tokens.
    pub fn input_estimate(&self) -> u64 {
        self.envelope.estimate_input()
    }

    /// Returns what an answer in the client's protocol must repeat of this request.
    pub fn shape(&self, include_usage: bool) -> Shape {
        let echo = if self.protocol == Protocol::OpenaiResponses {
            protocol::openai_responses::request::echo(self.sent)
        } else {
            String::new()
        };
        Shape {
            model: self.envelope.model.to_string(),
            created: self.created,
            include_usage,
            schema_tool: false,
            names_calls: self.mistral,
            id: self
                .request_id
                .strip_prefix("req_")
                .unwrap_or(self.request_id)
                .to_owned(),
            echo,
        }
    }

    /// Builds the body of a request that is no chat.
    pub fn build_task(&self, candidate: &Candidate, to: Protocol) -> Result<Outgoing> {
        let mut outgoing = Outgoing {
            body: self.body.clone().into(),
            further: Vec::new(),
            dropped: Vec::new(),
            shape: None,
            hide_usage: false,
            prefill: Prefill::Ask,
        };
        // Vertex AI has no other word for embeddings.
        let vertex = matches!(candidate.provider.platform, Platform::Vertex { .. });
        let predict = vertex && self.api == Api::Embeddings && to == Protocol::Gemini;
        let passes = api::passes(self.api, self.protocol, to, self.body, &candidate.model);
        if predict || !passes {
            let wants = api::Wants {
                model: &candidate.model,
                content_type: self.content_type.to_str().unwrap_or_default(),
                predict,
            };
            let built = api::build_all(self.api, self.protocol, to, self.body, wants)?;
            let mut bodies = built.bodies.into_iter().map(Bytes::from);
            outgoing.shape = Some(self.shape(false));
            outgoing.body = bodies.next().unwrap_or_default().into();
            outgoing.further = bodies.collect();
            outgoing.dropped = built.dropped;
        } else if self.api == Api::CountTokens && to == Protocol::Bedrock {
            // The path names the model, and nothing else may.
        } else {
            let kind = self.content_type.to_str().unwrap_or_default();
            let mut body = api::splice_model(self.api, kind, self.body, &candidate.model)?;
            if self.api == Api::CountTokens && self.protocol == Protocol::Anthropic {
                body = unplaced(body);
            }
            outgoing.body = body.into();
        }
        Ok(outgoing)
    }

    /// Builds the body for `candidate`, which is asked in `to`.
    ///
    /// With `strip` nothing goes along that a model thought in earlier turns.
    pub fn build(&self, candidate: &Candidate, to: Protocol, strip: bool) -> Result<Outgoing> {
        if self.passes(to) && !strip {
            let (body, hide_usage) = self.pass(candidate);
            return Ok(Outgoing {
                body,
                further: Vec::new(),
                dropped: Vec::new(),
                shape: None,
                hide_usage,
                prefill: Prefill::Ask,
            });
        }
        let unfolded;
        let mut body: &[u8] = self.body;
        if self.protocol == Protocol::Bedrock {
            unfolded = protocol::bedrock::request::unfold(body);
            body = unfolded.as_deref().unwrap_or(body);
        }
        let mut request = protocol::decode_request(self.protocol, body)?;
        // What the path says stands in no body.
        request.model = self.envelope.model.as_ref().into();
        request.stream = self.envelope.stream;
        if strip {
            for message in &mut request.messages {
                message.parts.retain(|part| {
                    !matches!(
                        part,
                        Part::Reasoning { .. } | Part::RedactedReasoning { .. }
                    )
                });
            }
            request.messages.retain(|message| !message.parts.is_empty());
        }
        let mut prefill = Prefill::Ask;
        if let Some(prefix) = self.prefix {
            prefill = prefix.way(&request, to, continuation::prefill(candidate, to));
            if !prefix.put(&mut request, prefill) {
                let message = "The provider of this model can't go on with structured output.";
                return Err(Error::new(Kind::Unsupported, message));
            }
        }
        let translated =
            protocol::encode_request(to, &request, &candidate.model, &candidate.facts)?;
        let passed = self.passes(to);
        let shape = (!passed).then(|| Shape {
            schema_tool: translated.schema_tool,
            ..self.shape(self.wants_usage() || self.keep)
        });
        let mut body = Bytes::from(translated.body);
        if self.prefix.is_some() {
            body = Prefix::mark(body, prefill);
        }
        let placed = is_placed(candidate, to);
        if placed || !candidate.provider.quirks.is_plain() {
            let mut members = Vec::new();
            // Our own encoder's output is JSON.
            if json::members(&body, usize::MAX, &mut members).is_ok() {
                let mut edits = Edits::new();
                if placed {
                    self.place(candidate, &body, &members, &mut edits);
                }
                candidate.provider.quirks.apply(&body, &members, &mut edits);
                body = edits.apply(&body);
            }
        }
        Ok(Outgoing {
            body: body.into(),
            further: Vec::new(),
            dropped: translated.dropped,
            shape,
            hide_usage: passed && !self.wants_usage(),
            prefill,
        })
    }

    /// The client's own bytes, with the model's name, quirks and what is ours spliced.
    fn pass(&self, candidate: &Candidate) -> (Pieces, bool) {
        let envelope = self.envelope;
        let mut edits = Edits::new();
        if is_placed(candidate, self.protocol) {
            self.place(candidate, self.body, &envelope.members, &mut edits);
        } else if envelope.model_value.is_none() || *envelope.model != *candidate.model {
            self.name(candidate, &mut edits);
        }
        for index in envelope.ours() {
            edits.remove_member(self.body, &envelope.members, index);
        }
        let quirks = &candidate.provider.quirks;
        if !quirks.is_plain() {
            quirks.apply(self.body, &envelope.members, &mut edits);
        }
        let mut hide_usage = false;
        let asks = self.protocol.asks_for_usage() && envelope.stream && quirks.stream_options;
        if asks && !envelope.include_usage {
            hide_usage = !self.wants_usage();
            match envelope.stream_options {
                Some(index) => {
                    let value = envelope.members[index].value.clone();
                    edits.replace(value, envelope.stream_options_with_usage(self.body));
                }
                None => {
                    edits.insert_member(self.body, "stream_options", br#"{"include_usage":true}"#)
                }
            }
        }
        (edits.apply_in_pieces(self.body), hide_usage)
    }

    /// Names the provider's model in a body of the client's own protocol.
    fn name(&self, candidate: &Candidate, edits: &mut Edits<'_>) {
        let envelope = self.envelope;
        let mut name = Vec::with_capacity(candidate.model.len() + 2);
        json::write_string(&candidate.model, &mut name);
        match (self.protocol, envelope.model_value.clone()) {
            (Protocol::Gemini, Some(place)) => {
                let resource = [b"\"models/", &name[1..]].concat();
                edits.replace(place, resource);
            }
            (_, Some(place)) => edits.replace(place, name),
            // Its paths name the model.
            (Protocol::Gemini | Protocol::Bedrock, None) => {}
            (_, None) => {
                edits.insert_member(self.body, "model", &name);
                self.unplace(edits);
            }
        }
    }

    /// Makes a body that came by another platform's path one of its protocol: what the path said is said in it, and
    /// what only the platform knows is left out.
    fn unplace(&self, edits: &mut Edits<'_>) {
        if self.protocol != Protocol::Anthropic {
            return;
        }
        let mut streams = false;
        for (index, member) in self.envelope.members.iter().enumerate() {
            match &*json::key(self.body, member) {
                "anthropic_version" | "anthropic_beta" => {
                    edits.remove_member(self.body, &self.envelope.members, index);
                }
                "stream" => streams = true,
                _ => {}
            }
        }
        if self.envelope.stream && !streams {
            edits.insert_member(self.body, "stream", b"true");
        }
    }

    /// Makes a body of Anthropic's one of the platform that serves the model.
    fn place(&self, candidate: &Candidate, body: &[u8], members: &[Member], edits: &mut Edits<'_>) {
        match &candidate.provider.platform {
            Platform::Vertex { .. } => platform::vertex_edit(body, members, edits),
            Platform::Bedrock { .. } => {
                let beta = self
                    .forwarded
                    .iter()
                    .find(|(name, _)| *name == "anthropic-beta");
                let beta = beta.and_then(|(_, value)| value.to_str().ok());
                invoke::edit(body, members, beta, edits);
            }
            Platform::Plain | Platform::Azure { .. } => {}
        }
    }
}

/// Makes a body to be counted, which came by another platform's path, one of Anthropic's own.
fn unplaced(body: Bytes) -> Bytes {
    let mut members = Vec::new();
    if json::members(&body, usize::MAX, &mut members).is_err() {
        return body;
    }
    let mut edits = Edits::new();
    for (index, member) in members.iter().enumerate() {
        if matches!(
            &*json::key(&body, member),
            "anthropic_version" | "anthropic_beta"
        ) {
            edits.remove_member(&body, &members, index);
        }
    }
    edits.apply(&body)
}

/// Returns whether the provider's platform wants bodies of `protocol` in a shape of its own.
pub fn is_placed(candidate: &Candidate, protocol: Protocol) -> bool {
    protocol == Protocol::Anthropic
        && matches!(
            candidate.provider.platform,
            Platform::Vertex { .. } | Platform::Bedrock { .. }
        )
}
