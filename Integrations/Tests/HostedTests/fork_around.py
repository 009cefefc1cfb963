"""Loads Swift libraries with hammers in them, and forks around those: fork_around.py LIBRARY[:LIBRARY...] FORKS STOP_AFTER_FAILURES

Prints a line of JSON with the counts. Python 3.9 or later."""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import threading

DEADLINE_MS = 5000
TYPES, LAZY_GLOBALS, LOCK, MUTEX, TASKS = LOADS = 1, 2, 4, 8, 16

libraries = [ctypes.CDLL(path) for path in sys.argv[1].split(":")]  # RTLD_LOCAL: nobody else sees their symbols
forks, stop_after = int(sys.argv[2]), int(sys.argv[3])
for library in libraries:
    library.hosted_support.restype = ctypes.c_char_p
    library.hosted_count.restype = library.hosted_generation.restype = ctypes.c_uint64

counts = {"forks": 0, "ok": 0, "hung": 0, "crashed": 0, "wrong": 0, "inside_lazy_global": 0, "inside_lock": 0, "gdb": ""}


def check(index, generation):
    """In a child: every library works, and all of them know the same generation, the parent's next."""
    return any(library.hosted_check(sum(LOADS), index) | (library.hosted_generation() != generation + 1) for library in libraries)


def fork_once(index):
    for library in libraries:
        inside = library.hosted_prepare(sum(LOADS), index)
    generation = libraries[0].hosted_generation()
    counts["inside_lazy_global"] += bool(inside & LAZY_GLOBALS)
    counts["inside_lock"] += bool(inside & LOCK)
    child = os.fork()
    if child == 0:
        os._exit(check(index, generation))
    counts["forks"] += 1
    descriptor = os.pidfd_open(child)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    hung = not poll.poll(DEADLINE_MS)
    if hung:
        gdb = ["gdb", "-p", str(child), "-batch", "-ex", "thread apply all bt"]
        try:
            shown = subprocess.run(gdb, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60).stdout
            counts["gdb"] += f"child {index} hangs:\n" + "".join(l + "\n" for l in shown.splitlines() if l.startswith(("#", "Thread")))
        except (OSError, subprocess.TimeoutExpired) as error:
            counts["gdb"] += f"child {index} hangs; {error}\n"
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(descriptor)
    counts["hung" if hung else "ok" if status == 0 else "crashed" if os.WIFSIGNALED(status) else "wrong"] += 1


def fork_all():
    for index in range(forks):
        fork_once(index)
        if counts["forks"] - counts["ok"] >= stop_after:
            return


for library in libraries:
    library.hosted_start(sum(LOADS))
forker = threading.Thread(target=fork_all)
forker.start()
forker.join()
for library in libraries:
    library.hosted_stop()
counts["types"], counts["lazy_globals"], counts["turns"], counts["batches"] = (
    sum(library.hosted_count(load) for library in libraries) for load in (TYPES, LAZY_GLOBALS, LOCK, TASKS)
)
counts["support"] = libraries[-1].hosted_support().decode().split("\n")
print(json.dumps(counts))
