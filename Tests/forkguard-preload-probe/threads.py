"""threads.py LIBRARY FORKS: os.fork beside threads of a C library that lock its mutex: some that it makes itself, some of Python's."""

import ctypes
import os
import signal
import sys
import threading
import time

library = ctypes.CDLL(sys.argv[1])
forks = int(sys.argv[2])


def call_for_ever():
    while True:
        library.holder_use(ctypes.c_long(50000))


for _ in range(2):
    library.holder_hammer()
    threading.Thread(target=call_for_ever, daemon=True).start()
ok = hung = wrong = 0
while ok + hung + wrong < forks and hung < 3:
    time.sleep(0.001)
    child = os.fork()
    if child == 0:
        signal.alarm(2)
        library.holder_use(ctypes.c_long(0))
        thread = threading.Thread(target=library.holder_use, args=(ctypes.c_long(1000),))
        thread.start()
        thread.join()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        ok += 1
    elif os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        hung += 1
    else:
        wrong += 1
print(f"python: {ok} ok, {hung} hung, {wrong} wrong", flush=True)
os._exit(1 if hung or wrong else 0)
