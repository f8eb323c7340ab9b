"""Mistral's SDK against every protocol that is spoken upstream: it speaks OpenAI's chat, with words of its own.

It wants a function's name with every piece of its arguments, where OpenAI's wants it once, and usage in streams
without asking for it: by its user agent the gateway knows what it wants.
"""

import json

from mistralai.client import Mistral
from mistralai.client import errors

from chats import EVERY, Said, Sdk, TOOLS, cases
from lab import FRESH, GATEWAY, KEY, case, equal, holds, main, raises


def connect(key=KEY):
    return Mistral(api_key=key, server_url=GATEWAY)


client = connect()


class Chat(Sdk):
    name = "mistral"
    own = ("mi",)
    errors = {status: errors.SDKError for status in (400, 404, 429, 500)}
    stops = {"stop": "end", "length": "length", "tool_calls": "calls"}

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
                    url = f"data:image/png;base64,{data}"
                    yield {"role": "user", "content": [{"type": "text", "text": text}, {"type": "image_url", "image_url": url}]}
                case ("said", said):
                    yield said.turn
                case ("results", results):
                    for id, name, text in results:
                        yield {"role": "tool", "tool_call_id": id, "name": name, "content": text}

    def ask(self, model, turns, system=None, tools=None, schema=None, stream=False, most=None, think=False):
        asked = {"model": model, "messages": list(self.messages(turns, system)), "http_headers": FRESH}
        if tools:
            asked["tools"] = [{"type": "function", "function": {
                "name": tool["name"], "description": tool["description"], "parameters": tool["schema"]}} for tool in tools]
        if schema:
            asked["response_format"] = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}
        if most:
            asked["max_tokens"] = most
        if not stream:
            answer = client.chat.complete(**asked)
            [choice] = answer.choices
            message = choice.message
            calls = [(call.id, call.function.name, self.arguments(call)) for call in message.tool_calls or []]
            return self.said(message.content or "", calls, choice.finish_reason, answer.usage, 0)
        text, calls, reason, usage, pieces = "", {}, None, None, 0
        for event in client.chat.stream(**asked):
            usage = event.data.usage or usage
            for choice in event.data.choices:
                text += choice.delta.content or ""
                pieces += bool(choice.delta.content)
                reason = choice.finish_reason or reason
                for call in choice.delta.tool_calls or []:
                    known = calls.setdefault(call.index, [None, None, ""])
                    known[0] = call.id if call.id and call.id != "null" else known[0]
                    known[1] = call.function.name or known[1]
                    arguments = call.function.arguments
                    known[2] += arguments if isinstance(arguments, str) else json.dumps(arguments)
        calls = [(id, name, json.loads(arguments or "{}")) for id, name, arguments in calls.values()]
        return self.said(text, calls, reason, usage, pieces)

    def arguments(self, call):
        arguments = call.function.arguments
        return json.loads(arguments) if isinstance(arguments, str) else arguments

    def said(self, text, calls, reason, usage, pieces):
        turn = {"role": "assistant", "content": text}
        if calls:
            turn["tool_calls"] = [{"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
                                  for id, name, arguments in calls]
        return Said(text, calls, self.stops[reason], (usage.prompt_tokens, usage.completion_tokens) if usage else (None, None),
                    turn=turn, pieces=pieces)


sdk = Chat()
cases(sdk)
OTHERS = ("an", "ge", "be", "co", "ol")


@case(calls=1)
def what_mistral_alone_knows(to):
    answer = client.chat.complete(model=to.model, messages=[{"role": "user", "content": "go"}], random_seed=7, safe_prompt=False,
                                  temperature=0.5, top_p=0.9, http_headers=FRESH)
    equal(answer.choices[0].message.content, "go")


@case(calls=None, only="ge")
def what_is_no_chat(to):
    models = client.models.list().data
    kinds = {type(model).__name__ for model in models}
    equal(kinds, {"BaseModelCard"})
    answer = client.embeddings.create(model=f"{to.name}/text-embedding", inputs=["one", "two"])
    holds(answer.id.startswith("embd-") and len(answer.data) == 2, answer)


@case(calls=0, only="an")
def errors_of_the_gateway(to):
    wrong = connect("wrong-key")
    error = raises(errors.SDKError, lambda: wrong.chat.complete(model=to.model, messages=[{"role": "user", "content": "hi"}]))
    equal(error.status_code, 401)


if __name__ == "__main__":
    main([to for to in EVERY if to.name in OTHERS])
