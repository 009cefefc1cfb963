"""Forks many times around a Swift library whose threads are busy, and lets each child use it:

    forks.py LIBRARY HOST:PORT FORKS STOP_AFTER_FAILURES

Prints a line of JSON with the counts."""

import json
import os
import select
import signal
import sys
import threading

import hosted_redis
from stacks import stack

DEADLINE_MS = 5000
ENTRIES = 64

library, server, forks, stop_after = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
redis = hosted_redis.Redis(library, server, refreshers=2, pause_microseconds=50)
counts = {"forks": 0, "ok": 0, "hung": 0, "crashed": 0, "wrong": 0, "stacks": ""}
over = threading.Event()
parent = [0, 0]  # right, wrong, of one Python thread beside the forks


def is_right(number):
    try:
        return redis.get(f"hosted:{number % ENTRIES}") == f"value {number % ENTRIES}"
    except hosted_redis.Error:
        return False


def ask():
    number = 0
    while not over.is_set():
        parent[not is_right(number)] += 1
        number += 1


def child(index):
    """What a child must be able to do: 0 when all of it was right."""
    try:
        right = all(is_right(index + more) for more in range(20))
        own = f"hosted:child:{os.getpid()}"
        redis.set(own, "0")
        right = right and [redis.incr(own) for _ in range(5)] == [1, 2, 3, 4, 5]
        number = index % ENTRIES
        return 0 if right and redis.recent(f"hosted:{number}") in (None, f"value {number}") else 1
    except hosted_redis.Error:
        return 1


def fork_once(index):
    process = os.fork()
    if process == 0:
        os._exit(child(index))
    counts["forks"] += 1
    descriptor = os.pidfd_open(process)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    hung = not poll.poll(DEADLINE_MS)
    if hung:
        counts["stacks"] += f"child {index} hangs:\n{stack(process)}"
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    os.close(descriptor)
    counts["hung" if hung else "ok" if status == 0 else "crashed" if os.WIFSIGNALED(status) else "wrong"] += 1


for number in range(ENTRIES):
    redis.set(f"hosted:{number}", f"value {number}")
asker = threading.Thread(target=ask, daemon=True)
asker.start()
for index in range(forks):
    fork_once(index)
    if counts["forks"] - counts["ok"] >= stop_after:
        break
over.set()
asker.join(5)
right, wrong = redis.counts()
counts["parent_right"], counts["parent_wrong"] = right + parent[0], wrong + parent[1]
print(json.dumps(counts), flush=True)
os._exit(0)  # in the control the threads may never end
