"""AWS's SDK (boto3) against every protocol that is spoken upstream, with the gateway as its endpoint."""

import base64
import json
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from chats import EVERY, SAY, SIGNED, Said, Sdk, TOOLS, cases
from lab import CALLS, DIRECT, GATEWAY, KEY, case, equal, holds, main, raises


def connect(key=KEY, **more):
    """The key stands where AWS's access key id stands; the signature is made with anything."""
    once = Config(retries={"total_max_attempts": 1}, **more)
    client = boto3.client("bedrock-runtime", endpoint_url=GATEWAY, region_name="eu-west-1", aws_access_key_id=key,
                          aws_secret_access_key="anything", config=once)
    client.meta.events.register("before-sign.*.*", lambda request, **_: request.headers.add_header("x-strait-cache", "no-store"))
    return client


client = connect()


class Converse(Sdk):
    name = "bedrock"
    own = ("be",)
    errors = {400: client.exceptions.ValidationException, 404: client.exceptions.ResourceNotFoundException,
              429: client.exceptions.ThrottlingException,
              500: (client.exceptions.InternalServerException, client.exceptions.ModelErrorException)}
    stops = {"end_turn": "end", "max_tokens": "length", "tool_use": "calls"}

    def status(self, error):
        return error.response["ResponseMetadata"]["HTTPStatusCode"]

    def messages(self, turns):
        for turn in turns:
            match turn:
                case ("user" | "assistant" as role, text):
                    yield {"role": role, "content": [{"text": text}]}
                case ("image", text, data):
                    image = {"image": {"format": "png", "source": {"bytes": base64.b64decode(data)}}}
                    yield {"role": "user", "content": [image, {"text": text}]}
                case ("said", said):
                    yield said.turn
                case ("results", results):
                    yield {"role": "user", "content": [
                        {"toolResult": {"toolUseId": id, "content": [{"text": text}]}} for id, _, text in results]}

    def ask(self, model, turns, system=None, tools=None, schema=None, stream=False, most=None, think=False):
        asked = {"modelId": model, "messages": list(self.messages(turns))}
        if system:
            asked["system"] = [{"text": system}]
        if tools:
            asked["toolConfig"] = {"tools": [{"toolSpec": {
                "name": tool["name"], "description": tool["description"], "inputSchema": {"json": tool["schema"]}}} for tool in tools]}
        if schema:
            asked["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {
                "jsonSchema": {"schema": json.dumps(schema), "name": "place"}}}}
        if most:
            asked["inferenceConfig"] = {"maxTokens": most}
        if think:
            asked["additionalModelRequestFields"] = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
        if not stream:
            answer = client.converse(**asked)
            return self.said(answer["output"]["message"], answer["stopReason"], answer["usage"], 0)
        blocks, stop, usage, pieces = {}, None, {}, 0
        for event in client.converse_stream(**asked)["stream"]:
            [(kind, body)] = event.items()
            if kind == "contentBlockStart":
                use = body["start"]["toolUse"]
                blocks[body["contentBlockIndex"]] = {"toolUse": {**use, "input": ""}}
            elif kind == "contentBlockDelta":
                pieces += 1
                [(what, delta)] = body["delta"].items()
                at = body["contentBlockIndex"]
                if what == "text":
                    blocks.setdefault(at, {"text": ""})["text"] += delta
                elif what == "toolUse":
                    blocks[at]["toolUse"]["input"] += delta["input"]
                else:
                    thought = blocks.setdefault(at, {"reasoningContent": {"reasoningText": {"text": ""}}})
                    thought = thought["reasoningContent"]["reasoningText"]
                    thought["text"] += delta.get("text", "")
                    if "signature" in delta:
                        thought["signature"] = delta["signature"]
            elif kind == "messageStop":
                stop = body["stopReason"]
            elif kind == "metadata":
                usage = body["usage"]
        content = [blocks[at] for at in sorted(blocks)]
        for block in content:
            if "toolUse" in block:
                block["toolUse"]["input"] = json.loads(block["toolUse"]["input"] or "{}")
        if stop is None:
            raise EventStreamError({"Error": {"Code": "noEnd", "Message": "no end"}}, "ConverseStream")
        return self.said({"role": "assistant", "content": content}, stop, usage, pieces)

    def said(self, message, stop, usage, pieces):
        content = message["content"]
        calls = [(block["toolUse"]["toolUseId"], block["toolUse"]["name"], block["toolUse"]["input"])
                 for block in content if "toolUse" in block]
        thought = "".join(block["reasoningContent"].get("reasoningText", {}).get("text", "")
                          for block in content if "reasoningContent" in block)
        return Said("".join(block.get("text", "") for block in content), calls, self.stops[stop],
                    (usage["inputTokens"], usage["outputTokens"]), thought, message, pieces)


sdk = Converse()
cases(sdk)


@case(calls=2, only=("be", "an", "ge"))
def thoughts_and_their_signatures_come_back(to):
    to.mock.script({"thinking": "Hm.", "signature": SIGNED, "tools": [{"name": "clock", "arguments": {}}]}, {"text": "Noon."})
    model = to.model if to.name == "ge" else f"{to.name}/claude-opus-4-0"
    said = sdk.ask(model, SAY, tools=TOOLS, think=True)
    equal((said.thought, [name for _, name, _ in said.calls]), ("Hm.", ["clock"]))
    last = sdk.ask(model, [*SAY, ("said", said), ("results", [(id, name, "noon") for id, name, _ in said.calls])],
                   tools=TOOLS, think=True)
    equal(last.text, "Noon.")
    noted = to.mock.calls()[-1]["noted"]["signatures"]
    equal((noted["returned"], noted["foreign"]), (1, []))


@case(calls=None)
def a_forced_call(to):
    tools = {"tools": [{"toolSpec": {"name": tool["name"], "inputSchema": {"json": tool["schema"]}}} for tool in TOOLS]}
    messages = list(sdk.messages(SAY))
    if to.name == "co":
        to.mock.script({"tools": CALLS[:1]})
    for choice in ({"tool": {"name": "weather"}}, {"any": {}}):
        def ask():
            return client.converse(modelId=to.model, messages=messages, toolConfig={**tools, "toolChoice": choice})

        if to.name == "ol":
            raises(client.exceptions.ValidationException, ask)
            continue
        answer = ask()
        # A signature of Gemini's stands in a block before it.
        holds("toolUse" in answer["output"]["message"]["content"][-1], answer["output"])
    to.mock.script()
    client.converse(modelId=to.model, messages=messages, toolConfig={**tools, "toolChoice": {"auto": {}}})


@case(calls=1)
def a_document(to):
    if to.name in ("co", "ol"):
        # Neither takes documents in a turn.
        to.mock.script()
        raises(client.exceptions.ValidationException, lambda: document(to))
        client.converse(modelId=to.model, messages=list(sdk.messages(SAY)))
        return
    document(to)


def document(to):
    content = [{"document": {"format": "pdf", "name": "a", "source": {"bytes": b"%PDF-1.4\n"}}}, {"text": "Read it."}]
    client.converse(modelId=to.model, messages=[{"role": "user", "content": content}])
    holds(base64.b64encode(b"%PDF-1.4\n").decode() in json.dumps(to.mock.sent()), to.mock.sent())


@case(calls=1)
def sampling(to):
    # OpenAI's responses take no stop sequences.
    stops = {} if to.name == "rs" else {"stopSequences": ["end"]}
    client.converse(modelId=to.model, messages=list(sdk.messages(SAY)), system=[{"text": "Be brief."}],
                    inferenceConfig={"maxTokens": 50, "temperature": 0.5, "topP": 0.9, **stops})
    sent = json.dumps(to.mock.sent())
    # Anthropic's newer models take one of temperature and top_p.
    holds("0.5" in sent and "50" in sent and ("0.9" in sent or to.name == "an"), sent)


@case(calls=3)
def invoke_model_speaks_as_anthropic_does(to):
    model = f"{to.name}/anthropic.claude-v9:0" if to.name == "be" else to.model
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 99, "messages": [{"role": "user", "content": "hello there"}]}
    answer = json.loads(client.invoke_model(modelId=model, body=json.dumps(body))["body"].read())
    equal((answer["content"][0]["text"], answer["stop_reason"]), ("hello there", "end_turn"))
    stream = client.invoke_model_with_response_stream(modelId=model, body=json.dumps(body))["body"]
    chunks = [json.loads(event["chunk"]["bytes"]) for event in stream]
    equal((chunks[0]["type"], chunks[-1]["type"]), ("message_start", "message_stop"))
    equal("".join(chunk["delta"].get("text", "") for chunk in chunks if "delta" in chunk), "hello there")
    to.mock.script({"tools": CALLS[:1]})
    tools = [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}]
    answer = json.loads(client.invoke_model(modelId=model, body=json.dumps({**body, "tools": tools}))["body"].read())
    equal((answer["content"][-1]["input"], answer["stop_reason"]), (CALLS[0]["arguments"], "tool_use"))


@case(calls=1)
def a_bearer_key(to):
    # As AWS_BEARER_TOKEN_BEDROCK makes boto3 say it, which wants TLS for it.
    body = json.dumps({"messages": [{"role": "user", "content": [{"text": "by bearer"}]}]}).encode()
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json", "x-strait-cache": "no-store"}
    request = urllib.request.Request(f"{GATEWAY}/model/{to.name}%2Fm/converse", body, headers)
    answer = json.loads(DIRECT.open(request).read())
    equal(answer["output"]["message"]["content"], [{"text": "by bearer"}])


@case(calls=0, only="be")
def errors_of_the_gateway(to):
    wrong = connect("wrong-key")
    error = raises(wrong.exceptions.AccessDeniedException, lambda: wrong.converse(modelId=to.model, messages=list(sdk.messages(SAY))))
    holds(sdk.status(error) in (401, 403), error)


@case(calls=None)
def tokens_are_counted(to):
    counted = client.count_tokens(modelId=to.model, input={"converse": {
        "messages": [{"role": "user", "content": [{"text": "How many tokens are these?"}]}]}})
    holds(3 <= counted["inputTokens"] <= 20, counted)


if __name__ == "__main__":
    main(EVERY)
