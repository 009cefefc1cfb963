import ForkGuardTesting
import XCTest

final class OutcomeTests: XCTestCase {
    private enum Problem: Error { case badWeather(degrees: Int) }

    private struct Answer: Codable, Equatable {
        var name: String
        var numbers: [Int: String]
        var nothing: Double?
        var kind: Kind
        enum Kind: String, Codable { case good, bad }
    }

    func testCarriesAValueBack() throws {
        let answer = Answer(name: "ä\u{0}\n", numbers: [1: "one", 2: "two"], nothing: nil, kind: .bad)
        let outcome = try ForkTesting.run(.rawFork) { _ in answer }
        XCTAssertEqual(outcome.value, answer, "\(outcome)")
        XCTAssertTrue(outcome.succeeded)
        XCTAssertEqual(outcome.exitCode, 0)
        XCTAssertEqual(try outcome.get(), answer)
    }

    func testCarriesNoNumbersThatJSONHasNotBack() throws {
        let value = try ForkTesting.run(.rawFork) { _ in [Double.infinity, .nan] }.get()
        XCTAssertEqual(value[0], .infinity)
        XCTAssertTrue(value[1].isNaN)
    }

    func testTheValueIsTheChilds() throws {
        let counter = Counter()
        let outcome = try ForkTesting.run(.rawFork) { _ in counter.increment() }
        XCTAssertEqual(outcome.value, 1, "\(outcome)")
        XCTAssertEqual(counter.value, 0)
    }

    func testCarriesALargeValueBack() throws {
        let outcome = try ForkTesting.run(.rawFork, deadline: .seconds(60)) { _ in String(repeating: "forty-two ", count: 800_000) }
        XCTAssertEqual(outcome.value?.utf8.count, 8_000_000, "\(outcome.ending)")
        XCTAssertLessThan(outcome.description.utf8.count, 1000, "a large value must not flood the log")
    }

    func testABodyWithoutAValue() throws {
        XCTAssertTrue(try ForkTesting.run(.rawFork) { $0.expect(true) }.succeeded)
        XCTAssertFalse(try ForkTesting.run(.rawFork) { $0.expect(false) }.succeeded)
    }

    func testCatchesAHangAndNamesTheFunctionThatWaits() throws {
        let mutex = PlainMutex()
        mutex.lock()
        let outcome = try ForkTesting.run(.rawFork, deadline: .milliseconds(300)) { context in
            context.note("about to wait")
            return waitForTheLockThatSomebodyHeld(mutex)
        }
        XCTAssertNotNil(outcome.stack, "\(outcome)")
        XCTAssertNil(outcome.value)
        XCTAssertFalse(outcome.succeeded)
        XCTAssertEqual(outcome.notes, ["about to wait"])
        XCTAssertTrue(outcome.description.contains("waitForTheLockThatSomebodyHeld"), "\(outcome)")
        XCTAssertTrue(outcome.description.contains("the child hung"), "\(outcome)")
        XCTAssertThrowsError(try outcome.get()) { XCTAssertTrue("\($0)".contains("waitForTheLockThatSomebodyHeld")) }
    }

    func testCatchesAHangOnALockThatAHammerHeld() throws {
        for method in [ForkMethod.rawFork, .forkGuard] {
            let mutex = PlainMutex()
            let hammer: @Sendable () -> Void = {
                mutex.lock()
                sleepMilliseconds(20)
                mutex.unlock()
            }
            let counts = try ForkTesting.repeated(50, method, deadline: .milliseconds(500), stopAfterHung: 1, while: [hammer]) { _ in
                _ = waitForTheLockThatSomebodyHeld(mutex)
            }
            XCTAssertEqual(counts.hung, 1, "\(counts)")
            XCTAssertTrue(counts.firstProblem?.contains("waitForTheLockThatSomebodyHeld") ?? false, "\(counts)")
        }
    }

    func testCatchesACrashWithItsMessage() throws {
        let outcome = try ForkTesting.run(.rawFork) { _ in
            let numbers = [1, 2, 3]
            return numbers[numbers.count]
        }
        XCTAssertTrue([SIGILL, SIGTRAP].contains(outcome.signal ?? 0), "\(outcome)")
        XCTAssertTrue(outcome.standardError.contains("Index out of range"), "\(outcome)")
        XCTAssertTrue(outcome.description.contains("signal"), "\(outcome)")
        let aborted = try ForkTesting.run(.rawFork) { _ in abort() }
        XCTAssertEqual(aborted.signal, SIGABRT, "\(aborted)")
    }

    func testWhatWasReportedBeforeACrashArrives() throws {
        let outcome = try ForkTesting.run(.rawFork) { context -> Int in
            context.fail("the first")
            context.fail("the second")
            raise(SIGKILL)
            return 1
        }
        XCTAssertEqual(outcome.signal, SIGKILL, "\(outcome)")
        XCTAssertEqual(outcome.failures.count, 2)
    }

    func testCarriesAThrownErrorBack() throws {
        let outcome = try ForkTesting.run(.rawFork) { _ -> Int in throw Problem.badWeather(degrees: 12) }
        XCTAssertEqual(outcome.failures, ["the body threw badWeather(degrees: 12)"])
        XCTAssertEqual(outcome.exitCode, 0)
        XCTAssertFalse(outcome.succeeded)
    }

    func testCarriesAFailedExpectationBackWithItsPlace() throws {
        let line = #line + 2
        let outcome = try ForkTesting.run(.rawFork) { context in
            context.expect(1 + 1 == 3, "one and one is not three")
            context.expect(true, "never seen")
            return 5
        }
        XCTAssertEqual(outcome.failures, ["ForkGuardTestingTests/OutcomeTests.swift:\(line): one and one is not three"])
        XCTAssertEqual(outcome.value, 5)
        XCTAssertFalse(outcome.succeeded)
    }

    func testFailuresOfGrandchildrenAndThreadsArrive() throws {
        let outcome = try ForkTesting.run(.rawFork) { context in
            let pid = libcFork()
            if pid == 0 {
                context.fail("from the grandchild")
                _exit(0)
            }
            waitpid(pid, nil, 0)
            return true
        }
        XCTAssertEqual(outcome.failures.count, 1, "\(outcome)")
        XCTAssertEqual(outcome.value, true)
    }

    func testABodyThatExits() throws {
        let outcome = try ForkTesting.run(.rawFork) { _ -> Int in exit(7) }
        XCTAssertEqual(outcome.exitCode, 7, "\(outcome)")
        XCTAssertFalse(outcome.succeeded)
        XCTAssertFalse(try ForkTesting.run(.rawFork) { _ -> Int in _exit(0) }.succeeded, "0 without a value is no success")
    }

    func testCapturesOutput() throws {
        let outcome = try ForkTesting.run(.rawFork) { _ in
            write(1, "to the output", 13)
            write(2, "to the errors", 13)
            return 0
        }
        XCTAssertEqual(outcome.standardOutput, "to the output")
        XCTAssertEqual(outcome.standardError, "to the errors")
    }

    func testBoundsOutput() throws {
        let outcome = try ForkTesting.run(.rawFork) { _ in
            write(2, "first", 5)
            let block = [UInt8](repeating: 46, count: 10000)
            for _ in 0..<1000 { _ = block.withUnsafeBytes { write(2, $0.baseAddress, $0.count) } }
            write(2, "last", 4)
            return 0
        }
        XCTAssertTrue(outcome.succeeded)
        XCTAssertTrue(outcome.standardError.hasPrefix("first.") && outcome.standardError.hasSuffix(".last"))
        XCTAssertLessThan(outcome.standardError.utf8.count, 100_000)
    }

    func testPrintingForEverIsAHang() throws {
        let outcome = try ForkTesting.run(.rawFork, deadline: .milliseconds(300)) { _ -> Int in while true { write(2, "more and more", 13) }
        }
        XCTAssertNotNil(outcome.stack, "\(outcome.ending)")
    }

    func testABodyThatClosesEveryDescriptorIsNoticed() throws {
        let outcome = try ForkTesting.run(.rawFork) { _ in
            for descriptor in 3..<1024 { close(Int32(descriptor)) }
            return 1
        }
        XCTAssertNil(outcome.value)
        XCTAssertTrue(outcome.failures.contains { $0.contains("descriptor") }, "\(outcome)")
    }

    func testAMethodThatIsNotThereIsRefused() throws {
        for missing in ForkMethod.allCases where !missing.isAvailable {
            let outcome = try ForkTesting.run(missing) { _ in 1 }
            XCTAssertTrue("\(outcome)".contains("\(missing) failed"), "\(outcome)")
        }
    }

    #if os(Linux)
        // In a child, which gives up its rights: the limit does not bind root.
        func testAForkThatFailsIsRefusedAndNothingIsLeft() throws {
            let outcome = try ForkTesting.run(.rawFork) { context -> [String] in
                if geteuid() == 0 { context.expect(setuid(65534) == 0) }
                var limit = rlimit(rlim_cur: 0, rlim_max: 0)
                context.expect(libcSetrlimit(6, &limit) == 0)
                let descriptors = countOpen()
                let refused = try ForkMethod.available.map { try ForkTesting.run($0, from: .calling) { _ in 1 }.description }
                let counts = try ForkTesting.repeated(7, .rawFork, from: .calling) { _ in }
                context.expect(counts.refused == 7, "\(counts)")
                context.expect(countOpen() == descriptors, "descriptors are left open")
                return refused
            }
            let texts = try outcome.get()
            XCTAssertEqual(texts.count, ForkMethod.available.count)
            for text in texts {
                XCTAssertTrue(text.hasPrefix("the fork was refused: ") && text.contains("Resource temporarily unavailable"), text)
            }
        }
    #endif

    func testSomebodyElseReapsTheChild() throws {
        let before = signal(SIGCHLD, SIG_IGN)
        defer { signal(SIGCHLD, before) }
        XCTAssertThrowsError(try ForkTesting.run(.rawFork) { _ in 1 }) { XCTAssertTrue("\($0)".contains("SIGCHLD"), "\($0)") }
    }
}
