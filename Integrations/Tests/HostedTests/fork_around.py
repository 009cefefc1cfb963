"""Loads a Swift library with hammers in it, and forks around them: fork_around.py LIBRARY FORKS STOP_AFTER_FAILURES

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

library = ctypes.CDLL(sys.argv[1])  # RTLD_LOCAL: nobody else sees its symbols
forks, stop_after = int(sys.argv[2]), int(sys.argv[3])
library.hosted_support.restype = ctypes.c_char_p
library.hosted_count.restype = ctypes.c_uint64

counts = {"forks": 0, "ok": 0, "hung": 0, "crashed": 0, "wrong": 0, "inside_lazy_global": 0, "inside_lock": 0, "gdb": ""}


def fork_once(index):
    inside = library.hosted_prepare(sum(LOADS), index)
    counts["inside_lazy_global"] += bool(inside & LAZY_GLOBALS)
    counts["inside_lock"] += bool(inside & LOCK)
    child = os.fork()
    if child == 0:
        os._exit(library.hosted_check(sum(LOADS), index))
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


library.hosted_start(sum(LOADS))
forker = threading.Thread(target=fork_all)
forker.start()
forker.join()
library.hosted_stop()
counts["types"], counts["lazy_globals"], counts["turns"], counts["batches"] = (
    library.hosted_count(load) for load in (TYPES, LAZY_GLOBALS, LOCK, TASKS)
)
counts["support"] = library.hosted_support().decode().split("\n")
print(json.dumps(counts))
