"""Cohere's SDK against every protocol that is spoken upstream."""

import json

import cohere
from cohere.core.api_error import ApiError

from chats import EVERY, SAY, Said, Sdk, TOOLS, cases
from lab import CALLS, GATEWAY, KEY, case, equal, holds, main, raises


def connect(key=KEY):
    return cohere.ClientV2(key, base_url=GATEWAY)


client = connect()
# The SDK would ask again after an error.
ONCE = {"max_retries": 0, "additional_headers": {"x-strait-cache": "no-store"}}


class Chat(Sdk):
    name = "cohere"
    own = ("co",)
    errors = {400: cohere.BadRequestError, 404: cohere.NotFoundError, 429: cohere.TooManyRequestsError,
              500: (cohere.InternalServerError, ApiError)}
    stops = {"COMPLETE": "end", "MAX_TOKENS": "length", "TOOL_CALL": "calls"}

    def status(self, error):
        return error.status_code

    def messages(self, turns, system):
        if system:
            yield {"role": "system", "content": system}
        for turn in turns:
            match turn:
                case ("user" | "assistant" as role, text):
                    yield {"role": role, "content": text}
                case ("image", text, data):
                    url = {"url": f"data:image/png;base64,{data}"}
                    yield {"role": "user", "content": [{"type": "text", "text": text}, {"type": "image_url", "image_url": url}]}
                case ("said", said):
                    yield said.turn
                case ("results", results):
                    for id, _, text in results:
                        yield {"role": "tool", "tool_call_id": id, "content": text}

    def ask(self, model, turns, system=None, tools=None, schema=None, stream=False, most=None, think=False):
        asked = {"model": model, "messages": list(self.messages(turns, system)), "request_options": ONCE}
        if tools:
            asked["tools"] = [{"type": "function", "function": {
                "name": tool["name"], "description": tool["description"], "parameters": tool["schema"]}} for tool in tools]
        if schema:
            asked["response_format"] = {"type": "json_object", "json_schema": schema}
        if most:
            asked["max_tokens"] = most
        if not stream:
            answer = client.chat(**asked)
            message = answer.message
            texts = [part for part in message.content or [] if part.type == "text"]
            calls = [(call.id, call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or []]
            text = "".join(part.text for part in texts) + (message.tool_plan or "")
            return Said(text, calls, self.stops[answer.finish_reason],
                        (int(answer.usage.tokens.input_tokens), int(answer.usage.tokens.output_tokens)),
                        turn=message.model_dump(exclude_none=True))
        text, plan, calls, end, pieces = "", "", [], None, 0
        for event in client.chat_stream(**asked):
            if event.type == "content-delta":
                text += event.delta.message.content.text or ""
                pieces += 1
            elif event.type == "tool-plan-delta":
                plan += event.delta.message.tool_plan
            elif event.type == "tool-call-start":
                call = event.delta.message.tool_calls
                calls.append([call.id, call.function.name, call.function.arguments or ""])
            elif event.type == "tool-call-delta":
                calls[-1][2] += event.delta.message.tool_calls.function.arguments
            elif event.type == "message-end":
                end = event.delta
        if end is None or end.finish_reason not in self.stops:
            raise RuntimeError(f"no end but {end}")
        turn = {"role": "assistant"}
        if text:
            turn["content"] = text
        if plan:
            turn["tool_plan"] = plan
        if calls:
            turn["tool_calls"] = [{"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
                                  for id, name, arguments in calls]
        return Said(text + plan, [(id, name, json.loads(arguments or "{}")) for id, name, arguments in calls],
                    self.stops[end.finish_reason], (int(end.usage.tokens.input_tokens), int(end.usage.tokens.output_tokens)),
                    turn=turn, pieces=pieces)


sdk = Chat()
cases(sdk)


@case(calls=None)
def a_forced_call(to):
    asked = {"model": to.model, "messages": [{"role": "user", "content": "go"}], "request_options": ONCE, "tools": [
        {"type": "function", "function": {"name": tool["name"], "parameters": tool["schema"]}} for tool in TOOLS]}
    if to.name == "ol":
        raises(cohere.BadRequestError, lambda: client.chat(**asked, tool_choice="REQUIRED"))
    else:
        if to.name == "co":
            to.mock.script({"tools": CALLS[:1]})
        holds(client.chat(**asked, tool_choice="REQUIRED").message.tool_calls, "no call")
    to.mock.script()
    holds(not client.chat(**asked, tool_choice="NONE").message.tool_calls, "a call")


@case(calls=1)
def sampling(to):
    # OpenAI's responses take no stop sequences.
    stops = {} if to.name == "rs" else {"stop_sequences": ["end"]}
    client.chat(model=to.model, messages=[{"role": "user", "content": "go"}], temperature=0.5, max_tokens=50,
                request_options=ONCE, **stops)
    sent = json.dumps(to.mock.sent())
    holds("0.5" in sent and "50" in sent and (not stops or "end" in sent), sent)


@case(calls=2, only=("co", "oa", "ge", "ol", "az"))
def embeddings(to):
    answer = client.embed(model=to.model, texts=["one", "two"], input_type="search_query" if to.name in ("co", "ge") else "search_document",
                          embedding_types=["float"], request_options=ONCE)
    equal(len(answer.embeddings.float_), 2)
    again = client.embed(model=to.model, texts=["one"], input_type="search_query" if to.name in ("co", "ge") else "search_document",
                         embedding_types=["float"], request_options=ONCE)
    equal(again.embeddings.float_[0][:4], answer.embeddings.float_[0][:4])


@case(calls=1, only="co")
def documents_are_ranked(to):
    answer = client.rerank(model=to.model, query="red fox", documents=["a dog", "a red fox", "red"], top_n=2, request_options=ONCE)
    equal([result.index for result in answer.results], [1, 2])


@case(calls=0, only="co")
def errors_of_the_gateway(to):
    wrong = connect("wrong-key")
    error = raises(cohere.UnauthorizedError, lambda: wrong.chat(model=to.model, messages=[{"role": "user", "content": "hi"}], request_options=ONCE))
    holds("message" in error.body, error.body)


if __name__ == "__main__":
    main(EVERY)
