"""What the fixture offers: tools, prompts and resources, under the names that the conformance suite calls."""

import asyncio
import base64
import json
import re
import struct
import zlib

import mcp_types as t
from mcp.server.subscriptions import PromptsListChanged, ResourceUpdated, ToolsListChanged
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.message import ServerMessageMetadata

MODERN = "2026-07-28"
PAUSE = 0.05


def png() -> str:
    """One red pixel, base64."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    pixel = zlib.compress(b"\x00\xff\x00\x00")
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")).decode()


def wav() -> str:
    """Eight silent samples, base64."""
    fmt = struct.pack("<HHIIHH", 1, 1, 8000, 8000, 1, 8)
    data = b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", 8) + b"\x80" * 8
    return base64.b64encode(b"RIFF" + struct.pack("<I", 4 + len(data)) + b"WAVE" + data).decode()


def text(words: str) -> t.TextContent:
    return t.TextContent(text=words)


def image() -> t.ImageContent:
    return t.ImageContent(data=png(), mime_type="image/png")


def embedded(uri: str, mime: str, words: str) -> t.EmbeddedResource:
    return t.EmbeddedResource(resource=t.TextResourceContents(uri=uri, mime_type=mime, text=words))


def done(*content) -> t.CallToolResult:
    return t.CallToolResult(content=[text(c) if isinstance(c, str) else c for c in content])


def failed(words: str) -> t.CallToolResult:
    return t.CallToolResult(content=[text(words)], is_error=True)


def form(message: str, required: bool = True, **properties) -> t.ElicitRequest:
    schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(properties)
    return t.ElicitRequest(params=t.ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(question: str, max_tokens: int) -> t.CreateMessageRequest:
    message = t.SamplingMessage(role="user", content=text(question))
    return t.CreateMessageRequest(params=t.CreateMessageRequestParams(messages=[message], max_tokens=max_tokens))


def answers(params, *keys):
    """What the client answered to `keys`, or None while any of them is missing."""
    given = params.input_responses or {}
    return [given[k] for k in keys] if all(k in given for k in keys) else None


def said(answer: t.ElicitResult, key: str) -> str:
    return str((answer.content or {}).get(key, answer.action))


def capabilities(ctx) -> t.ClientCapabilities:
    return ctx.session.client_capabilities or t.ClientCapabilities()


# --- a server from before 2026-07-28 asks in the middle of a call --------------------------------------------------


def before(ctx) -> bool:
    return ctx.protocol_version != MODERN


async def asked_form(ctx, message: str, **properties) -> t.ElicitResult:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return await ctx.session.elicit_form(message, schema, ctx.request_id)


async def asked_model(ctx, question: str, max_tokens: int):
    message = t.SamplingMessage(role="user", content=text(question))
    return await ctx.session.create_message([message], max_tokens=max_tokens, related_request_id=ctx.request_id)


async def asked_roots(ctx) -> t.ListRootsResult:
    about = ServerMessageMetadata(related_request_id=ctx.request_id)
    return await ctx.session.send_request(t.ListRootsRequest(), t.ListRootsResult, metadata=about)


# --- tools: each takes (fixture, ctx, params) --------------------------------------------------------------------

TOOLS: dict[str, tuple[t.Tool, object]] = {}


def tool(description: str, schema: dict | None = None, **properties):
    def register(run):
        whole = schema or {"type": "object", "properties": properties, "required": list(properties)}
        TOOLS[run.__name__] = (t.Tool(name=run.__name__, description=description, input_schema=whole), run)
        return run

    return register


@tool("Answers with one line of text.")
async def test_simple_text(_fixture, _ctx, _params):
    return done("This is a simple text response for testing.")


@tool("Answers with a picture.")
async def test_image_content(_fixture, _ctx, _params):
    return done(image())


@tool("Answers with a sound.")
async def test_audio_content(_fixture, _ctx, _params):
    return done(t.AudioContent(data=wav(), mime_type="audio/wav"))


@tool("Answers with a resource inside the result.")
async def test_embedded_resource(_fixture, _ctx, _params):
    return done(embedded("test://embedded-resource", "text/plain", "This is an embedded resource content."))


@tool("Answers with text, a picture and a resource.")
async def test_multiple_content_types(_fixture, _ctx, _params):
    resource = embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')
    return done("Multiple content types test:", image(), resource)


@tool("Always fails.")
async def test_error_handling(_fixture, _ctx, _params):
    return failed("This tool intentionally returns an error for testing")


@tool("Logs three lines while it runs.")
async def test_tool_with_logging(_fixture, ctx, _params):
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.session.send_log_message("info", line, related_request_id=ctx.request_id)
        await asyncio.sleep(PAUSE)
    return done("Logged three lines.")


@tool("Logs one line, if the caller asked for logs.")
async def test_logging_tool(_fixture, ctx, _params):
    await ctx.session.send_log_message("info", "one line", related_request_id=ctx.request_id)
    return done("Logged one line.")


@tool("Reports 0, 50 and 100 of 100.")
async def test_tool_with_progress(_fixture, ctx, _params):
    for progress in (0, 50, 100):
        await ctx.session.report_progress(progress, 100, f"{progress} of 100")
        await asyncio.sleep(PAUSE)
    return done("Reported progress.")


async def ask_client(ctx, params, request, legacy):
    """The client's answer to a request in the middle of a call: asked for in the result where the era wants it so."""
    if ctx.protocol_version != MODERN:
        return await legacy()
    given = answers(params, "answer")
    return given[0] if given else t.InputRequiredResult(input_requests={"answer": request})


@tool("Asks the client's model.", prompt={"type": "string"})
async def test_sampling(_fixture, ctx, params):
    if capabilities(ctx).sampling is None:
        return failed("the client has no sampling")
    request = sample(params.arguments["prompt"], 100)

    async def legacy():
        messages = request.params.messages
        return await ctx.session.create_message(messages, max_tokens=100, related_request_id=ctx.request_id)

    answer = await ask_client(ctx, params, request, legacy)
    if isinstance(answer, t.InputRequiredResult):
        return answer
    return done(f"LLM response: {getattr(answer.content, 'text', answer.content)}")


@tool("Asks the client for its roots.")
async def test_roots(_fixture, ctx, params):
    if capabilities(ctx).roots is None:
        return failed("the client has no roots")

    async def legacy():
        # `session.list_roots` has no word for the call that it belongs to.
        related = ServerMessageMetadata(related_request_id=ctx.request_id)
        return await ctx.session.send_request(t.ListRootsRequest(), t.ListRootsResult, metadata=related)

    answer = await ask_client(ctx, params, t.ListRootsRequest(), legacy)
    if isinstance(answer, t.InputRequiredResult):
        return answer
    return done("Roots: " + ", ".join(str(root.uri) for root in answer.roots))


async def ask(ctx, params, message: str, schema: dict, words: str):
    if capabilities(ctx).elicitation is None:
        return failed("the client has no elicitation")
    request = t.ElicitRequest(params=t.ElicitRequestFormParams(message=message, requested_schema=schema))

    async def legacy():
        return await ctx.session.elicit_form(message, schema, ctx.request_id)

    answer = await ask_client(ctx, params, request, legacy)
    if isinstance(answer, t.InputRequiredResult):
        return answer
    return done(f"{words}action={answer.action}, content={json.dumps(answer.content or {})}")


@tool("Asks the user for a name and an address.", message={"type": "string"})
async def test_elicitation(_fixture, ctx, params):
    fields = {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    }
    schema = {"type": "object", "properties": fields, "required": list(fields)}
    return await ask(ctx, params, params.arguments["message"], schema, "User response: ")


@tool("Asks with a default for every primitive type.")
async def test_elicitation_sep1034_defaults(_fixture, ctx, params):
    fields = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    schema = {"type": "object", "properties": fields}
    return await ask(ctx, params, "Check the defaults", schema, "Elicitation completed: ")


@tool("Asks with every kind of enumeration.")
async def test_elicitation_sep1330_enums(_fixture, ctx, params):
    plain = ["option1", "option2", "option3"]

    def titled(noun):
        words = enumerate(("First", "Second", "Third"), 1)
        return [{"const": f"value{n}", "title": f"{word} {noun}"} for n, word in words]

    fields = {
        "untitledSingle": {"type": "string", "enum": plain},
        "titledSingle": {"type": "string", "oneOf": titled("Option")},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled("Choice")}},
    }
    schema = {"type": "object", "properties": fields}
    return await ask(ctx, params, "Choose", schema, "Elicitation completed: ")


@tool("Closes the stream in the middle of the call; the client comes back for the answer.")
async def test_reconnection(_fixture, ctx, _params):
    if ctx.close_sse_stream is not None:
        await ctx.close_sse_stream()
    await asyncio.sleep(PAUSE)
    return done("Reconnected.")


@tool("Needs sampling.")
async def test_missing_capability(_fixture, ctx, _params):
    if capabilities(ctx).sampling is None:
        need = t.MissingRequiredClientCapabilityErrorData(
            required_capabilities=t.ClientCapabilities(sampling=t.SamplingCapability())
        )
        data = need.model_dump(by_alias=True, exclude_none=True)
        raise MCPError(t.MISSING_REQUIRED_CLIENT_CAPABILITY, "this tool needs sampling", data)
    return done("The client has sampling.")


@tool("Streams, then needs an answer.")
async def test_streaming_elicitation(_fixture, ctx, params):
    await ctx.session.report_progress(1, 2, "asking")
    if before(ctx):
        answer = await asked_form(ctx, "What is the answer?", answer={"type": "string"})
        return done(f"Answered: {said(answer, 'answer')}")
    if given := answers(params, "answer"):
        return done(f"Answered: {said(given[0], 'answer')}")
    return t.InputRequiredResult(input_requests={"answer": form("What is the answer?", answer={"type": "string"})})


@tool("Adds or removes a tool.")
async def test_trigger_tool_change(fixture, ctx, _params):
    fixture.extra_tool = not fixture.extra_tool
    await fixture.changed(ctx, ToolsListChanged(), ctx.session.send_tool_list_changed)
    return done("The list of tools changed.")


@tool("Adds or removes a prompt.")
async def test_trigger_prompt_change(fixture, ctx, _params):
    fixture.extra_prompt = not fixture.extra_prompt
    await fixture.changed(ctx, PromptsListChanged(), ctx.session.send_prompt_list_changed)
    return done("The list of prompts changed.")


@tool("Changes the watched resource.")
async def test_trigger_resource_update(fixture, ctx, _params):
    uri = "test://watched-resource"

    async def tell():
        if uri in fixture.watched:
            await ctx.session.send_resource_updated(uri)

    await fixture.changed(ctx, ResourceUpdated(uri=uri), tell)
    return done("The watched resource changed.")


@tool("Takes a value that travels in a header as well.", region={"type": "string", "x-mcp-header": "Region"})
async def test_header_parameter(_fixture, _ctx, params):
    return done(f"Region: {(params.arguments or {}).get('region', '')}")


@tool("Waits, with progress, then answers.", schema={"type": "object", "properties": {"ms": {"type": "integer"}}})
async def test_slow(_fixture, ctx, params):
    steps = max(1, (params.arguments or {}).get("ms", 1000) // 50)
    for step in range(steps):
        await ctx.session.report_progress(step, steps, "waiting")
        await asyncio.sleep(PAUSE)
    return done("Waited.")


@tool(
    "Has a schema with the keywords of JSON Schema 2020-12.",
    schema={
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            }
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    },
)
async def json_schema_2020_12_tool(_fixture, _ctx, params):
    return done(json.dumps(params.arguments or {}))


NAME = {"type": "string"}


@tool("Asks for a name, in the result.")
async def test_input_required_result_elicitation(_fixture, ctx, params):
    if before(ctx):
        return done(f"Hello, {said(await asked_form(ctx, 'What is your name?', user_name=NAME), 'user_name')}!")
    if (given := answers(params, "user_name")) and isinstance(given[0], t.ElicitResult):
        return done(f"Hello, {said(given[0], 'name')}!")
    return t.InputRequiredResult(input_requests={"user_name": form("What is your name?", name=NAME)})


@tool("Asks the model, in the result.")
async def test_input_required_result_sampling(_fixture, ctx, params):
    if before(ctx):
        answer = await asked_model(ctx, "What is the capital of France?", 100)
        return done(getattr(answer.content, "text", "no text"))
    if given := answers(params, "capital_question"):
        return done(getattr(given[0].content, "text", "no text"))
    return t.InputRequiredResult(input_requests={"capital_question": sample("What is the capital of France?", 100)})


@tool("Asks for the roots, in the result.")
async def test_input_required_result_list_roots(_fixture, ctx, params):
    if before(ctx):
        return done("Roots: " + ", ".join(str(root.uri) for root in (await asked_roots(ctx)).roots))
    if given := answers(params, "client_roots"):
        return done("Roots: " + ", ".join(str(root.uri) for root in given[0].roots))
    return t.InputRequiredResult(input_requests={"client_roots": t.ListRootsRequest()})


async def confirmed(params, state: str):
    if params.request_state == state and answers(params, "confirm"):
        return done("state-ok")
    request = form("Please confirm", ok={"type": "boolean"})
    return t.InputRequiredResult(input_requests={"confirm": request}, request_state=state)


@tool("Asks, and wants its state back.")
async def test_input_required_result_request_state(_fixture, ctx, params):
    if before(ctx):
        return done(f"state-ok {said(await asked_form(ctx, 'Please confirm', ok={'type': 'boolean'}), 'ok')}")
    return await confirmed(params, "confirming")


@tool("Asks, and refuses a state that was changed on the way.")
async def test_input_required_result_tampered_state(_fixture, ctx, params):
    if before(ctx):
        return done(f"state-ok {said(await asked_form(ctx, 'Please confirm', ok={'type': 'boolean'}), 'ok')}")
    return await confirmed(params, "sealed")


@tool("Asks three things at once.")
async def test_input_required_result_multiple_inputs(_fixture, ctx, params):
    if before(ctx):
        name, _greeting, _roots = await asyncio.gather(
            asked_form(ctx, "What is your name?", user_name=NAME),
            asked_model(ctx, "Generate a greeting", 50),
            asked_roots(ctx),
        )
        return done(f"Hello, {said(name, 'user_name')}!")
    if params.request_state == "all" and (given := answers(params, "user_name", "greeting", "client_roots")):
        return done(f"Hello, {said(given[0], 'name')}!")
    requests = {
        "user_name": form("What is your name?", name=NAME),
        "greeting": sample("Generate a greeting", 50),
        "client_roots": t.ListRootsRequest(),
    }
    return t.InputRequiredResult(input_requests=requests, request_state="all")


@tool("Asks twice.")
async def test_input_required_result_multi_round(_fixture, ctx, params):
    if before(ctx):
        name = await asked_form(ctx, "Step 1: What is your name?", step1=NAME)
        color = await asked_form(ctx, "Step 2: What is your favorite color?", step2={"type": "string"})
        return done(f"{said(name, 'step1')} likes {said(color, 'step2')}.")
    if (params.request_state or "").startswith("step2 ") and (given := answers(params, "step2")):
        return done(f"{params.request_state[6:]} likes {said(given[0], 'color')}.")
    if params.request_state == "step1" and (given := answers(params, "step1")):
        request = form("Step 2: What is your favorite color?", color={"type": "string"})
        return t.InputRequiredResult(input_requests={"step2": request}, request_state=f"step2 {said(given[0], 'name')}")
    request = form("Step 1: What is your name?", name=NAME)
    return t.InputRequiredResult(input_requests={"step1": request}, request_state="step1")


@tool("Asks only what the client can answer.")
async def test_input_required_result_capabilities(_fixture, ctx, params):
    if before(ctx):
        can = capabilities(ctx)
        if can.elicitation is not None:
            await asked_form(ctx, "What is your name?", user_name=NAME)
        if can.sampling is not None:
            await asked_model(ctx, "Generate a greeting", 50)
        return done("Asked what the client can answer.")
    if params.input_responses:
        return done("Answered.")
    can, requests = capabilities(ctx), {}
    if can.elicitation is not None:
        requests["user_name"] = form("What is your name?", name=NAME)
    if can.sampling is not None:
        requests["greeting"] = sample("Generate a greeting", 50)
    if can.roots is not None:
        requests["client_roots"] = t.ListRootsRequest()
    return t.InputRequiredResult(input_requests=requests) if requests else done("The client can answer nothing.")


# --- prompts and resources -------------------------------------------------------------------------------------


def prompt_argument(name: str) -> t.PromptArgument:
    return t.PromptArgument(name=name, description=f"{name} of the prompt", required=True)


PROMPTS = {
    "test_simple_prompt": t.Prompt(name="test_simple_prompt", description="One line."),
    "test_prompt_with_arguments": t.Prompt(
        name="test_prompt_with_arguments",
        description="Repeats its arguments.",
        arguments=[prompt_argument("arg1"), prompt_argument("arg2")],
    ),
    "test_prompt_with_embedded_resource": t.Prompt(
        name="test_prompt_with_embedded_resource",
        description="Carries a resource.",
        arguments=[prompt_argument("resourceUri")],
    ),
    "test_prompt_with_image": t.Prompt(name="test_prompt_with_image", description="Carries a picture."),
    "test_input_required_result_prompt": t.Prompt(
        name="test_input_required_result_prompt", description="Asks before it answers."
    ),
}

TEXT, BINARY, WATCHED = "test://static-text", "test://static-binary", "test://watched-resource"
RESOURCES = [
    t.Resource(uri=TEXT, name="static-text", description="Text.", mime_type="text/plain"),
    t.Resource(uri=BINARY, name="static-binary", description="A picture.", mime_type="image/png"),
    t.Resource(uri=WATCHED, name="watched-resource", description="Can be subscribed to.", mime_type="text/plain"),
]
TEMPLATE = t.ResourceTemplate(
    uri_template="test://template/{id}/data", name="template", description="By id.", mime_type="application/json"
)


def prompt_messages(name: str, arguments: dict[str, str]) -> list:
    match name:
        case "test_simple_prompt" | "test_dynamic_prompt":
            return [text("This is a simple prompt for testing.")]
        case "test_prompt_with_arguments":
            arg1, arg2 = arguments.get("arg1", ""), arguments.get("arg2", "")
            return [text(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'")]
        case "test_prompt_with_embedded_resource":
            resource = embedded(arguments["resourceUri"], "text/plain", "Embedded resource content for testing.")
            return [resource, text("Please process the embedded resource above.")]
        case "test_prompt_with_image":
            return [image(), text("Please analyze the image above.")]
    raise MCPError(t.INVALID_PARAMS, f"unknown prompt: {name}")


def resource_contents(uri: str, modern: bool):
    if uri == TEXT:
        words = "This is the content of the static text resource."
        return t.TextResourceContents(uri=uri, mime_type="text/plain", text=words)
    if uri == BINARY:
        return t.BlobResourceContents(uri=uri, mime_type="image/png", blob=png())
    if uri == WATCHED:
        return t.TextResourceContents(uri=uri, mime_type="text/plain", text="Watched.")
    if match := re.fullmatch(r"test://template/([^/]+)/data", uri):
        body = {"id": match[1], "templateTest": True, "data": f"Data for ID: {match[1]}"}
        return t.TextResourceContents(uri=uri, mime_type="application/json", text=json.dumps(body))
    raise MCPError(t.INVALID_PARAMS if modern else -32002, "resource not found", {"uri": uri})


DYNAMIC_TOOL = t.Tool(name="test_dynamic_tool", description="Comes and goes.", input_schema={"type": "object"})
DYNAMIC_PROMPT = t.Prompt(name="test_dynamic_prompt", description="Comes and goes.")
