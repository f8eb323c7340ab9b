//! Calls of an answer in the making.

use super::{Open, Output};
use crate::protocol::openai_responses::item::{self, Call};
use crate::protocol::openai_responses::names::{self, Own};
use crate::protocol::text::Object;

/// A call that is open.
#[derive(Debug)]
pub(super) struct Calling {
    id: String,
    call_id: String,
    own: Own,
    arguments: String,
}

impl Calling {
    fn write(&self, said: &str, status: &str) -> Vec<u8> {
        let call = Call {
            id: &self.id,
            call_id: &self.call_id,
            name: &self.own.name,
            namespace: self.own.namespace.as_deref(),
            said,
            custom: self.own.custom,
            status,
        };
        let mut object = Vec::new();
        call.write(&mut object);
        object
    }
}

impl Output {
    pub(super) fn call(&mut self, call_id: &str, name: &str, out: &mut Vec<u8>) {
        let own = self.names.own(name).cloned().unwrap_or_else(|| Own {
            namespace: None,
            name: name.to_owned(),
            custom: false,
        });
        let call = Calling {
            id: self.item_id(if own.custom { "ctc" } else { "fc" }),
            call_id: call_id.to_owned(),
            own,
            arguments: String::new(),
        };
        let object = call.write("", item::IN_PROGRESS);
        self.added(&object, out);
        self.open = Some(Open::Call(call));
    }

    /// Adds a piece of a call's arguments.
    pub(super) fn argue(&mut self, piece: &str, out: &mut Vec<u8>) {
        let Some(Open::Call(call)) = &mut self.open else {
            return;
        };
        if piece.is_empty() {
            return;
        }
        call.arguments.push_str(piece);
        self.held += piece.len();
        // Plain text is known when the argument that it stands in is whole.
        if call.own.custom || self.quiet {
            return;
        }
        let id = call.id.clone();
        let kind = "response.function_call_arguments.delta";
        self.call_event(kind, &id, out, |event| event.string("delta", piece));
    }

    pub(super) fn close_call(&mut self, call: Calling, status: &str, out: &mut Vec<u8>) {
        let id = &*call.id;
        if call.own.custom {
            let input = names::unwrap(&call.arguments);
            let kind = "response.custom_tool_call_input.delta";
            self.call_event(kind, id, out, |event| event.string("delta", &input));
            let kind = "response.custom_tool_call_input.done";
            self.call_event(kind, id, out, |event| event.string("input", &input));
            let object = call.write(&input, status);
            self.done(&object, out);
            return;
        }
        if call.arguments.is_empty() {
            let kind = "response.function_call_arguments.delta";
            self.call_event(kind, id, out, |event| event.string("delta", "{}"));
        }
        let arguments = item::or_empty(&call.arguments);
        let kind = "response.function_call_arguments.done";
        self.call_event(kind, id, out, |event| {
            event.string("name", &call.own.name);
            event.string("arguments", arguments);
        });
        let object = call.write(arguments, status);
        self.done(&object, out);
    }

    fn call_event(
        &mut self,
        kind: &str,
        id: &str,
        out: &mut Vec<u8>,
        fill: impl FnOnce(&mut Object<'_>),
    ) {
        let index = self.count;
        self.event(kind, out, |event| {
            event.string("item_id", id);
            event.integer("output_index", index);
            fill(event);
        });
    }
}
