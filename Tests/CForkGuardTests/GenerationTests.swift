import XCTest

/// Which process is this. The scenarios fork from a process whose other threads are busy with locks.
final class GenerationTests: XCTestCase {
    func test_behaviour26_27_everyWayToForkThenEveryOther() throws {
        try Probe.run("methods").expectSuccess(printing: "72 chains ok")
    }

    func test_behaviour27_threadsThatLookFirstAgreeAndResourcesAreInvalidatedOnce() throws {
        try Probe.run("discovery-race").expectSuccess(printing: "300 races ok")
    }

    func test_behaviour28_handlersAndPage() throws {
        let probe = try Probe.run("start")
        probe.expectSuccess(printing: "50 children ok")
        XCTAssert(probe.output.contains("detection 3"), probe.output)
        XCTAssertEqual(probe.error, "")
    }

    func test_behaviour28_withoutThePageItSaysSoAndGoesOn() throws {
        for denied in [["madvise=22"], ["madvise=22", "kcmp=1"]] {
            let probe = try Probe.run("start", denying: denied)
            probe.expectSuccess(printing: "50 children ok")
            XCTAssert(probe.output.contains("detection 5"), probe.output)
            XCTAssert(probe.error.contains("MADV_WIPEONFORK was refused"), probe.error)
        }
        try Probe.run("methods", denying: ["madvise=22"]).expectSuccess(printing: "72 chains ok")
        try Probe.run("discovery-race", denying: ["madvise=22"]).expectSuccess(printing: "300 races ok")
        try Probe.run("shared-memory", denying: ["madvise=22"]).expectSuccess(printing: "100 of each ok")
    }

    func test_behaviour28_aFakedMadviseIsNoticed() throws {
        let probe = try Probe.run("methods", denying: ["madvise=0"])
        probe.expectSuccess(printing: "72 chains ok")
        XCTAssert(probe.error.contains("MADV_WIPEONFORK was refused"), probe.error)
    }

    func test_behaviour29_processesThatShareMemoryChangeNothing() throws {
        try Probe.run("shared-memory").expectSuccess(printing: "100 of each ok")
    }
}
