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
