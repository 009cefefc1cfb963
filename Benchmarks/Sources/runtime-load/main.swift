import CBench
import ForkGuard
import Foundation
import Glibc

// One load of those that the cures of ForkGuardRuntime make slower, once: runtime-load LOAD. Prints how many nanoseconds a call of
// it took. Started by forkguard-bench, with and without FORKGUARD_RUNTIME=off.

let loads: [(String, () -> Double)] = [
    ("cures", { ForkGuard.runtimeSupport.allSatisfy(\.isOn) ? 1 : 0 }),
    ("types-1", { hammered(by: 1, milliseconds: 100, hammerTypes) }),
    ("types-2", { hammered(by: 2, milliseconds: 100, hammerTypes) }),
    ("global", { medianOfRounds(calls: 1_000_000) { for _ in 0..<$0 { sink = readGlobal() } } }),
    ("globals", firstUse),
    ("mutex-1", { hammered(by: 1, milliseconds: 50, hammerMutex) }),
    ("mutex-2", { hammered(by: 2, milliseconds: 50, hammerMutex) }),
    ("nslock-1", { hammered(by: 1, milliseconds: 50, hammerNSLock) }),
    ("nslock-2", { hammered(by: 2, milliseconds: 50, hammerNSLock) }),
]

// Main thread only, but for the compiler's knowledge.
nonisolated(unsafe) var sink = 0

guard CommandLine.arguments.count == 2, let load = loads.first(where: { $0.0 == CommandLine.arguments[1] }) else {
    print("usage: runtime-load \(loads.map(\.0).joined(separator: "|"))")
    exit(64)
}
// The C library elides atomics in a process with one thread.
var idle = pthread_t()
pthread_create(&idle, nil, { _ in while true { pause() } }, nil)
print(load.1())
