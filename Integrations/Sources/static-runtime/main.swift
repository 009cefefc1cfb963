import ForkGuard
import Foundation
import RuntimeHammers

// Forks while the Swift runtime is hammered: static-runtime LOAD FORKS STOP-AFTER-FAILURES. The load is a set of bits, as in Load.
// Prints what came of the children, and exits with 0 when all were well, 1 when not.

let arguments = CommandLine.arguments.dropFirst().compactMap { Int($0) }
guard arguments.count == 3, CommandLine.arguments.count == 4 else {
    print("usage: static-runtime LOAD FORKS STOP-AFTER-FAILURES")
    exit(64)
}
let load = Load(rawValue: UInt32(arguments[0]))
for cure in ForkGuard.runtimeSupport { print(cure) }

// fork(2), which Swift hides.
typealias Fork = @convention(c) () -> pid_t
let rawFork = unsafeBitCast(dlsym(nil, "fork"), to: Fork.self)
let deadline: Int32 = 5000

var ok = 0, hung = 0, crashed = 0, wrong = 0, insideGlobal = 0, insideLock = 0
Hammers.start(load)
for index in 0..<arguments[1] where hung + crashed + wrong < arguments[2] {
    let inside = Hammers.prepare(load, index)
    insideGlobal += inside.contains(.lazyGlobals) ? 1 : 0
    insideLock += inside.contains(.lock) ? 1 : 0
    // The child has the other end, and nobody else: its end is the end of it.
    var ends: [Int32] = [0, 0]
    precondition(pipe(&ends) == 0)
    let child = rawFork()
    precondition(child >= 0)
    if child == 0 { _exit(Int32(check(load, index).rawValue)) }
    close(ends[1])
    var descriptor = pollfd(fd: ends[0], events: Int16(POLLIN), revents: 0)
    let inTime = poll(&descriptor, 1, deadline) == 1
    if !inTime {
        fflush(nil)
        system("timeout 60 gdb -readnever -p \(child) -batch -ex 'thread apply all bt' 2>/dev/null </dev/null | grep -E '^(#|Thread)'")
        kill(child, SIGKILL)
    }
    var status: Int32 = 0
    precondition(waitpid(child, &status, 0) == child)
    close(ends[0])
    switch (inTime, status & 0x7f, status >> 8) {
    case (false, _, _): hung += 1
    case (_, 0, 0): ok += 1
    case (_, 0, let which):
        wrong += 1
        print("child \(index): wrong results of \(which)")
    case (_, let signal, _):
        crashed += 1
        print("child \(index): signal \(signal)")
    }
}
let counts = Hammers.counts
print(
    "ok \(ok), hung \(hung), crashed \(crashed), wrong \(wrong); inside a lazy global \(insideGlobal), a lock \(insideLock); "
        + "\(counts.types) types, \(counts.turns) turns, \(counts.lazyGlobals) lazy globals")
exit(hung + crashed + wrong == 0 ? 0 : 1)
