// Forks of a process whose main thread is in its run loop, and of threads that are in the middle of a queue or an actor with others waiting
// behind them: `forkguard-loop-probe SCENARIO FORKS`.

import Dispatch
import ForkGuard
import Foundation
import Glibc
import Synchronization

@_silgen_name("fork")
func rawFork() -> Int32

@_silgen_name("syscall")
func systemCall(_ number: Int, _ flags: UInt, _ stack: UInt, _ parent: UInt, _ child: UInt, _ local: UInt) -> Int

// clone(2), and its flag for one table of descriptors.
#if arch(x86_64)
    let clone = 56
#else
    let clone = 220
#endif
let cloneFiles: UInt = 0x400

let forks = CommandLine.arguments.dropFirst(2).first.flatMap { Int($0) } ?? 20
let parent = getpid()

func report(_ right: Int) -> Never {
    print("\(right) of \(forks)")
    exit(0)
}

/// The status of a child's end, killed after 5 seconds.
func end(of child: pid_t) -> Int32 {
    var status: Int32 = 0
    let end = ContinuousClock.now + .seconds(5)
    while waitpid(child, &status, WNOHANG) == 0 {
        if ContinuousClock.now > end { kill(child, SIGKILL) }
        usleep(500)
    }
    return status
}

/// On one of libdispatch's threads, which waits.
func onWorker<Value: Sendable>(_ body: @escaping @Sendable () -> Value) -> Value {
    let value = Mutex<Value?>(nil), done = DispatchSemaphore(value: 0)
    DispatchQueue.global().async {
        let result = body()
        value.withLock { $0 = result }
        done.signal()
    }
    done.wait()
    return value.withLock { $0! }
}

func work() async -> Int32 {
    try? await Task.sleep(for: .milliseconds(1))
    return await MainActor.run { 11 }
}

/// Runs of what the parent has waiting, in this process.
let strangers = Atomic<Int>(0)

@Sendable func stranger() { if getpid() != parent { strangers.add(1, ordering: .relaxed) } }

actor Place {
    private(set) var visits = 0
    func visit() {
        visits += 1
        stranger()
    }

    /// With `others` waiting for this actor.
    func fork(others: Int) -> pid_t {
        for _ in 0..<others { Task.detached { await self.visit() } }
        usleep(2000)
        return rawFork()
    }
}

/// Ends the child, once whoever was to run has had the time: nobody tells that nobody comes.
func endChild() -> Never {
    usleep(20_000)
    _exit(strangers.load(ordering: .relaxed) == 0 ? 11 : 1)
}

let scenarios: [String: @Sendable () -> Int] = [
    // ForkGuard.fork, with a body that suspends; on a plain thread and on one of libdispatch's.
    "body": {
        (0..<forks).count { index in
            let fork: @Sendable () -> pid_t = { try! ForkGuard.fork { await work() }.pid }
            return end(of: index % 2 == 0 ? fork() : onWorker(fork)) == 11 << 8
        }
    },
    // fork() on one of libdispatch's threads.
    "worker": {
        (0..<forks).count { _ in
            onWorker {
                let child = rawFork()
                if child == 0 {
                    Task.detached { _exit(await work()) }
                    while true { pause() }
                }
                return end(of: child) == 11 << 8
            }
        }
    },
    // A child that shares the table of descriptors: the parent's timers go on.
    "clone-files": {
        let ticks = Atomic<Int>(0)
        let timer = DispatchSource.makeTimerSource(queue: .global())
        timer.setEventHandler { ticks.add(1, ordering: .relaxed) }
        timer.schedule(deadline: .now(), repeating: .milliseconds(2))
        timer.activate()
        return withExtendedLifetime(timer) {
            (0..<forks).count { _ in
                let child = systemCall(clone, cloneFiles | UInt(SIGCHLD), 0, 0, 0, 0)
                if child == 0 {
                    DispatchQueue.global().async { _exit(11) }
                    while true { pause() }
                }
                guard end(of: pid_t(child)) == 11 << 8 else { return false }
                let before = ticks.load(ordering: .relaxed), end = ContinuousClock.now + .seconds(2)
                while ticks.load(ordering: .relaxed) < before + 3 { if ContinuousClock.now > end { return false } else { usleep(500) } }
                return true
            }
        }
    },
    // In a block of a serial queue that has more: the child leaves the block.
    "queue-others": {
        (0..<forks).count { _ in
            let queue = DispatchQueue(label: "others"), done = DispatchSemaphore(value: 0)
            let child = Atomic<Int32>(0)
            queue.async {
                for _ in 0..<3 { queue.async { stranger() } }
                child.store(rawFork(), ordering: .releasing)
                if child.load(ordering: .relaxed) == 0 { DispatchQueue.global().async { endChild() } }
                done.signal()
            }
            done.wait()
            if child.load(ordering: .acquiring) == 0 { while true { pause() } }
            return end(of: child.load(ordering: .acquiring)) == 11 << 8
        }
    },
    // On an actor for which others wait: the child leaves it.
    "actor-others": {
        (0..<forks).count { _ in
            let done = DispatchSemaphore(value: 0), child = Atomic<Int32>(0)
            Task.detached {
                child.store(await Place().fork(others: 3), ordering: .releasing)
                if child.load(ordering: .relaxed) == 0 { endChild() }
                done.signal()
            }
            done.wait()
            return end(of: child.load(ordering: .acquiring)) == 11 << 8
        }
    },
]

alarm(100)
guard let name = CommandLine.arguments.dropFirst().first, let scenario = scenarios[name] else { fatalError("no such scenario") }
// The main thread's loop runs before anybody forks.
RunLoop.main.perform { Thread.detachNewThread { report(scenario()) } }
_ = Timer.scheduledTimer(withTimeInterval: 0.01, repeats: true) { _ in }
while true { RunLoop.main.run(until: .distantFuture) }
