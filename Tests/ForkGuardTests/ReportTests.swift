import CForkGuard
import ForkGuard
import ForkGuardTesting
import Foundation
import XCTest

/// What a fork says of itself, the deadline, and holding forks off.
final class ReportTests: XCTestCase {
    func test_theReportOfAnOrdinaryFork() throws {
        let busy = ForkMutex(0), known = Signal(), over = Signal()
        // The gate knows a thread from its first lock on. That a hammer has begun does not mean that it has come so far.
        let thread = TestThread {
            busy.withLock { $0 += 1 }
            known.send()
            over.wait()
        }
        known.wait()
        defer {
            over.send()
            thread.join()
        }
        let before = try XCTUnwrap(try? ForkTesting.run(.rawFork) { _ in ForkGuard.lastReport?.ordinal ?? 0 }.get())
        let outcome = try ForkTesting.run(.forkGuard, from: .calling, while: [{ busy.withLock { $0 += 1 } }]) { context in
            let report = ForkGuard.lastReport
            context.expect(report?.side == .child && report?.generation == ForkGuard.generation, "\(String(describing: report))")
            context.expect(report?.ordinal == before + 1, "ordinal \(String(describing: report?.ordinal)) after \(before)")
            context.expect(report?.tornCount == 0 && report?.error == 0 && report?.seen == .byHandlers)
        }
        XCTAssert(outcome.succeeded, "\(outcome)")
        let report = try XCTUnwrap(ForkGuard.lastReport)
        XCTAssertEqual(report.side, .parent)
        XCTAssertEqual(report.ordinal, before + 1)
        XCTAssertGreaterThanOrEqual(report.otherThreads, 1)
        XCTAssertGreaterThan(report.copy, .zero)
        XCTAssertLessThan(report.turn + report.prepareHooks + report.gate, ForkGuard.deadline)
        XCTAssert(report.description.contains("in the parent: child is process"), report.description)
    }

    func test_whoHeldUpAForkIsNamed() throws {
        let slow = ForkMutex(0, name: "slow one")
        let inside = Signal()
        let thread = TestThread {
            // proc_pid_comm(5); pthread_setname_np is not in Swift's Glibc.
            let name = fopen("/proc/thread-self/comm", "w")!
            fputs("slowpoke", name)
            fclose(name)
            slow.withLock { _ in
                inside.send()
                usleep(30_000)
            }
        }
        inside.wait()
        let outcome = try ForkTesting.run(.rawFork, from: .calling) { _ in slow.withLock { $0 } }
        thread.join()
        XCTAssertEqual(outcome.value, 0)
        let holder = try XCTUnwrap(ForkGuard.lastReport?.heldUpBy)
        XCTAssertEqual(holder.threadName, "slowpoke")
        XCTAssertEqual(holder.lockName, "slow one")
        XCTAssert(holder.lockPlace.contains("ReportTests.swift:"), holder.lockPlace)
        XCTAssertNil(holder.torn)
        XCTAssert(ForkGuard.lastReport!.description.contains("held up by thread \(holder.threadID) (slowpoke) in 'slow one'"))
    }

    func test_aHookThatDoesNotReturnIsNamedAndRawForksGoAhead() throws {
        let deadline = ForkGuard.deadline
        ForkGuard.deadline = .milliseconds(150)
        defer { ForkGuard.deadline = deadline }
        let entered = Signal(), leave = Signal()
        let armed = ForkMutex(true), free = ForkMutex(0, name: "free"), held = ForkMutex(0, name: "held", ifTorn: .rebuild { -1 })
        let hook = ForkGuard.onFork(
            name: "stuck",
            prepare: {
                let mine = armed.withLock { armed in
                    defer { armed = false }
                    return armed
                }
                if mine {
                    entered.send()
                    leave.wait()
                }
            })
        defer { hook.cancel() }
        let first = ForkMutex<String>("")
        let forker = TestThread {
            held.withLock { _ in
                let outcome = try? ForkTesting.run(.rawFork, from: .calling) { _ in free.withLock { $0 } }
                first.withLock { $0 = outcome.map(\.description) ?? "nothing" }
            }
        }
        entered.wait()
        XCTAssertThrowsError(try ForkGuard.fork { 0 }) {
            XCTAssertEqual($0 as? ForkError, .timedOut(waitingFor: "the hook 'stuck' of another fork"))
        }
        for _ in 0..<3 {
            let outcome = try ForkTesting.run(.rawFork) { context in
                context.expect(ForkGuard.lastReport?.gotNoTurn == true, "\(String(describing: ForkGuard.lastReport))")
                context.expect(free.withLock { $0 } == 0)
                context.expect(held.withLock { $0 } == -1, "what the other forker held is torn")
                // The child's own forks are ordinary ones.
                context.expect(try ForkGuard.fork { 3 }.wait(timeout: .seconds(10)) == .exited(3))
            }
            XCTAssert(outcome.succeeded, "\(outcome)")
        }
        leave.send()
        forker.join()
        XCTAssert(first.withLock { $0 }.contains("exited"), first.withLock { $0 })
        XCTAssertEqual(try ForkGuard.fork { 0 }.wait(timeout: .seconds(10)), .exited(0))
        XCTAssertEqual(ForkGuard.lastReport?.gotNoTurn, false)
    }

    func test_anAbsurdDeadlineEndsWithAMessageThatNamesIt() throws {
        for absurd in [Duration.zero, .milliseconds(-5), .seconds(3601), .seconds(Int64.max / 2)] {
            let outcome = try ForkTesting.run(.rawFork) { _ in ForkGuard.deadline = absurd }
            guard case .signalled = outcome.ending else { return XCTFail("\(absurd): \(outcome)") }
            XCTAssert(outcome.standardError.contains("it must be from 1 millisecond to 1 hour"), outcome.standardError)
        }
        let mine = ForkGuard.deadline
        ForkGuard.deadline = .milliseconds(1500)
        XCTAssertEqual(ForkGuard.deadline, .milliseconds(1500))
        ForkGuard.deadline = mine
    }

    func test_withForkPreventedPassesResultsAndErrors() throws {
        struct Refused: Error {}
        XCTAssertEqual(ForkGuard.withForkPrevented { 7 }, 7)
        XCTAssertEqual(forkguard_sections_held(), 0)
        XCTAssertThrowsError(try ForkGuard.withForkPrevented { throw Refused() })
        XCTAssertEqual(forkguard_sections_held(), 0)
        ForkGuard.withForkPrevented {
            do {
                _ = try ForkGuard.fork { 0 }
                XCTFail("it forked")
            } catch { XCTAssertEqual(error as? ForkError, .holdingLocks(["withForkPrevented"])) }
        }
    }

    func test_theReportOfAForkWithHooksLocksAndThreads() throws {
        let busy = ForkMutex(0), foreign = NSLock(), slow = ForkMutex(false)
        let hook = ForkGuard.onFork(
            name: "timed",
            prepare: { usleep(3000) },
            child: { if slow.withLock({ $0 }) { throw Hopeless() } else { usleep(5000) } })
        defer { hook.cancel() }
        try ForkGuard.register(reflecting: foreign, name: "foreign")
        let named = Signal(), over = Signal()
        let thread = TestThread {
            let name = fopen("/proc/thread-self/comm", "w")!
            fputs("vanisher", name)
            fclose(name)
            busy.withLock { $0 += 1 }
            named.send()
            over.wait()
        }
        named.wait()
        let outcome = try ForkTesting.run(.rawFork, from: .calling) { context in
            let report = try XCTUnwrap(ForkGuard.lastReport)
            context.expect(
                report.hooks.contains { $0.name == "timed" && $0.phase == "prepare" && $0.duration >= .milliseconds(3) }, "\(report)")
            context.expect(
                report.hooks.contains { $0.name == "timed" && $0.phase == "child" && $0.duration >= .milliseconds(5) }, "\(report)")
            context.expect(report.vanishedThreads.contains { $0.name == "vanisher" } && report.vanishedCount >= 1, "\(report)")
            context.expect(report.foreignLocks == 1 && report.foreignReinitialized == 1 && report.foreignOwn == 0, "\(report)")
            context.expect(report.otherProcess == getppid() && report.childPhases > .zero, "\(report)")
            // What is printed has it all, and so has what is encoded.
            for part in ["'timed' prepare", "'timed' child", "(vanisher)", "reinitialised 1", "C phases"] {
                context.expect(report.description.contains(part), "\(part): \(report)")
            }
            let decoded = try JSONDecoder().decode(ForkReport.self, from: JSONEncoder().encode(report))
            context.expect(decoded.description == report.description, "\(decoded)")
            context.expect(decoded.hooks == report.hooks && decoded.vanishedThreads == report.vanishedThreads)
        }
        XCTAssert(outcome.succeeded, "\(outcome)")
        slow.withLock { $0 = true }
        let failed = try ForkTesting.run(.rawFork) { context in
            let failures = ForkGuard.lastReport?.hookFailures ?? []
            context.expect(failures.count == 1 && failures[0].name == "timed" && failures[0].phase == "child", "\(failures)")
            let report = try XCTUnwrap(ForkGuard.lastReport)
            let decoded = try JSONDecoder().decode(ForkReport.self, from: JSONEncoder().encode(report))
            context.expect(decoded.hookFailures == failures)
        }
        XCTAssert(failed.succeeded, "\(failed)")
        over.send()
        thread.join()
        // The parent's own: no threads vanished there.
        let mine = try XCTUnwrap(ForkGuard.lastReport)
        XCTAssert(mine.side == .parent && mine.vanishedCount == 0 && mine.foreignLocks == 1, "\(mine)")
        let decoded = try JSONDecoder().decode(ForkReport.self, from: JSONEncoder().encode(mine))
        XCTAssertEqual(decoded.description, mine.description)
        XCTAssertThrowsError(try JSONDecoder().decode(ForkReport.self, from: Data("{}".utf8)))
    }

    func test_moreHooksThanAReportHasRoomForKeepTheSlowest() throws {
        let hooks = (0..<40).map { number in
            ForkGuard.onFork(name: "hook \(number)", parent: { if number == 30 { usleep(4000) } })
        }
        defer { hooks.forEach { $0.cancel() } }
        XCTAssert(try ForkTesting.run(.rawFork, from: .calling) { _ in }.succeeded)
        let report = try XCTUnwrap(ForkGuard.lastReport)
        XCTAssertEqual(report.hookCount, 40)
        XCTAssertEqual(report.hooks.count, 16)
        XCTAssert(report.hooks.contains { $0.name == "hook 30" && $0.duration >= .milliseconds(4) }, "\(report)")
    }

    func test_aHookThatIsSlowIsNamed() throws {
        let deadline = ForkGuard.deadline
        ForkGuard.deadline = .milliseconds(50)
        defer { ForkGuard.deadline = deadline }
        let hook = ForkGuard.onFork(name: "slow hook", parent: { usleep(80_000) })
        defer { hook.cancel() }
        XCTAssert(try ForkTesting.run(.rawFork, from: .calling) { _ in }.succeeded)
        let failure = try XCTUnwrap(ForkGuard.lastReport?.hookFailures.first)
        XCTAssertEqual(failure.name, "slow hook")
        XCTAssertEqual(failure.phase, "parent")
        XCTAssertEqual(failure.code, ETIMEDOUT)
        XCTAssertGreaterThanOrEqual(failure.duration, .milliseconds(50))
    }

    func test_aChildHasOneReportAndItIsItsOwn() throws {
        // The parent has one from before; the child has none while its hooks run, then its own; the grandchild's is another.
        XCTAssert(try ForkTesting.run(.rawFork) { _ in }.succeeded)
        let seen = ForkMutex<Bool?>(nil)
        let hook = ForkGuard.onFork(child: { seen.withLock { $0 = ForkGuard.lastReport == nil } })
        defer { hook.cancel() }
        for method in ForkMethod.available {
            let outcome = try ForkTesting.run(method) { context in
                let mine = try XCTUnwrap(ForkGuard.lastReport)
                context.expect(mine.side == .child && mine.generation == ForkGuard.generation, "\(mine)")
                context.expect(mine.seen == (method.runsForkHandlers ? .byHandlers : .late), "\(mine)")
                if method.runsForkHandlers { context.expect(seen.withLock { $0 } == true, "a hook found the parent's report") }
                let grandchild = try ForkTesting.run(.rawFork, from: .calling) { inner in
                    let report = try XCTUnwrap(ForkGuard.lastReport)
                    inner.expect(
                        report.side == .child && report.generation == ForkGuard.generation && report.ordinal > mine.ordinal, "\(report)")
                }
                context.expect(grandchild.succeeded, "\(grandchild)")
                context.expect(ForkGuard.lastReport?.side == .parent)
            }
            XCTAssert(outcome.succeeded, "\(method): \(outcome)")
        }
        // Inside a section nothing that is owed can run, but the parent's report is not to be had for the child's.
        let lock = ForkMutex(0)
        let inside = try ForkTesting.run(.underscoreFork, from: .calling) { context in
            lock.withLock { _ in
                let first = ForkGuard.lastReport
                context.expect(first?.side == .child && first?.seen == .late, "\(String(describing: first))")
            }
        }
        XCTAssert(inside.succeeded, "\(inside)")
    }

    func test_preloadedGlobalsAreWholeInEveryChild() throws {
        ForkGuard.preload { _ = Preloaded.table }
        let counts = try ForkTesting.repeated(100, expecting: 10_000, .rawFork, while: [{ _ = Preloaded.table.count }]) { _ in
            Preloaded.table.count
        }
        counts.expectAll("children that read a preloaded global")
    }
}

private struct Hopeless: Error {}

private enum Preloaded {
    static let table = Array(0..<10_000)
}
