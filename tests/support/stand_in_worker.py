"""A process in the worker's place that misbehaves in one way, given as its first word; standard library only."""

import json
import sys
import time


def say(**event):
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def listen():
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return json.loads(line)


def wait_for_request():
    while (request := listen())["type"] != "relight":
        pass
    return request


mode = sys.argv[1]
if mode == "mute":
    print("still looking for my packages", file=sys.stderr, flush=True)
    time.sleep(60)
if mode == "no_module":
    sys.exit("No module named relightgan")
if mode == "banner":
    sys.stdout.write("Welcome to the studio's Python\n")
    sys.stdout.flush()
    time.sleep(60)
if mode == "later":
    listen()
    say(type="hello", protocol=3, version="9.1.0", pid=1, news="unknown to us")
    time.sleep(60)
listen()
say(type="hello", protocol=2, version="0.1.0", pid=1)
request = wait_for_request()
say(type="accepted", id=request["id"], queued=0)
if mode == "garbage":
    sys.stdout.buffer.write(b"\x00\xff\xfe garbage \x1b[31m\n" * 100)
elif mode == "unknown_event":
    say(type="dance", id=request["id"])
elif mode == "huge":
    sys.stdout.write("x" * (3 << 20))
elif mode == "half_a_line":
    print("Traceback ...\nSegmentation fault, so to speak", file=sys.stderr)
    sys.stdout.write('{"type":"do')
    sys.stdout.flush()
    sys.exit(3)
elif mode == "refuses":
    say(type="refused", problem="I don't like it.", fix="")
elif mode == "refuses_this":
    say(type="refused", id=request["id"], problem="I don't like this one.", fix="Ask for another.")
elif mode == "unknown_kind":
    say(type="failed", id=request["id"], kind="SystemExit", problem="What is this?", fix="Nothing.", frames=[])
elif mode == "deaf_at_first" and list(request["outputs"]) == ["2"]:
    say(type="done", id=request["id"], frames=[2], seconds=0, device="CPU")
elif mode in ("deaf", "deaf_at_first"):  # lives, but takes no cancel
    while True:
        say(type="heartbeat", busy=True)
        time.sleep(0.2)
elif mode == "does_all_but_say_so":
    for frame in request["outputs"]:
        say(type="frame", id=request["id"], frame=int(frame), done=1, total=1, seconds=0)
    sys.exit(5)
elif mode == "chatty":  # more than a pipe holds, before it listens again
    for _ in range(20_000):
        say(type="log", id=request["id"], text="x" * 80)
    say(type="done", id=request["id"], frames=[], seconds=0, device="CPU")
elif mode == "slow_reader":
    time.sleep(3)
    while True:
        request = wait_for_request()
        say(type="done", id=request["id"], frames=[], seconds=0, device="CPU")
sys.stdout.flush()
time.sleep(60)
