import CForkGuard
import ForkGuard
import ForkGuardTesting
import Foundation
import XCTest

/// A thread with a mailbox, and what becomes of it in children: behaviours 41, 42 and 44.
final class ForkWorkerTests: XCTestCase {
    struct Refused: Error, Equatable { let number: Int }

    private static let threadsAtFirst = ForkMutex(0)

    override func setUpWithError() throws {
        Self.threadsAtFirst.withLock { $0 = $0 == 0 ? threadCount() : $0 }
        // What children do must not make metadata there for the first time.
        let worker = try ForkWorker { (number: Int) in number }
        _ = try worker.call(1, timeout: .seconds(10))
        _ = [why { throw ForkError.closed("") }, why {}, why { throw Refused(number: 1) }]
        worker.close()
        try worker.join(timeout: .seconds(10))
    }

    override func tearDown() {
        // No test leaves a worker's thread behind.
        let first = Self.threadsAtFirst.withLock { $0 }
        XCTAssert(waitFor { threadCount() <= first }, "\(threadCount()) threads, \(first) before")
        super.tearDown()
    }

    func test_itHandlesEachRequestOnceInOrderAndAnswers() throws {
        let seen = ForkMutex<[Int]>([])
        let worker = try ForkWorker(name: "ordered worker with a long name", capacity: 4) { (number: Int) throws -> String in
            seen.withLock { $0.append(number) }
            if number == 13 { throw Refused(number: number) }
            return try String(contentsOfFile: "/proc/thread-self/comm", encoding: .utf8)
        }
        let replies = try (0..<1000).map { try worker.submit($0, timeout: .seconds(10)) }
        for (number, reply) in replies.enumerated() {
            for _ in 0..<2 {
                if number == 13 {
                    XCTAssertThrowsError(try reply.wait(timeout: .seconds(10))) { XCTAssertEqual($0 as? Refused, Refused(number: 13)) }
                } else {
                    XCTAssertEqual(try reply.wait(timeout: .seconds(10)), "ordered worker \n")
                }
            }
        }
        XCTAssertEqual(try worker.call(1000, timeout: .seconds(10)), "ordered worker \n")
        XCTAssertEqual(seen.withLock { $0 }, Array(0...1000))

        for capacity in [0, -1] {
            XCTAssertThrowsError(try ForkWorker(name: "none", capacity: capacity) { (_: Int) in 0 }) {
                guard case .refused(let what)? = $0 as? ForkError else { return XCTFail("\($0)") }
                XCTAssert(
                    what.contains("worker 'none', made at ForkGuardTests/ForkWorkerTests.swift:") && what.contains("\(capacity)"), what)
            }
        }
    }

    func test_behaviour41_pendingRequestsFailInTheChildAndAreHandledOnceInTheParent() throws {
        let inChildren: [ForkWorker<Int, Int>.InChild] = [.restarts, .staysStopped]
        for method in ForkMethod.available {
            for inChild in inChildren {
                let handled = ForkMutex([UInt8](repeating: 0, count: 4_000_000), name: "handled")
                let numbers = ForkMutex(0), problems = Log()
                // Children ask with negative numbers: what the parent's threads were inside of may be torn there.
                let busy = try ForkWorker(name: "busy", capacity: 100, inChild: inChild) { (number: Int) in
                    if number >= 0 { handled.withLock { $0[number] += 1 } }
                    return number * 2
                }
                let hammer: @Sendable () -> Void = {
                    do {
                        let mine = numbers.withLock { next in
                            defer { next += 40 }
                            return next..<next + 40
                        }
                        let replies = try mine.map { try busy.submit($0, timeout: .seconds(20)) }
                        for (number, reply) in zip(mine, replies) {
                            if try reply.wait(timeout: .seconds(20)) != number * 2 { problems.add("another's answer") }
                        }
                    } catch { problems.add("\(error)") }
                }
                // Its requests are certain to be pending at each fork: one that its thread has begun, and twenty that it has not.
                let begun = Signal(), leave = Signal(), handledSlowly = Shared(count: 21)
                let slow = try ForkWorker(name: "slow", inChild: inChild) { (number: Int) in
                    if number == 0 {
                        begun.send()
                        leave.wait()
                    }
                    if number >= 0 { handledSlowly[number] += 1 }
                    return number * 2
                }
                let pending = try (0...20).map { try slow.submit($0, timeout: .seconds(10)) }
                begun.wait()

                let times = method.runsForkHandlers ? 75 : 40
                let microseconds = Shared(count: times)
                let counts = try ForkTesting.repeated(times, method, while: [hammer, hammer, hammer, hammer]) { context in
                    let began = forkguard_nanoseconds()
                    for reply in pending {
                        let error = why { _ = try reply.wait(timeout: .seconds(10)) }
                        guard case .staleGeneration(let what, _)? = error else { return context.fail("\(String(describing: error))") }
                        context.expect(what.contains("a reply of worker 'slow', made at ForkGuardTests/ForkWorkerTests.swift:"), what)
                    }
                    microseconds[context.repetition] = Int(forkguard_nanoseconds() - began) / 1000
                    for worker in [busy, slow] {
                        switch inChild {
                        case .restarts:
                            for number in -20...(-1) {
                                context.expect(try worker.call(number, timeout: .seconds(5)) == number * 2, "another's answer")
                            }
                            worker.close()
                            try worker.join(timeout: .seconds(5))
                        case .staysStopped:
                            let error = why { try worker.submit(-1, timeout: .seconds(5)) }
                            guard case .staleGeneration? = error else { return context.fail("\(String(describing: error))") }
                        }
                    }
                }
                counts.expectAll("children of busy workers, \(method), \(inChild)")
                XCTAssertLessThan(microseconds.all.max()!, 1_000_000)

                XCTAssertEqual(handledSlowly.all, Array(repeating: 0, count: 21))
                leave.send()
                XCTAssertEqual(try pending.map { try $0.wait(timeout: .seconds(10)) }, (0...20).map { $0 * 2 })
                XCTAssertEqual(handledSlowly.all, Array(repeating: 1, count: 21))
                let submitted = numbers.withLock { $0 }
                XCTAssertGreaterThan(submitted, 1000)
                XCTAssertEqual(handled.withLock { handled in handled.indices.count { handled[$0] != ($0 < submitted ? 1 : 0) } }, 0)
                XCTAssertEqual(problems.take(), [])
                print("\(submitted) requests handled once each; 21 replies failed in the child after \(microseconds.all.max()!) µs at most")
            }
        }
    }

    func test_behaviour41_control_aPlainWorkerHangsTheChild() throws {
        let worker = PlainWorker()
        let hammer: @Sendable () -> Void = { worker.call() }
        hammer()
        let counts = try ForkTesting.repeated(
            200, .rawFork, deadline: .seconds(2), stopAfterHung: 2, while: [hammer, hammer, hammer, hammer]
        ) { _ in hammer() }
        print("control: \(counts.made) children, \(counts.hung) hung")
        XCTAssertEqual(counts.hung, 2, "the control did not fail: \(counts)")
        worker.end()
    }

    func test_behaviour42_joiningAndClosingAWorkerWhoseThreadVanished() throws {
        for method in ForkMethod.available {
            let worker = try ForkWorker(name: "vanishing") { (number: Int) in number }
            let unused = try ForkWorker(name: "unused") { (number: Int) in number }
            let hammer: @Sendable () -> Void = { _ = try? worker.call(1, timeout: .seconds(10)) }
            // At each fork somebody is inside of a join that has long to wait.
            let joiner: @Sendable () -> Void = { _ = try? worker.join(timeout: .milliseconds(5)) }
            let times = method == .forkGuard ? 200 : 40
            let microseconds = Shared(count: times)
            let counts = try ForkTesting.repeated(times, method, while: [hammer, hammer, joiner, joiner]) { context in
                let began = forkguard_nanoseconds()
                try worker.join(timeout: .seconds(10))
                try unused.join(timeout: .seconds(10))
                if context.repetition % 2 == 0 { worker.finish() }
                worker.close()
                unused.close()
                try worker.join(timeout: .seconds(10))
                microseconds[context.repetition] = Int(forkguard_nanoseconds() - began) / 1000
                guard case .closed? = why({ try worker.submit(1, timeout: .seconds(10)) }) else { return context.fail("accepted") }
            }
            counts.expectAll("joins of vanished threads, \(method)")
            print("they took \(microseconds.all.max()!) µs at most")
            XCTAssertLessThan(microseconds.all.max()!, 1_000_000)
            XCTAssertEqual(try worker.call(7, timeout: .seconds(10)), 7)
        }
    }

    func test_behaviour42_control_pthreadJoinOfAVanishedThreadHangs() throws {
        let leave = Signal()
        let thread = TestThread { leave.wait() }
        let counts = try ForkTesting.repeated(20, .underscoreFork, deadline: .seconds(1), stopAfterHung: 2) { _ in thread.join() }
        print("control: \(counts.made) children, \(counts.hung) hung; \(counts.firstProblem ?? "")")
        XCTAssertEqual(counts.hung, 2, "the control did not fail: \(counts)")
        leave.send()
        thread.join()
    }

    func test_aChildOfAChildBeginsAnewToo() throws {
        let worker = try ForkWorker(name: "three generations") { (number: Int) in (number, getpid()) }
        let hammer: @Sendable () -> Void = { _ = try? worker.call(1, timeout: .seconds(10)) }
        for method in ForkMethod.available {
            // Of forks that ran no handlers nobody repairs malloc, and the child's own fork takes all of its locks: no hammers there.
            let hammers = method.runsForkHandlers ? [hammer, hammer] : []
            _ = try worker.submit(1, timeout: .seconds(10))
            fflush(nil)
            let counts = try ForkTesting.repeated(30, method, while: hammers) { context in
                context.expect(try worker.call(2, timeout: .seconds(5)) == (2, getpid()), "not ours")
                let reply = try worker.submit(3, timeout: .seconds(5))
                let grandchild = try ForkGuard.fork {
                    guard case .staleGeneration? = why({ _ = try reply.wait(timeout: .seconds(5)) }) else { return 1 }
                    try worker.join(timeout: .seconds(5))
                    guard try worker.call(4, timeout: .seconds(5)) == (4, getpid()) else { return 2 }
                    worker.close()
                    try worker.join(timeout: .seconds(5))
                    return 0
                }
                context.expect(try grandchild.wait(timeout: .seconds(10)) == .exited(0), "grandchild")
                context.expect(try reply.wait(timeout: .seconds(5)) == (3, getpid()), "not ours")
                // Closed here, so in children to come as well.
                worker.close()
                let late = try ForkGuard.fork {
                    if case .closed? = why({ try worker.submit(5, timeout: .seconds(5)) }) { 0 } else { 1 }
                }
                context.expect(try late.wait(timeout: .seconds(10)) == .exited(0), "it came back to life")
            }
            counts.expectAll("workers of three generations, \(method)")
        }
    }

    func test_behaviour44_threadsOfTheChildThatRaceForTheFirstSubmitAgreeOnOneThread() throws {
        let worker = try ForkWorker(name: "raced") { (_: Int) in pthread_self() }
        let hammer: @Sendable () -> Void = { _ = try? worker.call(1, timeout: .seconds(10)) }
        for method in ForkMethod.available {
            let counts = try ForkTesting.repeated(40, method, while: [hammer, hammer]) { context in
                let go = Signal(), seen = ForkMutex<[pthread_t]>([])
                let threads = (0..<8).map { _ in
                    TestThread {
                        go.wait()
                        guard let thread = try? worker.call(1, timeout: .seconds(5)) else { return }
                        seen.withLock { $0.append(thread) }
                    }
                }
                for _ in threads { go.send() }
                threads.forEach { $0.join() }
                let found = seen.withLock { $0 }
                context.expect(found.count == 8 && Set(found).count == 1, "\(found)")
                context.expect(threadCount() == (method == .forkGuard ? 3 : 2), "\(threadCount()) threads")
            }
            counts.expectAll("races for the first submit, \(method)")
        }
    }

    func test_whatAChildInheritsIsNotDeinitialisedThere() throws {
        final class Token: Sendable {
            let generation = ForkGuard.generation
            let strangers: Shared
            init(_ strangers: Shared) { self.strangers = strangers }
            deinit { strangers[ForkGuard.isCurrent(generation) ? 0 : 1] += 1 }
        }
        final class Holder: Sendable {
            let things = ForkMutex<(worker: ForkWorker<Token, Token>?, replies: [ForkReply<Token>])>((nil, []))
        }
        for method in ForkMethod.available {
            let freed = Shared(count: 2), holder = Holder()
            let begun = Signal(), leave = Signal(), passes = ForkMutex(3)
            var worker: ForkWorker<Token, Token>? = try ForkWorker(capacity: 20) { _ in
                let token = Token(freed)
                if passes.withLock({ passes in
                    passes -= 1
                    return passes < 0
                }) {
                    begun.send()
                    leave.wait()
                }
                return token
            }
            // Three are answered, one is begun, six are pending.
            for _ in 0..<10 {
                let reply = try XCTUnwrap(worker).submit(Token(freed), timeout: .seconds(10))
                holder.things.withLock { $0.replies.append(reply) }
            }
            begun.wait()
            holder.things.withLock { [worker] in $0.worker = worker }
            worker = nil
            let counts = try ForkTesting.repeated(20, method) { context in
                let before = freed[1]
                do {
                    // The last references: the closures of this test hold none but the holder.
                    let things = holder.things.withLock { things in
                        defer { things = (nil, []) }
                        return things
                    }
                    context.expect(things.replies.count == 10)
                    things.worker?.close()
                }
                context.expect(freed[1] == before, "something inherited was deinitialised")
            }
            counts.expectAll("abandoned, \(method)")
            XCTAssertEqual(freed[1], 0)
            for _ in 0..<7 { leave.send() }
            for reply in holder.things.withLock({ $0.replies }) { _ = try reply.wait(timeout: .seconds(10)) }
        }
    }

    func test_aWorkersThreadThatForksEndsInTheChild() throws {
        for name in ["fork", "_Fork"] {
            guard let symbol = dlsym(nil, name) else { continue }
            let fork = unsafeBitCast(symbol, to: (@convention(c) @Sendable () -> Int32).self)
            // In a child of its own, because the grandchild ends with exit(3).
            let counts = try ForkTesting.repeated(20) { context in
                let handled = Shared(count: 21)
                let forked = Signal()
                let worker = try ForkWorker(name: "forking") { (number: Int) -> Int32 in
                    handled[number] += 1
                    guard number == 0 else { return -1 }
                    forked.wait()
                    let child = fork()
                    if child == 0 { return -2 }
                    var status: Int32 = -1
                    while waitpid(child, &status, 0) < 0 && errno == EINTR {}
                    return status
                }
                let replies = try (0...20).map { try worker.submit($0, timeout: .seconds(5)) }
                forked.send()
                let results = try replies.map { try $0.wait(timeout: .seconds(5)) }
                context.expect(results == [0] + Array(repeating: -1, count: 20), "\(results)")
                context.expect(handled.all == Array(repeating: 1, count: 21), "\(handled.all)")
            }
            counts.expectAll("workers that \(name)")
        }
        // The one that ForkGuard makes, of a worker that it can use there.
        let worker = try ForkWorker(name: "forking well") { (number: Int) throws -> ChildProcess.Ending in
            try ForkGuard.fork { Int32(number) }.wait(timeout: .seconds(10))
        }
        for number in 0..<50 { XCTAssertEqual(try worker.call(number, timeout: .seconds(10)), .exited(Int32(number))) }
    }

    func test_behaviour43_noOrderOfEndingLeavesAThread() throws {
        let orders: [(String, (ForkWorker<Int, Int>) throws -> Void, joined: Bool)] = [
            (
                "used, closed, joined",
                { worker in
                    XCTAssertEqual(try worker.call(1, timeout: .seconds(10)), 1)
                    worker.close()
                    try worker.join(timeout: .seconds(10))
                }, true
            ),
            ("used, dropped", { XCTAssertEqual(try $0.call(1, timeout: .seconds(10)), 1) }, false),
            ("submitted, dropped", { _ = try $0.submit(1, timeout: .seconds(10)) }, false),
            (
                "used, closed, dropped",
                { worker in
                    XCTAssertEqual(try worker.call(1, timeout: .seconds(10)), 1)
                    worker.close()
                }, false
            ),
            (
                "unused, closed, joined",
                { worker in
                    worker.close()
                    try worker.join(timeout: .seconds(10))
                    XCTAssertThrowsError(try worker.submit(1, timeout: .seconds(10)))
                }, true
            ),
            ("unused, joined, dropped", { try $0.join(timeout: .seconds(10)) }, true),
            (
                "submitted, closed twice, joined twice by four",
                { worker in
                    _ = try worker.submit(1, timeout: .seconds(10))
                    let joiners = (0..<4).map { _ in
                        TestThread { for _ in 0..<2 { XCTAssertNil(why { try worker.join(timeout: .seconds(10)) }) } }
                    }
                    worker.close()
                    worker.close()
                    joiners.forEach { $0.join() }
                }, true
            ),
            (
                "submitted, finished, joined",
                { worker in
                    let replies = try (0..<50).map { try worker.submit($0, timeout: .seconds(10)) }
                    worker.finish()
                    try worker.join(timeout: .seconds(10))
                    XCTAssertEqual(try replies.map { try $0.wait(timeout: .zero) }, Array(0..<50))
                }, true
            ),
            (
                "submitted, finished, closed, joined",
                { worker in
                    for _ in 0..<50 { _ = try worker.submit(1, timeout: .seconds(10)) }
                    worker.finish()
                    worker.close()
                    try worker.join(timeout: .seconds(10))
                }, true
            ),
        ]
        let before = threadCount()
        var late = 0
        for round in 0..<900 {
            let (name, use, joined) = orders[round % orders.count]
            try use(try ForkWorker(name: name) { $0 })
            if joined, threadCount() != before { late += 1 }
            XCTAssert(waitFor { threadCount() == before }, "\(name): \(threadCount()) threads, \(before) before")
        }
        // Right after the join, where pthread_join alone leaves some for the kernel to take off its list.
        for _ in 0..<3000 {
            let worker = try ForkWorker { (_: Int) in forkguard_thread_id_() }
            let path = "/proc/self/task/\(try worker.call(0, timeout: .seconds(10)))"
            worker.close()
            try worker.join(timeout: .seconds(10))
            if access(path, F_OK) == 0 { late += 1 }
        }
        XCTAssertEqual(late, 0, "a join returned before the thread had ended")
        print("900 workers ended in \(orders.count) orders: \(threadCount()) threads, \(before) before")
    }

    func test_aWorkerThatIsDroppedOrClosedOnItsOwnThread() throws {
        let before = threadCount()
        for closes in [false, true] {
            for _ in 0..<50 {
                let mine = ForkMutex<ForkWorker<Int, String>?>(nil), filled = Signal()
                mine.withLock {
                    $0 = try? ForkWorker(capacity: 2) { _ in
                        filled.wait()
                        let worker = mine.withLock { worker in
                            defer { worker = nil }
                            return worker
                        }
                        // A wait for itself is refused, not a deadlock.
                        for error in [
                            why { try worker?.join(timeout: .seconds(10)) }, why { try worker?.submit(3, timeout: .seconds(10)) },
                        ] {
                            guard case .refused? = error else { return "\(String(describing: error))" }
                        }
                        if closes { worker?.close() }
                        return "refused"
                    }
                }
                let replies = try mine.withLock { worker in
                    let first = try worker?.submit(0, timeout: .seconds(10))
                    // The second waits until the first was begun.
                    return [first] + (try (1...2).map { try worker?.submit($0, timeout: .seconds(10)) })
                }
                filled.send()
                for (number, reply) in replies.enumerated() {
                    switch number {
                    case 0: XCTAssertEqual(try reply?.wait(timeout: .seconds(10)), "refused")
                    default:
                        guard case .closed? = why({ _ = try reply?.wait(timeout: .seconds(10)) }) else { return XCTFail("not closed") }
                    }
                }
            }
        }
        XCTAssert(waitFor { threadCount() == before }, "\(threadCount()) threads, \(before) before")
    }

    func test_closingWakesWhoeverWaits() throws {
        for drops in [false, true] {
            for _ in 0..<20 {
                let begun = Signal(), leave = Signal(), ended = Log()
                var worker: ForkWorker<Int, Int>? = try ForkWorker(name: "full", capacity: 2) { number in
                    if number == 0 {
                        begun.send()
                        leave.wait()
                    }
                    return number
                }
                let first = try XCTUnwrap(worker).submit(0, timeout: .seconds(10))
                begun.wait()
                let pending = try (1...2).map { try XCTUnwrap(worker).submit($0, timeout: .seconds(10)) }
                let waiting = ForkMutex(0)
                var waiters = pending.map { reply in
                    TestThread {
                        waiting.withLock { $0 += 1 }
                        ended.add("reply \(word(why { _ = try reply.wait(timeout: .seconds(60)) }))")
                    }
                }
                if !drops {
                    for _ in 0..<3 {
                        waiters.append(
                            TestThread { [worker] in
                                waiting.withLock { $0 += 1 }
                                ended.add("submit \(word(why { try worker?.submit(3, timeout: .seconds(60)) }))")
                            })
                    }
                }
                XCTAssert(waitFor { waiting.withLock { $0 } == waiters.count })
                let began = ContinuousClock.now
                if drops { worker = nil } else { worker?.close() }
                waiters.forEach { $0.join() }
                XCTAssertLessThan(ContinuousClock.now - began, .seconds(5))
                let expected = Array(repeating: "reply closed", count: 2) + (drops ? [] : Array(repeating: "submit closed", count: 3))
                XCTAssertEqual(ended.take().sorted(), expected)
                XCTAssertEqual(word(why { _ = try first.wait(timeout: .milliseconds(1)) }), "timed out")
                leave.send()
                XCTAssertEqual(try first.wait(timeout: .seconds(10)), 0)
                try worker?.join(timeout: .seconds(10))
            }
        }
    }

    func test_everyWaitEndsAtItsDeadlineAndSaysForWhatItWaited() throws {
        let begun = Signal(), leave = Signal()
        let worker = try ForkWorker(name: "stuck", capacity: 1) { (number: Int) in
            begun.send()
            leave.wait()
            return number
        }
        let first = try worker.submit(1, timeout: .seconds(10))
        begun.wait()
        let second = try worker.submit(2, timeout: .zero)
        let waits: [(String, (Duration) throws -> Void)] = [
            ("room in the mailbox of ", { try worker.submit(3, timeout: $0) }),
            ("room in the mailbox of ", { _ = try worker.call(3, timeout: $0) }),
            ("a reply of ", { _ = try first.wait(timeout: $0) }),
            ("a reply of ", { _ = try second.wait(timeout: $0) }),
            ("the end of ", { try worker.join(timeout: $0) }),
        ]
        for (what, wait) in waits {
            for milliseconds in [0, 50] {
                let began = ContinuousClock.now
                let error = why { try wait(.milliseconds(milliseconds)) }
                let took = ContinuousClock.now - began
                guard case .timedOut(let said)? = error else { return XCTFail("\(what): \(String(describing: error))") }
                XCTAssert(said.hasPrefix(what + "worker 'stuck', made at ForkGuardTests/ForkWorkerTests.swift:"), said)
                XCTAssertGreaterThanOrEqual(took, .milliseconds(milliseconds), what)
                XCTAssertLessThan(took, .seconds(1), what)
            }
        }
        worker.close()
        // It is still in the closure.
        XCTAssertEqual(word(why { try worker.join(timeout: .milliseconds(20)) }), "timed out")
        XCTAssertEqual(word(why { _ = try second.wait(timeout: .zero) }), "closed")
        leave.send()
        try worker.join(timeout: .seconds(10))
        XCTAssertEqual(try first.wait(timeout: .zero), 1)
    }

    func test_aRefusedThreadIsAnErrorAndTheRequestIsNotTaken() throws {
        let outcome = try ForkTesting.run(.rawFork) { context in
            let handled = Log()
            let worker = try ForkWorker(name: "late") { (number: Int) in
                handled.add("\(number)")
                return number
            }
            // RLIMIT_NPROC does not bind root.
            if getuid() == 0 {
                context.expect(setuid(65534) == 0, "setuid: \(errno)")
            }
            var limit = rlimit()
            let processes = __rlimit_resource_t(6)  // RLIMIT_NPROC, a macro of a shape that Swift does not import
            getrlimit(processes, &limit)
            let usual = limit
            limit.rlim_cur = 0
            context.expect(setrlimit(processes, &limit) == 0, "setrlimit: \(errno)")
            for _ in 0..<10 {
                let error = why { try worker.submit(1, timeout: .seconds(5)) }
                context.expect(error == .system(call: "pthread_create", errno: EAGAIN), "\(String(describing: error))")
            }
            limit = usual
            context.expect(setrlimit(processes, &limit) == 0, "setrlimit: \(errno)")
            context.expect(try worker.call(2, timeout: .seconds(5)) == 2, "not usable afterwards")
            worker.finish()
            try worker.join(timeout: .seconds(5))
            context.expect(handled.take() == ["2"], "a refused request was handled")
        }
        XCTAssert(outcome.succeeded, "\(outcome)")
    }
}

/// What the closure threw.
private func why(_ body: () throws -> Void) -> ForkError? {
    do {
        try body()
        return nil
    } catch { return error as? ForkError ?? .refused("\(error)") }
}

private func why<Discarded>(_ body: () throws -> Discarded) -> ForkError? { why { () throws -> Void in _ = try body() } }

private func word(_ error: ForkError?) -> String {
    switch error {
    case .closed: "closed"
    case .timedOut: "timed out"
    default: "\(String(describing: error))"
    }
}

private func threadCount() -> Int { (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").count) ?? -1 }

/// Whether it holds within ten seconds.
private func waitFor(_ condition: () -> Bool) -> Bool {
    let deadline = ContinuousClock.now + .seconds(10)
    while !condition() {
        if ContinuousClock.now > deadline { return false }
        usleep(200)
    }
    return true
}

/// Numbers in memory that children share with their parent.
private final class Shared: @unchecked Sendable {
    // @unchecked: each number is written by one thread at a time, of one process; that is what the tests test.
    private let numbers: UnsafeMutableBufferPointer<Int>

    init(count: Int) {
        let size = count * MemoryLayout<Int>.stride
        let page = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)!
        numbers = UnsafeMutableBufferPointer(start: page.bindMemory(to: Int.self, capacity: count), count: count)
    }

    deinit { munmap(numbers.baseAddress, numbers.count * MemoryLayout<Int>.stride) }

    subscript(index: Int) -> Int {
        get { numbers[index] }
        set { numbers[index] = newValue }
    }
    var all: [Int] { Array(numbers) }
}

/// The unguarded twin: a thread, a mutex, a condition, and how many requests wait.
private final class PlainWorker: @unchecked Sendable {
    // @unchecked: the counts are touched between lock and unlock of the mutex only; the pointers are constants.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var submitted = 0, handled = 0, isClosed = false
    private let thread = ForkMutex<TestThread?>(nil)

    init() {
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(changed, nil)
        thread.withLock { $0 = TestThread { self.run() } }
    }

    private func run() {
        pthread_mutex_lock(mutex)
        while true {
            while submitted == handled && !isClosed { pthread_cond_wait(changed, mutex) }
            if isClosed { break }
            handled += 1
            pthread_cond_broadcast(changed)
        }
        pthread_mutex_unlock(mutex)
    }

    func call() {
        pthread_mutex_lock(mutex)
        submitted += 1
        let mine = submitted
        pthread_cond_broadcast(changed)
        while handled < mine { pthread_cond_wait(changed, mutex) }
        pthread_mutex_unlock(mutex)
    }

    func end() {
        pthread_mutex_lock(mutex)
        isClosed = true
        pthread_cond_broadcast(changed)
        pthread_mutex_unlock(mutex)
        thread.withLock { $0 }?.join()
    }

    /// Also where a fork that ran no handlers finds another thread inside the worker's lock.
    func test_aClosedWorkerStaysClosedInChildren() throws {
        let worker = try ForkWorker { (number: Int) in number }
        XCTAssertEqual(try worker.call(1, timeout: .seconds(10)), 1)
        worker.close()
        try worker.join(timeout: .seconds(10))
        for method in [ForkMethod.forkGuard, .underscoreFork] where method.isAvailable {
            let counts = try ForkTesting.repeated(200, method, while: [{ worker.close() }, { worker.close() }]) { context in
                do {
                    try worker.submit(2, timeout: .zero)
                    context.fail("accepted")
                } catch ForkError.closed {} catch { context.fail("\(error)") }
            }
            counts.expectAll("children of a closed worker, \(method)")
        }
    }
}
