"""Validates what is said in Bedrock's words with botocore's own model of its API and its own parsers.

Reads JSON lines from the file named first: {"name", "kind", "body"}. `kind` is one of bedrock.request,
bedrock.message, bedrock.stream, bedrock.chunks; the body of a stream is base64. Requests must pass botocore's
check of parameters, answers and streams must come out of its parsers, and all must hold to the required members,
the closed sets of words, the lengths and the patterns of the model. Prints one line per fault and ends with 1 if
there was any, with 77 if the packages are absent.
"""

import base64
import json
import re
import sys

try:
    import botocore.eventstream
    import botocore.parsers
    import botocore.session
    import botocore.validate
except ImportError as error:
    print(f"the packages are absent: {error}")
    sys.exit(77)

MODEL = botocore.session.get_session().get_service_model("bedrock-runtime")
PARSER = botocore.parsers.create_parser("rest-json")


def faults(value, shape, path):
    """What botocore leaves to the service: words, lengths and patterns; and members that the model lacks."""
    meta = shape.metadata
    if shape.type_name == "structure":
        if meta.get("document"):
            return
        if not isinstance(value, dict):
            yield f"{path}: not an object"
            return
        if getattr(shape, "is_tagged_union", False) and len(value) != 1:
            yield f"{path}: {len(value)} members of a union"
        for name in shape.required_members:
            if name not in value:
                yield f"{path}.{name} is missing"
        for name, inner in value.items():
            if name == "SDK_UNKNOWN_MEMBER" or name not in shape.members:
                yield f"{path}.{name} is not known"
            else:
                yield from faults(inner, shape.members[name], f"{path}.{name}")
    elif shape.type_name == "list":
        if len(value) < meta.get("min", 0) or len(value) > meta.get("max", len(value)):
            yield f"{path}: {len(value)} elements"
        for index, inner in enumerate(value):
            yield from faults(inner, shape.member, f"{path}[{index}]")
    elif shape.type_name == "map":
        for name, inner in value.items():
            yield from faults(inner, shape.value, f"{path}.{name}")
    elif shape.type_name == "string":
        if not isinstance(value, str):
            yield f"{path}: not a string"
            return
        if "enum" in meta and value not in meta["enum"]:
            yield f"{path}: {value!r} is no word of {meta['enum']}"
        if len(value) < meta.get("min", 0) or len(value) > meta.get("max", len(value)):
            yield f"{path}: {len(value)} characters"
        if "pattern" in meta and not re.fullmatch(meta["pattern"], value):
            yield f"{path}: {value!r} does not match {meta['pattern']}"
    elif shape.type_name in ("float", "double", "integer", "long"):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            yield f"{path}: not a number"
        elif value < meta.get("min", value) or value > meta.get("max", value):
            yield f"{path}: {value} is out of bounds"


def request(body):
    shape = MODEL.operation_model("Converse").input_shape
    said = {"modelId": "anthropic.claude-3-haiku-20240307-v1:0", **body}
    report = botocore.validate.ParamValidator().validate(said, shape)
    if report.has_errors():
        yield from report.generate_report().splitlines()
    yield from faults(said, shape, "request")


def message(body):
    shape = MODEL.operation_model("Converse").output_shape
    wire = {"status_code": 200, "headers": {}, "body": json.dumps(body).encode()}
    parsed = PARSER.parse(wire, shape)
    parsed.pop("ResponseMetadata")
    yield from faults(parsed, shape, "answer")


class Raw:
    def __init__(self, data):
        self.data = data

    def stream(self):
        # Cut where it hurts.
        for at in range(0, len(self.data), 7):
            yield self.data[at : at + 7]

    def close(self):
        pass


def events(body, operation):
    member = MODEL.operation_model(operation).get_event_stream_output()
    raw = Raw(base64.b64decode(body))
    return member, botocore.eventstream.EventStream(raw, member, PARSER._event_stream_parser, operation)


def stream(body):
    member, found = events(body, "ConverseStream")
    order, opened = [], None
    for event in found:
        (kind, inner), = event.items()
        order.append(kind)
        yield from faults(inner, member.members[kind], kind)
        index = inner.get("contentBlockIndex")
        if kind in ("contentBlockStart", "contentBlockDelta"):
            if opened not in (None, index):
                yield f"blocks {opened} and {index} overlap"
            opened = index
        elif kind == "contentBlockStop":
            opened = None
    if order[:1] != ["messageStart"] or order[-2:] != ["messageStop", "metadata"]:
        yield f"out of order: {order}"


def chunks(body):
    _, found = events(body, "InvokeModelWithResponseStream")
    kinds = [json.loads(event["chunk"]["bytes"])["type"] for event in found]
    if kinds[:1] != ["message_start"] or kinds[-1:] != ["message_stop"]:
        yield f"out of order: {kinds}"


CHECKS = {
    "bedrock.request": request,
    "bedrock.message": message,
    "bedrock.stream": stream,
    "bedrock.chunks": chunks,
}


def main():
    bad = seen = 0
    with open(sys.argv[1], encoding="utf-8") as lines:
        for line in lines:
            case = json.loads(line)
            seen += 1
            try:
                found = list(CHECKS[case["kind"]](case["body"]))
            except Exception as error:  # noqa: BLE001 - whatever it is, the case does not fit
                found = [f"{type(error).__name__}: {error}"]
            if found:
                bad += 1
                print(f"{case['name']} ({case['kind']}): {'; '.join(found[:5])}")
    print(f"{seen} cases, {bad} faults")
    sys.exit(1 if bad else 0)


main()
