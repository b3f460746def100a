"""A scripted MCP server for the tests of the stdio backend. First argument: how it behaves."""
import json, os, subprocess, sys, time

LONG = 60  # seconds: what a failing test leaves behind ends by itself
how = sys.argv[1]
held = []
era = None

if len(sys.argv) > 2:  # a file that counts the starts
    with open(sys.argv[2], "a") as starts:
        starts.write(f"{os.getpid()}\n")


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(method, **params):
    say(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}))


def result(id, value):
    say(json.dumps({"jsonrpc": "2.0", "id": id, "result": value}))


def refuse(id, code, words):
    say(json.dumps({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": words}}))


SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


def opening(id, method, params):
    global era
    if method == "server/discover":
        if how == "exits":
            os._exit(1)
        if how == "mute":
            return
        if how in ("legacy", "noisy"):
            return refuse(id, -32601, "Method not found")
        era = "modern"
        return result(id, {"supportedVersions": ["2026-07-28"], "capabilities": {}, "ttlMs": 0})
    if how == "modern" or era == "modern":
        return refuse(id, -32022, "Unsupported protocol version")
    if how == "rude":
        return refuse(id, -32603, "not today")
    if how == "sleepy":
        return
    era = "legacy"
    note("notifications/tools/list_changed")
    result(id, {"protocolVersion": "2025-11-25", "capabilities": {}, "seen": params})


def call(line, id, method, params):
    meta = params.get("_meta", {})
    if method in ("initialize", "server/discover"):
        opening(id, method, params)
    elif method == "echo":
        result(id, {"line": line})
    elif method == "progress":
        for n in range(params.get("count", 2)):
            note("notifications/progress", progressToken=meta["progressToken"], progress=n)
        result(id, {})
    elif method == "hold":
        held.append((id, meta.get("progressToken")))
    elif method == "release":  # the last first
        while held:
            other, token = held.pop()
            if token is not None:
                note("notifications/progress", progressToken=token, progress=1)
            result(other, {})
        result(id, {})
    elif method == "die":
        os._exit(3)
    elif method == "last words":  # answered, and gone
        result(id, {})
        os._exit(0)
    elif method == "noise":
        say("Listening on stdio!")
        say("")
        say("[1, 2")
        sys.stdout.buffer.write(b"\xff\xfe\n")
        sys.stderr.write("a line on stderr\n")
        sys.stderr.flush()
        result(id, {})
    elif method == "bad answer":
        say('{"jsonrpc":"2.0","id":%d,"result":{},"error":{}}' % id)
    elif method == "raw":
        say(params["text"].replace("ID", str(id)))
    elif method == "big":
        result(id, {"text": "x" * params["bytes"]})
    elif method == "endless":
        while True:
            sys.stdout.write("x" * 1048576)
    elif method == "flood":
        for n in range(params["count"]):
            note("notifications/resources/updated", uri=f"test://{n}")
        result(id, {})
    elif method == "ask":
        for ask in ("ping", "roots/list"):
            say(json.dumps({"jsonrpc": "2.0", "id": f"{ask} of the server", "method": ask}))
        held.append((id, None))
    elif method == "log":
        note("notifications/message", level="info", data="hello")
        result(id, {})
    elif method == "subscriptions/listen":
        tag = {SUBSCRIPTION: id}
        note("notifications/subscriptions/acknowledged", _meta=tag, notifications={})
        for _ in range(params.get("count", 1)):
            note("notifications/tools/list_changed", _meta=tag)
        if params.get("end"):
            note("notifications/cancelled", requestId=id)
            result(id, {"resultType": "complete", "_meta": tag})
    elif method == "family":  # a grandchild that outlives us and ignores SIGTERM
        child = subprocess.Popen(["sh", "-c", f"trap '' TERM; for n in $(seq {LONG}); do sleep 1; done"])
        result(id, {"pid": child.pid})
    else:
        refuse(id, -32601, "Method not found")


answers = []
for line in sys.stdin:
    line = line.rstrip("\n")
    message = json.loads(line)
    method = message.get("method")
    if method is None:
        answers.append(line)
        if len(answers) == 2:
            result(held.pop()[0], {"answers": answers})
            answers = []
    elif "id" not in message:
        if method == "notifications/cancelled":
            note("notifications/message", level="info", data=line)
            if how == "legacy":
                note("notifications/resources/updated", uri=line)
        elif how == "noisy":
            note("notifications/resources/updated", uri=line)
    else:
        call(line, message["id"], method, message.get("params", {}))
if how == "stubborn":
    time.sleep(LONG)
