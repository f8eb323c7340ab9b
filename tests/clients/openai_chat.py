"""The OpenAI SDK against the gateway: every case to a provider of its own protocol and to one of Anthropic's."""

import asyncio
import enum
import json
import time

import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from lab import (
    CALLS, FRAMINGS, FRESH, GATEWAY, KEY, LIMITED_KEY, MANY_TONGUES, NARROW_KEY, PDF, PNG, SINGLE_KEY, WEATHER,
    case, equal, eventually, gone, holds, main, metric, named, raises,
)


def connect(key=KEY, **more):
    usual = {"base_url": f"{GATEWAY}/v1", "max_retries": 0, "default_headers": FRESH}
    return OpenAI(api_key=key, **{**usual, **more})


client = connect()
SAY = [{"role": "user", "content": "hello there, gateway"}]
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "clock", "description": "The time."}},
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
    return client.chat.completions.create(model=to.model, messages=messages, **more)


def is_own(to):
    return to.name == "oa"


@case()
def plain(to):
    answer = ask(to)
    equal(answer.object, "chat.completion")
    holds(answer.id and isinstance(answer.created, int), "id and created")
    holds(answer.model in (to.model, "m"), answer.model)
    [choice] = answer.choices
    equal((choice.index, choice.finish_reason), (0, "stop"))
    equal((choice.message.role, choice.message.content), ("assistant", "hello there, gateway"))
    equal(choice.message.tool_calls, None)
    usage = answer.usage
    equal((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (5, 5, 10))
    sent = to.mock.sent()
    equal(sent["model"], "m")
    equal([message["role"] for message in sent["messages"]], ["user"])


@case()
def stream(to):
    to.mock.script({"chunks": 6, "chunk_gap": "0ms"})
    text, reasons, pieces = "", [], 0
    for chunk in ask(to, stream=True):
        equal(chunk.object, "chat.completion.chunk")
        equal(chunk.usage, None, "usage was not asked for")
        [choice] = chunk.choices
        text += choice.delta.content or ""
        pieces += bool(choice.delta.content)
        reasons += [choice.finish_reason] if choice.finish_reason else []
    equal((text, reasons), ("hello there, gateway", ["stop"]))
    holds(pieces >= 4, f"{pieces} pieces are few for 6 chunks")


@case(calls=2)
def stream_with_usage_tells_what_the_whole_answer_tells(to):
    chunks = list(ask(to, stream=True, stream_options={"include_usage": True}))
    equal(chunks[-1].choices, [], "the usage has a chunk of its own")
    holds(all(chunk.usage is None for chunk in chunks[:-1]), "only the last one tells usage")
    equal(chunks[-1].usage.model_dump(exclude_none=True), ask(to).usage.model_dump(exclude_none=True))


@case()
def cached_tokens_are_told(to):
    cached = {"prompt_tokens": 100, "completion_tokens": 20, "cached_tokens": 60}
    to.mock.script({"usage": cached})
    usage = ask(to).usage
    # Anthropic counts cached tokens beside the others, OpenAI among them.
    equal(usage.prompt_tokens, 100 if is_own(to) else 160)
    equal((usage.completion_tokens, usage.prompt_tokens_details.cached_tokens), (20, 60))


@case()
def system_and_multi_turn(to):
    answer = ask(to, [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": [{"type": "text", "text": "Three?"}, {"type": "text", "text": "Four?"}]},
    ])
    equal(answer.choices[0].message.content, "Three?\nFour?")
    sent = to.mock.sent()
    if is_own(to):
        equal(len(sent["messages"]), 4)
    else:
        holds("Be brief." in json.dumps(sent["system"]), sent["system"])
        equal([message["role"] for message in sent["messages"]], ["user", "assistant", "user"])


@case(calls=2)
def tool_loop(to):
    to.mock.script({"tools": CALLS}, {"text": "Sunny."})
    messages = list(SAY)
    answer = ask(to, messages, tools=TOOLS)
    [choice] = answer.choices
    equal(choice.finish_reason, "tool_calls")
    calls = choice.message.tool_calls
    check_tool_calls(calls)
    messages.append(choice.message)
    messages += [
        {"role": "tool", "tool_call_id": calls[0].id, "content": "sun"},
        {"role": "tool", "tool_call_id": calls[1].id, "content": [{"type": "text", "text": "noon"}]},
    ]
    answer = ask(to, messages, tools=TOOLS)
    equal((answer.choices[0].message.content, answer.choices[0].finish_reason), ("Sunny.", "stop"))
    sent = to.mock.sent()["messages"]
    if is_own(to):
        equal([call["function"]["name"] for call in sent[1]["tool_calls"]], ["weather", "clock"])
    else:
        equal([message["role"] for message in sent], ["user", "assistant", "user"])
        uses = [block for block in sent[1]["content"] if block["type"] == "tool_use"]
        equal([block["input"] for block in uses], [call["arguments"] for call in CALLS])
        results = [block["tool_use_id"] for block in sent[2]["content"] if block["type"] == "tool_result"]
        equal(results, [block["id"] for block in uses])


def check_tool_calls(calls):
    equal([(call.id, call.type, call.function.name) for call in calls],
          [(call["id"], "function", call["name"]) for call in CALLS])
    equal([json.loads(call.function.arguments) for call in calls], [call["arguments"] for call in CALLS])


@case(calls=2)
def parallel_tools_in_a_stream(to):
    to.mock.script({"text": "Let me look.", "tools": CALLS, "chunks": 7})
    with client.chat.completions.stream(model=to.model, messages=SAY, tools=TOOLS) as events:
        done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
        final = events.get_final_completion()
    equal([(event.index, event.name) for event in done], [(0, "weather"), (1, "clock")])
    [choice] = final.choices
    equal((choice.finish_reason, choice.message.content), ("tool_calls", "Let me look."))
    check_tool_calls(choice.message.tool_calls)
    # The same by hand, as agents do it.
    calls, deltas = {}, 0
    for chunk in ask(to, tools=TOOLS, stream=True):
        for delta in chunk.choices[0].delta.tool_calls or []:
            known = calls.setdefault(delta.index, {"id": delta.id, "name": delta.function.name, "arguments": ""})
            known["arguments"] += delta.function.arguments or ""
            deltas += 1
    equal(sorted(calls), [0, 1])
    equal([calls[index]["id"] for index in (0, 1)], ["call_one", "call_two"])
    equal([json.loads(calls[index]["arguments"] or "{}") for index in (0, 1)], [call["arguments"] for call in CALLS])
    holds(deltas >= 6, f"{deltas} deltas: the arguments were not streamed")


@case(calls=4)
def tool_choice(to):
    named_choice = {"type": "function", "function": {"name": "weather"}}
    answer = ask(to, tools=TOOLS, tool_choice=named_choice)
    equal(json.loads(answer.choices[0].message.tool_calls[0].function.arguments), {"city": "text", "unit": "c"})
    wanted = named_choice if is_own(to) else {"type": "tool", "name": "weather"}
    equal(to.mock.sent()["tool_choice"], wanted)
    ask(to, tools=TOOLS, tool_choice="required", parallel_tool_calls=False)
    if not is_own(to):
        equal(to.mock.sent()["tool_choice"], {"type": "any", "disable_parallel_tool_use": True})
    ask(to, tools=TOOLS, tool_choice="none")
    ask(to, tools=TOOLS, tool_choice="auto")


def structured(to, model):
    answer = client.chat.completions.parse(model=model, messages=SAY, response_format=Report)
    [choice] = answer.choices
    equal(choice.finish_reason, "stop")
    wanted = Report(place=Place(city="text", unit=Unit.C), degrees=1, notes=["text"])
    equal(choice.message.parsed, wanted)
    equal(choice.message.tool_calls or [], [], "the tool that stands in is not shown")
    with client.chat.completions.stream(model=model, messages=SAY, response_format=Report) as events:
        deltas = [event for event in events if event.type == "content.delta"]
        final = events.get_final_completion()
    equal(final.choices[0].message.parsed, wanted)
    equal(final.choices[0].finish_reason, "stop")
    holds(len(deltas) > 1, "the document was not streamed")


@case(calls=2)
def structured_output(to):
    structured(to, to.model)
    holds("tools" in to.mock.sent() or is_own(to), "nothing is known of the model, so a tool stands in")


@case(calls=2)
def structured_output_where_it_is_native(to):
    structured(to, "openai/gpt-4o" if is_own(to) else "anthropic/claude-sonnet-4-5")
    sent = to.mock.sent()
    holds("response_format" in sent if is_own(to) else "output_config" in sent, sent)
    holds("tools" not in sent, "no tool stands in where the schema is native")


@case()
def json_object(to):
    if not is_own(to):
        to.mock.script({"text": '{"a": 1}'})
    answer = ask(to, [{"role": "user", "content": "Answer in JSON."}], response_format={"type": "json_object"})
    json.loads(answer.choices[0].message.content)


@case()
def images(to):
    ask(to, [{"role": "user", "content": [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.jpg"}},
    ]}])
    content = to.mock.sent()["messages"][0]["content"]
    if is_own(to):
        equal(content[1]["image_url"], {"url": f"data:image/png;base64,{PNG}", "detail": "low"})
    else:
        equal([block["source"] for block in content[1:]], [
            {"type": "base64", "media_type": "image/png", "data": PNG},
            {"type": "url", "url": "https://example.com/cat.jpg"},
        ])


@case()
def documents(to):
    file = {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}
    ask(to, [{"role": "user", "content": [{"type": "file", "file": file}, {"type": "text", "text": "Read it."}]}])
    block = to.mock.sent()["messages"][0]["content"][0]
    if is_own(to):
        equal(block["file"], file)
    else:
        equal((block["type"], block["title"]), ("document", "a.pdf"))
        equal(block["source"], {"type": "base64", "media_type": "application/pdf", "data": PDF})


@case(calls=3)
def thinking(to):
    model = "openai/gpt-5" if is_own(to) else "anthropic/claude-opus-4-0"
    step = {"thinking": "Let me think about it.", "signature": "c2lnbmVk", "text": "Yes.", "tools": CALLS[:1]}
    to.mock.script(step, step, {"text": "Sunny."}, allow=["reasoning_content", "reasoning_details"])
    asked = {"model": model, "reasoning_effort": "low", "tools": TOOLS}
    answer = client.chat.completions.create(messages=SAY, **asked)
    message = answer.choices[0].message
    equal((message.reasoning_content, message.content), ("Let me think about it.", "Yes."))
    sent = to.mock.sent()
    if is_own(to):
        equal(sent["reasoning_effort"], "low")
    else:
        equal(sent["thinking"]["type"], "enabled")
        holds(1024 <= sent["thinking"]["budget_tokens"] < sent["max_tokens"], sent["thinking"])
    # Streamed, it is the same.
    thought = ""
    for chunk in client.chat.completions.create(messages=SAY, stream=True, **asked):
        thought += getattr(chunk.choices[0].delta, "reasoning_content", None) or ""
    equal(thought, "Let me think about it.")
    # With the next turn a signature comes back to the provider that gave it.
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sun"}
    client.chat.completions.create(messages=[*SAY, message, result], **asked)
    if not is_own(to):
        block = to.mock.sent()["messages"][1]["content"][0]
        equal(block, {"type": "thinking", "thinking": "Let me think about it.", "signature": "c2lnbmVk"})
        equal(to.mock.sent()["thinking"]["type"], "enabled")


@case(calls=3)
def finish_reasons(to):
    to.mock.script({"text": "One, two", "stop_sequence": "three"}, {"text": "One", "finish": "length"}, {"refusal": "No."})
    equal(ask(to, stop=["three", "four"]).choices[0].finish_reason, "stop")
    sent = to.mock.sent()
    equal(sent["stop" if is_own(to) else "stop_sequences"], ["three", "four"])
    equal(ask(to, max_tokens=1).choices[0].finish_reason, "length")
    equal(to.mock.sent()["max_tokens"], 1)
    refused = ask(to).choices[0]
    if is_own(to):
        equal(refused.message.refusal, "No.")
    else:
        # Anthropic's `refusal` is a reason, and OpenAI's a text: what was said must be there, and why it ended.
        holds("No." in (refused.message.refusal or refused.message.content or ""), refused)
        holds(refused.finish_reason in ("content_filter", "stop"), refused.finish_reason)


@case()
def sampling_and_user(to):
    ask(to, temperature=1.5, seed=7, user="someone", max_completion_tokens=50, frequency_penalty=0.5)
    sent = to.mock.sent()
    if is_own(to):
        equal((sent["temperature"], sent["seed"], sent["user"]), (1.5, 7, "someone"))
    else:
        equal((sent["temperature"], sent["max_tokens"]), (1.0, 50))
        equal(sent["metadata"], {"user_id": "someone"})


@case(calls=1, only="oa")
def several_answers(to):
    answer = ask(to, n=3)
    equal([choice.index for choice in answer.choices], [0, 1, 2])


@case(calls=0, only="an")
def what_cannot_be_said_is_refused_by_name(to):
    for field, value in [("n", 2), ("logprobs", True), ("logit_bias", {"50256": -100})]:
        error = raises(openai.BadRequestError, lambda: ask(to, **{field: value}))
        equal((error.param, error.code), (field, "unsupported_parameter"))
        holds(f"{field}" in error.message or "log" in error.message, error.message)
        raises(openai.BadRequestError, lambda: list(ask(to, stream=True, **{field: value})))


@case(calls=None)
def upstream_errors_are_typed(to):
    # The last is the status where the protocols differ and an error is said anew.
    table = [
        (400, openai.BadRequestError, 400), (404, openai.NotFoundError, 404), (413, openai.APIStatusError, 413),
        (422, openai.UnprocessableEntityError, 400), (429, openai.RateLimitError, 429),
        (500, openai.InternalServerError, 502), (503, openai.InternalServerError, 503),
        (529, openai.InternalServerError, 503),
    ]
    for status, kind, across in table:
        step = {"status": status}
        if status == 429:
            step["headers"] = {"retry-after": "17"}
        if status == 400:
            step["error"] = {"type": "invalid_request_error", "message": "The temperature is wrong."}
        to.mock.script(step)
        if not is_own(to) and status == 422:
            kind = openai.BadRequestError
        for stream in (False, True):
            before = len(to.mock.calls())
            model = to.failing(f"{status}-{'stream' if stream else 'whole'}")
            error = raises(kind, lambda: client.chat.completions.create(model=model, messages=SAY, stream=stream))
            equal(error.status_code, status if is_own(to) else across, model)
            holds(isinstance(error.body, dict) and error.body.get("message"), f"{status}: {error.body!r}")
            holds("code" in error.body and error.type, f"{status}: {error.body!r} is not as OpenAI says it")
            holds(error.request_id, f"{status}: no x-request-id")
            equal(len(to.mock.calls()), before + 1, f"{status}: calls")
            if status == 429:
                equal(error.response.headers["retry-after"], "17")
            if status == 400:
                holds("The temperature is wrong." in error.message, error.message)


@case(calls=1)
def a_wrong_key_of_ours_is_not_the_clients_fault(to):
    to.mock.script({"status": 401, "error": {"message": "Incorrect API key provided: sk-secret"}})
    error = raises(openai.InternalServerError,
                   lambda: client.chat.completions.create(model=to.failing("account"), messages=SAY))
    equal(error.status_code, 502)
    holds("sk-secret" not in str(error.body), error.body)


@case(calls=0)
def gateway_errors_are_typed(to):
    error = raises(openai.AuthenticationError, lambda: connect("wrong-key").chat.completions.create(model=to.model, messages=SAY))
    equal((error.status_code, error.code), (401, "invalid_api_key"))
    error = raises(openai.PermissionDeniedError, lambda: connect(NARROW_KEY).chat.completions.create(model=to.model, messages=SAY))
    equal((error.status_code, error.code), (403, "model_not_allowed"))
    equal(error.response.headers["x-should-retry"], "false")
    error = raises(openai.NotFoundError, lambda: client.chat.completions.create(model="gpt-nonsense", messages=SAY))
    equal((error.status_code, error.code), (404, "model_not_found"))
    error = raises(openai.APIStatusError, lambda: ask(to, [{"role": "user", "content": "x" * (3 << 20)}]))
    equal((error.status_code, error.code), (413, "request_too_large"))
    error = raises(openai.BadRequestError, lambda: ask(to, extra_headers={"x-strait-timeout": "soon"}))
    holds("x-strait-timeout" in error.message, error.message)
    raises(openai.NotFoundError, lambda: client.post("/nothing", body={}, cast_to=object))


@case(calls=0, only="an")
def a_field_of_the_wrong_type_is_named(to):
    error = raises(openai.BadRequestError, lambda: ask(to, temperature="warm"))
    equal(error.param, "temperature")
    error = raises(openai.BadRequestError, lambda: ask(to, [{"role": "user", "content": [{"type": "text"}]}]))
    holds("messages" in error.param, error.param)


@case(calls=1, only="oa")
def a_key_over_its_limit(to):
    limited = connect(LIMITED_KEY)
    raw = limited.chat.completions.with_raw_response.create(model=to.model, messages=SAY)
    equal((raw.headers["x-ratelimit-limit-requests"], raw.headers["x-ratelimit-remaining-requests"]), ("1", "0"))
    error = raises(openai.RateLimitError, lambda: limited.chat.completions.create(model=to.model, messages=SAY))
    equal((error.status_code, error.code), (429, "rate_limit_exceeded"))
    holds(1 <= int(error.response.headers["retry-after"]) <= 60, error.response.headers["retry-after"])
    equal(error.response.headers["x-ratelimit-remaining-requests"], "0")


@case(calls=2)
def one_request_at_a_time(to):
    to.mock.script({"chunks": 100, "chunk_gap": "50ms"}, {"text": "after"})
    single = connect(SINGLE_KEY)
    first = single.chat.completions.create(model=to.model, messages=SAY, stream=True)
    next(iter(first))
    raises(openai.RateLimitError, lambda: single.chat.completions.create(model=to.model, messages=SAY))
    first.close()
    gone(to)
    equal(single.chat.completions.create(model=to.model, messages=SAY).choices[0].message.content, "after")


@case(calls=2)
def the_sdk_retries_what_may_be_retried(to):
    to.mock.script({"status": 503}, {"text": "now"})
    patient = connect(max_retries=1)
    equal(patient.chat.completions.create(model=to.failing("retried"), messages=SAY).choices[0].message.content, "now")


@case(calls=1)
def the_sdks_own_timeout(to):
    to.mock.script({"stall_head": True})
    begun = time.monotonic()
    raises(openai.APITimeoutError, lambda: ask(to, timeout=0.3))
    holds(time.monotonic() - begun < 2, "too late")
    gone(to)


@case(calls=2)
def the_gateways_timeout(to):
    to.mock.script({"stall_head": True})
    for stream in (False, True):
        error = raises(openai.InternalServerError, lambda: client.chat.completions.create(
            model=to.failing("slow"), messages=SAY, stream=stream, extra_headers={"x-strait-timeout": "300ms"}))
        equal((error.status_code, error.code), (504, "timeout"))


@case(calls=1)
def a_stream_left_in_the_middle(to):
    to.mock.script({"chunks": 500, "chunk_gap": "20ms"})
    stream = ask(to, stream=True)
    for number, _ in enumerate(stream):
        if number == 3:
            break
    eventually("one stream is open", lambda: metric("strait_streams_open") == 1)
    stream.close()
    gone(to)


@case(calls=2)
def a_stream_that_breaks_is_an_error_and_no_end(to):
    for step in ({"chunks": 6, "cut_after": 3}, {"chunks": 6, "error_event": {"at": 3, "message": "it broke"}}):
        to.mock.script(step)
        text = ""

        def read():
            nonlocal text
            for chunk in ask(to, stream=True):
                text += chunk.choices[0].delta.content or ""
                equal(chunk.choices[0].finish_reason, None)

        error = raises(openai.APIError, read)
        holds(error.message and text and "hello there, gateway".startswith(text), f"{text!r}: {error!r}")


@case(calls=None)
def another_provider_steps_in(to):
    to.mock.script({"status": 500})
    for stream in (False, True):
        raw = client.chat.completions.with_raw_response.create(
            model=f"{to.name}-then-the-other", messages=SAY, stream=stream)
        equal(raw.headers["x-strait-provider"], "an" if is_own(to) else "oa")
        answer = raw.parse()
        text = "".join(chunk.choices[0].delta.content or "" for chunk in answer) if stream else answer.choices[0].message.content
        equal(text, "hello there, gateway")


@case(calls=3)
def headers(to):
    raw = client.chat.completions.with_raw_response.create(model=to.model, messages=SAY)
    named(raw.headers, to)
    equal(raw.parse().choices[0].message.content, "hello there, gateway")
    model = "gpt-4o" if is_own(to) else "claude-sonnet-4-5"
    raw = client.chat.completions.with_raw_response.create(model=f"{to.catalogue}/{model}", messages=SAY)
    named(raw.headers, to, model)
    holds(float(raw.headers["x-strait-cost-usd"]) > 0, raw.headers["x-strait-cost-usd"])
    with client.chat.completions.with_streaming_response.create(model=to.model, messages=SAY, stream=True) as raw:
        named(raw.headers, to)
        holds(raw.headers["content-type"].startswith("text/event-stream"), raw.headers["content-type"])
        equal(list(raw.iter_lines())[-2:], ["data: [DONE]", ""])


@case(calls=0)
def models(to):
    listed = [model.id for model in client.models.list()]
    wanted = f"{to.catalogue}/{'gpt-4o' if is_own(to) else 'claude-sonnet-4-5'}"
    holds(wanted in listed and to.failing("slow") in listed, listed[:50])
    equal(len(set(listed)), len(listed), "a model is listed once")
    one = client.models.retrieve(wanted)
    equal((one.id, one.object, one.owned_by), (wanted, "model", to.catalogue))
    equal([model.id for model in connect(NARROW_KEY).models.list() if model.id == wanted], [])
    raises(openai.NotFoundError, lambda: client.models.retrieve("nothing/of-the-kind"))
    raises(openai.AuthenticationError, lambda: connect("wrong-key").models.list())


@case(calls=len(FRAMINGS))
def however_a_stream_is_framed_it_says_the_same(to):
    say = [{"role": "user", "content": MANY_TONGUES}]
    for framing in FRAMINGS:
        to.mock.script(framing)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in ask(to, say, stream=True))
        equal(text, MANY_TONGUES, f"{framing}")


@case(calls=2)
def large_bodies_both_ways(to):
    to.mock.script({"text_bytes": 3 << 20})
    answer = ask(to, [{"role": "user", "content": "x" * (3 << 19)}])
    equal(len(answer.choices[0].message.content), 3 << 20)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in ask(to, stream=True))
    equal(len(text), 3 << 20)


@case()
def a_system_prompt_alone(to):
    ask(to, [{"role": "system", "content": "Greet the world."}])


@case(calls=0, only="an")
def what_would_be_missed_is_refused(to):
    for more in ({"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}, {"web_search_options": {}}):
        raises(openai.BadRequestError, lambda: ask(to, **more))


@case(calls=2)
def a_turn_after_tool_results(to):
    call = {"id": "call_a", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    turns = [
        *SAY,
        {"role": "assistant", "content": "Let me look.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_a", "content": ""},
        {"role": "user", "content": "And now?"},
    ]
    equal(ask(to, turns, tools=TOOLS).choices[0].message.content, "And now?")
    if not is_own(to):
        last = to.mock.sent()["messages"][-1]
        equal((last["role"], [block["type"] for block in last["content"]]), ("user", ["tool_result", "text"]))
    # The tools are gone, but not what they said.
    equal(ask(to, turns).choices[0].message.content, "And now?")


@case()
def strict_tools_are_parsed(to):
    to.mock.script({"tools": [{"name": "Place", "arguments": {"city": "Rome", "unit": "f"}}]})
    with client.chat.completions.stream(
        model=to.model, messages=SAY, tools=[openai.pydantic_function_tool(Place)]
    ) as events:
        final = events.get_final_completion()
    equal(final.choices[0].message.tool_calls[0].function.parsed_arguments, Place(city="Rome", unit=Unit.F))


@case()
def a_base_without_v1_will_do(to):
    bare = connect(base_url=GATEWAY)
    equal(bare.chat.completions.create(model=to.model, messages=SAY).choices[0].message.content, "hello there, gateway")


@case(calls=None)
def the_request_names_its_own_fallbacks(to):
    to.mock.script({"status": 500})
    other = "an/m" if is_own(to) else "oa/m"
    raw = client.chat.completions.with_raw_response.create(
        model=f"{to.name}/fails-named", messages=SAY, extra_body={"fallbacks": [other]})
    equal(raw.headers["x-strait-provider"], other.split("/")[0])
    equal(raw.parse().choices[0].message.content, "hello there, gateway")


@case(calls=2)
def kept_answers(to):
    caching = connect(default_headers={})
    say = [{"role": "user", "content": f"keep this of {to.name}"}]

    def tokens(usage):
        return usage and (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)

    def get(stream, **more):
        raw = caching.chat.completions.with_raw_response.create(model=to.model, messages=say, stream=stream, **more)
        answer = raw.parse()
        if not stream:
            return raw.headers["x-strait-cache"], answer.choices[0].message.content, tokens(answer.usage)
        chunks = list(answer)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        return raw.headers["x-strait-cache"], text, tokens(chunks[-1].usage)

    missed = get(True)
    equal(missed, ("miss", say[0]["content"], None))
    kept, text, usage = get(False)
    equal((kept, text), ("hit", say[0]["content"]))
    holds(usage[0] > 0 and usage[1] > 0, usage)
    equal(get(True), ("hit", say[0]["content"], None))
    equal(get(True, stream_options={"include_usage": True}), ("hit", say[0]["content"], usage))
    equal(get(False, extra_headers=FRESH)[0], "bypass")


@case(calls=40)
def many_at_once(to):
    to.mock.script({"chunks": 5, "chunk_gap": "5ms"})

    async def one(asynchronous, number):
        words = f"number {number} of many"
        messages = [{"role": "user", "content": words}]
        if number % 2:
            answer = await asynchronous.chat.completions.create(model=to.model, messages=messages)
            equal(answer.choices[0].message.content, words)
            return
        text = ""
        async for chunk in await asynchronous.chat.completions.create(model=to.model, messages=messages, stream=True):
            text += chunk.choices[0].delta.content or ""
        equal(text, words)

    async def all_of_them():
        async with AsyncOpenAI(
            base_url=f"{GATEWAY}/v1", api_key=KEY, max_retries=0, default_headers=FRESH
        ) as asynchronous:
            await asyncio.gather(*(one(asynchronous, number) for number in range(40)))

    asyncio.run(all_of_them())
    eventually("nothing is in flight", lambda: metric("strait_inflight") == 0)


main()
