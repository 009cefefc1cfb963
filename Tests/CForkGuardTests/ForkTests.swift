import XCTest

/// Forks that meet: chains of holders, two forkers, forks inside hooks, very many forks.
final class ForkTests: XCTestCase {
    func test_behaviour5_manyForksGrowNothing() throws {
        try Probe.run("many-forks").expectSuccess(printing: "32000 forks ok")
    }

    func test_behaviour8_aRawForkInsideAHookIsTreatedAsBypassed() throws {
        try Probe.run("hook-fork").expectSuccess(printing: "60 forks inside hooks ok")
        let reports = try Probe.run("hook-fork", environment: ["FORKGUARD_REPORT": "1"])
        XCTAssert(reports.error.contains("discovered late") || reports.error.contains("inside a hook"), reports.error)
    }

    func test_behaviour14_aChainOfHoldersBlockedOnTheForkerTearsExactlyThose() throws {
        try Probe.run("chain").expectSuccess(printing: "100 chains ok")
        try Probe.run("chain", denying: ["membarrier=38"]).expectSuccess(printing: "100 chains ok")
    }

    func test_behaviour14_twoForkersThatHoldWhatTheOthersChildWants() throws {
        try Probe.run("two-forkers").expectSuccess(printing: "300 pairs ok")
    }

    func test_behaviour16_aThreadThatLeavesWakesTheForkerAtOnce() throws {
        try Probe.run("woken").expectSuccess(printing: "100 forks woken")
    }

    func test_behaviour19_whatForkWaitsForIsHeldByAThreadThatWasParked() throws {
        try Probe.run("parked-stream").expectSuccess(printing: "50 forks beside parked streams")
    }
}
