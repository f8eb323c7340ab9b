"""The SDKs of OpenAI (chat) and Anthropic against every protocol that is spoken upstream."""

import json

import anthropic
import openai

from chats import EVERY, Said, Sdk, cases
from lab import FRESH, GATEWAY, KEY, main


class Chat(Sdk):
    name = "chat"
    own = ("oa", "az")
    errors = {400: openai.BadRequestError, 404: openai.NotFoundError, 429: openai.RateLimitError,
              500: openai.InternalServerError}
    client = openai.OpenAI(base_url=f"{GATEWAY}/v1", api_key=KEY, max_retries=0, default_headers=FRESH)
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
                    url = {"url": f"data:image/png;base64,{data}"}
                    yield {"role": "user", "content": [{"type": "text", "text": text}, {"type": "image_url", "image_url": url}]}
                case ("said", said):
                    yield said.turn
                case ("results", results):
                    for id, _, text in results:
                        yield {"role": "tool", "tool_call_id": id, "content": text}

    def ask(self, model, turns, system=None, tools=None, schema=None, stream=False, most=None, think=False):
        asked = {"model": model, "messages": list(self.messages(turns, system))}
        if tools:
            asked["tools"] = [{"type": "function", "function": {
                "name": tool["name"], "description": tool["description"], "parameters": tool["schema"]}} for tool in tools]
        if schema:
            asked["response_format"] = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}
        if most:
            asked["max_tokens"] = most
        if think:
            asked["reasoning_effort"] = "low"
        pieces = 0
        if stream:
            with self.client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as events:
                try:
                    pieces = sum(event.type in ("content.delta", "tool_calls.function.arguments.delta") for event in events)
                    answer = events.get_final_completion()
                except openai.LengthFinishReasonError as error:
                    answer = error.completion
        else:
            answer = self.client.chat.completions.create(**asked)
        [choice] = answer.choices
        message = choice.message
        calls = [(call.id, call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or []]
        turn = message.model_dump(exclude_none=True, exclude={"parsed"})
        for call in turn.get("tool_calls", []):
            # What the SDK's own helper adds.
            call.pop("index", None)
            call["function"].pop("parsed_arguments", None)
        return Said(message.content or "", calls, self.stops[choice.finish_reason],
                    (answer.usage.prompt_tokens, answer.usage.completion_tokens),
                    getattr(message, "reasoning_content", None) or "", turn, pieces)


class Messages(Sdk):
    name = "messages"
    own = ("an",)
    errors = {400: anthropic.BadRequestError, 404: anthropic.NotFoundError, 429: anthropic.RateLimitError,
              500: anthropic.InternalServerError}
    client = anthropic.Anthropic(base_url=GATEWAY, api_key=KEY, max_retries=0, default_headers=FRESH)
    stops = {"end_turn": "end", "max_tokens": "length", "tool_use": "calls"}

    def status(self, error):
        return error.status_code

    def messages(self, turns):
        for turn in turns:
            match turn:
                case ("user" | "assistant" as role, text):
                    yield {"role": role, "content": text}
                case ("image", text, data):
                    source = {"type": "base64", "media_type": "image/png", "data": data}
                    yield {"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": text}]}
                case ("said", said):
                    yield {"role": "assistant", "content": said.turn}
                case ("results", results):
                    yield {"role": "user", "content": [
                        {"type": "tool_result", "tool_use_id": id, "content": text} for id, _, text in results]}

    def ask(self, model, turns, system=None, tools=None, schema=None, stream=False, most=None, think=False):
        asked = {"model": model, "messages": list(self.messages(turns)), "max_tokens": most or 2000}
        if system:
            asked["system"] = system
        if tools:
            asked["tools"] = [{"name": tool["name"], "description": tool["description"], "input_schema": tool["schema"]}
                              for tool in tools]
        if schema:
            asked["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        if think:
            asked["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        pieces = 0
        if stream:
            with self.client.messages.stream(**asked) as events:
                pieces = sum(event.type == "content_block_delta" for event in events)
                answer = events.get_final_message()
        else:
            answer = self.client.messages.create(**asked)
        text = "".join(block.text for block in answer.content if block.type == "text")
        thought = "".join(block.thinking for block in answer.content if block.type == "thinking")
        calls = [(block.id, block.name, block.input) for block in answer.content if block.type == "tool_use"]
        return Said(text, calls, self.stops[answer.stop_reason], (answer.usage.input_tokens, answer.usage.output_tokens),
                    thought, answer.content, pieces)


cases(Chat())
cases(Messages())
main(EVERY)
