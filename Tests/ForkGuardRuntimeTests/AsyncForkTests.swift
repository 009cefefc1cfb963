import XCTest

/// `ForkGuard.fork` with a body that suspends, and forks inside tasks, in processes of their own.
final class AsyncForkTests: XCTestCase {
    /// Without the cures, in a process that has not used Swift concurrency.
    func test_theBodySuspendsAndTheChildEndsWithItsResult() throws {
        for scenario in ["main", "thread"] {
            let output = try probe(scenario, guarded: false).output
            print("children with a body that suspends, forked by \(scenario): \(output)", terminator: "")
            XCTAssertEqual(output, "100 of 100\n", scenario)
        }
    }

    func test_errorsOutputAndStatusesAreThoseOfABodyThatDoesNotSuspend() throws {
        for guarded in [false, true] {
            let broken = try probe("throws", guarded: guarded)
            XCTAssertEqual(broken.output, "exited(70)\n")
            XCTAssertEqual(broken.error, "ForkGuard: the body of the child threw Broken()\n")
            XCTAssertEqual(try probe("prints", guarded: guarded).output, "once, by the parent; once, by the child")
            XCTAssertEqual(try probe("plain", guarded: guarded).output, "exited(5)\n")
        }
    }

    func test_onTheCallingThreadItIsRefused() throws {
        XCTAssertEqual(
            try probe("calling-thread", guarded: true).output,
            "ForkGuard refuses a body that suspends on the calling thread: a task runs where it is resumed\n")
    }

    /// With them, in one whose threads never leave what the children do.
    func test_childrenOfAProcessThatUsesConcurrencyUseIt() throws {
        for (scenario, forks) in [("used", 200), ("bypassed", 200)] {
            let probe = try probe(scenario, String(forks), guarded: true)
            print("\(scenario): \(probe.output)", terminator: "")
            XCTAssertEqual(probe.output, "\(forks) of \(forks)\n", "\(scenario): \(probe.error)")
        }
    }

    func test_fiveGenerationsUseIt() throws {
        let probe = try probe("chain", "20", guarded: true)
        XCTAssertEqual(probe.output, "20 of 20\n", probe.error)
    }

    func test_childTasksOfTheTaskThatForkedAreRefused() throws {
        for (scenario, message) in [("let", "a task of the parent process was awaited"), ("group", "inside a task group")] {
            let probe = try probe(scenario, "4", guarded: true)
            XCTAssertEqual(probe.output, "4 of 4\n", "\(scenario): \(probe.error)")
            XCTAssertEqual(probe.error.components(separatedBy: message).count - 1, 4, probe.error)
        }
    }

    func test_anActorThatForks() throws {
        let probe = try probe("inside-actor", "20", guarded: true)
        XCTAssertEqual(probe.output, "20 of 20\n", probe.error)
        XCTAssertEqual(probe.error.components(separatedBy: "the actor forkguard_async_probe.Place was in use").count - 1, 20, probe.error)
    }

    /// Whose main thread has gone to libdispatch.
    func test_childrenOfAnAsynchronousMainProgram() throws {
        for scenario in ["here", "elsewhere", "body"] {
            let probe = try RuntimeProbe.run(scenario, "200", of: "forkguard-async-main-probe")
            print("asynchronous main, \(scenario): \(probe.output)", terminator: "")
            XCTAssertEqual(probe.output, "200 of 200\n", "\(scenario): \(probe.error)")
        }
    }

    func test_control_withoutTheCuresTheyHang() throws {
        for scenario in ["used", "chain"] {
            let output = try probe(scenario, "4", guarded: false).output
            XCTAssertTrue(output.hasSuffix(" of 4\n"), output)
            XCTAssertNotEqual(output, "4 of 4\n", scenario)
        }
    }

    private func probe(_ scenario: String..., guarded: Bool, line: UInt = #line) throws -> RuntimeProbe {
        let probe = try RuntimeProbe.run(
            scenario, of: "forkguard-async-probe", environment: guarded ? [:] : ["FORKGUARD_RUNTIME": "off"])
        XCTAssertEqual(probe.status, 0, "\(scenario): \(probe.error)", line: line)
        return probe
    }
}
