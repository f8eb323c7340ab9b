"""What OpenAI's SDK asks for beside chats: embeddings, moderations, images, sound, files, batches, realtime."""

import base64
import json
import math
import struct

import openai
from openai import AzureOpenAI, OpenAI

from lab import EVERY, FRESH, GATEWAY, KEY, NARROW_KEY, case, equal, holds, main, raises


def connect(key=KEY, **more):
    return OpenAI(base_url=f"{GATEWAY}/v1", api_key=key, max_retries=0, default_headers=FRESH, **more)


client = connect()
EMBEDS = ("oa", "az", "ge", "co", "ol", "be")


def model_of(to):
    return f"{to.name}/amazon.titan-embed-text-v2:0" if to.name == "be" else to.model


@case(calls=None, only=EMBEDS)
def embeddings_in_both_encodings(to):
    # Titan takes one text at a time.
    texts = ["one"] if to.name == "be" else ["one", "two"]
    plain = client.embeddings.create(model=model_of(to), input=texts, encoding_format="float")
    equal([one.index for one in plain.data], list(range(len(texts))))
    holds(plain.usage.prompt_tokens > 0, plain.usage)
    # The SDK asks for base64 by itself, and decodes it.
    packed = client.embeddings.create(model=model_of(to), input=texts)
    for one, other in zip(plain.data, packed.data):
        equal(len(one.embedding), len(other.embedding))
        holds(all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(one.embedding, other.embedding)), "base64 is another vector")
    raw = client.embeddings.with_raw_response.create(model=model_of(to), input="one", encoding_format="base64")
    data = base64.b64decode(json.loads(raw.text)["data"][0]["embedding"])
    equal(len(struct.unpack(f"<{len(data) // 4}f", data)), len(plain.data[0].embedding))


@case(calls=1, only=("oa", "az", "ge", "co", "be"))
def embeddings_of_a_size(to):
    answer = client.embeddings.create(model=model_of(to), input="one", dimensions=16)
    equal(len(answer.data[0].embedding), 16)


@case(calls=1, only=("oa", "az"))
def moderations(to):
    answer = client.moderations.create(model=to.model, input=["nice", "violence"])
    equal([result.flagged for result in answer.results], [False, True])


@case(calls=2, only=("oa", "az"))
def images(to):
    made = client.images.generate(model=to.model, prompt="a cat", n=2)
    holds(len(made.data) == 2 and made.data[0].b64_json, made)
    edited = client.images.edit(model=to.model, image=("a.png", b"png", "image/png"), prompt="a dog")
    equal(edited.data[0].revised_prompt, "a dog")


@case(calls=5, only=("oa", "az"))
def sound(to):
    equal(client.audio.speech.create(model=to.model, voice="alloy", input="hi").content, b"mock audio: hi")
    with client.audio.speech.with_streaming_response.create(model=to.model, voice="alloy", input="hi") as answer:
        equal(answer.read(), b"mock audio: hi")
    heard = client.audio.transcriptions.create(model=to.model, file=("a.mp3", b"sound"))
    equal(heard.text, "a.mp3 has 5 bytes.")
    long = client.audio.transcriptions.create(model=to.model, file=("a.mp3", b"sound"), response_format="verbose_json")
    equal(long.segments[0].text, "a.mp3 has 5 bytes.")
    equal(client.audio.translations.create(model=to.model, file=("a.mp3", b"s"), response_format="text").strip(), "a.mp3 has 1 bytes.")


@case(calls=None, only=("oa", "az", "rs", "ge", "an", "be", "co", "ol"))
def azures_client(to):
    azure = AzureOpenAI(azure_endpoint=GATEWAY, api_key=KEY, api_version="2024-10-21", max_retries=0, default_headers=FRESH)
    answer = azure.chat.completions.create(model=to.model, messages=[{"role": "user", "content": "hey"}])
    equal((answer.choices[0].message.content, answer.object), ("hey", "chat.completion"))
    chunks = azure.chat.completions.create(model=to.model, messages=[{"role": "user", "content": "hey"}], stream=True)
    equal("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices), "hey")


@case(calls=None)
def completions(to):
    answer = client.completions.create(model=to.model, prompt="Once upon", max_tokens=50)
    equal(answer.object, "text_completion")
    holds("Once upon" in answer.choices[0].text and answer.usage.prompt_tokens, answer)
    chunks = list(client.completions.create(model=to.model, prompt="Once upon", stream=True, stream_options={"include_usage": True}))
    equal("".join(chunk.choices[0].text for chunk in chunks if chunk.choices), answer.choices[0].text)
    equal(chunks[-1].usage.prompt_tokens, answer.usage.prompt_tokens)


@case(calls=None, only="oa")
def files_and_batches(to):
    at = {"x-strait-provider": to.name}
    other = connect().with_options(default_headers={**FRESH, **at})
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": []}}
    content = (json.dumps(line) + "\n").encode() * 9
    file = other.files.create(file=("in.jsonl", content), purpose="batch")
    equal(file.bytes, len(content))
    equal(other.files.content(file.id).content, content)
    equal([known.id for known in other.files.list()], [file.id])
    batch = other.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    equal(other.batches.retrieve(batch.id).input_file_id, file.id)
    equal(other.batches.cancel(batch.id).status, "cancelled")
    holds(other.files.delete(file.id).deleted, "deleted")
    # Without a header it is OpenAI's.
    equal(client.files.create(file=("in.jsonl", b"{}\n"), purpose="batch").bytes, 3)
    raises(openai.PermissionDeniedError, lambda: connect(NARROW_KEY).files.create(
        file=("in.jsonl", content), purpose="batch", extra_headers=at))


@case(calls=None, only="oa")
def videos(to):
    video = client.videos.create(prompt="waves")
    equal(client.videos.retrieve(video.id).id, video.id)


@case(calls=None, only="oa")
def realtime(to):
    with connect().realtime.connect(model=to.model) as connection:
        first = connection.recv()
        equal(first.type, "session.created")
        # The fake one sends every frame back.
        connection.send({"type": "response.create"})
        back = json.loads(connection.recv_bytes())
        equal(back["type"], "response.create")
    raises(Exception_of_the_socket(), lambda: connect("wrong-key").realtime.connect(model=to.model).enter())


def Exception_of_the_socket():
    from websockets.exceptions import InvalidStatus
    return InvalidStatus


@case(calls=0, only="oa")
def what_no_provider_has_is_refused(to):
    error = raises(openai.BadRequestError, lambda: client.images.generate(model="an/m", prompt="a cat"))
    holds(error.message, error)
    raises(openai.BadRequestError, lambda: client.embeddings.create(model="an/m", input="one"))


if __name__ == "__main__":
    main(EVERY)
