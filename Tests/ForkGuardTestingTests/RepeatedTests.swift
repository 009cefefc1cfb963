import ForkGuardTesting
import XCTest

final class RepeatedTests: XCTestCase {
    func testCountsMixedOutcomes() throws {
        let counts = try ForkTesting.repeated(14, expecting: 1, .rawFork, deadline: .milliseconds(400)) { context -> Int in
            switch context.repetition {
            case 1: return 2
            case 2: context.fail("no")
            case 3: throw CancellationError()
            case 4, 5: raise(SIGKILL)
            case 6: while true { pause() }
            case 7: _ = libcFork()
            case 8: exit(3)
            default: break
            }
            return 1
        }
        XCTAssertEqual(
            counts.description.prefix { $0 != "\n" }, "6 ok, 4 failed, 1 hung, 2 crashed, 0 refused, 1 escaped", "\(counts)")
        XCTAssertEqual(counts.made, 14)
        XCTAssertFalse(counts.succeeded)
        XCTAssertTrue(counts.firstProblem?.contains("pause") ?? false, "the hang has the stack: \(counts)")
    }

    func testSaysWhatTheFirstProblemWas() throws {
        let counts = try ForkTesting.repeated(5, expecting: 7, .rawFork) { $0.repetition == 3 ? 8 : 7 }
        XCTAssertEqual(counts.ok, 4)
        XCTAssertTrue(counts.firstProblem?.contains("the value is 8, expected was 7") ?? false, "\(counts)")
    }

    func testAllWell() throws {
        let counts = try ForkTesting.repeated(50, while: [{ sleepMilliseconds(1) }]) { $0.expect($0.repetition < 50) }
        XCTAssertTrue(counts.succeeded, "\(counts)")
        XCTAssertEqual(counts.description, "50 ok, 0 failed, 0 hung, 0 crashed, 0 refused, 0 escaped")
    }

    func testStopsAfterSoManyHaveHung() throws {
        let counts = try ForkTesting.repeated(100, .rawFork, deadline: .milliseconds(100), stopAfterHung: 3) { _ in while true { pause() } }
        XCTAssertEqual(counts.hung, 3)
        XCTAssertEqual(counts.made, 3)
        XCTAssertTrue("\(counts)".contains("97 of 100 not tried"), "\(counts)")
    }

    func testHammersKeepRunningOverAllRepetitions() throws {
        let counter = Counter()
        let counts = try ForkTesting.repeated(20, .rawFork, while: [{ counter.increment() }]) { context in
            // Not a lock that the hammer may hold: only time.
            sleepMilliseconds(1)
            context.expect(true)
        }
        XCTAssertTrue(counts.succeeded, "\(counts)")
        XCTAssertGreaterThan(counter.value, 20)
    }

    func testAHammersEscapeIsCounted() throws {
        let counter = Counter()
        let counts = try ForkTesting.repeated(
            5, .rawFork,
            while: [
                {
                    if counter.increment() == 2 { _ = libcFork() }
                    sleepMilliseconds(1)
                }
            ]
        ) { _ in sleepMilliseconds(20) }
        XCTAssertEqual(counts.ok, 5, "\(counts)")
        XCTAssertEqual(counts.escaped, 1, "\(counts)")
        XCTAssertFalse(counts.succeeded)
    }

    func testSeveralAtOnce() throws {
        for thread in ForkThread.allCases {
            let time = try seconds {
                let counts = try ForkTesting.repeated(16, .rawFork, from: thread, concurrently: 16) { _ in sleepMilliseconds(300) }
                XCTAssertTrue(counts.succeeded, "\(counts)")
            }
            XCTAssertLessThan(time, 16 * 0.3)
        }
    }

    func testSixteenRunsAtOnceFromSixteenThreads() throws {
        let failures = Counter()
        let group = (0..<16).map { index in
            let thread = Thread {
                for round in 0..<10 {
                    let value = try? ForkTesting.run(round.isMultiple(of: 2) ? .rawFork : .forkGuard, deadline: .seconds(60)) { _ in index }
                        .get()
                    if value != index { failures.increment() }
                }
            }
            thread.start()
            return thread
        }
        while group.contains(where: { !$0.isFinished }) { sleepMilliseconds(5) }
        XCTAssertEqual(failures.value, 0)
    }
}
