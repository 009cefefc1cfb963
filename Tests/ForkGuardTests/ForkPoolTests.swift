import CForkGuard
import CForkGuardTesting
import ForkGuard
import ForkGuardTesting
import Glibc
import XCTest

/// Pools in one process and over forks: behaviours 37 to 40 and 44.
final class ForkPoolTests: XCTestCase {
    /// What became of all connections of a test. Everything else in here ends in a lock: so does this, which a fork waits for.
    final class Tally: Sendable {
        struct Counts: Equatable {
            var made = 0, closed = 0, deinitialised = 0, most = 0
        }
        // .rebuild: after a fork that ran no handlers somebody may have been inside.
        private let counts = ForkMutex(Counts(), name: "Tally", ifTorn: .rebuild { Counts() })

        func count(_ change: (inout Counts) -> Void) { counts.withLock { change(&$0) } }
        var now: Counts { counts.withLock { $0 } }
        /// Makes one that is alive until ``close(_:)``.
        func make() -> Connection {
            let number = counts.withLock { counts in
                counts.made += 1
                counts.most = max(counts.most, counts.made - counts.closed)
                return counts.made
            }
            return Connection(number, self)
        }
        func close(_: Connection) { count { $0.closed += 1 } }
    }

    final class Connection: Sendable {
        let number: Int
        let generation = ForkGuard.generation
        private let tally: Tally

        init(_ number: Int, _ tally: Tally) {
            self.number = number
            self.tally = tally
        }
        deinit { tally.count { $0.deinitialised += 1 } }

        var isOurs: Bool { ForkGuard.isCurrent(generation) }
    }

    typealias Pool = ForkPool<Connection>

    struct Broken: Error, Equatable { var leavesItWhole = false }

    /// A lease that a closure can end.
    final class Out: Sendable {
        private let lease: ForkMutex<Pool.Lease?>
        let number: Int
        init(_ lease: consuming sending Pool.Lease) {
            number = lease.resource.number
            self.lease = ForkMutex(lease)
        }
        func giveBack() { lease.withLock { $0.take() }?.giveBack() }
        func discard() { lease.withLock { $0.take() }?.discard() }
        func forget() { _ = lease.withLock { $0.take() } }
    }

    /// Leases all that the pool has, in threads of their own, until it ends.
    final class Holders: Sendable {
        private let leave = Signal()
        private let threads: [TestThread]

        init(of pool: Pool, _ count: Int) {
            let leased = Signal(), leave = leave
            threads = (0..<count).map { _ in
                TestThread {
                    try! pool.withResource { _ in
                        leased.send()
                        leave.wait()
                    }
                }
            }
            for _ in 0..<count { leased.wait() }
        }

        func end() {
            threads.forEach { _ in leave.send() }
            threads.forEach { $0.join() }
        }
    }

    private func pool(_ tally: Tally, _ maximum: Int, name: String? = "test", discardsAfterFork: Bool = true) throws -> Pool {
        try ForkPool(
            name: name, maximum: maximum, discardsAfterFork: discardsAfterFork,
            isReusableAfter: { ($0 as? Broken)?.leavesItWhole ?? false }, close: { tally.close($0) }, make: { tally.make() })
    }

    private static func isTimedOut(_ error: any Error) -> Bool {
        if case .timedOut? = error as? ForkError { true } else { false }
    }

    private static func isClosed(_ error: any Error) -> Bool {
        if case .closed? = error as? ForkError { true } else { false }
    }

    // ---- in one process ----

    /// Neither asking whose the pool is nor using it makes a system call, in the parent and in a child that has made its own.
    func test_checkingOutMakesNoSystemCall() throws {
        let pool = try ForkPool(name: "quiet", maximum: 1) { 1 }
        _ = try pool.withResource { $0 }
        for makesOne in [false, true] {
            let child = forkguard_fork(0)
            if child == 0 {
                // The child's first check-out makes its resource; the other child only finds the parent's and refuses it, under the filter too.
                if makesOne { _ = try? pool.withResource { $0 } }
                guard fgt_forbid_system_calls() else { _exit(3) }
                var right = true
                if makesOne {
                    for _ in 0..<1000 where (try? pool.withResource { $0 }) != 1 { right = false }
                } else {
                    right = pool.counters.idle == 0
                }
                fgt_exit_plainly(right ? 0 : 1)
            }
            var status: Int32 = -1
            XCTAssertEqual(waitpid(child, &status, 0), child)
            if status == 3 << 8 { throw XCTSkip("seccomp(2) is refused here") }
            XCTAssertEqual(status, 0, "a system call, if this is SIGKILL (9)")
        }
        // Control: the filter does end a process that makes one.
        let child = forkguard_fork(0)
        if child == 0 {
            _ = fgt_forbid_system_calls()
            fgt_exit_plainly(getppid() > 0 ? 0 : 1)
        }
        var status: Int32 = -1
        XCTAssertEqual(waitpid(child, &status, 0), child)
        XCTAssertEqual(status & 0x7f, SIGKILL, "the unguarded twin does not fail")
    }

    func test_itIsFilledLazilyAndGivesOutWhatCameBackLast() throws {
        let tally = Tally()
        let pool = try pool(tally, 9)
        XCTAssertEqual(pool.counters, Pool.Counters())
        for _ in 0..<10 { XCTAssertEqual(try pool.withResource { $0.number }, 1) }
        func takeAll() throws -> [Out] { try (0..<9).map { _ in Out(try pool.checkOut(timeout: .zero)) } }
        try takeAll().forEach { $0.giveBack() }
        XCTAssertEqual(pool.counters, Pool.Counters(made: 9, idle: 9))
        let leases = try takeAll()
        XCTAssertEqual(leases.map(\.number), [9, 8, 7, 6, 5, 4, 3, 2, 1])
        leases.forEach { $0.giveBack() }
        XCTAssertEqual(try takeAll().map(\.number), [1, 2, 3, 4, 5, 6, 7, 8, 9])
        XCTAssertEqual(tally.now, Tally.Counts(made: 9, closed: 9, deinitialised: 9, most: 9))
    }

    func test_aPoolThatCouldNeverGiveOutAnythingIsRefused() throws {
        for maximum in [0, -1] {
            XCTAssertThrowsError(try pool(Tally(), maximum, name: "none")) {
                guard case .refused(let what)? = $0 as? ForkError else { return XCTFail("\($0)") }
                XCTAssert(what.hasPrefix("pool 'none' of at most \(maximum), made at ForkGuardTests/ForkPoolTests.swift:"), what)
                XCTAssert("\($0)".hasPrefix("ForkGuard refuses pool 'none'"), "\($0)")
            }
        }
    }

    func test_aWaitEndsAtItsDeadlineAndNamesThePool() throws {
        let pool = try pool(Tally(), 2)
        let holders = Holders(of: pool, 2)
        for timeout in [Duration.seconds(-1), .zero, .milliseconds(50)] {
            let began = ContinuousClock.now
            XCTAssertThrowsError(try pool.withResource(timeout: timeout) { _ in }) {
                guard case .timedOut(let what)? = $0 as? ForkError else { return XCTFail("\($0)") }
                XCTAssert(what.hasPrefix("pool 'test' of at most 2, made at ForkGuardTests/ForkPoolTests.swift:"), what)
            }
            let took = ContinuousClock.now - began
            print("a time-out of \(timeout) took \(took)")
            XCTAssertGreaterThanOrEqual(took, timeout)
            XCTAssertLessThan(took, timeout + .seconds(2))
        }
        holders.end()
        XCTAssertEqual(pool.counters, Pool.Counters(made: 2, idle: 2, waited: 3))
        // Those whose time was over are not in the way.
        try pool.withResource(timeout: .zero) { _ in try pool.withResource(timeout: .zero) { _ in } }
    }

    func test_anErrorClosesUnlessItLeavesTheResourceWhole() throws {
        let tally = Tally()
        let pool = try pool(tally, 1)
        XCTAssertThrowsError(try pool.withResource { _ in throw Broken(leavesItWhole: true) }) { XCTAssert($0 is Broken) }
        XCTAssertEqual(pool.counters, Pool.Counters(made: 1, idle: 1))
        XCTAssertThrowsError(try pool.withResource { _ in throw Broken() }) { XCTAssert($0 is Broken) }
        XCTAssertEqual(pool.counters, Pool.Counters(made: 1, discarded: 1))
        XCTAssertEqual(tally.now, Tally.Counts(made: 1, closed: 1, deinitialised: 1, most: 1))
        XCTAssertEqual(try pool.withResource { $0.number }, 2)
    }

    func test_aLeaseIsGivenBackDiscardedOrForgotten() throws {
        let tally = Tally()
        let pool = try pool(tally, 1)
        let first = try pool.checkOut()
        XCTAssertEqual(first.resource.number, 1)
        XCTAssertEqual(pool.counters, Pool.Counters(made: 1, leased: 1))
        XCTAssertThrowsError(try pool.checkOut(timeout: .zero).giveBack())
        first.giveBack()
        XCTAssertEqual(pool.counters, Pool.Counters(made: 1, idle: 1, waited: 1))
        try pool.checkOut().discard()
        XCTAssertEqual(tally.now, Tally.Counts(made: 1, closed: 1, deinitialised: 1, most: 1))
        func forget() throws { _ = try pool.checkOut().resource.number }
        try forget()
        XCTAssertEqual(tally.now, Tally.Counts(made: 2, closed: 2, deinitialised: 2, most: 1))
        XCTAssertEqual(pool.counters, Pool.Counters(made: 2, waited: 1, discarded: 2))
    }

    func test_theUnhealthyAreClosedAndTheNextOneIsTried() throws {
        let tally = Tally(), sick = ForkMutex<Set<Int>>([]), asked = ForkMutex<[Int]>([])
        let pool = try ForkPool(
            maximum: 3,
            isHealthy: { connection in
                asked.withLock { $0.append(connection.number) }
                return !sick.withLock { $0.contains(connection.number) }
            }, close: { tally.close($0) }, make: { tally.make() })
        func fill() throws { try pool.withResource { _ in try pool.withResource { _ in try pool.withResource { _ in } } } }
        try fill()
        XCTAssertEqual(asked.withLock { $0 }, [])  // not about new ones
        sick.withLock { $0 = [1, 2] }
        XCTAssertEqual(try pool.withResource { $0.number }, 3)
        XCTAssertEqual(asked.withLock { $0 }, [1, 2, 3])
        XCTAssertEqual(pool.counters, Pool.Counters(made: 3, idle: 1, discarded: 2))
        sick.withLock { $0 = [3] }
        XCTAssertEqual(try pool.withResource { $0.number }, 4)
        XCTAssertEqual(pool.counters, Pool.Counters(made: 4, idle: 1, discarded: 3))
        try fill()
        XCTAssertEqual(tally.now, Tally.Counts(made: 6, closed: 3, deinitialised: 3, most: 3))
    }

    func test_thoseThatAreIdleForTooLongAreClosed() throws {
        let tally = Tally()
        let pool = try ForkPool(maximum: 8, idleTimeout: .milliseconds(200), close: { tally.close($0) }, make: { tally.make() })
        let leases = try (0..<6).map { _ in Out(try pool.checkOut()) }
        leases[0].giveBack()
        leases[1].giveBack()
        let given = ContinuousClock.now
        while ContinuousClock.now - given < .milliseconds(250) { usleep(1000) }
        // At return: the two at the bottom are late, this one is not.
        leases[2].giveBack()
        XCTAssertEqual(pool.counters, Pool.Counters(made: 6, idle: 1, leased: 3, discarded: 2))
        leases[3].giveBack()
        XCTAssertEqual(try pool.withResource { $0.number }, 4)
        let again = ContinuousClock.now
        while ContinuousClock.now - again < .milliseconds(250) { usleep(1000) }
        // At check-out: all idle ones are late, the last one too.
        XCTAssertEqual(try pool.withResource { $0.number }, 7)
        XCTAssertEqual(pool.counters, Pool.Counters(made: 7, idle: 1, leased: 2, discarded: 4))
        XCTAssertEqual(tally.now.closed, 4)
        leases[4].giveBack()
        leases[5].giveBack()
    }

    func test_closeWakesWhoWaitsAndClosesWhatComesBack() throws {
        let tally = Tally()
        let pool = try pool(tally, 2)
        let holders = Holders(of: pool, 2), refused = ForkMutex(0)
        let waiters = (0..<4).map { _ in
            TestThread {
                do { try pool.withResource(timeout: .seconds(60)) { _ in } } catch {
                    if Self.isClosed(error) { refused.withLock { $0 += 1 } }
                }
            }
        }
        while pool.counters.waited < 4 { usleep(100) }
        let began = ContinuousClock.now
        pool.close()
        waiters.forEach { $0.join() }
        XCTAssertLessThan(ContinuousClock.now - began, .seconds(20))
        XCTAssertEqual(refused.withLock { $0 }, 4)
        XCTAssertThrowsError(try pool.withResource { _ in }) {
            XCTAssert("\($0)".hasPrefix("pool 'test' of at most 2, made at ForkGuardTests/ForkPoolTests.swift:"), "\($0)")
            XCTAssert("\($0)".hasSuffix("has ended"), "\($0)")
        }
        XCTAssertEqual(tally.now.closed, 0)
        holders.end()
        XCTAssertEqual(tally.now, Tally.Counts(made: 2, closed: 2, deinitialised: 2, most: 2))
        pool.close()
        XCTAssertEqual(pool.counters, Pool.Counters(made: 2, waited: 4, discarded: 2))
    }

    func test_closeAndDeinitCloseWhatIsIdle() throws {
        let tally = Tally()
        do {
            let pool = try pool(tally, 2)
            try pool.withResource { _ in try pool.withResource { _ in } }
            pool.close()
            XCTAssertEqual(tally.now.closed, 2)
        }
        do {
            let pool = try pool(tally, 2)
            try pool.withResource { _ in }
        }
        XCTAssertEqual(tally.now, Tally.Counts(made: 3, closed: 3, deinitialised: 3, most: 2))
    }

    func test_neverMoreThanTheMaximumUnder16Threads() throws {
        for (maximum, idleTimeout) in [(1, nil), (3, nil), (5, Duration.microseconds(50))] {
            let tally = Tally(), uses = ForkMutex(0)
            let pool = try ForkPool(
                maximum: maximum, idleTimeout: idleTimeout, isHealthy: { $0.number % 7 != 0 }, close: { tally.close($0) },
                make: { tally.make() })
            let threads = (0..<16).map { thread in
                TestThread {
                    for turn in 0..<2000 {
                        do {
                            try pool.withResource(timeout: .seconds(60)) { _ in
                                uses.withLock { $0 += 1 }
                                sched_yield()  // so that others find it in use
                                if (turn + thread) % 11 == 0 { throw Broken() }
                            }
                        } catch { precondition(error is Broken, "\(error)") }
                    }
                }
            }
            threads.forEach { $0.join() }
            let counts = tally.now, counters = pool.counters
            print("16 threads, at most \(maximum): \(uses.withLock { $0 }) uses, \(counts.made) made, \(counts.most) at once")
            XCTAssertEqual(uses.withLock { $0 }, 32_000)
            XCTAssertLessThanOrEqual(counts.most, maximum)
            XCTAssertEqual(counters.leased, 0)
            XCTAssertEqual(counters.made, counts.made)
            XCTAssertEqual(counters.discarded, counts.closed)
            XCTAssertEqual(counters.idle, counts.made - counts.closed)
        }
    }

    func test_aFactoryThatThrowsLosesNoPlace() throws {
        let tally = Tally(), calls = ForkMutex(0), failed = ForkMutex(0)
        let pool = try ForkPool(maximum: 3, close: { tally.close($0) }) { () throws -> Connection in
            let call = calls.withLock { calls in
                calls += 1
                return calls
            }
            if call % 2 == 0 { throw Broken() }
            return tally.make()
        }
        let threads = (0..<8).map { _ in
            TestThread {
                for _ in 0..<1000 {
                    do { try pool.checkOut(timeout: .seconds(60)).discard() } catch {
                        precondition(error is Broken, "\(error)")
                        failed.withLock { $0 += 1 }
                    }
                }
            }
        }
        threads.forEach { $0.join() }
        print("a factory that throws: \(failed.withLock { $0 }) of 8000 failed, \(tally.now.most) at once")
        XCTAssertEqual(failed.withLock { $0 }, 4000)
        XCTAssertEqual(tally.now.made, 4000)
        XCTAssertLessThanOrEqual(tally.now.most, 3)
        XCTAssertEqual(pool.counters.leased, 0)
        // All three are to be had at once.
        var leases: [Out] = []
        while leases.count < 3 { if let lease = try? Out(pool.checkOut(timeout: .zero)) { leases.append(lease) } }
        leases.forEach { $0.giveBack() }
    }

    func test_nobodyStarves() throws {
        let tally = Tally()
        let pool = try pool(tally, 2)
        let longest = ForkMutex(Duration.zero), fewest = ForkMutex(Int.max)
        let end = ContinuousClock.now + .seconds(1)
        let threads = (0..<16).map { _ in
            TestThread {
                var uses = 0
                while ContinuousClock.now < end {
                    let began = ContinuousClock.now
                    try! pool.withResource(timeout: .seconds(60)) { _ in
                        let waited = ContinuousClock.now - began
                        longest.withLock { $0 = max($0, waited) }
                        for _ in 0..<2000 { keep() }
                    }
                    uses += 1
                }
                fewest.withLock { [uses] in $0 = min($0, uses) }
            }
        }
        threads.forEach { $0.join() }
        print(
            "16 threads, at most 2, a second: the longest wait \(longest.withLock { $0 }), fewest turns of a thread \(fewest.withLock { $0 })"
        )
        XCTAssertLessThan(longest.withLock { $0 }, .seconds(1))
        XCTAssertGreaterThan(fewest.withLock { $0 }, 1)
    }

    func test_whoWaitsLongestIsServedFirst() throws {
        let pool = try pool(Tally(), 1)
        let lease = Out(try pool.checkOut())
        let order = Log()
        let threads = (0..<5).map { number in
            let thread = TestThread { try! pool.withResource(timeout: .seconds(60)) { _ in order.add("\(number)") } }
            while pool.counters.waited <= number { usleep(100) }
            return thread
        }
        lease.giveBack()
        threads.forEach { $0.join() }
        XCTAssertEqual(order.take(), ["0", "1", "2", "3", "4"])
    }

    // ---- over forks ----

    func test_behaviour37_allLeasedByThreadsThatVanish() throws {
        for maximum in [1, 8] {
            for method in [ForkMethod.forkGuard, .rawFork] {
                let tally = Tally()
                let pool = try pool(tally, maximum)
                let use: @Sendable () throws -> Bool = {
                    // All of its own, at once.
                    let leases = try (0..<maximum).map { _ in Out(try pool.checkOut(timeout: .seconds(2))) }
                    defer { leases.forEach { $0.giveBack() } }
                    return try pool.withResource(timeout: .milliseconds(1)) { _ in false }
                }
                // What the children will do, so that the runtime has made its metadata.
                XCTAssertThrowsError(try use())
                let holders = Holders(of: pool, maximum)
                let waiter: @Sendable () -> Void = { try? pool.withResource(timeout: .milliseconds(1)) { _ in } }
                let counts = try ForkTesting.repeated(200, method, while: [waiter, waiter]) { context in
                    let before = tally.now
                    do {
                        _ = try use()
                        context.fail("more than the maximum")
                    } catch { context.expect(Self.isTimedOut(error), "\(error)") }
                    context.expect(try pool.withResource { $0.isOurs }, "the parent's was given out")
                    context.expect(pool.counters == Pool.Counters(made: maximum, idle: maximum, waited: 1), "\(pool.counters)")
                    let after = tally.now
                    context.expect(after.closed == before.closed && after.deinitialised == before.deinitialised, "\(after)")
                }
                counts.expectAll("children of a pool of \(maximum), all leased, \(method)")
                holders.end()
                XCTAssertEqual(pool.counters.idle, maximum)
            }
        }
    }

    func test_behaviour37_control_inheritedCountsStarveTheChild() throws {
        for maximum in [1, 8] {
            let pool = PlainPool(maximum)
            let leased = Signal(), leave = Signal()
            let threads = (0..<maximum).map { _ in
                TestThread {
                    _ = pool.checkOut(attempts: 1)
                    leased.send()
                    leave.wait()
                    pool.giveBack()
                }
            }
            threads.forEach { _ in leased.wait() }
            let counts = try ForkTesting.repeated(20, expecting: false, .rawFork) { _ in pool.checkOut(attempts: 30) }
            print("control: \(counts.ok) of \(counts.times) children of a plain pool of \(maximum) got nothing")
            XCTAssert(counts.succeeded, "the control did not fail: \(counts)")
            threads.forEach { _ in leave.send() }
            threads.forEach { $0.join() }
        }
    }

    func test_behaviour38_theParentsIsNeitherPooledNorCountedNorClosedNorDeinitialised() throws {
        let tally = Tally()
        let pool = try pool(tally, 4)
        try pool.withResource { _ in }
        let busy: @Sendable () -> Void = { try? pool.withResource { _ in } }
        for method in [ForkMethod.rawFork, .forkGuardOnCallingThread, .forkGuard] {
            let ends: [(String, @Sendable (Out) -> Void)] = [
                ("given back", { $0.giveBack() }), ("discarded", { $0.discard() }), ("forgotten", { $0.forget() }),
            ]
            for (name, end) in ends {
                end(Out(try pool.checkOut()))
                let lease = Out(try pool.checkOut()), another = Out(try pool.checkOut())
                let counts = try ForkTesting.repeated(30, method, while: [busy, busy]) { context in
                    let before = tally.now
                    end(lease)
                    context.expect(pool.counters == Pool.Counters(), "\(pool.counters)")
                    context.expect(tally.now == before, "\(tally.now), was \(before)")
                    context.expect(try pool.withResource { $0.isOurs }, "it was pooled")
                    context.expect(pool.counters == Pool.Counters(made: 1, idle: 1), "\(pool.counters)")
                    // Into a pool that is in use, too.
                    end(another)
                    context.expect(pool.counters == Pool.Counters(made: 1, idle: 1), "\(pool.counters)")
                    context.expect(tally.now.closed == before.closed && tally.now.deinitialised == before.deinitialised, "\(tally.now)")
                }
                counts.expectAll("children that brought along a lease, \(name), \(method)")
                lease.giveBack()
                another.giveBack()
            }
        }
    }

    func test_behaviour38_aRawForkInsideTheBody() throws {
        let tally = Tally()
        let pool = try pool(tally, 4)
        for fails in [false, true] {
            // In a child, so that a hang is seen.
            let counts = try ForkTesting.repeated(30, .forkGuard) { context in
                var child: pid_t = -1
                var before = tally.now
                func body() throws {
                    try pool.withResource { _ in
                        before = tally.now
                        child = forkguard_fork(0)
                        if fails { throw Broken() }
                    }
                }
                do { try body() } catch { context.expect(error is Broken, "\(error)") }
                if child == 0 {
                    var wrong: Int32 = 0
                    if pool.counters != Pool.Counters() { wrong |= 1 }
                    if tally.now != before { wrong |= 2 }
                    if (try? pool.withResource { $0.isOurs }) != true { wrong |= 4 }
                    _exit(wrong)
                }
                var status: Int32 = -1
                context.expect(waitpid(child, &status, 0) == child && status == 0, "the grandchild ended with \(status)")
                let counters = fails ? Pool.Counters(made: 1, discarded: 1) : Pool.Counters(made: 1, idle: 1)
                context.expect(pool.counters == counters, "\(pool.counters)")
            }
            counts.expectAll("raw forks inside a body that \(fails ? "throws" : "returns")")
        }
    }

    func test_behaviour38_aForkInsideAClosureOfThePool() throws {
        enum Where: Codable { case make, isHealthy }
        for place in [Where.make, .isHealthy] {
            let tally = Tally(), forked = ForkMutex<pid_t>(-1), armed = ForkMutex(false)
            let fork: @Sendable () -> Void = {
                if armed.withLock({ $0 }) { forked.withLock { $0 = 0 }; let child = forkguard_fork(0); forked.withLock { $0 = child } }
            }
            let pool = try ForkPool(
                maximum: 2,
                isHealthy: { _ in
                    if place == .isHealthy { fork() }
                    return true
                }, close: { tally.close($0) },
                make: {
                    if place == .make { fork() }
                    return tally.make()
                })
            try pool.withResource { _ in }
            try pool.withResource { _ in }
            let counts = try ForkTesting.repeated(30, .forkGuard) { context in
                if place == .isHealthy { try pool.withResource { _ in } }
                armed.withLock { $0 = true }
                let mine = ForkGuard.generation
                var thrown: (any Error)?
                do { try pool.withResource { _ in } } catch { thrown = error }
                armed.withLock { $0 = false }
                let child = forked.withLock { $0 }
                if child == 0 {
                    var wrong: Int32 = 0
                    if case .staleGeneration(_, mine)? = thrown as? ForkError {} else { wrong |= 1 }
                    if pool.counters != Pool.Counters() { wrong |= 2 }
                    if tally.now.closed != 0 || tally.now.deinitialised != 0 { wrong |= 4 }
                    if (try? pool.withResource { $0.isOurs }) != true { wrong |= 8 }
                    _exit(wrong)
                }
                var status: Int32 = -1
                context.expect(child > 0 && waitpid(child, &status, 0) == child && status == 0, "the grandchild ended with \(status)")
                context.expect(thrown == nil, "\(String(describing: thrown))")
                context.expect(pool.counters == Pool.Counters(made: 1, idle: 1), "\(pool.counters)")
            }
            counts.expectAll("raw forks inside \(place)")
        }
    }

    func test_behaviour39_usedClosedAndCountedWhileTheProcessForks() throws {
        let tally = Tally()
        let steady = try pool(tally, 3)
        let timed = try ForkPool(
            maximum: 3, idleTimeout: .microseconds(20), isHealthy: { $0.number % 5 != 0 }, close: { tally.close($0) },
            make: { tally.make() })
        let makePool: @Sendable () -> Pool = { try! ForkPool(maximum: 2, close: { tally.close($0) }, make: { tally.make() }) }
        let changing = ForkMutex(makePool())
        let hammers: [@Sendable () -> Void] = [
            { try? steady.withResource { _ in } },
            { try? steady.checkOut(timeout: .milliseconds(1)).discard() },
            { try? timed.withResource(timeout: .milliseconds(1)) { _ in throw Broken() } },
            { try? timed.checkOut(timeout: .milliseconds(1)).giveBack() },
            { _ = (steady.counters, timed.counters) },
            {
                let pool = changing.withLock { $0 }
                try? pool.withResource(timeout: .milliseconds(1)) { _ in }
                pool.close()
                changing.withLock { $0 = makePool() }
            },
            { try? changing.withLock { $0 }.checkOut(timeout: .milliseconds(1)).giveBack() },
        ]
        let use: @Sendable (Int) throws -> String? = { generation in
            for pool in [steady, timed] {
                guard try pool.withResource(timeout: .seconds(5), { $0.isOurs }) else { return "the parent's was given out" }
                let counters = pool.counters
                guard counters.leased == 0, counters.made - counters.discarded == counters.idle else { return "\(counters)" }
            }
            do { try changing.withLock { $0 }.withResource { _ in } } catch {
                guard Self.isClosed(error) else { return "\(error)" }
            }
            return nil
        }
        XCTAssertNil(try use(0))
        hammers.forEach { $0() }
        for method in [ForkMethod.forkGuard, .rawFork] {
            let counts = try ForkTesting.repeated(250, method, while: hammers) { context in
                if let wrong = try use(1) { context.fail(wrong) }
            }
            counts.expectAll("children of hammered pools, \(method)")
        }
        XCTAssertEqual(steady.counters.leased, 0)
    }

    func test_behaviour39_control_aPlainPoolHangsTheChild() throws {
        let pool = PlainPool(4)
        let hammer: @Sendable () -> Void = { if pool.checkOut(attempts: 1) { pool.giveBack() } }
        let counts = try ForkTesting.repeated(
            500, .rawFork, deadline: .seconds(2), stopAfterHung: 2, while: [hammer, hammer, hammer]
        ) { _ in if pool.checkOut(attempts: 1) { pool.giveBack() } }
        print("control: \(counts.made) children of a plain pool, \(counts.hung) hung")
        XCTAssertEqual(counts.hung, 2, "the control did not fail: \(counts)")
    }

    func test_behaviour40_aPoolThatKeepsWhatItHas() throws {
        let tally = Tally()
        let pool = try pool(tally, 4, discardsAfterFork: false)
        let leases = try (0..<4).map { _ in Out(try pool.checkOut()) }
        leases[0].giveBack()
        leases[1].giveBack()
        // 1 and 2 are idle, 3 will come back in the child, 4 does not.
        for method in handledMethods {
            let counts = try ForkTesting.repeated(50, method, while: [{ _ = pool.counters }, { _ = tally.now }]) { context in
                let before = tally.now
                context.expect(pool.counters == Pool.Counters(idle: 2), "\(pool.counters)")
                context.expect(try pool.withResource { $0.number } == 2)
                leases[2].giveBack()
                context.expect(pool.counters == Pool.Counters(idle: 3), "\(pool.counters)")
                context.expect(try pool.withResource { $0.number } == 3)
                context.expect(tally.now == before, "\(tally.now)")
                // The place of the one that is not here is free.
                let own = try (0..<4).map { _ in Out(try pool.checkOut(timeout: .zero)) }
                context.expect(pool.counters == Pool.Counters(made: 1, leased: 4), "\(pool.counters)")
                // There is no place for that one now.
                leases[3].giveBack()
                context.expect(pool.counters == Pool.Counters(made: 1, leased: 4, discarded: 1), "\(pool.counters)")
                context.expect(tally.now.closed == before.closed + 1, "\(tally.now)")
                own.forEach { $0.giveBack() }
                context.expect(pool.counters == Pool.Counters(made: 1, idle: 4, discarded: 1), "\(pool.counters)")
                pool.close()
                context.expect(tally.now.closed == before.closed + 5, "\(tally.now)")
            }
            counts.expectAll("children of a pool that keeps, \(method)")
        }
        leases[2].giveBack()
        leases[3].giveBack()
        XCTAssertEqual(pool.counters, Pool.Counters(made: 4, idle: 4))
    }

    func test_behaviour44_threadsOfTheChildAgreeOnOneNewStorage() throws {
        let tally = Tally()
        let pool = try pool(tally, 3)
        let race: @Sendable () -> Int = {
            let start = ForkMutex(false), wrong = ForkMutex(0)
            let threads = (0..<8).map { _ in
                TestThread {
                    while !start.withLock({ $0 }) {}
                    for _ in 0..<10 {
                        do {
                            if !(try pool.withResource(timeout: .seconds(5), { $0.isOurs })) { wrong.withLock { $0 += 1 } }
                        } catch { wrong.withLock { $0 += 1 } }
                    }
                }
            }
            start.withLock { $0 = true }
            threads.forEach { $0.join() }
            return wrong.withLock { $0 }
        }
        XCTAssertEqual(race(), 0)
        let holders = Holders(of: pool, 2)
        for method in [ForkMethod.forkGuard, .rawFork] {
            let counts = try ForkTesting.repeated(
                200, method, while: [{ try? pool.withResource(timeout: .milliseconds(1)) { _ in } }, { _ = pool.counters }]
            ) { context in
                let before = tally.now.made
                context.expect(race() == 0, "not served, or served the parent's")
                let counters = pool.counters
                context.expect(counters.made <= 3 && counters.made == tally.now.made - before, "\(counters)")
                context.expect(counters.idle == counters.made && counters.leased == 0 && counters.discarded == 0, "\(counters)")
            }
            counts.expectAll("children whose 8 threads raced for the first check-out, \(method)")
        }
        holders.end()
    }

    func test_aClosedPoolStaysClosedInTheChild() throws {
        for discards in [true, false] {
            let tally = Tally()
            let pool = try pool(tally, 2, discardsAfterFork: discards)
            let lease = Out(try pool.checkOut())
            try pool.withResource { _ in }
            pool.close()
            XCTAssertThrowsError(try pool.checkOut().giveBack())
            for method in handledMethods {
                let counts = try ForkTesting.repeated(20, method, while: [{ _ = pool.counters }]) { context in
                    do {
                        try pool.withResource { _ in }
                        context.fail("it is open")
                    } catch { context.expect(Self.isClosed(error), "\(error)") }
                    context.expect(pool.counters == Pool.Counters(), "\(pool.counters)")
                    lease.giveBack()
                    context.expect(tally.now.closed == (discards ? 1 : 2), "\(tally.now)")
                }
                counts.expectAll("children of a closed pool, \(method)")
            }
            lease.giveBack()
            XCTAssertEqual(tally.now.closed, 2)
        }
    }

    func test_aChildThatReleasesThePoolClosesItsOwnOnly() throws {
        let tally = Tally()
        let kept = ForkMutex<Pool?>(try pool(tally, 3))
        let pool: @Sendable () -> Pool = { kept.withLock { $0! } }
        try pool().withResource { _ in try pool().withResource { _ in } }
        for uses in [false, true] {
            let counts = try ForkTesting.repeated(20, .rawFork, while: [{ _ = tally.now }]) { context in
                let before = tally.now
                if uses { try pool().withResource { _ in } }
                _ = kept.withLock { $0.take() }
                let after = tally.now
                context.expect(after.closed == before.closed + (uses ? 1 : 0), "\(after)")
                context.expect(after.deinitialised == before.deinitialised + (uses ? 1 : 0), "\(after)")
            }
            counts.expectAll("children that release a pool which they have \(uses ? "" : "not ")used")
        }
    }

    func test_aGrandchildBeginsAnew() throws {
        let tally = Tally()
        let pool = try pool(tally, 2)
        let lease = Out(try pool.checkOut())
        try pool.withResource { _ in }
        let hammer: @Sendable () -> Void = { try? pool.withResource(timeout: .milliseconds(1)) { _ in } }
        let counts = try ForkTesting.repeated(50, while: [hammer, hammer]) { context in
            let mine = Out(try pool.checkOut()), other = Out(try pool.checkOut())
            let grandchild = try ForkGuard.fork {
                guard pool.counters == Pool.Counters() else { return 1 }
                guard try pool.withResource({ $0.isOurs }) else { return 2 }
                mine.giveBack()
                lease.discard()
                return pool.counters == Pool.Counters(made: 1, idle: 1) && tally.now.closed == 0 ? 0 : 3
            }
            context.expect(try grandchild.wait(timeout: .seconds(10)) == .exited(0), "grandchild")
            mine.giveBack()
            other.giveBack()
            context.expect(pool.counters == Pool.Counters(made: 2, idle: 2), "\(pool.counters)")
        }
        counts.expectAll("grandchildren")
        lease.giveBack()
    }

    func test_forksThatRanNoHandlers() throws {
        for keeps in [false, true] {
            let tally = Tally()
            let pool = try pool(tally, 3, discardsAfterFork: !keeps)
            let use: @Sendable () throws -> Bool = { try pool.withResource { $0.isOurs } }
            XCTAssert(try use())
            // Two are made beforehand: a hammer that allocates may hang a child that nobody prepared.
            try pool.withResource { _ in try pool.withResource { _ in } }
            let hammer: @Sendable () -> Void = { try? pool.withResource { _ in } }
            for method in ForkMethod.available where !method.runsForkHandlers {
                let counts = try ForkTesting.repeated(50, method, while: [hammer, hammer]) { context in
                    // A pool that keeps has lost its idle ones if somebody was inside.
                    context.expect(try use() || keeps, "the parent's was given out")
                    let leases = try (0..<3).map { _ in Out(try pool.checkOut(timeout: .zero)) }
                    leases.forEach { $0.giveBack() }
                    let counters = pool.counters
                    context.expect(counters.idle == 3 && counters.leased == 0 && (keeps || counters.made == 3), "\(counters)")
                }
                counts.expectAll("children that no handler prepared, \(method)\(keeps ? ", of a pool that keeps" : "")")
            }
        }
    }
}

/// The unguarded twin: the same counts, and a pthread mutex.
private final class PlainPool: @unchecked Sendable {
    // @unchecked: `leased` is reached with the mutex locked.
    private let mutex = PlainMutex()
    private let maximum: Int
    private var leased = 0

    init(_ maximum: Int) { self.maximum = maximum }

    func checkOut(attempts: Int) -> Bool {
        for attempt in 0..<attempts {
            var got = false
            mutex.withLock {
                got = leased < maximum
                if got { leased += 1 }
            }
            if got { return true }
            if attempt > 0 { usleep(1000) }
        }
        return false
    }

    func giveBack() { mutex.withLock { leased -= 1 } }
}
