"""What every SDK must get from every provider: the same cases, said by each SDK in its own words.

A script makes a `Sdk` of its client and calls `cases` with it.
"""

import json
from dataclasses import dataclass, field

from lab import CALLS, EVERY, MANY_TONGUES, PNG, WEATHER, case, equal, holds, raises

TOOLS = [
    {"name": "weather", "description": "The weather.", "schema": WEATHER},
    {"name": "clock", "description": "The time.", "schema": {"type": "object", "properties": {}}},
]
PLACE = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "unit": {"type": "string", "enum": ["c", "f"]},
        "notes": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["city", "unit", "notes"],
    "additionalProperties": False,
}
# What the fake providers fill the schema with.
FILLED = {"city": "text", "unit": "c", "notes": ["text"]}
SIGNED = "c2lnbmVkIGJ5IHRoZSBtYWtlcg=="


@dataclass
class Said:
    """An answer. `turn` is what its SDK takes back as the assistant's turn."""

    text: str = ""
    # `(id, name, arguments)`
    calls: list = field(default_factory=list)
    # "end", "length" or "calls"
    stop: str = ""
    usage: tuple = (0, 0)
    thought: str = ""
    turn: object = None
    # How many pieces of text and of arguments a stream came in.
    pieces: int = 0


class Sdk:
    """One SDK. A turn is `("user", text)`, `("image", text, base64)`, `("assistant", text)`, `("said", Said)` or
    `("results", [(id, name, text)])`.
    """

    name = ""
    # Providers that speak its own protocol.
    own = ()

    # It takes calls from streams, and usage, as the gateway tells them.
    streams_calls = True
    streams_usage = True

    def ask(self, model, turns, system=None, tools=None, schema=None, stream=False, most=None, think=False):
        """Returns what is said."""
        raise NotImplementedError

    # The class of the error of each status, as a client sees it; several where one of them will do.
    errors = {}

    def status(self, error):
        raise NotImplementedError


SAY = [("user", "hello there, gateway")]


def cases(sdk, but=()):
    """Adds the cases for `sdk`, but for those whose names stand in `but`."""

    def add(calls=1, only=None):
        def keep(run):
            if run.__name__ not in but:
                run.__name__ = f"{sdk.name}: {run.__name__}"
                case(calls, only)(run)
            return run

        return keep

    @add(calls=2)
    def plain_and_streamed(to):
        said = sdk.ask(to.model, SAY)
        equal((said.text, said.calls, said.stop), ("hello there, gateway", [], "end"))
        equal(said.usage, (5, 5))
        to.mock.script({"chunks": 6, "chunk_gap": "0ms"})
        streamed = sdk.ask(to.model, SAY, stream=True)
        equal((streamed.text, streamed.calls, streamed.stop), ("hello there, gateway", [], "end"))
        if sdk.streams_usage:
            equal(streamed.usage, said.usage)
        holds(streamed.pieces >= 4, f"{streamed.pieces} pieces are few for 6 chunks")

    @add(calls=2)
    def system_and_multi_turn(to):
        turns = [("user", "One?"), ("assistant", "Two."), ("user", MANY_TONGUES)]
        for stream in (False, True):
            said = sdk.ask(to.model, turns, system="Be brief.", stream=stream)
            equal(said.text, MANY_TONGUES)
            sent = json.dumps(to.mock.sent())
            holds("Be brief." in sent and "Two." in sent, sent)

    forms = (False, True) if sdk.streams_calls else (False,)

    @add(calls=2 * len(forms))
    def parallel_calls_and_their_results(to):
        for stream in forms:
            to.mock.script({"tools": CALLS, "chunks": 7}, {"text": "Sunny."})
            said = sdk.ask(to.model, SAY, tools=TOOLS, stream=stream)
            equal([(name, arguments) for _, name, arguments in said.calls],
                  [(call["name"], call["arguments"]) for call in CALLS])
            equal(said.stop, "calls")
            holds(len({id for id, _, _ in said.calls}) == 2, f"ids: {said.calls}")
            turns = [*SAY, ("said", said),
                     ("results", [(id, name, f"{name} result") for id, name, _ in said.calls])]
            last = sdk.ask(to.model, turns, tools=TOOLS, stream=stream)
            equal((last.text, last.calls, last.stop), ("Sunny.", [], "end"))
            sent = json.dumps(to.mock.sent(), ensure_ascii=False)
            holds("weather result" in sent and "clock result" in sent and "Nord" in sent, sent)

    @add(calls=len(forms))
    def text_before_calls(to):
        to.mock.script({"text": "Let me look.", "tools": CALLS[:1]})
        for stream in forms:
            said = sdk.ask(to.model, SAY, tools=TOOLS, stream=stream)
            equal(([name for _, name, _ in said.calls], said.stop), (["weather"], "calls"))
            # Cohere's text before calls is its plan, which is reasoning elsewhere, and not every SDK shows that.
            if to.name != "co":
                equal(said.text, "Let me look.")

    @add(calls=2)
    def structured_output(to):
        for stream in (False, True):
            said = sdk.ask(to.model, SAY, schema=PLACE, stream=stream)
            equal((json.loads(said.text), said.calls, said.stop), (FILLED, [], "end"))

    @add(calls=1)
    def an_image(to):
        sdk.ask(to.model, [("image", "What is this?", PNG)])
        sent = json.dumps(to.mock.sent())
        # Google takes the alphabet for URLs too, in which its own client writes.
        holds(PNG in sent or (to.name == "ge" and PNG.replace("+", "-").replace("/", "_") in sent), sent)

    @add(calls=2)
    def an_answer_that_is_cut_short(to):
        to.mock.script({"text": "Once upon a", "finish": "length"})
        for stream in (False, True):
            said = sdk.ask(to.model, SAY, stream=stream, most=3)
            equal((said.text, said.stop), ("Once upon a", "length"))

    @add(calls=None)
    def errors_are_typed(to):
        for status, across in ((400, 400), (404, 404), (429, 429), (500, 502)):
            kind = sdk.errors[status]
            step = {"status": status}
            if status == 400:
                step["error"] = {"message": "The temperature is wrong."}
            to.mock.script(step)
            for stream in (False, True):
                model = to.failing(f"{status}-{sdk.name}-{'stream' if stream else 'whole'}")
                error = raises(kind, lambda: sdk.ask(model, SAY, stream=stream))
                wanted = (status, across) if to.name in sdk.own else (across,)
                holds(sdk.status(error) in wanted, f"{sdk.status(error)} for {status}: {error}")
                if status == 400:
                    holds("The temperature is wrong." in str(error), error)
        error = raises(sdk.errors[404], lambda: sdk.ask("nothing-of-the-kind", SAY))
        equal(sdk.status(error), 404)

    @add(calls=2)
    def a_stream_that_breaks_is_no_end(to):
        for step in ({"chunks": 6, "cut_after": 3}, {"chunks": 6, "error_event": {"at": 3, "message": "it broke"}}):
            to.mock.script(step)
            try:
                said = sdk.ask(to.model, SAY, stream=True)
            except Exception:
                continue
            raise AssertionError(f"no error but {said}")


__all__ = ["CALLS", "EVERY", "FILLED", "PLACE", "SAY", "SIGNED", "Said", "Sdk", "TOOLS", "cases"]
