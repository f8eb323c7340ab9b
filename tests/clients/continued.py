"""Streams that broke off and were gone on with, as the SDKs of OpenAI and Anthropic see them: one answer, one end.

Usage: continued.py GATEWAY FIRST SECOND; the answer is a part of FIRST, then SECOND.
"""

import sys

import anthropic
import openai

gateway, first, second = sys.argv[1:]


def check(what, text):
    said = text.removesuffix(second)
    assert text != said and said and first.startswith(said) and said != first, f"{what}: {text!r}"


client = openai.OpenAI(api_key="any", base_url=f"{gateway}/v1", max_retries=0)
say = [{"role": "user", "content": "hello there"}]

with client.chat.completions.stream(model="both", messages=say, stream_options={"include_usage": True}) as stream:
    final = stream.get_final_completion()
check("chat", final.choices[0].message.content)
assert final.choices[0].finish_reason == "stop", final
assert final.usage.completion_tokens > 20, final.usage

with client.responses.stream(model="both", input="hello there") as stream:
    deltas = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    final = stream.get_final_response()
check("responses", final.output_text)
assert deltas == final.output_text, (deltas, final.output_text)
assert final.status == "completed", final

client = anthropic.Anthropic(api_key="any", base_url=gateway, max_retries=0)
with client.messages.stream(model="both", max_tokens=100, messages=say) as stream:
    deltas = "".join(stream.text_stream)
    final = stream.get_final_message()
assert len(final.content) == 1, final
check("messages", final.content[0].text)
assert deltas == final.content[0].text, deltas
assert final.stop_reason == "end_turn", final
assert final.usage.output_tokens > 20, final.usage
print("ok")
