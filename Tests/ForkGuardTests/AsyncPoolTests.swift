import CForkGuard
import ForkGuard
import ForkGuardTesting
import Foundation
import XCTest

/// Pools that tasks use, beside threads, in one process and over forks: behaviours 37 and 38.
final class AsyncPoolTests: XCTestCase {
    typealias Tally = ForkPoolTests.Tally
    typealias Connection = ForkPoolTests.Connection
    typealias Pool = ForkPoolTests.Pool
    typealias Out = ForkPoolTests.Out

    private func pool(_ tally: Tally, _ maximum: Int) throws -> Pool {
        try ForkPool(
            name: "test", maximum: maximum, isReusableAfter: { $0 is CancellationError }, close: { tally.close($0) }, make: { tally.make() }
        )
    }

    /// Tasks that have leased all that the pool has, and are suspended.
    private final class Holders: Sendable {
        private let tasks: [TestTask<Void>]
        private let gate: AsyncStream<Void>.Continuation

        init(of pool: Pool, _ count: Int) {
            let (stream, gate) = AsyncStream.makeStream(of: Void.self)
            // One that waits for all of the others' ends, since a stream has one reader.
            let opened = Task.detached { for await _ in stream {} }
            let leased = Signal()
            self.gate = gate
            tasks = (0..<count).map { _ in
                TestTask {
                    try await pool.withResource { _ in
                        leased.send()
                        await opened.value
                    }
                }
            }
            for _ in 0..<count { leased.wait() }
        }

        func end() throws {
            gate.finish()
            for task in tasks { try task.get() }
        }
    }

    private static func isTimedOut(_ error: any Error) -> Bool {
        if case .timedOut? = error as? ForkError { true } else { false }
    }

    private func expect(_ pool: Pool, waited: Int) {
        let deadline = ContinuousClock.now + .seconds(20)
        while pool.counters.waited < waited {
            if ContinuousClock.now > deadline { return XCTFail("\(pool.counters), \(waited) should wait") }
            usleep(100)
        }
    }

    // ---- in one process ----

    func test_threadsAndTasksAreServedInTheOrderInWhichTheyCame() throws {
        for _ in 0..<50 {
            let pool = try pool(Tally(), 1)
            let lease = Out(try pool.checkOut())
            let order = Log()
            var threads: [TestThread] = [], tasks: [TestTask<Void>] = []
            for number in 0..<8 {
                if number % 2 == 0 {
                    tasks.append(TestTask { try await pool.withResource(timeout: .seconds(60)) { _ in order.add("\(number)") } })
                } else {
                    threads.append(TestThread { try! pool.withResource(timeout: .seconds(60)) { _ in order.add("\(number)") } })
                }
                expect(pool, waited: number + 1)
            }
            lease.giveBack()
            threads.forEach { $0.join() }
            for task in tasks { try task.get() }
            XCTAssertEqual(order.take(), (0..<8).map { "\($0)" })
            XCTAssertEqual(pool.counters, Pool.Counters(made: 1, idle: 1, waited: 8))
        }
    }

    func test_cancellingAWaitTakesItOutOfTheLine() throws {
        let pool = try pool(Tally(), 1)
        let lease = Out(try pool.checkOut())
        let cancelled = TestTask { try await pool.withResource(timeout: .seconds(60)) { _ in } }
        expect(pool, waited: 1)
        let patient = TestTask { try await pool.withResource(timeout: .seconds(60)) { $0.number } }
        expect(pool, waited: 2)
        cancelled.cancel()
        XCTAssertThrowsError(try cancelled.get()) { XCTAssert($0 is CancellationError, "\($0)") }
        lease.giveBack()
        XCTAssertEqual(try patient.get(), 1)
        XCTAssertEqual(pool.counters, Pool.Counters(made: 1, idle: 1, waited: 2))

        // Cancelled before it would wait; and not when there is one for it.
        let held = Out(try pool.checkOut())
        XCTAssertThrowsError(
            try TestTask {
                withUnsafeCurrentTask { $0!.cancel() }
                try await pool.withResource { _ in }
            }.get()
        ) { XCTAssert($0 is CancellationError, "\($0)") }
        held.giveBack()
        XCTAssertTrue(
            try TestTask {
                withUnsafeCurrentTask { $0!.cancel() }
                return try await pool.withResource { _ in Task.isCancelled }
            }.get())
        XCTAssertEqual(pool.counters, Pool.Counters(made: 1, idle: 1, waited: 3))
    }

    func test_cancellationUnderContentionLosesNothing() throws {
        for (maximum, timeout) in [(1, Duration.seconds(60)), (3, .seconds(60)), (3, .milliseconds(1))] {
            let tally = Tally()
            let pool = try pool(tally, maximum)
            // Three threads go on all the while, in the same line.
            let isOver = ForkMutex(false)
            let threads = (0..<3).map { _ in
                TestThread {
                    while !isOver.withLock({ $0 }) {
                        try! pool.withResource(timeout: .seconds(60)) { _ in for _ in 0..<100 { keep() } }
                    }
                }
            }
            var uses = 0, inWait = 0, inBody = 0, late = 0
            for _ in 0..<6 {
                let entered = ForkMutex(Set<Int>())
                let tasks = (0..<200).map { number in
                    TestTask {
                        try await pool.withResource(timeout: timeout) { _ in
                            entered.withLock { _ = $0.insert(number) }
                            try await Task.sleep(for: .microseconds(100))
                        }
                    }
                }
                for (number, task) in tasks.enumerated() where number % 2 == 0 {
                    if number % 16 == 0 { usleep(500) }
                    task.cancel()
                }
                for (number, task) in tasks.enumerated() {
                    do {
                        try task.get()
                        uses += 1
                    } catch is CancellationError {
                        XCTAssertEqual(number % 2, 0, "nobody cancelled it")
                        if entered.withLock({ $0.contains(number) }) { inBody += 1 } else { inWait += 1 }
                    } catch {
                        XCTAssert(Self.isTimedOut(error) && timeout < .seconds(1), "\(error)")
                        late += 1
                    }
                }
            }
            isOver.withLock { $0 = true }
            threads.forEach { $0.join() }
            print("at most \(maximum), \(timeout): \(uses) uses, cancelled: \(inWait) in the wait, \(inBody) in the body; \(late) late")
            XCTAssertGreaterThan(inWait, 0)
            XCTAssertEqual(uses + inWait + inBody + late, 1200)
            XCTAssertEqual(pool.counters.leased, 0, "\(pool.counters)")
            XCTAssertEqual(pool.counters.idle, maximum)
            XCTAssertEqual(pool.counters.made, maximum)
            XCTAssertEqual(tally.now, Tally.Counts(made: maximum, most: maximum))
            // All of them are to be had at once, and no more.
            let all = try (0..<maximum).map { _ in Out(try pool.checkOut(timeout: .zero)) }
            XCTAssertThrowsError(try pool.checkOut(timeout: .zero).giveBack()) { XCTAssert(Self.isTimedOut($0), "\($0)") }
            all.forEach { $0.giveBack() }
        }
    }

    func test_waitingTasksBlockNoThread() throws {
        let pool = try pool(Tally(), 1)
        let lease = Out(try pool.checkOut())
        let count = 50 * ProcessInfo.processInfo.activeProcessorCount
        let waiting = (0..<count).map { _ in TestTask { try await pool.withResource(timeout: .seconds(60)) { _ in } } }
        expect(pool, waited: count)
        XCTAssertEqual(try TestTask { await Self.relay() }.get(seconds: 10), 100)
        lease.giveBack()
        for task in waiting { try task.get() }
        XCTAssertEqual(pool.counters, Pool.Counters(made: 1, idle: 1, waited: count))
    }

    func test_control_threadsThatWaitInTasksHoldUpTheOthers() throws {
        let pool = try pool(Tally(), 1)
        let lease = Out(try pool.checkOut())
        let count = 50 * ProcessInfo.processInfo.activeProcessorCount
        let began = Signal()
        let waiting = (0..<count).map { _ in
            TestTask {
                began.send()
                try pool.checkOut(timeout: .seconds(60)).giveBack()
            }
        }
        for _ in 0..<2 { began.wait() }
        let relayed = Signal()
        let relay = TestTask {
            let hops = await Self.relay()
            relayed.send()
            return hops
        }
        XCTAssertFalse(relayed.wait(seconds: 1), "the control did not fail")
        lease.giveBack()
        for task in waiting { try task.get() }
        XCTAssertEqual(try relay.get(), 100)
    }

    /// A hundred tasks, one after the other.
    private static func relay() async -> Int {
        var hops = 0
        for _ in 0..<100 {
            await Task.detached { await Task.yield() }.value
            hops += 1
        }
        return hops
    }

    /// What `Task.sleep` would: the control, and the reason why the pool keeps the time itself.
    func test_waitsThatAreOverBeforeTheirTimeLeaveNothing() throws {
        let pool = try pool(Tally(), 1)
        let lease = Out(try pool.checkOut())
        // In bytes; the second number of the file is in pages.
        func resident() -> Int {
            let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
            return Int(text.split(separator: " ")[1])! * sysconf(Int32(_SC_PAGESIZE))
        }
        func growth(_ wait: @escaping @Sendable () async throws -> Void) throws -> Int {
            let before = resident()
            try TestTask {
                for _ in 0..<10_000 {
                    let task = Task { try await wait() }
                    // So that most of them have begun to wait.
                    for _ in 0..<5 { await Task.yield() }
                    task.cancel()
                    _ = await task.result
                }
            }.get()
            return resident() - before
        }
        // Once for what is kept for reuse.
        _ = try growth { try await pool.withResource(timeout: .seconds(30)) { _ in } }
        let waits = try growth { try await pool.withResource(timeout: .seconds(30)) { _ in } }
        let sleeps = try growth { try await Task.sleep(for: .seconds(30)) }
        print("10,000 waits of 30 s, cancelled, grew the process by \(waits) bytes; as many sleeps by \(sleeps)")
        XCTAssertLessThan(waits, 2_000_000)
        XCTAssertGreaterThan(sleeps, 2_000_000, "the control did not fail")
        lease.giveBack()
    }

    func test_makingOneBlocksNoThreadOfTasks() throws {
        let tally = Tally(), making = Signal(), go = Signal()
        let count = 8 * ProcessInfo.processInfo.activeProcessorCount
        let pool = try ForkPool(maximum: count, close: { tally.close($0) }) { () throws -> Connection in
            making.send()
            go.wait()
            return tally.make()
        }
        let tasks = (0..<count).map { _ in TestTask { try await pool.withResource { $0.isOurs } } }
        for _ in tasks { making.wait() }
        XCTAssertEqual(try TestTask { await Self.relay() }.get(seconds: 10), 100)
        for _ in tasks { go.send() }
        for task in tasks { XCTAssertTrue(try task.get()) }
        XCTAssertEqual(pool.counters, Pool.Counters(made: count, idle: count))
    }

    func test_errorsAreThoseOfTheOneThatBlocks() throws {
        let tally = Tally()
        let pool = try pool(tally, 1)
        let lease = Out(try pool.checkOut())
        for timeout in [Duration.seconds(-1), .zero, .milliseconds(50)] {
            let began = ContinuousClock.now
            XCTAssertThrowsError(try TestTask { try await pool.withResource(timeout: timeout) { _ in } }.get()) {
                guard case .timedOut(let what)? = $0 as? ForkError else { return XCTFail("\($0)") }
                XCTAssert(what.hasPrefix("pool 'test' of at most 1, made at ForkGuardTests/AsyncPoolTests.swift:"), what)
            }
            XCTAssertGreaterThanOrEqual(ContinuousClock.now - began, timeout)
        }
        XCTAssertEqual(pool.counters, Pool.Counters(made: 1, leased: 1, waited: 3))
        // Centuries are a timeout, too.
        let waiting = [Duration.seconds(60), .seconds(Int64.max)].map { timeout in
            TestTask { try await pool.withResource(timeout: timeout) { _ in } }
        }
        expect(pool, waited: 5)
        pool.close()
        for task in waiting {
            XCTAssertThrowsError(try task.get()) {
                guard case .closed? = $0 as? ForkError else { return XCTFail("\($0)") }
            }
        }
        lease.giveBack()
        XCTAssertEqual(tally.now.closed, 1)

        // What `make`, the health check and the body do wrong.
        let fails = ForkMutex(true), healthy = ForkMutex(true)
        let failing = try ForkPool(
            maximum: 1, isHealthy: { _ in healthy.withLock { $0 } }, close: { tally.close($0) }
        ) { () throws -> Connection in
            if fails.withLock({ $0 }) { throw ForkPoolTests.Broken() }
            return tally.make()
        }
        for _ in 0..<3 {
            XCTAssertThrowsError(try TestTask { try await failing.withResource { _ in } }.get()) { XCTAssert($0 is ForkPoolTests.Broken) }
        }
        fails.withLock { $0 = false }
        XCTAssertThrowsError(try TestTask { try await failing.withResource { _ in throw ForkPoolTests.Broken() } }.get())
        XCTAssertEqual(failing.counters, Pool.Counters(made: 1, discarded: 1))
        let number = try TestTask { try await failing.withResource { $0.number } }.get()
        healthy.withLock { $0 = false }
        XCTAssertEqual(try TestTask { try await failing.withResource { $0.number } }.get(), number + 1)
        XCTAssertEqual(failing.counters, Pool.Counters(made: 3, idle: 1, discarded: 2))
    }

    /// What is not Sendable, and changed by a body of its actor's.
    private final class Notes { var lines = 0 }

    private actor Owner {
        private let notes = Notes()
        func use(_ pool: Pool) async throws -> Int {
            try await pool.withResource { _ in
                assertIsolated()
                notes.lines += 1
                await Task.yield()
                assertIsolated()
                notes.lines += 1
                return notes.lines
            }
        }
    }

    func test_theBodyHasTheCallersIsolation() throws {
        let pool = try pool(Tally(), 1), owner = Owner()
        XCTAssertEqual(try TestTask { try await owner.use(pool) }.get(), 2)
        let lease = Out(try pool.checkOut())
        let waiting = TestTask { try await owner.use(pool) }
        expect(pool, waited: 1)
        lease.giveBack()
        XCTAssertEqual(try waiting.get(), 4)
    }

    // ---- over forks ----

    func test_behaviour37_tasksOfTheParentThatWaitAndHoldAreForgotten() throws {
        for maximum in [1, 4] {
            for method in [ForkMethod.forkGuard, .rawFork] {
                let tally = Tally()
                let pool = try pool(tally, maximum)
                let use: @Sendable () throws -> Void = {
                    let leases = try (0..<maximum).map { _ in Out(try pool.checkOut(timeout: .seconds(5))) }
                    defer { leases.forEach { $0.giveBack() } }
                    try pool.withResource(timeout: .milliseconds(1)) { _ in }
                }
                // What the children will do, so that the runtime has made its metadata.
                XCTAssertThrowsError(try use())
                let holders = Holders(of: pool, maximum), leave = ForkMutex(false)
                let waiting = (0..<20).map { _ in TestTask { try await pool.withResource(timeout: .seconds(300)) { _ in } } }
                expect(pool, waited: 21)
                // And the line changes all the while: by time-outs, and by cancellation.
                let restless = (0..<4).map { number in
                    TestTask {
                        while !leave.withLock({ $0 }) {
                            let wait = Task { try await pool.withResource(timeout: .milliseconds(1 + number % 2 * 300_000)) { _ in } }
                            await Task.yield()
                            if number % 2 == 1 { wait.cancel() }
                            _ = await wait.result
                        }
                    }
                }
                let counts = try ForkTesting.repeated(150, method, while: [{ _ = pool.counters }]) { context in
                    let before = tally.now
                    // Whoever cancels the parent's tasks there does nothing to the child's line.
                    waiting[0].cancel()
                    do {
                        try use()
                        context.fail("more than the maximum")
                    } catch { context.expect(Self.isTimedOut(error), "\(error)") }
                    let held = Out(try pool.checkOut())
                    waiting[1].cancel()
                    held.giveBack()
                    context.expect(try pool.withResource { $0.isOurs }, "the parent's was given out")
                    context.expect(pool.counters == Pool.Counters(made: maximum, idle: maximum, waited: 1), "\(pool.counters)")
                    let after = tally.now
                    context.expect(after.closed == before.closed && after.deinitialised == before.deinitialised, "\(after)")
                }
                counts.expectAll("children of a pool of \(maximum) that tasks hold and wait for, \(method)")
                leave.withLock { $0 = true }
                for task in restless { try task.get() }
                try holders.end()
                for task in waiting { try task.get() }
                XCTAssertEqual(pool.counters.leased, 0)
                XCTAssertEqual(pool.counters.idle, maximum)
            }
        }
    }

    func test_behaviour37_control_aLineThatIsInheritedTakesWhatTheChildGivesBack() throws {
        let line = PlainLine()
        let waiting = TestTask { await line.take() }
        while line.count == 0 { usleep(100) }
        // The child has what the forking thread had, and gives it back: to nobody.
        let counts = try ForkTesting.repeated(20, expecting: false, .rawFork) { _ in
            line.giveBack()
            return line.takeNow()
        }
        print("control: \(counts.ok) of \(counts.times) children gave back to a task of the parent's")
        XCTAssert(counts.succeeded, "the control did not fail: \(counts)")
        line.giveBack()
        try waiting.get()
    }

    func test_behaviour38_aRawForkInsideABodyThatSuspends() throws {
        let tally = Tally()
        for throwing in [false, true] {
            let ended = try TestTask {
                let pool = try ForkPool(maximum: 2, close: { tally.close($0) }, make: { tally.make() })
                var right = 0
                for _ in 0..<100 {
                    var child: pid_t = -1, before = tally.now
                    do {
                        try await pool.withResource { _ in
                            await Task.yield()
                            before = tally.now
                            child = forkguard_fork(0)
                            if throwing { throw ForkPoolTests.Broken() }
                        }
                    } catch { precondition(error is ForkPoolTests.Broken, "\(error)") }
                    if child == 0 {
                        // Nothing from here on suspends. A hang ends by a signal.
                        alarm(10)
                        var wrong: Int32 = 0
                        if pool.counters != Pool.Counters() { wrong |= 1 }
                        if tally.now != before { wrong |= 2 }
                        if (try? Self.blocking(pool)) != true { wrong |= 4 }
                        _exit(wrong)
                    }
                    var status: Int32 = -1
                    if waitpid(child, &status, 0) == child && status == 0 { right += 1 } else { print("a child ended with \(status)") }
                    precondition(pool.counters.leased == 0 && pool.counters.idle == (throwing ? 0 : 1), "\(pool.counters)")
                }
                return right
            }.get()
            print("children forked inside a body that suspends and \(throwing ? "throws" : "returns"): \(ended) of 100 ok")
            XCTAssertEqual(ended, 100)
        }
    }

    private static func blocking(_ pool: Pool) throws -> Bool { try pool.withResource(timeout: .seconds(5)) { $0.isOurs } }
}

/// The unguarded twin of the line: what comes back is handed to who waits longest, whoever's task that is.
private final class PlainLine: Sendable {
    private struct State {
        var isFree = false
        var waiting: [UnsafeContinuation<Void, Never>] = []
    }

    private let state = ForkMutex(State())

    var count: Int { state.withLock { $0.waiting.count } }

    func take() async {
        await withUnsafeContinuation { continuation in state.withLock { $0.waiting.append(continuation) } }
    }

    func takeNow() -> Bool {
        state.withLock { state in
            defer { state.isFree = false }
            return state.isFree
        }
    }

    func giveBack() {
        let first = state.withLock { state -> UnsafeContinuation<Void, Never>? in
            if state.waiting.isEmpty { state.isFree = true }
            return state.waiting.isEmpty ? nil : state.waiting.removeFirst()
        }
        first?.resume()
    }
}
