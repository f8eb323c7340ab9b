// Vercel's AI SDK: a chat, a stream, a loop with a tool and a structured answer with each of its providers.

import assert from "node:assert/strict";

import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { Output, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

import { EVERY, FRESH, GATEWAY, KEY, main, test } from "./lab.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;
const CALL = { tools: [{ name: "weather", arguments: { city: "Rome" } }] };
const openai = createOpenAI({ baseURL: `${GATEWAY}/v1`, apiKey: KEY, headers: FRESH });
const anthropic = createAnthropic({ baseURL: `${GATEWAY}/v1`, apiKey: KEY, headers: FRESH });
const google = createGoogleGenerativeAI({ baseURL: `${GATEWAY}/v1beta`, apiKey: KEY, headers: FRESH });

for (const [name, make, only = ["oa", "an", "ge"]] of [
  ["openai chat", (to) => openai.chat(to.model)],
  // It refers to what Gemini thought by an id alone, which is not resolved.
  ["openai responses", (to) => openai.responses(to.model), ["oa", "an"]],
  ["anthropic", (to) => anthropic(to.model)],
  ["google", (to) => google(to.model)],
]) {
  test(
    name,
    async (to) => {
      const asked = { model: make(to), maxRetries: 0 };
      assert.equal((await generateText({ ...asked, prompt: "hello there" })).text, "hello there");
      let text = "";
      for await (const piece of streamText({ ...asked, prompt: "hello there" }).textStream) text += piece;
      assert.equal(text, "hello there");
      await to.mock.script([CALL, { text: "Sunny." }]);
      const weather = tool({
        description: "The weather.",
        inputSchema: z.object({ city: z.string() }),
        execute: async ({ city }) => `sun over ${city}`,
      });
      const looped = await generateText({ ...asked, prompt: "How is it in Rome?", tools: { weather }, stopWhen: stepCountIs(3) });
      assert.equal(looped.text, "Sunny.");
      assert(JSON.stringify(await to.mock.sent()).includes("sun over Rome"));
      await to.mock.script();
      const place = z.object({ city: z.string(), notes: z.array(z.string()) });
      const filled = await generateText({ ...asked, prompt: "Where?", output: Output.object({ schema: place }) });
      assert.deepEqual(filled.output, { city: "text", notes: ["text"] });
    },
    { calls: 5, only },
  );
}

await main(EVERY);
