"""The Anthropic SDK against the gateway: every case to a provider of its own protocol and to one of OpenAI's."""

import asyncio
import enum
import json
import time

import anthropic
from anthropic import Anthropic, AsyncAnthropic, beta_tool
from anthropic._constants import ANTHROPIC_API_VERSION
from pydantic import BaseModel

from lab import (
    CALLS, FRAMINGS, FRESH, GATEWAY, KEY, LIMITED_KEY, MANY_TONGUES, NARROW_KEY, PDF, PNG, SINGLE_KEY, WEATHER,
    case, equal, eventually, gone, holds, main, metric, named, raises,
)


def connect(key=KEY, **more):
    return Anthropic(base_url=GATEWAY, api_key=key, **{"max_retries": 0, "default_headers": FRESH, **more})


client = connect()
SAY = [{"role": "user", "content": "hello there, gateway"}]
TOOLS = [
    {"name": "weather", "description": "The weather.", "input_schema": WEATHER},
    {"name": "clock", "description": "The time.", "input_schema": {"type": "object", "properties": {}}},
]


class Unit(enum.Enum):
    C = "c"
    F = "f"


class Place(BaseModel):
    city: str
    unit: Unit


class Report(BaseModel):
    place: Place
    degrees: float
    notes: list[str]


def ask(to, messages=SAY, **more):
    return client.messages.create(**{"model": to.model, "messages": messages, "max_tokens": 100, **more})


def is_own(to):
    return to.name == "an"


def blocks(message):
    return [block.to_dict() for block in message.content]


@case()
def plain(to):
    message = ask(to)
    equal((message.type, message.role), ("message", "assistant"))
    holds(message.id and message.model in (to.model, "m"), message.model)
    equal(blocks(message), [{"type": "text", "text": "hello there, gateway"}])
    equal((message.stop_reason, message.stop_sequence), ("end_turn", None))
    equal((message.usage.input_tokens, message.usage.output_tokens), (5, 5))
    sent = to.mock.sent()
    equal((sent["model"], sent["max_tokens"]), ("m", 100))


@case()
def stream(to):
    to.mock.script({"chunks": 6, "chunk_gap": "0ms"})
    events = list(ask(to, stream=True))
    kinds = [event.type for event in events]
    equal((kinds[0], kinds[-3:]), ("message_start", ["content_block_stop", "message_delta", "message_stop"]))
    equal(kinds.count("content_block_start"), 1)
    holds(kinds.count("content_block_delta") >= 4, kinds)
    equal("".join(event.delta.text for event in events if event.type == "content_block_delta"), "hello there, gateway")
    equal(events[-2].delta.stop_reason, "end_turn")


@case(calls=2)
def a_stream_sums_up_to_the_whole_answer(to):
    step = {"text": "Let me look.", "tools": CALLS, "usage": {"prompt_tokens": 100, "completion_tokens": 20}}
    to.mock.script(step)
    with client.messages.stream(model=to.model, messages=SAY, max_tokens=100, tools=TOOLS) as events:
        text = "".join(events.text_stream)
        final = events.get_final_message()
    whole = ask(to, tools=TOOLS)
    equal(text, "Let me look.")
    equal(blocks(final), blocks(whole))
    equal(final.stop_reason, whole.stop_reason)
    for name in ("input_tokens", "output_tokens", "cache_read_input_tokens"):
        equal(getattr(final.usage, name), getattr(whole.usage, name), name)


@case()
def cached_tokens_are_told(to):
    to.mock.script({"usage": {"prompt_tokens": 100, "completion_tokens": 20, "cached_tokens": 60}})
    usage = ask(to).usage
    # OpenAI counts cached tokens among the others, Anthropic beside them.
    equal(usage.input_tokens, 100 if is_own(to) else 40)
    equal((usage.output_tokens, usage.cache_read_input_tokens), (20, 60))


@case()
def system_and_multi_turn(to):
    message = ask(to, [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": [{"type": "text", "text": "Three?"}, {"type": "text", "text": "Four?"}]},
    ], system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}])
    holds("Four?" in message.content[0].text, message.content)
    sent = to.mock.sent()
    if is_own(to):
        equal(sent["system"], [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}])
    else:
        equal([message["role"] for message in sent["messages"]], ["system", "user", "assistant", "user"])
        holds("Be brief." in json.dumps(sent["messages"][0]), sent["messages"][0])


@case(calls=2)
def tool_loop(to):
    to.mock.script({"tools": CALLS}, {"text": "Sunny."})
    message = ask(to, tools=TOOLS)
    equal(message.stop_reason, "tool_use")
    check_tool_use(message.content)
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    results = [
        {"type": "tool_result", "tool_use_id": message.content[0].id, "content": "sun"},
        {"type": "tool_result", "tool_use_id": message.content[1].id, "is_error": True,
         "content": [{"type": "text", "text": "stopped"}, image]},
    ]
    turns = [*SAY, {"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    message = ask(to, turns, tools=TOOLS)
    equal((message.content[0].text, message.stop_reason), ("Sunny.", "end_turn"))
    sent = to.mock.sent()["messages"]
    if is_own(to):
        equal(sent[2]["content"], results)
        return
    calls = sent[1]["tool_calls"]
    equal([json.loads(call["function"]["arguments"]) for call in calls], [call["arguments"] for call in CALLS])
    told = [message for message in sent if message["role"] == "tool"]
    equal([message["tool_call_id"] for message in told], [call["id"] for call in calls])
    holds("sun" in json.dumps(told[0]) and "stopped" in json.dumps(told[1]), told)
    holds(PNG in json.dumps(sent), "the image of a result arrives")


def check_tool_use(content):
    equal([(block.type, block.id, block.name, block.input) for block in content if block.type != "text"],
          [("tool_use", call["id"], call["name"], call["arguments"]) for call in CALLS])


@case(calls=2)
def parallel_tools_in_a_stream(to):
    to.mock.script({"text": "Let me look.", "tools": CALLS, "chunks": 7})
    partial = []
    with client.messages.stream(model=to.model, messages=SAY, max_tokens=100, tools=TOOLS) as events:
        for event in events:
            if event.type == "input_json":
                partial.append(event.partial_json)
        final = events.get_final_message()
    equal((final.stop_reason, final.content[0].text), ("tool_use", "Let me look."))
    check_tool_use(final.content)
    holds(sum(bool(piece) for piece in partial) >= 6, f"{partial}: the arguments were not streamed")
    # The same by hand, as agents do it: no block overlaps another.
    open_block, texts = None, {}
    for event in ask(to, tools=TOOLS, stream=True):
        if event.type == "content_block_start":
            equal(open_block, None, "a block opens while another is open")
            open_block = event.index
            texts[event.index] = ""
        elif event.type == "content_block_delta":
            equal(event.index, open_block)
            texts[event.index] += event.delta.partial_json if event.delta.type == "input_json_delta" else event.delta.text
        elif event.type == "content_block_stop":
            equal(event.index, open_block)
            open_block = None
    equal(texts[0], "Let me look.")
    equal([json.loads(texts[index] or "{}") for index in (1, 2)], [call["arguments"] for call in CALLS])


@case(calls=4)
def tool_choice(to):
    message = ask(to, tools=TOOLS, tool_choice={"type": "tool", "name": "weather"})
    equal((message.content[0].input, message.stop_reason), ({"city": "text", "unit": "c"}, "tool_use"))
    if not is_own(to):
        equal(to.mock.sent()["tool_choice"], {"type": "function", "function": {"name": "weather"}})
    ask(to, tools=TOOLS, tool_choice={"type": "any", "disable_parallel_tool_use": True})
    if not is_own(to):
        equal((to.mock.sent()["tool_choice"], to.mock.sent()["parallel_tool_calls"]), ("required", False))
    ask(to, tools=TOOLS, tool_choice={"type": "none"})
    ask(to, tools=TOOLS, tool_choice={"type": "auto"})


def structured(to, model):
    asked = {"model": model, "messages": SAY, "max_tokens": 200, "output_format": Report}
    wanted = Report(place=Place(city="text", unit=Unit.C), degrees=1, notes=["text"])
    message = client.messages.parse(**asked)
    equal(message.parsed_output, wanted)
    equal((message.stop_reason, [block.type for block in message.content]), ("end_turn", ["text"]))
    with client.messages.stream(**asked) as events:
        pieces = list(events.text_stream)
        final = events.get_final_message()
    equal(final.parsed_output, wanted)
    equal((final.stop_reason, [block.type for block in final.content]), ("end_turn", ["text"]))
    holds(len(pieces) > 1, "the document was not streamed")


@case(calls=2)
def structured_output(to):
    structured(to, to.model)
    sent = to.mock.sent()
    holds("tools" not in sent and ("response_format" in sent or is_own(to)), sent)


@case(calls=2, only="oa")
def structured_output_of_a_model_with_tools_alone(to):
    structured(to, "openai/gpt-4-turbo")
    holds("tools" in to.mock.sent(), "a tool stands in")


@case(calls=2)
def structured_output_where_it_is_native(to):
    structured(to, "anthropic/claude-sonnet-4-5" if is_own(to) else "openai/gpt-4o")
    sent = to.mock.sent()
    holds("output_config" in sent if is_own(to) else "response_format" in sent, sent)
    holds("tools" not in sent, "no tool stands in where the schema is native")


@case()
def images(to):
    sources = [
        {"type": "base64", "media_type": "image/png", "data": PNG},
        {"type": "url", "url": "https://example.com/cat.jpg"},
    ]
    ask(to, [{"role": "user", "content": [
        *({"type": "image", "source": source} for source in sources), {"type": "text", "text": "What is this?"},
    ]}])
    content = to.mock.sent()["messages"][0]["content"]
    if is_own(to):
        equal([block["source"] for block in content[:2]], sources)
    else:
        equal([part["image_url"]["url"] for part in content[:2]],
              [f"data:image/png;base64,{PNG}", "https://example.com/cat.jpg"])


@case()
def documents(to):
    pdf = {"type": "document", "title": "a.pdf", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}
    text = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Words of a document."}}
    ask(to, [{"role": "user", "content": [pdf, text, {"type": "text", "text": "Read them."}]}])
    content = to.mock.sent()["messages"][0]["content"]
    if is_own(to):
        equal(content[:2], [pdf, text])
    else:
        equal(content[0]["file"], {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"})
        holds("Words of a document." in json.dumps(content), content)


@case(calls=3)
def thinking(to):
    model = to.model if is_own(to) else "openai/gpt-5"
    step = {"thinking": "Let me think about it.", "signature": "c2lnbmVk", "text": "Yes.", "tools": CALLS[:1]}
    to.mock.script(step, step, {"text": "Sunny."}, allow=["reasoning_content"])
    asked = {"model": model, "max_tokens": 4000, "tools": TOOLS, "thinking": {"type": "enabled", "budget_tokens": 2000}}
    message = client.messages.create(messages=SAY, **asked)
    equal([block.type for block in message.content], ["thinking", "text", "tool_use"])
    thought = message.content[0]
    equal(thought.thinking, "Let me think about it.")
    equal(thought.signature, "c2lnbmVk" if is_own(to) else "")
    if not is_own(to):
        equal(to.mock.sent()["reasoning_effort"], "low")
    # Streamed, it is the same.
    with client.messages.stream(messages=SAY, **asked) as events:
        thoughts = "".join(event.thinking for event in events if event.type == "thinking")
        final = events.get_final_message()
    equal((thoughts, blocks(final)), ("Let me think about it.", blocks(message)))
    # The next turn brings it back to the provider that signed it.
    result = {"type": "tool_result", "tool_use_id": message.content[2].id, "content": "sun"}
    turns = [*SAY, {"role": "assistant", "content": final.content}, {"role": "user", "content": [result]}]
    client.messages.create(messages=turns, **asked)
    if is_own(to):
        block = to.mock.sent()["messages"][1]["content"][0]
        equal(block, {"type": "thinking", "thinking": "Let me think about it.", "signature": "c2lnbmVk"})


@case(calls=2, only="an")
def redacted_thinking(to):
    to.mock.script({"redacted_thinking": "c2VjcmV0", "text": "Yes."})
    asked = {"max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 2000}}
    with client.messages.stream(model=to.model, messages=SAY, **asked) as events:
        message = events.get_final_message()
    block = {"type": "redacted_thinking", "data": "c2VjcmV0"}
    equal(message.content[0].to_dict(), block)
    ask(to, [*SAY, {"role": "assistant", "content": message.content}, {"role": "user", "content": "And?"}], **asked)
    equal(to.mock.sent()["messages"][1]["content"][0], block)


@case(calls=2)
def adaptive_thinking(to):
    model = "anthropic/claude-sonnet-4-6" if is_own(to) else "openai/gpt-5"
    asked = {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}
    ask(to, model=model, **asked)
    sent = to.mock.sent()
    if is_own(to):
        equal((sent["thinking"], sent["output_config"]), ({"type": "adaptive"}, {"effort": "high"}))
    else:
        equal(sent["reasoning_effort"], "high")
    ask(to, model=model, thinking={"type": "disabled"})


@case(calls=3)
def stop_reasons(to):
    to.mock.script({"text": "One, two", "stop_sequence": "three"}, {"text": "One", "finish": "length"}, {"refusal": "No."})
    message = ask(to, stop_sequences=["three", "four"])
    # OpenAI doesn't tell that it was a sequence, nor which one.
    wanted = ("stop_sequence", "three") if is_own(to) else ("end_turn", None)
    equal((message.stop_reason, message.stop_sequence), wanted)
    equal(to.mock.sent()["stop_sequences" if is_own(to) else "stop"], ["three", "four"])
    equal(ask(to, max_tokens=1).stop_reason, "max_tokens")
    message = ask(to)
    equal((message.stop_reason, message.content[0].text), ("refusal", "No."))


@case()
def sampling_and_user(to):
    ask(to, metadata={"user_id": "someone"}, extra_body={"temperature": 0.5, "top_k": 5})
    sent = to.mock.sent()
    equal(sent["temperature"], 0.5)
    if is_own(to):
        equal((sent["top_k"], sent["metadata"]), (5, {"user_id": "someone"}))
    else:
        equal(sent["user"], "someone")


@case(calls=0, only="oa")
def what_cannot_be_said_is_refused_by_name(to):
    error = raises(anthropic.BadRequestError, lambda: ask(to, stop_sequences=["a", "b", "c", "d", "e"]))
    holds("stop" in error.message, error.message)
    server_tool = {"type": "web_search_20250305", "name": "web_search"}
    error = raises(anthropic.BadRequestError, lambda: ask(to, tools=[server_tool]))
    holds("web_search" in error.message, error.message)
    error = raises(anthropic.BadRequestError, lambda: ask(to, extra_body={"temperature": "warm"}))
    holds("temperature" in error.message, error.message)


@case(calls=None)
def upstream_errors_are_typed(to):
    # The last two are what an error becomes where it is said anew, because the protocols differ.
    table = [
        (400, anthropic.BadRequestError, 400, None), (404, anthropic.NotFoundError, 404, None),
        (413, anthropic.ContentTooLargeError, 413, None),
        (422, anthropic.UnprocessableEntityError, 400, anthropic.BadRequestError),
        (429, anthropic.RateLimitError, 429, None), (500, anthropic.InternalServerError, 502, None),
        (503, anthropic.ServiceUnavailableError, 503, None),
        (529, anthropic.OverloadedError, 503, anthropic.ServiceUnavailableError),
    ]
    for status, kind, across, kind_across in table:
        step = {"status": status}
        if status == 429:
            step["headers"] = {"retry-after": "17"}
        if status == 400:
            step["error"] = {"type": "invalid_request_error", "message": "The temperature is wrong."}
        to.mock.script(step)
        if not is_own(to):
            kind = kind_across or kind
        for stream in (False, True):
            before = len(to.mock.calls())
            model = to.failing(f"{status}-{'stream' if stream else 'whole'}")
            error = raises(kind, lambda: ask(to, model=model, stream=stream))
            equal(error.status_code, status if is_own(to) else across, model)
            equal(error.body["type"], "error")
            holds(error.api_message and error.type, f"{status}: {error.body!r} is not as Anthropic says it")
            holds(error.response.headers["x-request-id"], f"{status}: no x-request-id")
            equal(len(to.mock.calls()), before + 1, f"{status}: calls")
            if status == 429:
                equal((error.type, error.response.headers["retry-after"]), ("rate_limit_error", "17"))
            if status == 400:
                holds("The temperature is wrong." in error.message, error.message)


@case(calls=1)
def a_wrong_key_of_ours_is_not_the_clients_fault(to):
    to.mock.script({"status": 401, "error": {"message": "invalid x-api-key: sk-secret"}})
    error = raises(anthropic.InternalServerError, lambda: ask(to, model=to.failing("account")))
    equal((error.status_code, error.type), (502, "api_error"))
    holds("sk-secret" not in str(error.body), error.body)


@case(calls=0)
def gateway_errors_are_typed(to):
    asked = {"model": to.model, "messages": SAY, "max_tokens": 9}
    error = raises(anthropic.AuthenticationError, lambda: connect("wrong-key").messages.create(**asked))
    equal((error.status_code, error.type), (401, "authentication_error"))
    error = raises(anthropic.PermissionDeniedError, lambda: connect(NARROW_KEY).messages.create(**asked))
    equal((error.status_code, error.type), (403, "permission_error"))
    equal(error.response.headers["x-should-retry"], "false")
    error = raises(anthropic.NotFoundError, lambda: ask(to, model="claude-nonsense"))
    equal((error.status_code, error.type), (404, "not_found_error"))
    error = raises(anthropic.ContentTooLargeError, lambda: ask(to, [{"role": "user", "content": "x" * (3 << 20)}]))
    equal((error.status_code, error.type), (413, "request_too_large"))
    error = raises(anthropic.BadRequestError, lambda: ask(to, extra_headers={"x-strait-timeout": "soon"}))
    holds("x-strait-timeout" in error.message, error.message)
    equal(error.body["request_id"], error.response.headers["x-request-id"])


@case(calls=1, only="an")
def bearer_tokens_are_keys_too(to):
    bearer = Anthropic(base_url=GATEWAY, auth_token=KEY, max_retries=0, default_headers=FRESH)
    equal(bearer.messages.create(model=to.model, messages=SAY, max_tokens=9).content[0].text, "hello there, gateway")


@case(calls=1, only="an")
def a_key_over_its_limit(to):
    asked = {"model": to.model, "messages": SAY, "max_tokens": 9}
    limited = connect(LIMITED_KEY)
    limited.messages.create(**asked)
    error = raises(anthropic.RateLimitError, lambda: limited.messages.create(**asked))
    equal((error.status_code, error.type), (429, "rate_limit_error"))
    holds(1 <= int(error.response.headers["retry-after"]) <= 60, error.response.headers["retry-after"])


@case(calls=2)
def one_request_at_a_time(to):
    to.mock.script({"chunks": 100, "chunk_gap": "50ms"}, {"text": "after"})
    single = connect(SINGLE_KEY)
    asked = {"model": to.model, "messages": SAY, "max_tokens": 100}
    first = single.messages.create(stream=True, **asked)
    next(iter(first))
    raises(anthropic.RateLimitError, lambda: single.messages.create(**asked))
    first.close()
    gone(to)
    equal(single.messages.create(**asked).content[0].text, "after")


@case(calls=2)
def the_sdk_retries_what_may_be_retried(to):
    to.mock.script({"status": 529}, {"text": "now"})
    message = connect(max_retries=1).messages.create(model=to.failing("retried"), messages=SAY, max_tokens=9)
    equal(message.content[0].text, "now")


@case(calls=1)
def the_sdks_own_timeout(to):
    to.mock.script({"stall_head": True})
    begun = time.monotonic()
    raises(anthropic.APITimeoutError, lambda: ask(to, timeout=0.3))
    holds(time.monotonic() - begun < 2, "too late")
    gone(to)


@case(calls=2)
def the_gateways_timeout(to):
    to.mock.script({"stall_head": True})
    for stream in (False, True):
        error = raises(anthropic.GatewayTimeoutError, lambda: ask(
            to, model=to.failing("slow"), stream=stream, extra_headers={"x-strait-timeout": "300ms"}))
        equal((error.status_code, error.type), (504, "timeout_error"))


@case(calls=1)
def a_stream_left_in_the_middle(to):
    to.mock.script({"chunks": 500, "chunk_gap": "20ms"})
    with client.messages.stream(model=to.model, messages=SAY, max_tokens=100) as events:
        for number, _ in enumerate(events.text_stream):
            if number == 3:
                break
        eventually("one stream is open", lambda: metric("strait_streams_open") == 1)
    gone(to)


@case(calls=2)
def a_stream_that_breaks_is_an_error_and_no_end(to):
    for step in ({"chunks": 6, "cut_after": 3}, {"chunks": 6, "error_event": {"at": 3, "message": "it broke"}}):
        to.mock.script(step)
        text = ""

        def read():
            nonlocal text
            for event in ask(to, stream=True):
                holds(event.type != "message_stop", "a false end")
                if event.type == "content_block_delta":
                    text += event.delta.text

        try:
            read()
        except anthropic.APIStatusError as error:
            holds(error.api_message and error.type, f"{error!r}")
        else:
            holds(False, "the stream ended well")
        holds(text and "hello there, gateway".startswith(text), text)


@case(calls=None)
def another_provider_steps_in(to):
    to.mock.script({"status": 500})
    for stream in (False, True):
        raw = client.messages.with_raw_response.create(
            model=f"{to.name}-then-the-other", messages=SAY, max_tokens=100, stream=stream)
        equal(raw.headers["x-strait-provider"], "oa" if is_own(to) else "an")
        answer = raw.parse()
        if stream:
            text = "".join(event.delta.text for event in answer if event.type == "content_block_delta")
        else:
            text = answer.content[0].text
        equal(text, "hello there, gateway")


@case(calls=3)
def headers(to):
    asked = {"messages": SAY, "max_tokens": 100}
    raw = client.messages.with_raw_response.create(model=to.model, **asked)
    named(raw.headers, to)
    equal(raw.parse().content[0].text, "hello there, gateway")
    model = "claude-sonnet-4-5" if is_own(to) else "gpt-4o"
    raw = client.messages.with_raw_response.create(model=f"{to.catalogue}/{model}", **asked)
    named(raw.headers, to, model)
    holds(float(raw.headers["x-strait-cost-usd"]) > 0, raw.headers["x-strait-cost-usd"])
    with client.messages.with_streaming_response.create(model=to.model, stream=True, **asked) as raw:
        named(raw.headers, to)
        holds(raw.headers["content-type"].startswith("text/event-stream"), raw.headers["content-type"])
        holds("event: message_stop" in list(raw.iter_lines()), "the end")


@case(calls=1, only="an")
def beta_features_pass(to):
    message = client.beta.messages.create(
        model=to.model, messages=SAY, max_tokens=9, betas=["fine-grained-tool-streaming-2025-05-14"],
        extra_query={"beta": "true"})
    equal(message.content[0].text, "hello there, gateway")
    [call] = to.mock.calls()
    equal(call["headers"]["anthropic-beta"], "fine-grained-tool-streaming-2025-05-14")
    equal(call["query"], "beta=true")
    equal(call["headers"]["anthropic-version"], ANTHROPIC_API_VERSION, "the client's own version of the API")


@case(calls=0)
def models(to):
    listed = [model.id for model in client.models.list()]
    wanted = f"{to.catalogue}/{'claude-sonnet-4-5' if is_own(to) else 'gpt-4o'}"
    holds(wanted in listed and to.failing("slow") in listed, listed[:50])
    equal(len(set(listed)), len(listed), "a model is listed once")
    one = client.models.retrieve(wanted)
    equal((one.id, one.type), (wanted, "model"))
    holds(one.display_name and one.created_at, one)
    holds(one.lifecycle in ("active", "deprecated"), one)
    holds(one.max_input_tokens and one.max_tokens, one)
    equal([model.id for model in connect(NARROW_KEY).models.list() if model.id == wanted], [])
    raises(anthropic.NotFoundError, lambda: client.models.retrieve("nothing/of-the-kind"))
    raises(anthropic.AuthenticationError, lambda: connect("wrong-key").models.list())


@case(calls=len(FRAMINGS))
def however_a_stream_is_framed_it_says_the_same(to):
    say = [{"role": "user", "content": MANY_TONGUES}]
    for framing in FRAMINGS:
        to.mock.script(framing)
        with client.messages.stream(model=to.model, messages=say, max_tokens=100) as events:
            equal(events.get_final_text(), MANY_TONGUES, f"{framing}")


@case(calls=2)
def large_bodies_both_ways(to):
    to.mock.script({"text_bytes": 3 << 20})
    message = ask(to, [{"role": "user", "content": "x" * (3 << 19)}])
    equal(len(message.content[0].text), 3 << 20)
    with client.messages.stream(model=to.model, messages=SAY, max_tokens=100) as events:
        equal(len(events.get_final_text()), 3 << 20)


@case()
def a_turn_after_tool_results(to):
    turns = [
        *SAY,
        {"role": "assistant", "content": [
            {"type": "text", "text": "Let me look."}, {"type": "tool_use", "id": "toolu_a", "name": "clock", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_a"}, {"type": "text", "text": "And now?"},
        ]},
    ]
    equal(ask(to, turns, tools=TOOLS).content[0].text, "And now?")
    if not is_own(to):
        equal([message["role"] for message in to.mock.sent()["messages"]], ["user", "assistant", "tool", "user"])


def run_tools(to, **more):
    """Lets the SDK run the tools that are called."""
    asked = []

    @beta_tool
    def weather(city: str, unit: str) -> str:
        """The weather."""
        asked.append((city, unit))
        return "sun"

    @beta_tool
    def clock() -> str:
        """The time."""
        asked.append(())
        return "noon"

    runner = client.beta.messages.tool_runner(
        model=to.model, messages=SAY, max_tokens=100, tools=[weather, clock], stream=True, **more)
    for events in runner:
        final = events.get_final_message()
    equal(final.content[0].text, "Sunny.")
    equal(sorted(asked), [(), ('Zürich "Nord"', "c")])


@case(calls=2)
def the_sdk_runs_the_tools_itself(to):
    to.mock.script({"tools": CALLS, "chunks": 3}, {"text": "Sunny."})
    run_tools(to, thread=False)


@case(calls=None)
def the_sdk_goes_without_a_thread_where_there_is_none(to):
    # By default the runner asks the provider to hold the conversation, and sends only what is new.
    steps = [{"tools": CALLS, "chunks": 3}, {"text": "Sunny."}]
    if is_own(to):
        details = {"error_code": "thread_unsupported_request", "unsupported": []}
        error = {"type": "invalid_request_error", "message": "No threads here.", "details": details}
        steps.insert(0, {"status": 400, "body": {"type": "error", "error": error}})
    to.mock.script(*steps, allow=["thread"])
    run_tools(to)
    equal(len(to.mock.calls()), len(steps))
    holds(len(to.mock.sent()["messages"]) >= 3, "the whole conversation is sent")


@case(calls=3)
def kept_answers(to):
    caching = connect(default_headers={})
    asked = {
        "model": to.model, "max_tokens": 100, "tools": TOOLS,
        "messages": [{"role": "user", "content": f"keep this of {to.name}"}],
    }
    to.mock.script({"text": "Let me look.", "tools": CALLS})

    def get(stream, **more):
        raw = caching.messages.with_raw_response.create(**asked, stream=stream, **more)
        answer = raw.parse()
        if not stream:
            return raw.headers["x-strait-cache"], blocks(answer), answer.usage.output_tokens
        texts, tokens = {}, 0
        for event in answer:
            if event.type == "content_block_start":
                texts[event.index] = ""
            elif event.type == "content_block_delta":
                texts[event.index] += getattr(event.delta, "text", "") or getattr(event.delta, "partial_json", "")
            elif event.type == "message_delta":
                tokens = event.usage.output_tokens
        return raw.headers["x-strait-cache"], texts, tokens

    missed = get(True)
    equal(missed[0], "miss")
    kept = get(False)
    fresh = get(False, extra_headers=FRESH)
    equal((kept[0], fresh[0], kept[1:]), ("hit", "bypass", fresh[1:]))
    again = get(True)
    equal((again[0], again[2]), ("hit", missed[2]))
    equal([json.loads(text) if text.startswith("{") else text for text in again[1].values()],
          [json.loads(text) if text.startswith("{") else text for text in missed[1].values()])
    equal(get(False, extra_headers={"x-strait-cache": "refresh"})[0], "miss")


@case(calls=1, only="an")
def fallbacks_of_anthropics_own_pass(to):
    # A list of objects and a beta header: the provider's, not the gateway's list of names.
    own = [{"model": "claude-haiku-4-5"}]
    message = client.beta.messages.create(
        model=to.model, messages=SAY, max_tokens=9, fallbacks=own, betas=["server-side-fallback-2026-07-01"])
    equal(message.content[0].text, "hello there, gateway")
    equal(to.mock.sent()["fallbacks"], own)


@case()
def thinking_between_tools(to):
    # New with the API's version 2026-10-21.
    message = ask(to, model=to.model if is_own(to) else "openai/gpt-5", thinking={"type": "between_tools"})
    equal(message.content[0].text, "hello there, gateway")


@case(calls=2)
def answers_and_errors_have_the_id_that_the_sdk_reads(to):
    holds(ask(to)._request_id, "the header request-id")
    to.mock.script({"status": 400})
    error = raises(anthropic.BadRequestError, lambda: ask(to))
    holds(error.request_id, "the header request-id")
    error = raises(anthropic.NotFoundError, lambda: ask(to, model="claude-nonsense"))
    equal(error.request_id, error.body["request_id"])


@case(calls=40)
def many_at_once(to):
    to.mock.script({"chunks": 5, "chunk_gap": "5ms"})

    async def one(asynchronous, number):
        words = f"number {number} of many"
        asked = {"model": to.model, "messages": [{"role": "user", "content": words}], "max_tokens": 100}
        if number % 2:
            equal((await asynchronous.messages.create(**asked)).content[0].text, words)
            return
        async with asynchronous.messages.stream(**asked) as events:
            equal(await events.get_final_text(), words)

    async def all_of_them():
        async with AsyncAnthropic(
            base_url=GATEWAY, api_key=KEY, max_retries=0, default_headers=FRESH
        ) as asynchronous:
            await asyncio.gather(*(one(asynchronous, number) for number in range(40)))

    asyncio.run(all_of_them())
    eventually("nothing is in flight", lambda: metric("strait_inflight") == 0)


main()
