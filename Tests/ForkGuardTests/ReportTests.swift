import CForkGuard
import ForkGuard
import ForkGuardTesting
import Glibc
import XCTest

/// What a fork says of itself, the deadline, and holding forks off.
final class ReportTests: XCTestCase {
    func test_theReportOfAnOrdinaryFork() throws {
        let busy = ForkMutex(0)
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

    func test_preloadedGlobalsAreWholeInEveryChild() throws {
        ForkGuard.preload { _ = Preloaded.table }
        let counts = try ForkTesting.repeated(100, expecting: 10_000, .rawFork, while: [{ _ = Preloaded.table.count }]) { _ in
            Preloaded.table.count
        }
        counts.expectAll("children that read a preloaded global")
    }
}

private enum Preloaded {
    static let table = Array(0..<10_000)
}
