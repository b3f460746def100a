"""A real MCP server with one of everything, on the official Python SDK.

`--era` narrows what it speaks: `legacy` is a server from before 2026-07-28 (initialize, sessions), `modern` knows
nothing else, `both` is what the SDK does by itself. Prints one line of JSON, {"url": ...}, once it accepts
connections; with --stdio it serves one client on its pipes.
"""

import argparse
import asyncio
import json
import logging
import socket
import sys
import warnings

import mcp_types as t
import uvicorn
from fixture_offers import (
    DYNAMIC_PROMPT,
    DYNAMIC_TOOL,
    MODERN,
    PROMPTS,
    RESOURCES,
    TEMPLATE,
    TOOLS,
    answers,
    asked_form,
    before,
    form,
    prompt_messages,
    resource_contents,
    said,
    text,
)
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http import EventMessage, EventStore
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPError


class Fixture:
    """The handlers, and what changes while it runs."""

    def __init__(self):
        self.bus = InMemorySubscriptionBus()
        self.extra_tool = False
        self.extra_prompt = False
        self.watched: set[str] = set()

    async def changed(self, ctx, event, tell_legacy):
        await self.bus.publish(event)
        if ctx.protocol_version != MODERN:
            await tell_legacy()

    async def list_tools(self, _ctx, _params):
        tools = [spec for spec, _run in TOOLS.values()]
        if self.extra_tool:
            tools.append(DYNAMIC_TOOL)
        return t.ListToolsResult(tools=tools)

    async def call_tool(self, ctx, params):
        if params.name == "test_dynamic_tool" and self.extra_tool:
            return done("Here.")
        if params.name not in TOOLS:
            raise MCPError(t.INVALID_PARAMS, f"unknown tool: {params.name}")
        return await TOOLS[params.name][1](self, ctx, params)

    async def list_prompts(self, _ctx, _params):
        extra = [DYNAMIC_PROMPT] if self.extra_prompt else []
        return t.ListPromptsResult(prompts=[*PROMPTS.values(), *extra])

    async def get_prompt(self, ctx, params):
        if params.name == "test_input_required_result_prompt" and before(ctx):
            answer = await asked_form(ctx, "What context should the prompt use?", user_context={"type": "string"})
            content = [text(f"Use this context: {said(answer, 'user_context')}")]
        elif params.name == "test_input_required_result_prompt":
            given = answers(params, "user_context")
            if not given:
                request = form("What context should the prompt use?", context={"type": "string"})
                return t.InputRequiredResult(input_requests={"user_context": request})
            content = [text(f"Use this context: {said(given[0], 'context')}")]
        else:
            content = prompt_messages(params.name, params.arguments or {})
        return t.GetPromptResult(messages=[t.PromptMessage(role="user", content=c) for c in content])

    async def list_resources(self, _ctx, _params):
        return t.ListResourcesResult(resources=RESOURCES)

    async def list_templates(self, _ctx, _params):
        return t.ListResourceTemplatesResult(resource_templates=[TEMPLATE])

    async def read_resource(self, ctx, params):
        contents = resource_contents(str(params.uri), ctx.protocol_version == MODERN)
        return t.ReadResourceResult(contents=[contents])

    async def subscribe(self, _ctx, params):
        self.watched.add(str(params.uri))
        return t.EmptyResult()

    async def unsubscribe(self, _ctx, params):
        self.watched.discard(str(params.uri))
        return t.EmptyResult()

    async def complete(self, _ctx, params):
        words = [w for w in ("paris", "park", "party") if w.startswith(params.argument.value)]
        return t.CompleteResult(completion=t.Completion(values=words, total=len(words), has_more=False))

    async def set_level(self, _ctx, _params):
        return t.EmptyResult()

    def server(self) -> Server:
        server = Server(
            "o1-fixture",
            version="1.0.0",
            instructions="A server with one of everything.",
            get_tool_input_schema=lambda name: TOOLS[name][0].input_schema if name in TOOLS else None,
            on_list_tools=self.list_tools,
            on_call_tool=self.call_tool,
            on_list_prompts=self.list_prompts,
            on_get_prompt=self.get_prompt,
            on_list_resources=self.list_resources,
            on_list_resource_templates=self.list_templates,
            on_read_resource=self.read_resource,
            on_subscribe_resource=self.subscribe,
            on_unsubscribe_resource=self.unsubscribe,
            on_subscriptions_listen=ListenHandler(self.bus),
            on_completion=self.complete,
            on_set_logging_level=self.set_level,
        )
        server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=server.name))
        return server


class Events(EventStore):
    """Every event of every stream, in memory: the fixture does not live long."""

    def __init__(self):
        self.events: list[tuple[str, object]] = []

    async def store_event(self, stream_id, message):
        self.events.append((stream_id, message))
        return str(len(self.events))

    async def replay_events_after(self, last_event_id, send_callback):
        last = int(last_event_id)
        stream = self.events[last - 1][0]
        for number, (owner, message) in enumerate(self.events[last:], last + 1):
            if owner == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


# No header: a client from before 2025-06-18, or one that is about to initialize.
LEGACY = ("", "2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")


def narrowed(app, era: str):
    """Refuses the other era as a server would that has never heard of it."""

    async def reply(send, status, code, message, data=None):
        error = {"code": code, "message": message} | ({"data": data} if data else {})
        body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def serve(scope, receive, send):
        if scope["type"] == "http":
            version = dict(scope["headers"]).get(b"mcp-protocol-version", b"").decode()
            if era == "legacy" and version == MODERN:
                return await reply(send, 400, -32000, "Bad Request: Unsupported protocol version")
            if era == "modern" and scope["method"] != "POST":
                return await reply(send, 405, -32000, "Method Not Allowed")
            if era == "modern" and version in LEGACY:
                data = {"supported": [MODERN], "requested": version}
                return await reply(send, 400, -32022, "unsupported protocol version", data)
        await app(scope, receive, send)

    return app if era == "both" else serve


async def serve_http(port: int, era: str):
    server = Fixture().server()
    options = server.create_initialization_options

    def announced(*_args, **_kwargs):
        everything = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
        return options(notification_options=everything)

    server.create_initialization_options = announced
    app = narrowed(server.streamable_http_app(event_store=Events(), retry_interval=100), era)
    listener = socket.create_server(("127.0.0.1", port))
    print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"}), flush=True)
    # A test ends the fixture by a signal and must not wait for streams that nobody will close.
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    await uvicorn.Server(config).serve(sockets=[listener])


async def serve_stdio():
    server = Fixture().server()
    everything = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options(notification_options=everything))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--era", choices=["both", "legacy", "modern"], default="both")
    parser.add_argument("--stdio", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    asyncio.run(serve_stdio() if arguments.stdio else serve_http(arguments.port, arguments.era))


if __name__ == "__main__":
    main()
