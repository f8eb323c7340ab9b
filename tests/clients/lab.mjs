// What the Node scripts share: the gateway, the fake providers behind it, the cases and how they are run.
//
// `tests/sdk.rs` starts all of it and names it in the environment. A script runs every case against each provider,
// or those alone whose names hold a word of its arguments, prints what failed, and ends with 1 if anything did.

import assert from "node:assert/strict";

export const GATEWAY = process.env.GATEWAY_URL;
const ADMIN = process.env.ADMIN_URL;
// No limits; every model.
export const KEY = process.env.KEY;
// May use the model `oa/allowed` alone.
export const NARROW_KEY = process.env.NARROW_KEY;
// One request a minute.
export const LIMITED_KEY = process.env.LIMITED_KEY;

// Most cases count the calls that arrive: none of them may be answered from memory.
export const FRESH = { "x-strait-cache": "no-store" };

// How a provider may send a stream and mean the same.
export const FRAMINGS = [
  { split: "bytes" },
  { split: 7, chunk_gap: "0ms" },
  { comments: true, crlf: true },
  { ping_every: "10ms", delay_first_chunk: "35ms" },
  { chunks: 40, chunk_gap: "0ms" },
];
export const MANY_TONGUES = 'Zürich → 東京, 👩‍🚀 "quoted" \\ and a\nnew line';

// A PNG of one pixel, and the start of a PDF: nobody looks into them.
export const PNG =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
export const PDF = "JVBERi0xLjQKJcOkw7zDtsOfCg==";

export const WEATHER = {
  type: "object",
  properties: { city: { type: "string" }, unit: { type: "string", enum: ["c", "f"] } },
  required: ["city", "unit"],
  additionalProperties: false,
};
// What the fake providers answer with two calls at once: nested, not ASCII, and one without arguments.
export const CALLS = [
  { name: "weather", id: "call_one", arguments: { city: 'Zürich "Nord"', unit: "c" } },
  { name: "clock", id: "call_two", arguments: {} },
];

async function http(method, url, body) {
  const answer = await fetch(url, {
    method,
    body: body && JSON.stringify(body),
    headers: { "content-type": "application/json" },
  });
  const text = await answer.text();
  assert.equal(answer.status, 200, text);
  return text;
}

/** A fake provider. */
class Mock {
  constructor(url) {
    this.url = url;
  }

  /** Answers every call as `steps` say, one after the other; the last one repeats. */
  async script(steps = [], allow = []) {
    const rule = steps.length ? [{ steps }] : [];
    await http("POST", `${this.url}/_script`, { allow, rule });
  }

  async calls() {
    return JSON.parse(await http("GET", `${this.url}/_calls`));
  }

  async forget() {
    await http("DELETE", `${this.url}/_calls`);
  }

  /** The body of the last call as it arrived. */
  async sent() {
    return (await this.calls()).at(-1).body;
  }
}

/** A provider to ask, by the names that it has in the gateway's configuration. */
class To {
  constructor(name, catalogue, mock) {
    this.name = name;
    this.mock = mock;
    // A provider of the same fake that the catalogue knows, so that facts about its models are known.
    this.catalogue = catalogue;
    this.model = `${name}/m`;
  }

  /** A model that is asked once and no more. */
  failing(what) {
    return `${this.name}-${what}`;
  }
}

const PROVIDERS = [
  new To("oa", "openai", new Mock(process.env.OPENAI_MOCK)),
  new To("an", "anthropic", new Mock(process.env.ANTHROPIC_MOCK)),
];
// One provider of each protocol that is spoken upstream, but for the two above behind one more fake.
const REST = new Mock(process.env.REST_MOCK);
const MOCKS = [...PROVIDERS.map((to) => to.mock), REST];
export const EVERY = [...PROVIDERS, ...["rs", "ge", "be", "co", "ol", "az"].map((name) => new To(name, name, REST))];
const CASES = [];

/** Adds a case, which takes the provider to ask, and of which that provider must get `calls` calls. */
export function test(name, run, { calls = 1, only } = {}) {
  CASES.push({ name, run, calls, only });
}

/** Returns the error of exactly this kind that `call` throws. */
export async function fails(kind, call) {
  let answer;
  try {
    answer = await call();
  } catch (error) {
    assert.equal(error.constructor, kind, `${error.constructor.name} and not ${kind.name}: ${error.stack}`);
    return error;
  }
  assert.fail(`no ${kind.name} but ${JSON.stringify(answer)}`);
}

/** Waits until `probe` is true. */
export async function eventually(what, probe, ms = 5000) {
  const until = Date.now() + ms;
  while (!(await probe())) {
    assert(Date.now() < until, `not in time: ${what}`);
    await new Promise((done) => setTimeout(done, 10));
  }
}

/** The sum of a metric's series. */
export async function metric(name) {
  const lines = (await http("GET", `${ADMIN}/metrics`)).split("\n");
  const own = lines.filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
  return own.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

/** Holds when the provider's last call was dropped and the gateway counts nothing as running. */
export async function gone(to) {
  await eventually("the provider's call is dropped", async () => (await to.mock.calls()).at(-1)?.outcome === "client_gone", 2000);
  await settled();
}

export async function settled() {
  await eventually("nothing is in flight", async () => (await metric("strait_inflight")) === 0);
  await eventually("no stream is open", async () => (await metric("strait_streams_open")) === 0);
}

/** Holds when an answer's headers tell who answered. */
export function named(headers, to, model = "m") {
  assert(headers.get("x-request-id")?.length >= 8, "x-request-id");
  assert([to.name, to.catalogue].includes(headers.get("x-strait-provider")), headers.get("x-strait-provider"));
  assert.equal(headers.get("x-strait-model"), model);
  assert.equal(headers.get("x-strait-attempts"), "1");
  assert.equal(headers.get("x-strait-cache"), "bypass");
  assert.match(headers.get("x-strait-overhead-us"), /^\d+$/);
}

async function checkCalls(to, wanted) {
  for (const mock of MOCKS) {
    const calls = await mock.calls();
    const shown = JSON.stringify(calls.map((call) => call.body)).slice(0, 4000);
    assert.deepEqual(calls.flatMap((call) => call.problems), [], `what was wrong with the calls: ${shown}`);
    if (wanted !== undefined) {
      assert.equal(calls.length, mock === to.mock ? wanted : 0, `calls of ${mock === to.mock ? to.name : "another"}: ${shown}`);
    }
  }
}

export async function main(providers = PROVIDERS) {
  const words = process.argv.slice(2);
  let failed = 0;
  for (const { name, run, calls, only } of CASES) {
    for (const to of providers) {
      const whole = `${name} at ${to.name}`;
      if ((only && ![only].flat().includes(to.name)) || (words.length && !words.some((word) => whole.includes(word)))) continue;
      for (const mock of MOCKS) {
        await mock.script();
        await mock.forget();
      }
      try {
        await run(to);
        await checkCalls(to, calls === "any" ? undefined : calls);
        console.log(`ok      ${whole}`);
      } catch (error) {
        failed += 1;
        console.log(`FAILED  ${whole}\n${error.stack}\n`);
      }
    }
  }
  console.log(`${failed} failed`);
  process.exitCode = failed ? 1 : 0;
}
