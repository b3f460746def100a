"""Drives an MCP server with the official Python client.

Reads {"url", "mode", "steps": [{"method", "params"}]} on stdin, and perhaps {"token"}, which is sent as a bearer
token; writes {"protocolVersion", "results": [...]} on stdout, one result for each step: {"result": as on the wire} or
{"error": text}. Modes: auto, legacy, a version.
"""

import asyncio
import json
import sys

from mcp import Client
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client


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
        async with Client(server(order), mode=order["mode"]) as client:
            for each in order["steps"]:
                try:
                    result = await step(client, each["method"], each.get("params", {}))
                    results.append({"result": result.model_dump(by_alias=True, exclude_none=True, mode="json")})
                except Exception as error:  # the test judges it, whatever it is
                    results.append({"error": f"{type(error).__name__}: {error}"})
            return {"protocolVersion": client.protocol_version, "results": results}


print(json.dumps(asyncio.run(main())))
