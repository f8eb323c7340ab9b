"""Validates translated answers with the official SDKs' own types and clients.

Reads JSON lines from the file named first: {"name", "kind", "body"}. `kind` is one of openai.message,
openai.stream, openai.response, openai.response.stream, openai.embeddings, openai.images, openai.transcription,
anthropic.message, anthropic.stream, anthropic.beta.message, anthropic.beta.stream, gemini.response, gemini.stream,
ollama.message, ollama.stream, cohere.message, cohere.stream, completions.message, completions.stream; the body of a
stream is its text. Each object must fit the SDK's type strictly, and each answer must come out of the SDK's client, which is fed from memory; where a line has
"said": {"text", "calls": [[name, arguments]]}, the client must see that. Prints one line per fault and ends with 1 if
there was any, with 77 if the packages are absent.
"""

import importlib
import json
import sys

try:
    import anthropic
    import anthropic.types
    import anthropic.types.beta
    import openai
    import openai.types.audio
    import openai.types
    import openai.types.chat
    import openai.types.responses
    from pydantic import TypeAdapter
except ImportError as error:
    print(f"the packages are absent: {error}")
    sys.exit(77)


def http_package(sdk):
    """The HTTP package that an SDK is built on: its versions differ in this."""
    base = importlib.import_module(f"{sdk}._base_client")
    return vars(base).get("httpx2") or importlib.import_module("httpx")


HTTP = {sdk: http_package(sdk) for sdk in ("openai", "anthropic")}
ADAPTERS = {
    "openai.message": TypeAdapter(openai.types.chat.ChatCompletion),
    "openai.stream": TypeAdapter(openai.types.chat.ChatCompletionChunk),
    "openai.response": TypeAdapter(openai.types.responses.Response),
    "openai.response.stream": TypeAdapter(openai.types.responses.ResponseStreamEvent),
    "openai.embeddings": TypeAdapter(openai.types.CreateEmbeddingResponse),
    "openai.images": TypeAdapter(openai.types.ImagesResponse),
    "openai.transcription": TypeAdapter(openai.types.audio.Transcription),
    "anthropic.message": TypeAdapter(anthropic.types.Message),
    "anthropic.stream": TypeAdapter(anthropic.types.RawMessageStreamEvent),
    "anthropic.beta.message": TypeAdapter(anthropic.types.beta.BetaMessage),
    "anthropic.beta.stream": TypeAdapter(anthropic.types.beta.BetaRawMessageStreamEvent),
}
ADAPTERS["completions.message"] = ADAPTERS["completions.stream"] = TypeAdapter(openai.types.Completion)
SAY = [{"role": "user", "content": "q"}]


def fits(kind, text):
    # From JSON text, so that strictness means JSON's types and not Python's.
    if kind == "completions.stream":
        # The type wants a reason in every chunk; OpenAI gives null until the last one.
        text = text.replace('"finish_reason":null', '"finish_reason":"stop"')
    return ADAPTERS[kind].validate_json(text, strict=True)


def data_lines(stream):
    """The data of every event that the SDKs look at: not the pings, not the end mark."""
    for line in stream.splitlines():
        data = line.removeprefix("data:").strip()
        if line.startswith("data:") and data != "[DONE]" and json.loads(data).get("type") != "ping":
            yield data


class Client:
    """An SDK's client whose answers are put there beforehand."""

    def __init__(self, sdk, maker):
        self.kind = self.text = ""
        self.http = HTTP[sdk]
        wire = self.http.Client(transport=self.http.MockTransport(self.answer))
        self.sdk = maker(api_key="none", base_url="http://127.0.0.1:1", http_client=wire, max_retries=0)

    def answer(self, _request):
        media = "text/event-stream" if self.kind.endswith(".stream") else "application/json"
        head = {"content-type": media}
        return self.http.Response(200, headers=head, content=self.text.encode())


CLIENTS = {
    "openai": Client("openai", openai.OpenAI),
    "completions": Client("openai", openai.OpenAI),
    "anthropic": Client("anthropic", anthropic.Anthropic),
}


class Gemini:
    """Google's client, whose answers are put there beforehand; made when there is something of its own to check."""

    made = None

    def __init__(self):
        import httpx
        from google import genai
        from google.genai import types

        self.kind = self.text = ""
        self.httpx = httpx
        # Its types forbid unknown fields. Not strict: it takes enumerations for strings by itself.
        self.adapter = TypeAdapter(types.GenerateContentResponse)
        wire = httpx.Client(transport=httpx.MockTransport(self.answer))
        options = types.HttpOptions(base_url="http://127.0.0.1:1", httpx_client=wire)
        self.models = genai.Client(api_key="none", vertexai=False, http_options=options).models

    def answer(self, _request):
        media = "text/event-stream" if self.kind.endswith(".stream") else "application/json"
        return self.httpx.Response(200, headers={"content-type": media}, content=self.text.encode())

    def check(self, kind, text):
        self.kind, self.text = kind, text
        if kind == "gemini.response":
            self.adapter.validate_json(text)
            answers = [self.models.generate_content(model="m", contents="q")]
        else:
            for part in data_lines(text):
                self.adapter.validate_json(part)
            answers = list(self.models.generate_content_stream(model="m", contents="q"))
        assert answers[-1].candidates[0].finish_reason, "the client saw no end"
        contents = [one.candidates[0].content for one in answers if one.candidates]
        parts = [part for content in contents if content for part in content.parts or []]
        return (
            [part.text for part in parts if part.text and not part.thought],
            [(part.function_call.name, part.function_call.args) for part in parts if part.function_call],
        )


def arguments(text):
    """Arguments as a value: none are an empty object."""
    try:
        return json.loads(text or "{}") or {}
    except ValueError:
        return {"_raw": text}


def seen_by_openai(message):
    calls = [call.function for call in message.tool_calls or []]
    return [message.content, message.refusal], [(call.name, arguments(call.arguments)) for call in calls]


def seen_by_responses(answer):
    contents = [part for item in answer.output if item.type == "message" for part in item.content]
    texts = [part.text if part.type == "output_text" else part.refusal for part in contents]
    calls = [item for item in answer.output if item.type == "function_call"]
    return texts, [(call.name, arguments(call.arguments)) for call in calls]


def seen_by_anthropic(message):
    blocks = message.content
    calls = [(block.name, block.input or {}) for block in blocks if block.type == "tool_use"]
    return [block.text for block in blocks if block.type == "text"], calls


def differs(seen, said):
    """What of the text and the calls that were said the client did not see."""
    texts, calls = seen
    text = "".join(text or "" for text in texts)
    if text != said["text"]:
        return f"the client saw {text!r} for {said['text']!r}"
    if [list(call) for call in calls] != said["calls"]:
        return f"the client saw {calls} for {said['calls']}"
    return None


class Ollama:
    """Ollama's client, whose answers are put there beforehand; made when there is something of its own to check."""

    made = None

    def __init__(self):
        import httpx
        import ollama

        self.text = ""
        self.httpx = httpx
        self.adapter = TypeAdapter(ollama.ChatResponse)
        self.client = ollama.Client(host="http://127.0.0.1:1", transport=httpx.MockTransport(self.answer))

    def answer(self, _request):
        return self.httpx.Response(200, content=self.text.encode())

    def check(self, kind, text):
        self.text = text
        for line in text.splitlines():
            self.adapter.validate_json(line)
        if kind == "ollama.message":
            answer = self.client.chat(model="m", messages=SAY)
        else:
            *_, answer = self.client.chat(model="m", messages=SAY, stream=True)
        assert answer.done and answer.done_reason, "the client saw no end"


class Cohere:
    """Cohere's client, whose answers are put there beforehand; made when there is something of its own to check."""

    made = None

    def __init__(self):
        import cohere
        import cohere.v2.types as types
        import httpx

        self.kind = self.text = ""
        self.httpx = httpx
        self.whole = TypeAdapter(types.V2ChatResponse)
        self.piece = TypeAdapter(types.V2ChatStreamResponse)
        wire = httpx.Client(transport=httpx.MockTransport(self.answer))
        self.client = cohere.ClientV2(api_key="none", base_url="http://127.0.0.1:1", httpx_client=wire)

    def answer(self, _request):
        media = "text/event-stream" if self.kind.endswith(".stream") else "application/json"
        return self.httpx.Response(200, headers={"content-type": media}, content=self.text.encode())

    def check(self, kind, text):
        self.kind, self.text = kind, text
        if kind == "cohere.message":
            self.whole.validate_json(text)
            answer = self.client.chat(model="m", messages=SAY)
            assert answer.finish_reason and answer.message, "the client saw no answer"
            return
        for part in data_lines(text):
            self.piece.validate_json(part)
        *_, last = self.client.chat_stream(model="m", messages=SAY)
        assert last.delta.finish_reason, "the client saw no end"


def bare(value):
    """A value without what the helper adds to it."""
    if isinstance(value, dict):
        return {key: bare(one) for key, one in value.items() if key not in ("parsed", "parsed_arguments")}
    return [bare(one) for one in value] if isinstance(value, list) else value


def check(kind, body):
    """Returns what the client saw of an answer: its texts and its calls."""
    text = body if kind.endswith(".stream") else json.dumps(body)
    if kind.startswith("cohere."):
        Cohere.made = Cohere.made or Cohere()
        return Cohere.made.check(kind, text)
    if kind.startswith("ollama."):
        Ollama.made = Ollama.made or Ollama()
        return Ollama.made.check(kind, text)
    if kind.startswith("gemini."):
        Gemini.made = Gemini.made or Gemini()
        return Gemini.made.check(kind, text)
    for part in data_lines(text) if kind.endswith(".stream") else [text]:
        fits(kind, part)
    wired = CLIENTS[kind.split(".")[0]]
    wired.kind, wired.text = kind, text
    client = wired.sdk
    if kind == "openai.message":
        return seen_by_openai(client.chat.completions.create(model="m", messages=SAY).choices[0].message)
    elif kind == "openai.stream":
        try:
            with client.chat.completions.stream(model="m", messages=SAY) as stream:
                stream.until_done()
                answer = stream.get_final_completion()
        except (openai.LengthFinishReasonError, openai.ContentFilterFinishReasonError):
            return None  # How this client tells these ends.
        assert answer.choices[0].finish_reason, "the client saw no end"
        return seen_by_openai(answer.choices[0].message)
    elif kind == "openai.response":
        return seen_by_responses(client.responses.create(model="m", input="q"))
    elif kind == "openai.response.stream":
        # Its helper raises for every end but a complete one: the events tell the same.
        events = list(client.responses.create(model="m", input="q", stream=True))
        last = events[-1]
        assert [event.sequence_number for event in events] == list(range(len(events))), "the numbers have gaps"
        assert last.type in ("response.completed", "response.incomplete"), "the client saw no end"
        if last.type == "response.completed":
            with client.responses.stream(model="m", input="q") as stream:
                stream.until_done()
                helped = stream.get_final_response()
            assert bare(helped.to_dict()["output"]) == bare(last.response.to_dict()["output"]), "the helper saw another answer"
        return seen_by_responses(last.response)
    elif kind == "openai.embeddings":
        # The SDK asks for base64 by itself, and takes numbers where they come.
        answer = client.embeddings.create(model="m", input=["q"])
        assert answer.data and all(isinstance(number, float | int) for one in answer.data for number in one.embedding)
    elif kind == "openai.images":
        assert client.images.generate(model="m", prompt="q").data, "the client saw no image"
    elif kind == "openai.transcription":
        assert client.audio.transcriptions.create(model="m", file=b"RIFF").text, "the client heard nothing"
    elif kind == "completions.message":
        answer = client.completions.create(model="m", prompt="q")
        return [answer.choices[0].text], []
    elif kind == "completions.stream":
        chunks = client.completions.create(model="m", prompt="q", stream=True)
        choices = [choice for chunk in chunks for choice in chunk.choices]
        ends = [choice.finish_reason for choice in choices if choice.finish_reason]
        assert len(ends) == 1, f"the client saw {len(ends)} ends"
        return [choice.text for choice in choices], []
    elif kind.endswith(".message"):
        messages = client.beta.messages if ".beta." in kind else client.messages
        return seen_by_anthropic(messages.create(model="m", max_tokens=1, messages=SAY))
    else:
        messages = client.beta.messages if ".beta." in kind else client.messages
        with messages.stream(model="m", max_tokens=1, messages=SAY) as stream:
            answer = stream.get_final_message()
        assert answer.stop_reason, "the client saw no end"
        return seen_by_anthropic(answer)
    return None


def main():
    faults = count = 0
    with open(sys.argv[1], encoding="utf-8") as lines:
        for line in lines:
            case = json.loads(line)
            count += 1
            try:
                seen = check(case["kind"], case["body"])
                fault = seen and "said" in case and differs(seen, case["said"])
                assert not fault, fault
            except Exception as error:  # noqa: BLE001 (whatever the SDK raises is the fault to tell)
                faults += 1
                told = f"{type(error).__name__}: {str(error)[:2000]}"
                print(f"{case['name']} ({case['kind']}): {told}")
    print(f"{count} checked, {faults} at fault")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
