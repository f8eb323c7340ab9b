// The Anthropic SDK against the gateway: every case to a provider of its own protocol and to one of OpenAI's.

import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { jsonSchemaOutputFormat } from "@anthropic-ai/sdk/helpers/json-schema";
import {
  CALLS, FRAMINGS, FRESH, GATEWAY, KEY, LIMITED_KEY, MANY_TONGUES, NARROW_KEY, PDF, PNG, WEATHER,
  eventually, fails, gone, main, metric, named, settled, test,
} from "./lab.mjs";

const connect = (apiKey = KEY, more = {}) =>
  new Anthropic({ baseURL: GATEWAY, apiKey, maxRetries: 0, defaultHeaders: FRESH, ...more });
const client = connect();
const SAY = [{ role: "user", content: "hello there, gateway" }];
const TOOLS = [
  { name: "weather", description: "The weather.", input_schema: WEATHER },
  { name: "clock", description: "The time.", input_schema: { type: "object", properties: {} } },
];
const isOwn = (to) => to.name === "an";
const body = (to, more = {}) => ({ model: to.model, messages: SAY, max_tokens: 100, ...more });
const ask = (to, more = {}, options = {}) => client.messages.create(body(to, more), options);
const textOf = (event) => (event.type === "content_block_delta" ? event.delta.text ?? "" : "");

test("plain", async (to) => {
  const message = await ask(to);
  assert.deepEqual([message.type, message.role], ["message", "assistant"]);
  assert.deepEqual(message.content, [{ type: "text", text: "hello there, gateway" }]);
  assert.deepEqual([message.stop_reason, message.stop_sequence], ["end_turn", null]);
  assert.deepEqual([message.usage.input_tokens, message.usage.output_tokens], [5, 5]);
});

test("stream", async (to) => {
  await to.mock.script([{ chunks: 6, chunk_gap: "0ms" }]);
  const events = [];
  for await (const event of await ask(to, { stream: true })) events.push(event);
  const kinds = events.map((event) => event.type);
  assert.deepEqual([kinds[0], ...kinds.slice(-3)], ["message_start", "content_block_stop", "message_delta", "message_stop"]);
  assert.equal(events.map(textOf).join(""), "hello there, gateway");
  assert(kinds.filter((kind) => kind === "content_block_delta").length >= 4, kinds.join());
});

test("a stream sums up to the whole answer", async (to) => {
  await to.mock.script([{ text: "Let me look.", tools: CALLS, usage: { prompt_tokens: 100, completion_tokens: 20 } }]);
  const whole = await ask(to, { tools: TOOLS });
  const final = await client.messages.stream(body(to, { tools: TOOLS })).finalMessage();
  assert.deepEqual(plain(final.content), plain(whole.content));
  assert.equal(final.stop_reason, whole.stop_reason);
  assert.deepEqual([final.usage.input_tokens, final.usage.output_tokens], [100, 20]);
}, { calls: 2 });

/** Without what the SDK adds. */
const plain = (content) => JSON.parse(JSON.stringify(content));

test("system and multi-turn", async (to) => {
  await ask(to, {
    system: "Be brief.",
    messages: [
      { role: "user", content: "One?" },
      { role: "assistant", content: [{ type: "text", text: "Two." }] },
      { role: "user", content: "Three?" },
    ],
  });
  const sent = await to.mock.sent();
  if (isOwn(to)) {
    assert.equal(sent.system, "Be brief.");
  } else {
    assert.deepEqual(sent.messages.map((message) => message.role), ["system", "user", "assistant", "user"]);
  }
});

function checkToolUse(content) {
  const uses = content.filter((block) => block.type === "tool_use");
  assert.deepEqual(uses.map((block) => [block.id, block.name, block.input]), CALLS.map((call) => [call.id, call.name, call.arguments]));
}

test("tool loop", async (to) => {
  await to.mock.script([{ tools: CALLS }, { text: "Sunny." }]);
  const message = await ask(to, { tools: TOOLS });
  assert.equal(message.stop_reason, "tool_use");
  checkToolUse(message.content);
  const results = message.content.map((block) => ({ type: "tool_result", tool_use_id: block.id, content: "sun" }));
  const turns = [...SAY, { role: "assistant", content: message.content }, { role: "user", content: results }];
  const last = await ask(to, { tools: TOOLS, messages: turns });
  assert.deepEqual([last.content[0].text, last.stop_reason], ["Sunny.", "end_turn"]);
  if (!isOwn(to)) {
    const { messages } = await to.mock.sent();
    const told = messages.filter((message) => message.role === "tool").map((message) => message.tool_call_id);
    assert.deepEqual(told, messages[1].tool_calls.map((call) => call.id));
  }
}, { calls: 2 });

test("parallel tools in a stream", async (to) => {
  await to.mock.script([{ text: "Let me look.", tools: CALLS, chunks: 7 }]);
  const partial = [];
  const stream = client.messages.stream(body(to, { tools: TOOLS }));
  stream.on("inputJson", (piece) => partial.push(piece));
  const final = await stream.finalMessage();
  assert.deepEqual([final.stop_reason, final.content[0].text], ["tool_use", "Let me look."]);
  checkToolUse(final.content);
  assert(partial.filter(Boolean).length >= 6, `${partial}: the arguments were not streamed`);
});

test("tool choice", async (to) => {
  const message = await ask(to, { tools: TOOLS, tool_choice: { type: "tool", name: "weather" } });
  assert.deepEqual([message.content[0].input, message.stop_reason], [{ city: "text", unit: "c" }, "tool_use"]);
  await ask(to, { tools: TOOLS, tool_choice: { type: "any" } });
  await ask(to, { tools: TOOLS, tool_choice: { type: "none" } });
}, { calls: 3 });

for (const [name, own, other] of [
  ["structured output", "an/m", "oa/m"],
  ["structured output where it is native", "anthropic/claude-sonnet-4-5", "openai/gpt-4o"],
]) {
  test(name, async (to) => {
    const asked = body(to, { model: isOwn(to) ? own : other, output_config: { format: jsonSchemaOutputFormat(WEATHER) } });
    const whole = await client.messages.parse(asked);
    assert.deepEqual(whole.parsed_output, { city: "text", unit: "c" });
    assert.equal(whole.stop_reason, "end_turn");
    const final = await client.messages.stream(asked).finalMessage();
    assert.deepEqual(final.parsed_output, { city: "text", unit: "c" });
    assert.deepEqual([final.stop_reason, final.content.map((block) => block.type)], ["end_turn", ["text"]]);
  }, { calls: 2 });
}

test("images and documents", async (to) => {
  const image = { type: "image", source: { type: "base64", media_type: "image/png", data: PNG } };
  const linked = { type: "image", source: { type: "url", url: "https://example.com/cat.jpg" } };
  const document = { type: "document", title: "a.pdf", source: { type: "base64", media_type: "application/pdf", data: PDF } };
  const content = [image, linked, document, { type: "text", text: "What is this?" }];
  await ask(to, { messages: [{ role: "user", content }] });
  const sent = (await to.mock.sent()).messages[0].content;
  if (isOwn(to)) {
    assert.deepEqual(sent, content);
  } else {
    assert.equal(sent[0].image_url.url, `data:image/png;base64,${PNG}`);
    assert.equal(sent[1].image_url.url, "https://example.com/cat.jpg");
    assert.deepEqual(sent[2].file, { filename: "a.pdf", file_data: `data:application/pdf;base64,${PDF}` });
  }
});

test("thinking", async (to) => {
  const step = { thinking: "Let me think about it.", signature: "c2lnbmVk", text: "Yes.", tools: CALLS.slice(0, 1) };
  await to.mock.script([step, step, { text: "Sunny." }], ["reasoning_content"]);
  const asked = {
    model: isOwn(to) ? to.model : "openai/gpt-5",
    max_tokens: 4000,
    tools: TOOLS,
    thinking: { type: "enabled", budget_tokens: 2000 },
  };
  const whole = await client.messages.create({ messages: SAY, ...asked });
  assert.deepEqual(whole.content.map((block) => block.type), ["thinking", "text", "tool_use"]);
  const signature = isOwn(to) ? "c2lnbmVk" : "";
  assert.deepEqual(plain(whole.content[0]), { type: "thinking", thinking: "Let me think about it.", signature });
  let thought = "";
  const stream = client.messages.stream({ messages: SAY, ...asked });
  stream.on("thinking", (piece) => (thought += piece));
  const final = await stream.finalMessage();
  assert.deepEqual([thought, plain(final.content)], ["Let me think about it.", plain(whole.content)]);
  const result = { type: "tool_result", tool_use_id: final.content[2].id, content: "sun" };
  const turns = [...SAY, { role: "assistant", content: final.content }, { role: "user", content: [result] }];
  await client.messages.create({ messages: turns, ...asked });
  const sent = await to.mock.sent();
  if (isOwn(to)) {
    assert.deepEqual(sent.messages[1].content[0], { type: "thinking", thinking: "Let me think about it.", signature });
  } else {
    assert.equal(sent.reasoning_effort, "low");
  }
}, { calls: 3 });

test("stop reasons", async (to) => {
  await to.mock.script([{ text: "One, two", stop_sequence: "three" }, { text: "One", finish: "length" }, { refusal: "No." }]);
  const message = await ask(to, { stop_sequences: ["three"] });
  // OpenAI doesn't tell that it was a sequence, nor which one.
  assert.deepEqual([message.stop_reason, message.stop_sequence], isOwn(to) ? ["stop_sequence", "three"] : ["end_turn", null]);
  assert.equal((await ask(to, { max_tokens: 1 })).stop_reason, "max_tokens");
  const refused = await client.messages.stream(body(to)).finalMessage();
  assert.deepEqual([refused.stop_reason, refused.content[0].text], ["refusal", "No."]);
}, { calls: 3 });

test("upstream errors are typed", async (to) => {
  // The last two are what an error becomes where it is said anew, because the protocols differ.
  const table = [
    [400, Anthropic.BadRequestError, 400], [404, Anthropic.NotFoundError, 404],
    [413, Anthropic.ContentTooLargeError, 413],
    [422, Anthropic.UnprocessableEntityError, 400, Anthropic.BadRequestError],
    [429, Anthropic.RateLimitError, 429], [500, Anthropic.InternalServerError, 502],
    [503, Anthropic.ServiceUnavailableError, 503],
    [529, Anthropic.OverloadedError, 503, Anthropic.ServiceUnavailableError],
  ];
  for (const [status, kind, across, kindAcross] of table) {
    const headers = status === 429 ? { "retry-after": "17" } : {};
    await to.mock.script([{ status, headers }]);
    for (const stream of [false, true]) {
      const model = to.failing(`${status}-${stream ? "stream" : "whole"}`);
      const error = await fails(isOwn(to) ? kind : kindAcross ?? kind, () => ask(to, { model, stream }));
      assert.equal(error.status, isOwn(to) ? status : across, model);
      assert(error.apiMessage && error.type, `${status}: ${JSON.stringify(error.error)}`);
      assert(error.headers.get("x-request-id"), `${status}: no x-request-id`);
      if (status === 429) assert.equal(error.headers.get("retry-after"), "17");
    }
  }
}, { calls: 16 });

test("gateway errors are typed", async (to) => {
  let error = await fails(Anthropic.AuthenticationError, () => connect("wrong-key").messages.create(body(to)));
  assert.deepEqual([error.status, error.type], [401, "authentication_error"]);
  error = await fails(Anthropic.PermissionDeniedError, () => connect(NARROW_KEY).messages.create(body(to)));
  assert.deepEqual([error.status, error.type], [403, "permission_error"]);
  error = await fails(Anthropic.NotFoundError, () => ask(to, { model: "claude-nonsense" }));
  assert.deepEqual([error.status, error.type], [404, "not_found_error"]);
  const large = { messages: [{ role: "user", content: "x".repeat(3 << 20) }] };
  error = await fails(Anthropic.ContentTooLargeError, () => ask(to, large));
  assert.deepEqual([error.status, error.type], [413, "request_too_large"]);
}, { calls: 0 });

test("a key over its limit", async (to) => {
  const limited = connect(LIMITED_KEY);
  await limited.messages.create(body(to));
  const error = await fails(Anthropic.RateLimitError, () => limited.messages.create(body(to)));
  assert.deepEqual([error.status, error.type], [429, "rate_limit_error"]);
  assert(Number(error.headers.get("retry-after")) >= 1);
}, { only: "an" });

test("the SDK retries what may be retried", async (to) => {
  await to.mock.script([{ status: 529 }, { text: "now" }]);
  const message = await connect(KEY, { maxRetries: 1 }).messages.create(body(to, { model: to.failing("retried") }));
  assert.equal(message.content[0].text, "now");
}, { calls: 2 });

test("the SDK's own timeout", async (to) => {
  await to.mock.script([{ stall_head: true }]);
  await fails(Anthropic.APIConnectionTimeoutError, () => ask(to, {}, { timeout: 300 }));
  await gone(to);
});

test("the gateway's timeout", async (to) => {
  await to.mock.script([{ stall_head: true }]);
  for (const stream of [false, true]) {
    const headers = { "x-strait-timeout": "300ms" };
    const error = await fails(Anthropic.GatewayTimeoutError, () => ask(to, { model: to.failing("slow"), stream }, { headers }));
    assert.deepEqual([error.status, error.type], [504, "timeout_error"]);
  }
}, { calls: 2 });

test("a stream left in the middle", async (to) => {
  await to.mock.script([{ chunks: 500, chunk_gap: "20ms" }]);
  const stream = client.messages.stream(body(to));
  let seen = 0;
  for await (const event of stream) {
    seen += textOf(event) ? 1 : 0;
    if (seen === 3) {
      await eventually("one stream is open", async () => (await metric("strait_streams_open")) === 1);
      break;
    }
  }
  stream.abort();
  await gone(to);
});

test("a call that is aborted before its head", async (to) => {
  await to.mock.script([{ stall_head: true }]);
  const aborter = new AbortController();
  setTimeout(() => aborter.abort(), 200);
  await fails(Anthropic.APIUserAbortError, () => ask(to, {}, { signal: aborter.signal }));
  await gone(to);
});

test("a stream that breaks is an error and no end", async (to) => {
  for (const step of [{ chunks: 6, cut_after: 3 }, { chunks: 6, error_event: { at: 3, message: "it broke" } }]) {
    await to.mock.script([step]);
    let text = "";
    const error = await fails(Anthropic.APIError, async () => {
      for await (const event of await ask(to, { stream: true })) {
        assert.notEqual(event.type, "message_stop", "a false end");
        text += textOf(event);
      }
    });
    assert(error.type, `${error.stack}`);
    assert(text && "hello there, gateway".startsWith(text), text);
  }
}, { calls: 2 });

test("headers", async (to) => {
  const { data, response } = await ask(to).withResponse();
  named(response.headers, to);
  assert.equal(data.content[0].text, "hello there, gateway");
  const raw = await ask(to, { stream: true }).asResponse();
  named(raw.headers, to);
  assert.match(raw.headers.get("content-type"), /^text\/event-stream/);
  assert((await raw.text()).includes("event: message_stop\n"));
}, { calls: 2 });

test("models", async (to) => {
  const wanted = `${to.catalogue}/${isOwn(to) ? "claude-sonnet-4-5" : "gpt-4o"}`;
  const listed = [];
  for await (const model of client.models.list()) listed.push(model.id);
  assert(listed.includes(wanted) && listed.includes(to.failing("slow")), listed.slice(0, 50).join());
  const one = await client.models.retrieve(wanted);
  assert.deepEqual([one.id, one.type], [wanted, "model"]);
  await fails(Anthropic.NotFoundError, () => client.models.retrieve("nothing/of-the-kind"));
}, { calls: 0 });

test("however a stream is framed, it says the same", async (to) => {
  for (const framing of FRAMINGS) {
    await to.mock.script([framing]);
    const messages = [{ role: "user", content: MANY_TONGUES }];
    const text = await client.messages.stream(body(to, { messages })).finalText();
    assert.equal(text, MANY_TONGUES, JSON.stringify(framing));
  }
}, { calls: FRAMINGS.length });

test("many at once", async (to) => {
  await to.mock.script([{ chunks: 5, chunk_gap: "5ms" }]);
  await Promise.all(Array.from({ length: 40 }, async (_, number) => {
    const words = `number ${number} of many`;
    const asked = body(to, { messages: [{ role: "user", content: words }] });
    const message = number % 2 ? await client.messages.create(asked) : await client.messages.stream(asked).finalMessage();
    assert.equal(message.content[0].text, words);
  }));
  await settled();
}, { calls: 40 });

await main();
