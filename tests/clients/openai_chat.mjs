// The OpenAI SDK against the gateway: every case to a provider of its own protocol and to one of Anthropic's.

import assert from "node:assert/strict";
import OpenAI from "openai";
import {
  CALLS, FRAMINGS, FRESH, GATEWAY, KEY, LIMITED_KEY, MANY_TONGUES, NARROW_KEY, PDF, PNG, WEATHER,
  eventually, fails, gone, main, metric, named, settled, test,
} from "./lab.mjs";

const connect = (apiKey = KEY, more = {}) =>
  new OpenAI({ baseURL: `${GATEWAY}/v1`, apiKey, maxRetries: 0, defaultHeaders: FRESH, ...more });
const client = connect();
const SAY = [{ role: "user", content: "hello there, gateway" }];
const TOOLS = [
  { type: "function", function: { name: "weather", description: "The weather.", parameters: WEATHER } },
  { type: "function", function: { name: "clock", description: "The time." } },
];
const isOwn = (to) => to.name === "oa";
const ask = (to, more = {}, options = {}) =>
  client.chat.completions.create({ model: to.model, messages: SAY, ...more }, options);

test("plain", async (to) => {
  const answer = await ask(to);
  assert.equal(answer.object, "chat.completion");
  const [choice] = answer.choices;
  assert.deepEqual([choice.index, choice.finish_reason], [0, "stop"]);
  assert.deepEqual([choice.message.role, choice.message.content], ["assistant", "hello there, gateway"]);
  const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
  assert.deepEqual([prompt_tokens, completion_tokens, total_tokens], [5, 5, 10]);
});

test("stream", async (to) => {
  await to.mock.script([{ chunks: 6, chunk_gap: "0ms" }]);
  let [text, pieces] = ["", 0];
  const reasons = [];
  for await (const chunk of await ask(to, { stream: true })) {
    assert.equal(chunk.usage ?? null, null, "usage was not asked for");
    const [choice] = chunk.choices;
    text += choice.delta.content ?? "";
    pieces += choice.delta.content ? 1 : 0;
    if (choice.finish_reason) reasons.push(choice.finish_reason);
  }
  assert.deepEqual([text, reasons], ["hello there, gateway", ["stop"]]);
  assert(pieces >= 4, `${pieces} pieces are few for 6 chunks`);
});

test("a stream with usage sums up to the whole answer", async (to) => {
  const whole = await ask(to);
  const stream = client.chat.completions.stream({ model: to.model, messages: SAY, stream_options: { include_usage: true } });
  const final = await stream.finalChatCompletion();
  assert.equal(final.choices[0].message.content, whole.choices[0].message.content);
  assert.equal(final.choices[0].finish_reason, "stop");
  for (const name of ["prompt_tokens", "completion_tokens", "total_tokens"]) {
    assert.equal(final.usage[name], whole.usage[name], name);
  }
}, { calls: 2 });

test("system and multi-turn", async (to) => {
  await ask(to, { messages: [
    { role: "developer", content: "Be brief." },
    { role: "user", content: "One?" },
    { role: "assistant", content: "Two." },
    { role: "user", content: [{ type: "text", text: "Three?" }] },
  ] });
  const sent = await to.mock.sent();
  if (isOwn(to)) {
    assert.equal(sent.messages.length, 4);
  } else {
    assert(JSON.stringify(sent.system).includes("Be brief."));
    assert.deepEqual(sent.messages.map((message) => message.role), ["user", "assistant", "user"]);
  }
});

function checkToolCalls(calls) {
  assert.deepEqual(calls.map((call) => [call.id, call.type, call.function.name]),
    CALLS.map((call) => [call.id, "function", call.name]));
  assert.deepEqual(calls.map((call) => JSON.parse(call.function.arguments || "{}")), CALLS.map((call) => call.arguments));
}

test("tool loop", async (to) => {
  await to.mock.script([{ tools: CALLS }, { text: "Sunny." }]);
  const answer = await ask(to, { tools: TOOLS });
  const [choice] = answer.choices;
  assert.equal(choice.finish_reason, "tool_calls");
  checkToolCalls(choice.message.tool_calls);
  const results = choice.message.tool_calls.map((call) => ({ role: "tool", tool_call_id: call.id, content: "sun" }));
  const last = await ask(to, { tools: TOOLS, messages: [...SAY, choice.message, ...results] });
  assert.equal(last.choices[0].message.content, "Sunny.");
  if (!isOwn(to)) {
    const { messages } = await to.mock.sent();
    const uses = messages[1].content.filter((block) => block.type === "tool_use");
    assert.deepEqual(uses.map((block) => block.input), CALLS.map((call) => call.arguments));
    const told = messages[2].content.filter((block) => block.type === "tool_result");
    assert.deepEqual(told.map((block) => block.tool_use_id), uses.map((block) => block.id));
  }
}, { calls: 2 });

test("the SDK runs the tools itself", async (to) => {
  await to.mock.script([{ tools: CALLS, chunks: 3 }, { text: "Sunny." }]);
  const asked = [];
  const run = (name) => (args) => {
    asked.push([name, args]);
    return "sun";
  };
  const parse = (text) => JSON.parse(text || "{}");
  const tools = TOOLS.map((tool) => ({
    type: "function",
    function: { parameters: { type: "object", properties: {} }, ...tool.function, function: run(tool.function.name), parse },
  }));
  const runner = client.chat.completions.runTools({ model: to.model, messages: SAY, tools, stream: true });
  assert.equal(await runner.finalContent(), "Sunny.");
  assert.deepEqual(asked, CALLS.map((call) => [call.name, call.arguments]));
}, { calls: 2 });

test("parallel tools in a stream", async (to) => {
  await to.mock.script([{ text: "Let me look.", tools: CALLS, chunks: 7 }]);
  let deltas = 0;
  const stream = client.chat.completions.stream({ model: to.model, messages: SAY, tools: TOOLS });
  stream.on("chunk", (chunk) => (deltas += chunk.choices[0]?.delta.tool_calls?.length ?? 0));
  const final = await stream.finalChatCompletion();
  const [choice] = final.choices;
  assert.deepEqual([choice.finish_reason, choice.message.content], ["tool_calls", "Let me look."]);
  checkToolCalls(choice.message.tool_calls);
  assert(deltas >= 6, `${deltas} deltas: the arguments were not streamed`);
});

test("tool choice", async (to) => {
  const choice = { type: "function", function: { name: "weather" } };
  const answer = await ask(to, { tools: TOOLS, tool_choice: choice });
  assert.deepEqual(JSON.parse(answer.choices[0].message.tool_calls[0].function.arguments), { city: "text", unit: "c" });
  await ask(to, { tools: TOOLS, tool_choice: "required" });
  await ask(to, { tools: TOOLS, tool_choice: "none" });
}, { calls: 3 });

for (const [name, own, other] of [
  ["structured output", "oa/m", "an/m"],
  ["structured output where it is native", "openai/gpt-4o", "anthropic/claude-sonnet-4-5"],
]) {
  test(name, async (to) => {
    const response_format = { type: "json_schema", json_schema: { name: "place", strict: true, schema: WEATHER } };
    const asked = { model: isOwn(to) ? own : other, messages: SAY, response_format };
    const whole = await client.chat.completions.parse(asked);
    assert.deepEqual(JSON.parse(whole.choices[0].message.content), { city: "text", unit: "c" });
    assert.equal(whole.choices[0].finish_reason, "stop");
    assert.equal(whole.choices[0].message.tool_calls?.length ?? 0, 0);
    const final = await client.chat.completions.stream(asked).finalChatCompletion();
    assert.deepEqual(JSON.parse(final.choices[0].message.content), { city: "text", unit: "c" });
    assert.equal(final.choices[0].finish_reason, "stop");
  }, { calls: 2 });
}

test("images and documents", async (to) => {
  const file = { filename: "a.pdf", file_data: `data:application/pdf;base64,${PDF}` };
  await ask(to, { messages: [{ role: "user", content: [
    { type: "text", text: "What is this?" },
    { type: "image_url", image_url: { url: `data:image/png;base64,${PNG}` } },
    { type: "image_url", image_url: { url: "https://example.com/cat.jpg" } },
    { type: "file", file },
  ] }] });
  const [, data, url, document] = (await to.mock.sent()).messages[0].content;
  if (isOwn(to)) {
    assert.deepEqual(document.file, file);
  } else {
    assert.deepEqual(data.source, { type: "base64", media_type: "image/png", data: PNG });
    assert.deepEqual(url.source, { type: "url", url: "https://example.com/cat.jpg" });
    assert.deepEqual(document.source, { type: "base64", media_type: "application/pdf", data: PDF });
  }
});

test("thinking", async (to) => {
  const step = { thinking: "Let me think about it.", signature: "c2lnbmVk", text: "Yes.", tools: CALLS.slice(0, 1) };
  await to.mock.script([step, step, { text: "Sunny." }], ["reasoning_content", "reasoning_details"]);
  const model = isOwn(to) ? "openai/gpt-5" : "anthropic/claude-opus-4-0";
  const asked = { model, reasoning_effort: "low", tools: TOOLS };
  const { message } = (await client.chat.completions.create({ messages: SAY, ...asked })).choices[0];
  assert.deepEqual([message.reasoning_content, message.content], ["Let me think about it.", "Yes."]);
  let thought = "";
  for await (const chunk of await client.chat.completions.create({ messages: SAY, stream: true, ...asked })) {
    thought += chunk.choices[0].delta.reasoning_content ?? "";
  }
  assert.equal(thought, "Let me think about it.");
  const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "sun" };
  await client.chat.completions.create({ messages: [...SAY, message, result], ...asked });
  if (!isOwn(to)) {
    const [block] = (await to.mock.sent()).messages[1].content;
    assert.deepEqual(block, { type: "thinking", thinking: "Let me think about it.", signature: "c2lnbmVk" });
  }
}, { calls: 3 });

test("stop sequences and length", async (to) => {
  await to.mock.script([{ text: "One, two", stop_sequence: "three" }, { text: "One", finish: "length" }]);
  assert.equal((await ask(to, { stop: "three" })).choices[0].finish_reason, "stop");
  const sent = await to.mock.sent();
  assert.deepEqual(isOwn(to) ? sent.stop : sent.stop_sequences, isOwn(to) ? "three" : ["three"]);
  assert.equal((await ask(to, { max_tokens: 1 })).choices[0].finish_reason, "length");
}, { calls: 2 });

test("several answers", async (to) => {
  const answer = await ask(to, { n: 3 });
  assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1, 2]);
}, { only: "oa" });

test("what can't be said is refused by name", async (to) => {
  for (const [field, value] of [["n", 2], ["logprobs", true], ["logit_bias", { 50256: -100 }]]) {
    for (const stream of [false, true]) {
      const error = await fails(OpenAI.BadRequestError, () => ask(to, { [field]: value, stream }));
      assert.deepEqual([error.param, error.code], [field, "unsupported_parameter"]);
    }
  }
}, { calls: 0, only: "an" });

test("upstream errors are typed", async (to) => {
  // The last is the status where the protocols differ and an error is said anew.
  const table = [
    [400, OpenAI.BadRequestError, 400], [404, OpenAI.NotFoundError, 404], [413, OpenAI.APIError, 413],
    [422, isOwn(to) ? OpenAI.UnprocessableEntityError : OpenAI.BadRequestError, 400],
    [429, OpenAI.RateLimitError, 429], [500, OpenAI.InternalServerError, 502],
    [503, OpenAI.InternalServerError, 503], [529, OpenAI.InternalServerError, 503],
  ];
  for (const [status, kind, across] of table) {
    const headers = status === 429 ? { "retry-after": "17" } : {};
    await to.mock.script([{ status, headers }]);
    for (const stream of [false, true]) {
      const model = to.failing(`${status}-${stream ? "stream" : "whole"}`);
      const error = await fails(kind, () => client.chat.completions.create({ model, messages: SAY, stream }));
      assert.equal(error.status, isOwn(to) ? status : across, model);
      assert(error.error?.message && error.type && error.requestID, `${status}: ${JSON.stringify(error.error)}`);
      if (status === 429) assert.equal(error.headers.get("retry-after"), "17");
    }
  }
}, { calls: 16 });

test("gateway errors are typed", async (to) => {
  const asked = { model: to.model, messages: SAY };
  let error = await fails(OpenAI.AuthenticationError, () => connect("wrong-key").chat.completions.create(asked));
  assert.deepEqual([error.status, error.code], [401, "invalid_api_key"]);
  error = await fails(OpenAI.PermissionDeniedError, () => connect(NARROW_KEY).chat.completions.create(asked));
  assert.deepEqual([error.status, error.code], [403, "model_not_allowed"]);
  error = await fails(OpenAI.NotFoundError, () => ask(to, { model: "gpt-nonsense" }));
  assert.deepEqual([error.status, error.code], [404, "model_not_found"]);
  error = await fails(OpenAI.APIError, () => ask(to, { messages: [{ role: "user", content: "x".repeat(3 << 20) }] }));
  assert.deepEqual([error.status, error.code], [413, "request_too_large"]);
}, { calls: 0 });

test("a key over its limit", async (to) => {
  const limited = connect(LIMITED_KEY);
  await limited.chat.completions.create({ model: to.model, messages: SAY });
  const error = await fails(OpenAI.RateLimitError, () => limited.chat.completions.create({ model: to.model, messages: SAY }));
  assert.deepEqual([error.status, error.code], [429, "rate_limit_exceeded"]);
  assert(Number(error.headers.get("retry-after")) >= 1);
}, { only: "oa" });

test("the SDK retries what may be retried", async (to) => {
  await to.mock.script([{ status: 503 }, { text: "now" }]);
  const answer = await connect(KEY, { maxRetries: 1 }).chat.completions.create({ model: to.failing("retried"), messages: SAY });
  assert.equal(answer.choices[0].message.content, "now");
}, { calls: 2 });

test("the SDK's own timeout", async (to) => {
  await to.mock.script([{ stall_head: true }]);
  await fails(OpenAI.APIConnectionTimeoutError, () => ask(to, {}, { timeout: 300 }));
  await gone(to);
});

test("the gateway's timeout", async (to) => {
  await to.mock.script([{ stall_head: true }]);
  for (const stream of [false, true]) {
    const headers = { "x-strait-timeout": "300ms" };
    const error = await fails(OpenAI.InternalServerError, () => ask(to, { model: to.failing("slow"), stream }, { headers }));
    assert.deepEqual([error.status, error.code], [504, "timeout"]);
  }
}, { calls: 2 });

test("a stream left in the middle", async (to) => {
  await to.mock.script([{ chunks: 500, chunk_gap: "20ms" }]);
  let seen = 0;
  for await (const _ of await ask(to, { stream: true })) {
    seen += 1;
    if (seen === 4) {
      await eventually("one stream is open", async () => (await metric("strait_streams_open")) === 1);
      break;
    }
  }
  await gone(to);
});

test("a call that is aborted before its head", async (to) => {
  await to.mock.script([{ stall_head: true }]);
  const aborter = new AbortController();
  setTimeout(() => aborter.abort(), 200);
  await fails(OpenAI.APIUserAbortError, () => ask(to, {}, { signal: aborter.signal }));
  await gone(to);
});

test("a stream that breaks is an error and no end", async (to) => {
  for (const step of [{ chunks: 6, cut_after: 3 }, { chunks: 6, error_event: { at: 3, message: "it broke" } }]) {
    await to.mock.script([step]);
    let text = "";
    await fails(OpenAI.APIError, async () => {
      for await (const chunk of await ask(to, { stream: true })) {
        assert.equal(chunk.choices[0].finish_reason ?? null, null);
        text += chunk.choices[0].delta.content ?? "";
      }
    });
    assert(text && "hello there, gateway".startsWith(text), text);
  }
}, { calls: 2 });

test("headers", async (to) => {
  const { data, response } = await ask(to).withResponse();
  named(response.headers, to);
  assert.equal(data._request_id, response.headers.get("x-request-id"));
  const raw = await ask(to, { stream: true }).asResponse();
  named(raw.headers, to);
  assert.match(raw.headers.get("content-type"), /^text\/event-stream/);
  assert((await raw.text()).endsWith("data: [DONE]\n\n"));
}, { calls: 2 });

test("models", async (to) => {
  const wanted = `${to.catalogue}/${isOwn(to) ? "gpt-4o" : "claude-sonnet-4-5"}`;
  const listed = [];
  for await (const model of client.models.list()) listed.push(model.id);
  assert(listed.includes(wanted) && listed.includes(to.failing("slow")), listed.slice(0, 50).join());
  const one = await client.models.retrieve(wanted);
  assert.deepEqual([one.id, one.object], [wanted, "model"]);
  await fails(OpenAI.NotFoundError, () => client.models.retrieve("nothing/of-the-kind"));
}, { calls: 0 });

test("however a stream is framed, it says the same", async (to) => {
  for (const framing of FRAMINGS) {
    await to.mock.script([framing]);
    const messages = [{ role: "user", content: MANY_TONGUES }];
    const final = await client.chat.completions.stream({ model: to.model, messages }).finalChatCompletion();
    assert.equal(final.choices[0].message.content, MANY_TONGUES, JSON.stringify(framing));
  }
}, { calls: FRAMINGS.length });

test("many at once", async (to) => {
  await to.mock.script([{ chunks: 5, chunk_gap: "5ms" }]);
  await Promise.all(Array.from({ length: 40 }, async (_, number) => {
    const words = `number ${number} of many`;
    const asked = { model: to.model, messages: [{ role: "user", content: words }] };
    const answer = number % 2
      ? await client.chat.completions.create(asked)
      : await client.chat.completions.stream(asked).finalChatCompletion();
    assert.equal(answer.choices[0].message.content, words);
  }));
  await settled();
}, { calls: 40 });

await main();
