"""Where a process is stuck."""

import subprocess


def stack(process):
    gdb = ["gdb", "-p", str(process), "-batch", "-ex", "thread apply all bt"]
    try:
        shown = subprocess.run(gdb, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60).stdout
        return "".join(line + "\n" for line in shown.splitlines() if line.startswith(("#", "Thread")))
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{error}\n"
