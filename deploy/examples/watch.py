#!/usr/bin/env python3
"""Watches a rollout over gRPC and prints a line for each change, until it is over.

    python3 -m venv venv && venv/bin/pip install grpcio grpcio-tools
    venv/bin/python deploy/examples/watch.py --address 127.0.0.1:7443

It only reads. The contract is compiled from proto/ at the start; give --proto when this
file is not in its place. It survives restarts of the coordinator.

Exit status: 0 finished, 3 halted or aborted, 5 timed out, 6 finished with mailboxes set
aside or still held, 69 coordinator unreachable, 1 anything else.
"""

import argparse
import importlib
import pathlib
import sys
import tempfile
import time

import grpc
import grpc_tools
from grpc_tools import protoc

FINISHED, FAILED, HALTED, TIMED_OUT, SET_ASIDE, UNREACHABLE = 0, 1, 3, 5, 6, 69

# A coordinator that restarts is back within seconds; one that never answered is not there.
FIRST_ANSWER_WITHIN = 10.0
RETRY_AFTER, RETRY_AFTER_MAX = 0.25, 4.0
# Counts that only grow make a line this often.
PROGRESS_EVERY = 2.0
# The coordinator's limit is 4 MiB an answer.
ANSWER_BYTES_MAX = 8 << 20
# Finds out that a peer is gone although nobody said so.
KEEPALIVE_MILLIS = 10_000

WAIT_FOR = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED,
            grpc.StatusCode.ABORTED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
NO_PLAN = {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION}


def main():
    here = pathlib.Path(__file__).resolve()
    parser = argparse.ArgumentParser(description="Watches a rollout until it is over.")
    parser.add_argument("--address", default="127.0.0.1:7443", help="of the coordinator")
    parser.add_argument("--proto", default=here.parents[2] / "proto", type=pathlib.Path,
                        help="the directory that holds tidegate/v1")
    parser.add_argument("--timeout", type=float, help="gives up after so many seconds, with 5")
    args = parser.parse_args()
    try:
        contract = compile_contract(args.proto)
        return Watch(args, *contract).run()
    except KeyboardInterrupt:
        return 130


def compile_contract(proto):
    """The messages and the client of tidegate/v1/progress.proto, as Python modules."""
    if not (proto / "tidegate/v1/progress.proto").is_file():
        sys.exit(f"error: no tidegate/v1/progress.proto in `{proto}`; say where with --proto")
    out = tempfile.TemporaryDirectory(prefix="tidegate-proto-")
    with out:
        well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
        failed = protoc.main([
            "protoc", f"-I{proto}", f"-I{well_known}",
            f"--python_out={out.name}", f"--grpc_python_out={out.name}",
            "tidegate/v1/worker.proto", "tidegate/v1/progress.proto",
        ])
        if failed:
            sys.exit(f"error: the contract in `{proto}` does not compile")
        sys.path.insert(0, out.name)
        try:
            return (importlib.import_module("tidegate.v1.progress_pb2"),
                    importlib.import_module("tidegate.v1.progress_pb2_grpc"))
        finally:
            sys.path.remove(out.name)


class Watch:
    """Follows one rollout and remembers what it has told."""

    def __init__(self, args, messages, services):
        self.address = args.address
        self.deadline = time.monotonic() + args.timeout if args.timeout else None
        self.pb = messages
        self.services = services
        self.answered = False
        self.told = {}
        self.progress_at = 0.0

    def run(self):
        started, retry = time.monotonic(), RETRY_AFTER
        options = [("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
                   ("grpc.keepalive_time_ms", KEEPALIVE_MILLIS),
                   ("grpc.max_reconnect_backoff_ms", int(RETRY_AFTER_MAX * 1000))]
        with grpc.insecure_channel(self.address, options=options) as channel:
            client = self.services.ProgressServiceStub(channel)
            while True:
                try:
                    for rollout in client.WatchRollout(self.pb.WatchRolloutRequest(),
                                                       timeout=self.left()):
                        self.answered, retry = True, RETRY_AFTER
                        self.show(rollout)
                        over = self.ending(rollout)
                        if over is not None:
                            return over
                    reason = "the coordinator closed the stream"
                except grpc.RpcError as error:
                    if self.left() == 0:
                        return self.timed_out()
                    if error.code() in NO_PLAN:
                        self.answered, reason = True, error.details()
                    elif error.code() in WAIT_FOR:
                        reason = error.details() or error.code().name
                    else:
                        tell(f"error: {error.code().name}: {error.details()}")
                        return FAILED
                if not self.answered and time.monotonic() - started > FIRST_ANSWER_WITHIN:
                    tell(f"error: no coordinator answers at {self.address}: {reason}")
                    return UNREACHABLE
                if self.left() == 0:
                    return self.timed_out()
                self.once("reason", f"waiting: {reason}")
                time.sleep(retry)
                retry = min(retry * 2, RETRY_AFTER_MAX)

    def left(self):
        """Seconds until the time limit; None without one."""
        return None if self.deadline is None else max(0, self.deadline - time.monotonic())

    def timed_out(self):
        tell("error: it is not over yet, and the time is up")
        return TIMED_OUT

    def show(self, rollout):
        """Prints what is new."""
        self.told.pop("reason", None)
        state = word(self.pb.RolloutState, rollout.state, "ROLLOUT_STATE_")
        self.once("name", f"rollout {rollout.name}, plan {rollout.plan_digest[:12]}: "
                          f"{rollout.planned:,} mailboxes in {len(rollout.waves)} waves")
        for node in rollout.nodes:
            its = word(self.pb.NodeState, node.state, "NODE_STATE_")
            self.once(("node", node.name), f"node {node.name} is {its}")
        for wave in rollout.waves:
            self.show_wave(rollout, wave)
        stop = ""
        if rollout.HasField("stop") and not rollout.stop.effective:
            stop = f", not yet on {', '.join(rollout.stop.unacknowledged)}: " \
                   f"{rollout.stop.may_still_open} mailboxes may still open"
        elif rollout.HasField("stop"):
            stop = ", effective"
        reasons = [why.text for why in rollout.why if why.text != state]
        about = "; ".join(reasons) if state != "running" else ""
        self.once("state", f"the rollout is {state}{stop}{': ' if about else ''}{about}")
        if state == "running" and self.due(rollout):
            tell(counts(rollout))
            for reason in reasons:
                tell(f"  waits: {reason}")

    def show_wave(self, rollout, wave):
        its = word(self.pb.WaveState, wave.state, "WAVE_STATE_")
        if its == "waiting":
            return
        rung = rollout.ladder[wave.level - 1].name if wave.level else "nothing"
        line = f"wave {wave.name} is {its} for {rung}: {wave.planned:,} mailboxes"
        verdict = wave.gate.verdict if wave.HasField("gate") else ""
        told = self.once(("wave", wave.number), f"{line}, gate says {verdict or 'nothing'}")
        # While it holds the reasons say more than the numbers.
        for signal in wave.gate.signals if told and verdict != "hold" else []:
            passes = "is not waited for" if signal.only_stops \
                else f"passes with at most {signal.pass_at:,}" \
                if signal.HasField("pass_at") else "cannot pass yet"
            tell(f"  {signal.name} {signal.standing}: {signal.failed:,} failed of "
                 f"{signal.mature:,} mature, {signal.opened:,} opened; {passes}, "
                 f"trips at {signal.trip_at:,}")

    def due(self, rollout):
        now = time.monotonic()
        if now - self.progress_at < PROGRESS_EVERY or counts(rollout) == self.told.get("counts"):
            return False
        self.progress_at = now
        self.told["counts"] = counts(rollout)
        return True

    def once(self, what, line):
        """Prints a line unless it says what was said of this thing before."""
        if self.told.get(what) == line:
            return False
        self.told[what] = line
        tell(line)
        return True

    def ending(self, rollout):
        """The exit status of a rollout that goes no further by itself, or None."""
        pb = self.pb
        if rollout.state in (pb.ROLLOUT_STATE_HALTED, pb.ROLLOUT_STATE_ABORTED):
            return HALTED
        if rollout.state != pb.ROLLOUT_STATE_FINISHED:
            return None
        tell(counts(rollout))
        # A node that was taken out keeps mailboxes held although every wave has passed.
        every_one_open = sum(wave.open for wave in rollout.waves) == rollout.planned
        return FINISHED if every_one_open else SET_ASIDE


def counts(rollout):
    def total(field):
        return sum(getattr(wave, field) for wave in rollout.waves)
    return (f"{total('open'):,} of {rollout.planned:,} open, {total('prepared'):,} prepared, "
            f"{total('quarantined'):,} set aside, {total('failed'):,} failed")


def word(kind, value, prefix):
    """An enum's value as a word: ROLLOUT_STATE_RUNNING is `running`."""
    try:
        return kind.Name(value).removeprefix(prefix).lower().replace("_", "-")
    except ValueError:
        return f"state {value}, which this contract does not know"


def tell(line):
    """Prints a line; names from elsewhere cannot steer the terminal."""
    safe = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
    print(time.strftime("%H:%M:%S"), safe, flush=True)


if __name__ == "__main__":
    sys.exit(main())
