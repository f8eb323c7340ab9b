// Google's SDK (@google/genai) against every protocol that is spoken upstream.

import assert from "node:assert/strict";

import { ApiError, FunctionCallingConfigMode, GoogleGenAI } from "@google/genai";

import { CALLS, EVERY, FRESH, GATEWAY, KEY, MANY_TONGUES, PNG, WEATHER, fails, main, test } from "./lab.mjs";

const connect = (apiKey = KEY) => new GoogleGenAI({ apiKey, httpOptions: { baseUrl: GATEWAY, headers: FRESH } });
const client = connect();
const SAY = "hello there, gateway";
const TOOLS = [
  {
    functionDeclarations: [
      { name: "weather", description: "The weather.", parametersJsonSchema: WEATHER },
      { name: "clock", description: "The time." },
    ],
  },
];

const ask = (to, contents = SAY, config = {}) => client.models.generateContent({ model: to.model, contents, config });

async function streamed(to, contents = SAY, config = {}) {
  const chunks = [];
  for await (const chunk of await client.models.generateContentStream({ model: to.model, contents, config })) chunks.push(chunk);
  return chunks;
}

const parts = (chunks) => chunks.flatMap((chunk) => chunk.candidates?.[0]?.content?.parts ?? []);
const text = (chunks) => parts(chunks).filter((part) => part.text && !part.thought).map((part) => part.text).join("");

test(
  "plain and streamed",
  async (to) => {
    const answer = await ask(to);
    assert.equal(answer.text, SAY);
    assert.equal(answer.candidates[0].finishReason, "STOP");
    await to.mock.script([{ chunks: 6, chunk_gap: "0ms" }]);
    const chunks = await streamed(to);
    assert.equal(text(chunks), SAY);
    assert(parts(chunks).length >= 4, `${parts(chunks).length} pieces are few for 6 chunks`);
    assert.equal(chunks.at(-1).candidates[0].finishReason, "STOP");
    assert.equal(chunks.at(-1).usageMetadata.totalTokenCount, answer.usageMetadata.totalTokenCount);
  },
  { calls: 2 },
);

test("system and many turns", async (to) => {
  const contents = [
    { role: "user", parts: [{ text: "One?" }] },
    { role: "model", parts: [{ text: "Two." }] },
    { role: "user", parts: [{ text: MANY_TONGUES }] },
  ];
  const answer = await ask(to, contents, { systemInstruction: "Be brief." });
  assert.equal(answer.text, MANY_TONGUES);
  const sent = JSON.stringify(await to.mock.sent());
  assert(sent.includes("Be brief.") && sent.includes("Two."), sent);
});

test(
  "parallel calls and their results",
  async (to) => {
    for (const stream of [false, true]) {
      await to.mock.script([{ tools: CALLS, chunks: 7 }, { text: "Sunny." }]);
      const chunks = stream ? await streamed(to, SAY, { tools: TOOLS }) : [await ask(to, SAY, { tools: TOOLS })];
      const calls = parts(chunks).filter((part) => part.functionCall).map((part) => part.functionCall);
      assert.deepEqual(calls.map((call) => [call.name, call.args ?? {}]), CALLS.map((call) => [call.name, call.arguments]));
      const results = calls.map(({ id, name }) => ({ functionResponse: { id, name, response: { output: `${name} result` } } }));
      const contents = [
        { role: "user", parts: [{ text: SAY }] },
        { role: "model", parts: parts(chunks) },
        { role: "user", parts: results },
      ];
      assert.equal((await ask(to, contents, { tools: TOOLS })).text, "Sunny.");
      const sent = JSON.stringify(await to.mock.sent());
      assert(sent.includes("weather result") && sent.includes("clock result") && sent.includes("Nord"), sent);
    }
  },
  { calls: 4 },
);

test(
  "a forced call",
  async (to) => {
    const config = {
      tools: TOOLS,
      toolConfig: { functionCallingConfig: { mode: FunctionCallingConfigMode.ANY, allowedFunctionNames: ["weather"] } },
    };
    const answer = await ask(to, SAY, config);
    assert.equal(answer.functionCalls[0].name, "weather");
  },
  { only: ["oa", "an", "ge", "be", "az"] },
);

test("structured output", async (to) => {
  const config = { responseMimeType: "application/json", responseJsonSchema: WEATHER };
  assert.deepEqual(JSON.parse((await ask(to, SAY, config)).text), { city: "text", unit: "c" });
});

test("an image", async (to) => {
  await ask(to, [{ role: "user", parts: [{ inlineData: { mimeType: "image/png", data: PNG } }, { text: "What is this?" }] }]);
  assert(JSON.stringify(await to.mock.sent()).includes(PNG));
});

test(
  "errors are typed",
  async (to) => {
    for (const [status, across] of [[400, 400], [404, 404], [429, 429], [500, 502]]) {
      await to.mock.script([{ status }]);
      const error = await fails(ApiError, () =>
        client.models.generateContent({ model: to.failing(`${status}-gemini-whole`), contents: SAY }),
      );
      assert([across, to.name === "ge" ? status : across].includes(error.status), `${error.status} for ${status}`);
    }
    assert.equal((await fails(ApiError, () => connect("wrong-key").models.generateContent({ model: to.model, contents: SAY }))).status, 401);
  },
  { calls: "any" },
);

test(
  "embeddings",
  async (to) => {
    const answer = await client.models.embedContent({ model: to.model, contents: ["one", "two"] });
    assert.equal(answer.embeddings.length, 2);
  },
  { calls: "any", only: ["ge", "oa", "ol", "az"] },
);

test(
  "tokens are counted",
  async (to) => {
    const { totalTokens } = await client.models.countTokens({ model: to.model, contents: "How many tokens are these?" });
    assert(totalTokens >= 3 && totalTokens <= 20, `${totalTokens}`);
  },
  { calls: "any" },
);

await main(EVERY);
