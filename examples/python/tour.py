"""A program against the gRPC API of only1, from the published protos alone.

    pip install grpcio grpcio-tools
    python tour.py 127.0.0.1:7400 only1.yaml weather

It makes a configuration what the fleet runs and watches it reach the nodes; then it sends the upstream `weather` to its
backup, follows what the nodes say of that, and brings the primary back. The control plane must have been started
without `--config`, and the upstream needs a `backup`. Copy what you need: each step is a function of its own.

Exit code: 0 all was done, 1 something was refused or did not happen in time.
"""

import importlib
import pathlib
import sys
import tempfile
import time
import uuid

import grpc
from grpc_tools import protoc

PROTOS = pathlib.Path(__file__).resolve().parents[2] / "proto"
# For calls that are not streams. A stream gets a limit, too: the longest that one wants to wait.
CALL = 10
PATIENCE = 120


def compile_protos():
    """The modules of the contract, compiled for this run. A program that is shipped does this when it is built."""
    well_known = pathlib.Path(protoc.__file__).parent / "_proto"
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("o1/control/v1/*.proto"))
    names = ["config", "status", "admin", "event", "failover"]
    with tempfile.TemporaryDirectory() as out:
        into = [f"--python_out={out}", f"--grpc_python_out={out}"]
        if protoc.main(["protoc", f"-I{PROTOS}", f"-I{well_known}", *into, *files]) != 0:
            sys.exit(f"the protos in {PROTOS} do not compile")
        sys.path.insert(0, out)
        return [importlib.import_module(f"o1.control.v1.{name}_pb2{kind}") for name in names for kind in ("", "_grpc")]


(
    config_pb2, config_grpc, status_pb2, status_grpc, admin_pb2, admin_grpc, event_pb2, _, failover_pb2, _,
) = compile_protos()  # fmt: skip


def apply(channel, path):
    """Makes a file the next revision; its number, or None if that is what runs already."""
    with open(path, "rb") as file:
        document = config_pb2.ConfigDocument(content=file.read(), source=str(path))
    request = config_pb2.ApplyConfigRequest(
        document=document,
        # Said again with the same id, after a broken connection, the change is still made once.
        request_id=str(uuid.uuid4()),
        comment="the tour",
    )
    answer = config_grpc.ConfigServiceStub(channel).ApplyConfig(request, timeout=CALL)
    for change in answer.changes:
        print(f"  {config_pb2.Change.Name(change.change)} {change.key.name}")
    return None if answer.no_op else answer.version.revision


def rolled_out(channel, revision):
    """Watches a revision reach the nodes, until that is over. True: every node that was there runs it."""
    request = config_pb2.WatchRolloutRequest(revision=revision)
    rollout = None
    for picture in config_grpc.ConfigServiceStub(channel).WatchRollout(request, timeout=PATIENCE):
        rollout = picture.rollout
        state = config_pb2.RolloutState.Name(rollout.state)
        print(f"  {state}, wave {rollout.wave} of {rollout.waves}: {rollout.applied} applied, {rollout.waiting} wait")
    if rollout.because:
        print(f"  {rollout.because}")
    return rollout.state == config_pb2.ROLLOUT_STATE_SUCCEEDED


def backup_is_seen(channel, upstream):
    """Waits until the nodes have seen that the backup works."""
    request = status_pb2.WatchStatusRequest()
    for picture in status_grpc.StatusServiceStub(channel).WatchStatus(request, timeout=PATIENCE):
        for row in picture.status.upstreams:
            if row.name == upstream and row.failover.backup == failover_pb2.VERDICT_HEALTHY:
                return
    raise RuntimeError("the control plane ended the stream")


def newest_event(channel):
    """The position of the newest event: whoever reads from there on misses nothing that follows."""
    request = event_pb2.ListEventsRequest(page_size=1, newest_first=True)
    return status_grpc.StatusServiceStub(channel).ListEvents(request, timeout=CALL).newest_position


def events(channel, position, upstream):
    """Every event of an upstream behind a position, through lost connections, without a gap and none twice."""
    until = time.monotonic() + PATIENCE
    filter = event_pb2.EventFilter(upstream=upstream)
    while time.monotonic() < until:
        request = event_pb2.WatchEventsRequest(after_position=position, filter=filter)
        try:
            stream = status_grpc.StatusServiceStub(channel).WatchEvents(request, timeout=until - time.monotonic())
            for batch in stream:
                for event in batch.events:
                    yield event
                position = batch.through_position
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            time.sleep(1)  # the control plane is away; what happens meanwhile is read when it is back


def send_to(channel, upstream, store, wanted):
    """Orders a store and follows the events until every node that was told says that it is so."""
    position = newest_event(channel)
    order = admin_pb2.OrderStoreRequest(
        upstream=upstream, target=store, request_id=str(uuid.uuid4()), reason="the tour"
    )
    answer = admin_grpc.AdminServiceStub(channel).OrderStore(order, timeout=CALL)
    for warning in answer.warnings:
        print(f"  {warning}")
    missing = answer.nodes
    for stored in events(channel, position, upstream):
        name = event_pb2.EventType.Name(stored.event.type)
        print(f"  {stored.position} {stored.node_id or 'control plane'}: {name} {stored.event.reason}")
        if stored.event.type == wanted:
            missing -= 1
        if missing == 0:
            return
    raise RuntimeError(f"{missing} nodes did not follow in time")


def tour(address, path, upstream):
    with grpc.insecure_channel(address) as channel:
        print(f"applying {path}")
        revision = apply(channel, path)
        if revision and not rolled_out(channel, revision):
            return 1
        print(f"waiting until the backup of {upstream} is seen to work")
        backup_is_seen(channel, upstream)
        print(f"{upstream} to its backup")
        send_to(channel, upstream, failover_pb2.STORE_BACKUP, event_pb2.EVENT_TYPE_FAILOVER_COMMITTED)
        print(f"{upstream} back to its primary")
        send_to(channel, upstream, failover_pb2.STORE_PRIMARY, event_pb2.EVENT_TYPE_RESTORED)
        print("done")
        return 0


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        sys.exit(tour(*sys.argv[1:]))
    except grpc.RpcError as error:
        # The text says what, where and what to do.
        sys.exit(f"{error.code().name}: {error.details()}")
