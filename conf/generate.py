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


# OpenAI's models that search before each answer, in chats, which don't say so.
SEARCHES = "-search-"

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


# What a request can need of a model.
NEEDED = ["vision", "audio_in", "audio_out", "pdf", "video_in", "tools", "json_schema", "reasoning"]
# Providers that refuse what a model of theirs lacks, where others leave it out.
STRICT = {"anthropic", "azure", "bedrock", "gemini", "openai", "vertex"}
# They turn a PDF into text for models that can't read one.
READS_PDF = {"openrouter"}


def lacks(row, elsewhere):
    """What a chat model is known not to do. `elsewhere`: what any seller says of the same weights.

    Sources leave out what they don't know. So a row counts only where it is described at all (it says that the model
    calls tools, or models.dev, whose facts are yes or no, has it), and a gap only where no seller says otherwise.
    """
    caps = set(row["caps"])
    told = "md" in row["src"]
    if row["mode"] != "chat" or not (told or "tools" in caps):
        return []
    found = []
    for cap in NEEDED:
        if cap in caps or cap in elsewhere:
            continue
        if cap == "pdf" and ("vision" in caps | elsewhere or row["provider"] in READS_PDF):
            continue
        if cap in ("json_schema", "reasoning") and row["provider"] not in STRICT:
            continue
        if cap == "tools" and not told:
            continue
        found.append(cap)
    return found


def model_lines(models):
    fill_claude(models)
    everywhere = {}
    for row in models:
        everywhere.setdefault(row["canon"], set()).update(row["caps"])
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
        if "ksearch" in row.get("unit", {}) and row["provider"] in ("openai", "azure") and SEARCHES in row["id"]:
            kept["search_always"] = True
        if row["provider"] == "groq" and "second_in" in row.get("unit", {}):
            # Groq bills transcriptions as ten seconds at least.
            kept["least_seconds"] = 10
        caps = list(row["caps"])
        if row["canon"] in adaptive and "claude" in row["family"]:
            caps.append("adaptive_thinking")
        if caps:
            kept["caps"] = " ".join(caps)
        if lacking := lacks(row, everywhere[row["canon"]]):
            kept["lacks"] = " ".join(lacking)
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

# What is spoken, where it isn't OpenAI chat alone, in order of preference.
PROTOCOLS = {
    "anthropic": ["anthropic"],
    "azure": ["openai-chat", "openai-responses", "openai-completions", "anthropic"],
    "bedrock": ["bedrock", "anthropic"],
    "cohere": ["cohere", "openai-chat"],
    "gemini": ["gemini"],
    "ollama": ["ollama", "openai-chat"],
    "openai": ["openai-chat", "openai-responses", "openai-completions"],
    "vertex": ["gemini", "anthropic", "openai-chat"],
}
# OpenAI responses beside OpenAI chat: the facts' `also`, and vLLM's and LM Studio's own documentation.
RESPONSES = {"fireworks", "groq", "lmstudio", "meta", "openrouter", "perplexity", "vllm", "xai"}
# Anthropic's protocol beside OpenAI's, with the same key as a bearer token: the facts' `also`.
ANTHROPIC = {
    "baseten", "deepseek", "fireworks", "meta", "minimax", "moonshot", "novita", "openrouter", "tencent", "xai", "zai",
}
# Text completion beside chat, for the same models: general knowledge.
COMPLETIONS = {"deepinfra", "fireworks", "hyperbolic", "llamafile", "lmstudio", "openrouter", "together", "vllm"}
# Where a protocol is found when not at the usual path below the base URL.
PATHS = {
    "cohere": {"openai-chat": "/compatibility/v1/chat/completions"},
    "deepseek": {"anthropic": "/anthropic/v1/messages"},
    "minimax": {"anthropic": "/anthropic/v1/messages"},
    "moonshot": {"anthropic": "/anthropic/v1/messages"},
    "novita": {"anthropic": "/anthropic/v1/messages"},
    "ollama": {"openai-chat": "/v1/chat/completions"},
    "openrouter": {"anthropic": "/api/v1/messages"},
    "perplexity": {"openai-responses": "/v1/responses"},
    "zai": {"anthropic": "/api/anthropic/v1/messages"},
}
# The models that a protocol is spoken for, where it isn't all of them.
COMPLETING = ["*-instruct*", "babbage-002", "davinci-002", "ft:babbage*", "ft:davinci*"]
MODELS_ONLY = {
    "azure": {
        "openai-chat": ["!claude*"],
        "openai-responses": ["!claude*"],
        "openai-completions": COMPLETING,
        "anthropic": ["claude*"],
    },
    "bedrock": {"anthropic": ["*anthropic.claude*"]},
    "openai": {"openai-completions": COMPLETING},
    "vertex": {
        "gemini": ["*gemini*", "*gemma*", "imagen*", "*embedding*", "endpoints/*"],
        "anthropic": ["claude*", "anthropic/*"],
        "openai-chat": ["*/*", "!google/*", "!anthropic/*", "!endpoints/*"],
    },
}
# Base URLs that differ from the facts' because the rest of the path is ours, or decided by the platform.
BASE = {
    "azure": None,
    "bedrock": None,
    "cohere": "https://api.cohere.com/v2",
    "gemini": "https://generativelanguage.googleapis.com/v1beta",
    "vertex": None,
}
# Variables that hold the base URL.
BASE_ENV = {"ollama": ["OLLAMA_API_BASE"]}
# Whose paths, address and ways to sign in are the program's own.
PLATFORMS = {"azure", "bedrock", "vertex"}
# Wires of OpenAI's that have no chat, and what they have.
APIS = {"jina": ["embeddings", "rerank"], "recraft": ["images", "image_edits"], "voyage": ["embeddings", "rerank"]}
WIRES = {
    "anthropic-messages", "azure-openai", "bedrock-converse", "cohere-v2", "google-gemini", "ollama", "openai-chat",
    "openai-embeddings", "openai-images", "vertex",
}
# Servers on one's own machine: used when the user's file names them.
LOCAL = {"llamafile", "lmstudio", "ollama", "vllm"}
# The catalogue's list has variables that hold no key for this host.
ENV = {
    "anthropic": ["ANTHROPIC_API_KEY"],
    "azure": ["AZURE_OPENAI_API_KEY", "AZURE_API_KEY"],
    "bedrock": ["AWS_BEARER_TOKEN_BEDROCK"],
    "vertex": [],
    "vercel": ["AI_GATEWAY_API_KEY", "VERCEL_AI_GATEWAY_API_KEY"],
    "zai": ["ZAI_API_KEY"],
}
# Not a name of one provider, and not a bare key of TOML.
NO_ALIAS = {"openai-compatible", "z.ai"}
# They take no `stream_options`, or send usage in every stream without being asked.
NO_STREAM_OPTIONS = {"ai21", "codestral", "mistral", "nscale", "perplexity", "v0"}
DEVELOPER_ROLE = {"azure", "openai"}
MAX_COMPLETION_TOKENS = {"azure", "openai", "cerebras", "groq"}
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
        base = BASE.get(name, row["base_url"])
        if row["wire"] not in WIRES:
            continue
        # An address with a hole in it is the user's to fill; other sign-on flows are not built.
        if name not in PLATFORMS and ("{" in base or row["auth"]["kind"] == "oauth"):
            continue
        protocols = protocols_of(name)
        yield f"# {row['name']}: {row['ev']}"
        yield f"[providers.{name}]"
        aliases = [alias for alias in row.get("aliases", []) if alias not in taken and alias not in NO_ALIAS]
        if aliases:
            yield f"aliases = {toml(aliases)}"
        taken.update(aliases)
        if name in LOCAL:
            yield "local = true"
            if name in BASE_ENV:
                yield f"base_env = {toml(BASE_ENV[name])}"
        else:
            yield f"env = {toml(ENV[name] if name in ENV else [v for v in row['env'] if is_key(v)])}"
        if name in PLATFORMS:
            yield f'platform = "{name}"'
        yield f"protocols = {toml(protocols)}"
        if name in MODELS_ONLY:
            yield f"models_only = {toml(MODELS_ONLY[name])}"
        if name in APIS:
            yield f"apis = {toml(APIS[name])}"
        if base:
            yield f'base_url = "{base}"'
        if name in PATHS:
            yield f"paths = {toml(PATHS[name])}"
        if name not in PLATFORMS:
            yield f'auth = "{auth(row)}"'
        if protocols[0] == "anthropic":
            yield 'headers = { anthropic-version = "2023-06-01" }'
        quirks = quirks_of(row)
        if quirks:
            yield f"quirks = {toml(quirks)}"
        yield ""


def protocols_of(name):
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    beside = (("openai-responses", RESPONSES), ("openai-completions", COMPLETIONS), ("anthropic", ANTHROPIC))
    return ["openai-chat"] + [protocol for protocol, names in beside if name in names]


def is_key(variable):
    return not variable.endswith(("_BASE", "_HOST", "_VERSION", "_URL", "_ACCOUNT", "_ACCOUNT_ID"))


def auth(row):
    if row["id"] in LOCAL:
        return "none"
    if row["auth"]["kind"] in ("header", "header-or-query"):
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
    if "openai-chat" not in protocols_of(name) or name in APIS:
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
