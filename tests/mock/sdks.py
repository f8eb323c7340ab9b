"""The official SDKs against the fake provider itself: their own types must take all that it says.

Started by `sdks.rs` with the provider's address; an SDK that is not installed is passed over, and said so.
"""

import importlib.util
import json
import sys
import traceback
import urllib.request

URL = sys.argv[1]
CASES = []


def case(*packages):
    def keep(run):
        CASES.append((run, packages))
        return run
    return keep


def script(**step):
    rules = {"rule": [{"name": "sdk", "steps": [step]}]} if step else {}
    body = json.dumps({**rules, "models": ["mock-small"]}).encode()
    urllib.request.urlopen(urllib.request.Request(f"{URL}/_script", body, method="POST")).read()


def calls():
    return json.load(urllib.request.urlopen(f"{URL}/_calls"))


def equal(found, wanted):
    if found != wanted:
        raise AssertionError(f"{found!r} is not {wanted!r}")


def holds(fact, what):
    if not fact:
        raise AssertionError(what)


TEXT = "Grüße, one two three four"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
          "additionalProperties": False}
WEATHER = {"name": "weather", "arguments": {"city": "Rome"}}
SAID = {"text": TEXT, "thinking": "hm hm hm"}


def strictly(model):
    """Reads what a model was built from again, strictly: the SDK itself forgives nearly everything."""
    type(model).model_validate(model.model_dump(mode="python"), strict=False)
    # The API says `store`, its SDK's type doesn't.
    extra = set(model.model_extra or {}) - {"store"}
    holds(not extra, f"{type(model).__name__} has unknown fields {extra}")


def openai():
    from openai import OpenAI
    return OpenAI(base_url=f"{URL}/v1", api_key="k", max_retries=0)


@case("openai")
def responses_stream_and_whole_say_the_same():
    client = openai()
    script(**SAID, tools=[WEATHER], signature="c2ln")
    asked = {"model": "m", "input": "hi", "include": ["reasoning.encrypted_content"], "store": False,
             "reasoning": {"effort": "low", "summary": "auto"},
             "tools": [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}]}
    whole = client.responses.create(**asked)
    strictly(whole)
    equal(whole.output_text, TEXT)
    equal([item.type for item in whole.output], ["reasoning", "message", "function_call"])
    equal(whole.output[0].encrypted_content, "c2ln")
    with client.responses.stream(**asked) as stream:
        events = list(stream)
        final = stream.get_final_response()
    for number, event in enumerate(events):
        equal(event.sequence_number, number)
    equal(final.output_text, TEXT)
    equal(final.usage.model_dump(), whole.usage.model_dump())
    equal(json.loads(final.output[2].arguments), {"city": "Rome"})
    items = [item.model_dump(exclude_none=True) for item in whole.output]
    result = {"type": "function_call_output", "call_id": whole.output[2].call_id, "output": "sunny"}
    client.responses.create(**{**asked, "input": [{"role": "user", "content": "hi"}, *items, result]})
    last = calls()[-1]
    equal(last["noted"]["signatures"]["returned"], 1)


@case("openai")
def responses_fill_a_schema_end_early_and_can_be_asked_for_again():
    from pydantic import BaseModel

    class Place(BaseModel):
        city: str

    client = openai()
    script()
    parsed = client.responses.parse(model="m", input="where?", text_format=Place)
    equal(parsed.output_parsed.city, "text")
    kept = client.responses.retrieve(parsed.id)
    equal(kept.output_text, parsed.output_text)
    equal(client.responses.input_items.list(parsed.id).data[0].content[0].text, "where?")
    client.responses.delete(parsed.id)
    script(text="cut", finish="length")
    events = list(client.responses.create(model="m", input="hi", stream=True))
    equal(events[-1].type, "response.incomplete")
    equal(events[-1].response.incomplete_details.reason, "max_output_tokens")
    script(refusal="No.")
    equal(client.responses.create(model="m", input="hi").output[0].content[0].refusal, "No.")
    equal(client.responses.input_tokens.count(model="m", input="12345678").input_tokens, 2)


@case("openai")
def completions_say_their_text():
    client = openai()
    script(text=TEXT)
    whole = client.completions.create(model="m", prompt="hi", n=2)
    strictly(whole)
    equal([choice.text for choice in whole.choices], [TEXT, TEXT])
    chunks = list(client.completions.create(
        model="m", prompt="hi", stream=True, stream_options={"include_usage": True}))
    equal("".join(chunk.choices[0].text for chunk in chunks if chunk.choices), TEXT)
    holds(chunks[-1].usage.completion_tokens, "usage")


@case("openai")
def the_other_apis_of_openai_answer():
    client = openai()
    script()
    one = client.embeddings.create(model="m", input=["a", "b"], dimensions=16)
    same = client.embeddings.create(model="m", input="b", dimensions=16, encoding_format="float")
    equal(len(one.data[1].embedding), 16)
    holds(all(abs(a - b) < 1e-6 for a, b in zip(one.data[1].embedding, same.data[0].embedding)), "base64 is the same")
    judged = client.moderations.create(model="m", input=["nice", "violence"])
    strictly(judged)
    equal([result.flagged for result in judged.results], [False, True])
    image = client.images.generate(model="m", prompt="a cat", n=2)
    strictly(image)
    holds(len(image.data) == 2 and image.data[0].b64_json, "images")
    edited = client.images.edit(model="m", image=b"png", prompt="a dog")
    equal(edited.data[0].revised_prompt, "a dog")
    equal(client.audio.speech.create(model="m", voice="alloy", input="hi").content, b"mock audio: hi")
    heard = client.audio.transcriptions.create(model="m", file=("a.mp3", b"sound"))
    equal(heard.text, "a.mp3 has 5 bytes.")
    long = client.audio.transcriptions.create(model="m", file=("a.mp3", b"sound"), response_format="verbose_json")
    equal(long.segments[0].text, "a.mp3 has 5 bytes.")
    equal(client.audio.translations.create(model="m", file=("a.mp3", b"s"), response_format="text"), "a.mp3 has 1 bytes.\n")
    file = client.files.create(file=("in.jsonl", b"{}\n" * 9), purpose="batch")
    strictly(file)
    equal(client.files.content(file.id).content, b"{}\n" * 9)
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    strictly(batch)
    equal(client.batches.retrieve(batch.id).input_file_id, file.id)
    equal(client.batches.cancel(batch.id).status, "cancelled")
    equal([known.id for known in client.files.list()], [file.id])
    holds(client.files.delete(file.id).deleted, "deleted")
    video = client.videos.create(prompt="waves")
    equal(client.videos.retrieve(video.id).id, video.id)
    equal([model.id for model in client.models.list()], ["mock-small"])


@case("openai")
def azure_leads_to_the_same():
    from openai import AzureOpenAI
    client = AzureOpenAI(azure_endpoint=URL, api_key="k", api_version="2024-10-21", max_retries=0)
    script()
    answer = client.chat.completions.create(model="my-model", messages=[{"role": "user", "content": "hey"}])
    equal((answer.choices[0].message.content, answer.model), ("hey", "my-model"))


@case("anthropic")
def vertex_and_bedrock_say_what_anthropic_says():
    import anthropic
    script(**SAID, tools=[WEATHER])
    asked = {"model": "claude-x", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
    plain = anthropic.Anthropic(base_url=URL, api_key="k", max_retries=0)
    equal(plain.messages.count_tokens(model="m", messages=asked["messages"]).input_tokens, 1)
    clients = [plain]
    for module, more in (("AnthropicBedrock", {"aws_access_key": "AK", "aws_secret_key": "s", "aws_region": "eu-west-1"}),
                         ("AnthropicVertex", {"access_token": "t", "project_id": "p", "region": "us-east5"})):
        try:
            base = f"{URL}/v1" if module == "AnthropicVertex" else URL
            clients.append(getattr(anthropic, module)(base_url=base, max_retries=0, **more))
        except ImportError as error:
            print(f"{module} is passed over: {error}")
    for client in clients:
        try:
            whole = client.messages.create(**asked)
        except ImportError as error:
            print(f"{type(client).__name__} is passed over: {error}")
            continue
        with client.messages.stream(**asked) as stream:
            final = stream.get_final_message()
        equal([block.type for block in whole.content], ["thinking", "text", "tool_use"])
        equal(final.content[1].text, TEXT)
        equal(final.content[2].input, {"city": "Rome"})
        equal(calls()[-1]["model"], "claude-x")


@case("google.genai")
def gemini_streams_and_keeps_its_signatures():
    from google import genai
    from google.genai import types
    for vertex in (False, True):
        options = types.HttpOptions(base_url=URL, api_version="v1beta1" if vertex else "v1beta")
        if vertex:
            from google.oauth2.credentials import Credentials
            client = genai.Client(vertexai=True, project="p", location="l", credentials=Credentials("t"), http_options=options)
        else:
            client = genai.Client(api_key="k", http_options=options)
        script(**SAID, tools=[WEATHER], signature="c2lnbmVk")
        weather = types.Tool(function_declarations=[{"name": "weather", "parameters_json_schema": SCHEMA}])
        config = types.GenerateContentConfig(tools=[weather], automatic_function_calling={"disable": True},
                                             system_instruction="be brief")
        whole = client.models.generate_content(model="gemini-3-x", contents="hi", config=config)
        equal(whole.function_calls[0].args, {"city": "Rome"})
        equal(whole.usage_metadata.thoughts_token_count, 2)
        chunks = list(client.models.generate_content_stream(model="gemini-3-x", contents="hi", config=config))
        parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]
        equal("".join(part.text for part in parts if part.text and not part.thought), TEXT)
        equal(chunks[-1].candidates[0].finish_reason, "STOP")
        equal(chunks[-1].usage_metadata.total_token_count, whole.usage_metadata.total_token_count)
        result = types.Part.from_function_response(name="weather", response={"sky": "blue"})
        turns = [types.Content(role="user", parts=[types.Part(text="hi")]), whole.candidates[0].content,
                 types.Content(role="user", parts=[result])]
        client.models.generate_content(model="gemini-3-x", contents=turns, config=config)
        last = calls()[-1]
        equal(last["noted"]["signatures"], {"returned": 1, "missing": [], "foreign": [], "skipped": 0})
        equal(last["problems"], [])
        script()
        equal(client.models.count_tokens(model="g", contents="12345678").total_tokens, 2)
        config = types.EmbedContentConfig(output_dimensionality=4)
        embedded = client.models.embed_content(model="gemini-embedding-001", contents=["a", "b"], config=config)
        equal([len(one.values) for one in embedded.embeddings], [4, 4])


@case("boto3")
def bedrock_converses():
    import boto3
    client = boto3.client("bedrock-runtime", endpoint_url=URL, region_name="eu-west-1",
                          aws_access_key_id="AKID", aws_secret_access_key="secret")
    script(**SAID, tools=[WEATHER])
    model = "anthropic.claude-v9:0"
    asked = {"modelId": model, "messages": [{"role": "user", "content": [{"text": "hi"}]}],
             "inferenceConfig": {"maxTokens": 9}}
    whole = client.converse(**asked)
    kinds = [next(iter(block)) for block in whole["output"]["message"]["content"]]
    equal(kinds, ["reasoningContent", "text", "toolUse"])
    equal(whole["stopReason"], "tool_use")
    events = list(client.converse_stream(**asked)["stream"])
    deltas = [event["contentBlockDelta"]["delta"] for event in events if "contentBlockDelta" in event]
    equal("".join(delta.get("text", "") for delta in deltas), TEXT)
    equal(json.loads("".join(delta["toolUse"]["input"] for delta in deltas if "toolUse" in delta)), {"city": "Rome"})
    equal(events[-1]["metadata"]["usage"], whole["usage"])
    last = calls()[-1]
    equal((last["model"], last["problems"]), (model, []))
    equal(last["noted"]["credential"]["kind"], "sigv4")
    equal(last["noted"]["credential"]["region"], "eu-west-1")
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    invoked = json.loads(client.invoke_model(modelId=model, body=json.dumps(body))["body"].read())
    equal(invoked["content"][1]["text"], TEXT)
    equal(calls()[-1]["problems"], [])
    stream = client.invoke_model_with_response_stream(modelId=model, body=json.dumps(body))["body"]
    chunks = [json.loads(event["chunk"]["bytes"]) for event in stream]
    equal(chunks[0]["type"], "message_start")
    equal("".join(chunk["delta"].get("text", "") for chunk in chunks if "delta" in chunk), TEXT)
    titan = client.invoke_model(modelId="amazon.titan-embed-text-v2:0", body=json.dumps({"inputText": "a", "dimensions": 4}))
    equal(len(json.loads(titan["body"].read())["embedding"]), 4)
    script(status=429)
    from botocore.config import Config
    from botocore.exceptions import ClientError
    once = boto3.client("bedrock-runtime", endpoint_url=URL, region_name="eu-west-1", aws_access_key_id="AKID",
                        aws_secret_access_key="secret", config=Config(retries={"total_max_attempts": 1}))
    try:
        once.converse(**asked)
        raise AssertionError("no error")
    except ClientError as error:
        equal(error.response["Error"]["Code"], "ThrottlingException")
    script(text=TEXT, error_event={"at": 1, "type": "ThrottlingException"})
    try:
        list(once.converse_stream(**asked)["stream"])
        raise AssertionError("no error")
    except ClientError as error:
        equal(error.response["Error"]["Code"], "throttlingException")


@case("cohere")
def cohere_chats_embeds_and_reranks():
    import cohere
    client = cohere.ClientV2("k", base_url=URL)
    script(**SAID)
    asked = {"model": "command", "messages": [{"role": "user", "content": "hi"}]}
    whole = client.chat(**asked)
    equal([part.type for part in whole.message.content], ["thinking", "text"])
    equal(whole.message.content[1].text, TEXT)
    events = list(client.chat_stream(**asked))
    texts = [event.delta.message.content.text for event in events if event.type == "content-delta"]
    equal("".join(text for text in texts if text), TEXT)
    equal(events[-1].delta.finish_reason, "COMPLETE")
    equal(events[-1].delta.usage.tokens.output_tokens, whole.usage.tokens.output_tokens)
    script(text="I look.", tools=[WEATHER])
    whole = client.chat(**asked)
    equal(json.loads(whole.message.tool_calls[0].function.arguments), {"city": "Rome"})
    equal(whole.message.tool_plan, "I look.")
    events = list(client.chat_stream(**asked))
    kinds = [event.type for event in events]
    equal((kinds.count("tool-call-start"), kinds.count("tool-call-end")), (1, 1))
    script()
    embedded = client.embed(model="m", texts=["a", "b"], input_type="search_query", embedding_types=["float"],
                            output_dimension=4)
    equal([len(one) for one in embedded.embeddings.float_], [4, 4])
    ranked = client.rerank(model="m", query="red fox", documents=["a dog", "a red fox", "red"], top_n=2)
    equal([result.index for result in ranked.results], [1, 2])
    equal(calls()[-1]["problems"], [])


@case("ollama")
def ollama_chats_and_embeds():
    import ollama
    client = ollama.Client(host=URL)
    script(**SAID, tools=[WEATHER])
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    whole = client.chat(**asked)
    equal((whole.message.content, whole.message.thinking), (TEXT, "hm hm hm"))
    equal(whole.message.tool_calls[0].function.arguments, {"city": "Rome"})
    chunks = list(client.chat(**asked, stream=True))
    equal("".join(chunk.message.content for chunk in chunks), TEXT)
    equal((chunks[-1].done, chunks[-1].eval_count), (True, whole.eval_count))
    equal(calls()[-1]["problems"], [])
    script()
    equal(len(client.embed(model="m", input=["a", "b"]).embeddings), 2)
    equal([model.model for model in client.list().models], ["mock-small"])


failed = 0
for run, packages in CASES:
    try:
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
    except ModuleNotFoundError:
        missing = packages
    if missing:
        print(f"{run.__name__} is passed over: no {', '.join(missing)}")
        continue
    try:
        run()
    except Exception:
        failed += 1
        print(f"--- {run.__name__}")
        traceback.print_exc(file=sys.stdout)
        print("last call:", json.dumps(calls()[-1:])[:3000])
print(f"{len(CASES)} cases, {failed} failed")
sys.exit(1 if failed else 0)
