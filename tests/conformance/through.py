"""Puts a gateway in front of the server at a URL and uses that server through it, with the official Python client.

The suite's client scenarios run this with the URL as the last argument. `O1_BIN` is where the planes are, `O1_MODE`
the client's mode (legacy, 2026-07-28), MCP_CONFORMANCE_CONTEXT may name the calls to make.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import mcp_types as t
from mcp import Client

PATIENCE = 20


async def elicited(_context, params):
    names = getattr(params, "requested_schema", {}).get("properties", {})
    return t.ElicitResult(action="accept", content={name: sample(schema) for name, schema in names.items()})


def sample(schema: dict):
    """A value that a schema allows, for the schemas of the suite."""
    if "default" in schema or schema.get("enum"):
        return schema.get("default", (schema.get("enum") or [None])[0])
    kinds = {"integer": 1, "number": 1, "boolean": True, "array": [], "object": {}}
    return kinds.get(schema.get("type"), "text")


async def address(folder: Path) -> str:
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(OSError, ValueError, KeyError):
                return json.loads((folder / "addresses.json").read_text())["listen"]
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def gateway(url: str):
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as processes:
        root, binaries = Path(folder), Path(os.environ["O1_BIN"])

        def start(program: str, *arguments: str):
            anywhere = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
            command = [binaries / program, *anywhere, *arguments]
            process = subprocess.Popen(command, stdout=sys.stderr, stderr=sys.stderr)
            processes.callback(process.wait)
            processes.callback(process.terminate)

        config = root / "only1.yaml"
        config.write_text(f"upstreams:\n  tested:\n    primary:\n      - url: {url}\n")
        start("o1-control-plane", "--config", str(config), "--state-dir", str(root / "control"))
        control = await address(root / "control")
        start("o1-data-plane", "--control", f"http://{control}", "--node-id", "n", "--state-dir", str(root / "data"))
        yield f"http://{await address(root / 'data')}/u/tested/mcp"


async def connected(url: str, stack: contextlib.AsyncExitStack) -> Client:
    """A client, as soon as the gateway has its configuration."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(Exception):
                client = Client(url, mode=os.environ.get("O1_MODE", "legacy"), elicitation_callback=elicited)
                return await stack.enter_async_context(client)
            await asyncio.sleep(0.1)


async def attempt(what: str, asked):
    """What fails here is judged by the suite, from the server's side."""
    try:
        return await asked
    except Exception as error:
        print(f"{what}: {type(error).__name__}: {error}", file=sys.stderr)


async def main(url: str):
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    async with gateway(url) as through, contextlib.AsyncExitStack() as stack:
        client = await connected(through, stack)
        tools = await attempt("tools/list", client.list_tools())
        calls = context.get("toolCalls") or [
            {"name": tool.name, "arguments": {k: sample(v) for k, v in tool.input_schema.get("properties", {}).items()}}
            for tool in (tools.tools if tools else [])
        ]
        for call in calls:
            await attempt(f"tools/call {call['name']}", client.call_tool(call["name"], call.get("arguments") or {}))
        prompts = await attempt("prompts/list", client.list_prompts())
        for prompt in prompts.prompts if prompts else []:
            arguments = {argument.name: "text" for argument in prompt.arguments or []}
            await attempt(f"prompts/get {prompt.name}", client.get_prompt(prompt.name, arguments))
        resources = await attempt("resources/list", client.list_resources())
        for resource in resources.resources if resources else []:
            await attempt(f"resources/read {resource.uri}", client.read_resource(str(resource.uri)))


asyncio.run(main(sys.argv[-1]))
