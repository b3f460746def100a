"""Drives an MCP server with the official Python client.

Reads {"url", "mode", "steps": [{"method", "params"}]} on stdin, and perhaps {"token"}, which is sent as a bearer
token; writes {"protocolVersion", "results": [...], "heard": [...]} on stdout, one result for each step: {"result": as
on the wire} or {"error": text}, and the log messages that came. Modes: auto, legacy, a version.
With "answers": true it declares and answers elicitation, sampling and roots.
A step with "until" is taken again until its result has that text, and says how often it failed. The step "heard"
waits for log messages with it.
"""

import asyncio
import json
import sys
import time

import mcp_types as t
from mcp import Client
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client


async def elicited(_context, params):
    names = params.requested_schema["properties"]
    return t.ElicitResult(action="accept", content={name: f"the {name} of Ada" for name in names})


async def sampled(_context, params):
    words = f"Sampled for {params.messages[0].content.text}"
    return t.CreateMessageResult(role="assistant", model="o1", content=t.TextContent(text=words))


async def roots(_context):
    return t.ListRootsResult(roots=[t.Root(uri="file:///o1/root")])


ANSWERS = {"elicitation_callback": elicited, "sampling_callback": sampled, "list_roots_callback": roots}


HEARD = []


async def logged(params):
    HEARD.append(params.model_dump(by_alias=True, exclude_none=True, mode="json"))


async def taken(client: Client, order: dict) -> dict:
    if order["method"] == "heard":
        return {"result": {"heard": HEARD}}
    try:
        result = await step(client, order["method"], order.get("params", {}))
        return {"result": result.model_dump(by_alias=True, exclude_none=True, mode="json")}
    except Exception as error:  # the test judges it, whatever it is
        return {"error": f"{type(error).__name__}: {error}"}


async def taken_until(client: Client, order: dict) -> dict:
    end, failed = time.monotonic() + 60, 0
    while True:
        result = await taken(client, order)
        text = json.dumps(result.get("result"), separators=(",", ":"))
        if order["until"] in text or time.monotonic() > end:
            return {**result, "failed": failed}
        failed += "error" in result
        await asyncio.sleep(0.05)


async def step(client: Client, method: str, params: dict):
    cursor = {"cursor": params["cursor"]} if "cursor" in params else {}
    match method:
        case "tools/list":
            return await client.list_tools(**cursor)
        case "tools/call":
            return await client.call_tool(params["name"], params.get("arguments", {}))
        case "resources/list":
            return await client.list_resources(**cursor)
        case "resources/templates/list":
            return await client.list_resource_templates(**cursor)
        case "resources/read":
            return await client.read_resource(params["uri"])
        case "prompts/list":
            return await client.list_prompts(**cursor)
        case "prompts/get":
            return await client.get_prompt(params["name"], params.get("arguments", {}))
    raise ValueError(f"no such step: {method}")


def server(order: dict):
    if "token" not in order:
        return order["url"]
    headers = {"Authorization": f"Bearer {order['token']}"}
    return streamable_http_client(order["url"], http_client=create_mcp_http_client(headers=headers))


async def main() -> dict:
    order = json.load(sys.stdin)
    results = []
    async with asyncio.timeout(order.get("seconds", 60)):
        answers = ANSWERS if order.get("answers") else {}
        async with Client(server(order), mode=order["mode"], logging_callback=logged, **answers) as client:
            for each in order["steps"]:
                take = taken_until if each.get("until") else taken
                results.append(await take(client, each))
            return {"protocolVersion": client.protocol_version, "results": results, "heard": HEARD}


print(json.dumps(asyncio.run(main())))
