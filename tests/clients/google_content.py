"""Google's SDK (google-genai) against every protocol that is spoken upstream."""

import base64
import json

from google import genai
from google.genai import errors, types

from chats import EVERY, PLACE, SAY, Said, Sdk, TOOLS, cases
from lab import FRESH, GATEWAY, KEY, case, equal, holds, main, raises


def connect(key=KEY):
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=GATEWAY, headers=FRESH))


client = connect()


class Content(Sdk):
    name = "gemini"
    own = ("ge",)
    errors = {400: errors.ClientError, 404: errors.ClientError, 429: errors.ClientError, 500: errors.ServerError}
    stops = {"STOP": "end", "MAX_TOKENS": "length"}

    def status(self, error):
        return error.code

    def contents(self, turns):
        for turn in turns:
            match turn:
                case ("user", text):
                    yield types.Content(role="user", parts=[types.Part(text=text)])
                case ("assistant", text):
                    yield types.Content(role="model", parts=[types.Part(text=text)])
                case ("image", text, data):
                    image = types.Part.from_bytes(data=base64.b64decode(data), mime_type="image/png")
                    yield types.Content(role="user", parts=[image, types.Part(text=text)])
                case ("said", said):
                    yield said.turn
                case ("results", results):
                    yield types.Content(role="user", parts=[
                        types.Part(function_response=types.FunctionResponse(id=id, name=name, response={"output": text}))
                        for id, name, text in results])

    def ask(self, model, turns, system=None, tools=None, schema=None, stream=False, most=None, think=False):
        config = types.GenerateContentConfig(
            system_instruction=system, max_output_tokens=most, automatic_function_calling={"disable": True})
        if tools:
            config.tools = [types.Tool(function_declarations=[
                types.FunctionDeclaration(name=tool["name"], description=tool["description"],
                                          parameters_json_schema=tool["schema"]) for tool in tools])]
        if schema:
            config.response_mime_type = "application/json"
            config.response_json_schema = schema
        if think:
            config.thinking_config = types.ThinkingConfig(include_thoughts=True, thinking_budget=1024)
        asked = {"model": model, "contents": list(self.contents(turns)), "config": config}
        if stream:
            chunks = list(client.models.generate_content_stream(**asked))
        else:
            chunks = [client.models.generate_content(**asked)]
        parts = [part for chunk in chunks for candidate in chunk.candidates or []
                 for part in (candidate.content and candidate.content.parts) or []]
        calls = [(part.function_call.id, part.function_call.name, part.function_call.args or {})
                 for part in parts if part.function_call]
        reasons = [candidate.finish_reason for chunk in chunks for candidate in chunk.candidates or [] if candidate.finish_reason]
        if not reasons:
            # The SDK says nothing of a stream that broke; whoever reads one looks for its end.
            raise errors.ServerError(500, {"message": "no end"})
        stop = self.stops[reasons[-1]]
        usage = chunks[-1].usage_metadata
        return Said("".join(part.text for part in parts if part.text and not part.thought), calls,
                    "calls" if calls and stop == "end" else stop, (usage.prompt_token_count, usage.candidates_token_count),
                    "".join(part.text for part in parts if part.text and part.thought),
                    types.Content(role="model", parts=parts), len(parts))


sdk = Content()
cases(sdk)
TURN = list(sdk.contents(SAY))


@case(calls=2)
def an_enum_and_a_pydantic_schema(to):
    import pydantic

    class Place(pydantic.BaseModel):
        city: str
        notes: list[str]
        size: int | None = None

    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=Place)
    answer = client.models.generate_content(model=to.model, contents="Where?", config=config)
    equal((answer.parsed.city, answer.parsed.notes), ("text", ["text"]))
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema={
        "type": "OBJECT", "properties": {"sky": {"type": "STRING", "enum": ["blue", "grey"]}}, "required": ["sky"]})
    answer = client.models.generate_content(model=to.model, contents="Which?", config=config)
    equal(json.loads(answer.text), {"sky": "blue"})


@case(calls=2)
def a_python_function_is_called(to):
    def weather(city: str, unit: str) -> str:
        """The weather.

        Args:
          city: Where.
          unit: Of the degrees.
        """
        return f"sun over {city} in {unit}"

    to.mock.script({"tools": [{"name": "weather", "arguments": {"city": "Rome", "unit": "c"}}]}, {"text": "Sunny."})
    config = types.GenerateContentConfig(tools=[weather])
    answer = client.models.generate_content(model=to.model, contents="How is it in Rome?", config=config)
    equal(answer.text, "Sunny.")
    equal(len(answer.automatic_function_calling_history), 3)
    holds("sun over Rome in c" in json.dumps(to.mock.sent()), to.mock.sent())


@case(calls=None)
def a_forced_call(to):
    config = types.GenerateContentConfig(
        automatic_function_calling={"disable": True},
        tools=[types.Tool(function_declarations=[
            types.FunctionDeclaration(name="weather", parameters_json_schema=PLACE),
            types.FunctionDeclaration(name="clock", description="The time.")])])
    for mode, names in (("ANY", ["weather"]), ("ANY", None), ("NONE", None)):
        config.tool_config = types.ToolConfig(
            function_calling_config=types.FunctionCallingConfig(mode=mode, allowed_function_names=names))
        if to.name == "ol" and mode != "NONE":
            raises(errors.ClientError, lambda: client.models.generate_content(model=to.model, contents="go", config=config))
            continue
        if to.name == "co" and mode != "NONE":
            to.mock.script({"tools": [{"name": "weather", "arguments": {}}]})
        answer = client.models.generate_content(model=to.model, contents="go", config=config)
        equal([call.name for call in answer.function_calls or []][:1], [] if mode == "NONE" else ["weather"])
        to.mock.script()


@case(calls=3)
def a_chat_keeps_its_turns(to):
    chat = client.chats.create(model=to.model)
    equal(chat.send_message("one").text, "one")
    equal("".join(chunk.text or "" for chunk in chat.send_message_stream("two")), "two")
    holds(len(chat.get_history()) >= 4, chat.get_history())
    equal(chat.send_message("three").text, "three")


@case(calls=1)
def an_async_stream(to):
    import asyncio

    async def run():
        text = ""
        async for chunk in await client.aio.models.generate_content_stream(model=to.model, contents="hello there"):
            text += chunk.text or ""
        return text

    equal(asyncio.run(run()), "hello there")


@case(calls=1)
def sampling(to):
    # OpenAI's responses take no stop sequences.
    stops = [] if to.name == "rs" else ["end"]
    config = types.GenerateContentConfig(temperature=0.5, top_p=0.9, top_k=40, max_output_tokens=50, stop_sequences=stops)
    client.models.generate_content(model=to.model, contents="go", config=config)
    sent = json.dumps(to.mock.sent())
    holds("0.5" in sent and "50" in sent, sent)


@case(calls=2, only=("ge", "an", "be"))
def thoughts_and_their_signatures_come_back(to):
    import chats

    to.mock.script({"thinking": "Hm.", "signature": chats.SIGNED, "tools": [{"name": "clock", "arguments": {}}]}, {"text": "Noon."})
    model = f"{to.name}/claude-opus-4-0" if to.name != "ge" else to.model
    said = sdk.ask(model, SAY, tools=TOOLS, think=True)
    equal((said.thought, [name for _, name, _ in said.calls]), ("Hm.", ["clock"]))
    last = sdk.ask(model, [*SAY, ("said", said), ("results", [(id, name, "noon") for id, name, _ in said.calls])],
                   tools=TOOLS, think=True)
    equal(last.text, "Noon.")
    noted = to.mock.calls()[-1]["noted"]["signatures"]
    equal((noted["returned"], noted["foreign"]), (1, []))


@case(calls=None)
def tokens_are_counted(to):
    counted = client.models.count_tokens(model=to.model, contents="How many tokens are these?")
    holds(3 <= counted.total_tokens <= 20, counted)


@case(calls=0, only="ge")
def errors_of_the_gateway(to):
    # The SDK closes what a client that is gone had open.
    wrong = connect("wrong-key")
    error = raises(errors.ClientError, lambda: wrong.models.generate_content(model=to.model, contents="hi"))
    equal((error.code, error.status), (401, "UNAUTHENTICATED"))
    error = raises(errors.ClientError, lambda: client.models.generate_content(model="nothing", contents="hi"))
    equal((error.code, error.status), (404, "NOT_FOUND"))
    config = {"http_options": {"headers": {"x-strait-timeout": "soon"}}}
    error = raises(errors.ClientError, lambda: client.models.generate_content(model=to.model, contents="hi", config=config))
    equal((error.code, error.status), (400, "INVALID_ARGUMENT"))


@case(calls=0, only="ge")
def models_are_listed(to):
    listed = list(client.models.list(config={"query_base": True}))
    holds(any("gemini-2.5-pro" in (model.name or "") for model in listed), [model.name for model in listed][:20])
    one = client.models.get(model="gemini/gemini-2.5-pro")
    holds(one.input_token_limit and one.output_token_limit, one)
    holds("generateContent" in one.supported_actions, one)


@case(calls=None, only=("ge", "oa", "co", "ol", "az"))
def embeddings(to):
    one = client.models.embed_content(model=to.model, contents="one")
    two = client.models.embed_content(model=to.model, contents=["one", "two"],
                                      config=types.EmbedContentConfig(task_type="RETRIEVAL_QUERY") if to.name in ("ge", "co") else None)
    equal(len(two.embeddings), 2)
    equal(two.embeddings[0].values[:3], one.embeddings[0].values[:3])
    small = client.models.embed_content(model=to.model, contents=["one"], config=types.EmbedContentConfig(output_dimensionality=8))
    equal(len(small.embeddings[0].values), 8)


@case(calls=2)
def vertex_paths_lead_to_the_same(to):
    from google.oauth2.credentials import Credentials
    vertex = genai.Client(vertexai=True, project="p", location="l", credentials=Credentials(KEY),
                          http_options=types.HttpOptions(base_url=GATEWAY, headers=FRESH))
    equal(vertex.models.generate_content(model=to.model, contents="over vertex").text, "over vertex")
    chunks = vertex.models.generate_content_stream(model=to.model, contents="over vertex")
    equal("".join(chunk.text or "" for chunk in chunks), "over vertex")


if __name__ == "__main__":
    main(EVERY)
