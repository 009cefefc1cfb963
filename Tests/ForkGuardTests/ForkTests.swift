import ForkGuard
import ForkGuardTesting
import Glibc
import XCTest

/// The fork itself: behaviours 10 to 17, 48, 49.
final class ForkTests: XCTestCase {
    /// Two locks with an invariant that every section breaks for a moment: a child that is let in half-way sees it.
    final class Ledger: Sendable {
        let debit = ForkMutex((a: 0, b: 0), name: "debit")
        let credit = ForkMutex((a: 0, b: 0), name: "credit")

        func book() {
            debit.withLock { debit in
                debit.a += 1
                credit.withLock {
                    $0.a += 1
                    for _ in 0..<100 { keep() }
                    $0.b += 1
                }
                debit.b += 1
            }
        }

        func check(_ context: ForkContext) {
            context.expect(debit.withLock { $0.a == $0.b }, "debit is half changed")
            context.expect(credit.withLock { $0.a == $0.b }, "credit is half changed")
        }
    }

    func test_behaviour10_manyThreadsForkAtOnce() throws {
        let ledger = Ledger()
        for (threads, times) in [(2, 300), (16, 500)] {
            for method in [ForkMethod.forkGuard, .rawFork] {
                let counts = try ForkTesting.repeated(
                    times, method, concurrently: threads, while: [{ ledger.book() }, { ledger.book() }, { ledger.book() }]
                ) { ledger.check($0) }
                counts.expectAll("\(threads) forking threads, \(method)")
            }
        }
    }

    func test_behaviour11_fromTheMainThreadAndFromOthers() throws {
        let ledger = Ledger()
        for thread in ForkThread.allCases {
            for method in ForkMethod.available where method.runsForkHandlers {
                let counts = try ForkTesting.repeated(100, method, from: thread, while: [{ ledger.book() }, { ledger.book() }]) {
                    ledger.check($0)
                }
                counts.expectAll("\(method) from \(thread) thread")
            }
        }
    }

    func test_whoIsInsideMayGoDeeperWhileTheGateIsClosed() throws {
        // Nearly always one of them is inside the outer lock and on its way to the inner one when the gate closes. If it had to wait there, every fork
        // would need a window.
        let hammers: [@Sendable () -> Void] = (0..<2).map { _ in
            let outer = ForkMutex(0, name: "outer"), inner = ForkMutex(0, name: "inner")
            return { outer.withLock { _ in for _ in 0..<100 { inner.withLock { $0 += 1 } } } }
        }
        let needed = try (0..<100).map { _ in
            try ForkTesting.run(.rawFork, while: hammers) { _ in ForkGuard.lastReport?.windows ?? -1 }.get()
        }
        print("windows needed by 100 forks: \(needed.reduce(0, +))")
        XCTAssertEqual(needed.sorted()[50], 0, "\(needed)")
    }

    func test_behaviour25_threadsThatEndAndThreadsThatAreBornDuringForks() throws {
        let ledger = Ledger()
        let lived = ForkMutex(0)
        // Each lives for one booking, so at nearly any moment one is being born, parks, or ends; slots are given back and taken all the time.
        let breeder: @Sendable () -> Void = {
            let threads = (0..<3).map { _ in TestThread { ledger.book() } }
            threads.forEach { $0.join() }
            lived.withLock { $0 += threads.count }
        }
        for method in [ForkMethod.forkGuard, .rawFork] {
            let counts = try ForkTesting.repeated(300, method, while: [breeder, breeder, { ledger.book() }]) { context in
                ledger.check(context)
                // And in the child, where slots of vanished threads are taken again.
                for _ in 0..<3 { breeder() }
                context.expect(ForkGuard.lastReport?.tornCount == 0, "\(String(describing: ForkGuard.lastReport))")
            }
            counts.expectAll("forks among short lives, \(method)")
        }
        print("short lives: \(lived.withLock { $0 })")
        XCTAssertGreaterThan(lived.withLock { $0 }, 1000)
    }

    func test_behaviour12_locksInOppositeOrder() throws {
        let a = ForkMutex(0, name: "a"), b = ForkMutex(0, name: "b")
        let forwards: @Sendable () -> Void = { a.withLock { a in b.withLock { a += $0 } } }
        let backwards: @Sendable () -> Void = { b.withLock { b in _ = a.withLockIfAvailable { b += $0 } } }
        for method in [ForkMethod.forkGuard, .rawFork] {
            let counts = try ForkTesting.repeated(500, method, while: [forwards, backwards, forwards, backwards]) { _ in
                forwards()
                backwards()
            }
            counts.expectAll("opposite orders, \(method)")
        }
    }

    func test_behaviour13_aForkUnderLocks() throws {
        let mine = ForkMutex(1, name: "mine")
        let ledger = Ledger()
        for _ in 0..<100 {
            // On the calling thread, which holds the lock in the child too.
            try mine.withLock { value in
                value = 2
                let outcome = try ForkTesting.run(.rawFork, from: .calling, while: [{ ledger.book() }]) { context in
                    let waiting = Signal()
                    let seen = ForkMutex(0)
                    let thread = TestThread {
                        waiting.send()
                        let value = mine.withLock { $0 }
                        seen.withLock { $0 = value }
                    }
                    waiting.wait()
                    context.expect(seen.withLock { $0 } == 0, "a new thread got in")
                    context.expect(mine.withLockIfAvailable { $0 } == nil, "it is not held any more")
                    ledger.check(context)
                    withExtendedLifetime(thread) {}
                }
                XCTAssert(outcome.succeeded, "\(outcome)")
                XCTAssertThrowsError(try ForkGuard.fork { 0 }) { error in
                    XCTAssertEqual(error as? ForkError, .holdingLocks(["mine"]))
                }
                let own = try ForkGuard.fork(options: .onCallingThread) { mine.withLockIfAvailable { $0 } == nil ? 0 : 1 }
                XCTAssertEqual(try own.wait(timeout: .seconds(10)), .exited(0))
                value = 1
            }
            XCTAssertEqual(mine.withLock { $0 }, 1)
        }
    }

    func test_behaviour16_aForkWaitsForWithForkPrevented() throws {
        let left = ForkMutex(false)
        for _ in 0..<100 {
            let inside = Signal(), leave = Signal()
            let thread = TestThread {
                ForkGuard.withForkPrevented {
                    inside.send()
                    leave.wait()
                    for _ in 0..<1000 { keep() }
                    left.withLock { $0 = true }
                }
            }
            inside.wait()
            // The hook runs before the gate is closed; only then is the other thread told to leave.
            let hook = ForkGuard.onFork(prepare: { leave.send() })
            let outcome = try ForkTesting.run(.rawFork, from: .calling) { context in
                context.expect(left.withLock { $0 }, "the fork did not wait")
            }
            hook.cancel()
            thread.join()
            XCTAssert(outcome.succeeded, "\(outcome)")
            left.withLock { $0 = false }
        }
    }

    func test_behaviour17_aThousandThreadsContendForOneLock() throws {
        let lock = ForkMutex((a: 0, b: 0), name: "the one")
        let stop = ForkMutex(false)
        let threads = (0..<1000).map { _ in
            TestThread {
                while !stop.withLock({ $0 }) {
                    lock.withLock {
                        $0.a += 1
                        $0.b += 1
                    }
                }
            }
        }
        for method in [ForkMethod.forkGuard, .rawFork] {
            let counts = try ForkTesting.repeated(30, method, deadline: .seconds(30)) { context in
                context.expect(lock.withLock { $0.a == $0.b }, "half changed")
                context.expect(stop.withLock { !$0 })
            }
            counts.expectAll("children of 1,000 threads, \(method)")
        }
        stop.withLock { $0 = true }
        threads.forEach { $0.join() }
    }

    func test_behaviour48_aSectionThatWaitsForAThreadParkedAtTheGate() throws {
        let outer = ForkMutex(0, name: "outer"), inner = ForkMutex(0, name: "inner")
        var windows = 0
        for _ in 0..<20 {
            let asked = Signal(), answered = Signal(), inside = Signal()
            let worker = TestThread {
                asked.wait()
                inner.withLock { $0 += 1 }
                answered.send()
            }
            let waiter = TestThread {
                outer.withLock { _ in
                    inside.send()
                    // Long enough for the gate to close before the worker is asked.
                    usleep(20_000)
                    asked.send()
                    answered.wait()
                }
            }
            inside.wait()
            let outcome = try ForkTesting.run(.forkGuard, from: .calling) { _ in
                outer.withLock { $0 += 1 }
                inner.withLock { $0 += 1 }
            }
            XCTAssert(outcome.succeeded, "\(outcome)")
            let report = try XCTUnwrap(ForkGuard.lastReport)
            windows += report.windows
            XCTAssertFalse(report.timedOut, "\(report)")
            XCTAssertLessThan(report.gate, .seconds(2), "\(report)")
            waiter.join()
            worker.join()
        }
        print("20 forks opened \(windows) windows")
        XCTAssertGreaterThan(windows, 0)
    }

    func test_behaviour49_aHookWantsALockWhoseHolderWaitsToFork() throws {
        let contested = ForkMutex(0, name: "contested")
        let log = Log()
        let armed = ForkMutex(false)
        let holding = Signal(), hooked = Signal()
        let hook = ForkGuard.onFork(
            prepare: {
                log.add("prepare \(pthread_self())")
                // Only the first fork's hook; the holder's own fork runs this hook too.
                let mine = armed.withLock { armed in
                    defer { armed = false }
                    return armed
                }
                if mine {
                    hooked.send()
                    contested.withLock { $0 += 1 }
                    log.add("got it \(pthread_self())")
                }
            }, parent: { log.add("parent \(pthread_self())") })
        defer { hook.cancel() }
        for _ in 0..<50 {
            armed.withLock { $0 = true }
            let holder = TestThread {
                contested.withLock { _ in
                    holding.send()
                    hooked.wait()
                    let child = try? ForkGuard.fork(options: .onCallingThread) { 0 }
                    precondition((try? child?.wait(timeout: .seconds(10))) == .exited(0))
                }
            }
            holding.wait()
            let outcome = try ForkTesting.run(.rawFork, from: .calling) { _ in contested.withLock { $0 += 1 } }
            XCTAssert(outcome.succeeded, "\(outcome)")
            holder.join()
            let lines = log.take()
            let me = "\(pthread_self())"
            XCTAssertEqual(lines.map { $0.hasSuffix(me) }, [true, false, false, true, true], "\(lines)")
            XCTAssertEqual(lines.map { String($0.prefix(6)) }, ["prepar", "prepar", "parent", "got it", "parent"], "\(lines)")
        }
    }
}
