#!/usr/bin/env python3
"""Makes conf/models.tsv and conf/providers.toml from a folder of provider and model facts.

    python3 conf/generate.py ../shared/catalogue

The folder holds providers.json and models.json. What is kept, and why, stands in the tables below.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent


def main():
    facts = pathlib.Path(sys.argv[1])
    models = json.loads((facts / "models.json").read_text())
    providers = json.loads((facts / "providers.json").read_text())
    (HERE / "models.tsv").write_text("".join(model_lines(models)))
    (HERE / "providers.toml").write_text("\n".join(provider_rows(providers)))


# ---- models -------------------------------------------------------------------------------------

# Multipliers that a request or an answer can show.
MULTIPLIERS = {"geo:us", "residency:eu", "residency:us", "regional_endpoint", "fast_mode"}
# Units that a usage can count.
UNITS = {
    "ksearch", "ksearch_low", "ksearch_medium", "ksearch_high", "kmaps_search", "kfile_search",
    "krequest", "kquery", "kpage", "mchar_in", "second_in", "second_out", "image_out",
}


# Models of which the sources know the price alone, and the one before them, which can do the same.
BEFORE = {"claude-fable-5.2": "claude-fable-5.1", "claude-mythos-5.2": "claude-mythos-5.1"}


def fill_claude(models):
    """Gives Claude rows of which the sources know no more than a price what Anthropic's own row says."""
    own = {row["canon"]: row for row in models if row["provider"] == "anthropic" and "tools" in row["caps"]}
    for row in models:
        donor = own.get(row["canon"]) or own.get(BEFORE.get(row["canon"]))
        if "claude" not in row["family"] or "tools" in row["caps"] or donor is None:
            continue
        row["caps"] = sorted({*row["caps"], *donor["caps"]})
        for key in ("ctx", "max_out", "efforts"):
            if key in donor:
                row.setdefault(key, donor[key])


def model_lines(models):
    fill_claude(models)
    adaptive = {row["canon"] for row in models if is_adaptive(row)}
    lines = []
    for row in models:
        kept = {key: row[key] for key in ("ctx", "max_in", "max_out", "dims", "price", "tiers", "svc") if key in row}
        if row["mode"] != "chat":
            kept["mode"] = row["mode"]
        if row.get("tier_inclusive"):
            kept["inclusive"] = True
        if "off_peak" in row:
            kept["off_peak"] = off_peak(row["off_peak"])
        if "changes" in row:
            kept["changes"] = row["changes"]
        for key, known in (("multipliers", MULTIPLIERS), ("unit", UNITS)):
            table = {name: value for name, value in row.get(key, {}).items() if name in known}
            if table:
                kept[key] = table
        if "ksearch" in row.get("unit", {}) and is_google(row) and row.get("search_unit") != "per_query":
            kept["search_per_prompt"] = True
        if row["provider"] == "groq" and "second_in" in row.get("unit", {}):
            # Groq bills transcriptions as ten seconds at least.
            kept["least_seconds"] = 10
        caps = list(row["caps"])
        if row["canon"] in adaptive and "claude" in row["family"]:
            caps.append("adaptive_thinking")
        if caps:
            kept["caps"] = " ".join(caps)
        if "efforts" in row:
            kept["efforts"] = " ".join(row["efforts"])
        for key in ("status", "sunset", "profiles"):
            if key in row:
                kept[key] = row[key]
        if row.get("price_unknown"):
            kept["unknown"] = True
        text = json.dumps(kept, separators=(",", ":"), ensure_ascii=True)
        lines.append((row["provider"], row["id"].lower(), f"{row['provider']}\t{row['id']}\t{text}\n"))
    # The program searches by bytes: (provider, lower-case id).
    lines.sort(key=lambda line: (line[0].encode(), line[1].encode()))
    return [line for _, _, line in lines]


def is_adaptive(row):
    """Claude models that take `thinking: {type: adaptive}` and an effort: 4.6 and later."""
    return "claude" in row["family"] and "reasoning" in row["caps"] and (
        "no_sampling" in row["caps"] or "max" in row.get("efforts", []))


def is_google(row):
    return row["provider"] in ("gemini", "vertex") and row["family"].startswith("gemini")


def off_peak(given):
    """Windows as [weekdays, from minute, to minute] of UTC days."""
    windows = []
    for window in given["windows"]:
        days = window.get("weekdays", [1, 2, 3, 4, 5, 6, 7])
        for hours in window["hours_utc"]:
            start, end = (minutes(time) for time in hours.split("-"))
            windows.append([days, start, end or 1440])
    return {"price": given["price"], "windows": windows}


def minutes(time):
    hour, minute = time.split(":")
    return int(hour) * 60 + int(minute)


# ---- providers ----------------------------------------------------------------------------------

# Openings to the OpenAI protocol at providers whose first protocol is another.
COMPATIBLE = {
    "gemini": "https://generativelanguage.googleapis.com/v1beta/openai",
    "cohere": "https://api.cohere.ai/compatibility/v1",
    "ollama": "http://localhost:11434/v1",
}
# Anthropic's protocol beside OpenAI's, with the same key as a bearer token.
ANTHROPIC_PATHS = {
    "deepseek": "/anthropic/v1/messages",
    "minimax": "/anthropic/v1/messages",
    "moonshot": "/anthropic/v1/messages",
    "novita": "/anthropic/v1/messages",
    "openrouter": "/api/v1/messages",
    "zai": "/api/anthropic/v1/messages",
}
# Servers on one's own machine: used when the user's file names them.
LOCAL = {"llamafile", "lmstudio", "ollama", "vllm"}
# The catalogue's list has variables that hold no key for this host.
ENV = {
    "anthropic": ["ANTHROPIC_API_KEY"],
    "vercel": ["AI_GATEWAY_API_KEY", "VERCEL_AI_GATEWAY_API_KEY"],
    "zai": ["ZAI_API_KEY"],
}
# Not a name of one provider, and not a bare key of TOML.
NO_ALIAS = {"openai-compatible", "z.ai"}
# They take no `stream_options`, or send usage in every stream without being asked.
NO_STREAM_OPTIONS = {"ai21", "codestral", "mistral", "nscale", "perplexity", "v0"}
DEVELOPER_ROLE = {"openai"}
MAX_COMPLETION_TOKENS = {"openai", "cerebras", "groq"}
# Only what the provider is known to refuse and an answer doesn't depend on.
DROP = {
    "codestral": ["stream_options", "user"],
    "mistral": ["stream_options", "user"],
    "nscale": ["stream_options"],
    "v0": ["stream_options"],
}
RENAME = {
    "codestral": {"max_completion_tokens": "max_tokens", "seed": "random_seed"},
    "hyperbolic": {"max_completion_tokens": "max_tokens"},
    "mistral": {"max_completion_tokens": "max_tokens", "seed": "random_seed"},
}
CLAMP = {"moonshot": {"temperature": 1}}

HEAD = """\
# Providers that Strait knows without being told: made by conf/generate.py, rows in the shape that users write.
# `env`: variables of which the first that is set holds the key. `local`: used only when the user's file names it.
"""


def provider_rows(providers):
    yield HEAD
    taken = {row["id"] for row in providers}
    for row in providers:
        name = row["id"]
        anthropic = row["wire"] == "anthropic-messages"
        base = COMPATIBLE.get(name, row["base_url"])
        if row["wire"] not in ("openai-chat", "anthropic-messages") and name not in COMPATIBLE:
            continue
        # An address with a hole in it is the user's to fill; sign-on flows are not built.
        if "{" in base or row["auth"]["kind"] == "oauth":
            continue
        protocols = ["anthropic"] if anthropic else ["openai-chat"]
        if name in ANTHROPIC_PATHS:
            protocols.append("anthropic")
        yield f"# {row['name']}: {row['ev']}"
        yield f"[providers.{name}]"
        aliases = [alias for alias in row.get("aliases", []) if alias not in taken and alias not in NO_ALIAS]
        if aliases:
            yield f"aliases = {toml(aliases)}"
        taken.update(aliases)
        if name in LOCAL:
            yield "local = true"
        else:
            yield f"env = {toml(ENV.get(name) or [v for v in row['env'] if is_key(v)])}"
        yield f"protocols = {toml(protocols)}"
        yield f'base_url = "{base}"'
        if name in ANTHROPIC_PATHS:
            yield f'paths = {{ anthropic = "{ANTHROPIC_PATHS[name]}" }}'
        yield f'auth = "{auth(row)}"'
        if anthropic:
            yield 'headers = { anthropic-version = "2023-06-01" }'
        quirks = quirks_of(row)
        if quirks:
            yield f"quirks = {toml(quirks)}"
        yield ""


def is_key(variable):
    return not variable.endswith(("_BASE", "_HOST", "_VERSION", "_URL", "_ACCOUNT", "_ACCOUNT_ID"))


def auth(row):
    if row["id"] in LOCAL:
        return "none"
    if row["auth"]["kind"] == "header":
        return "header:" + row["auth"]["header"].split(":")[0]
    return "bearer"


def quirks_of(row):
    name = row["id"]
    quirks = {}
    if name in DROP:
        quirks["drop"] = DROP[name]
    rename = RENAME.get(name, {})
    if row.get("max_tokens_param") == "max_tokens" and "max_completion_tokens" not in rename:
        rename = {"max_completion_tokens": "max_tokens", **rename}
    if rename:
        quirks["rename"] = rename
    if name in CLAMP:
        quirks["clamp"] = CLAMP[name]
    if name in DEVELOPER_ROLE:
        quirks["developer_role"] = True
    if name in MAX_COMPLETION_TOKENS:
        quirks["max_completion_tokens"] = True
    if row["wire"] == "anthropic-messages":
        return quirks
    quirks["stream_options"] = name not in NO_STREAM_OPTIONS
    return quirks


def toml(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml(inner) for inner in value) + "]"
    return json.dumps(value)


if __name__ == "__main__":
    main()
