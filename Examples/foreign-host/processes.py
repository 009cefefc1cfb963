"""A pool of processes that are forked around a Swift library, and forked anew after a few jobs each:

    processes.py LIBRARY HOST:PORT JOBS SECONDS

Prints a line of JSON with the counts; what is not done after so many seconds hangs."""

import ctypes
import json
import multiprocessing
import os
import signal
import sys

import hosted_redis
from stacks import stack

ENTRIES = 64
PROCESSES = 4
JOBS_EACH = 5
PR_SET_PDEATHSIG = 1

library, server, jobs, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
redis = hosted_redis.Redis(library, server, refreshers=2, pause_microseconds=50)


def end_with(parent):
    """In the control the pool cannot be closed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def job(index):
    """The process that did it, and whether all of it was right."""
    number, own = index % ENTRIES, f"hosted:job:{index}"
    try:
        right = all(redis.get(f"hosted:{(number + more) % ENTRIES}") == f"value {(number + more) % ENTRIES}" for more in range(10))
        redis.set(own, "0")
        return os.getpid(), right and [redis.incr(own) for _ in range(3)] == [1, 2, 3]
    except hosted_redis.Error:
        return os.getpid(), False


for number in range(ENTRIES):
    redis.set(f"hosted:{number}", f"value {number}")
counts = {"jobs": jobs, "right": 0, "wrong": 0, "hung": 0, "processes": 0, "stacks": ""}
pool = multiprocessing.get_context("fork").Pool(PROCESSES, end_with, (os.getpid(),), JOBS_EACH)
seen = set()
results = pool.imap_unordered(job, range(jobs))
try:
    for _ in range(jobs):
        process, right = results.next(timeout=seconds)
        seen.add(process)
        counts["right" if right else "wrong"] += 1
except multiprocessing.TimeoutError:
    counts["hung"] = jobs - counts["right"] - counts["wrong"]
    for child in multiprocessing.active_children():
        counts["stacks"] += f"process {child.pid}:\n{stack(child.pid)}"
counts["processes"] = len(seen)
counts["parent_right"], counts["parent_wrong"] = redis.counts()
print(json.dumps(counts), flush=True)
os._exit(0)
