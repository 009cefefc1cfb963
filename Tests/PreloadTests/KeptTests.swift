import XCTest

/// Locks that are held for ever.
final class PreloadKeptTests: XCTestCase {
    func test_oneCostsOneDeadlineAndIsNamedOnce() throws {
        let run = try costsOneDeadline("kept")
        let named = run.error.split(separator: "\n").filter { $0.contains("was still held by thread") }
        XCTAssertEqual(named.count, 3, "two mutexes and a read-write lock, each once: \(run.error)")
        let mutex = named.filter { $0.contains("(held_for_ever in forkguard-preload-probe-dynamic)") && $0.contains("(holder)") }
        XCTAssertEqual(mutex.count, 1, run.error)
        XCTAssertEqual(named.filter { $0.contains("the pthread read-write lock at 0x") }.count, 1, run.error)
    }

    /// Unlocked by another thread, freed while it is locked, recursive and entered again all the time, waited with on a condition among processes.
    func test_sectionsThatNothingEndsCostOneDeadlineTogether() throws {
        let run = try costsOneDeadline("lost")
        let lost = run.error.components(separatedBy: "and unlocked by another one, or freed while it was locked").count - 1
        XCTAssertEqual(lost, 2, run.error)
        XCTAssertEqual(run.error.components(separatedBy: "was still held by thread").count - 1, 1, run.error)
    }

    private func costsOneDeadline(_ scenario: String) throws -> PreloadRun {
        let run = try PreloadRun.probe(scenario)
        print(run.output, terminator: "")
        XCTAssertEqual(Array(run.counts.prefix(3)), [100, 0, 0], run.output + run.error)
        let times = run.output.split(separator: "\n")[0].split(whereSeparator: { !$0.isNumber }).compactMap { Int($0) }
        XCTAssertGreaterThanOrEqual(times[0], 900, run.output)
        XCTAssertLessThan(times[1], 500, run.output)
        return run
    }

    func test_itIsWaitedForAgainAfterItsUnlock() throws {
        let run = try PreloadRun.probe("released")
        print(run.output, terminator: "")
        XCTAssertEqual(Array(run.counts.prefix(3)), [200, 0, 0], run.output + run.error)
        XCTAssertGreaterThan(run.counts.last ?? 0, 50, "forks beside a holder")
    }

    func test_aChildThatWouldWaitForItForEverEndsUnlessAskedToWait() throws {
        let refused = try PreloadRun.probe("lock")
        #if arch(x86_64)
            XCTAssertEqual(refused.output, "lock: signal 4\n", refused.error)
        #else
            XCTAssertEqual(refused.output, "lock: signal 5\n", refused.error)
        #endif
        XCTAssert(refused.error.contains("ForkGuard: a pthread mutex at 0x"), refused.error)
        XCTAssertEqual(try PreloadRun.probe("lock", environment: ["FORKGUARD_TORN": "wait"]).output, "lock: signal 14\n")
        XCTAssertEqual(try PreloadRun.probe("lock", guarded: false).output, "lock: signal 14\n")
        let wrong = try PreloadRun.probe("lock", environment: ["FORKGUARD_TORN": "perhaps"])
        XCTAssert(wrong.error.contains("FORKGUARD_TORN is 'perhaps', which is neither 'refuse' nor 'wait'; it is ignored"), wrong.error)
        XCTAssertEqual(wrong.output, refused.output)
    }
}
