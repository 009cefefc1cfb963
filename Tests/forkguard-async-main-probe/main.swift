// Forks of a main program that suspends: its main thread has gone to libdispatch, and the main actor is wherever a thread of the pool is.
// `forkguard-async-main-probe SCENARIO FORKS`.

import ForkGuard
import Glibc

@_silgen_name("fork")
func rawFork() -> Int32

func work() async throws -> Int32 {
    try await Task.sleep(for: .milliseconds(1))
    let sum = await withTaskGroup(of: Int32.self, returning: Int32.self) { group in
        for number: Int32 in 1...4 { group.addTask { number } }
        return await group.reduce(0, +)
    }
    return await MainActor.run { sum }
}

/// How many of so many children end with 11.
func count(_ forks: Int, _ fork: () async throws -> pid_t) async throws -> Int {
    var ended = 0
    for _ in 0..<forks {
        let child = try await fork(), end = ContinuousClock.now + .seconds(5)
        var status: Int32 = 0
        while waitpid(child, &status, WNOHANG) == 0 {
            if ContinuousClock.now > end { kill(child, SIGKILL) }
            try await Task.sleep(for: .microseconds(200))
        }
        if status == 11 << 8 { ended += 1 }
    }
    return ended
}

/// Goes on in the task that called it.
func forkHere() async throws -> pid_t {
    let child = rawFork()
    if child == 0 { exit(try await work() + 1) }
    return child
}

for _ in 0..<3 { Task.detached { while true { _ = try await work() } } }
_ = try await work()
alarm(100)
let forks = CommandLine.arguments.dropFirst(2).first.flatMap { Int($0) } ?? 100
let ended =
    switch CommandLine.arguments.dropFirst().first {
    case "here": try await count(forks) { try await forkHere() }
    case "elsewhere": try await Task.detached { try await count(forks) { try await forkHere() } }.value
    case "body": try await count(forks) { try ForkGuard.fork { try await work() + 1 }.pid }
    default: fatalError("no such scenario")
    }
print("\(ended) of \(forks)")
exit(0)
