"""Frameworks on top of the SDKs: a chat, a stream, a loop with a tool and a structured answer by each of them."""

import asyncio
import os

from pydantic import BaseModel

from lab import EVERY, GATEWAY, KEY, case, equal, holds, main

os.environ["LANGCHAIN_TRACING_V2"] = "false"
ANY = ("oa", "an", "ge")
CALL = {"tools": [{"name": "weather", "arguments": {"city": "Rome"}}]}


PLACE = {"city": "text", "notes": ["text"]}


class Place(BaseModel):
    """A place."""

    city: str
    notes: list[str]


def check_loop(to):
    """Holds when the tool's result went back."""
    holds("sun over Rome" in str(to.mock.sent()), to.mock.sent())


def langchain(model):
    from langchain_core.tools import tool

    @tool
    def weather(city: str) -> str:
        """The weather."""
        return f"sun over {city}"

    def run(to):
        client = model(to)
        equal(client.invoke("hello there").text, "hello there")
        equal("".join(chunk.text for chunk in client.stream("hello there")), "hello there")
        to.mock.script(CALL, {"text": "Sunny."})
        from langchain_core.messages import HumanMessage
        bound = client.bind_tools([weather])
        messages = [HumanMessage("How is it in Rome?")]
        asked = bound.invoke(messages)
        messages += [asked, *(weather.invoke(call) for call in asked.tool_calls)]
        equal(bound.invoke(messages).text, "Sunny.")
        check_loop(to)
        to.mock.script()
        place = client.with_structured_output(Place).invoke("Where?")
        equal(place, Place(city="text", notes=["text"]))

    return run


@case(calls=None, only=ANY)
def langchain_openai(to):
    from langchain_openai import ChatOpenAI
    langchain(lambda to: ChatOpenAI(model=to.model, base_url=f"{GATEWAY}/v1", api_key=KEY, max_retries=0))(to)


@case(calls=None, only=ANY)
def langchain_anthropic(to):
    from langchain_anthropic import ChatAnthropic
    langchain(lambda to: ChatAnthropic(model=to.model, base_url=GATEWAY, api_key=KEY, max_retries=0))(to)


@case(calls=None, only=ANY)
def langchain_google_genai(to):
    from langchain_google_genai import ChatGoogleGenerativeAI
    langchain(lambda to: ChatGoogleGenerativeAI(model=to.model, base_url=GATEWAY, google_api_key=KEY, max_retries=0))(to)


@case(calls=None, only=ANY)
def llama_index(to):
    from llama_index.core.llms import ChatMessage
    from llama_index.core.tools import FunctionTool
    from llama_index.llms.openai_like import OpenAILike
    client = OpenAILike(model=to.model, api_base=f"{GATEWAY}/v1", api_key=KEY, is_chat_model=True, is_function_calling_model=True, max_retries=0)
    say = [ChatMessage(role="user", content="hello there")]
    equal(client.chat(say).message.content, "hello there")
    equal("".join(chunk.delta or "" for chunk in client.stream_chat(say)), "hello there")

    def weather(city: str) -> str:
        """The weather."""
        return f"sun over {city}"

    to.mock.script(CALL)
    answer = client.predict_and_call([FunctionTool.from_defaults(weather)], user_msg="How is it in Rome?")
    equal(str(answer), "sun over Rome")
    to.mock.script({"tools": [{"name": "Place", "arguments": {"city": "text", "notes": ["text"]}}]})
    from llama_index.core.prompts import PromptTemplate
    equal(client.structured_predict(Place, PromptTemplate("Where?")), Place(city="text", notes=["text"]))


def pydantic_ai(to, model):
    from pydantic_ai import Agent

    async def run():
        agent = Agent(model)
        equal((await agent.run("hello there")).output, "hello there")
        async with agent.run_stream("hello there") as stream:
            equal("".join([piece async for piece in stream.stream_text(delta=True)]), "hello there")
        tooled = Agent(model)

        @tooled.tool_plain
        def weather(city: str) -> str:
            """The weather."""
            return f"sun over {city}"

        to.mock.script(CALL, {"text": "Sunny."})
        equal((await tooled.run("How is it in Rome?")).output, "Sunny.")
        check_loop(to)
        to.mock.script({"tools": [{"name": "final_result", "arguments": {"city": "text", "notes": ["text"]}}]})
        equal((await Agent(model, output_type=Place).run("Where?")).output, Place(city="text", notes=["text"]))

    asyncio.run(run())


@case(calls=None, only=ANY)
def pydantic_ai_with_openai(to):
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider
    pydantic_ai(to, OpenAIChatModel(to.model, provider=OpenAIProvider(base_url=f"{GATEWAY}/v1", api_key=KEY)))


@case(calls=None, only=ANY)
def pydantic_ai_with_google(to):
    from pydantic_ai.models.google import GoogleModel
    from pydantic_ai.providers.google import GoogleProvider
    pydantic_ai(to, GoogleModel(to.model, provider=GoogleProvider(api_key=KEY, base_url=GATEWAY)))


@case(calls=None, only=ANY)
def instructor_by_tools_and_by_schema(to):
    import instructor
    import openai
    client = openai.OpenAI(base_url=f"{GATEWAY}/v1", api_key=KEY, max_retries=0)
    asked = {"model": to.model, "messages": [{"role": "user", "content": "Where?"}], "response_model": Place, "max_retries": 0}
    by_tools = instructor.from_openai(client)
    equal(by_tools.chat.completions.create(**asked).model_dump(), PLACE)
    by_schema = instructor.from_openai(client, mode=instructor.Mode.JSON_SCHEMA)
    equal(by_schema.chat.completions.create(**asked).model_dump(), PLACE)


@case(calls=None, only=ANY)
def instructor_with_anthropic(to):
    import anthropic
    import instructor
    client = instructor.from_anthropic(anthropic.Anthropic(base_url=GATEWAY, api_key=KEY, max_retries=0))
    place = client.messages.create(model=to.model, max_tokens=500, messages=[{"role": "user", "content": "Where?"}],
                                   response_model=Place, max_retries=0)
    equal(place.model_dump(), PLACE)


main(EVERY)
