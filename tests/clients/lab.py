"""What the Python scripts share: the gateway, the fake providers behind it, the cases and how they are run.

`tests/sdk.rs` starts all of it and names it in the environment. A script runs every case against each provider, or
those alone whose names hold a word of its arguments, prints what failed, and ends with 1 if anything did.
"""

import json
import os
import sys
import time
import traceback
import urllib.request

GATEWAY = os.environ["GATEWAY_URL"]
ADMIN = os.environ["ADMIN_URL"]
# No limits; every model.
KEY = os.environ["KEY"]
# May use the model `oa/allowed` alone.
NARROW_KEY = os.environ["NARROW_KEY"]
# One request a minute.
LIMITED_KEY = os.environ["LIMITED_KEY"]
# One request at a time.
SINGLE_KEY = os.environ["SINGLE_KEY"]

# Most cases count the calls that arrive: none of them may be answered from memory.
FRESH = {"x-strait-cache": "no-store"}

# How a provider may send a stream and mean the same.
FRAMINGS = [
    {"split": "bytes"},
    {"split": 7, "chunk_gap": "0ms"},
    {"comments": True, "crlf": True},
    {"ping_every": "10ms", "delay_first_chunk": "35ms"},
    {"chunks": 40, "chunk_gap": "0ms"},
]
MANY_TONGUES = "Zürich → 東京, 👩‍🚀 \"quoted\" \\ and a\nnew line"

# A PNG of one pixel, and the start of a PDF: nobody looks into them.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = "JVBERi0xLjQKJcOkw7zDtsOfCg=="

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["c", "f"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
# What the fake providers answer with two calls at once: nested, not ASCII, and one without arguments.
CALLS = [
    {"name": "weather", "id": "call_one", "arguments": {"city": "Zürich \"Nord\"", "unit": "c"}},
    {"name": "clock", "id": "call_two", "arguments": {}},
]

# No proxy of whoever runs this stands between the parts.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def http(method, url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers={"content-type": "application/json"})
    with DIRECT.open(request, timeout=10) as answer:
        return answer.read()


class Mock:
    """A fake provider."""

    def __init__(self, url):
        self.url = url

    def script(self, *steps, allow=()):
        """Answers every call as `steps` say, one after the other; the last one repeats."""
        rules = [{"steps": list(steps)}] if steps else []
        http("POST", f"{self.url}/_script", {"allow": list(allow), "rule": rules})

    def calls(self):
        return json.loads(http("GET", f"{self.url}/_calls"))

    def forget(self):
        http("DELETE", f"{self.url}/_calls")

    def sent(self, at=-1):
        """The body of a call as it arrived."""
        return self.calls()[at]["body"]


class To:
    """A provider to ask, by the names that it has in the gateway's configuration."""

    def __init__(self, name, catalogue, mock):
        self.name = name
        self.mock = mock
        # A provider of the same fake that the catalogue knows, so that facts about its models are known.
        self.catalogue = catalogue
        self.model = f"{name}/m"

    def failing(self, what):
        """A model that is asked once and no more."""
        return f"{self.name}-{what}"


PROVIDERS = [
    To("oa", "openai", Mock(os.environ["OPENAI_MOCK"])),
    To("an", "anthropic", Mock(os.environ["ANTHROPIC_MOCK"])),
]
MOCKS = [to.mock for to in PROVIDERS] + [Mock(os.environ["REST_MOCK"])]
# One provider of each protocol that is spoken upstream, but for the two above behind one more fake.
EVERY = PROVIDERS + [To(name, None, MOCKS[-1]) for name in ("rs", "ge", "be", "co", "ol", "az")]
CASES = []


def case(calls=1, only=None):
    """Adds a case, which takes the provider to ask, and of which that provider must get `calls` calls.

    `only` names the one provider that it is for, or several.
    """

    def add(run):
        CASES.append((run, calls, only))
        return run

    return add


def equal(got, wanted, what=""):
    if got != wanted:
        raise AssertionError(f"{what}\n     got: {got!r}\n  wanted: {wanted!r}")


def holds(truth, what):
    if not truth:
        raise AssertionError(what)


def raises(kind, call):
    """Returns the error of exactly this kind, or one of these kinds, that `call` raises."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    names = " or ".join(kind.__name__ for kind in kinds)
    try:
        answer = call()
    except Exception as error:
        if type(error) not in kinds:
            raise AssertionError(f"{type(error).__name__} and not {names}: {error}") from error
        return error
    raise AssertionError(f"no {names} but {answer!r}")


def eventually(what, probe, seconds=5.0):
    """Waits until `probe` is true."""
    until = time.monotonic() + seconds
    while not probe():
        holds(time.monotonic() < until, f"not in time: {what}")
        time.sleep(0.01)


def metric(name):
    """The sum of a metric's series."""
    total = 0.0
    for line in http("GET", f"{ADMIN}/metrics").decode().splitlines():
        if line.startswith((name + " ", name + "{")):
            total += float(line.rsplit(" ", 1)[1])
    return total


def gone(to):
    """Holds when the provider's last call was dropped and the gateway counts nothing as running."""
    eventually("the provider's call is dropped", lambda: to.mock.calls()[-1]["outcome"] == "client_gone", 2.0)
    eventually("nothing is in flight", lambda: metric("strait_inflight") == 0)
    eventually("no stream is open", lambda: metric("strait_streams_open") == 0)


def named(headers, to, model="m"):
    """Holds when an answer's headers tell who answered."""
    holds(len(headers["x-request-id"]) >= 8, "x-request-id")
    holds(headers["x-strait-provider"] in (to.name, to.catalogue), headers["x-strait-provider"])
    equal(headers["x-strait-model"], model, "x-strait-model")
    equal(headers["x-strait-attempts"], "1", "x-strait-attempts")
    equal(headers["x-strait-cache"], "bypass", "x-strait-cache")
    holds(headers["x-strait-overhead-us"].isdigit(), "x-strait-overhead-us")


def check_calls(to, wanted):
    for mock in MOCKS:
        calls = mock.calls()
        problems = [problem for call in calls for problem in call["problems"]]
        shown = json.dumps([call["body"] for call in calls], ensure_ascii=False)[:4000]
        equal(problems, [], f"what was wrong with the calls: {shown}")
        if wanted is not None:
            equal(len(calls), wanted if mock is to.mock else 0, f"calls of {to.name if mock is to.mock else 'another'}: {shown}")


def main(providers=PROVIDERS):
    words = sys.argv[1:]
    failed = 0
    for run, calls, only in CASES:
        for to in providers:
            name = f"{run.__name__} at {to.name}"
            if only and to.name not in ([only] if isinstance(only, str) else only):
                continue
            if words and not any(word in name for word in words):
                continue
            for mock in MOCKS:
                mock.script()
                mock.forget()
            try:
                run(to)
                check_calls(to, calls)
                print(f"ok      {name}")
            except Exception:
                failed += 1
                print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
    print(f"{failed} failed")
    sys.exit(1 if failed else 0)
