import ForkGuardTesting
import XCTest

/// Second processes that come back, and threads that do not.
final class EscapeTests: XCTestCase {
    func testAChildThatForksAndReturnsTwice() throws {
        for method in ForkMethod.available {
            let outcome = try ForkTesting.run(method) { _ in
                _ = libcFork()
                return getpid()
            }
            XCTAssertTrue(outcome.isEscaped, "\(method): \(outcome)")
            XCTAssertFalse(outcome.succeeded)
        }
    }

    func testAChildThatForksAndThrowsTwice() throws {
        struct Problem: Error {}
        let outcome = try ForkTesting.run(.rawFork) { _ -> Int in
            _ = libcFork()
            throw Problem()
        }
        XCTAssertTrue(outcome.isEscaped, "\(outcome)")
        XCTAssertEqual(outcome.failures, ["the body threw Problem()"], "the second process must not report for the first")
    }

    func testASecondProcessThatReturnsLateIsCaught() throws {
        let outcome = try ForkTesting.run(.rawFork) { _ in
            if libcFork() == 0 { sleepMilliseconds(200) }
            return 1
        }
        XCTAssertTrue(outcome.isEscaped, "\(outcome)")
    }

    func testAProcessThatTheBodyLeavesBehindIsKilledAndReported() throws {
        let outcome = try ForkTesting.run(.rawFork) { _ in
            let pid = libcFork()
            if pid == 0 { waitForTheEnd() }
            return pid
        }
        XCTAssertTrue(outcome.failures.contains { $0.contains("still running") }, "\(outcome)")
        let left = try XCTUnwrap(outcome.value)
        try waitUntilGone(left)
    }

    func testTheGrandchildrenOfAChildThatHangsAreKilled() throws {
        let outcome = try ForkTesting.run(.rawFork, deadline: .milliseconds(300)) { context -> Int in
            let pid = libcFork()
            if pid == 0 { waitForTheEnd() }
            context.note("\(pid)")
            while true { pause() }
        }
        XCTAssertNotNil(outcome.stack, "\(outcome)")
        try waitUntilGone(XCTUnwrap(outcome.notes.first.flatMap { Int32($0) }))
    }

    /// Or a zombie, whom init has not reaped yet.
    private func waitUntilGone(_ pid: pid_t) throws {
        for _ in 0..<2000 {
            if kill(pid, 0) != 0 { return }
            if let status = try? String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8), status.contains("State:\tZ") { return }
            sleepMilliseconds(1)
        }
        XCTFail("process \(pid) is still there")
    }

    func testAHammerThatForksAndReturnsTwice() throws {
        let runner = getpid()
        let counter = Counter()
        let outcome = try ForkTesting.run(
            .rawFork,
            while: [
                {
                    if counter.increment() == 1 { _ = libcFork() }
                    sleepMilliseconds(1)
                }
            ]
        ) { _ in
            sleepMilliseconds(100)
            return 1
        }
        XCTAssertEqual(getpid(), runner)
        XCTAssertTrue(outcome.isEscaped, "\(outcome)")
        XCTAssertTrue("\(outcome)".contains("hammer"), "\(outcome)")
        XCTAssertFalse(hasChildren(), "the hammer's process must have been reaped")
    }

    func testAHammerThatDoesNotEndIsNamed() throws {
        let mutex = PlainMutex()
        mutex.lock()
        let time = try seconds {
            XCTAssertThrowsError(
                try ForkTesting.run(
                    .rawFork, deadline: .milliseconds(500), while: [{ sleepMilliseconds(1) }, { waitForTheLockThatSomebodyHeld(mutex) }]
                ) { _ in 42 }
            ) { error in
                XCTAssertTrue("\(error)".contains("hammer 2 of 2"), "\(error)")
                XCTAssertTrue("\(error)".contains("42"), "what the trial had to say belongs to the message: \(error)")
            }
        }
        XCTAssertLessThan(time, 5)
        mutex.unlock()
    }

    func testHammersRunBeforeTheForkAndAfter() throws {
        let counter = Counter()
        let outcome = try ForkTesting.run(.rawFork, while: [{ counter.increment() }, { sleepMilliseconds(1) }]) { _ in
            sleepMilliseconds(50)
            return true
        }
        XCTAssertTrue(outcome.succeeded, "\(outcome)")
        let after = counter.value
        XCTAssertGreaterThan(after, 0)
        sleepMilliseconds(20)
        XCTAssertEqual(counter.value, after, "the hammers must have been stopped")
    }

    func testAForkThatNeverReturnsInTheRunner() throws {
        installBlockingHandler()
        blockForks(true)
        let outcome = try ForkTesting.run(.rawFork, deadline: .milliseconds(300)) { _ in 1 }
        blockForks(false)
        XCTAssertTrue(outcome.stack?.contains("had not returned") ?? false, "\(outcome)")
        XCTAssertTrue(outcome.stack?.contains("fork-trial") ?? false, "\(outcome)")
        #if os(Linux)
            XCTAssertTrue(outcome.stack?.contains("waitWhileForksAreBlocked") ?? false, "\(outcome)")
        #endif
        // The thread that was abandoned ends its child by itself.
        for _ in 0..<2000 where hasChildren() { sleepMilliseconds(1) }
        XCTAssertFalse(hasChildren())
        XCTAssertTrue(try ForkTesting.run(.rawFork) { _ in 1 }.succeeded)
    }
}

// A prepare handler that blocks when it is told to.
nonisolated(unsafe) private let forksAreBlocked: UnsafeMutablePointer<Bool> = {
    let flag = UnsafeMutablePointer<Bool>.allocate(capacity: 1)
    flag.initialize(to: false)
    return flag
}()
private let blockingMutex = PlainMutex()

private func blockForks(_ block: Bool) {
    if block {
        forksAreBlocked.pointee = true
        blockingMutex.lock()
    } else {
        forksAreBlocked.pointee = false
        blockingMutex.unlock()
    }
}

@inline(never) private func waitWhileForksAreBlocked() {
    if forksAreBlocked.pointee {
        blockingMutex.lock()
        blockingMutex.unlock()
    }
}

private func installBlockingHandler() {
    _ = forksAreBlocked.pointee
    blockingMutex.lock()
    blockingMutex.unlock()
    pthread_atfork({ waitWhileForksAreBlocked() }, nil, nil)
}
