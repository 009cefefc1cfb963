import XCTest

/// The pthread locks of a process as gated sections, each scenario with its control: the same process with `FORKGUARD_RUNTIME=off`.
final class ProcessLocksTests: XCTestCase {
    private let off = ["FORKGUARD_RUNTIME": "off"]

    private func expectAll(_ scenario: String, forks: Int, file: StaticString = #filePath, line: UInt = #line) throws -> RuntimeProbe {
        let probe = try RuntimeProbe.run(scenario)
        XCTAssertEqual(probe.status, 0, probe.output + probe.error, file: file, line: line)
        XCTAssertEqual(Array(probe.counts.prefix(3)), [forks, 0, 0], probe.output, file: file, line: line)
        print(probe.output, terminator: "")
        return probe
    }

    private func expectHung(_ scenario: String, file: StaticString = #filePath, line: UInt = #line) throws {
        let control = try RuntimeProbe.run(scenario, environment: off)
        XCTAssertEqual(control.counts.dropFirst().first, 5, "the control: \(control.output)\(control.error)", file: file, line: line)
        print("control,", control.output, terminator: "")
    }

    func test_behaviour20_mutexesOfEveryKindThatOthersHoldAndSleepFor() throws {
        let probe = try expectAll("mutexes", forks: 300)
        XCTAssertGreaterThan(probe.counts.last ?? 0, 100, "forks beside a holder")
        try expectHung("mutexes")
    }

    func test_behaviour22_conditionsWhoseWaitersAreHandedTheMutex() throws {
        let probe = try expectAll("conditions", forks: 500)
        XCTAssertGreaterThan(probe.counts.last ?? 0, 10, "forks beside a holder")
        try expectHung("conditions")
    }

    func test_waitersThatAreCancelled() throws {
        _ = try expectAll("cancelled", forks: 100)
    }

    func test_behaviour20_readWriteLocks() throws {
        let probe = try expectAll("rwlocks", forks: 300)
        XCTAssertGreaterThan(probe.counts.last ?? 0, 50, "forks beside a holder")
        try expectHung("rwlocks")
    }

    func test_aConditionThatIsFreedBesideTheFork() throws {
        _ = try expectAll("freed", forks: 100)
    }

    func test_holdersThatEndAreNotTakenForVanishedOnes() throws {
        _ = try expectAll("brief", forks: 1)
    }

    func test_locksWithThreadIDsInThemInTheChild() throws {
        _ = try expectAll("ids", forks: 5)
        let control = try RuntimeProbe.run("ids", environment: off)
        XCTAssertNotEqual(control.status, 0, "the control: \(control.output)")
        print("control,", control.output, terminator: "")
    }

    func test_behaviour13_whatTheForkingThreadHasStaysItsOwn() throws {
        _ = try expectAll("survivor", forks: 100)
        try expectHung("survivor")
    }

    func test_behaviour15_aHolderThatNeverLetsGoIsNamedAndItsMutexRefused() throws {
        let probe = try RuntimeProbe.run("late")
        XCTAssertEqual(probe.output, "late: refused\n", probe.error)
        XCTAssert(probe.error.contains("ForkGuard: a pthread mutex at 0x"), probe.error)
        XCTAssert(probe.error.contains("did not survive the fork"), probe.error)
    }

    func test_behaviour14_forkersThatHoldWhatOthersWaitFor() throws {
        let probe = try RuntimeProbe.run("chains")
        XCTAssertEqual(probe.status, 0, probe.output + probe.error)
        print(probe.output, terminator: "")
    }

    func test_behaviour49_aHookWantsAMutexWhoseHolderWaitsToFork() throws {
        let probe = try RuntimeProbe.run("hooks")
        XCTAssertEqual(probe.output, "hooks: 60 forks\n", probe.error)
    }

    func test_handlersOfOthersThatMakeTheirMutexAnewInTheChild() throws {
        _ = try expectAll("handlers", forks: 100)
    }

    func test_behaviour47_withoutAForkEveryLockIsAsPOSIXHasIt() throws {
        XCTAssertEqual(try RuntimeProbe.run("semantics").output, "semantics: as pthreads have them\n")
        XCTAssertEqual(try RuntimeProbe.run("semantics", environment: off).output, "semantics: as pthreads have them\n")
    }
}
