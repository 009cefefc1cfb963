import XCTest

/// Children of a process whose main thread is in its run loop, and of threads that are in the middle of something with others behind them.
final class RunLoopTests: XCTestCase {
    func test_childrenOfAProcessWhoseMainThreadIsInItsRunLoop() throws {
        for scenario in ["body", "worker"] { try assertAll(of: 60, scenario) }
    }

    /// What a child closes that shares the table of descriptors, the parent has no more.
    func test_aChildThatSharesDescriptorsLeavesTheParentsEventLoopAlone() throws { try assertAll(of: 10, "clone-files") }

    /// They are the parent's, which runs them.
    func test_whatWaitsBehindTheForkDoesNotRunInTheChild() throws {
        for scenario in ["queue-others", "actor-others"] { try assertAll(of: 20, scenario) }
    }

    private func assertAll(of forks: Int, _ scenario: String, line: UInt = #line) throws {
        let probe = try RuntimeProbe.run(scenario, "\(forks)", of: "forkguard-loop-probe")
        XCTAssertEqual(probe.output, "\(forks) of \(forks)\n", "\(scenario): \(probe.error)", line: line)
    }
}
