import XCTest

/// The library as a guest in somebody's process.
final class LivedWithTests: XCTestCase {
    func test_behaviour13_theSurvivorsHoldsStayItsOwn() throws {
        try Probe.run("survivor").expectSuccess(printing: "200 survivors ok")
        let probe = try Probe.run("survivor-unlock")
        XCTAssertEqual(probe.status, 0, probe.error)
        XCTAssert(probe.error.contains("over a fork which ran no handlers"), probe.error)
    }

    func test_behaviour18_forksDuringExitAndFromThreadDestructors() throws {
        let probe = try Probe.run("exit")
        probe.expectSuccess(printing: "forked from 100 thread destructors")
        probe.expectSuccess(printing: "forked at exit")
    }

    func test_behaviour45_theChildsCPhasesNeitherAllocateNorLockNorLog() throws {
        try Probe.run("child-phases").expectSuccess(printing: "200 children ok, control seen")
    }

    func test_behaviour47_withoutAForkNothingChanges() throws {
        try Probe.run("quiet").expectSuccess(printing: "nothing changed")
    }
}
