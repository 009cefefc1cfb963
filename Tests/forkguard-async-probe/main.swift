// Forks whose bodies suspend, in a process that has not used Swift concurrency before: `forkguard-async-probe SCENARIO`.

import ForkGuard
import Glibc

@_silgen_name("_Fork")
func _Fork() -> Int32

struct Broken: Error {}

actor Counter {
    private var count: Int32 = 0
    func increment() { count += 1 }
    var value: Int32 { count }
}

/// A little of everything that tasks are used for, but for the main actor.
@Sendable func work() async throws -> Int32 {
    let counter = Counter()
    async let one: Void = counter.increment()
    try await Task.sleep(for: .milliseconds(2))
    await withTaskGroup(of: Void.self) { group in for _ in 0..<10 { group.addTask { await counter.increment() } } }
    await one
    return await counter.value
}

/// How many of so many children end with 11.
func succeeded(of times: Int) throws -> Int {
    try (0..<times).count { _ in
        let child = try ForkGuard.fork { try await work() }
        do { return try child.wait(timeout: .seconds(10)) == .exited(11) } catch {
            try child.signal(SIGKILL)
            try child.wait()
            return false
        }
    }
}

func onThread(_ body: @escaping @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer?) {
    var thread = pthread_t()
    guard pthread_create(&thread, nil, body, nil) == 0 else { fatalError("no thread") }
    pthread_join(thread, nil)
}

let forks = CommandLine.arguments.dropFirst(2).first.flatMap { Int($0) } ?? 100

func report(_ ended: Int) {
    print("\(ended) of \(forks)")
    exit(0)
}

@Sendable func ends(_ child: ChildProcess, with status: Int32) throws -> Bool {
    do { return try child.wait(timeout: .seconds(5)) == .exited(status) } catch ForkError.timedOut {
        try child.signal(SIGKILL)
        try child.wait()
        return false
    }
}

/// Each of so many generations does its work, in a task, and its child after it.
@Sendable func descend(_ generations: Int) throws -> ChildProcess {
    try ForkGuard.fork {
        let result = try await work()
        guard generations > 1 else { return result }
        return try ends(descend(generations - 1), with: 11) ? result : 1
    }
}

@_silgen_name("fork")
func rawFork() -> Int32

/// 1 when the child was ended by a message.
@Sendable func refusal(of child: pid_t) async throws -> Int {
    var status: Int32 = 0
    let end = ContinuousClock.now + .seconds(5)
    while waitpid(child, &status, WNOHANG) == 0 {
        if ContinuousClock.now > end { kill(child, SIGKILL) }
        try await Task.sleep(for: .milliseconds(1))
    }
    return status & 0x7f == SIGILL || status & 0x7f == SIGTRAP ? 1 : 0
}

@Sendable func forkBesideLet() async throws -> Int {
    async let later: Void = Task.sleep(for: .milliseconds(20))
    let child = rawFork()
    if child == 0 {
        try await later
        exit(0)
    }
    return try await refusal(of: child)
}

@Sendable func forkBesideGroup() async throws -> Int {
    let child = await withTaskGroup(of: Void.self, returning: pid_t.self) { group in
        group.addTask { try? await Task.sleep(for: .milliseconds(20)) }
        return rawFork()
    }
    // The end of the group waits for its tasks.
    if child == 0 { exit(0) }
    return try await refusal(of: child)
}

actor Place {
    var visits = 0
    func visit() { visits += 1 }

    func forkBody() throws -> pid_t {
        try ForkGuard.fork {
            await self.visit()
            return 0
        }.pid
    }

    func forkHere() async throws -> Int32 {
        let child = rawFork()
        if child == 0 {
            let visit = Task.detached { await self.visit() }
            await visit.value
            exit(visits == 1 ? 11 : 1)
        }
        var status: Int32 = 0
        while waitpid(child, &status, WNOHANG) == 0 { try await Task.sleep(for: .milliseconds(1)) }
        return status
    }
}

func finishLater() {
    Task.detached { exit(try await work()) }
}

@Sendable func forkBypassing(_: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    let ended = (0..<forks).count { _ in
        let pid = _Fork()
        if pid == 0 {
            finishLater()
            while true { pause() }
        }
        var status: Int32 = 0
        let end = ContinuousClock.now + .seconds(5)
        while waitpid(pid, &status, WNOHANG) == 0 {
            if ContinuousClock.now > end { kill(pid, SIGKILL) }
            usleep(200)
        }
        return status == 11 << 8
    }
    report(ended)
    return nil
}

/// Threads of the pool that never rest.
func hammer() {
    for _ in 0..<4 { Task.detached { while true { _ = try await work() } } }
}

func drain() -> Never {
    while true { pause() }
}

// None of them ends later than its children.
alarm(100)
switch CommandLine.arguments.dropFirst().first {
case "main": print("\(try succeeded(of: 100)) of 100")
case "thread":
    onThread { _ in
        print("\(try! succeeded(of: 100)) of 100")
        return nil
    }
case "throws":
    print(
        try ForkGuard.fork {
            await Task.yield()
            throw Broken()
        }.wait(timeout: .seconds(10)))
case "prints":
    print("once, by the parent;", terminator: " ")
    let child = try ForkGuard.fork {
        await Task.yield()
        print("once, by the child", terminator: "")
        return 0
    }
    try child.wait(timeout: .seconds(10))
case "calling-thread":
    do {
        _ = try ForkGuard.fork(options: .onCallingThread) {
            await Task.yield()
            return 0
        }
    } catch { print(error) }
case "plain":
    // Not an ambiguous call, and the body that does not suspend is taken: on the calling thread the other one is refused.
    print(try ForkGuard.fork(options: .onCallingThread) { 5 }.wait(timeout: .seconds(10)))
case "used":
    // Out of tasks, in a process whose threads are in the middle of what the children do, main actor and all.
    hammer()
    Task.detached {
        let ended = try (0..<forks).count { _ in
            let child = try ForkGuard.fork { try await work() + MainActor.run { 1 } }
            return try ends(child, with: 12)
        }
        report(ended)
    }
    drain()
case "chain":
    hammer()
    Task.detached { report(try (0..<forks).count { _ in try ends(descend(5), with: 11) }) }
    drain()
case "let", "group":
    // The task that forked goes on in the child, and comes to its own children, who do not.
    Task.detached { [scenario = CommandLine.arguments[1]] in
        var refused = 0
        for _ in 0..<forks { refused += try await scenario == "let" ? forkBesideLet() : forkBesideGroup() }
        report(refused)
    }
    drain()
case "inside-actor":
    // A raw fork leaves the actor, when its task does; with a body of its own nobody does.
    Task.detached {
        let place = Place()
        var refused = 0
        for _ in 0..<forks { refused += try await refusal(of: place.forkBody()) }
        guard refused == forks else { return report(refused) }
        for _ in 0..<forks { refused -= try await place.forkHere() == 11 << 8 ? 1 : 0 }
        report(forks - refused)
    }
    drain()
case "bypassed":
    // No handlers run: the child becomes one when it uses what is led.
    hammer()
    onThread(forkBypassing)
default: fatalError("no such scenario")
}
