"""OpenAI's SDK, by its responses API, against every protocol that is spoken upstream."""

import json

import openai
from openai import OpenAI
from pydantic import BaseModel

from chats import EVERY, SAY, SIGNED, Said, Sdk, TOOLS, cases
from lab import CALLS, FRESH, GATEWAY, KEY, NARROW_KEY, case, equal, holds, main, raises


def connect(key=KEY):
    return OpenAI(base_url=f"{GATEWAY}/v1", api_key=key, max_retries=0, default_headers=FRESH)


client = connect()


class Responses(Sdk):
    name = "responses"
    own = ("rs", "az")
    errors = {400: openai.BadRequestError, 404: openai.NotFoundError, 429: openai.RateLimitError,
              500: openai.InternalServerError}

    def status(self, error):
        return error.status_code

    def items(self, turns):
        for turn in turns:
            match turn:
                case ("user" | "assistant" as role, text):
                    yield {"role": role, "content": text}
                case ("image", text, data):
                    url = f"data:image/png;base64,{data}"
                    yield {"role": "user", "content": [{"type": "input_text", "text": text}, {"type": "input_image", "image_url": url, "detail": "auto"}]}
                case ("said", said):
                    yield from said.turn
                case ("results", results):
                    for id, _, text in results:
                        yield {"type": "function_call_output", "call_id": id, "output": text}

    def asked(self, model, turns, system=None, tools=None, schema=None, most=None, think=False):
        asked = {"model": model, "input": list(self.items(turns))}
        if system:
            asked["instructions"] = system
        if tools:
            asked["tools"] = [{"type": "function", "name": tool["name"], "description": tool["description"],
                               "parameters": tool["schema"], "strict": False} for tool in tools]
        if schema:
            asked["text"] = {"format": {"type": "json_schema", "name": "place", "schema": schema, "strict": True}}
        if most:
            asked["max_output_tokens"] = max(most, 16)
        if think:
            asked["reasoning"] = {"effort": "low", "summary": "auto"}
            asked["include"] = ["reasoning.encrypted_content"]
        return asked

    def ask(self, model, turns, stream=False, **more):
        asked = self.asked(model, turns, **more)
        if not stream:
            return self.said(client.responses.create(**asked), 0)
        events = list(client.responses.create(**asked, stream=True))
        for number, event in enumerate(events):
            equal(event.sequence_number, number)
        last = events[-1]
        if last.type in ("error", "response.failed") or last.type not in ("response.completed", "response.incomplete"):
            raise RuntimeError(f"{last.type}: {last}")
        pieces = sum(event.type.endswith(".delta") for event in events)
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        equal(text, last.response.output_text)
        # What stands in the events' own items is what stands in the whole.
        done = [event.item for event in events if event.type == "response.output_item.done"]
        equal([item.model_dump() for item in done], [item.model_dump() for item in last.response.output])
        return self.said(last.response, pieces)

    def said(self, response, pieces):
        calls = [(item.call_id, item.name, json.loads(item.arguments)) for item in response.output if item.type == "function_call"]
        thought = "".join(part.text for item in response.output if item.type == "reasoning" for part in item.summary)
        stop = "calls" if calls else "end"
        if response.status == "incomplete":
            equal(response.incomplete_details.reason, "max_output_tokens")
            stop = "length"
        else:
            equal(response.status, "completed")
        turn = [item.model_dump(exclude_none=True, exclude={"status"}) for item in response.output]
        return Said(response.output_text, calls, stop, (response.usage.input_tokens, response.usage.output_tokens),
                    thought, turn, pieces)


sdk = Responses()
cases(sdk)


@case(calls=2)
def an_answer_is_kept_and_goes_on(to):
    first = client.responses.create(model=to.model, input="one", instructions="Be brief.")
    equal(first.output_text, "one")
    again = client.responses.retrieve(first.id)
    equal((again.id, again.output_text, again.usage.input_tokens), (first.id, "one", first.usage.input_tokens))
    items = list(client.responses.input_items.list(first.id))
    equal([(item.role, item.content[0].text) for item in items], [("user", "one")])
    second = client.responses.create(model=to.model, input="two", previous_response_id=first.id)
    equal(second.output_text, "two")
    if to.name not in sdk.own:
        sent = json.dumps(to.mock.sent())
        holds(sent.count("one") == 2 and "two" in sent and "Be brief." not in sent, sent)
    equal(second.previous_response_id, first.id)
    equal(client.responses.retrieve(second.id).previous_response_id, first.id)
    client.responses.delete(second.id)
    raises(openai.NotFoundError, lambda: client.responses.retrieve(second.id))


@case(calls=2)
def a_stream_says_what_it_goes_on_from(to):
    first = client.responses.create(model=to.model, input="one")
    events = list(client.responses.create(model=to.model, input="two", previous_response_id=first.id, stream=True))
    said = {event.response.previous_response_id for event in events if hasattr(event, "response")}
    equal(said, {first.id})
    equal(client.responses.retrieve(events[-1].response.id).previous_response_id, first.id)


@case(calls=3)
def an_item_is_named_instead_of_repeated(to):
    to.mock.script({"text": "a word to remember"}, {"text": "two"}, {"text": "three"})
    first = client.responses.create(model=to.model, input="one")
    named = {"type": "item_reference", "id": first.output[0].id}
    second = client.responses.create(model=to.model, input=[{"role": "user", "content": "one"}, named, {"role": "user", "content": "go on"}])
    equal(second.output_text, "two")
    holds("a word to remember" in json.dumps(to.mock.sent()), to.mock.sent())
    # What is kept of it can be gone on from.
    third = client.responses.create(model=to.model, input="more", previous_response_id=second.id)
    equal(third.output_text, "three")
    holds("a word to remember" in json.dumps(to.mock.sent()), to.mock.sent())


@case(calls=None)
def what_is_not_to_be_kept_is_not(to):
    response = client.responses.create(model=to.model, input="one", store=False)
    if to.name not in sdk.own:
        raises(openai.NotFoundError, lambda: client.responses.retrieve(response.id))
        raises(openai.BadRequestError, lambda: client.responses.create(model=to.model, input="two", previous_response_id=response.id))


@case(calls=2)
def the_streams_helper_and_the_parser(to):
    class Place(BaseModel):
        city: str
        notes: list[str]

    parsed = client.responses.parse(model=to.model, input="Where?", text_format=Place)
    equal(parsed.output_parsed, Place(city="text", notes=["text"]))
    with client.responses.stream(model=to.model, input="Where?", text_format=Place) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    equal(final.output_parsed, Place(city="text", notes=["text"]))
    equal((kinds[0], kinds[1], kinds[-1]), ("response.created", "response.in_progress", "response.completed"))


@case(calls=2, only=("rs", "an", "ge", "be"))
def reasoning_comes_back(to):
    to.mock.script({"thinking": "Hm.", "signature": SIGNED, "tools": [{"name": "clock", "arguments": {}}]}, {"text": "Noon."})
    model = to.model if to.name in ("rs", "ge") else f"{to.name}/claude-opus-4-0"
    said = sdk.ask(model, SAY, tools=TOOLS, think=True)
    equal((said.thought, [name for _, name, _ in said.calls]), ("Hm.", ["clock"]))
    last = sdk.ask(model, [*SAY, ("said", said), ("results", [(id, name, "noon") for id, name, _ in said.calls])],
                   tools=TOOLS, think=True)
    equal(last.text, "Noon.")
    noted = to.mock.calls()[-1]["noted"]["signatures"]
    equal((noted["returned"], noted["foreign"]), (1, []))


@case(calls=None)
def a_forced_call(to):
    tools = sdk.asked("m", SAY, tools=TOOLS)["tools"]
    if to.name == "co":
        to.mock.script({"tools": CALLS[:1]})
    for choice in ({"type": "function", "name": "weather"}, "required"):
        def ask():
            return client.responses.create(model=to.model, input="go", tools=tools, tool_choice=choice)

        if to.name == "ol":
            raises(openai.BadRequestError, ask)
            continue
        answer = ask()
        equal(answer.output[-1].type, "function_call")
    to.mock.script()
    client.responses.create(model=to.model, input="go", tools=tools, tool_choice="auto", parallel_tool_calls=True)


@case(calls=1)
def a_document(to):
    if to.name in ("co", "ol"):
        raises(openai.BadRequestError, lambda: document(to))
        client.responses.create(model=to.model, input="go")
        return
    document(to)


def document(to):
    data = "JVBERi0xLjQKJcOkw7zDtsOfCg=="
    file = {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{data}"}
    client.responses.create(model=to.model, input=[{"role": "user", "content": [file, {"type": "input_text", "text": "Read it."}]}])
    holds(data in json.dumps(to.mock.sent()), to.mock.sent())


@case(calls=1)
def sampling_and_metadata(to):
    answer = client.responses.create(model=to.model, input="go", temperature=0.5, top_p=0.9, max_output_tokens=50,
                                     metadata={"a": "b"}, user="someone", truncation="auto")
    equal((answer.temperature, answer.top_p, answer.max_output_tokens, answer.metadata), (0.5, 0.9, 50, {"a": "b"}))


@case(calls=None)
def tokens_are_counted(to):
    counted = client.responses.input_tokens.count(model=to.model, input="How many tokens are these?")
    holds(3 <= counted.input_tokens <= 20, counted)


@case(calls=1)
def a_kept_answer_is_its_keys_alone(to):
    first = client.responses.create(model=to.model, input="one")
    if to.name not in sdk.own:
        raises(openai.NotFoundError, lambda: connect(NARROW_KEY).responses.retrieve(first.id))


if __name__ == "__main__":
    main(EVERY)
